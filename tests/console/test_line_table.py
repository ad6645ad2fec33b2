from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.geometry import Region, Size
from textual.strip import Strip

from paigeant_console.safe_text import SafeText, literal, safe
from paigeant_console.widgets import Cell, Column, LineTable
from paigeant_console.widgets.columns import fill_cell, fit_columns
from paigeant_console.widgets.row_strip import changed_cells
from paigeant_console.widgets.row_view import RowView

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

    def on_line_table_row_selected(self, message: LineTable.RowSelected) -> None:
        self.told.append(("selected", message.key))

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


# What is drawn


async def test_a_line_for_a_row_under_a_header():
    app = TableApp(Rows(keys(3)))
    async with app.run_test(size=(50, 6)):
        assert app.lines() == [
            "  ID       STATE          N TEXT",
            "▌ r000     running        0 text of r000",
            "  r001     running        0 text of r001",
            "  r002     running        0 text of r002",
            "",
            "",
        ]
        assert all(strip.cell_length == 50 for strip in app.screen._compositor.render_strips())


async def test_styles_have_colours_and_the_cursor_a_glyph_too():
    app = TableApp(Rows(keys(3)))
    async with app.run_test(size=(50, 6)):
        cursor, other = (list(app.table.render_line(y)) for y in (1, 2))
        assert cursor[0].text.startswith("▌")
        assert all(segment.style and segment.style.reverse for segment in cursor)
        assert not any(segment.style and segment.style.reverse for segment in other)
        assert len({segment.style.color for segment in cursor if segment.style}) == 1  # one bar, no patches
        styles = {segment.text.strip(): segment.style for segment in other}
        ok, error = styles["running"], styles["r001"]
        assert ok
        assert error
        assert ok.color != error.color
        # The gap between two cells and the unknown style are the row's own: one segment with the padding.
        assert len(other) <= 8


async def test_ascii():
    app = TableApp(Rows(["é" * 20, "b"]), ascii_only=True)
    async with app.run_test(size=(50, 6)):
        lines = app.lines()
        assert all(line.isascii() for line in lines)
        assert lines[1].startswith("> <U+00E9~ running")


async def test_nothing_to_show_is_a_sentence():
    rows = Rows()
    app = TableApp(rows, empty=literal("no dead letters"))
    async with app.run_test(size=(50, 6)) as pilot:
        assert app.lines()[1] == "no dead letters"
        app.table.set_empty(literal("connecting"))
        await settle(pilot)
        assert app.lines()[1] == "connecting"
        assert app.table.cursor_key is None
        await pilot.press("j", "enter", "space", "G", "pagedown")
        assert app.told == []
        rows.keys = keys(2)
        app.table.sync()
        await settle(pilot)
        assert app.table.cursor_key == "r000"
        assert app.lines()[2] == "  r001     running        0 text of r001"
        rows.keys = []
        app.table.sync()
        await settle(pilot)
        assert app.lines()[1] == "connecting"
        assert app.told == [("cursor", "r000"), ("cursor", None)]


async def test_unsafe_text_past_the_type_checker_is_made_safe():
    class Hostile(Rows):
        def cells(self, index: int) -> Sequence[Cell]:
            return [("\x1b[2J[/]", ""), [("\u202e", ""), ("\x9b31m", "")]]  # type: ignore[list-item]

    app = TableApp(Hostile(["a"]))
    async with app.run_test(size=(50, 6)):
        assert app.lines()[1].startswith("▌ ␛[2J[/]  <U+202E><…")


# The cursor


async def test_keys_move_the_cursor():
    app = TableApp(Rows(keys(50)))
    async with app.run_test(size=(60, 11)) as pilot:  # ten rows
        for key, expected in [
            ("j", 1),
            ("down", 2),
            ("k", 1),
            ("up", 0),
            ("up", 0),
            ("pagedown", 10),
            ("ctrl+d", 20),
            ("pageup", 10),
            ("ctrl+u", 0),
            ("G", 49),
            ("j", 49),
            ("g", 0),
            ("end", 49),
            ("home", 0),
        ]:
            await pilot.press(key)
            assert app.table.cursor_index == expected, key
            assert app.table.cursor_key == f"r{expected:03}"
            assert app.lines()[app.cursor_line()].startswith(f"▌ r{expected:03}")
        await pilot.press("enter")
        assert app.told[-1] == ("selected", "r000")


