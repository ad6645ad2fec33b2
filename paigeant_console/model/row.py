"""The row: what is kept in memory of one workflow, a million times over.

Data and what follows from it alone. What changes a row is the fold; see :mod:`paigeant_console.model.fold`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from paigeant_console.model.times import parsed
from paigeant_console.model.trust import UNSIGNED, UNVERIFIED
from paigeant_core.journal import State
from paigeant_core.message import Headers
from paigeant_core.transports.types import Holding


class Undoing(msgspec.Struct, frozen=True):
    """Why a workflow is being undone, or was: a step failed, or somebody asked for it.

    Attributes:
        error: of the step that failed; None: none did.
        operator: who asked for it; empty: nobody.
        reason: why they did.
    """

    error: dict[str, str] | None
    operator: str
    reason: str


class Asked(msgspec.Struct, frozen=True):
    """What is to be done to a workflow when the step that it stands at is handed on.

    Attributes:
        wish: what, in the journal's word: ``hold``, ``cancel``, ``compensate`` or ``insert``.
        operator: who asked for it.
        at: when, seconds since the Unix epoch.
    """

    wish: str
    operator: str
    at: float


class Trouble:
    """What is to be said of a workflow that does not just move on: few do, so only they have one."""

    __slots__ = (
        "asked",
        "back_at",
        "due_at",
        "erased_at",
        "error",
        "held_by",
        "held_on",
        "held_since",
        "lost",
        "lost_at",
        "most",
        "on_deadline",
        "quarantined",
        "ran_since",
        "reason",
        "runner",
        "running",
        "taken_from",
        "token_until",
        "undoing",
    )

    def __init__(self) -> None:
        self.asked: Asked | None = None
        self.back_at = 0.0
        """When a worker that stopped handed it back unfinished; 0: none did."""
        self.error: dict[str, str] | None = None
        self.reason = ""
        self.due_at = ""
        self.erased_at = 0.0
        self.running: Holding | None = None
        self.runner = ""
        self.held_by = ""
        self.held_on = ""
        """The worker whose handler held it; of an operator's hold the one that handed the step on."""
        self.held_since = 0.0
        self.on_deadline = ""
        self.most: int | None = None
        self.lost = ""
        self.lost_at = 0.0
        self.ran_since = 0.0
        """When the first of the workers began that were lost with the step; 0: none was, or nobody saw it."""
        self.taken_from = ""
        """The worker that had the step before its runner took it over; empty: none, or nobody saw it."""
        self.token_until = ""
        self.quarantined = ""
        """Under which ID its message was quarantined, while it stands there; empty: it was not."""
        self.undoing: Undoing | None = None


CALM: Final = Trouble()
"""Shared by all rows that have none; never changed."""


