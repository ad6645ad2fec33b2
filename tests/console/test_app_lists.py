"""The lists of workflows, driven by keys: cursor, filter, order, marks."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from textual import _time

from paigeant_console.model.query import use_saved
from paigeant_console.model.workflow_list import WorkflowList
from tests.console import story as told
from tests.console.appkit import console
from tests.console.story import Story, sample_story


async def test_rows_that_come_in_above_leave_the_cursor_on_its_row(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press("j", "j")
        table = opened.screen.table
        assert table.cursor_key == told.HELD
        for number in range(40):
            story.start(f"new{number:02}", ("charge",))
            await opened.settled()
        assert table.cursor_key == told.HELD
        assert any(line.startswith("▌") and "b8a6acd" in line for line in opened.lines())
        await opened.press("g")
        story.start("newest", ("charge",))
        await opened.settled()
        assert table.cursor_key == "newest", "g follows the top"


async def test_until_it_is_moved_the_cursor_follows_the_top(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        story.start("new", ("charge",))
        await opened.settled()
        assert opened.screen.table.cursor_key == "new"


async def test_moving_keys(tmp_path: Path) -> None:
    story = Story()
    for number in range(100):
        story.start(f"w{number:02}", ("charge",))
    async with console(story, tmp_path, size=(80, 24)) as opened:
        table = opened.screen.table

        async def goes(key: str, index: int) -> None:
            await opened.press(key)
            assert table.cursor_index == index, key

        await goes("j", 1)
        await goes("down", 2)
        await goes("k", 1)
        await goes("up", 0)
        await goes("G", 99)
        await goes("g", 0)
        await goes("end", 99)
        await goes("home", 0)
        page = table.size.height - 1
        await goes("pagedown", page)
        await goes("pageup", 0)
        await goes("ctrl+d", page)
        await goes("ctrl+u", 0)


async def test_the_filter_counts_while_it_is_typed_and_keeps_the_row(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("j", "j", "j", "j")
        table = opened.screen.table
        row = table.cursor_key
        assert row == told.RETRYING
        await opened.press("/")
        await opened.type("onboard")
        assert len(table.source) == 3
        assert table.cursor_key == row
        assert "3 of 9" in opened.text()
        await opened.type("ingx")
        assert len(table.source) == 0
        assert "nothing matches the filter" in opened.text()
        await opened.press("backspace")
        assert table.cursor_key == row, "the row comes back with the filter that lets it"
        await opened.press("enter")
        assert "FILTER" in opened.text()
        assert "onboarding" in opened.text()
        await opened.press("escape")
        assert "FILTER" not in opened.text()
        assert table.cursor_key == row
        assert len(table.source) == 9


async def test_a_row_that_a_filter_hid_takes_no_cursor_when_it_comes_into_the_list(
    tmp_path: Path,
) -> None:
    story = Story()
    for number in range(6):
        story.start(f"w{number}", ("charge",))
    for number in (0, 1, 3, 4):
        story.fails(f"w{number}", ValueError("declined"))
    async with console(story, tmp_path) as opened:
        table = opened.screen.table
        table.move_to_key("w2")
        await opened.press("/")
        await opened.type("state:dead")
        await opened.press("enter")
        await opened.settled()
        looked_at = table.cursor_key
        assert looked_at in ("w0", "w1", "w3", "w4")
        story.fails("w2", ValueError("declined"))
        await opened.settled()
        assert table.source.index_of("w2") is not None
        assert table.cursor_key == looked_at, "no key was pressed"
        await opened.press("d")
        assert f"dead-letter {looked_at} because:" in opened.text()


async def test_a_filter_that_cannot_be_read_is_not_taken(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("/")
        await opened.type("state:dead")
        assert len(opened.screen.table.source) == 1
        await opened.type(" (")
        assert len(opened.screen.table.source) == 1
        assert "a term is missing at character 13" in opened.text()
        await opened.press("enter")
        assert opened.screen.prompt.value == "state:dead (", "it stays, to be mended"
        assert "a term is missing at character 13" in opened.text()
        await opened.press("escape")
        assert len(opened.screen.table.source) == 9


async def test_workflows_are_not_filtered_by_what_records_alone_have(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("/")
        await opened.type("!kind:advanced")
        await opened.press("enter")
        assert "a workflow has no kind at character 2" in opened.text()


async def test_a_saved_query_is_completed_and_what_is_wrong_with_its_name_is_told_in_full(tmp_path: Path) -> None:
    use_saved({"stale": "state:dead", "mine": "name:order"})
    try:
        async with console(sample_story(), tmp_path, size=(80, 24)) as opened:
            await opened.press("/")
            await opened.type("@st")
            await opened.press("enter")
            assert "no saved query '@st' at character 1; saved are @stale, @mine" in opened.text()
            await opened.press("tab", "enter")
            assert opened.screen.rows.query.text == "@stale"
    finally:
        use_saved({})


async def test_a_new_filter_takes_the_place_of_the_old_one_or_goes_on_from_it(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        for typed, query in (
            (["state:dead"], "state:dead"),
            (["onboarding"], "onboarding"),  # typed over it
            ([None, " state:dead"], "onboarding state:dead"),  # behind it, once the cursor was moved
        ):
            await opened.press("/")
            for text in typed:
                if text is None:
                    await opened.press("end")
                else:
                    await opened.type(text)
            await opened.press("enter")
            assert opened.screen._text == query
        await opened.press("/", "backspace", "enter")
        assert opened.screen._text == ""


async def test_arrows_move_in_the_list_while_the_filter_is_typed(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("/")
        await opened.type("onboarding")
        await opened.press("down", "down", "up", "enter")
        assert opened.screen.table.cursor_key == told.RETRYING


async def test_what_changes_under_a_filter_comes_and_goes(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press(":")
        await opened.type("filter state:dead")
        await opened.press("enter")
        await opened.shows("1 of 9")
        story.fails(told.RUNNING, ValueError("no"))
        await opened.settled()
        assert "2 of 9" in opened.text()


async def test_order(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press("o")
        assert "ordered by last change" in opened.text()
        await opened.press("o")
        assert "ordered by urgency" in opened.text()
        assert opened.screen.rows.key(0) == told.DEAD
        for words in ("name", "the activity where they stand", "attempts, most first", "creation, newest first"):
            await opened.press("o")
            assert f"ordered by {words}" in opened.text()
        assert opened.screen.rows.key(0) == told.QUEUED


async def test_pause_freezes_the_view_and_misses_nothing(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press("p")
        assert "PAUSED" in opened.text()
        story.start("late", ("charge",))
        await opened.until(lambda: opened.app.feed.serial == story.records())
        await opened.again()
        assert len(opened.screen.table.source) == 9
        await opened.press("p")
        assert len(opened.screen.table.source) == 10
        assert "PAUSED" not in opened.text()


async def test_marks(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press(" ", "j", "j", "ctrl+@")
        assert opened.screen.targets() == [told.QUEUED, told.ALSO_RUNNING, told.HELD]
        assert "3 marked" in opened.text()
        await opened.press("r")
        assert "retry 3 workflows because:" in opened.text()
        await opened.press("escape", "u")
        assert opened.screen.targets() == [told.HELD]
        await opened.press(" ", " ")
        assert opened.screen.table.marks == ()


async def test_keys_are_heard_while_a_filter_is_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with console(sample_story(), tmp_path) as opened:
        rows = opened.screen.rows
        # A filter that takes for ever.
        monkeypatch.setattr(type(rows), "scan", lambda self: False)
        await opened.press("/", *"zxk")
        assert any(line.startswith("/") and "zxk" in line for line in opened.lines()), opened.text()
        await opened.press("escape")
        await opened.press("2")
        assert opened.screen.view == "traffic"


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Filters, orders and groupings are applied once `through` is set."""
    slowly, scan = SimpleNamespace(through=True), WorkflowList.scan
    monkeypatch.setattr(WorkflowList, "scan", lambda self: slowly.through and scan(self))
    return slowly


