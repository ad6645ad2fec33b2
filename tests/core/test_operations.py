"""Any sequence of what workers and operators do leads to a defined state or to a refusal that changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paigeant_console.model.fold import Fold
from paigeant_core import transition as moves
from paigeant_core.admission import admit
from paigeant_core.clock import ManualClock
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.journal import ENDED, Record, State
from paigeant_core.operations import (
    Action,
    Cancel,
    Compensate,
    DeadLetter,
    Hold,
    Insert,
    Operations,
    Release,
    Replay,
    Restore,
    Retry,
    Skip,
    Undo,
)
from paigeant_core.routing import Step
from paigeant_core.transition import Outcome, Place, Span
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from paigeant_core.transports.types import Delivery, WorkerInfo, holding

TOPIC = "any"
FORWARD: set[str] = {State.QUEUED, State.HELD, State.DEAD}
LEADS: dict[type[Action], set[str]] = {
    Retry: {State.QUEUED, State.COMPENSATING, State.COMPLETED},
    Replay: {State.QUEUED},
    DeadLetter: {State.DEAD},
    Hold: {State.HELD},
    Release: {State.QUEUED, State.COMPENSATING, State.COMPLETED},
    Skip: {State.QUEUED, State.HELD, State.COMPENSATING, State.COMPLETED, State.COMPENSATED},
    Cancel: {State.CANCELLED},
    Compensate: {State.COMPENSATING, State.COMPENSATED},
    Restore: {State.QUEUED, State.COMPENSATING, State.HELD, State.COMPENSATION_FAILED, State.COMPLETED},
    Insert: FORWARD,
    Undo: {*FORWARD, State.COMPENSATING, State.COMPENSATION_FAILED, State.COMPLETED},
}
"""Where each verb leads that is done at once."""
PLACES: dict[Place, set[str]] = {
    Place.WORK: {State.QUEUED, State.COMPENSATING, State.RETRYING},
    Place.DELAYED: {State.RETRYING},
    Place.HELD: {State.HELD},
    Place.DEAD: {State.DEAD, State.COMPENSATION_FAILED},
    Place.NOWHERE: set(ENDED),
}

verbs: st.SearchStrategy[Callable[[str], Action]] = st.sampled_from(
    [
        lambda _: Retry(),
        lambda _: Replay(),
        lambda _: Replay(from_step=1, changes={"mended": True}),
        lambda _: Replay(as_new=True),
        lambda _: Replay(itinerary=(Step("b"), Step("a"))),
        lambda _: DeadLetter(),
        lambda _: Hold(),
        lambda _: Release(),
        lambda _: Release({"approved": True}),
        lambda _: Skip(),
        lambda _: Cancel(),
        lambda _: Compensate(),
        lambda _: Restore(),
        lambda _: Insert((Step("b"),)),
        Undo,
    ]
)
turns = st.lists(
    st.tuples(st.just("operate"), verbs)
    | st.tuples(
        st.sampled_from(["done", "hold", "deadline", "finish", "insert", "retry", "dead", "hand_back", "crash"]),
        st.booleans(),
    )
    | st.tuples(st.just("wait"), st.sampled_from([1.0, 20.0, 100.0])),
    max_size=14,
)


class Bench:
    """One workflow on a broker whose time stands, a worker done by hand, and an operator."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.transport = MemoryTransport("any", broker=MemoryBroker(self.clock))
        self.operations = Operations(self.transport, TOPIC, operator="ann@desk")
        self.workers = 0
        self.consumer = self.hire()
        self.held: list[Delivery] = []
        self.workflow = ""
        self.last_operation = "none"

    def hire(self) -> Any:
        self.workers += 1
        self.name = f"w{self.workers}"
        info = WorkerInfo(worker=self.name, activities=("a", "b"), concurrency=4)
        return self.transport.consumer(TOPIC, info, lease=10.0)

    async def claim(self) -> None:
        """Take what waits, if anything does."""
        with self.transport.broker.topic(TOPIC) as state:
            state.tick()
            waits = any(state.work.values())
        if waits:
            for delivery in await self.consumer.claim(4):
                if await admit(self.consumer, delivery, TOPIC, self.name, self.clock) is not None:
                    self.held.append(delivery)

    async def step(self, what: str, told: bool) -> None:
        """The worker takes a step, and does with it what is said."""
        await self.claim()
        if not self.held:
            return
        if told:
            self.report()
        delivery = self.held.pop(0)
        message = delivery.message
        assert message is not None
        span = Span(worker=self.name, started_at=self.clock.now(), completed_at=self.clock.now())
        if what == "hand_back":
            await self.consumer.hand_back(delivery)
        elif what == "crash":
            await self.consumer._crash()
            self.held.clear()
            self.consumer = self.hire()
        elif what == "retry":
            await self.consumer.settle(delivery, moves.retry(message, ValueError("no"), 30.0, span))
        elif what == "dead":
            await self.consumer.settle(delivery, moves.failed(message, ValueError("no"), "x", span, delivery.body))
        elif message.routing_slip.undoing:
            await self.consumer.settle(delivery, moves.undone(message, span, had_compensator=True))
        else:
            outcome = {
                "hold": Outcome(hold="a person"),
                "deadline": Outcome(hold="a person", until=50.0, on_deadline="release" if told else "dead_letter"),
                "finish": Outcome(finish=True),
                "insert": Outcome(inserted=[Step("a")]),
            }.get(what)
            await self.consumer.settle(delivery, moves.done(message, {"n": 1}, span, outcome))

    def report(self) -> None:
        """Say what the worker holds."""
        running = [delivery.message.headers for delivery in self.held if delivery.message is not None]
        self.consumer.report([holding(headers, self.clock.now()) for headers in running])

    async def operate(self, make: Callable[[str], Action]) -> None:
        """Act, and look at what the report says against what the broker has."""
        action = make(self.last_operation)
        before = self.current()
        plan = await self.operations.plan(action, [self.workflow], reason="any")
        report = await self.operations.execute(plan)
        (result,) = report.results
        after = self.current()
        if result.outcome != "done":
            assert result.reason
            assert after.id == before.id
            return
        if result.new_correlation_id:
            assert after.id == before.id
        elif result.reason:
            assert after.id == before.id, "the step runs on until it is handed on"
            assert result.reason == "taken back" or "is handed on" in result.reason
        else:
            assert after.state in LEADS[type(action)], (action, before.state, after.state)
            assert after.headers.epoch == before.headers.epoch + 1
        self.last_operation = report.operation_id

    def current(self) -> Record:
        with self.transport.broker.topic(TOPIC) as state:
            return state.workflows[self.workflow].last

    async def check(self) -> None:
        """The broker agrees with itself, with the standing, and with the fold of the journal."""
        with self.transport.broker.topic(TOPIC) as state:
            state.tick()  # a hold that was restored may be due by now
            workflow = state.workflows[self.workflow]
            last = workflow.last
            copies = [
                entry
                for entry in [*state.claimed, *(entry for queue in state.work.values() for entry in queue)]
                if not entry.gone and entry.body == last.body
            ]
            journal = list(state.journal)
        assert last.state in PLACES[workflow.place], (workflow.place, last.state)
        assert len(copies) == (workflow.place is Place.WORK), "one current copy, where it is to be run"
        assert (workflow.entry in copies) is (workflow.place is Place.WORK)
        message = last.message
        assert message is not None
        assert message.headers.activity == message.routing_slip.current_name()
        fold = Fold()
        fold.apply(journal)
        row = fold.rows[self.workflow]
        # A row keeps what a list shows of the headers, and not which message they were of.
        headers = msgspec.structs.replace(last.headers, message_id="", timestamp="")
        assert (row.base, row.token, row.headers) == (last.state, last.id, headers)
        assert row.names == message.routing_slip.names()
        standing = await self.operations.standing(self.workflow)
        assert standing is not None
        assert standing.record.id == last.id
        assert standing.fence == workflow.id


