"""Verbs that change what a workflow has to do: skip, insert, compensate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from paigeant_core import transition as moves
from paigeant_core.errors import NotEligible
from paigeant_core.journal import Kind, Record, State
from paigeant_core.operations.action import Action, back_to, next_epoch, noted, onward, said
from paigeant_core.operations.standing import Standing
from paigeant_core.routing import RoutingSlip, Step
from paigeant_core.transition import Place, Transition

_FORWARD = frozenset({State.QUEUED, State.RUNNING, State.RETRYING, State.HELD, State.DEAD})
"""States of a workflow that has steps to do, and undoes none."""


@dataclass(frozen=True, slots=True)
class Skip(Action):
    """Leave out the step where the workflow stands: it counts as done, by nobody.

    From queued, running, retrying and dead to queued at the next step (completed, where
    there is none), from held to held at the next step; from compensating and
    compensation_failed to compensating at the step before (compensated, where there is
    none). The epoch rises. Journalled as one ``operated`` record with the message, or
    as ``operated`` and ``finished``, ``held`` or ``compensated``. A worker in the middle
    of the step runs on, and its result is superseded. A skipped step is never undone.
    """

    name: ClassVar[str] = "skip"
    needs: ClassVar[frozenset[str]] = _FORWARD | {State.COMPENSATING, State.COMPENSATION_FAILED}

    def check(self, standing: Standing) -> str:
        """See :meth:`Action.check`."""
        beside = Action.check(self, standing)
        slip = standing.message().routing_slip
        if slip.finished and not slip.undoing:
            raise NotEligible("it has no step left to skip")
        return beside

    def apply(self, standing: Standing, at: float, detail: dict[str, Any]) -> Transition:
        """See :meth:`Action.apply`."""
        slip = standing.message().routing_slip.copy()
        detail["skipped"] = slip.current_name()
        if slip.undoing:
            more = slip.undo_next()
            following = next_epoch(standing, at, slip, attempt=1)
            if not more:
                record = Record(
                    Kind.COMPENSATED,
                    following.headers,
                    state=State.COMPENSATED,
                    detail=said(detail),
                    body=following.encode(),
                    at=at,
                )
                return noted(Transition(place=Place.NOWHERE, record=record), following, at, detail)
        else:
            slip.skip()
            following = next_epoch(standing, at, slip, attempt=1)
        if standing.state == State.HELD:
            return back_to(standing.before(), following, at, detail)
        return onward(following, at, detail)


@dataclass(frozen=True, slots=True)
class Insert(Action):
    """Put steps right behind the one where the workflow stands.

    From queued, running and retrying to queued at the same attempt (a backoff is over
    with it); held stays held, and dead stays dead. The epoch rises. Journalled as one
    ``operated`` record with the message, or as ``operated`` and ``held``. A worker in
    the middle of the step finishes it, and the steps are put behind it at its hand-off,
    in the same epoch; where they cannot be by then, its record says so (``not_done``).

    Attributes:
        steps: what to insert.
    """

    name: ClassVar[str] = "insert"
    needs: ClassVar[frozenset[str]] = _FORWARD
    at_handoff: ClassVar[bool] = True

    steps: tuple[Step, ...]

    def check(self, standing: Standing) -> str:
        """See :meth:`Action.check`."""
        beside = Action.check(self, standing)
        self._slip(standing)
        return beside

    def details(self) -> dict[str, Any]:
        """See :meth:`Action.details`."""
        return {"steps": [step.to_document() for step in self.steps]}

    def apply(self, standing: Standing, at: float, detail: dict[str, Any]) -> Transition:
        """See :meth:`Action.apply`."""
        return back_to(standing.before(), next_epoch(standing, at, self._slip(standing)), at, detail)

    def _slip(self, standing: Standing) -> RoutingSlip:
        slip = standing.message().routing_slip.copy()
        if slip.undoing:
            raise NotEligible("it is being compensated: nothing is done any more")
        slip.insert_next(*self.steps)
        return slip


@dataclass(frozen=True, slots=True)
class Compensate(Action):
    """Undo the executed steps, last first, and end the workflow so.

    From queued, running, retrying, held and dead to compensating (compensated, where
    nothing was executed); the epoch rises. Journalled as ``operated`` and
    ``compensating`` (or ``compensated``). A worker in the middle of the step finishes
    it, and what it did is undone with the rest: compensation begins at its hand-off, in
    the same epoch.
    """

    name: ClassVar[str] = "compensate"
    needs: ClassVar[frozenset[str]] = _FORWARD
    at_handoff: ClassVar[bool] = True

    def refusal(self, state: str) -> str:
        """Why not, from ``state``."""
        if state == State.COMPENSATION_FAILED:
            return "its compensation failed: retry resumes it where it failed, skip leaves that step out"
        return f"it is {state}"

    def check(self, standing: Standing) -> str:
        """See :meth:`Action.check`."""
        beside = Action.check(self, standing)
        if standing.message().routing_slip.undoing:
            raise NotEligible("it was being compensated already: release, retry or restore it")
        return beside

    def apply(self, standing: Standing, at: float, detail: dict[str, Any]) -> Transition:
        """See :meth:`Action.apply`."""
        message = next_epoch(standing, at)
        return noted(moves.compensate(message, at, said(detail)), message, at, detail)
