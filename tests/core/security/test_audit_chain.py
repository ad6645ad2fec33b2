"""The audit: what is changed, removed, put in or signed by nobody is found, with exported heads also at its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import pytest

from paigeant_core import get_transport
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import ConfigError
from paigeant_core.names import new_id
from paigeant_core.operations import Hold, Operations, Release
from paigeant_core.operations.audit import linked
from paigeant_core.security.audit_chain import check, newest_head, read_heads
from paigeant_core.security.keys import SigningKey
from paigeant_core.transports.memory import MemoryTransport
from tests.core.security.test_intervention import ANN, BEN, policy

Entries = list[bytes]


def entry(action: str = "hold", operator: str = "ann") -> bytes:
    return msgspec.json.encode({"action": action, "operator": operator, "big": 12345678901234567890, "rate": 1.0})


def written(count: int = 5, signer: SigningKey | None = ANN) -> Entries:
    entries: Entries = []
    for number in range(count):
        entries.append(linked(entry(f"verb-{number}"), entries[-1] if entries else b"", signer))
    return entries


def codes(entries: Sequence[bytes], heads: Sequence[bytes] | None = None) -> list[tuple[int, str]]:
    known = read_heads(b"\n".join(heads), "t") if heads is not None else []
    return [(problem.n, problem.code) for problem in check(entries, policy(), known).problems]


def head(entries: Sequence[bytes]) -> bytes:
    return msgspec.json.encode(newest_head("t", entries, "2026-11-28T00:00:00.000Z"))


def test_an_audit_that_nobody_touched_is_whole() -> None:
    entries = written()
    verdict = check(entries, policy(), read_heads(head(entries[:3]) + b"\n" + head(entries), "t"))
    assert (verdict.problems, verdict.signed, verdict.first, verdict.last, verdict.heads) == ([], 5, 1, 5, 2)
    # Its beginning may be over its retention.
    assert codes(entries[2:], [head(entries[:1])]) == []
    assert check([], policy()).problems == []


def _edited(entries: Entries) -> None:
    entries[2] = entries[2].replace(b"verb-2", b"verb-9")


def _removed(entries: Entries) -> None:
    del entries[2]


def _swapped(entries: Entries) -> None:
    entries[1], entries[2] = entries[2], entries[1]


def _renumbered(entries: Entries) -> None:
    del entries[2]
    for at in (2, 3):
        document = msgspec.json.decode(entries[at], type=dict[str, object])
        document["n"] = at + 1
        entries[at] = msgspec.json.encode(document)


def _made_anew(entries: Entries) -> None:
    # All by somebody without a key, the chain as it should be.
    entries[:] = written(signer=None)
    document = msgspec.json.decode(entries[4], type=dict[str, object])
    document["signature"] = "a.b.c"
    entries[4] = msgspec.json.encode(document)


def _by_another(entries: Entries) -> None:
    entries[4] = linked(entry(operator="ann"), entries[3], BEN)


def _by_a_stranger(entries: Entries) -> None:
    entries[4] = linked(entry(), entries[3], SigningKey.generate("ann"))


def _without_number(entries: Entries) -> None:
    entries.insert(3, b'{"action":"hold"}')


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_edited, [(3, "body_digest"), (3, "edited")]),
        (_removed, [(4, "removed")]),
        (_swapped, [(3, "removed"), (2, "removed"), (4, "removed")]),
        (_renumbered, [(2, "edited"), (3, "body_digest"), (3, "edited"), (4, "body_digest")]),
        (_made_anew, [(5, "malformed")]),
        (_by_another, [(5, "iss")]),
        (_by_a_stranger, [(5, "unknown_key")]),
        (_without_number, [(0, "unchained")]),
    ],
)
def test_what_somebody_did_to_it_shows(change: Callable[[Entries], None], found: list[tuple[int, str]]) -> None:
    entries = written()
    change(entries)
    assert sorted(codes(entries)) == sorted(found)


def test_what_the_chain_alone_cannot_tell_the_exported_heads_do() -> None:
    entries = written()
    kept = [head(entries[:2]), head(entries)]
    assert codes(entries[:4]) == []
    assert codes(entries[:4], kept) == [(5, "removed")]
    others = written(signer=None)
    assert codes(others) == []
    assert codes(others, kept) == [(2, "edited"), (5, "edited")]
    with pytest.raises(ConfigError, match="line 2"):
        read_heads(kept[0] + b"\n{}", "t")
    assert read_heads(kept[0], "another") == []


@pytest.fixture(params=["memory", "redis", "rabbitmq"])
def url(request: pytest.FixtureRequest) -> str:
    name = {"memory": None, "redis": "redis_url", "rabbitmq": "rabbit_url"}[request.param]
    return f"memory://{new_id()}" if name is None else str(request.getfixturevalue(name))


async def test_consoles_that_write_at_once_make_one_chain(url: str, topic: str) -> None:
    async with get_transport(url) as transport, get_transport(url) as other:
        first = await WorkflowDispatcher(transport).dispatch_workflow(["a"], {}, topic=topic)
        second = await WorkflowDispatcher(transport).dispatch_workflow(["a"], {}, topic=topic)

        async def act(bus: Operations, workflow: str) -> None:
            for action in (Hold(), Release(), Hold()):
                plan = await bus.plan(action, [workflow], reason="why")
                await bus.execute(plan)

        ann = Operations(transport, topic, signer=ANN, trust=policy())
        await asyncio.gather(act(ann, first), act(Operations(other, topic), second))
        verdict = check(await transport.audit(topic), policy())
    assert (verdict.problems, verdict.entries, verdict.last, verdict.signed) == ([], 6, 6, 3)


async def test_of_two_entries_made_at_once_one_is_refused(topic: str) -> None:
    transport = MemoryTransport(new_id())
    assert await transport.append_audit(topic, b"{}", follows=b"")
    assert not await transport.append_audit(topic, b"[]", follows=b"")
    assert await transport.append_audit(topic, b"[]", follows=b"{}")