async def test_rows_above_do_not_move_the_cursor():
    rows = Rows(keys(50))
    app = TableApp(rows)
    async with app.run_test(size=(60, 11)) as pilot:
        await pilot.press(*"jjj")
        before = app.lines()
        app.table.asked.clear()
        for number in range(5):
            rows.keys.insert(0, f"new{number}")
            app.table.sync()
        await settle(pilot)
        assert app.table.cursor_key == "r003"
        assert app.table.cursor_index == 8
        assert app.table.rows_above == 5
        assert app.lines() == before
        assert app.table.asked == []  # nothing on the screen has changed, so nothing was painted
        assert app.told == [("cursor", key) for key in ("r000", "r001", "r002", "r003")][-len(app.told) :]
        rows.keys.reverse()  # moved far away, the row is still under the cursor, on its line
        app.table.sync()
        await settle(pilot)
        assert app.table.cursor_key == "r003"
        assert app.lines()[app.cursor_line()].startswith("▌ r003")


async def test_rows_above_when_all_rows_fit():
    rows = Rows(keys(2))
    app = TableApp(rows)
    async with app.run_test(size=(60, 11)) as pilot:
        rows.keys.insert(0, "new")
        app.table.sync()
        await settle(pilot)
        assert app.table.cursor_key == "r000"
        assert [line[:6] for line in app.lines()[1:4]] == ["  new ", "▌ r000", "  r001"]


async def test_keys_typed_between_a_change_and_its_sync_start_from_the_row():
    rows = Rows(keys(50))
    app = TableApp(rows)
    async with app.run_test(size=(60, 11)) as pilot:
        await pilot.press("j")
        rows.keys[:0] = ["new1", "new2"]
        await pilot.press("j")
        assert app.table.cursor_key == "r002"


async def test_when_its_row_is_gone_the_cursor_stays_on_the_line():
    rows = Rows(keys(20))
    app = TableApp(rows)
    async with app.run_test(size=(60, 11)) as pilot:
        await pilot.press("j", "j")
        rows.keys.remove("r002")
        app.table.sync()
        await settle(pilot)
        assert app.table.cursor_key == "r003"
        assert app.cursor_line() == 3
        assert app.told[-1] == ("cursor", "r003")
        rows.keys = rows.keys[:1]
        app.table.sync()
        await settle(pilot)
        assert app.table.cursor_key == "r000"


async def test_a_ring_that_drops_its_oldest_rows():
    rows = Rows(keys(30))
    app = TableApp(rows)
    async with app.run_test(size=(60, 11)) as pilot:
        app.table.move_to_key("r015")
        await settle(pilot)
        line = app.cursor_line()
        for number in range(15):
            rows.keys.pop(0)
            rows.keys.append(f"n{number}")
            app.table.sync()
            assert app.table.cursor_key == "r015"
        await settle(pilot)
        assert app.cursor_line() <= line
        assert app.table.cursor_index == 0
        assert not app.table.move_to_key("r000")


@given(st.data())
def test_any_history_keeps_the_view_whole(data):
    rows = Rows(keys(6))
    view = RowView(rows, follow=data.draw(st.booleans()))
    fresh = (f"n{number}" for number in itertools.count())
    view.page = data.draw(st.integers(0, 5))
    view.sync()
    for _ in range(data.draw(st.integers(1, 12))):
        match data.draw(st.sampled_from(["insert", "remove", "shuffle", "move", "page", "mark", "range"])):
            case "insert":
                rows.keys.insert(data.draw(st.integers(0, len(rows.keys))), next(fresh))
            case "remove" if rows.keys:
                rows.keys.pop(data.draw(st.integers(0, len(rows.keys) - 1)))
            case "shuffle":
                rows.keys = data.draw(st.permutations(rows.keys))
            case "move":
                view.move_to(data.draw(st.integers(-2, 20)))
            case "page":
                view.page = data.draw(st.integers(0, 5))
            case "mark":
                view.toggle_mark()
            case "range":
                view.mark_range()
        kept = view.key
        view.sync()
        assert kept not in rows.keys or kept == view.key or view.following
        assert (view.key is None) == (not rows.keys)
        if rows.keys:
            assert rows.keys[view.index] == view.key
            assert view.top <= view.index < view.top + max(view.page, 1)
        assert 0 <= view.top <= max(0, len(rows.keys) - max(view.page, 1))
        assert set(view.marks) <= set(rows.keys)


