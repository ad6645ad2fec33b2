"""Redis: what is asked of a running step while it is being settled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from paigeant_core import handoff
from paigeant_core import transition as moves
from paigeant_core.handoff import GO_ON
from paigeant_core.journal import Kind, Record, State
from paigeant_core.operations import Cancel, DeadLetter, Operations, Release
from paigeant_core.transition import Place, superseded
from paigeant_core.transports.redis import RedisTransport
from paigeant_core.transports.redis.connection import Line
from paigeant_core.transports.redis.encoding import late
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.scripts import MOVE
from paigeant_core.transports.redis.wire import Answered, Call
from paigeant_core.transports.types import Delivery, Settled
from tests.transports import on_redis
from tests.transports.hands import Hands
from tests.transports.on_redis import dispatch

client = on_redis.client
connect = on_redis.connect
transport = on_redis.transport


async def asked_of(transport: RedisTransport, topic: str, delivery: Delivery, wish: str, fence: str = "") -> Record:
    """Ask for ``wish`` at the hand-off of a step that runs, whose fence stands at ``fence``."""
    assert delivery.message is not None
    headers = delivery.message.headers
    asked = handoff.request(headers, time.time(), wish, {"operator": "ann@desk", "reason": wish})
    assert await transport.request(topic, asked, expect=fence or headers.message_id) is Settled.DONE
    return asked


def between_tries(monkeypatch: pytest.MonkeyPatch, happens: list[Callable[[], Awaitable[Any]]]) -> None:
    """Each time a settle is told that it has to heed a request, the next of ``happens`` happens before its next try."""
    begin = Line.begin

    def slow(self: Line, commands: Any, answered: Answered, wait: float = 0.0) -> Call:
        async def later(result: Any) -> None:
            await happens.pop(0)()
            answered(result)

        def told(result: Any) -> None:
            moved = [answer for command, answer in zip(commands, result, strict=True) if command[1] == MOVE.sha]
            if happens and any(isinstance(each, bytes) for answer in moved for each in answer):
                tasks.append(asyncio.create_task(later(result)))
            else:
                answered(result)

        return begin(self, commands, told, wait)

    tasks: list[asyncio.Task[None]] = []
    monkeypatch.setattr(Line, "begin", slow)


@pytest.mark.parametrize(
    ("wishes", "state"),
    [
        (["hold", GO_ON], State.QUEUED),
        (["hold", "cancel"], State.CANCELLED),
        (["cancel", "hold"], State.HELD),
        (["compensate", GO_ON], State.QUEUED),
        (["hold", GO_ON, "hold", "cancel", GO_ON], State.QUEUED),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
async def test_a_request_that_comes_while_another_one_is_being_heeded_is_heeded_in_its_place(
    transport: RedisTransport, client: Any, topic: str, monkeypatch: pytest.MonkeyPatch, wishes: list[str], state: State
) -> None:
    workflow = await dispatch(transport, topic, "a", "b")
    hands = Hands(transport, topic, "a", "b")
    delivery = await hands.take_one()
    last = await asked_of(transport, topic, delivery, wishes[0])

    async def another(wish: str) -> None:
        nonlocal last
        last = await asked_of(transport, topic, delivery, wish, last.id)

    between_tries(monkeypatch, [lambda wish=wish: another(wish) for wish in wishes[1:]])  # type: ignore[misc]
    assert await hands.finish(delivery, {"a": 1}) is Settled.DONE
    monkeypatch.undo()
    history = await transport.history(topic, workflow)
    assert [record.detail["asks"] for record in history if record.kind == Kind.OPERATED] == wishes
    # Once, and nothing of what was taken back.
    (record,) = [record for record in history[1:] if record.state]
    assert (history[-1], record.state, record.message is not None) == (record, state, True)
    assert record.message is not None
    assert record.message.payload["a"] == 1
    assert record.detail.get("asked") == (None if wishes[-1] == GO_ON else last.id)
    keys = Keys(topic)
    parked = [workflow] if state is State.HELD else []
    assert [held.headers.correlation_id for held in await transport.parked(topic, Place.HELD)] == parked
    assert await client.xlen(keys.work("a")) == 0
    assert await client.xlen(keys.work("b")) == (1 if state is State.QUEUED else 0)
    if state is State.QUEUED:
        assert await hands.finish(await hands.take_one()) is Settled.DONE
        assert (await transport.history(topic, workflow))[-1].state == State.COMPLETED
    await hands.nothing()
    await hands.consumer.close()


async def test_a_request_that_is_repeated_is_known_whatever_came_of_it_meanwhile(
    transport: RedisTransport, topic: str
) -> None:
    workflow = await dispatch(transport, topic, "a", "b")
    hands = Hands(transport, topic, "a", "b")
    delivery = await hands.take_one()
    assert delivery.message is not None
    fence = delivery.message.headers.message_id
    first = await asked_of(transport, topic, delivery, "hold")
    assert await transport.request(topic, first, expect=fence) is Settled.ALREADY
    second = await asked_of(transport, topic, delivery, GO_ON, first.id)
    assert await transport.request(topic, first, expect=fence) is Settled.ALREADY
    assert await hands.finish(delivery) is Settled.DONE
    assert await transport.request(topic, first, expect=fence) is Settled.ALREADY
    assert await transport.request(topic, second, expect=first.id) is Settled.ALREADY
    other = handoff.request(delivery.message.headers, time.time(), "hold", {"operator": "bob@home"})
    assert await transport.request(topic, other, expect=fence) is Settled.SUPERSEDED
    kinds = [record.kind for record in await transport.history(topic, workflow)]
    assert kinds == [Kind.DISPATCHED, Kind.OPERATED, Kind.OPERATED, Kind.ADVANCED]
    await hands.consumer.close()


@pytest.mark.parametrize("kept", [0, 1], ids=["all of it", "the step's record"])
async def test_what_is_asked_of_a_step_is_known_when_the_journal_is_trimmed(
    transport: RedisTransport, client: Any, topic: str, kept: int
) -> None:
    workflow = await dispatch(transport, topic, "a", "b")
    hands = Hands(transport, topic, "a", "b")
    delivery = await hands.take_one()
    (before,) = await transport.history(topic, workflow)
    asked = await asked_of(transport, topic, delivery, "hold")
    await client.xtrim(Keys(topic).journal, maxlen=kept, approximate=False)
    history = await transport.history(topic, workflow)
    assert [(record.kind, record.id, record.body) for record in history] == [
        (Kind.DISPATCHED, before.id, before.body),
        (Kind.OPERATED, asked.id, None),
    ]
    assert (history[1].detail, history[1].headers) == (asked.detail, asked.headers)
    assert history[0].at == pytest.approx(before.at, abs=1.0)
    ann, bob = Operations(transport, topic, operator="ann@desk"), Operations(transport, topic, operator="bob@home")
    standing = await bob.standing(workflow)
    assert standing is not None
    assert (standing.wish, standing.asker[:24]) == ("hold", "ann@desk asked for hold ")
    (line,) = (await bob.plan(Cancel(), [workflow], reason="no more")).lines
    assert (line.eligible, "ann@desk asked for hold" in line.why) == (False, True)
    (taken_back,) = (await ann.execute(await ann.plan(Release(), [workflow], reason="it is fine"))).results
    assert (taken_back.outcome, taken_back.reason) == ("done", "taken back")
    # What took it back is trimmed as well: nothing is asked any more, and the workflow can be acted on.
    await client.xtrim(Keys(topic).journal, maxlen=0, approximate=False)
    standing = await ann.standing(workflow)
    assert standing is not None
    assert (standing.record.id, standing.wish) == (before.id, "")
    (dead,) = (await bob.execute(await bob.plan(DeadLetter(), [workflow], reason="it hangs"))).results
    assert dead.outcome == "done"
    await hands.consumer.close()


async def test_a_step_that_is_superseded_while_a_request_is_being_heeded_is_late_with_what_it_did(
    transport: RedisTransport, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = await dispatch(transport, topic, "a", "b")
    hands = Hands(transport, topic, "a", "b")
    delivery = await hands.take_one()
    asked = await asked_of(transport, topic, delivery, "hold")
    assert delivery.message is not None
    dead = moves.dead_letter(delivery.message, time.time(), reason="it hangs")

    async def buried() -> None:
        assert await transport.operate(topic, dead, expect=asked.id) is Settled.DONE

    between_tries(monkeypatch, [buried])
    assert await hands.finish(delivery, {"a": 1}) is Settled.SUPERSEDED
    monkeypatch.undo()
    history = await transport.history(topic, workflow)
    kinds = [Kind.DISPATCHED, Kind.OPERATED, Kind.DEAD_LETTERED, Kind.SUPERSEDED]
    assert [record.kind for record in history] == kinds
    assert history[-1].detail["instead_of"] == Kind.ADVANCED
    assert [record.id for record in await transport.parked(topic, Place.DEAD)] == [dead.record.id]
    await hands.nothing()
    await hands.consumer.close()


async def test_a_late_result_never_takes_the_current_copy_of_a_workflow_with_it(
    transport: RedisTransport, topic: str
) -> None:
    workflow = await dispatch(transport, topic, "a", "b")
    hands = Hands(transport, topic, "a", "b", lease=0.3)
    delivery = await hands.take_one()
    assert delivery.message is not None
    record = superseded(moves.done(delivery.message, None, hands.span()))
    assert await transport._lines.one(late(Keys(topic), record, delivery.token)) == 0
    assert await transport._lines.one(late(Keys(topic), record, delivery.token)) == 1
    # Its worker is gone, so it comes again.
    await hands.consumer._crash()  # type: ignore[attr-defined]
    heir = Hands(transport, topic, "a", "b", lease=0.3)
    assert await heir.finish(await heir.take_one()) is Settled.DONE
    assert await heir.finish(await heir.take_one()) is Settled.DONE
    kinds = [item.kind for item in await transport.history(topic, workflow)]
    assert kinds == [Kind.DISPATCHED, Kind.SUPERSEDED, Kind.ADVANCED, Kind.FINISHED]
    await heir.consumer.close()
