"""Tokens that must be seen nowhere: workflows with failures, holds and dead letters, and then a search of everything.

Every token has a mark of its own in it. After the run the broker's files, its keys and queues, the journal, the logs,
the screens, what commands print and what they export are searched for the marks, as they are and in base64. So that a
search that finds nothing means something, each place must hold another mark: one of the payloads.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aio_pika
import pytest
from redis.asyncio import Redis

from paigeant_console.app import ConsoleApp
from paigeant_console.cli import main
from paigeant_console.feed import Feed, Phase
from paigeant_console.model.confirmation import Target
from paigeant_console.screens.base import ConsoleScreen
from paigeant_core import (
    ActivityContext,
    Headers,
    PaigeantMessage,
    Record,
    RetryPolicy,
    State,
    Transport,
    Worker,
    WorkflowDispatcher,
    capsule,
    get_transport,
)
from paigeant_core.clock import ManualClock
from paigeant_core.operations import Action, Operations, Release, Replay, Retry
from paigeant_core.secret import Secret
from paigeant_core.tokens import TokenExchange, Tokens, TopicKey
from paigeant_core.transition import Place
from tests.console.appkit import Console
from tests.core.tokens.kit import AuthorizationServer, jwt
from tests.servers import RabbitServer, RedisServer

PATIENCE = 60.0
TOPIC = "sentinel"


class Tracked(AuthorizationServer):
    """Its tokens are marked."""

    def __init__(self, marks: Marks) -> None:
        super().__init__()
        self._marks = marks

    def make(self, scope: str | None, **claims: Any) -> str:
        """A token, marked."""
        return self._marks.token(scope, **claims)


@dataclass
class Marks:
    """What is searched for."""

    bad: list[str] = field(default_factory=list)
    good: str = field(default_factory=lambda: f"MARK{secrets.token_hex(8)}")

    def token(self, scope: str | None = "pay notify", **claims: Any) -> str:
        """A token with a mark in its claims and another in its signature."""
        inside, signature = f"INSIDE{secrets.token_hex(8)}", f"SIGNED{secrets.token_hex(8)}"
        token = jwt(scope, jti=inside, **claims).rpartition(".")[0] + "." + signature
        # In the claims it is in base64 already: what can be searched for is the segment.
        self.bad += [signature, token.split(".")[1][-40:]]
        return token

    def search(self, where: str, data: str | bytes) -> None:
        """Fail if one of the tokens is in ``data``."""
        text = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        for mark in self.bad:
            for form in _forms(mark):
                assert form not in text, (
                    f"{where}: {mark} at {text.find(form)}: {text[max(0, text.find(form) - 200) :][:260]!r}"
                )

    def found(self, where: str, data: str | bytes) -> None:
        """Fail if what is not secret is not there either: then nothing was searched."""
        self.search(where, data)
        text = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
        assert self.good.encode() in text, f"{where}: not even the payload is there"


def _forms(mark: str) -> Iterator[bytes]:
    """A mark as it is, in hex, and in base64 however it is aligned."""
    data = mark.encode()
    yield data
    yield data.hex().encode()
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + data)
        yield encoded[-(-shift * 4 // 3) + (shift > 0) : -4]


def test_the_search_finds_what_it_searches_for() -> None:
    marks = Marks()
    token = marks.token()
    for hidden in (
        token,
        f"Bearer {token[-30:]}",
        base64.b64encode(f'{{"t":"{token}"}}'.encode()).decode(),
        base64.b64encode(f'{{"tt":"{token}"}}'.encode()).decode(),
        base64.b64encode(f'{{"ttt":"{token}"}}'.encode()).decode(),
        token.encode().hex(),
    ):
        with pytest.raises(AssertionError, match="somewhere"):
            marks.search("somewhere", f"before {hidden} after")
    with pytest.raises(AssertionError, match="not even the payload"):
        marks.found("nowhere", "nothing")


def crew(tokens: Tokens | None, *, leaks: bool) -> Worker:
    """Does what handlers do that do not take care."""
    worker = Worker(TOPIC, tokens=tokens, drain=5)
    log = logging.getLogger("a.handler")

    @worker.activity("check", scopes=["pay"])
    async def check(ctx: ActivityContext) -> dict[str, Any]:
        assert ctx.obo_token
        log.info("checking %s", ctx.correlation_id)
        return {"checked": True}

    @worker.activity("charge", scopes=["pay"], retry=RetryPolicy(max_attempts=2, initial=0.05))
    async def charge(ctx: ActivityContext) -> Any:
        token = ctx.obo_token
        match ctx.payload["how"]:
            case "fails":
                raise ValueError(f"401 for {token} and {ctx.message.obo_token!r}")
            case "returns" if leaks:
                return {"token": token}
            case "returns_no_object":
                return [token]
            case "holds":
                ctx.hold(f"ask for {token}")
            case "inserts" if leaks:
                ctx.insert_next({"name": "check", "arguments": {"token": token}})
        return None

    @charge.compensate
    async def refund(ctx: ActivityContext) -> None:
        raise RuntimeError(f"no refund with {ctx.obo_token}")

    @check.compensate
    async def uncheck(ctx: ActivityContext) -> None:
        raise RuntimeError(f"nothing undone with {ctx.obo_token}")

    return worker


ENDS = {
    "fine": State.COMPLETED,
    "fails": State.DEAD,
    "returns": State.DEAD,
    "returns_no_object": State.DEAD,
    "inserts": State.DEAD,
    "holds": State.HELD,
    "expired": State.HELD,
    "undone": State.COMPENSATION_FAILED,
    "waits": State.QUEUED,
}


async def run(url: str, marks: Marks, tokens: Tokens | None, release: Tokens | None) -> list[str]:
    """Let workflows come to all kinds of ends, act on them, and return their IDs."""
    async with get_transport(url) as transport, get_transport(url) as earlier:
        earlier.clock = ManualClock(time.time() - 3600)
        for how in ENDS:
            dispatcher = WorkflowDispatcher(earlier if how == "expired" else transport, tokens=tokens)
            await dispatcher.dispatch_workflow(
                ["unserved"] if how == "waits" else ["check", "charge"],
                {"how": "fails" if how == "undone" else how, "mark": marks.good},
                obo_token=marks.token(exp=time.time() - 60) if how == "expired" else marks.token(),
                topic=TOPIC,
                correlation_id=how,
                on_failure="compensate" if how == "undone" else "dead_letter",
            )
        ends = ENDS if tokens is not None else ENDS | {"returns": State.COMPLETED, "inserts": State.COMPLETED}
        worker = crew(tokens, leaks=tokens is not None)
        running = asyncio.create_task(worker.run(transport))
        try:
            await reach(transport, ends)
            operations = Operations(transport, TOPIC, operator="ann")
            await act(operations, Release({}, Secret(marks.token(exp=time.time() + 600)), release), "expired")
            await act(operations, Retry(), "fails", "undone")
            await reach(transport, ends | {"expired": State.COMPLETED})
            new = await act(operations, Replay(as_new=True), "fails")
            await reach(transport, dict.fromkeys(new, State.HELD if tokens is not None else State.DEAD))
            await quarantine(transport)
        finally:
            worker.stop()
            await running
    return [*ENDS, *new]


async def reach(transport: Transport, ends: dict[str, State]) -> None:
    """Wait until each workflow is where it is to end."""
    stand: dict[str, str] = {}
    try:
        async with asyncio.timeout(PATIENCE):
            while stand != ends:
                await asyncio.sleep(0.02)
                stand = {
                    item: next(r.state for r in reversed(await transport.history(TOPIC, item)) if r.state)
                    for item in ends
                }
    except TimeoutError:
        raise AssertionError(f"{stand}, not {ends}") from None


async def act(operations: Operations, action: Action, *workflows: str) -> list[str]:
    """Carry out an operation; the IDs of workflows that it started."""
    report = await operations.execute(await operations.plan(action, workflows, reason="to see"))
    assert {result.outcome for result in report.results} == {"done"}, report
    return [result.new_correlation_id for result in report.results if result.new_correlation_id]


async def quarantine(transport: Transport) -> None:
    """A message that nobody can trust, with the sealed token of another."""
    (record,) = [r for r in await transport.history(TOPIC, "fine") if r.kind == "dispatched"]
    assert record.body is not None
    message = PaigeantMessage.decode(record.body)
    fields = {name: getattr(message.headers, name) for name in Headers.__struct_fields__}
    copy = PaigeantMessage(
        Headers(**fields | {"correlation_id": "pasted", "message_id": "pasted"}),
        message.routing_slip,
        message.payload_bytes,
        delegation=message.delegation,
    )
    if message.delegation is None or not message.delegation.carrier:
        return
    await transport.publish(TOPIC, copy)
    async with asyncio.timeout(PATIENCE):
        while not await transport.parked(TOPIC, Place.QUARANTINE):  # noqa: ASYNC110 - the worker sets no event
            await asyncio.sleep(0.02)


@asynccontextmanager
async def app(url: str, tmp_path: Path) -> AsyncIterator[Console]:
    """The console on a real broker."""
    feed = Feed(url, TOPIC)
    opened = ConsoleApp(
        feed, target=Target(url, TOPIC), log_directory=tmp_path / "log", state_directory=tmp_path / "state"
    )
    try:
        async with opened.run_test(size=(180, 50)) as pilot:
            console = Console(opened, pilot, cast("Any", None))
            await console.until(lambda: isinstance(opened.screen, ConsoleScreen) and opened.screen.built)
            await console.until(lambda: feed.status().phase is Phase.LIVE and feed.fold.observed)
            yield console
    finally:
        feed.stop()


async def screens(url: str, workflows: Sequence[str], tmp_path: Path) -> str:
    """Every list, and every workflow with its hops and its payload in each form, as they stand on the screen."""
    seen = []
    async with app(url, tmp_path) as console:
        for key in "12345":
            await console.press(key)
            await console.again()
            seen.append(console.text())
        for workflow in workflows:
            await console.press("1", "/")
            await console.type(f"id:{workflow}")
            await console.press("enter", "enter")
            await console.again()
            for key in ("v", "v", "v", "[", "[", "]", "c", "?", "escape"):
                seen.append(console.text())
                await console.press(key)
                await console.pilot.pause()
            seen.append(console.text())
            await console.press("q")
    return "\n".join(seen)


def commands(
    url: str, workflows: Sequence[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    """What the commands print, as text and as JSON."""
    monkeypatch.setenv("PAIGEANT_URL", url)
    monkeypatch.setenv("PAIGEANT_TOPIC", TOPIC)
    monkeypatch.setenv("COLUMNS", "300")
    capsys.readouterr()
    asked = [
        ["list"],
        ["tail", "--no-follow", "--since", "start"],
        ["queues"],
        ["workers"],
        ["audit"],
        ["info"],
        ["operations"],
    ]
    for words in [*asked, *(["show", workflow] for workflow in workflows)]:
        for form in ([], ["--json"]):
            assert main([*words, *form]) == 0, words
    captured = capsys.readouterr()
    return captured.out + captured.err


async def told(url: str, workflows: Sequence[str]) -> tuple[bytes, bytes, bytes]:
    """What the library gives: records without and with their messages, and capsules with all that they can hold."""
    said, bodies, capsules = [], [], []
    async with get_transport(url) as transport:
        records: list[Record] = [r async for batch in transport.records(TOPIC) for r in batch]
        for place in (Place.DEAD, Place.HELD, Place.QUARANTINE):
            records += await transport.parked(TOPIC, place)
        for record in records:
            said.append(record.encode_meta())
            bodies.append(record.body or b"")
            if record.kind != "quarantined" and record.message is not None:
                said.append(record.message.to_json().encode())
        said += await transport.audit(TOPIC) + await transport.operation_entries(TOPIC)
        for workflow in workflows:
            capsules += [await capsule.export(transport, TOPIC, workflow, secrets=kept) for kept in (False, True)]
    return b"\n".join(said), b"\n".join(bodies), b"\n".join(capsules)


async def redis_keys(url: str) -> bytes:
    """DUMP of every key there is."""
    async with Redis.from_url(url) as client:
        return b"".join([await client.dump(key) or b"" async for key in client.scan_iter(count=1000)])


async def queues(url: str, server: RabbitServer) -> bytes:
    """What is left in the queues, every message with its properties."""
    found = []
    listed = (await asyncio.to_thread(server.ctl, "list_queues", "--no-table-headers", "name", "type")).split()
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        for name, kind in zip(listed[::2], listed[1::2], strict=True):
            if kind.endswith("stream"):
                continue  # the journal and its like: read as records, and searched in the files
            queue = await channel.get_queue(name, ensure=False)
            while (message := await queue.get(no_ack=True, fail=False)) is not None:
                found.append(message.body + repr(message.headers).encode() + repr(message.properties).encode())
    return b"\n".join(found)


def files(directory: Path) -> bytes:
    """All that a server wrote."""
    return b"\n".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


@pytest.fixture
async def authority() -> AsyncIterator[tuple[Marks, Tracked]]:
    marks = Marks()
    async with AsyncExitStack() as stack:
        server = Tracked(marks)
        await stack.enter_async_context(server.serving())
        yield marks, server


def sealing(marks: Marks, server: Tracked) -> tuple[Tokens, Tokens]:
    """What dispatcher and worker use, and what the operator has of it."""
    key = TopicKey.generate()
    secret = f"CLIENT{secrets.token_hex(8)}"
    marks.bad.append(secret)
    exchange = TokenExchange(
        server.url, client_id="crew", client_secret=secret, actor_token=marks.token(sub="crew"), audience="ledger"
    )
    return Tokens([key], exchange=exchange), Tokens([TopicKey.from_document(key.public_document())])


Common = tuple[Marks, Tracked]


@pytest.mark.timeout(240)
async def test_on_redis_a_token_is_found_nowhere(
    authority: Common,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marks, server = authority
    for logger in (None, "paigeant"):  # whatever level another test has left there
        caplog.set_level(logging.DEBUG, logger)
    # Nothing compressed, so that a search of the files sees what is in them.
    with RedisServer(appendonly=True, options={"rdbcompression": "no", "aof-use-rdb-preamble": "no"}) as redis:
        workflows = await run(redis.url, marks, *sealing(marks, server))
        await everywhere(redis.url, workflows, marks, tmp_path, capsys, monkeypatch)
        marks.found("DUMP of all keys", await redis_keys(redis.url))
        await asyncio.to_thread(redis.cli, "SAVE")
        await asyncio.to_thread(redis.stop)
        marks.found("RDB file", (redis.directory / "dump.rdb").read_bytes())
        marks.found("the server's directory", files(redis.directory))
    marks.search("logs", caplog.text)
    assert "checking fine" in caplog.text
    assert len(server.issued) >= 10


@pytest.mark.timeout(240)
async def test_on_rabbitmq_a_token_is_found_nowhere(
    authority: Common,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    marks, server = authority
    for logger in (None, "paigeant"):  # whatever level another test has left there
        caplog.set_level(logging.DEBUG, logger)
    with RabbitServer() as rabbit:
        workflows = await run(rabbit.url, marks, *sealing(marks, server))
        await everywhere(rabbit.url, workflows, marks, tmp_path, capsys, monkeypatch)
        # While it runs: what it confirmed is in its files, and what is drained leaves them.
        marks.found("the node's directory", files(rabbit.directory))
        marks.found("drained queues", await queues(rabbit.url, rabbit))
        marks.found("the node's directory after that", files(rabbit.directory))
    marks.search("logs", caplog.text)
    assert "checking fine" in caplog.text


@pytest.mark.timeout(240)
@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "in clear"])
async def test_in_memory_a_token_is_shown_nowhere(
    authority: Common,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    sealed: bool,
) -> None:
    marks, server = authority
    for logger in (None, "paigeant"):  # whatever level another test has left there
        caplog.set_level(logging.DEBUG, logger)
    url = f"memory://{secrets.token_hex(4)}"
    async with get_transport(url):  # it lives as long as somebody is connected
        workflows = await run(url, marks, *(sealing(marks, server) if sealed else (None, None)))
        await everywhere(url, workflows, marks, tmp_path, capsys, monkeypatch, sealed=sealed)
    marks.search("logs", caplog.text)
    assert "checking fine" in caplog.text


async def everywhere(
    url: str,
    workflows: Sequence[str],
    marks: Marks,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *,
    sealed: bool = True,
) -> None:
    """Search what a person or a program can ask for."""
    said, bodies, capsules = await told(url, workflows)
    marks.found("journal, audit and documents", said)
    if sealed:
        marks.found("messages, dead letters and quarantine", bodies)
    marks.found("exports", capsules)
    # What is drawn does not depend on the broker: all of it once, and of each broker those that ended badly.
    opened = workflows if url.startswith("memory:") else ["fails", "expired", "undone", workflows[-1]]
    marks.found("screens", await screens(url, opened, tmp_path))
    marks.search("the console's files", files(tmp_path))
    printed = await asyncio.to_thread(commands, url, workflows, capsys, monkeypatch)
    marks.found("commands", printed)
