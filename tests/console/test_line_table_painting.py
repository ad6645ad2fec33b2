"""What a table paints: what changed and no more, in whatever space there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip

from paigeant_console.safe_text import SafeText, literal, safe
from paigeant_console.widgets import Column
from paigeant_console.widgets.columns import fill_cell, fit_columns
from paigeant_console.widgets.row_strip import changed_cells
from tests.console.table_kit import ManyRows, Rows, TableApp, keys, settle

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
