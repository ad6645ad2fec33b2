"""The feed: what is erased is forgotten by a console that is open."""

from __future__ import annotations

from paigeant_console.feed import Feed
from paigeant_console.model.workflow_list import why
from paigeant_core.operations import Cancel, Operations
from tests.console.story import Story
from tests.console.test_feed import PATIENCE, live, running


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
