"""The one command bus: every act on workflows is planned, checked, done and recorded here.

    operations = Operations(transport, "workflows", operator="ann@desk")
    plan = await operations.plan(Retry(), ["3f2a…"], reason="provider is back")
    for line in plan.lines: ...          # eligible or why not, and what will happen
    report = await operations.execute(plan)

No operation moves an old copy: it raises the epoch by compare-and-set and publishes
anew, and the old copy dies at the fence. Read-only is looked at before anything else.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import msgspec

from paigeant_core import transition as moves
from paigeant_core.clock import rfc3339
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import (
    AmbiguousID,
    InvalidMessage,
    NotEligible,
    PaigeantError,
    Refused,
    WorkflowNotFound,
)
from paigeant_core.journal import ENDED, Record, State
from paigeant_core.limits import BULK_LIMIT
from paigeant_core.message import Headers, PaigeantMessage, check_payload, merge_payload
from paigeant_core.names import new_id
from paigeant_core.transition import Place, Transition
from paigeant_core.transports import Transport
from paigeant_core.transports.types import Holding, Settled, WorkerStatus

MAX_REASON = 1000


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one workflow stands, as the broker tells it now.

    Attributes:
        record: the last journal record that named a state.
        history: all its records, oldest first.
        beside: the worker that runs its step now, by its own report; else None.
    """

    record: Record
    history: Sequence[Record]
    beside: tuple[str, Holding] | None = None

    @property
    def state(self) -> str:
        """The state, ``running`` included."""
        return State.RUNNING if self.beside and self.record.state == State.QUEUED else self.record.state

    @property
    def headers(self) -> Headers:
        """Of the last message."""
        return self.record.headers


