"""View 3: queues and workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Final

from textual.css.scalar import Scalar
from textual.widget import Widget

from paigeant_console.model.confirmation import command_line
from paigeant_console.model.plain_rows import PlainRows
from paigeant_console.model.rates import CELLS
from paigeant_console.model.status import feed_sentence
from paigeant_console.model.tables import queue_rows, worker_rows
from paigeant_console.model.text import EMPTY
from paigeant_console.safe_text import SafeText, joined, literal
from paigeant_console.screens.base import ConsoleScreen, Shared
from paigeant_console.widgets.columns import Column
from paigeant_console.widgets.line_table import LineTable

__all__ = ["QueuesScreen"]

_QUEUES: Final = (
    Column(literal("QUEUE"), 30, min_width=22, priority=5),
    Column(literal("READY"), 6, align="right", priority=9),
    Column(literal("RUNNING"), 7, align="right", priority=8),
    Column(literal("DELAYED"), 7, align="right", priority=6),
    Column(literal("WORKERS"), 7, align="right", priority=7),
    Column(literal("OLDEST"), 6, align="right", priority=4),
    Column(literal("MEDIAN"), 6, align="right", priority=2),
    Column(literal("DONE/S"), 6, align="right", priority=3),
    Column(literal("LAST MINUTE"), CELLS, priority=1),
)
_PROBLEM: Final = Column(literal(""), 16, priority=10)
"""A column that is there only while there is something to say."""
_WORKERS: Final = (
    Column(literal("WORKER"), 24, min_width=14, priority=9),
    Column(literal("LOAD"), 7, align="right", priority=8),
    Column(literal("HOST"), 20, min_width=12, priority=1),
    Column(literal("UP"), 4, align="right", priority=3),
    Column(literal("RUNS"), 40, min_width=10, priority=7),
)


class QueuesScreen(ConsoleScreen):
    """Two tables: what waits, and who works."""

    view: ClassVar[str] = "queues"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._queue_rows, self._worker_rows = PlainRows(), PlainRows()
        self._problems = False
        ascii_only = shared.ascii_only
        self.queues = LineTable(_QUEUES, self._queue_rows, empty=self.sentence(), ascii_only=ascii_only, id="queues")
        self.crew = LineTable(
            _WORKERS, self._worker_rows, empty=literal("no worker lives"), ascii_only=ascii_only, id="workers"
        )

    def body(self) -> Iterable[Widget]:
        """The two tables."""
        return self.queues, self.crew

    def on_mount(self) -> None:
        """The queues have the keys."""
        self.queues.focus()

    def on_screen_resume(self) -> None:
        """Ask for figures while this is on the screen."""
        self.feed.watch_queues(True)
        super().on_screen_resume()

    def on_screen_suspend(self) -> None:
        """Ask for no more."""
        self.feed.watch_queues(False)

    def look(self, changed: bool) -> None:
        """See :meth:`ConsoleScreen.look`."""
        with self.feed.lock:
            now = self.feed.now()
            known = self.feed.queues or ()
            queues = queue_rows(known, self.feed.fold, self.feed.rates, now, ascii_only=self.shared.ascii_only)
            workers = worker_rows(self.feed.fold.workers, now, ascii_only=self.shared.ascii_only)
            observed = self.feed.fold.observed
        self._queue_rows.replace(queues)
        self._tell_problems(any(cells[-1] != (EMPTY, "") for _, cells in queues))
        self._worker_rows.replace(workers)
        self._fit()
        self.queues.set_empty(self.sentence())
        self.crew.set_empty(literal("no worker lives" if observed else "asking which workers live …"))
        self.queues.sync()
        self.crew.sync()

    def _tell_problems(self, there_are: bool) -> None:
        if there_are != self._problems:
            self._problems = there_are
            self.queues.set_columns((*_QUEUES, _PROBLEM) if there_are else _QUEUES)

    def _fit(self) -> None:
        """Give the workers as many lines as they need, but leave half of the screen to the queues."""
        room = self.queues.size.height + self.crew.size.height
        height = max(2, min(len(self._worker_rows) + 1, room // 2))
        if room and self.crew.styles.height != Scalar.from_number(height):
            self.crew.styles.height = height

    def sentence(self) -> SafeText:
        """What stands there when there are no queues."""
        said = feed_sentence(self._status, self.feed.now())
        if said is not None:
            return said
        if self.feed.queues is None:
            return literal("asking for the queues …")
        return joined((literal("no queues yet in topic "), self.shared.place.topic))

    def on_descendant_focus(self) -> None:
        """Show which table has the keys."""
        if self.focused in (self.queues, self.crew):
            self.queues.set_class(self.focused is not self.queues, "-weak")
            self.crew.set_class(self.focused is not self.crew, "-weak")

    def do_panes(self) -> None:
        """Go to the other table."""
        self.set_focus(self.crew if self.focused is self.queues else self.queues, scroll_visible=False)

    def command(self) -> str:
        """See :meth:`ConsoleScreen.command`."""
        return command_line(self.shared.target, ["workers" if self.crew.has_focus else "queues"])