class Row(msgspec.Struct, gc=False, eq=False):
    """One workflow, as far as the journal and the workers tell.

    A million of them are kept in memory, so a row holds the values of its headers and not the headers, shares every
    text that many have, and has what only a workflow in trouble needs in a second object that most do without. Python's
    search for garbage, for which all threads stop, passes them by: nothing that a row has leads back to it.

    Attributes:
        correlation_id: the workflow's ID.
        name: of the workflow, as its headers have it; likewise the next ones.
        labels: a JSON object, as text.
        topic: where it runs.
        activity: the step to be done, or being undone; empty when finished.
        created_at: when it was dispatched, RFC 3339.
        base: the state after the last record that named one.
        at: when that was, seconds since the Unix epoch.
        token: what the fence knows it by (:attr:`Record.id`).
        names: all steps in order, done and to do, by name.
        worker: who wrote the last record; empty: nobody's worker.
        signed: it carries signed records.
        revision: rises with each change.
        trouble: what is to be said of it beyond that; :data:`CALM`, or its own.
        counted: the state under which whoever counts rows by state has counted it; empty: not yet.
        queued_to_leave: whether it stands in the order in which those that ended leave memory.
    """

    correlation_id: str
    name: str = ""
    labels: str = ""
    topic: str = ""
    activity: str = ""
    created_at: str = ""
    hop: int = 0
    run: int = 0
    epoch: int = 0
    attempt: int = 0
    steps_done: int = 0
    steps_total: int = 0
    base: str = State.QUEUED
    at: float = 0.0
    token: str = ""
    names: tuple[str, ...] = ()
    worker: str = ""
    signed: bool = False
    revision: int = 0
    trouble: Trouble = CALM
    counted: str = ""
    queued_to_leave: bool = False

    @property
    def headers(self) -> Headers:
        """The headers of its last message, as far as a row keeps them: made anew by each call.

        Without message ID, timestamp and trace context.
        """
        return Headers(
            correlation_id=self.correlation_id,
            name=self.name,
            labels=self.labels,
            topic=self.topic,
            activity=self.activity,
            hop=self.hop,
            run=self.run,
            epoch=self.epoch,
            attempt=self.attempt,
            steps_done=self.steps_done,
            steps_total=self.steps_total,
            created_at=self.created_at,
        )

    @property
    def undoing(self) -> bool:
        """Whether its step is one that was done, and is being undone."""
        return self.activity != "" and 0 < self.hop <= self.steps_done

    @property
    def unwound(self) -> bool:
        """Whether what was done of it is being undone, or was."""
        return self.undoing or self.base == State.COMPENSATED

    @property
    def undone_for(self) -> Undoing | None:
        """Why it is being undone, or was; None: it is not, or nobody knows."""
        return self.trouble.undoing

    @property
    def error(self) -> dict[str, str] | None:
        """The last failure, while the workflow stands at it."""
        return self.trouble.error

    @property
    def reason(self) -> str:
        """The journal's word for why it is where it is."""
        return self.trouble.reason

    @property
    def due_at(self) -> str:
        """When it comes back from a delay, RFC 3339; empty: no delay."""
        return self.trouble.due_at

    @property
    def erased_at(self) -> float:
        """When its contents were erased, seconds since the Unix epoch; 0: they were not."""
        return self.trouble.erased_at

    @property
    def running(self) -> Holding | None:
        """What a worker says that it holds of it now."""
        return self.trouble.running

    @property
    def runner(self) -> str:
        """Which worker says so."""
        return self.trouble.runner

    @property
    def asked(self) -> Asked | None:
        """What is still to come, when its step is handed on; None: nothing."""
        return self.trouble.asked

    @property
    def held_by(self) -> str:
        """Which operator put it there."""
        return self.trouble.held_by

    @property
    def held_on(self) -> str:
        """The worker that wrote down that it is held, if one did."""
        return self.trouble.held_on

    @property
    def held_since(self) -> float:
        """Since when it is held, seconds since the Unix epoch, whatever was done to it meanwhile."""
        return self.trouble.held_since

    @property
    def on_deadline(self) -> str:
        """What happens at its deadline to one that is held: ``release`` or ``dead_letter``."""
        return self.trouble.on_deadline

    @property
    def most(self) -> int | None:
        """Attempts that this hop has, as far as the last failure told; None: unknown."""
        return self.trouble.most

    @property
    def token_until(self) -> str:
        """Until when its token is good, RFC 3339, of one that waits for its next attempt, or that a token over holds.

        Empty: not known.
        """
        return self.trouble.token_until

    @property
    def quarantined(self) -> str:
        """Under which ID its message was quarantined; empty: it was not."""
        return self.trouble.quarantined

    @property
    def lost(self) -> str:
        """The worker that ran the step and lives no more; empty: none."""
        return self.trouble.lost

    @property
    def lost_at(self) -> float:
        """When that worker was heard last."""
        return self.trouble.lost_at

    @property
    def state(self) -> str:
        """The state as people mean it: ``running`` while a worker says so."""
        if self.trouble.running is not None and self.base in (State.QUEUED, State.RETRYING):
            return State.RUNNING
        return self.base

    @property
    def step(self) -> str | None:
        """The step to be done now; None when the workflow is finished."""
        return self.activity or None

    @property
    def since(self) -> float:
        """When the workflow came to where it stands: its step's start, its return to the queue, or the last record."""
        running = self.trouble.running
        return running.since if running is not None else max(self.at, self.trouble.back_at)

    @property
    def queued_since(self) -> float:
        """Since when its message waits for a worker, seconds since the epoch; what is delayed comes later."""
        due_at = self.trouble.due_at
        due = parsed(due_at) if due_at else None
        back = max(self.at, self.trouble.back_at)
        return back if due is None else max(back, due)

    def holds(self, held: Holding) -> bool:
        """Whether ``held`` is the step at which the workflow stands."""
        return (held.hop, held.run, held.attempt, held.epoch) == (self.hop, self.run, self.attempt, self.epoch)

    def own_trouble(self) -> Trouble:
        """The object for what only some rows have, the row's own, to write to."""
        if self.trouble is CALM:
            self.trouble = Trouble()
        return self.trouble

    def calm(self) -> None:
        """Nothing is to be said of it but what a worker runs."""
        trouble = self.trouble
        if trouble.running is None:
            self.trouble = CALM
            return
        self.trouble = kept = Trouble()
        kept.running, kept.runner = trouble.running, trouble.runner
        kept.ran_since, kept.taken_from = trouble.ran_since, trouble.taken_from


def trust_of(row: Row) -> str:
    """What can be said of a workflow's signatures without a policy: that there are some."""
    return UNVERIFIED if row.signed else UNSIGNED
