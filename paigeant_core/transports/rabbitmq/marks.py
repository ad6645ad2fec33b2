"""How far the signed records of workflows went, as far as this process had a hand in it.

RabbitMQ keeps no state by workflow that a worker could ask for at each hop. What went
through this transport is known, so an older state of it that comes again is found out
here; what only others handed on is not.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from paigeant_core.transition import Transition

MOST: Final = 100_000
"""Workflows that are remembered, those that moved last."""


class Marks:
    """See :attr:`paigeant_core.transition.Transition.mark`."""

    def __init__(self) -> None:
        self._marks: OrderedDict[str, str] = OrderedDict()

    def get(self, correlation_id: str) -> str:
        """The mark of a workflow; empty: unknown."""
        return self._marks.get(correlation_id, "")

    def note(self, transition: Transition) -> None:
        """Remember what was published."""
        if transition.mark:
            correlation_id = transition.record.headers.correlation_id
            self._marks[correlation_id] = transition.mark
            self._marks.move_to_end(correlation_id)
            if len(self._marks) > MOST:
                self._marks.popitem(last=False)