# Following


async def test_follow_goes_with_the_tail_until_a_move_up():
    rows = Rows(keys(20))
    app = TableApp(rows, follow=True)

    def add(*new: str) -> None:
        rows.keys += new
        app.table.sync()

    async with app.run_test(size=(60, 11)) as pilot:
        assert app.table.cursor_key == "r019"
        add("a", "b")
        await settle(pilot)
        assert app.table.cursor_key == "b"
        assert app.lines()[-1].startswith("▌ b")
        await pilot.press("j")  # not a move up
        assert app.table.following
        await pilot.press("k")
        assert app.table.cursor_key == "a"
        assert not app.table.following
        before = app.lines()
        add("c", "d")
        await settle(pilot)
        assert app.lines() == before
        await pilot.press("j", "j")  # down to the end by hand does not follow again
        assert not app.table.following
        await pilot.press("G")
        assert app.table.following
        assert app.table.cursor_key == "d"
        add("e")
        assert app.table.cursor_key == "e"
        await pilot.press("pageup")
        assert not app.table.following
        app.table.follow()
        assert app.table.cursor_key == "e"
        assert [value for kind, value in app.told if kind == "follow"][:3] == [False, True, False]


async def test_a_table_that_does_not_follow():
    rows = Rows(keys(20))
    app = TableApp(rows)
    async with app.run_test(size=(60, 11)) as pilot:
        await pilot.press("G")
        rows.keys.append("a")
        app.table.sync()
        assert not app.table.following
        assert app.table.cursor_key == "r019"
        app.table.follow()
        assert not app.table.following


# Marks


def marked(app: TableApp) -> list[str]:
    return list(app.table.marks)


async def test_marks():
    rows = Rows(keys(20))
    app = TableApp(rows)
    async with app.run_test(size=(60, 11)) as pilot:
        await pilot.press("space", "j", "j", "space")
        assert marked(app) == ["r000", "r002"]
        lines = app.lines()
        assert [line[:2] for line in lines[1:4]] == [" *", "  ", "▌*"]
        await pilot.press("space")
        assert marked(app) == ["r000"]
        await pilot.press("j", "j", "ctrl+@")  # from the row last touched
        assert marked(app) == ["r000", "r002", "r003", "r004"]
        rows.keys.remove("r003")
        app.table.sync()
        await settle(pilot)
        assert marked(app) == ["r000", "r002", "r004"]
        app.table.clear_marks()
        await settle(pilot)
        assert marked(app) == []
        assert not any("*" in line for line in app.lines())
        assert [value for kind, value in app.told if kind == "marks"][-1] == ()


# What it costs


async def test_only_the_changed_row_is_painted():
    rows = Rows(keys(1000))
    app = TableApp(rows)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        rows.drawn.clear()
        app.table.asked.clear()
        rows.touch("r004")
        app.table.update_rows(["r004"])
        await settle(pilot)
        assert app.table.asked == [5]
        assert rows.drawn == ["r004"]
        assert app.lines()[5] == "  r004     running        1 text of r004"

        app.table.asked.clear()
        rows.touch("r500")  # out of sight
        app.table.update_rows(["r500"])
        app.table.update_rows(["r004", "r005"])  # unchanged since
        app.table.update_rows(["gone"])
        app.table.sync()
        await settle(pilot)
        assert app.table.asked == []

        await pilot.press("j")
        await settle(pilot)
        assert sorted(app.table.asked) == [1, 2]

        app.table.asked.clear()
        rows.keys.append("new")  # out of sight
        app.table.sync()
        await settle(pilot)
        assert app.table.asked == []

        rows.keys[9], rows.keys[10] = rows.keys[10], rows.keys[9]
        app.table.sync()
        await settle(pilot)
        assert sorted(app.table.asked) == [10, 11]


