"""Which workflows changed, for each view that shows them, and how many stand in each state."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from paigeant_console.model.row import Row


class Subscription:
    """What one view has not taken yet: IDs of workflows that changed."""

    __slots__ = ("changed",)

    def __init__(self, known: Sequence[str] = ()) -> None:
        self.changed: set[str] = set(known)


class Changes:
    """What changed in the fold's rows. It has no lock: whoever owns it has one.

    Args:
        rows: the fold's, by correlation ID.
    """

    def __init__(self, rows: Mapping[str, Row]) -> None:
        self._rows = rows
        self._subscriptions: list[Subscription] = []
        self._counts: Counter[str] = Counter()
        self._noted: set[str] = set()

    @property
    def counts(self) -> dict[str, int]:
        """How many workflows there are by state, without the states of none."""
        self._tell()
        return {state: number for state, number in self._counts.items() if number}

    def note(self, changed: set[str]) -> None:
        """These workflows changed: their states are counted anew, and who subscribed is told, once somebody looks."""
        self._noted |= changed

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
        for subscription in self._subscriptions:
            subscription.changed |= changed

    def leave(self, gone: Iterable[Row]) -> None:
        """These rows are there no more."""
        for row in gone:
            if row.counted:
                self._counts[str(row.counted)] -= 1
            self._noted.add(row.correlation_id)

    def subscribe(self) -> Subscription:
        """Remember every workflow that changes from now on, and all there are."""
        self._tell()
        subscription = Subscription(list(self._rows))
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remember no more for it; one that is not known is left alone."""
        with contextlib.suppress(ValueError):
            self._subscriptions.remove(subscription)

    def take(self, subscription: Subscription) -> set[str]:
        """IDs of the workflows that changed, or left, since this was called last."""
        self._tell()
        changed, subscription.changed = subscription.changed, set()
        return changed
