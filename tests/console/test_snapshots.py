"""What the views look like: the same picture in every run, as clock, IDs and sizes are fixed.

After a change that was meant: `pytest tests/console/test_snapshots.py --snapshot-update`, and look at the pictures.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from paigeant_console.app import ConsoleApp
from paigeant_console.config import Look
from paigeant_console.feed import Feed
from paigeant_console.model.confirmation import Target
from paigeant_core.operations import OperationStatus, Pace
from paigeant_core.operations.log import entry, opening
from paigeant_core.transports.memory import MemoryTransport
from tests.console.appkit import Console
from tests.console.story import Story, sample_story

Compare = Callable[..., bool]
Steps = Callable[[Console], Awaitable[None]]

SIZES = {"narrow": (80, 24), "wide": (120, 40)}


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    for name in ("NO_COLOR", "TEXTUAL_THEME"):
        monkeypatch.delenv(name, raising=False)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def keys(*pressed: str) -> Steps:
    async def press(opened: Console) -> None:
        for key in pressed:
            await opened.press(key)
            await opened.again()

    return press


async def confirm(opened: Console) -> None:
    await opened.press("4", " ", "G", "r")
    await opened.until(lambda: opened.screen.prompt.asking)
    await opened.type("the provider is back")
    await opened.press("enter")
    await opened.until(lambda: opened.screen.confirm_bar.waiting)


async def replay(opened: Console) -> None:
    await opened.press("4", "G", "R")
    await opened.until(lambda: opened.screen.replay_form.asking == "replay")
    await opened.press("p")
    await opened.until(lambda: opened.screen.replay_form.asking == "payload")


async def queues(opened: Console) -> None:
    await opened.press("3")
    # Of the workers too is said that there is none, until they are known.
    await opened.until(lambda: any("inspect-parcel" in line and "no worker" in line for line in opened.lines()))
    await opened.again()


async def audit(opened: Console) -> None:
    story = opened.story
    for action, outcome in (("retry", "2 done, 0 skipped, 0 failed"), ("replay", "1 done, 0 skipped, 1 failed")):
        audited = (
            f'{{"at":"2026-01-01T10:03:12.000Z","operator":"ann@desk","action":"{action}","reason":"card was mended",'
            f'"operation_id":"0badc0de","targets":2,"outcome":"{outcome}"}}'
        )
        story._do(story.transport().append_audit(story.topic, audited.encode()))
    operations(story)
    await opened.press("5")
    await opened.shows("card was mended")
    await opened.until(lambda: opened.screen.focused is opened.screen.runs)


def operations(story: Story) -> None:
    """One that runs, one that its brake stopped, and one that nobody carries out any more."""
    for number, (name, state, said, ago, done, failed) in enumerate(
        (
            ("retry", "finished", "", 600, 412, 0),
            ("replay", "braked", "the brake stopped it: 9 of 40 failed (22 %)", 300, 40, 2),
            ("hold", "", "", 120, 66, 0),
            ("retry", "", "", 4, 118, 3),
        )
    ):
        at = story.clock.now()
        status = OperationStatus(f"0b{number}adc0de", "ann@desk", {"name": name}, "the provider is back", at=at - ago)
        status.targets, status.by = [f"w{index}" for index in range(412)], "me"
        status.pace = Pace(rate=50, ramp=True, brake=20)
        counts = {"done": done, "failed": failed, "skipped": 0, "again": 0}
        seen = at - ago + (min(ago, 60) if state or name == "hold" else ago)
        entries = [*opening(status), entry(status.operation_id, "progress", seen, by="me", **counts)]
        entries += [entry(status.operation_id, state, seen, said=said)] if state else []
        for data in entries:
            story._do(story.transport().append_operation(story.topic, data))


async def palette(opened: Console) -> None:
    await opened.press("ctrl+p")
    await opened.type("re")


async def filtering(opened: Console) -> None:
    await opened.press("/")
    await opened.type("onboarding !state:completed")


async def one_dead(opened: Console) -> None:
    await opened.press("4", "G", "enter")
    await opened.again()
    await opened.until(lambda: bool(opened.screen.page.names()))
    await opened.again()


async def changes(opened: Console) -> None:
    await one_dead(opened)
    await opened.press("[", "v")


PICTURES: dict[str, Steps] = {
    "workflows": keys(),
    "filter": filtering,
    "grouped": keys("b"),
    "workflow": one_dead,
    "changes": changes,
    "traffic": keys("2"),
    "queues": queues,
    "dead": keys("4"),
    "audit": audit,
    "help": keys("?"),
    "palette": palette,
    "confirm": confirm,
    "replay": replay,
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("picture", PICTURES)
def test_view(snap_compare: Compare, tmp_path: Path, picture: str, size: str) -> None:
    assert taken(snap_compare, tmp_path, sample_story(), PICTURES[picture], SIZES[size])


@pytest.mark.parametrize("size", SIZES)
def test_ascii(snap_compare: Compare, tmp_path: Path, size: str) -> None:
    assert taken(snap_compare, tmp_path, sample_story(), keys(), SIZES[size], ascii_only=True)


def test_read_only(snap_compare: Compare, tmp_path: Path) -> None:
    assert taken(snap_compare, tmp_path, sample_story(), keys("r"), (80, 24), read_only=True)


def test_production(snap_compare: Compare, tmp_path: Path) -> None:
    assert taken(snap_compare, tmp_path, sample_story(), keys(), (80, 24), context="prod-eu", production=True)


@pytest.mark.parametrize("theme", ["dark", "light", "high-contrast"])
def test_theme(snap_compare: Compare, tmp_path: Path, theme: str) -> None:
    assert taken(snap_compare, tmp_path, sample_story(), keys(" ", "j"), (80, 24), look=Look(theme=theme))


def test_empty(snap_compare: Compare, tmp_path: Path) -> None:
    assert taken(snap_compare, tmp_path, Story(), keys(), (80, 24))


def test_too_small(snap_compare: Compare, tmp_path: Path) -> None:
    assert taken(snap_compare, tmp_path, sample_story(), keys(), (50, 12))


def test_connecting(snap_compare: Compare, tmp_path: Path) -> None:
    release = threading.Event()
    story = Story()

    class Slow(MemoryTransport):
        async def connect(self) -> None:
            await asyncio.to_thread(release.wait)

    story.transport = lambda: Slow("story", broker=story.broker)  # type: ignore[method-assign]

    async def shows(opened: Console) -> None:
        await opened.shows("connecting to the broker")

    try:
        assert taken(snap_compare, tmp_path, story, shows, (80, 24), settle=False)
    finally:
        release.set()


def taken(
    compare: Compare,
    tmp_path: Path,
    story: Story,
    steps: Steps,
    size: tuple[int, int],
    *,
    read_only: bool = False,
    context: str = "",
    production: bool = False,
    ascii_only: bool = False,
    look: Look | None = None,
    settle: bool = True,
) -> bool:
    feed = Feed("memory://story", story.topic, read_only=read_only, connect=story.transport)
    app = ConsoleApp(
        feed,
        target=Target("memory://story", story.topic, context, production),
        ascii_only=ascii_only,
        look=look or Look(),
        log_directory=tmp_path,
        state_directory=tmp_path,
    )

    async def run_before(pilot: Pilot[Any]) -> None:
        opened = Console(app, pilot, story)
        if settle:
            await opened.settled()
        await steps(opened)
        await pilot.pause()

    try:
        return compare(app, terminal_size=size, run_before=run_before)
    finally:
        feed.stop()