async def test_of_a_row_only_the_cells_that_changed_are_painted():
    rows = Rows(keys(30))
    app = TableApp(rows)
    async with app.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        app.table.regions.clear()
        for key in ("r004", "r005", "r006"):
            rows.touch(key)
        app.table.update_rows(["r004", "r005", "r006"])
        await settle(pilot)
        number = app.lines()[5].index(" 1 ") + 1
        assert app.table.regions == [Region(number, 5, 1, 3)]

        app.table.regions.clear()
        rows.touch("r004")
        app.table.update_rows(["r004"])
        rows.revisions["r004"] = 1234  # before it was painted, and nobody has told of it yet
        await settle(pilot)
        assert "1234" in app.lines()[5]
        assert app.table.regions == [Region(number, 5, 1, 1), Region(0, 5, 100, 1)]


_texts = st.text(st.sampled_from("ab 1\u4e2d\u00e9"), max_size=8)
_styles = st.sampled_from([None, Style(bold=True), Style(dim=True)])
_segments = st.lists(st.tuples(_texts, _styles).map(lambda pair: Segment(*pair)), max_size=5)


@given(_segments, _segments)
def test_painting_the_cells_that_changed_makes_the_one_strip_of_the_other(before, after):
    old, new = (Strip(segments).adjust_cell_length(24) for segments in (before, after))
    start, cells = changed_cells(old, new)
    pieces = [old.crop(0, start), new.crop(start, start + cells), old.crop(start + cells)]
    assert [letter for piece in pieces for letter in _letters(piece)] == _letters(new)


def _letters(strip: Strip) -> list[tuple[str, Style | None]]:
    return [(letter, segment.style) for segment in strip for letter in segment.text]


async def test_lines_seen_before_are_not_drawn_again():
    rows = Rows(keys(40))
    app = TableApp(rows)
    async with app.run_test(size=(60, 11)) as pilot:
        await pilot.press("pagedown", "pageup")
        await settle(pilot)
        rows.drawn.clear()
        await pilot.press("pagedown", "pageup")
        await settle(pilot)
        assert rows.drawn == []


async def test_a_hundred_thousand_rows():
    rows = ManyRows()
    app = TableApp(rows)
    async with app.run_test(size=(60, 11)) as pilot:
        await pilot.press("G")
        await settle(pilot)
        assert app.lines()[-1].startswith("▌ k99999")
        assert len(rows.drawn) < 50
        await pilot.press("g", "pagedown")
        assert app.table.cursor_key == "k10"


async def test_another_theme_paints_everything_anew():
    app = TableApp(Rows(keys(5)))
    async with app.run_test(size=(60, 11)) as pilot:
        await settle(pilot)
        before = app.table.render_line(2)
        for theme in ("textual-light", "ansi-dark", "textual-dark"):
            app.theme = theme
            await settle(pilot)
            assert app.table.render_line(2) != before
            before = app.table.render_line(2)


# Sizes


