"""The hop against a model: workers, their deaths, delays, deadlines and operators in any order.

The in-memory transport is driven step by step, with the library's own admission, decision and operations, and
`flow_model` says what each step must come to. After every step each workflow is in exactly one place and one state, the
fold of the journal agrees with the model, and nothing ran that was outdated. At the end all that can go on does, to its
end.
"""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from collections.abc import Coroutine
from typing import Any
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from paigeant_console.model.fold import Fold
from paigeant_core import ActivityContext, NonRetryable, RetryAfter, RetryPolicy, admission
from paigeant_core.activity import Activity
from paigeant_core.admission import admit
from paigeant_core.clock import ManualClock
from paigeant_core.decision import decide
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.journal import Kind
from paigeant_core.message import PaigeantMessage
from paigeant_core.operations import (
    Insert,
    Operations,
    Replay,
    Undo,
)
from paigeant_core.routing import Step
from paigeant_core.transition import Span
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from paigeant_core.transports.types import Delivery, Settled, WorkerInfo, holding
from tests.core.flow_model import Flow
from tests.core.hop_events import (
    BACKOFF,
    EVENTS,
    LEASE,
    MOST_FLOWS,
    PLAIN,
    POISON,
    STEPS,
    TOPIC,
    VERBS,
    Hand,
    Planned,
    Run,
    nothing,
)


