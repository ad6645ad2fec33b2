"""View 3: queues and workers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar, Final

from textual.css.scalar import Scalar
from textual.widget import Widget

from paigeant_console.actions import Situation
from paigeant_console.feed.rounds import OF_NOW
from paigeant_console.model.confirmation import command_line
from paigeant_console.model.plain_rows import PlainRows, RowCells
from paigeant_console.model.rates import CELLS
from paigeant_console.model.tables import problem_of, queue_rows, worker_rows
from paigeant_console.model.text import EMPTY, width_of
from paigeant_console.model.times import day_and_time
from paigeant_console.safe_text import SafeText, joined, literal
from paigeant_console.screens.pausing import PausingScreen
from paigeant_console.screens.shared import Shared
from paigeant_console.widgets.columns import Column, spans_of
from paigeant_console.widgets.line_table import LineTable
from paigeant_core.transports.types import QueueStatus

__all__ = ["QueuesScreen"]

_QUEUES: Final = (
    Column(literal("QUEUE"), 30, min_width=18, priority=11),  # figures without their name tell nothing
    Column(literal("READY"), 6, align="right", priority=9),
    Column(literal("RUNNING"), 7, align="right", priority=8),
    Column(literal("DELAYED"), 7, align="right", priority=6),
    Column(literal("WORKERS"), 7, align="right", priority=7),
    Column(literal("OLDEST"), 6, align="right", priority=4),
    Column(literal("MEDIAN"), 6, align="right", priority=2),
    Column(literal("DONE/S"), 6, align="right", priority=3),
    Column(literal("LAST MINUTE"), CELLS, priority=1),
)
_WORKERS: Final = (
    Column(literal("WORKER"), 24, min_width=14, priority=9),
    Column(literal("LOAD"), 7, align="right", priority=8),
    Column(literal("HOST"), 20, min_width=12, priority=1),
    Column(literal("UP"), 4, align="right", priority=3),
    Column(literal("RUNS"), 40, min_width=10, priority=7),
)


class _Table(LineTable):
    """Figures that a heading tells the age of."""

    as_of: SafeText = EMPTY
    """When they are of, where that is not now."""
    problems = 0
    """Cells of what there is to say of rows; 0: nothing."""

    def tell(self, as_of: SafeText, problems: int = 0) -> None:
        """Say so from now on."""
        if (as_of, problems) != (self.as_of, self.problems):
            self.as_of, self.problems = as_of, problems
            self.relook()


class _QueueTable(_Table):
    """The queues."""

    def columns_for(self, width: int) -> Sequence[Column]:
        """See :meth:`LineTable.columns_for`; a column is there only while there is something to say."""
        room = max(self.problems, width_of(self.as_of))
        return (*_QUEUES, Column(self.as_of, room, priority=10)) if room else _QUEUES


class _WorkerTable(_Table):
    """The workers."""

    def columns_for(self, width: int) -> Sequence[Column]:
        """See :meth:`LineTable.columns_for`."""
        if not self.as_of:
            return _WORKERS
        *columns, runs = _WORKERS
        title = joined((runs.title, literal(" "), self.as_of))
        return (*columns, replace(runs, title=title, min_width=width_of(title)))


def _as_of(at: float, now: float) -> SafeText:
    """When an answer is of; empty: now."""
    return joined((literal("as of "), day_and_time(at, now))) if now - at > OF_NOW else EMPTY


def _dimmed(rows: Sequence[tuple[str, RowCells]]) -> list[tuple[str, RowCells]]:
    """Rows that are not of now."""
    return [(key, tuple([(text, "dim") for text, _ in spans_of(cell)] for cell in cells)) for key, cells in rows]


class QueuesScreen(PausingScreen):
    """Two tables: what waits, and who works."""

    view: ClassVar[str] = "queues"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._queue_rows, self._worker_rows = PlainRows(), PlainRows()
        ascii_only = shared.ascii_only
        self.queues = _QueueTable(_QUEUES, self._queue_rows, empty=self.sentence(), ascii_only=ascii_only, id="queues")
        self.crew = _WorkerTable(
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
        self.feed.rounds.watch_queues(True)

    def on_screen_suspend(self) -> None:
        """Ask for no more."""
        self.feed.rounds.watch_queues(False)

    def look(self, changed: bool) -> None:
        """See :meth:`ConsoleScreen.look`."""
        with self.feed.lock:
            now = self.feed.now()
            known = self.feed.queues or ()
            asked, observed_at = self.feed.queues_at, self.feed.fold.observed_at
            at = asked if _as_of(asked, now) else now
            queues = queue_rows(known, self.feed.fold, self.feed.rates, at, ascii_only=self.shared.ascii_only)
            workers = worker_rows(
                self.feed.fold.workers, now, room=self.crew.last_cells, ascii_only=self.shared.ascii_only
            )
            observed = self.feed.fold.observed
        heading = _as_of(asked, now) if queues else EMPTY
        self._queue_rows.replace(_dimmed(queues) if heading else queues)
        self.queues.tell(heading, max((width_of(problem_of(queue)[0]) for queue in known), default=0))
        heading = _as_of(observed_at, now) if workers else EMPTY
        self._worker_rows.replace(_dimmed(workers) if heading else workers)
        self.crew.tell(heading)
        self._fit()
        self.queues.set_empty(self.sentence())
        self.crew.set_empty(literal("no worker lives" if observed else "asking which workers live …"))
        self.queues.sync()
        self.crew.sync()

    def _fit(self) -> None:
        """Give the workers as many lines as they need, but leave half of the screen to the queues."""
        room = self.queues.size.height + self.crew.size.height
        height = max(2, min(len(self._worker_rows) + 1, room // 2))
        if room and self.crew.styles.height != Scalar.from_number(height):
            self.crew.styles.height = height

    def sentence(self) -> SafeText:
        """What stands there when there are no queues."""
        said = self.feed_trouble()
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

    # -- acting -------------------------------------------------------------------------

    def focus_view(self) -> None:
        """See :meth:`ConsoleScreen.focus_view`."""
        if self.focused not in (self.queues, self.crew):
            self.set_focus(self.queues, scroll_visible=False)

    def _queue_here(self) -> QueueStatus | None:
        """The queue under the cursor, where the queues have the keys."""
        key = self.queues.cursor_key if self.built and self.focused is self.queues else None
        return next((queue for queue in self.feed.queues or () if queue.activity == key), None)

    def has_targets(self) -> bool:
        """See :meth:`ConsoleScreen.has_targets`."""
        return self.queues.cursor_key is not None

    def situation(self) -> Situation:
        """See :meth:`ConsoleScreen.situation`."""
        situation = super().situation()
        queue = self._queue_here()
        if situation.view != self.view or queue is None:
            return situation
        return replace(situation, operation="running" if queue.paused is None else "paused")

    def do_operation_pause(self) -> None:
        """Pause the activity for all its workers, or let it go on, once that is confirmed."""
        queue = self._queue_here()
        if queue is not None:
            self.why_pause(queue.activity, resume=queue.paused is not None)

    def switched(self) -> None:
        """See :meth:`PausingScreen.switched`."""
        self.feed.rounds.watch_queues(True)

    def command(self) -> str:
        """See :meth:`ConsoleScreen.command`."""
        return command_line(self.shared.target, ["workers" if self.crew.has_focus else "queues"])
