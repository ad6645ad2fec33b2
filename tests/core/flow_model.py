"""A simple model of a workflow: what the stateful test of the hop compares the library with.

It knows nothing of messages, queues, journals or fences. A flow has steps done and to do, a state, an epoch, a run and
an attempt, and at most one wish of an operator's. Each function says what one event makes of it, by DESIGN.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LIVE = {"queued", "retrying", "compensating"}
FORWARD = {"queued", "retrying", "held", "dead"}
ENDED = {"completed", "compensated", "cancelled"}
MOST_ATTEMPTS = 3

VERBS: dict[str, set[str]] = {
    "retry": LIVE | {"dead", "compensation_failed"},
    "replay": LIVE | ENDED | {"held", "dead", "compensation_failed"},
    "hold": LIVE,
    "release": {"held"},
    "cancel": LIVE | {"held", "dead", "compensation_failed"},
    "dead-letter": LIVE | {"held", "compensation_failed"},
    "restore": {"dead", "compensation_failed"},
    "skip": FORWARD | {"compensating", "compensation_failed"},
    "insert": FORWARD,
    "compensate": FORWARD,
}
"""From which states an operator can do what."""
AT_HANDOFF = {"hold", "cancel", "compensate", "insert"}
"""What a running step is asked for, in place of being superseded."""


@dataclass(frozen=True, slots=True)
class Stood:
    """Where a flow stood before an operator took it out of the way."""

    state: str = ""
    deadline: tuple[float, str] | None = None
    before: Stood | None = None


@dataclass(slots=True)
class Flow:
    """One workflow.

    Attributes:
        done: the steps behind it, and whether each was skipped.
        todo: the steps before it.
        undo: the number of the done step that is undone now; 0: none is.
        serial: raised whenever it moves; a copy of an older one is outdated.
        wish: what the running step was asked to do when it is handed on, and by which operation.
        deadline: of a hold: when, and what happens then.
        due: when it comes back from a delay; None: it is not delayed.
        stood: where it stood before an operator parked or ended it.
        by: the verb and the operation that put it where it stands.
        deaths: of workers in the step as it stands.
        slips: done and to do, each time it moved forward.
    """

    todo: list[str]
    compensates: bool
    done: list[tuple[str, bool]] = field(default_factory=list)
    undo: int = 0
    state: str = "queued"
    epoch: int = 1
    run: int = 1
    attempt: int = 1
    serial: int = 0
    wish: tuple[str, str] | None = None
    asked: int = 0
    deadline: tuple[float, str] | None = None
    due: float | None = None
    stood: Stood | None = None
    by: tuple[str, str] = ("", "")
    deaths: int = 0
    slips: list[tuple[list[tuple[str, bool]], list[str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._moved("queued")

    @property
    def hop(self) -> int:
        return self.undo or len(self.done) + 1

    @property
    def step(self) -> str:
        if self.undo:
            return self.done[self.undo - 1][0]
        return self.todo[0] if self.todo else ""

    @property
    def fence(self) -> tuple[int, int]:
        """What an operator who looked has to find again."""
        return self.serial, self.asked

    @property
    def waits_in_a_queue(self) -> bool:
        return self.state in LIVE and self.due is None

    # -- what the helpers below have in common

    def _moved(self, state: str) -> None:
        self.state = state
        self.serial += 1
        self.wish = self.deadline = self.due = self.stood = None
        self.by = ("", "")
        self.deaths = 0
        if not self.undo:
            self.slips.append((list(self.done), list(self.todo)))

    def _onward(self) -> None:
        if self.undo:
            self._moved("compensating")
        else:
            self._moved("queued" if self.todo else "completed")

    def _undo_next(self, above: int) -> None:
        self.undo = next((n for n in range(above - 1, 0, -1) if not self.done[n - 1][1]), 0)
        self.attempt = 1
        self._moved("compensating" if self.undo else "compensated")

    # -- a step was run

    def succeeded(self, *, inserted: list[str], finish: bool, hold: tuple[float | None, str] | None) -> None:
        if self.undo:
            self._undo_next(self.undo)
            return
        self.todo[1:1] = inserted
        if finish:
            del self.todo[1:]
        self.done.append((self.todo.pop(0), False))
        self.attempt = 1
        self._onward()
        if hold is not None:
            self.state = "held"
            self.deadline = None if hold[0] is None else (hold[0], hold[1])

    def failed(self, *, retryable: bool, due: float) -> None:
        if retryable and self.attempt < MOST_ATTEMPTS:
            self.attempt += 1
            self._moved("retrying")
            self.due = due
        elif self.undo:
            self._moved("compensation_failed")
        elif self.compensates:
            self._undo_next(len(self.done) + 1)
        else:
            self._moved("dead")

    def gave_nonsense(self) -> None:
        self._moved("dead")

    def heed(self, wish: tuple[str, str], inserted: list[str], *, was_done: bool) -> None:
        """The step was handed on, and this had been asked for."""
        verb, operation = wish
        here = self._here()
        if verb == "hold" and self.state in LIVE:
            self._moved("held")
            self.stood, self.by = here, ("hold", operation)
        elif verb == "cancel" and self.state not in ENDED:
            self._moved("cancelled")
            self.stood, self.by = here, ("cancel", operation)
        elif verb == "compensate" and self.state not in ("compensated", "cancelled") and not self.undo:
            if was_done:
                self.slips.pop()  # it turns back before the next step, which so was never reached
            self._undo_next(len(self.done) + 1)
        elif verb == "insert" and not self.undo and self.state not in ("compensated", "cancelled"):
            behind = 0 if was_done else 1
            self.todo[behind:behind] = inserted
            self.slips[-1] = (list(self.done), list(self.todo))
            if self.state == "completed":
                self.state = "queued"

    def deadline_came(self) -> None:
        assert self.deadline is not None
        if self.deadline[1] == "release":
            self._onward()
        else:
            self._moved("dead")

    # -- an operator

    def refuses(self, verb: str, *, operation: str = "", hop: int | None = None) -> bool:
        """Whether a verb cannot be done now."""
        if verb == "undo":
            if self.wish is not None and self.wish[1] == operation:
                return False
            return self.by[1] != operation or self.by[0] not in ("hold", "cancel", "dead-letter")
        if verb == "release" and self.wish is not None and self.wish[0] == "hold":
            return False
        if self.state not in VERBS[verb]:
            return True
        if verb in AT_HANDOFF and self.wish is not None:
            return True
        if verb in ("insert", "compensate"):
            return self.undo > 0
        if verb == "skip":
            return not self.todo and not self.undo
        if verb == "replay":
            return self._source(hop) is None
        return False

    def _source(self, hop: int | None) -> tuple[list[tuple[str, bool]], list[str]] | None:
        if hop is None:
            unwound = self.undo or self.state == "compensated"
            return None if self.state == "completed" or unwound or not self.todo else (self.done, self.todo)
        reached = len(self.done) + (1 if self.todo else 0)
        fitting = [slip for slip in self.slips if len(slip[0]) == hop - 1 and slip[1]]
        return fitting[-1] if 1 <= hop <= reached and fitting else None

    def takes_back(self, verb: str, operation: str) -> bool:
        """Whether a verb only takes back what the running step was asked for."""
        if self.wish is None:
            return False
        return (verb == "undo" and self.wish[1] == operation) or (verb == "release" and self.wish[0] == "hold")

    def ask(self, verb: str, operation: str) -> None:
        self.asked += 1
        self.wish = (verb, operation)

    def take_back(self) -> None:
        self.asked += 1
        self.wish = None

    def operate(self, verb: str, operation: str, *, inserted: list[str], hop: int | None, now: float) -> None:
        """What a verb that was not refused, and found no running step to ask, makes of it."""
        here, stood = self._here(), self.stood
        self.epoch += 1
        if verb == "retry":
            self.attempt = 1
            self._onward()
        elif verb == "replay":
            source = self._source(hop)
            assert source is not None
            self.done, self.todo = list(source[0]), list(source[1])
            self.undo, self.attempt = 0, 1
            self.run += 1
            self._onward()
        elif verb in ("hold", "cancel", "dead-letter"):
            self._moved({"hold": "held", "cancel": "cancelled", "dead-letter": "dead"}[verb])
            self.stood, self.by = here, (verb, operation)
        elif verb == "release":
            self._onward()
        elif verb in ("restore", "undo"):
            self._back_to(stood)
        elif verb == "insert":
            self.todo[1:1] = inserted
            self._back_to(here)
        elif verb == "compensate":
            self._undo_next(len(self.done) + 1)
        elif verb == "skip":
            self.attempt = 1
            if self.undo:
                self._undo_next(self.undo)
            else:
                self.done.append((self.todo.pop(0), True))
                self._onward()
            if here.state == "held" and self.state != "compensated":
                self.state, self.deadline = "held", here.deadline
        else:
            raise AssertionError(verb)
        if self.deadline is not None and self.deadline[0] <= now:
            # It is held again, after what was to end that.
            self.deadline_came()

    def _here(self) -> Stood:
        return Stood(self.state, self.deadline, self.stood if self.state in ("dead", "compensation_failed") else None)

    def _back_to(self, stood: Stood | None) -> None:
        if stood is not None and stood.state == "held":
            self._moved("held")
            self.deadline = stood.deadline
        elif stood is not None and stood.state in ("dead", "compensation_failed"):
            self._moved(stood.state)
            self.stood = stood.before
        else:
            self._onward()

    def copied(self, hop: int | None) -> Flow | None:
        """The flow that a replay as a new one starts; None: it cannot."""
        source = self._source(hop)
        if source is None:
            return None
        return Flow(list(source[1]), self.compensates, done=list(source[0]))
