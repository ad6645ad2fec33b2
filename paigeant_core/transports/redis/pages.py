"""How many entries of a stream to ask for at a time: of small ones many, so that they cost few round trips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

__all__ = ["FIRST_PAGE", "Pages", "size_of"]

FIRST_PAGE: Final = 8
"""Entries that are asked for while nobody knows how large they are: at a megabyte each they still come soon."""
PAGE_BYTES: Final = 512 * 1024
MOST: Final = 1000


class Pages:
    """Sizes the pages of one walk through a stream.

    Args:
        limit: entries that are wanted.
    """

    def __init__(self, limit: int) -> None:
        self._most = max(1, min(MOST, limit))
        self._largest = 1
        self.first = min(FIRST_PAGE, self._most)
        """Entries of the first page."""

    def next(self, entries: Sequence[Any]) -> int:
        """Entries of the next page.

        Args:
            entries: those of the last one, at least one.
        """
        # By the largest: some records have a message and others none, and those of a kind stand together.
        self._largest = max(self._largest, *map(size_of, entries))
        return min(self._most, max(FIRST_PAGE, PAGE_BYTES // self._largest))


def size_of(entry: Any) -> int:
    """Bytes of an entry's fields."""
    return sum(map(len, entry[1]))