async def play(script: list[tuple[str, Any]]) -> None:
    bench = Bench()
    bench.workflow = await WorkflowDispatcher(bench.transport).dispatch_workflow(["a", "b", "a"], {"n": 0}, topic=TOPIC)
    epoch = run = 0
    for what, how in script:
        if what == "operate":
            await bench.operate(how)
        elif what == "wait":
            bench.clock.advance(how)
        else:
            await bench.step(what, how)
        await bench.check()
        headers = bench.current().headers
        assert (headers.epoch, headers.run) >= (epoch, run)
        epoch, run = headers.epoch, headers.run


@settings(max_examples=300, deadline=None)
@given(turns)
def test_any_sequence_ends_in_a_defined_state_or_a_refusal(script: list[tuple[str, Any]]) -> None:
    asyncio.run(play(script))


def _given(action: Action, _: str) -> Action:
    return action


async def _bench(*steps: str) -> Bench:
    bench = Bench()
    bench.workflow = await WorkflowDispatcher(bench.transport).dispatch_workflow(list(steps), {"n": 0}, topic=TOPIC)
    return bench


async def test_restore_finds_the_hold_that_was_dead_lettered_whatever_was_done_to_it_since() -> None:
    bench = await _bench("a")
    await bench.step("deadline", False)
    with bench.transport.broker.topic(TOPIC) as state:
        due = state.timers[0][0]
    for action in (DeadLetter(), Insert((Step("b"),)), Cancel()):
        await bench.operate(partial(_given, action))
    await bench.operate(Undo)
    assert bench.current().state == State.DEAD
    await bench.operate(lambda _: Restore())
    assert bench.current().state == State.HELD
    assert bench.current().detail["reason"] == "a person"
    # Its deadline is what it was.
    bench.clock.advance(due - bench.clock.now() - 1)
    assert bench.current().state == State.HELD
    bench.clock.advance(2)
    assert bench.current().state == State.DEAD


