"""Verbs that take a workflow out of the way, and bring it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

from paigeant_core import transition as moves
from paigeant_core.clock import rfc3339
from paigeant_core.delegation import Delegation, delegation_of
from paigeant_core.errors import InvalidMessage, NotEligible
from paigeant_core.handoff import GO_ON
from paigeant_core.journal import State
from paigeant_core.message import PaigeantMessage
from paigeant_core.operations.action import Action, back_to, next_epoch, noted, said
from paigeant_core.operations.standing import LIVE, Standing
from paigeant_core.payload import merge_payload
from paigeant_core.permission import check_scopes
from paigeant_core.secret import Secret
from paigeant_core.transition import Transition

if TYPE_CHECKING:
    # Not at run time: who hands over no token starts without the cryptography.
    from paigeant_core.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Hold(Action):
    """Park the workflow where it stands, until it is released.

    From queued, running, retrying and compensating to held; the epoch rises. Journalled
    as ``operated`` and ``held``. A worker in the middle of the step finishes it, and the
    workflow is held at its hand-off with the output kept, in the same epoch; until then
    ``operated`` stands in the journal and the state is as before. A step that parks
    itself until a time is held past that. A step that completes or dead-letters the
    workflow leaves nothing to be held.
    """

    name: ClassVar[str] = "hold"
    needs: ClassVar[frozenset[str]] = LIVE
    at_handoff: ClassVar[bool] = True

    def apply(self, standing: Standing, at: float, detail: dict[str, Any]) -> Transition:
        """See :meth:`Action.apply`."""
        message = next_epoch(standing, at)
        return noted(moves.hold(message, at, said(detail)), message, at, detail)


@dataclass(frozen=True, slots=True)
class Release(Action):
    """Let a held workflow go on; with values, that is a person's answer.

    From held to queued (compensating, while steps are undone; completed, where no step
    is left), at the attempt that it was held at; the epoch rises. Journalled as
    ``operated`` and ``released`` (or ``finished``). Nobody runs a held step. Of a
    running step whose hold is still to come it takes that back, journalled as one
    ``operated``, in the same epoch; the worker notices nothing.

    One that was held because its user's token is over goes on with another one, of the
    same user and for no more than before.

    Attributes:
        values: fields that are put into the payload; a ``msgspec.Raw`` stays as it was written.
        token: the user's new token; None: it goes on with the one that it has.
        tokens: lets that ride sealed; None: only in memory can it ride as it is.
    """

    name: ClassVar[str] = "release"
    needs: ClassVar[frozenset[str]] = frozenset({State.HELD})

    values: Mapping[str, Any] = field(default_factory=dict)
    token: Secret | None = field(default=None, repr=False)
    tokens: Tokens | None = field(default=None, repr=False)

    def check(self, standing: Standing) -> str:
        """See :meth:`Action.check`."""
        if self.asks(standing):
            if self.values or self.token is not None:
                raise NotEligible("it is not held yet: values or a token can be given when it is")
            return f"takes back what {standing.asker}"
        beside = Action.check(self, standing)
        merge_payload(standing.message().payload_bytes, self.values)
        if self.token is not None:
            self._renewed(standing.message(), self.token)
        return beside

    @property
    def edits(self) -> bool:
        """See :attr:`Action.edits`."""
        return bool(self.values)

    def queues(self, standing: Standing) -> PaigeantMessage | None:
        """See :meth:`Action.queues`."""
        if self.asks(standing):
            return None
        return next_epoch(standing, 0.0, payload=merge_payload(standing.message().payload_bytes, self.values))

    def asks(self, standing: Standing) -> str:
        """See :meth:`Action.asks`."""
        return GO_ON if standing.wish == "hold" else ""

    def apply(self, standing: Standing, at: float, detail: dict[str, Any]) -> Transition:
        """See :meth:`Action.apply`."""
        if self.values:
            detail["changed"] = sorted(self.values)
        payload = merge_payload(standing.message().payload_bytes, self.values)
        message = next_epoch(standing, at, payload=payload)
        if self.token is not None:
            renewed = self._renewed(message, self.token)
            if renewed.expired(at):
                raise NotEligible(f"the new token expired at {rfc3339(renewed.exp)}")
            if self.tokens is None:
                message.delegated(renewed, self.token)
            else:
                message.delegated(self.tokens.carry(message.correlation_id, self.token, renewed), None)
            detail["reauthorized"] = True
        return noted(moves.release(message, at, said(detail)), message, at, detail)

    def _renewed(self, message: PaigeantMessage, token: Secret) -> Delegation:
        """What is known of the new token, if it may take the place of the one before.

        Raises:
            NotEligible: why not.
        """
        before = message.delegation
        if before is None:
            raise NotEligible("it runs on nobody's behalf: no token can be handed to it")
        if self.tokens is None and not message.in_clear:
            raise NotEligible("its token rides sealed: to hand it a new one needs the topic key, see PAIGEANT_TOKENS")
        try:
            renewed = delegation_of(token)
            if why := before.narrowed_by(renewed):
                raise NotEligible(f"the new token cannot take the place of the one before: {why}")
            check_scopes(message.routing_slip, renewed, strict=before.scope is not None)
        except InvalidMessage as error:
            raise NotEligible(f"the new token will not do: {error}") from None
        return renewed


@dataclass(frozen=True, slots=True)
class Cancel(Action):
    """End the workflow where it stands.

    From queued, running, retrying, held, dead, compensating and compensation_failed to
    cancelled; the epoch rises. Journalled as ``operated`` and ``cancelled``, with the
    message. A worker in the middle of the step finishes it, and the workflow is
    cancelled at its hand-off with the output kept, in the same epoch; where that was
    the last step the workflow is completed instead. Executed steps are not undone.
    """

    name: ClassVar[str] = "cancel"
    needs: ClassVar[frozenset[str]] = LIVE | {State.HELD, State.DEAD, State.COMPENSATION_FAILED}
    at_handoff: ClassVar[bool] = True

    def apply(self, standing: Standing, at: float, detail: dict[str, Any]) -> Transition:
        """See :meth:`Action.apply`."""
        message = next_epoch(standing, at)
        return noted(moves.cancel(message, at, said(detail)), message, at, detail)


@dataclass(frozen=True, slots=True)
class DeadLetter(Action):
    """Take the workflow out of the way: park its message among the dead letters.

    From queued, running, retrying, held, compensating and compensation_failed to dead;
    the epoch rises. Journalled as ``operated`` and ``dead_lettered``. A worker in the
    middle of the step runs on, and its result is superseded.
    """

    name: ClassVar[str] = "dead-letter"
    needs: ClassVar[frozenset[str]] = LIVE | {State.HELD, State.COMPENSATION_FAILED}

    def apply(self, standing: Standing, at: float, detail: dict[str, Any]) -> Transition:
        """See :meth:`Action.apply`."""
        message = next_epoch(standing, at)
        about = {**said(detail), "why": detail["reason"]}
        del about["reason"]
        return noted(moves.dead_letter(message, at, reason="operator", detail=about), message, at, detail)


@dataclass(frozen=True, slots=True)
class Restore(Action):
    """Bring a workflow out of the dead letters, or its message out of quarantine, to where it was.

    From dead and compensation_failed to queued or compensating at the attempt that it
    stood at (so one that had failed for good fails again with its next failure), and to
    held where an operator had dead-lettered a held one; the epoch rises. Journalled as
    one ``operated`` record with the message, or ``operated`` and ``held``. Nobody runs
    a dead step. Of what is quarantined it needs a message that can be read by now, and
    whose workflow still stands at it: that goes on as if it were dead, and the entry in
    quarantine is ``cancelled``.
    """

    name: ClassVar[str] = "restore"
    needs: ClassVar[frozenset[str]] = frozenset({State.DEAD, State.COMPENSATION_FAILED, State.QUARANTINED})

    def check(self, standing: Standing) -> str:
        """See :meth:`Action.check`."""
        beside = Action.check(self, standing)
        standing.message()
        return beside

    def queues(self, standing: Standing) -> PaigeantMessage | None:
        """See :meth:`Action.queues`."""
        return None if _stood(standing).get("state") == State.HELD else standing.message()

    def goes_on(self, standing: Standing, operation_id: str) -> tuple[str, int]:
        """See :meth:`Action.goes_on`."""
        if standing.state != State.QUARANTINED or standing.record.body is None:
            return Action.goes_on(self, standing, operation_id)  # erased since, it is not restored
        headers = standing.message().headers
        return headers.correlation_id, headers.epoch

    def refusal(self, state: str) -> str:
        """Why not, from ``state``."""
        return f"it is {state}, not among the dead letters"

    def apply(self, standing: Standing, at: float, detail: dict[str, Any]) -> Transition:
        """See :meth:`Action.apply`."""
        return back_to(_stood(standing), next_epoch(standing, at), at, detail)


UNDOABLE: Final = frozenset({Hold.name, Cancel.name, DeadLetter.name})
"""What can be undone: nothing was run, and the workflow goes back to where it stood."""


@dataclass(frozen=True, slots=True)
class Undo(Action):
    """Undo a hold, a cancel or a dead-letter while nothing else happened to the workflow.

    From held, cancelled and dead by that operation to where the workflow stood before;
    what it still asks of a running step is taken back. The epoch rises, but for that.
    Journalled as one ``operated`` record with the message (``operated`` and ``held``
    where it was held before). Nobody runs such a step.

    Attributes:
        operation_id: the operation that is undone.
    """

    name: ClassVar[str] = "undo"
    needs: ClassVar[frozenset[str]] = frozenset(State)

    operation_id: str

    def check(self, standing: Standing) -> str:
        """See :meth:`Action.check`."""
        if self.asks(standing):
            return f"takes back what {standing.asker}"
        done = [record.detail for record in standing.history if record.detail.get("operation_id") == self.operation_id]
        action = next((detail["action"] for detail in done if "action" in detail), None)
        if action is None:
            raise NotEligible(f"that operation did nothing to it, as far as the journal tells: it is {standing.state}")
        # First of all: whatever happened since, it could not have been undone before that either.
        if action not in UNDOABLE:
            raise NotEligible(f"{str(action)[:40]} cannot be undone: only hold, cancel and dead-letter can")
        if standing.record.detail.get("operation_id") != self.operation_id:
            raise NotEligible(f"something else happened to it since: it is {standing.state}")
        standing.message()
        return ""

    def asks(self, standing: Standing) -> str:
        """See :meth:`Action.asks`."""
        asked = standing.asked
        return GO_ON if standing.wish and asked and asked.detail.get("operation_id") == self.operation_id else ""

    def details(self) -> dict[str, Any]:
        """See :meth:`Action.details`."""
        return {"undone": self.operation_id}

    def apply(self, standing: Standing, at: float, detail: dict[str, Any]) -> Transition:
        """See :meth:`Action.apply`."""
        return back_to(_stood(standing), next_epoch(standing, at), at, detail)


def _stood(standing: Standing) -> Mapping[str, Any]:
    """Where the workflow stood before it was taken out of the way, in the journal's words."""
    before = standing.record.detail.get("before")
    return before if isinstance(before, dict) else {}
