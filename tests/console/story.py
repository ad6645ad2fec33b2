"""Workflows on an in-memory broker whose clock stands: the same ones, to the millisecond, in every run.

Nothing runs here: each move is made as a worker would make it, and carried out at once. So tests and screenshots have
every state side by side and never wait.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from paigeant_console.demo import ONBOARDING, ORDER, SUPPORT
from paigeant_core import transition as moves
from paigeant_core.clock import ManualClock
from paigeant_core.dispatcher import new_workflow
from paigeant_core.journal import Record
from paigeant_core.message import PaigeantMessage
from paigeant_core.routing import OnFailure
from paigeant_core.transition import Outcome, Span, Transition
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from paigeant_core.transports.memory.broker import Claimant
from paigeant_core.transports.types import Settled, WorkerInfo, holding

TOPIC = "workflows"
START = 1_767_261_600.0  # 2026-01-01T10:00:00Z


class Failure(Exception):
    """What a handler raised."""


class Story:
    """A broker, and what happens on it."""

    def __init__(self, *, topic: str = TOPIC) -> None:
        self.clock = ManualClock(START)
        self.broker = MemoryBroker(self.clock)
        self.topic = topic
        self.worker = "w1"

    def transport(self) -> MemoryTransport:
        """A way to the broker, for a feed or for the story itself."""
        return MemoryTransport("story", broker=self.broker)

    def wait(self, seconds: float) -> Story:
        self.clock.advance(seconds)
        return self

    # Moves

    def start(
        self,
        correlation_id: str,
        steps: Sequence[object] = ONBOARDING,
        payload: Mapping[str, Any] | bytes | None = None,
        *,
        name: str = "onboarding",
        labels: Mapping[str, str] | None = None,
        on_failure: OnFailure = "dead_letter",
    ) -> str:
        message = new_workflow(
            steps,
            {"customer_email": "ann@example.com"} if payload is None else payload,
            topic=self.topic,
            correlation_id=correlation_id,
            name=name,
            labels=labels,
            on_failure=on_failure,
            at=self.clock.now(),
        )
        self._do(self.transport().dispatch(self.topic, moves.dispatch(message, self.clock.now())))
        return correlation_id

    def done(
        self, correlation_id: str, result: Mapping[str, Any] | None = None, *, took: float = 1.0, **asked: Any
    ) -> None:
        """Its step is done after so many seconds; `asked` is what the handler asked for (`hold=...`, `finish=True`)."""
        message = self.message(correlation_id)
        started = self.clock.now()
        self.clock.advance(took)
        span = Span(worker=self.worker, started_at=started, completed_at=self.clock.now())
        self._settle(message, moves.done(message, result, span, Outcome(**asked) if asked else None))

    def fails(
        self, correlation_id: str, error: BaseException, *, delay: float | None = None, took: float = 1.0
    ) -> None:
        """Its step fails; with a delay it is tried again, without one it is dead."""
        message = self.message(correlation_id)
        started = self.clock.now()
        self.clock.advance(took)
        span = Span(worker=self.worker, started_at=started, completed_at=self.clock.now())
        if delay is None:
            self._settle(message, moves.failed(message, error, "attempts_exhausted", span))
        else:
            self._settle(message, moves.retry(message, error, delay, span))

    def undone(self, correlation_id: str, *, took: float = 1.0, had_compensator: bool = True) -> None:
        """Its step is undone after so many seconds."""
        message = self.message(correlation_id)
        started = self.clock.now()
        self.clock.advance(took)
        span = Span(worker=self.worker, started_at=started, completed_at=self.clock.now())
        self._settle(message, moves.undone(message, span, had_compensator=had_compensator))

    def runs(self, worker: str, *correlation_ids: str, activities: Sequence[str] = (), concurrency: int = 4) -> None:
        """A worker lives, and runs these now."""
        info = WorkerInfo(
            worker=worker,
            activities=tuple(activities),
            concurrency=concurrency,
            host="host",
            pid=4711,
            started_at=START,
        )
        with self.broker.topic(self.topic, wake=True) as state:
            claimant = state.claimants.setdefault(worker, Claimant(info, 1e9))
            claimant.running = tuple(holding(self.message(item).headers, self.clock.now()) for item in correlation_ids)

    def quarantine(self, body: bytes, *, activity: str = "validate-order-details") -> str:
        moved = moves.quarantine(
            body,
            code="malformed",
            reason="no message: no line of headers",
            activity=activity,
            topic=self.topic,
            at=self.clock.now(),
            worker=self.worker,
        )
        # Its ID is chosen by chance in real life.
        headers = moved.record.headers
        fixed = type(headers)(
            **{**{f: getattr(headers, f) for f in headers.__struct_fields__}, "correlation_id": "q-0badc0de"}
        )
        moved.record.headers = fixed
        with self.broker.topic(self.topic, wake=True) as state:
            state.apply(moved, None)
        return fixed.correlation_id

    # Looking

    def last(self, correlation_id: str) -> Record:
        with self.broker.topic(self.topic) as state:
            return state.workflows[correlation_id].last

    def state(self, correlation_id: str) -> str:
        return str(self.last(correlation_id).state)

    def message(self, correlation_id: str) -> PaigeantMessage:
        message = self.last(correlation_id).message
        assert message is not None
        return message

    def records(self) -> int:
        with self.broker.topic(self.topic) as state:
            return state.first - 1 + len(state.journal)

    # Inside

    def _settle(self, message: PaigeantMessage, transition: Transition) -> None:
        correlation_id = message.headers.correlation_id
        expect = self.last(correlation_id).id
        settled = self._do(self.transport().operate(self.topic, transition, expect=expect))
        assert settled is Settled.DONE

    def _do(self, coroutine: Any) -> Any:
        """Run what needs no loop: nothing in memory waits."""
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("this waits")


DONE, DEAD, STUCK = (
    "5d0c1f7e9a4b4f0fa6e1c2b3d4e5f601",
    "8491cabea0afe35617bcc74d6d683cf8",
    "6977a41b730bed9c94a67f00f335c357",
)
RUNNING, RETRYING, HELD = (
    "a0187b4d51209e8f332726d0356a4152",
    "7972a36d51b31a6c20050ed31a6e72b9",
    "b8a6acd69988235655fac783a5998165",
)
ALSO_RUNNING, QUEUED = "c3b1b366b1852ac840e0529930b9f609", "4617edaaa37feba2ec246343272be0ea"
QUARANTINED = "q-0badc0de"
CARD = {"number": "4000 0000 0000 0069", "expires": "2024-01"}


def order(order_id: str) -> dict[str, Any]:
    return {
        "customer_email": "bo@example.com",
        "order_id": order_id,
        "items": [{"sku": "lamp", "count": 2}],
        "amount_eur": 157,
        "card": CARD,
    }


def sample_story() -> Story:
    """Something of everything: what the screenshots and the snapshots show."""
    story = Story()
    unavailable = ConnectionError("payment provider answered 503, try again later")
    declined = Failure("card declined: expired 2024-01; mend card.expires in the payload and replay")

    story.start(DONE, ONBOARDING, labels={"tier": "premium"})
    for _ in ONBOARDING:
        story.done(DONE, {"ok": True}, took=0.8)
    story.wait(20)
    story.start(DEAD, ORDER, order("A-1004"), name="order", labels={"shop": "eu", "tier": "basic"})
    story.done(DEAD, {"order_valid": True}, took=0.4)
    story.done(DEAD, {"in_stock": True}, took=1.9)
    story.fails(DEAD, unavailable, delay=2)
    story.wait(2)
    story.fails(DEAD, declined)
    story.wait(130)
    story.start(RUNNING, SUPPORT, {"ticket": "I cannot sign in"}, name="support")
    story.done(RUNNING, {"priority": "high"}, took=1.2)
    story.done(RUNNING, {"team": "accounts"}, took=0.5)
    story.start(STUCK, ("register-return", "inspect-parcel", "refund-customer"), name="return")
    story.done(STUCK, took=0.3)
    story.wait(45)
    story.quarantine(b'\x1b[2J{"order": oops \xff\xfe')
    story.start(RETRYING, ONBOARDING, labels={"tier": "basic"})
    story.done(RETRYING, {"valid": True}, took=0.6)
    story.done(RETRYING, {"account": "created"}, took=1.6)
    story.fails(RETRYING, unavailable, delay=30)
    story.start(HELD, ONBOARDING, labels={"tier": "premium"})
    story.done(HELD, {"valid": True}, took=0.5, hold="a person has to look at the document")
    story.start(ALSO_RUNNING, ORDER, order("A-1010"), name="order", labels={"shop": "eu"})
    story.done(ALSO_RUNNING, {"order_valid": True}, took=0.4)
    story.runs("orders-1", ALSO_RUNNING, activities=[*ORDER, "register-return"])
    story.runs("support-1", RUNNING, activities=SUPPORT)
    story.runs("onboarding-1", activities=ONBOARDING)
    story.start(QUEUED, ORDER, order("A-1011"), name="order", labels={"shop": "us"})
    story.wait(12)
    return story
