"""A table that draws one line a row, only the rows in sight, and of those only the ones that changed.

Textual's `DataTable` keeps a copy of the data and repaints itself whole for every cell (20 KB at 120x40). This one
keeps nothing: it pulls keys, revisions and cells of the visible rows from a `RowSource`, remembers what each line of
the screen shows, and refreshes the cells where that is no longer true. It scrolls by itself instead of by Textual's
virtual size, because a change of that lays out and paints the screen twice; rows that come or go out of sight cost
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.cache import LRUCache
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from paigeant_console.safe_text import SafeText, literal
from paigeant_console.widgets.columns import Cell, Column, OpensRows, RowSource, fill_cell
from paigeant_console.widgets.component_styles import ComponentStyles
from paigeant_console.widgets.row_strip import NOTHING, Line, RowStrips, changed_cells
from paigeant_console.widgets.row_view import NO_ROWS, RowView

__all__ = ["LineTable"]


_CACHED_LINES: Final = 512
_WHEEL_LINES: Final = 3
_HEADER_LINE, _EMPTY_LINE, _BLANK_LINE = -1, -2, -3  # "revisions" of the lines that are no rows


class LineTable(ScrollView, can_focus=True, inherit_bindings=False):
    """A table over a `RowSource`, with a cursor that stays on its row whatever comes in above it.

    Whoever owns the source says when it changed: `update_rows` for rows that only changed their cells, `sync` for rows
    that came, went or moved. Both paint what differs on the screen and nothing else.

    Args:
        columns: The columns, from left to right.
        source: The rows; none by default.
        follow: Keep the cursor on the last row until the operator moves it up, and again after End or G.
        empty: The sentence shown when there are no rows.
        ascii_only: Write ASCII only.
        name: As in Textual.
        id: As in Textual.
        classes: As in Textual.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "cursor_down", "Down", show=False, id="table.down"),
        Binding("up,k", "cursor_up", "Up", show=False, id="table.up"),
        Binding("pagedown,ctrl+d", "page_down", "Page down", show=False, id="table.page_down"),
        Binding("pageup,ctrl+u", "page_up", "Page up", show=False, id="table.page_up"),
        Binding("home,g", "cursor_first", "First", show=False, id="table.first"),
        Binding("end,G,shift+g", "cursor_last", "Last, and follow", show=False, id="table.last"),
        Binding("space", "toggle_mark", "Mark", show=False, id="table.mark"),
        Binding("ctrl+@,ctrl+space", "mark_range", "Mark to here", show=False, id="table.mark_range"),
        Binding("enter", "select", "Open", show=False, id="table.open"),
    ]
    ALLOW_SELECT = False
    ALLOW_MAXIMIZE = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "line-table--header",
        "line-table--cursor",
        "line-table--marked",
        "line-table--empty",
        "line-table--dim",
        "line-table--strong",
        "line-table--ok",
        "line-table--info",
        "line-table--warn",
        "line-table--error",
    }
    DEFAULT_CSS = """
    LineTable {
        width: 1fr;
        height: 1fr;
        overflow: hidden hidden;
        & > .line-table--header { text-style: bold underline; }
        & > .line-table--cursor { text-style: reverse; }
        & > .line-table--marked { text-style: bold; }
        & > .line-table--empty { color: $text-muted; }
        & > .line-table--dim { color: $text-muted; }
        & > .line-table--strong { text-style: bold; }
        & > .line-table--ok { color: $text-success; }
        & > .line-table--info { color: $text-primary; }
        & > .line-table--warn { color: $text-warning; }
        & > .line-table--error { color: $text-error; }
    }
    """

    class TableMessage(Message):
        """Of which table a message tells, and of which row, if of one.

        Args:
            table: The table.
            key: The row.
        """

        def __init__(self, table: LineTable, key: str | None = None) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> LineTable:
            """The table, for the `on` decorator."""
            return self.table

    class CursorMoved(TableMessage):
        """The cursor stands on the row `key`, which is None when the table has become empty."""

        def can_replace(self, message: Message) -> bool:
            """Let a held-down key cost one message, for the row where it stopped."""
            return isinstance(message, LineTable.CursorMoved) and message.table is self.table

    class MarksChanged(TableMessage):
        """Rows were marked or unmarked; `marks` says which."""

    class FollowChanged(TableMessage):
        """Following was paused or taken up; `following` says which."""

    def __init__(
        self,
        columns: Sequence[Column],
        source: RowSource | None = None,
        *,
        follow: bool = False,
        empty: SafeText | None = None,
        ascii_only: bool = False,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._empty = literal("no rows") if empty is None else empty
        self._ascii = ascii_only
        self._view = RowView(NO_ROWS if source is None else source, follow=follow)
        self._styles = ComponentStyles(self, "line-table")
        self._row_strips = RowStrips(columns, self._styles, ascii_only=ascii_only)
        self._styles_stale = True
        # Raised whenever all lines look different: another width, theme, source or set of columns.
        self._look = 0
        self._fitted = Size(-1, -1)
        self._painted: dict[int, Line] = {}
        # What lines show once those of their cells are painted that change.
        self._partly: dict[int, Line] = {}
        self._strips: LRUCache[Line, Strip] = LRUCache(_CACHED_LINES)

    @property
    def source(self) -> RowSource:
        """The rows."""
        return self._view.source

    @property
    def cursor_key(self) -> str | None:
        """The row under the cursor, or None if there are none."""
        return self._view.key

    @property
    def cursor_index(self) -> int | None:
        """Where the row under the cursor was at the last `sync`, or None if there are none."""
        return None if self._view.key is None else self._view.index

    @property
    def marks(self) -> tuple[str, ...]:
        """The marked rows in the order in which they were marked."""
        return self._view.marks

    @property
    def following(self) -> bool:
        """Whether new rows at the end are followed now."""
        return self._view.following

    @property
    def rows_above(self) -> int:
        """How many rows are out of sight before the first line."""
        return self._view.top

    @property
    def _header_lines(self) -> int:
        return 1 if self.size.height > 1 else 0  # the only line there is belongs to a row

    def columns_for(self, width: int) -> Sequence[Column]:
        """The columns on so many cells, for subclasses that choose; they call `relook` where it is others now."""
        return self._row_strips.columns

    @property
    def last_cells(self) -> int:
        """Cells of the last column that is shown; 0: there was no room yet."""
        return self._row_strips.last_cells

    @property
    def wide(self) -> int:
        """Cells that rows have at least, however narrow the screen is; 0: as many as are in sight."""
        return self._row_strips.wide

    @property
    def shifted(self) -> int:
        """Cells of a row that are out of sight on the left."""
        return self._row_strips.shift

    def set_wide(self, cells: int) -> None:
        """Give rows more cells than are in sight, or no more than these.

        Args:
            cells: How many at least; 0: as many as are in sight.
        """
        self._row_strips.wide, self._row_strips.shift = cells, 0
        self.relook()

    def shift(self, cells: int) -> None:
        """Bring other cells of wide rows into sight; cursor and marks stay where they are.

        Args:
            cells: By how many, to the right.
        """
        shift = self._row_strips.shifted(self._row_strips.shift + cells, self.size.width)
        if shift != self._row_strips.shift:
            self._row_strips.shift = shift
            self.relook()

    def set_empty(self, sentence: SafeText) -> None:
        """Say something else when there are no rows: connecting, nothing matches.

        Args:
            sentence: What to say.
        """
        if sentence != self._empty:
            self._empty = sentence
            # The line may have been drawn before there were rows, and be wanted again once there are none.
            drawn = self._strips.keys()
            for line in [line for line in drawn if line.revision == _EMPTY_LINE]:
                self._strips.discard(line)
            if not len(self.source):
                self.relook()

    def update_rows(self, keys: Iterable[str]) -> None:
        """Repaint those of some rows that are in sight and whose revision has changed. They must not have moved.

        Args:
            keys: Rows whose cells changed.
        """
        wanted = set(keys)
        top, header = self._view.top, self._header_lines
        rows = range(min(self._view.page, len(self.source) - top))
        self._repaint_changes([row + header for row in rows if self.source.key(top + row) in wanted])

    def sync(self) -> None:
        """Take up rows that came, went or moved, and repaint the lines that show something else now.

        The cursor stays on its row, and that row on its line of the screen as far as there are rows to fill it. If the
        row is gone the cursor stays on its line. Marks of rows that are gone are dropped.
        """
        before = self.cursor_key
        dropped = self._view.sync()
        self._moved(before)
        if dropped and self.is_attached:
            self.post_message(self.MarksChanged(self))

    def move_to_index(self, index: int) -> None:
        """Put the cursor on a row. Any move up pauses following.

        Args:
            index: The row, from 0; beyond the ends it is the first or the last.
        """
        before = self.cursor_key
        paused = self._view.move_to(index)
        self._moved(before)
        if paused:
            self.post_message(self.FollowChanged(self))

    def move_to_key(self, key: str) -> bool:
        """Put the cursor on a row by its key.

        Args:
            key: The row.

        Returns:
            Whether it is there.
        """
        index = self.source.index_of(key)
        if index is None:
            return False
        self.move_to_index(index)
        return True

    def follow(self, on: bool = True) -> None:
        """Pause following, or go to the last row and follow again; nothing happens in a table made without `follow`.

        Args:
            on: Whether to follow.
        """
        if self._view.can_follow and on != self.following:
            self._view.following = on
            self.post_message(self.FollowChanged(self))
            self.sync()

    def unmark(self, keys: Iterable[str] | None = None) -> None:
        """Unmark rows, or all of them."""
        self._marked(self._view.unmark(keys))

    def _move_by(self, rows: int) -> None:
        self._view.locate()
        self.move_to_index(self._view.index + rows)

    def _moved(self, before: str | None) -> None:
        """Show where the cursor is now, and tell it."""
        if self.is_attached:
            self._repaint_changes()
            if self.cursor_key != before:
                self.post_message(self.CursorMoved(self, self.cursor_key))

    def _marked(self, changed: bool) -> None:
        if changed:
            self._repaint_changes()
            self.post_message(self.MarksChanged(self))

    def action_cursor_down(self) -> None:
        """Go one row down."""
        self._move_by(1)

    def action_cursor_up(self) -> None:
        """Go one row up."""
        self._move_by(-1)

    def action_page_down(self) -> None:
        """Go down by what is in sight."""
        self._view.top += self._view.page
        self._move_by(max(1, self._view.page))

    def action_page_up(self) -> None:
        """Go up by what is in sight."""
        self._view.top -= self._view.page
        self._move_by(-max(1, self._view.page))

    def action_cursor_first(self) -> None:
        """Go to the first row."""
        self.move_to_index(0)

    def action_cursor_last(self) -> None:
        """Go to the last row, and follow what is added."""
        self.move_to_index(len(self.source) - 1)
        self.follow()

    def action_select(self) -> None:
        """Have the row under the cursor opened: at once, as the next key is for what is open then."""
        opener = next((node for node in self.ancestors if isinstance(node, OpensRows)), None)
        # Of two clicks in one burst the first has opened it.
        if opener is not None and self.cursor_key is not None and self.app.screen is self.screen:
            opener.open_row(self, self.cursor_key)

    def action_toggle_mark(self) -> None:
        """Mark the row under the cursor, or unmark it."""
        self._marked(self._view.toggle_mark())

    def action_mark_range(self) -> None:
        """Mark all rows from the one that was last marked or unmarked to the cursor."""
        self._marked(self._view.mark_range())

    def render_line(self, y: int) -> Strip:
        """Draw a line.

        Args:
            y: The line, from 0; the first is the header where there is room for one.

        Returns:
            As many cells as the widget is wide.
        """
        if self._styles_stale:
            self._read_styles()
        if self._fitted != self.size:
            self._fit()
        line = self._painted[y] = self._line_at(y)
        if self._partly.pop(y, line) != line:
            # Something else stands here by now, and other cells may have changed.
            del self._painted[y]
            self.call_later(self._repaint_changes)
        return self._strip(y, line)

    def _strip(self, y: int, line: Line) -> Strip:
        if (strip := self._strips.get(line)) is None:
            strip = self._strips[line] = self._draw(y, line)
        return strip

    def _line_at(self, y: int) -> Line:
        """What stands on a line now."""
        row = y - self._header_lines
        if row < 0:
            return Line(None, _HEADER_LINE, False, False, self._look)
        index, count = self._view.top + row, len(self.source)
        if index >= count:
            return Line(None, _BLANK_LINE if row or count else _EMPTY_LINE, False, False, self._look)
        key = self.source.key(index)
        return Line(key, self.source.revision(key), key == self.cursor_key, self._view.is_marked(key), self._look)

    def _draw(self, y: int, line: Line) -> Strip:
        """Make the strip of a line."""
        width, base = self.size.width, self._styles[""]
        if line.revision == _HEADER_LINE:
            titles: list[Cell] = [(column.title, "") for column in self._row_strips.columns]
            return self._row_strips.draw("", titles, width, base + self._styles["header"])
        if line.key is None:
            sentence: Cell = (self._empty if line.revision == _EMPTY_LINE else NOTHING, "")
            [(text, _)] = fill_cell(sentence, width, align="left", ascii_only=self._ascii)
            return Strip([Segment(text, base + self._styles["empty"])], width)
        over = Style.null()
        if line.marked:
            over += self._styles["marked"]
        if line.selected:
            over += self._styles["cursor"]
        cursor = (">" if self._ascii else "▌") if line.selected else " "
        row = self.source.cells(self._view.top + y - self._header_lines)
        return self._row_strips.draw(cursor + ("*" if line.marked else " "), row, width, base, over)

    def _read_styles(self) -> None:
        """Only if one of the styles in use has changed do the lines look different."""
        self._styles_stale = False
        if self._styles.reread():
            self._look += 1
            self._strips.clear()

    def notify_style_update(self) -> None:
        """Textual has styled this widget anew, perhaps in another theme."""
        super().notify_style_update()
        self._styles_stale = True

    def _fit(self) -> None:
        """Take up the size, which a widget is told of only after the frame that it has it in."""
        self._fitted = self.size
        self._view.fit(max(0, self.size.height - self._header_lines))
        self._row_strips.columns = tuple(self.columns_for(max(self.size.width, self.wide)))
        self._row_strips.fit(self.size.width)
        self._look += 1
        self._painted.clear()
        self._strips.clear()
        self._partly.clear()

    def relook(self) -> None:
        """All lines look different."""
        self._fit()
        self.refresh()

    def _repaint_changes(self, lines: Iterable[int] | None = None) -> None:
        """Refresh the cells of lines (all) in which something else stands now than what was painted."""
        if self._styles_stale:
            self._read_styles()
        changed = []
        for y in range(self.size.height) if lines is None else lines:
            line, painted = self._line_at(y), self._painted.get(y)
            if painted == line:
                continue
            start, cells = 0, self.size.width  # all of it, where it is not known how it looked
            if painted is not None and painted.look == line.look and (old := self._strips.get(painted)) is not None:
                start, cells = changed_cells(old, self._strip(y, line))
                if not cells:
                    self._painted[y] = line
                    continue
                self._partly[y] = line
            changed.append((y, start, cells))
        # Lines one below the other that change in the same cells are one region.
        for (_, start, cells), run in groupby(enumerate(changed), lambda item: (item[1][0] - item[0], *item[1][1:])):
            lines = [item[0] for _, item in run]
            self.refresh(Region(start, lines[0], cells, len(lines)))

    def on_mount(self) -> None:
        """Take up the rows that there are."""
        self.sync()

    def on_resize(self) -> None:
        """Fit the columns to the new width and keep the cursor in sight."""
        if self._fitted != self.size:
            self.relook()
        self.sync()

    def on_click(self, event: events.Click) -> None:
        """Put the cursor on the row that was clicked."""
        row = event.y - self.gutter.top - self._header_lines
        if 0 <= row < len(self.source) - self._view.top:
            self.move_to_index(self._view.top + row)

    def _on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self._move_by(_WHEEL_LINES)

    def _on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self._move_by(-_WHEEL_LINES)
