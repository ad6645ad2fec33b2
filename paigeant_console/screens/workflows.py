"""View 1: all workflows."""

from __future__ import annotations

from typing import ClassVar

from paigeant_console.model.workflow_list import WorkflowList
from paigeant_console.screens.base import Shared
from paigeant_console.screens.lists import WorkflowListScreen

__all__ = ["WorkflowsScreen"]


class WorkflowsScreen(WorkflowListScreen):
    """All workflows, the newest first."""

    view: ClassVar[str] = "workflows"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared, WorkflowList(shared.feed, ascii_only=shared.ascii_only))
