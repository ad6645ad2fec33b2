"""View 4: dead letters, with held and quarantined messages and why each is there."""

from __future__ import annotations

from typing import ClassVar

from paigeant_console.model.row import Row
from paigeant_console.model.text import count
from paigeant_console.model.workflow_list import WorkflowList
from paigeant_console.safe_text import SafeText, literal
from paigeant_console.screens.lists import WorkflowListScreen
from paigeant_console.screens.shared import Shared
from paigeant_core.journal import PARKED

__all__ = ["DeadLettersScreen"]


class DeadLettersScreen(WorkflowListScreen):
    """What waits for an operator, grouped by its cause, the newest first."""

    view: ClassVar[str] = "dead"
    dead: ClassVar[bool] = True

    def __init__(self, shared: Shared) -> None:
        rows = WorkflowList(shared.feed, base=_parked, order="updated", grouping="cause", ascii_only=shared.ascii_only)
        super().__init__(shared, rows)

    def total(self) -> SafeText:
        """See :meth:`WorkflowListScreen.total`; what is parked stays in memory."""
        return count(sum(self.status.counts.get(str(state), 0) for state in PARKED))

    def nothing(self) -> SafeText:
        """See :meth:`WorkflowListScreen.nothing`."""
        return literal("no dead letters: nothing is dead, held or quarantined")


def _parked(row: Row) -> bool:
    return row.state in PARKED