async def test_narrow_terminals_drop_columns():
    app = TableApp(Rows(keys(3)))
    async with app.run_test(size=(50, 6)) as pilot:
        for width, titles in [
            (80, ["ID", "STATE", "N", "TEXT"]),
            (33, ["ID", "STATE", "N", "TEXT"]),  # TEXT shrinks to five
            (32, ["ID", "STATE", "TEXT"]),
            (27, ["ID", "STATE", "TEXT"]),
            (26, ["ID", "STATE"]),
            (20, ["ID"]),
            (4, ["ID"]),
        ]:
            await pilot.resize_terminal(width, 6)
            await settle(pilot)
            header, row = app.lines()[:2]
            assert header.split() == [title[: width - 2] for title in titles]
            assert cell_len(row) <= width
            assert app.table.size == Size(width, 6)


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 2), (3, 3), (200, 1), (1, 60)])
async def test_tiny_sizes(size):
    rows = Rows(["漢字" * 9, *keys(30)])
    app = TableApp(rows)
    async with app.run_test(size=size) as pilot:
        for key in ("j", "pagedown", "space", "G", "k", "pageup", "g", "enter"):
            await pilot.press(key)
        rows.touch("r001")
        app.table.update_rows(["r001"])
        app.table.sync()
        await settle(pilot)
        strips = app.screen._compositor.render_strips()
        assert len(strips) == size[1]
        assert all(strip.cell_length == size[0] for strip in strips)
        if size == (1, 1):
            assert app.lines() == ["▌"]


async def test_resizing_keeps_the_cursor_in_sight():
    app = TableApp(Rows(keys(50)))
    async with app.run_test(size=(60, 21)) as pilot:
        app.table.move_to_index(19)
        for size in [(60, 6), (1, 1), (60, 2), (200, 60), (30, 11)]:
            await pilot.resize_terminal(*size)
            await settle(pilot)
            assert app.table.cursor_key == "r019"
            assert app.lines()[app.cursor_line()].startswith("▌")


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40), st.integers(0, 5)), max_size=8),
    st.integers(-3, 120),
)
def test_columns_always_fit(wanted, width):
    columns = [Column(literal(""), cells, min_width=least, priority=rank) for cells, least, rank in wanted]
    fitted = fit_columns(columns, width)
    assert [index for index, _ in fitted] == sorted({index for index, _ in fitted})
    assert all(room >= 1 for _, room in fitted)
    if wanted and width > 0:
        assert sum(room for _, room in fitted) + len(fitted) - 1 == width
        dropped = set(range(len(columns))) - {index for index, _ in fitted}
        if dropped:
            kept = min(columns[index].priority for index, _ in fitted)
            assert max(columns[index].priority for index in dropped) <= kept
    else:
        assert fitted == []


@given(
    st.lists(st.text(max_size=12).map(safe), min_size=1, max_size=4),
    st.integers(1, 20),
    st.sampled_from(["left", "right", "center"]),
    st.booleans(),
)
def test_cells_are_filled_exactly(texts, width, align, ascii_only):
    spans: list[tuple[SafeText, str]] = [(text, "dim") for text in texts]
    filled = fill_cell(spans, width, align=align, ascii_only=ascii_only)
    assert sum(cell_len(text) for text, _ in filled) == width
    assert not ascii_only or all(text.isascii() for text, _ in filled)
    if len(texts) == 1:
        assert fill_cell(spans[0], width, align=align, ascii_only=ascii_only) == filled


def test_a_cell_of_several_spans_shows_where_it_was_cut():
    spans = ((literal("abc"), "ok"), (literal("def"), "error"))
    assert fill_cell(spans, 6, align="left", ascii_only=False) == [("", ""), ("abc", "ok"), ("def", "error"), ("", "")]
    assert fill_cell(spans, 5, align="left", ascii_only=False) == [("abc", "ok"), ("d…", "error")]
    assert fill_cell(spans, 3, align="left", ascii_only=False) == [("ab…", "ok")]
    assert fill_cell(spans, 8, align="right", ascii_only=True)[0] == ("  ", "")


# The mouse, for those who switch it on


async def test_mouse():
    app = TableApp(Rows(keys(50)))
    async with app.run_test(size=(60, 11)) as pilot:
        await pilot.click(app.table, offset=(5, 4))
        assert app.table.cursor_key == "r003"
        await pilot.click(app.table, offset=(5, 0))  # the header
        assert app.table.cursor_key == "r003"
        await pilot._post_mouse_events([events.MouseScrollDown], app.table, (5, 4), button=0)
        assert app.table.cursor_key == "r006"
        await pilot._post_mouse_events([events.MouseScrollUp], app.table, (5, 4), button=0)
        assert app.table.cursor_key == "r003"
