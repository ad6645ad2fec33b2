"""Who follows a journal, and what he is told of that he cannot have seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = ["Follower", "Missed"]


class Missed(StrEnum):
    """Why a follower has not seen all that was journalled."""

    TRIMMED = "trimmed"
    """The journal was trimmed past the place where he was. He reads on with the first record that it has."""
    ANEW = "anew"
    """The journal that he read is gone: its topic was deleted, or the broker lost it. He reads the one that is there
    now from its start, once there is one."""


@dataclass(slots=True, eq=False)
class Follower:
    """Somebody who follows a journal, over as many calls of :meth:`Transport.records` as his lines last.

    Attributes:
        missed: told what he missed, before he is given what comes behind it; None: nobody asks.
        journal: by what the transport knows the journal again that he read last; its own. None: he read none.
    """

    missed: Callable[[Missed], None] | None = None
    journal: Any = None

    def tell(self, missed: Missed) -> None:
        """Tell him."""
        if self.missed is not None:
            self.missed(missed)
