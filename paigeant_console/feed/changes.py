"""Which workflows changed, for each view that shows them, and how many stand in each state."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final

from paigeant_console.feed.ended import Ended
from paigeant_console.model.row import Row
from paigeant_core.journal import ENDED

MOST_CHANGED: Final = 50_000
"""Workflows that a view which does not look is told of one by one: far more than change between two looks."""


class Subscription:
    """What one view has not taken yet: IDs of workflows that changed, or left; None: any may have."""

    __slots__ = ("changed",)

    def __init__(self) -> None:
        self.changed: set[str] | None = None


class Changes:
    """What changed in the fold's rows. It has no lock: whoever owns it has one.

    Args:
        rows: the fold's, by correlation ID.
        ended: told of the workflows that end.
    """

    def __init__(self, rows: Mapping[str, Row], ended: Ended) -> None:
        self._rows = rows
        self._ended = ended
        self._subscriptions: list[Subscription] = []
        self._counts: Counter[str] = Counter()
        self._left: Counter[str] = Counter()
        self._noted: set[str] = set()

    @property
    def counts(self) -> dict[str, int]:
        """How many workflows there are in memory by state, without the states of none."""
        self._tell()
        return {state: number for state, number in self._counts.items() if number}

    @property
    def left(self) -> dict[str, int]:
        """How many have left memory, by the state in which they ended; who came back and left again counts twice."""
        return dict(self._left)

    @property
    def ended(self) -> int:
        """How many in memory have ended."""
        self._tell()
        return sum(self._counts[state] for state in ENDED)

    def note(self, changed: set[str]) -> None:
        """These workflows changed: their states are counted anew, and who subscribed is told, once somebody looks."""
        self._noted |= changed

    def leave(self, workflows: Collection[str]) -> None:
        """These workflows ended and are about to leave memory: they are counted as such, and who subscribed is told."""
        self._left.update(self._take_out(workflows))

    def drop(self, workflows: Collection[str]) -> None:
        """Nobody knows any more what became of these: they are counted no more, and who subscribed is told."""
        self._take_out(workflows)

    def begin_anew(self) -> None:
        """None of the workflows is there any more, nor any that left before; who subscribed is told."""
        self._take_out(list(self._rows))
        self._left.clear()

    def _take_out(self, workflows: Collection[str]) -> Counter[str]:
        self._tell()
        gone = Counter(str(self._rows[workflow].counted) for workflow in workflows)
        self._counts.subtract(gone)
        self._tell_all(set(workflows))
        return gone

    def _tell(self) -> None:
        changed, self._noted = self._noted, set()
        rows, counts = self._rows, self._counts
        for key in changed:
            row = rows.get(key)
            if row is None:
                continue  # it left
            state = row.state
            counted = row.counted
            if counted != state:
                counts[str(state)] += 1
                if counted:
                    counts[str(counted)] -= 1
                row.counted = state
                if state in ENDED:
                    self._ended.add(row)
        self._tell_all(changed)

    def _tell_all(self, changed: set[str]) -> None:
        for subscription in self._subscriptions:
            known = subscription.changed
            if known is not None:
                known |= changed
                if len(known) > MOST_CHANGED:
                    # A view that nobody looks at for hours must not keep what has left.
                    subscription.changed = None

    def subscribe(self) -> Subscription:
        """Remember every workflow that changes from now on; at first, all there are."""
        subscription = Subscription()
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remember no more for it; one that is not known is left alone."""
        with contextlib.suppress(ValueError):
            self._subscriptions.remove(subscription)

    def take(self, subscription: Subscription) -> set[str] | None:
        """IDs of the workflows that changed or left since this was called last; None: any may have."""
        self._tell()
        changed, subscription.changed = subscription.changed, set()
        return changed
