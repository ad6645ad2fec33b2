"""The feed: what is erased is forgotten by a console that is open."""

from __future__ import annotations

import asyncio
from pathlib import Path

from paigeant_console.feed import Feed
from paigeant_console.model.workflow_list import why
from paigeant_core.operations import Cancel, Operations
from tests.console.appkit import console
from tests.console.feedkit import PATIENCE, live, running
from tests.console.story import Story


def test_what_is_erased_is_forgotten_while_it_is_watched() -> None:
    sentinel = "ann-4711@example.com"
    story = Story()
    story.start("of-ann", ["a", "b"], name=sentinel, payload={"email": sentinel})
    story.start("other", ["a"])

    def told_by(feed: Feed) -> bytes:
        _, records = feed.traffic(0)
        seen = [record.encode_meta() for record in records]
        seen += [repr((row.name, row.labels, row.error, row.reason)).encode() for row in feed.fold.rows.values()]
        return b"\n".join([*seen, *(feed.bodies.get(key) or b"" for key in ("of-ann", "other"))])

    async def erase(operations: Operations) -> None:
        await operations.execute(await operations.plan(Cancel(), ["of-ann"], reason="x"))
        await operations.erase(await operations.plan_erasure(["of-ann"], reason="x"))

    with running(story) as feed:
        live(feed, story)
        assert sentinel.encode() in told_by(feed)
        feed.ask(erase).result(PATIENCE)
        assert feed.wait(lambda: bool(feed.fold.rows["of-ann"].erased_at), PATIENCE)
        with feed.lock:
            assert sentinel.encode() not in told_by(feed)
            row = feed.fold.rows["of-ann"]
            assert "".join(text for text, _ in why(row, None, 60)).startswith("erased by ")
            assert why(feed.fold.rows["other"], None, 60) == []


def test_why_an_erased_workflow_was_undone_is_forgotten() -> None:
    sentinel = "ann-4711@example.com"
    story = Story()
    story.start("of-ann", ["a", "b"], on_failure="compensate")
    story.done("of-ann")
    story.fails("of-ann", ValueError(f"{sentinel} was declined"))
    story.undone("of-ann")

    with running(story) as feed:
        live(feed, story)
        row = feed.fold.rows["of-ann"]
        assert row.base == "compensated"
        assert sentinel in repr(row.undone_for)
        feed.ask(_erase).result(PATIENCE)
        assert feed.wait(lambda: bool(row.erased_at), PATIENCE)
        assert row.undone_for is None


async def test_the_traffic_on_the_screen_forgets_what_is_erased(tmp_path: Path) -> None:
    story = Story()
    story.start("of-ann", ["a", "b"], name="annabel")
    story.fails("of-ann", ValueError("annabel was declined"))
    story.start("other", ["a"])
    async with console(story, tmp_path, size=(140, 30)) as opened:
        await opened.settled()
        await opened.press("2")
        await opened.shows("annabel was declined")
        await opened.press("/")
        await opened.type("annabel")
        await opened.press("enter")
        rows = opened.screen.rows
        await opened.until(lambda: 0 < len(rows) < 3)
        # Frozen as it is, it is not to go on showing it.
        await opened.press("p")
        await asyncio.wrap_future(opened.app.feed.ask(_erase))
        await opened.until(lambda: len(rows) == 0, "nothing is found by it")
        assert "annabel" not in repr([record.encode_meta() for record in rows._records])
        await opened.press("p")
        await opened.press("escape")
        await opened.until(lambda: len(rows) == story.records())
        await opened.shows("operated")
        assert "declined" not in opened.text()


async def _erase(operations: Operations) -> None:
    await operations.erase(await operations.plan_erasure(["of-ann"], reason="x"))