async def test_the_preflight_says_what_lies_ahead() -> None:
    bench = await _bench("a", "b")

    async def line(action: Action) -> tuple[bool, str]:
        (found,) = (await bench.operations.plan(action, [bench.workflow], reason="x")).lines
        return found.eligible, found.why

    await bench.step("dead", False)
    assert await line(Retry()) == (True, "")
    assert await line(Replay(from_step=7)) == (False, "hop 7 was not reached: the workflow came to hop 1")
    await bench.consumer.close()
    assert await line(Retry()) == (True, "no worker serves a now, so it will wait for one")
    assert await line(Replay(itinerary=(Step("c"),))) == (True, "no worker serves c now, so it will wait for one")
    assert await bench.operations.pause_activity("a", reason="the provider is down") is None
    eligible, why = await line(Restore())
    assert eligible
    assert why.startswith("a is paused, so it will wait: ann@desk paused it at ")
    await bench.operate(partial(_given, Retry()))
    eligible, why = await line(Retry())
    assert eligible
    assert why.startswith("it is being retried: ann@desk asked for it at ")
    await bench.operate(partial(_given, Cancel()))
    assert await line(Retry()) == (False, "it is cancelled: replay it instead")
    gone = await bench.operations.plan(Retry(), ["nobody"], reason="x")
    assert (gone.lines[0].eligible, gone.lines[0].why) == (False, "there is no such workflow")


@pytest.mark.parametrize("then", ["compensated", "compensating", "compensation_failed", "held", "cancelled"])
async def test_a_replay_of_what_was_undone_takes_the_step_to_begin_with(then: str) -> None:
    bench = await _bench("a", "b", "a")
    for _ in range(2):
        await bench.step("done", False)
    await bench.operate(partial(_given, Compensate()))
    await bench.step("undone", False)
    if then == "compensated":
        await bench.step("undone", False)
    elif then == "compensation_failed":
        await bench.step("dead", False)
    elif then != "compensating":
        await bench.operate(partial(_given, Hold() if then == "held" else Cancel()))
    assert bench.current().state == then
    why = "it is compensated" if then == "compensated" else "its steps are being undone"
    for there in (Replay(), Replay(as_new=True), Replay(itinerary=(Step("b"),))):
        (line,) = (await bench.operations.plan(there, [bench.workflow], reason="again")).lines
        assert (line.eligible, line.why) == (False, f"{why}: name the step to replay from with --from-step")
    undone = {1: "", 2: "a" if then == "compensated" else "", 3: "a, b" if then == "compensated" else "b"}
    for hop, names in undone.items():
        (line,) = (await bench.operations.plan(Replay(from_step=hop), [bench.workflow], reason="again")).lines
        assert line.eligible
        assert line.why == (f"steps before it were undone, and are not done again: {names}" if names else "")
    await bench.operate(lambda _: Replay(from_step=2))
    await bench.step("done", False)
    (line,) = (await bench.operations.plan(Replay(), [bench.workflow], reason="again")).lines
    assert (line.eligible, line.why.rpartition(": ")[2]) == (True, undone[2])
    await bench.check()


async def test_a_replay_with_another_itinerary() -> None:
    bench = await _bench("a", "b", "a")
    await bench.step("done", False)
    await bench.operate(lambda _: Replay(itinerary=(Step("c"), Step("b"))))
    assert bench.current().headers.activity == "c"
    message = bench.current().message
    assert message is not None
    assert message.routing_slip.names() == ("a", "c", "b")
    assert bench.current().detail["itinerary"] == ["c", "b"]
    await bench.operate(lambda _: Replay(from_step=1, itinerary=(Step("b"),)))
    message = bench.current().message
    assert message is not None
    assert message.routing_slip.names() == ("b",)
    # A completed workflow can be given more to do.
    await bench.step("done", False)
    assert bench.current().state == State.COMPLETED
    await bench.operate(lambda _: Replay(itinerary=(Step("a"),)))
    message = bench.current().message
    assert message is not None
    assert (message.routing_slip.names(), message.headers.run) == (("b", "a"), 4)
    await bench.check()


@pytest.mark.parametrize(
    ("verb", "then", "why"),
    [
        (Retry(), "done", "retry cannot be undone: only hold, cancel and dead-letter can"),
        (Insert((Step("b"),)), "done", "insert cannot be undone: only hold, cancel and dead-letter can"),
        (Retry(), "", "retry cannot be undone: only hold, cancel and dead-letter can"),
        (DeadLetter(), "retried", "something else happened to it since: it is queued"),
    ],
)
async def test_undo_says_first_that_a_verb_cannot_be_undone_at_all(verb: Action, then: str, why: str) -> None:
    bench = await _bench("a", "a")
    await bench.operate(partial(_given, verb))
    undo = Undo(bench.last_operation)
    if then == "retried":
        await bench.operate(lambda _: Retry())
    elif then:
        await bench.step(then, False)
    for action, said in ((undo, why), (Undo("another"), "that operation did nothing to it, as far as the journal")):
        (line,) = (await bench.operations.plan(action, [bench.workflow], reason="a mistake")).lines
        assert not line.eligible
        assert line.why.startswith(said)