class Action:
    """One verb. A subclass says from which states it leads where."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    """States it can be done from."""

    def check(self, standing: Standing) -> str:
        """Say what will happen beside the plain effect; empty: nothing to say.

        Raises:
            NotEligible: it cannot be done, with the reason.
        """
        state = standing.state
        if state not in self.needs:
            raise NotEligible(self.refusal(state))
        if standing.beside is not None:
            worker, holding = standing.beside
            return f"{worker} runs {holding.activity} now; its result will be superseded"
        return ""

    def refusal(self, state: str) -> str:
        """Why not, from ``state``."""
        return f"it is {state}"

    def apply(self, standing: Standing, at: float, detail: dict[str, Any]) -> Transition:
        """The transition that does it.

        Args:
            standing: as it was checked.
            at: now.
            detail: who, why, which operation; for the journal.

        Raises:
            PaigeantError: it cannot be done after all.
        """
        raise NotEligible(f"{self.name} cannot be done")


_LIVE = frozenset({State.QUEUED, State.RUNNING, State.RETRYING, State.COMPENSATING})


@dataclass(frozen=True, slots=True)
class Retry(Action):
    """Run the step where the workflow stands again, now, with attempts starting anew.

    From queued, running, retrying, dead, compensating and compensation_failed to queued
    (compensating, while steps are undone). Same run and hop, so the same idempotency
    key; the epoch rises. Journalled as one ``operated`` record with the message. A
    worker in the middle of the step runs on, and its result is superseded.
    """

    name: ClassVar[str] = "retry"
    needs: ClassVar[frozenset[str]] = _LIVE | {State.DEAD, State.COMPENSATION_FAILED}

    def refusal(self, state: str) -> str:
        """Why not, from ``state``."""
        return {
            State.HELD: "it is held: release it instead",
            State.COMPLETED: "it is completed: replay it from a step instead",
            State.COMPENSATED: "it is compensated: replay it from a step instead",
            State.CANCELLED: "it is cancelled: replay it instead",
            State.QUARANTINED: "it is quarantined: nobody can read it",
        }.get(State(state), f"it is {state}")

    def apply(self, standing: Standing, at: float, detail: dict[str, Any]) -> Transition:
        """See :meth:`Action.apply`."""
        message = _message(standing.record)
        following = message.replaced(message.routing_slip, timestamp=rfc3339(at), epoch=message.headers.epoch + 1)
        return _reissue(following, at, detail)


@dataclass(frozen=True, slots=True)
class Replay(Action):
    """Do the work again from a hop that the journal holds, with its payload as it was or mended.

    From every state but quarantined to queued, in a new run and a new epoch: somebody
    asked for the work again, so the idempotency key is a new one. Journalled as one
    ``operated`` record with the message. A worker in the middle of a step runs on, and
    its result is superseded.

    Attributes:
        from_step: a hop (1…) or an activity (its last occurrence so far); None: where
            the workflow stands.
        payload: bytes of a JSON object in place of the payload; None: as it was at that hop.
        changes: single fields that are changed.
        as_new: leave the workflow alone and start another one there.
    """

    name: ClassVar[str] = "replay"
    needs: ClassVar[frozenset[str]] = frozenset(State) - {State.QUARANTINED}

    from_step: int | str | None = None
    payload: bytes | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    as_new: bool = False

    def refusal(self, state: str) -> str:
        """Why not, from ``state``."""
        return "it is quarantined: nobody can read it"

    def check(self, standing: Standing) -> str:
        """See :meth:`Action.check`."""
        beside = Action.check(self, standing)
        self._prepare(standing, 0.0)
        return "" if self.as_new else beside

    def apply(self, standing: Standing, at: float, detail: dict[str, Any]) -> Transition:
        """See :meth:`Action.apply`."""
        following = self._prepare(standing, at)
        detail["from_hop"] = following.headers.hop
        if self.payload is not None:
            detail["payload"] = "replaced"
        if self.changes:
            detail["changed"] = sorted(self.changes)
        if self.as_new:
            start = moves.dispatch(following, at)
            start.record.detail.update({**detail, "replay_of": standing.headers.correlation_id})
            return start
        return _reissue(following, at, detail)

    def _prepare(self, standing: Standing, at: float) -> PaigeantMessage:
        source = self._source(standing)
        slip = source.routing_slip.copy()
        slip.undoing = 0
        if slip.finished:
            raise NotEligible("it has no step left to replay: name one with --from-step")
        payload = source.payload_bytes if self.payload is None else check_payload(self.payload)
        if self.changes:
            payload = merge_payload(payload, self.changes)
        current = standing.headers
        following = source.replaced(
            slip, timestamp=rfc3339(at), run=current.run + 1, epoch=current.epoch + 1, payload=payload
        )
        if self.as_new:
            fresh = {"correlation_id": new_id(), "run": 1, "epoch": 1, "created_at": rfc3339(at)}
            following.headers = msgspec.structs.replace(following.headers, **fresh)
        return following

    def _source(self, standing: Standing) -> PaigeantMessage:
        if self.from_step is None:
            if standing.record.state == State.COMPLETED:
                raise NotEligible("it is completed: name the step to replay from with --from-step")
            return _message(standing.record)
        hop = self._hop(standing)
        for record in reversed(standing.history):
            # A parked copy of the hop is as good as the one that was published.
            if record.state and record.headers.hop == hop and record.body is not None:
                message = _message(record)
                if not message.routing_slip.finished and len(message.routing_slip.executed) == hop - 1:
                    return message
        raise NotEligible(f"hop {hop} is not in the journal any more, or was not reached")

    def _hop(self, standing: Standing) -> int:
        slip = _message(standing.record).routing_slip
        reached = len(slip.executed) + (0 if slip.finished else 1)
        if isinstance(self.from_step, int):
            if not 1 <= self.from_step <= reached:
                raise NotEligible(f"hop {self.from_step} was not reached: the workflow came to hop {reached}")
            return self.from_step
        names = slip.names()[:reached]
        for hop in range(len(names), 0, -1):
            if names[hop - 1] == self.from_step:
                return hop
        raise NotEligible(f"step {ascii(self.from_step)[:80]} was not reached; so far: {', '.join(names)}")


@dataclass(frozen=True, slots=True)
class DeadLetter(Action):
    """Take the workflow out of the way: park its message among the dead letters.

    From queued, running, retrying, held, compensating and compensation_failed to dead;
    the epoch rises. Journalled as ``operated`` and ``dead_lettered``. A worker in the
    middle of the step runs on, and its result is superseded.
    """

    name: ClassVar[str] = "dead-letter"
    needs: ClassVar[frozenset[str]] = _LIVE | {State.HELD, State.COMPENSATION_FAILED}

    def apply(self, standing: Standing, at: float, detail: dict[str, Any]) -> Transition:
        """See :meth:`Action.apply`."""
        message = _message(standing.record)
        following = message.replaced(
            message.routing_slip,
            timestamp=rfc3339(at),
            attempt=message.headers.attempt,
            epoch=message.headers.epoch + 1,
        )
        said = {"operator": detail["operator"], "operation_id": detail["operation_id"], "why": detail["reason"]}
        parked = moves.dead_letter(following, at, reason="operator", detail=said)
        parked.before = (moves.operated(following, at, detail),)
        return parked


@dataclass(frozen=True, slots=True)
class Line:
    """What a plan says of one workflow.

    Attributes:
        correlation_id: which.
        standing: where it stands; None: there is no such workflow.
        eligible: whether the operation will be tried on it.
        why: why not; or what else will happen; may be empty.
    """

    correlation_id: str
    standing: Standing | None
    eligible: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """An operation before it is done: the selection, frozen, each with its preflight."""

    operation_id: str
    action: Action
    reason: str
    lines: tuple[Line, ...]

    @property
    def eligible(self) -> int:
        """How many it will be tried on."""
        return sum(line.eligible for line in self.lines)


@dataclass(frozen=True, slots=True)
class Result:
    """How the operation ended for one workflow."""

    correlation_id: str
    outcome: Literal["done", "skipped", "failed"]
    reason: str = ""
    new_correlation_id: str = ""

    def to_document(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        document = {"correlation_id": self.correlation_id, "outcome": self.outcome, "reason": self.reason or None}
        if self.new_correlation_id:
            document["new_correlation_id"] = self.new_correlation_id
        return document


@dataclass(frozen=True, slots=True)
class Report:
    """How an operation ended."""

    operation_id: str
    results: tuple[Result, ...]

    def count(self, outcome: str) -> int:
        """How many ended so."""
        return sum(result.outcome == outcome for result in self.results)

    def to_document(self) -> dict[str, Any]:
        """The summary as ``--json`` shows it."""
        return {
            "summary": True,
            "operation_id": self.operation_id,
            "matched": len(self.results),
            "done": self.count("done"),
            "skipped": self.count("skipped"),
            "failed": self.count("failed"),
        }


class Operations:
    """Acts on the workflows of one topic, on behalf of one operator.

    Args:
        transport: where.
        topic: the topic.
        operator: who acts; None: user and host.
        read_only: refuse every operation.
        limit: workflows that one operation may touch.
    """

    def __init__(
        self,
        transport: Transport,
        topic: str = "workflows",
        *,
        operator: str | None = None,
        read_only: bool = False,
        limit: int = BULK_LIMIT,
    ) -> None:
        self.transport = transport
        self.topic = topic
        self.operator = operator or default_operator()
        self.read_only = read_only
        self.limit = limit

    async def resolve(self, prefix: str) -> str:
        """The one correlation ID that ``prefix`` stands for.

        Raises:
            WorkflowNotFound: there is none.
            AmbiguousID: there is more than one.
        """
        found = await self.transport.find(self.topic, prefix, 6) if prefix else []
        if len(found) == 1:
            return found[0]
        if not found:
            raise WorkflowNotFound(f"no workflow {ascii(prefix)[:140]} in topic {self.topic}")
        shown = ", ".join(sorted(found)[:5]) + (", …" if len(found) > 5 else "")
        raise AmbiguousID(f"{ascii(prefix)[:140]} is the beginning of more than one ID: {shown}")

    async def standing(self, correlation_id: str, workers: Sequence[WorkerStatus] | None = None) -> Standing | None:
        """Where a workflow stands now, or None.

        Args:
            correlation_id: its whole ID.
            workers: who lives, where that is known already.
        """
        history = await self.transport.history(self.topic, correlation_id)
        return standing_of(history, await self.transport.workers(self.topic) if workers is None else workers)

    async def plan(self, action: Action, correlation_ids: Sequence[str], *, reason: str) -> Plan:
        """Look at each workflow and say what would happen; nothing is done.

        Args:
            action: what to do.
            correlation_ids: whole IDs; twice the same counts once.
            reason: why, for the audit.

        Raises:
            Refused: read-only, no reason, or more workflows than the limit.
            WorkflowNotFound: none was named.
        """
        self._allow(action)
        if not reason.strip() or len(reason) > MAX_REASON:
            raise Refused(f"{action.name}: give a reason of 1 to {MAX_REASON} characters, it is kept in the audit")
        ids = list(dict.fromkeys(correlation_ids))
        if not ids:
            raise WorkflowNotFound(f"{action.name}: nothing matched")
        if len(ids) > self.limit:
            raise Refused(
                f"{action.name}: {len(ids)} workflows matched, the limit is {self.limit}; raise it with --limit"
            )
        workers = await self.transport.workers(self.topic)
        lines = [self._line(action, item, await self.standing(item, workers)) for item in ids]
        return Plan(new_id()[:16], action, reason.strip(), tuple(lines))

    def _line(self, action: Action, correlation_id: str, standing: Standing | None) -> Line:
        if standing is None:
            return Line(correlation_id, None, False, "there is no such workflow")
        try:
            return Line(correlation_id, standing, True, action.check(standing))
        except PaigeantError as error:
            return Line(correlation_id, standing, False, str(error))

    async def dispatch(self, steps: Sequence[object], variables: Mapping[str, Any] | None = None) -> str:
        """Start a workflow, unless this is read-only; see :meth:`WorkflowDispatcher.dispatch_workflow`.

        Raises:
            Refused: read-only.
        """
        if self.read_only:
            raise Refused("dispatch: this is read-only")
        return await WorkflowDispatcher(self.transport).dispatch_workflow(steps, variables, topic=self.topic)

    async def execute(self, plan: Plan, *, progress: Callable[[Result], None] | None = None) -> Report:
        """Do what was planned; a workflow that moved since is left alone and reported.

        Args:
            plan: from :meth:`plan`.
            progress: called with each result.

        Raises:
            Refused: read-only.
        """
        self._allow(plan.action)
        results = []
        for line in plan.lines:
            result = await self._act(plan, line)
            results.append(result)
            if progress is not None:
                progress(result)
        report = Report(plan.operation_id, tuple(results))
        await self._audit(plan, report)
        return report

    async def _act(self, plan: Plan, line: Line) -> Result:
        if not line.eligible or line.standing is None:
            return Result(line.correlation_id, "skipped", line.why)
        at = self.transport.clock.now()
        headers = line.standing.headers
        detail: dict[str, Any] = {
            "action": plan.action.name,
            "operator": self.operator,
            "reason": plan.reason,
            "operation_id": plan.operation_id,
            "before": {"state": str(line.standing.state), "hop": headers.hop, "attempt": headers.attempt},
        }
        try:
            transition = plan.action.apply(line.standing, at, detail)
            new = transition.record.headers.correlation_id
            if new != line.correlation_id:
                await self.transport.dispatch(self.topic, transition, chosen_id=False)
                return Result(line.correlation_id, "done", f"started as {new}", new)
            settled = await self.transport.operate(self.topic, transition, expect=line.standing.record.id)
        except PaigeantError as error:
            return Result(line.correlation_id, "failed", str(error))
        if settled is Settled.SUPERSEDED:
            return Result(line.correlation_id, "failed", "the workflow moved meanwhile: look again")
        return Result(line.correlation_id, "done")

    async def _audit(self, plan: Plan, report: Report) -> None:
        entry = {
            "at": rfc3339(self.transport.clock.now()),
            "operator": self.operator,
            "action": plan.action.name,
            "reason": plan.reason,
            "operation_id": plan.operation_id,
            "targets": len(plan.lines),
            "outcome": ", ".join(f"{report.count(item)} {item}" for item in ("done", "skipped", "failed")),
        }
        await self.transport.append_audit(self.topic, msgspec.json.encode(entry))

    def _allow(self, action: Action) -> None:
        if self.read_only:
            raise Refused(f"{action.name}: this is read-only")


def standing_of(history: Sequence[Record], workers: Sequence[WorkerStatus]) -> Standing | None:
    """Where the workflow of ``history`` stands; None where no record names a state."""
    current: Record | None = None
    for record in history:
        # A copy of an older epoch that was late changes nothing.
        if record.state and (current is None or record.headers.epoch >= current.headers.epoch):
            current = record
    if current is None:
        return None
    return Standing(current, history, running_by(current.headers, current.state, workers))


def running_by(headers: Headers, state: str, workers: Sequence[WorkerStatus]) -> tuple[str, Holding] | None:
    """The worker that says it runs just this hop, attempt and epoch."""
    if state in ENDED or state not in _LIVE:
        return None
    for status in workers:
        for held in status.running:
            if (
                held.correlation_id == headers.correlation_id
                and (held.hop, held.run, held.epoch) == (headers.hop, headers.run, headers.epoch)
                and held.attempt == headers.attempt
            ):
                return status.info.worker, held
    return None


def default_operator() -> str:
    """User and host of this process: a claim, not a proof."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def _message(record: Record) -> PaigeantMessage:
    if record.body is None:
        raise NotEligible("its message is not in the journal any more")
    try:
        return PaigeantMessage.decode(record.body)
    except PaigeantError as error:
        raise InvalidMessage(f"its message cannot be read: {error}") from None


def _reissue(message: PaigeantMessage, at: float, detail: dict[str, Any]) -> Transition:
    state = State.COMPENSATING if message.routing_slip.undoing else State.QUEUED
    return Transition(place=Place.WORK, record=moves.operated(message, at, detail, state=state, body=True))
