"""A table of rows that a test makes, and the app that shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.strip import Strip

from paigeant_console.safe_text import literal, safe
from paigeant_console.widgets import Cell, Column, LineTable

COLUMNS = (
    Column(literal("ID"), 8, priority=9),
    Column(literal("STATE"), 10, priority=5),
    Column(literal("N"), 5, align="right", priority=1),
    Column(literal("TEXT"), 20, min_width=5, priority=3),
)


class Rows:
    """A source over a list of keys; rows are what their key and revision say."""

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self.keys = list(keys)
        self.revisions: dict[str, int] = {}
        self.drawn: list[str] = []

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, index: int) -> str:
        return self.keys[index]

    def index_of(self, key: str) -> int | None:
        try:
            return self.keys.index(key)
        except ValueError:
            return None

    def revision(self, key: str) -> int:
        return self.revisions.get(key, 0)

    def cells(self, index: int) -> Sequence[Cell]:
        key = self.keys[index]
        self.drawn.append(key)
        return (
            (safe(key), "strong"),
            (literal("running"), "ok"),
            (safe(str(self.revision(key))), "no-such-style"),
            ((literal("text of "), "dim"), (safe(key), "error")),
        )

    def touch(self, *keys: str) -> None:
        for key in keys:
            self.revisions[key] = self.revision(key) + 1


class ManyRows(Rows):
    """100,000 rows that are nowhere."""

    def __len__(self) -> int:
        return 100_000

    def key(self, index: int) -> str:
        assert 0 <= index < 100_000
        return f"k{index}"

    def index_of(self, key: str) -> int | None:
        return int(key[1:])

    def cells(self, index: int) -> Sequence[Cell]:
        self.drawn.append(f"k{index}")
        return ((safe(f"k{index}"), ""),)


class Watched(LineTable):
    """Counts the lines that Textual asks for, and what is to be painted."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.asked: list[int] = []
        self.regions: list[Region] = []

    def refresh(self, *regions: Region, **options: bool) -> Self:
        self.regions += regions
        return super().refresh(*regions, **options)

    def render_line(self, y: int) -> Strip:
        self.asked.append(y)
        return super().render_line(y)


class TableApp(App[None]):
    def __init__(self, rows: Rows, **kwargs) -> None:
        super().__init__()
        self.table = Watched(COLUMNS, rows, **kwargs)
        self.told: list[tuple[str, Any]] = []

    def compose(self) -> ComposeResult:
        yield self.table

    def open_row(self, table: object, key: str) -> None:
        self.told.append(("selected", key))

    def on_line_table_cursor_moved(self, message: LineTable.CursorMoved) -> None:
        self.told.append(("cursor", message.key))

    def on_line_table_marks_changed(self, message: LineTable.MarksChanged) -> None:
        self.told.append(("marks", message.control.marks))

    def on_line_table_follow_changed(self, message: LineTable.FollowChanged) -> None:
        self.told.append(("follow", message.control.following))

    def lines(self) -> list[str]:
        return [strip.text.rstrip() for strip in self.screen._compositor.render_strips()]

    def cursor_line(self) -> int:
        return next(y for y, line in enumerate(self.lines()) if line.startswith("▌"))


def keys(count: int) -> list[str]:
    return [f"r{index:03}" for index in range(count)]


async def settle(pilot) -> None:
    await pilot.pause(0.1)
