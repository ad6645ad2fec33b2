"""Verbs that run something again: retry, replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, ClassVar

import msgspec

from paigeant_core import transition as moves
from paigeant_core.clock import rfc3339
from paigeant_core.errors import NotEligible
from paigeant_core.journal import Kind, State, without_late
from paigeant_core.message import PaigeantMessage
from paigeant_core.operations.action import Action, next_epoch, onward
from paigeant_core.operations.standing import LIVE, Standing, message_in
from paigeant_core.payload import check_payload, merge_payload
from paigeant_core.routing import Step
from paigeant_core.transition import Transition

_AGAIN = frozenset({"retry", "replay"})


def _copy_of(correlation_id: str, operation_id: str) -> str:
    """The ID of the workflow that an operation starts beside another one.

    The same whenever the operation comes to that: one that is gone on with starts no second copy.
    """
    return sha256(f"{operation_id}/{correlation_id}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Retry(Action):
    """Run the step where the workflow stands again, now, with attempts starting anew.

    From queued, running, retrying, dead, compensating and compensation_failed to queued
    (compensating, while steps are undone). Same run and hop, so the same idempotency
    key; the epoch rises. Journalled as one ``operated`` record with the message. A
    worker in the middle of the step runs on, and its result is superseded.
    """

    name: ClassVar[str] = "retry"
    needs: ClassVar[frozenset[str]] = LIVE | {State.DEAD, State.COMPENSATION_FAILED}

    def refusal(self, state: str) -> str:
        """Why not, from ``state``."""
        return {
            State.HELD: "it is held: release it instead",
            State.COMPLETED: "it is completed: replay it from a step instead",
            State.COMPENSATED: "it is compensated: replay it from a step instead",
            State.CANCELLED: "it is cancelled: replay it instead",
            State.QUARANTINED: "it is quarantined: nobody can read it",
        }.get(State(state), f"it is {state}")

    def check(self, standing: Standing) -> str:
        """See :meth:`Action.check`."""
        said, record = Action.check(self, standing), standing.record
        if standing.state == State.QUEUED and record.kind == Kind.OPERATED and record.detail.get("action") in _AGAIN:
            who = f"{record.detail.get('operator', 'somebody')} asked for it at {rfc3339(record.at)}"
            # Not refused: its message may be in quarantine, or lost.
            return "; ".join(filter(None, (f"it is being retried: {who}, and no worker says it runs it", said)))
        return said

    def queues(self, standing: Standing) -> PaigeantMessage | None:
        """See :meth:`Action.queues`."""
        return standing.message()

    def apply(self, standing: Standing, at: float, detail: dict[str, Any]) -> Transition:
        """See :meth:`Action.apply`."""
        return onward(next_epoch(standing, at, attempt=1), at, detail)


@dataclass(frozen=True, slots=True)
class Replay(Action):
    """Do the work again from a hop that the journal holds, with its payload as it was or mended.

    From every state but quarantined to queued, in a new run and a new epoch: somebody
    asked for the work again, so the idempotency key is a new one. Journalled as one
    ``operated`` record with the message. A worker in the middle of a step runs on, and
    its result is superseded.

    Attributes:
        from_step: a hop (1…) or an activity (its last occurrence so far); None: where
            the workflow stands, unless it is completed or its steps were undone.
        payload: bytes of a JSON object in place of the payload; None: as it was at that hop.
        changes: single fields that are changed; a ``msgspec.Raw`` stays as it was written.
        itinerary: steps to do from there, in place of those that were left; None: as they were.
        as_new: leave the workflow alone and start another one there.
    """

    name: ClassVar[str] = "replay"
    needs: ClassVar[frozenset[str]] = frozenset(State) - {State.QUARANTINED}

    from_step: int | str | None = None
    payload: bytes | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    as_new: bool = False
    itinerary: tuple[Step, ...] | None = None

    def refusal(self, state: str) -> str:
        """Why not, from ``state``."""
        return "it is quarantined: nobody can read it"

    def check(self, standing: Standing) -> str:
        """See :meth:`Action.check`."""
        beside = Action.check(self, standing)
        hop = self._prepare(standing, 0.0).headers.hop
        executed = standing.message().routing_slip.executed
        undone = ", ".join(str(executed[each - 1]) for each in _undone(standing) if each < hop)
        behind = f"steps before it were undone, and are not done again: {undone}" if undone else ""
        return "; ".join(filter(None, ("" if self.as_new else beside, behind)))

    @property
    def edits(self) -> bool:
        """See :attr:`Action.edits`."""
        return self.payload is not None or bool(self.changes)

    def queues(self, standing: Standing) -> PaigeantMessage | None:
        """See :meth:`Action.queues`."""
        return self._prepare(standing, 0.0)

    def goes_on(self, standing: Standing, operation_id: str) -> tuple[str, int]:
        """See :meth:`Action.goes_on`."""
        if self.as_new:
            return _copy_of(standing.headers.correlation_id, operation_id), 0
        return Action.goes_on(self, standing, operation_id)

    def apply(self, standing: Standing, at: float, detail: dict[str, Any]) -> Transition:
        """See :meth:`Action.apply`."""
        following = self._prepare(standing, at, detail.get("operation_id", ""))
        detail["from_hop"] = following.headers.hop
        if self.payload is not None:
            detail["payload"] = "replaced"
        if self.changes:
            detail["changed"] = sorted(self.changes)
        if self.itinerary is not None:
            detail["itinerary"] = [step.to_document() for step in self.itinerary]
        if self.as_new:
            start = moves.dispatch(following, at)
            start.record.detail.update({**detail, "replay_of": standing.headers.correlation_id})
            return start
        return onward(following, at, detail)

    def _prepare(self, standing: Standing, at: float, operation_id: str = "") -> PaigeantMessage:
        source, now = self._source(standing), standing.message()
        slip = source.routing_slip.copy()
        slip.undoing = 0
        if self.itinerary is not None:
            if source.records:
                raise NotEligible("it is signed, and so is its itinerary: skip and insert change it, each signed")
            slip.itinerary.clear()
            slip.insert_next(*self.itinerary)
        if slip.finished:
            raise NotEligible("it has no step left to replay: name one with --from-step")
        payload = source.payload_bytes if self.payload is None else check_payload(self.payload)
        if self.changes:
            payload = merge_payload(payload, self.changes)
        current = standing.headers
        # On whose behalf it runs is not a matter of the hop: it may have been given another token since.
        source.delegated(now.delegation, now.secrets[0] if now.secrets else None)
        following = source.replaced(
            slip, timestamp=rfc3339(at), run=current.run + 1, epoch=current.epoch + 1, payload=payload
        )
        if self.as_new:
            copy = _copy_of(current.correlation_id, operation_id)
            fresh = {"correlation_id": copy, "run": 1, "epoch": 1, "created_at": rfc3339(at)}
            following.headers = msgspec.structs.replace(following.headers, **fresh)
            if following.delegation is not None:
                # What carries the token is bound to the workflow that it was given to.
                following.delegation = following.delegation.summary()
            following.records = []  # they are of another workflow
        return following

    def _source(self, standing: Standing) -> PaigeantMessage:
        if self.from_step is None:
            if standing.record.state == State.COMPLETED and self.itinerary is None:
                raise NotEligible("it is completed: name the step to replay from with --from-step")
            message = standing.message()
            # Where it stands, the steps behind it are not done any more.
            if standing.record.state == State.COMPENSATED:
                raise NotEligible("it is compensated: name the step to replay from with --from-step")
            if message.routing_slip.undoing:
                raise NotEligible("its steps are being undone: name the step to replay from with --from-step")
            return message
        hop = self._hop(standing)
        for record in reversed(without_late(standing.history)):
            # A parked copy of the hop is as good as the one that was published.
            if record.state and record.headers.hop == hop and record.body is not None:
                message = message_in(record)
                if not message.routing_slip.finished and len(message.routing_slip.executed) == hop - 1:
                    return message
        raise NotEligible(f"hop {hop} is not in the journal any more, or was not reached")

    def _hop(self, standing: Standing) -> int:
        slip = standing.message().routing_slip
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


def _undone(standing: Standing) -> list[int]:
    """Hops that were undone and not done again since, as far as the journal tells."""
    undone: set[int] = set()
    for record in without_late(standing.history):
        hop = record.detail.get("hop")
        if record.state and type(hop) is int:
            if record.detail.get("undo") == "done":
                undone.add(hop)
            else:
                undone.discard(hop)
    return sorted(undone)
