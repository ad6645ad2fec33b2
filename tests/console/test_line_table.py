from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from textual import events

from paigeant_console.safe_text import literal
from paigeant_console.widgets import Cell
from paigeant_console.widgets.row_view import RowView
from tests.console.table_kit import Rows, TableApp, keys, settle

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
        # What was said before there were rows is not said again once they have gone.
        rows.keys = keys(2)
        app.table.sync()
        app.table.set_empty(literal("deleted"))
        rows.keys = []
        app.table.sync()
        await settle(pilot)
        assert app.lines()[1] == "deleted"


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
        app.table.unmark()
        await settle(pilot)
        assert marked(app) == []
        assert not any("*" in line for line in app.lines())
        assert [value for kind, value in app.told if kind == "marks"][-1] == ()


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