def six_of_which_two_are_dead() -> Story:
    story = Story()
    for number in range(6):
        story.start(f"w{number}", ("charge",))
    for number in (1, 3):
        story.fails(f"w{number}", ValueError("declined"))
    return story


@pytest.mark.parametrize("keys", ["x", ":cancel\n", "jkx", " 2-x", "Gux"])
async def test_what_is_typed_behind_a_filter_is_for_what_it_shows(
    tmp_path: Path, slowly: SimpleNamespace, keys: str
) -> None:
    async with console(six_of_which_two_are_dead(), tmp_path) as opened:
        slowly.through = False
        await opened.type(f"/id:w2\n{keys}mended\n")
        await opened.again()
        assert opened.screen.view == "workflows"
        assert not opened.screen.prompt.asking
        assert opened.screen.targets() == ["w5"]
        assert opened.screen.table.marks == ()
        slowly.through = True
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the question")
        (row,) = opened.screen.confirm_bar.confirmation.rows
        assert "w2" in "".join(text for text, _ in row)


async def test_enter_behind_a_filter_opens_what_it_shows(tmp_path: Path, slowly: SimpleNamespace) -> None:
    async with console(six_of_which_two_are_dead(), tmp_path) as opened:
        slowly.through = False
        await opened.type("/id:w2\n\n")
        await opened.again()
        assert opened.screen.view == "workflows"
        slowly.through = True
        await opened.until(lambda: opened.screen.view == "workflow", "the page")
        assert opened.screen.correlation_id == "w2"


