"""IDs in order: inserted, moved and taken out one by one, found by ID or by place."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

__all__ = ["Rank", "SortedKeys"]

Rank: TypeAlias = tuple[Any, ...]
"""What IDs are ordered by; the same kinds of values in all of them, the ID last."""

_FEW: Final = 64
"""Changes that are put in one by one however few IDs there are."""
_WORTH: Final = 200
"""IDs of which a sort costs as much as putting in a single one."""
_CLOSE: Final = 500
"""IDs of which looking at each costs as much as taking out a single one."""


class SortedKeys:
    """IDs by their rank, the highest first.

    One change costs a search and a move of memory; many at once one look at all that lie between them.
    """

    def __init__(self) -> None:
        self._ranks: list[Rank] = []
        self._rank_of: dict[str, Rank] = {}

    def __len__(self) -> int:
        return len(self._ranks)

    def __contains__(self, key: str) -> bool:
        return key in self._rank_of

    def __iter__(self) -> Iterator[str]:
        return (rank[-1] for rank in reversed(self._ranks))

    def key(self, index: int) -> str:
        """The ID at ``index``, from 0."""
        key: str = self._ranks[len(self._ranks) - 1 - index][-1]
        return key

    def index_of(self, key: str) -> int | None:
        """Where an ID is, or None."""
        rank = self._rank_of.get(key)
        return None if rank is None else len(self._ranks) - 1 - bisect_left(self._ranks, rank)

    def rank_of(self, key: str) -> Rank | None:
        """What an ID is ordered by; None: it is not here."""
        return self._rank_of.get(key)

    def replace(self, ranks: dict[str, Rank]) -> None:
        """Hold these IDs and no others; the mapping is kept, and changed from now on."""
        self._rank_of = ranks
        self._ranks = sorted(ranks.values())

    def update(self, changes: Mapping[str, Rank | None]) -> bool:
        """Put IDs in, move them, or take them out (rank None).

        Returns:
            Whether anything is elsewhere now.
        """
        real = {key: rank for key, rank in changes.items() if self._rank_of.get(key) != rank}
        if not real:
            return False
        self._take_out([rank for key in real if (rank := self._rank_of.pop(key, None)) is not None])
        put_in = {key: rank for key, rank in real.items() if rank is not None}
        self._rank_of.update(put_in)
        self._put_in(list(put_in.values()))
        return True

    def _take_out(self, gone: Sequence[Rank]) -> None:
        ranks, keys = self._ranks, {rank[-1] for rank in gone}
        # Most that leave together came together: those that lie close to each other are taken out in one go.
        runs: list[list[int]] = []
        for place in sorted(bisect_left(ranks, rank) for rank in gone):
            if runs and place - runs[-1][1] <= _CLOSE:
                runs[-1][1] = place
            else:
                runs.append([place, place])
        if len(runs) > max(_FEW, len(ranks) // _CLOSE):
            runs = [[0, len(ranks) - 1]]
        for first, last in reversed(runs):
            ranks[first : last + 1] = [rank for rank in ranks[first : last + 1] if rank[-1] not in keys]

    def _put_in(self, new: list[Rank]) -> None:
        ranks = self._ranks
        if len(new) <= max(_FEW, len(ranks) // _WORTH):
            for rank in new:
                insort(ranks, rank)
            return
        new.sort()
        # What lies before all of them is not looked at: most that come are newer than all that are there.
        start = bisect_left(ranks, new[0])
        # What stays is in order already, which a sort finds out by looking at it once.
        behind = ranks[start:] + new
        behind.sort()
        ranks[start:] = behind
