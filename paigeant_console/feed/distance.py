"""How far the reader is from the end of a long journal: what it reads far from there is folded, and not kept.

The traffic and the messages that are kept are those of the journal's end. Keeping each record on the way there, to let
go of it when newer ones come, would take a third of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from paigeant_console.model.bodies import KEPT_BYTES
from paigeant_console.model.fold import Fold
from paigeant_core.journal import Record

__all__ = ["Distance", "Far"]

AT_LEAST: Final = 100
"""Bytes that a message is taken to have at least."""


class Far(NamedTuple):
    """What records come too early for.

    Attributes:
        traffic: to be kept for the traffic.
        messages: to have their messages kept.
    """

    traffic: bool
    messages: bool


_NEAR: Final = Far(traffic=False, messages=False)


class Distance:
    """See the module.

    Args:
        fold: what is read goes into it.
        ring: records that the traffic keeps.
    """

    def __init__(self, fold: Fold, ring: int) -> None:
        self._fold = fold
        self._ring = ring
        self._left = 0
        self._messages = 0

    def begin(self, ahead: int | None, newest: Sequence[Record]) -> None:
        """The reader begins.

        Args:
            ahead: records that it has before it; None: nobody knows, and all it reads is kept.
            newest: the last of them: of their size are those that will be kept.
        """
        self._left = ahead or 0
        sizes = [len(record.body) for record in newest if record.body is not None]
        self._messages = KEPT_BYTES // max(AT_LEAST, sum(sizes) // len(sizes)) if sizes else 0

    def far(self, records: int) -> Far:
        """How far the next ``records`` are from the end, asked once they are folded."""
        self._left -= records
        if self._left <= self._ring:
            return _NEAR
        # One message of each workflow is kept, and it comes once in so many records.
        workflows = len(self._fold.rows) + self._fold.forgotten
        return Far(traffic=True, messages=self._left * max(1, workflows) > self._messages * self._fold.records)

    def end(self) -> None:
        """The reader has come to the end of the journal, however long it was thought to be."""
        self._left = 0
