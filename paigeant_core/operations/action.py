"""What the verbs have in common: from which states, what a running step does, what is published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from paigeant_core import transition as moves
from paigeant_core.clock import parse_rfc3339, rfc3339
from paigeant_core.errors import NotEligible
from paigeant_core.journal import State
from paigeant_core.message import PaigeantMessage
from paigeant_core.operations.standing import Standing
from paigeant_core.routing import RoutingSlip
from paigeant_core.transition import OnDeadline, Place, Transition


class Action:
    """One verb. A subclass says from which states it leads where."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    """States it can be done from."""
    at_handoff: ClassVar[bool] = False
    """Whether a running step is asked to do it when it is handed on, its output kept; else it is superseded."""

    def check(self, standing: Standing) -> str:
        """Say what will happen beside the plain effect; empty: nothing to say.

        Raises:
            NotEligible: it cannot be done, with the reason.
        """
        state = standing.state
        if state not in self.needs:
            raise NotEligible(self.refusal(state))
        if standing.wish and self.at_handoff:
            # At most one outstanding operation a workflow.
            raise NotEligible(f"{standing.asker}, which is still to come")
        said = [f"in place of what {standing.asker}"] if standing.wish else []
        if standing.beside is not None:
            worker, holding = standing.beside
            if self.at_handoff:
                said.append(f"when {worker} hands on {holding.activity}, which it runs now; its output is kept")
            else:
                said.append(f"{worker} runs {holding.activity} now; its result will be superseded")
        return "; ".join(said)

    @property
    def edits(self) -> bool:
        """Whether it gives a step another payload than it had."""
        return False

    def queues(self, standing: Standing) -> PaigeantMessage | None:
        """The message that a worker is to run because of it, as far as that is known before; None: none is.

        Raises:
            PaigeantError: it cannot be done.
        """
        return None

    def goes_on(self, standing: Standing, operation_id: str) -> tuple[str, int]:
        """The workflow that goes on because of it, and the epoch above which it does.

        Args:
            standing: as it was checked.
            operation_id: of the operation.
        """
        return standing.headers.correlation_id, standing.headers.epoch

    def refusal(self, state: str) -> str:
        """Why not, from ``state``."""
        return f"it is {state}"

    def asks(self, standing: Standing) -> str:
        """What is asked of the running step in place of a transition; empty: nothing is."""
        return self.name if self.at_handoff and standing.beside is not None else ""

    def details(self) -> dict[str, Any]:
        """What the journal says of this verb beside its name."""
        return {}

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


def next_epoch(
    standing: Standing, at: float, slip: RoutingSlip | None = None, *, attempt: int = 0, payload: bytes | None = None
) -> PaigeantMessage:
    """The message that ``standing`` stands at, one epoch up.

    Args:
        standing: where the workflow stands.
        at: now.
        slip: its new slip; None: as it was.
        attempt: the attempt that it asks for; 0: as it was.
        payload: its new payload; None: as it was.
    """
    message = standing.message()
    headers = message.headers
    return message.replaced(
        message.routing_slip if slip is None else slip,
        timestamp=rfc3339(at),
        attempt=attempt or headers.attempt,
        epoch=headers.epoch + 1,
        payload=payload,
    )


def onward(message: PaigeantMessage, at: float, detail: dict[str, Any]) -> Transition:
    """Publish ``message`` to where its slip leads; where that is at its end, end the workflow."""
    if message.routing_slip.finished and not message.routing_slip.undoing:
        return noted(moves.release(message, at, said(detail)), message, at, detail)
    state = State.COMPENSATING if message.routing_slip.undoing else State.QUEUED
    return Transition(place=Place.WORK, record=moves.operated(message, at, detail, state=state, body=True))


def back_to(before: Mapping[str, Any], message: PaigeantMessage, at: float, detail: dict[str, Any]) -> Transition:
    """Publish ``message`` to where the workflow stood: parked where it was parked, else in its queue.

    Args:
        before: the journal's words for where it stood, see :meth:`Standing.before`.
        message: what to publish.
        at: now.
        detail: for the journal.
    """
    state = before.get("state")
    if state == State.HELD:
        hold = before.get("hold")
        known: Mapping[str, Any] = hold if isinstance(hold, dict) else {}
        until = max(0.0, parse_rfc3339(known["until"]) - at) if "until" in known else None
        on_deadline: OnDeadline = "release" if known.get("on_deadline") == "release" else "dead_letter"
        about = {**said(detail), **{key: known[key] for key in _OF_A_HOLD if key in known}}
        held = moves.hold(message, at, about, "", until, on_deadline)
        return noted(held, message, at, detail)
    if state in (State.DEAD, State.COMPENSATION_FAILED):
        detail["before"] = before.get("before", {})
        if "error" in before:
            detail["error"] = before["error"]
        return Transition(place=Place.DEAD, record=moves.operated(message, at, detail, state=State(state), body=True))
    return onward(message, at, detail)


_OF_A_HOLD = ("reason", "held", "error", "token_expires_at")
_REPEATED = ("action", "operator", "operation_id", "reason", "before", "changed")


def said(detail: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an operation's detail that the record of its effect repeats."""
    return {key: detail[key] for key in _REPEATED if key in detail}


def noted(transition: Transition, message: PaigeantMessage, at: float, detail: dict[str, Any]) -> Transition:
    """``transition``, with the record that somebody acted just ahead of it."""
    transition.before = (moves.operated(message, at, detail),)
    return transition