class HopMachine(RuleBasedStateMachine):
    """Drives the in-memory broker and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.broker = MemoryBroker(self.clock)
        self.transport = MemoryTransport("model", broker=self.broker)
        self.operations = Operations(self.transport, TOPIC, operator="model")
        policy = RetryPolicy(max_attempts=3, backoff="constant", initial=BACKOFF, jitter=0)
        self.activity = Activity("a", nothing, retry=policy, timeout=None, scopes=())
        self.activity.compensate(nothing)
        self.flows: dict[str, Flow] = {}
        self.claimed: dict[str, Hand] = {}
        self.hands: list[Hand] = []
        self.silent: list[Hand] = []
        self.zombies: list[tuple[Hand, Run]] = []
        self.planned: list[Planned] = []
        self.inserts: dict[str, list[str]] = {}
        self.named: list[str] = []
        self.superseded = 0
        self.born = 0
        self.fold = Fold()
        self.position = "start"
        self.records: Counter[str] = Counter()
        self.sooner = patch.object(admission, "POISON_DEATHS", POISON)
        self.sooner.start()

    def teardown(self) -> None:
        try:
            self._all_comes_to_an_end()
            self._journal_from_its_start_says_the_same()
        finally:
            self.sooner.stop()
            self.loop.close()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        for _ in range(2):
            self._hire()

    def _hire(self) -> Hand:
        self.born += 1
        info = WorkerInfo(worker=f"w{self.born}", activities=STEPS, concurrency=4)
        hand = Hand(self.transport.consumer(TOPIC, info, lease=LEASE), info)
        hand.consumer._start()
        self.hands.append(hand)
        return hand

    @rule(data=st.data())
    def something_happens(self, data: st.DataObject) -> None:
        # One rule: of several Hypothesis leaves some out in each example, and few workflows would come far.
        event = data.draw(st.sampled_from(self._possible()), "event")
        arguments = {name: data.draw(strategy, name) for name, strategy in EVENTS[event].items()}
        getattr(self, event)(**arguments)

    def _possible(self) -> list[str]:
        possible = ["kill", "stop", *["wait"] * 2]
        if len(self.flows) < MOST_FLOWS:
            possible.append("dispatch")
        if any(flow.waits_in_a_queue for flow in self.flows.values()):
            possible += ["claim"] * 4
        if any(hand.runs for hand in self.hands):
            possible += ["hand_back", *["hand_on"] * 4]
        elif self.zombies:
            possible.append("hand_on")
        if self.flows:
            possible += ["plan"] * 4
        if self.planned:
            possible.append("carry_out")
        return possible

    def _flow(self, index: int) -> tuple[str, Flow]:
        return list(self.flows.items())[index % len(self.flows)]

    # -- rules: workflows and workers

    def dispatch(self, itinerary: list[str], compensates: bool) -> None:
        on_failure: Any = "compensate" if compensates else "dead_letter"
        dispatcher = WorkflowDispatcher(self.transport)
        workflow = self.do(dispatcher.dispatch_workflow(itinerary, {}, topic=TOPIC, on_failure=on_failure))
        self.flows[workflow] = Flow(list(itinerary), compensates)

    def claim(self, index: int, slots: int, told: bool) -> None:
        hand = self.hands[index % len(self.hands)]
        if not hand.consumer._has_work():
            return
        for delivery in self.do(hand.consumer.claim(slots)):
            self._begin(hand, delivery, told)
        self._report(hand)

    def _begin(self, hand: Hand, delivery: Delivery, told: bool) -> None:
        message = PaigeantMessage.decode(delivery.body)
        headers = message.headers
        flow = self.flows[headers.correlation_id]
        # Nobody gets what is outdated, what is not due, or what somebody has.
        assert flow.waits_in_a_queue
        assert headers.correlation_id not in self.claimed
        assert (headers.epoch, headers.run, headers.hop) == (flow.epoch, flow.run, flow.hop)
        assert (headers.activity, headers.attempt) == (flow.step, flow.attempt)
        assert delivery.deaths == flow.deaths
        assert headers.idempotency_key == f"{headers.correlation_id}/{flow.run}/{flow.hop}"
        admitted = self.do(admit(hand.consumer, delivery, TOPIC, hand.info.worker, self.clock))
        if flow.deaths >= POISON:
            assert admitted is None
            wish = flow.wish
            flow.failed(retryable=False, due=0.0)
            if wish is not None:
                flow.heed(wish, self.inserts.get(wish[1], []), was_done=False)
            return
        assert admitted is not None
        self.claimed[headers.correlation_id] = hand
        hand.runs.append(Run(delivery, message, flow.serial, self.clock.now(), told))

    def _report(self, hand: Hand) -> None:
        hand.consumer.report([holding(run.message.headers, run.started_at) for run in hand.runs if run.told])

    def hand_on(
        self, index: int, outcome: str, inserted: list[str], until: float | None, on_deadline: Any, twice: bool
    ) -> None:
        """A handler comes to an end: in a living worker, or in one that was taken for dead meanwhile."""
        running = [(hand, run) for hand in self.hands for run in hand.runs]
        slow = self.zombies
        hand, run = (running + slow)[index % len(running + slow)]
        if (hand, run) in slow:
            slow.remove((hand, run))
        hand.runs.remove(run)
        context = ActivityContext(run.message, worker=hand.info.worker, now=run.started_at)
        now = self.clock.now()
        result: Any = {"by": hand.info.worker}
        error: Exception | None = None
        if run.message.routing_slip.undoing and outcome in ("insert", "finish", "hold"):
            outcome = "fatal"  # a compensator cannot ask for that, and is told so
        if outcome == "insert":
            context.insert_next(*inserted)
        elif outcome == "finish":
            context.finish()
        elif outcome == "hold":
            context.hold("waits", None if until is None else now + until, on_deadline)
        elif outcome == "bad":
            result = [1]
        elif outcome != "done":
            error = {"fail": ValueError("no"), "after": RetryAfter(7), "fatal": NonRetryable("never")}[outcome]
        span = Span(worker=hand.info.worker, started_at=run.started_at, completed_at=now)
        transition = decide(self.activity, run.message, context, result, error, span, run.delivery.body)
        settled = self.do(hand.consumer.settle(run.delivery, transition))
        self._report(hand)
        workflow = run.message.correlation_id
        flow = self.flows[workflow]
        if flow.serial != run.serial:
            assert settled is Settled.SUPERSEDED
            self.superseded += 1
            return
        assert settled is Settled.DONE
        self.claimed.pop(workflow, None)
        wish, was_undoing = flow.wish, flow.undo > 0
        if error is not None:
            flow.failed(retryable=outcome != "fatal", due=now + (7 if outcome == "after" else BACKOFF))
        elif outcome == "bad" and not was_undoing:
            flow.gave_nonsense()
        else:
            flow.succeeded(
                inserted=inserted if outcome == "insert" else [],
                finish=outcome == "finish",
                hold=(None if until is None else now + until, on_deadline) if outcome == "hold" else None,
            )
        if wish is not None:
            was_done = error is None and outcome != "bad" and not was_undoing
            flow.heed(wish, self.inserts.get(wish[1], []), was_done=was_done)
        elif twice:
            # The answer was lost, and the client says it again.
            assert self.do(hand.consumer.settle(run.delivery, transition)) is Settled.ALREADY

    def hand_back(self, index: int) -> None:
        running = [(hand, run) for hand in self.hands for run in hand.runs]
        hand, run = running[index % len(running)]
        hand.runs.remove(run)
        self.do(hand.consumer.hand_back(run.delivery))
        self._report(hand)
        workflow = run.message.correlation_id
        if self.flows[workflow].serial == run.serial:
            assert self.claimed.pop(workflow) is hand

    def kill(self, index: int) -> None:
        """A worker falls silent. It may be dead, or only slow: what it runs may be handed on yet."""
        hand = self.hands.pop(index % len(self.hands))
        self.do(hand.consumer._crash())
        hand.died_at = self.clock.now()
        self.zombies += [(hand, run) for run in hand.runs]
        self.silent.append(hand)
        self._hire()

    def stop(self, index: int) -> None:
        """A worker leaves in order, and hands back what it has."""
        hand = self.hands.pop(index % len(self.hands))
        self.do(hand.consumer.close())
        for workflow in [key for key, holder in self.claimed.items() if holder is hand]:
            del self.claimed[workflow]
        self._hire()

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        now = self.clock.now()
        for flow in self.flows.values():
            if flow.due is not None and flow.due <= now:
                flow.due = None
            if flow.deadline is not None and flow.deadline[0] <= now:
                flow.deadline_came()
        for hand in [hand for hand in self.silent if hand.died_at is not None and hand.died_at + LEASE <= now]:
            self.silent.remove(hand)
            for workflow in [key for key, holder in self.claimed.items() if holder is hand]:
                del self.claimed[workflow]
                self.flows[workflow].deaths += 1

    # -- rules: operators

    def plan(self, which: int, index: int, inserted: list[str], hop: int | None, sensible: bool, at_once: bool) -> None:
        workflow, flow = self._flow(index)
        target = self.named[-1 - which % min(4, len(self.named))] if self.named else "none"
        verbs = [
            verb
            for verb in VERBS
            if not sensible or not flow.refuses("replay" if verb == "copy" else verb, operation=target, hop=hop)
        ]
        if not verbs:
            return
        verb = verbs[which % len(verbs)]
        if verb in PLAIN:
            action = PLAIN[verb]()
        elif verb == "undo":
            action = Undo(target)
        elif verb == "insert":
            action = Insert(tuple(map(Step, inserted)))
        else:
            action = Replay(from_step=hop, as_new=verb == "copy")
        plan = self.do(self.operations.plan(action, [workflow], reason="model"))
        self.named.append(plan.operation_id)
        self.inserts[plan.operation_id] = inserted
        holder = self.claimed.get(workflow)
        beside = holder is not None and any(run.told and run.message.correlation_id == workflow for run in holder.runs)
        refused = flow.refuses("replay" if verb == "copy" else verb, operation=target, hop=hop)
        (line,) = plan.lines
        assert line.eligible is not refused, line.why
        copied = copy.deepcopy(flow.copied(hop)) if verb == "copy" else None
        planned = Planned(verb, plan, workflow, flow.fence, beside, refused, inserted, hop, target, copied)
        if at_once:
            self._carry_out(planned)
        else:
            self.planned.append(planned)

    def carry_out(self, index: int) -> None:
        """An operation is confirmed, and anything may have happened since it was planned."""
        self._carry_out(self.planned.pop(index % len(self.planned)))

    def _carry_out(self, planned: Planned) -> None:
        verb, workflow, operation = planned.verb, planned.workflow, planned.plan.operation_id
        flow = self.flows[workflow]
        (result,) = self.do(self.operations.execute(planned.plan)).results
        if planned.refused:
            assert result.outcome == "skipped"
        elif flow.fence != planned.fence:
            assert result.outcome == "failed"
        elif planned.copied is not None:
            assert result.outcome == "done"
            self.flows[result.new_correlation_id] = planned.copied
        else:
            assert result.outcome == "done", result.reason
            at_handoff = planned.plan.action.at_handoff
            if flow.takes_back(verb, planned.target):
                flow.take_back()
            elif at_handoff and (planned.beside or workflow in self.claimed):
                flow.ask(verb, operation)
            else:
                self.claimed.pop(workflow, None)
                flow.operate(verb, operation, inserted=planned.inserted, hop=planned.hop, now=self.clock.now())
                with self.broker.topic(TOPIC) as state:
                    state.tick()  # what has come due by it happens now

    # -- what always holds

    @invariant()
    def every_workflow_is_in_exactly_one_place(self) -> None:
        copies: Counter[str] = Counter()
        with self.broker.topic(TOPIC) as state:
            for queue in (*state.work.values(), state.claimed):
                for entry in queue:
                    assert not entry.gone
                    copies[PaigeantMessage.decode(entry.body).correlation_id] += 1
            timers = Counter(key for _, serial, key, _ in state.timers if state.workflows[key].due == serial)
            assert set(state.workflows) == set(self.flows)
        for workflow, flow in self.flows.items():
            delayed = flow.due is not None or flow.deadline is not None
            assert copies[workflow] == flow.waits_in_a_queue, f"{workflow} {flow}"
            assert timers[workflow] == delayed, f"{workflow} {flow}"

    @invariant()
    def the_fold_of_the_journal_agrees(self) -> None:
        for record in self._read(self.position):
            self.position = record.position
            self.records[record.kind] += 1
            self.fold.apply([record])
        self._agrees(self.fold)
        assert self.records[Kind.SUPERSEDED] == self.superseded

    def _read(self, start: str) -> list[Any]:
        async def read() -> list[Any]:
            return [record async for batch in self.transport.records(TOPIC, start=start) for record in batch]

        found: list[Any] = self.do(read())
        return found

    def _agrees(self, fold: Fold) -> None:
        assert set(fold.rows) == set(self.flows)
        for workflow, flow in self.flows.items():
            row = fold.rows[workflow]
            headers = row.headers
            assert row.base == flow.state, f"{row.base} {flow}"
            assert (headers.epoch, headers.run) == (flow.epoch, flow.run)
            assert (row.step or "") == flow.step
            assert row.names == (*(name for name, _ in flow.done), *flow.todo)
            assert headers.steps_done == len(flow.done)
            if flow.step:
                assert (headers.hop, headers.attempt) == (flow.hop, flow.attempt)

    @invariant()
    def an_operator_is_told_the_same(self) -> None:
        for workflow, flow in self.flows.items():
            standing = self.do(self.operations.standing(workflow))
            assert standing is not None
            assert standing.record.state == flow.state
            assert standing.wish == ("" if flow.wish is None else flow.wish[0])

    # -- at the end

    def _all_comes_to_an_end(self) -> None:
        """A worker that just works brings all that is not parked to its end."""
        for hand in list(self.hands):
            self.hands.remove(hand)
            self.do(hand.consumer.close())
        self.claimed = {key: hand for key, hand in self.claimed.items() if hand in self.silent}
        self.wait(100.0)
        hand = self._hire()
        for _ in range(1_000):
            if not hand.consumer._has_work():
                if all(flow.state not in ("queued", "retrying", "compensating") for flow in self.flows.values()):
                    break
                self.wait(100.0)
                continue
            self.claim(0, 3, True)
            while hand.runs:
                self.zombies.clear()
                self.hand_on(0, "done", [], None, "release", False)
            self.the_fold_of_the_journal_agrees()
        over = {"completed", "compensated", "cancelled", "held", "dead", "compensation_failed"}
        assert {flow.state for flow in self.flows.values()} <= over

    def _journal_from_its_start_says_the_same(self) -> None:
        fold = Fold()
        fold.apply(self._read("start"))
        self._agrees(fold)


TestHop = HopMachine.TestCase
TestHop.settings = settings(max_examples=120, stateful_step_count=60)
