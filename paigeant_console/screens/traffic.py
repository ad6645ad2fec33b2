"""View 2: the journal as it is written; it follows the end until the operator looks at something."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

from textual.widget import Widget

from paigeant_console.actions import key_of
from paigeant_console.feed import RING, Phase
from paigeant_console.model.confirmation import command_line
from paigeant_console.model.query import Query, Selected
from paigeant_console.model.text import count
from paigeant_console.model.times import at_heading
from paigeant_console.model.traffic import TrafficList
from paigeant_console.safe_text import SafeText, joined, literal, safe
from paigeant_console.screens.filtering import FilteringScreen
from paigeant_console.screens.shared import Shared
from paigeant_console.widgets.columns import Column, fit_columns
from paigeant_console.widgets.line_table import LineTable
from paigeant_console.widgets.span_lines import Line

__all__ = ["TrafficScreen"]

_GUTTER: Final = 2
WIDE: Final = 110


class _TrafficTable(LineTable):
    """The tail; it chooses its columns by its width."""

    def __init__(self, rows: TrafficList, *, empty: SafeText, ascii_only: bool) -> None:
        self._rows = rows
        super().__init__(_columns(80)[1], rows, follow=True, empty=empty, ascii_only=ascii_only)

    def columns_for(self, width: int) -> Sequence[Column]:
        """See :meth:`LineTable.columns_for`."""
        names, columns = _columns(width)
        self._rows.columns = names
        self._rows.room = {names[index]: room for index, room in fit_columns(columns, width - _GUTTER)}
        return columns


def _columns(width: int) -> tuple[tuple[str, ...], tuple[Column, ...]]:
    at = at_heading()
    what = Column(literal("WHAT"), 60, min_width=10, priority=10)
    columns: tuple[Column, ...]
    if width < WIDE:
        columns = (
            Column(at, 8, priority=8),
            Column(literal("KIND"), 13, priority=9),
            Column(literal("ID"), 8, priority=7),
            what,
        )
        return ("at", "kind", "id", "what"), columns
    columns = (
        Column(at, 12, priority=8),
        Column(literal("KIND"), 19, min_width=13, priority=9),
        Column(literal("ID"), 32 if width >= 180 else 12, min_width=8, priority=7),
        Column(literal("NAME"), 16, min_width=8, priority=5),
        what,
    )
    return ("millis", "kind", "id", "name", "what"), columns


class TrafficScreen(FilteringScreen):
    """The tail of the journal."""

    view: ClassVar[str] = "traffic"
    selects: ClassVar[Selected] = "record"
    example: ClassVar[SafeText] = literal("kind:retrying step:charge id:3f2 worker:w1 … or any word")

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.rows = TrafficList(RING, ascii_only=shared.ascii_only)
        self.table = _TrafficTable(self.rows, empty=self.sentence(), ascii_only=shared.ascii_only)
        self._left_at = 0
        self._erased = 0
        """How many erased workflows were forgotten here."""

    def body(self) -> Iterable[Widget]:
        """The filter and the table."""
        return self.filter_line, self.table

    def on_mount(self) -> None:
        """The table has the keys."""
        self.table.focus()

    # -- looking ------------------------------------------------------------------------

    def look(self, changed: bool) -> None:
        """See :meth:`ConsoleScreen.look`."""
        if changed and self.feed.serial != self.rows.next_serial:
            first, records = self.feed.traffic(self.rows.next_serial)
            self.rows.extend(first, records, self.feed.now())
        self._forget_erased()
        self._show()

    def _forget_erased(self) -> bool:
        """Forget what was erased meanwhile; whether there was anything."""
        erased = self.feed.erased(self._erased)
        if erased is not None:
            self._erased = len(erased)
            self.rows.forget(erased, self.feed.now())
        return erased is not None

    def flush(self) -> None:
        """See :meth:`ConsoleScreen.flush`; a frozen view still says how much is new."""
        super().flush()
        if self.paused and self.built:
            if self._forget_erased():
                self.table.sync()
            self._say_where()

    def _show(self) -> None:
        self.table.set_empty(self.sentence())
        self.table.sync()
        query = self.rows.query
        text = safe(query.text, 200) if query is not None else None
        self.filter_line.show(text, len(self.rows), count(self.rows.next_serial - self.rows.dropped))
        self._say_where()

    def _say_where(self) -> None:
        """Say what is out of sight below, and what is not kept any more."""
        if self.paused:
            new = joined(
                (
                    literal(", +"),
                    count(self.feed.serial - self.rows.next_serial),
                    literal(f" new, {key_of('pause')} goes on"),
                )
            )
            self.prompt.stand((literal("paused"), "warn"), (new, ""))
        elif not self.table.following:
            new = count(max(0, self.rows.next_serial - self._left_at))
            self.prompt.stand((joined((literal("+"), new, literal(f" new, {key_of('table.last')} to follow"))), "info"))
        elif self.rows.dropped:
            kept, read = count(self.rows.next_serial - self.rows.dropped), count(self.rows.next_serial)
            words = (literal("the newest "), kept, literal(" of "), read, literal(" records are kept"))
            self.prompt.stand((joined(words), "dim"))
        else:
            self.prompt.stand()

    def sentence(self) -> SafeText:
        """What stands there when there are no rows."""
        status = self._status
        if status.phase in (Phase.CONNECTING, Phase.CATCHING_UP, Phase.FAILED) or not status.records:
            said = self.feed_trouble()
            if said is not None:
                return said
        if self.rows.query is not None:
            return literal(f"nothing matches the filter; {key_of('escape')} clears it")
        return joined((literal("no traffic yet in topic "), self.shared.place.topic))

    # -- keys ---------------------------------------------------------------------------

    def targets(self) -> list[str]:
        """The workflow of the record under the cursor."""
        key = self.table.cursor_key
        record = self.rows.record(key) if key is not None else None
        found = record.headers.correlation_id if record is not None else ""
        return [found] if found else []

    def has_targets(self) -> bool:
        """See :meth:`ConsoleScreen.has_targets`; a record may be of no workflow, which is said when it is acted on."""
        return self.table.cursor_key is not None

    def command(self) -> str:
        """See :meth:`ConsoleScreen.command`."""
        query = self.rows.query
        return command_line(self.shared.target, ["tail", *([query.text] if query is not None else [])])

    def on_line_table_follow_changed(self) -> None:
        """Count what comes from now on."""
        self._left_at = self.rows.next_serial
        self._say_where()

    def open_row(self, table: object, key: str) -> None:
        """Open the workflow of the record."""
        ids = self.targets()
        if ids:
            self.shared.open_workflow(ids[0])
        else:
            self.say((literal("this record is of no workflow"), "warn"))

    def do_pause(self) -> None:
        """Freeze the tail where it is; going on takes up what came meanwhile."""
        super().do_pause()
        self._say_where()

    def apply_query(self, query: Query) -> None:
        """See :meth:`FilteringScreen.apply_query`."""
        self.rows.set_query(query, self.feed.now())
        self._show()

    def found(self) -> Line:
        """See :meth:`FilteringScreen.found`."""
        return [(literal(f"{len(self.rows):,} shown"), "dim")]

    def do_escape(self) -> None:
        """Clear the filter first, then follow again."""
        if not self._text and not self.table.following:
            self.table.follow()
        else:
            super().do_escape()
