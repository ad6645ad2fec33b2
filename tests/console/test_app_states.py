"""The console while it connects, is too small, loses its broker or fails."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from textual import events

from paigeant_console.actions import Situation, by_id
from paigeant_console.app import ConsoleApp, run
from paigeant_console.feed import Feed
from paigeant_console.feed.gap import Gap
from paigeant_console.model.confirmation import Target
from paigeant_console.model.times import clock
from paigeant_console.terminal import TerminalError
from paigeant_core.errors import ConfigError
from tests.console import story as told
from tests.console.appkit import Console, console
from tests.console.story import Story, sample_story


async def test_the_first_paint_waits_for_nobody(tmp_path: Path) -> None:
    from paigeant_core.transports.memory import MemoryTransport

    story = sample_story()
    release = threading.Event()

    class Slow(MemoryTransport):
        async def connect(self) -> None:
            await asyncio.to_thread(release.wait)

    story.transport = lambda: Slow("story", broker=story.broker)  # type: ignore[method-assign]
    async with console(story, tmp_path, settle=False) as opened:
        await opened.shows("connecting to the broker …")
        await opened.press("2", "3", "4", "5", "1", "r")
        assert "no row under the cursor" in opened.text() or "connecting" in opened.text()
        release.set()
        await opened.settled()
        assert "onboarding" in opened.text()


async def test_an_empty_topic_says_how_to_start(tmp_path: Path) -> None:
    async with console(Story(), tmp_path) as opened:
        assert "no workflows yet in topic workflows: `:dispatch STEP …` starts one" in opened.text()
        await opened.press("2")
        assert "no traffic yet in topic workflows" in opened.text()
        await opened.press("4")
        assert "no dead letters: nothing is dead, held or quarantined" in opened.text()
        await opened.press("3")
        await opened.shows("no queues yet")
        assert "no worker lives" in opened.text()
        await opened.press("5")
        await opened.shows("no operator has done anything yet")


async def test_figures_of_before_say_when_they_are_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paigeant_console.feed import Phase, reader

    monkeypatch.setattr(reader, "FIRST_DELAY", 600.0)
    story = sample_story()
    async with console(story, tmp_path, size=(120, 40)) as opened:
        await opened.press("3")
        await opened.shows("inspect-parcel")
        await opened.shows("orders-1")
        assert "as of" not in opened.text()
        feed, at = opened.app.feed, clock(story.clock.now())
        # The line is down: nothing is asked any more, and time goes on.
        feed._retry_at = 1e18
        feed._set_phase(Phase.RECONNECTING, "nobody answers")
        await opened.until(lambda: "reconnecting" in opened.lines()[0])
        story.wait(60)
        await opened.shows(f"RUNS as of {at}")
        (heading,) = [line for line in opened.lines() if "QUEUE" in line]
        assert f"as of {at}" in heading
        assert "idle; serves validate-customer-data" in opened.text()
        feed._set_phase(Phase.LIVE)
        await opened.until(lambda: "as of" not in opened.text(), "figures of now")
        # The answer of the last visit is not of now either, until the next one comes.
        await opened.press("1")
        monkeypatch.setattr(feed.rounds, "watch_queues", lambda on: None)
        at = clock(feed.queues_at)
        story.wait(60)
        await opened.press("3")
        await opened.shows(f"as of {at}")
        await opened.until(lambda: "RUNS as of" not in opened.text(), "workers are asked all the time")
        monkeypatch.undo()
        feed.rounds.watch_queues(True)
        await opened.until(lambda: "as of" not in opened.text(), "figures of now")


async def test_a_lost_line_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from paigeant_console.feed import Phase, reader

    monkeypatch.setattr(reader, "FIRST_DELAY", 600.0)
    story = sample_story()
    async with console(story, tmp_path) as opened:
        feed = opened.app.feed
        feed._retry_at = 1e18
        feed._set_phase(Phase.RECONNECTING, "nobody answers at \x1b[2J[/h]")
        await opened.shows("connection lost: nobody answers at ␛[2J[/h]; next try in")
        assert "reconnecting" in opened.lines()[0]
        feed._set_phase(Phase.STALE)
        await opened.shows("stale: no word from the broker for")
        feed._set_phase(Phase.FAILED, "no such scheme")
        await opened.shows("not connected: no such scheme")
        feed._set_phase(Phase.LIVE)
        await opened.until(lambda: "not connected" not in opened.text())


async def test_what_nobody_saw_is_said_but_not_over_what_an_act_came_to(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(120, 30)) as opened:
        past = opened.app.feed._past
        past._gap, past._gap_until = Gap(1.0, 2.0), float("inf")
        await opened.shows("nothing seen from 01-01 00:00 to 01-01 00:00")
        await opened.press("2", "r")
        assert "retry: not in this view" in opened.text()
        await opened.press("escape", "/")
        await opened.type("nosuch")
        await opened.press("enter")
        assert "nothing seen from" in opened.lines()[-2]
        assert "nothing matches the filter" in opened.text()


@pytest.mark.parametrize("size", [(59, 24), (80, 14), (10, 3), (1, 1)])
async def test_too_small(tmp_path: Path, size: tuple[int, int]) -> None:
    async with console(sample_story(), tmp_path, size=size, settle=False) as opened:
        await opened.until(
            lambda: "The console needs 60x15"[: size[0]] in opened.text().replace("\n", " "), "the sentence"
        )
        await opened.pilot.resize_terminal(80, 24)
        await opened.settled()
        assert "onboarding" in opened.text()
        await opened.pilot.resize_terminal(*size)
        await opened.until(lambda: "onboarding" not in opened.text(), "too small again")


async def too_small(opened: Console) -> None:
    await opened.pilot.resize_terminal(59, 14)
    sentence = "The console needs 60x15; this terminal has 59x14."
    await opened.until(lambda: " ".join(opened.text().split()) == sentence, "nothing but the sentence")


async def large_enough(opened: Console) -> None:
    await opened.pilot.resize_terminal(100, 30)
    await opened.until(lambda: "The console needs" not in opened.text())
    await opened.again()


async def test_what_is_not_seen_takes_no_key(tmp_path: Path) -> None:
    story = sample_story()
    records = story.records()
    async with console(story, tmp_path) as opened:
        before = opened.text()
        await too_small(opened)
        for keys in ("j", " ", "2", "?", "/", "x", "q", "enter"):
            await opened.press(keys)
        opened.app.post_message(events.Paste(told.DEAD))
        await large_enough(opened)
        assert opened.text() == before
        assert story.records() == records
        await opened.press("j")
        assert opened.screen.table.cursor_index == 1
        await too_small(opened)
        await opened.press("ctrl+q")
        await opened.until(lambda: opened.app.return_value == 0, "the end")


async def test_what_is_asked_is_asked_again_once_it_is_seen(tmp_path: Path) -> None:
    story = sample_story()
    records = story.records()
    async with console(story, tmp_path) as opened:
        await opened.press("x")
        await too_small(opened)
        await opened.press("a", "enter")
        await large_enough(opened)
        assert opened.screen.prompt.asking
        await opened.press("b", "enter")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the question")
        await opened.pilot.pause()
        asked = opened.text()
        assert "do it?" in asked
        await too_small(opened)
        await opened.press("y", "n", "j")
        await large_enough(opened)
        assert opened.text() == asked
        assert story.records() == records
        await too_small(opened)
        await opened.press("escape")
        await large_enough(opened)
        assert "nothing was done" in opened.text()
        await opened.press("ctrl+p")
        await too_small(opened)
        await large_enough(opened)
        await opened.press("escape", "R")
        await opened.until(lambda: opened.screen.replay_form.asking == "replay", "the form")
        await opened.press("p")
        await opened.until(lambda: opened.screen.replay_form.asking == "payload", "the editor")
        await too_small(opened)
        await opened.type("[]")
        await large_enough(opened)
        assert "[]" not in opened.screen.replay_form.editor.text
        await opened.type("[]")
        assert "[]" in opened.screen.replay_form.editor.text


async def test_every_size_can_be_drawn(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(80, 24)) as opened:
        for keys in ([], ["enter"], ["2"], ["3"], ["4"], ["5"], ["?"]):
            await opened.press(*keys)
            for size in ((60, 15), (79, 23), (119, 30), (120, 40), (200, 50), (1, 1), (80, 24)):
                await opened.pilot.resize_terminal(*size)
                await opened.pilot.pause()
                assert all(len(line) <= size[0] for line in opened.lines())


async def test_ascii_only(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, ascii_only=True, size=(120, 40)) as opened:
        for keys in ([], ["enter"], ["q", "2"], ["3"], ["4"], ["5"], ["1", "?"], ["q", "r", "x", "enter"]):
            await opened.press(*keys)
            await opened.again()
            for line in opened.lines():
                assert line.isascii(), line


def test_run_refuses_what_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError):
        run("http://nowhere", "workflows")
    monkeypatch.setenv("TERM", "dumb")
    with pytest.raises(TerminalError):
        run("memory://", "workflows")


def test_a_password_is_nowhere_on_the_screen(tmp_path: Path) -> None:
    from paigeant_core.urls import mask_url

    url = "redis://ops:hunter2@redis.example.com:6379/0"
    app = ConsoleApp(Feed(url, "workflows"), target=Target(mask_url(url), "workflows"), log_directory=tmp_path)
    assert app.shared.place.url == "redis://redis.example.com:6379/0"
    assert "hunter2" not in repr(app.shared.target)
    assert Situation("workflows") == Situation("workflows")
    assert by_id("retry").writes