async def test_what_is_typed_behind_a_grouping_is_for_a_group_of_it(tmp_path: Path, slowly: SimpleNamespace) -> None:
    async with console(six_of_which_two_are_dead(), tmp_path) as opened:
        await opened.press("4")
        slowly.through = False
        await opened.type("bbr")
        await opened.again()
        assert not opened.screen.prompt.asking
        slowly.through = True
        await opened.shows("retry 2 workflows because:")


async def test_what_is_asked_of_an_act_is_told_no_count(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("x")
        asked = opened.lines()[-2]
        assert "because:" in asked
        # As behind an hour in another view: any may have changed.
        opened.screen._subscription.changed = None
        await opened.again()
        assert opened.lines()[-2] == asked


async def test_what_waits_for_a_filter_keeps_nobody_from_leaving(tmp_path: Path, slowly: SimpleNamespace) -> None:
    async with console(six_of_which_two_are_dead(), tmp_path) as opened:
        slowly.through = False
        await opened.type("/id:w2\nx")
        await opened.press("ctrl+c", "ctrl+c")
        await opened.until(lambda: opened.app.return_value == 0, "the end")


async def test_a_filter_is_applied_however_busy_the_machine_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with console(sample_story(), tmp_path) as opened:
        # Whoever looks at the clock twice is kept waiting in between.
        looked = count()
        monkeypatch.setattr(_time, "get_time", lambda: time.monotonic() + next(looked) * 0.002)
        opened.screen.set_filter("state:dead")
        await opened.until(lambda: opened.screen.rows.filtering is None, "the filter")
        assert opened.screen.targets() == [told.DEAD]


async def test_the_order_can_be_turned_round(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        rows = opened.screen.rows

        def keys() -> list[str]:
            return [rows.key(index) for index in range(len(rows))]

        for order in ("created", "updated", "state", "name", "activity", "attempts"):
            rows.set_order(order)
            opened.screen._scan()
            straight = keys()
            await opened.press("O")
            await opened.shows(", turned round")
            turned = keys()
            assert sorted(turned) == sorted(straight)
            ranks = [rows._rank(opened.app.feed.fold.rows[key])[0] for key in turned]
            assert ranks == sorted(ranks), order
            await opened.press("O")
            assert keys() == straight


async def test_all_columns_are_there_on_a_narrow_screen(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(80, 24)) as opened:
        narrow = opened.text()
        assert "WORKER" not in narrow
        await opened.press("G", " ", "W")
        assert "all columns; < and > move" in opened.text()
        header = opened.lines()[2]
        assert told.DONE in opened.text()
        for _ in range(3):
            await opened.press(">")
        assert "WORKER" in opened.text()
        assert "TRY" in opened.text()
        marked = next(line for line in opened.lines() if line.startswith("▌*"))
        assert len(marked) <= 80
        for _ in range(10):
            await opened.press(">")
        assert opened.screen.table.shifted == 120
        assert "Failure: card declined" in opened.text()
        for _ in range(10):
            await opened.press("<")
        assert opened.lines()[2] == header
        await opened.press(" ", "g", "W", "escape")
        assert opened.text() == narrow


async def test_times_by_the_clock(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(200, 24)) as opened:
        assert "CREATED" not in opened.text()
        await opened.press("t")
        assert "CREATED" in opened.lines()[2]
        assert opened.text().count("01-01 1") + opened.text().count(":0") >= 9
        await opened.press("t")
        assert "CREATED" not in opened.text()


async def test_the_view_before(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("3", "4", "-")
        await opened.shows("QUEUE")
        await opened.press("-")
        await opened.shows("WHY")
        await opened.press("-", "1", "enter", "-")
        await opened.shows("QUEUE")
