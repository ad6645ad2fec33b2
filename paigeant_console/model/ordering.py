"""IDs in order: inserted, moved and taken out one by one, found by ID or by place."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Final, TypeAlias

__all__ = ["Rank", "SortedKeys"]

Rank: TypeAlias = tuple[Any, ...]
"""What IDs are ordered by; the same kinds of values in all of them, the ID last."""

_FEW: Final = 64
"""Changes that are put in one by one however few IDs there are."""
_WORTH: Final = 200
"""IDs of which a sort costs as much as putting in a single one."""


class SortedKeys:
    """IDs by their rank, the highest first.

    One change costs a search and a move of memory; many at once cost one sort.
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
        if len(real) > max(_FEW, len(self._ranks) // _WORTH):
            put_in = [rank for rank in real.values() if rank is not None]
            taken_out = [self._rank_of[key] for key in real if key in self._rank_of]
            # What lies before all of them is not looked at: most that come are newer than all that are there.
            start = bisect_left(self._ranks, min(chain(put_in, taken_out)))
            behind = self._ranks[start:]
            if taken_out:
                behind = [rank for rank in behind if rank[-1] not in real]
            # What stays is in order already, which a sort finds out by looking at it once.
            behind += sorted(put_in)
            behind.sort()
            self._ranks[start:] = behind
            for key, rank in real.items():
                if rank is None:
                    del self._rank_of[key]
                else:
                    self._rank_of[key] = rank
            return True
        for key, rank in real.items():
            old = self._rank_of.pop(key, None)
            if old is not None:
                del self._ranks[bisect_left(self._ranks, old)]
            if rank is not None:
                self._rank_of[key] = rank
                insort(self._ranks, rank)
        return True
