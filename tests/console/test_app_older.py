"""Older workflows: what only the history on disk has is offered to a filter, and opened to be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from paigeant_console.feed import intake
from paigeant_console.history import History
from paigeant_console.screens.older import OlderScreen, PastWorkflowScreen
from paigeant_console.screens.workflow import WorkflowScreen
from paigeant_console.screens.workflows import WorkflowsScreen
from tests.console.appkit import console, copied, writes
from tests.console.story import Story, sample_story
from tests.console.test_ended import ended
from tests.console.test_history import FOREVER, journal_of


def years_ago(tmp_path: Path, number: int = 3) -> History:
    """The history of a topic whose journal has forgotten some orders."""
    story = Story()
    for index in range(number):
        story.start(f"old-{index}", ("charge", "ship"), {"customer": f"person-{index}@example.com"}, name="order")
        story.done(f"old-{index}")
    story.fails("old-0", ValueError("the card was refused"))
    history = History(tmp_path / "h.sqlite3", most_age=FOREVER)
    assert history.open()
    history.put(journal_of(story))
    assert history.flush()
    history.close()
    return History(tmp_path / "h.sqlite3", most_age=FOREVER)


async def test_a_history_that_cannot_be_searched_is_not_said_to_have_nothing(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(120, 30), settle=False) as opened:
        history = opened.app.feed.kept = opened.screen._older._kept = years_ago(tmp_path)
        history.path.write_bytes(b"no database any more" * 1000)
        await opened.settled()
        await opened.press("/")
        await opened.type("person-1")
        await opened.press("enter")
        await opened.shows("nothing matches the filter")
        await opened.shows("the history could not be searched")
        await opened.press("H")
        await opened.shows("the history could not be searched to its end")


async def test_a_filter_offers_what_only_the_history_has(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path, size=(120, 30), settle=False) as opened:
        opened.app.feed.kept = opened.screen._older._kept = years_ago(tmp_path)
        await opened.settled()
        await opened.press("/")
        await opened.type("person-1")
        await opened.press("enter")
        await opened.shows("nothing matches the filter")
        await opened.shows("1 older in the history: H shows them")
        written = writes(opened)
        await opened.press("H")
        assert isinstance(opened.screen, OlderScreen)
        await opened.shows("old-1")
        assert "HISTORY  person-1" in opened.text()
        await opened.press("Y")
        assert copied(written) == "paigeant-console history person-1"
        await opened.press("enter")
        assert isinstance(opened.screen, PastWorkflowScreen)
        await opened.shows("person-1@example.com")
        assert opened.lines()[0].endswith("READ-ONLY")
        assert "from the history, as it was seen last" in opened.text()
        await opened.press("r")
        assert "retry: this is of the history; :open asks the broker for it" in opened.text()
        await opened.press("q", "q")
        assert isinstance(opened.screen, WorkflowsScreen)
        await opened.press("escape")
        await opened.until(lambda: not opened.screen.filter_line.has_class("-open"), "the filter cleared")
        await opened.press("H")
        await opened.until(lambda: opened.screen.rows.matched == 3, "everything that is older")
        await opened.shows("the card was refused")


async def test_what_the_list_shows_is_not_offered_twice(tmp_path: Path) -> None:
    story = Story()
    story.start("old-1", ("charge",), name="order")
    async with console(story, tmp_path, size=(120, 30), settle=False) as opened:
        opened.app.feed.kept = opened.screen._older._kept = years_ago(tmp_path)
        await opened.settled()
        await opened.press("/")
        await opened.type("old-1")
        await opened.press("enter")
        await opened.until(lambda: (found := opened.screen._older.found) is not None and found.whole, "the search")
        assert "older in the history" not in opened.text()
        await opened.press("H")
        await opened.shows("the history has no others")


async def test_without_a_history_it_says_so(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        await opened.press("H")
        assert "older: no history is kept of this broker" in opened.text()


async def test_what_left_memory_is_counted_as_more_found_in_the_history_and_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "COUNT_EVERY", 1)
    story = sample_story()
    ended(story, 4)
    async with console(story, tmp_path, size=(120, 30), most_ended=2, settle=False) as opened:
        history = History(tmp_path / "left.sqlite3", most_age=FOREVER)
        assert history.open()
        history.put(journal_of(story))
        assert history.flush()
        opened.app.feed.kept = opened.screen._older._kept = history
        await opened.settled()
        assert opened.lines()[1].endswith("✓ 2+")
        await opened.press("/")
        await opened.type("name:order state:completed")
        await opened.press("enter")
        await opened.shows("2 of 10+")
        await opened.shows("2 older in the history: H shows them")
        # One more leaves: what was found is not all any more, until it is looked again.
        story.start("later", ("charge",), name="order")
        story.done("later")
        await opened.settled()
        history.put(journal_of(story)[-2:])
        assert history.flush()
        await opened.shows("2+ older in the history")
        await opened.press("H")
        await opened.until(lambda: opened.screen.rows.matched == 3, "those that left")
        await opened.press("q")
        await opened.type(":open order-1")
        await opened.press("enter")
        await opened.until(lambda: isinstance(opened.screen, WorkflowScreen), "the page")
        await opened.shows("✓ completed  order  order-1")
        await opened.shows("person-1@example.com")
        await opened.until(lambda: not opened.screen._fetching, "the history")
        fetched = opened.screen._fetched
        await opened.again()
        assert opened.screen._fetched == fetched == (-1, 0), "its records are asked for once"


async def test_without_a_history_list_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "COUNT_EVERY", 1)
    story = sample_story()
    async with console(story, tmp_path, size=(120, 30), most_ended=1) as opened:
        await opened.press("/")
        await opened.type("nosuch")
        await opened.press("enter")
        await opened.shows("nothing matches the filter")
        assert "list" not in opened.text()
        ended(story, 1)
        await opened.settled()
        await opened.shows("clears it; `list` has older ones")
        assert "0 of 9+" in opened.text()


async def test_a_mark_goes_with_its_workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "COUNT_EVERY", 1)
    story = Story()
    ended(story, 2)
    async with console(story, tmp_path, size=(120, 30), most_ended=2) as opened:
        await opened.press("G", "space")
        await opened.shows("1 marked")
        assert opened.screen.targets() == ["order-0"]
        ended(story, 1, "later")
        await opened.settled()
        assert "marked" not in opened.text()
        assert opened.screen.targets() == ["order-1"]
