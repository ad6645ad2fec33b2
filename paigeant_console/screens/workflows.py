"""View 1: all workflows."""

from __future__ import annotations

from typing import ClassVar

from paigeant_console.actions import key_of
from paigeant_console.feed import Phase
from paigeant_console.feed.older import OlderSearch
from paigeant_console.model.workflow_list import WorkflowList
from paigeant_console.safe_text import SafeText, joined, literal
from paigeant_console.screens.lists import WorkflowListScreen
from paigeant_console.screens.older import OlderScreen
from paigeant_console.screens.shared import Shared

__all__ = ["WorkflowsScreen"]


class WorkflowsScreen(WorkflowListScreen):
    """All workflows, the newest first."""

    view: ClassVar[str] = "workflows"

    def __init__(self, shared: Shared) -> None:
        feed = shared.feed
        # Before the rest, as that asks at once what to say while there are no rows.
        self._older = OlderSearch(feed.kept, feed.shows, lambda: feed.fold.forgotten, feed.now)
        super().__init__(shared, WorkflowList(feed, ascii_only=shared.ascii_only))

    def look(self, changed: bool) -> None:
        """See :meth:`ConsoleScreen.look`; a filter that stands is looked for in the history too."""
        if self.rows.filtering is None and self.status.phase is Phase.LIVE:
            # What looks like a secret is not in the history, so nobody can verify there what was signed.
            self._older.want(None if self._asks_trust() else self.rows.query)
        super().look(changed)

    def _asks_trust(self) -> bool:
        return self.rows.query is not None and self.rows.query.needs_trust

    def progress(self) -> str:
        """See :meth:`WorkflowListScreen.progress`; and how many older ones there are."""
        said, found = super().progress(), self._older.found
        if said:
            return said
        if found is not None and len(found):
            return f"{self._older.said} older in the history: {key_of('older')} shows them"
        return self._beyond()

    def _beyond(self) -> str:
        """Where those are that have left memory; empty: none have, or the history has them."""
        return "`list` has older ones" if self.status.left and self.feed.kept is None else ""

    def sentence(self) -> SafeText:
        """See :meth:`WorkflowListScreen.sentence`; what is not here may be in the history."""
        said, found = super().sentence(), self._older.found
        if self.rows.query is not None and (beyond := self._beyond()):
            return joined((said, literal(f"; {beyond}")))
        if self.rows.query is None or found is None:
            return said
        if found.failed:
            return joined((said, literal("; the history could not be searched")))
        if found.whole and not len(found):
            return joined((said, literal("; the history has none either")))
        return joined((said, literal("" if found.whole else "; looking in the history …")))

    def do_older(self) -> None:
        """Show what the history has of the filter, else all that it has and this view has not."""
        if self.feed.kept is None:
            self.say((literal("older: no history is kept of this broker"), "warn"))
            return
        if self._asks_trust():
            self.say((literal("older: the history keeps no secrets, so signatures cannot be verified there"), "warn"))
            return
        self._older.want(self.rows.query, at_once=True)
        found = self._older.found
        if found is not None:
            self.app.push_screen(OlderScreen(self.shared, found))
