"""Older workflows: what the history on disk has of a query, and this console's memory has not (any more)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from paigeant_console.history import History
from paigeant_console.model.fold import Fold
from paigeant_console.model.query import Query, parse
from paigeant_console.model.text import EMPTY, count
from paigeant_console.model.views import RowView
from paigeant_console.safe_text import SafeText
from paigeant_core.journal import Record

__all__ = ["MOST", "Older", "OlderSearch"]

logger = logging.getLogger("paigeant.console")

MOST: Final = 1000
"""Workflows that are looked for; that there are more is said."""
REST_AFTER: Final = 100
REST: Final = 0.002
"""Seconds of rest after so many records."""
STILL_FOR: Final = 0.5
"""Seconds for which a query has to stand before the disk is asked: not at every letter."""


@dataclass(slots=True)
class Older:
    """What was found of a query.

    Attributes:
        query: which; None: everything.
        fold: the workflows, as they stood when they were seen last.
        whole: whether the search is through.
        more: whether there are more than are looked for.
        failed: whether the file could not be searched to the end.
        left: how many workflows had left memory when it was begun.
    """

    query: Query | None
    left: int = 0
    fold: Fold = field(default_factory=Fold)
    whole: bool = False
    more: bool = False
    failed: bool = False

    def __len__(self) -> int:
        return len(self.fold.rows)


class OlderSearch:
    """Looks for older workflows in a thread of its own; a screen asks it, and never waits.

    Args:
        kept: the history; None: none is kept.
        known: whether the screen can tell of a workflow whether it is selected: by its ID, and whether its payload is
            asked for.
        left: how many workflows have left the screen's memory so far.
        now: seconds since the Unix epoch.
    """

    def __init__(
        self,
        kept: History | None,
        known: Callable[[str, bool], bool],
        left: Callable[[], int],
        now: Callable[[], float],
    ) -> None:
        self._kept = kept
        self._known = known
        self._left = left
        self._now = now
        self._wanted: Query | None = None
        self._since = 0.0
        self._found: Older | None = None

    @property
    def found(self) -> Older | None:
        """What was found of the query that is wanted now, so far; None: it is not looked for."""
        return self._found

    @property
    def said(self) -> SafeText:
        """How many were found: `12`; `1,000+` where more are older than were looked for, or than were so by then."""
        found = self._found
        return EMPTY if found is None else count(len(found), more=found.more or found.left != self._left())

    def want(self, query: Query | None, *, at_once: bool = False) -> None:
        """Look for a query once it has stood for a moment; asked at each look of the screen.

        Args:
            query: which; None: for nothing, but with ``at_once`` for everything.
            at_once: do not wait, and look again where more workflows have left memory since.
        """
        now = time.monotonic()
        found = self._found
        if query != self._wanted or (at_once and found is not None and found.left != self._left()):
            self._wanted, self._since, self._found = query, now, None
        if self._kept is None or (self._found is not None and self._found.query == query):
            return
        if at_once or (query is not None and now - self._since >= STILL_FOR):
            found = self._found = Older(query, self._left())
            threading.Thread(target=self._look, args=(found,), name="paigeant-older", daemon=True).start()

    def _look(self, found: Older) -> None:
        try:
            for record in self._selected(found.query):
                if self._found is not found:
                    return  # something else is wanted by now
                if len(found) >= MOST:
                    found.more = True
                    break
                found.fold.apply((record,))
        except Exception:
            # Whatever is wrong with the file, the console goes on without it, and says so.
            logger.exception("the history could not be searched")
            found.failed = True
        found.whole = True

    def _selected(self, query: Query | None) -> Iterator[Record]:
        kept = self._kept
        assert kept is not None
        payload = query is not None and query.needs_payload
        for number, record in enumerate(kept.candidates(parse("") if query is None else query)):
            if number % REST_AFTER == 0:
                time.sleep(REST)  # the screen is not kept waiting for this
            workflow = record.headers.correlation_id
            if self._known(workflow, payload):
                continue
            # One at a time: what is not selected is not kept.
            fold = Fold()
            fold.apply((record,))
            row = fold.rows.get(workflow)
            if row is not None and (query is None or query.matches(RowView(fold, row, self._now(), record.body))):
                yield record
