"""A feed on a story, and a transport that fails when it is told to."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from paigeant_console.feed import Feed, Phase, parked, reader, rounds
from paigeant_core.journal import Record
from paigeant_core.transports.following import Follower
from paigeant_core.transports.memory import MemoryTransport
from tests.console.story import Story

PATIENCE = 30.0


def quicken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays are real; they need not be long."""
    monkeypatch.setattr(reader, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(reader, "MOST_DELAY", 0.05)
    monkeypatch.setattr(reader, "POLL_EVERY", 0.02)
    monkeypatch.setattr(rounds, "POLL_EVERY", 0.02)
    monkeypatch.setattr(parked, "AGAIN_AFTER", 0.02)


@contextlib.contextmanager
def running(story: Story, connect: Callable[[], MemoryTransport] | None = None, **options: Any) -> Iterator[Feed]:
    feed = Feed("memory://story", story.topic, connect=connect or story.transport, **options)
    feed.start()
    try:
        yield feed
    finally:
        feed.stop(PATIENCE)
        assert feed._thread is not None
        assert not feed._thread.is_alive(), "the thread ends"


def live(feed: Feed, story: Story) -> None:
    """Wait until the feed has read all there is."""
    caught_up = feed.wait(
        lambda: feed.status().phase is Phase.LIVE and feed.serial == story.records() and feed.fold.observed, PATIENCE
    )
    assert caught_up, feed.status()


class Broken(MemoryTransport):
    """A transport that can be told to fail."""

    def __init__(self, story: Story) -> None:
        super().__init__("story", broker=story.broker)
        self.connect_errors: list[Exception] = []
        self.read_error: Exception | None = None
        self.workers_error: Exception | None = None
        self.connects = 0
        self.starts: list[str | float] = []
        self.batches = 0

    async def connect(self) -> None:
        self.connects += 1
        if self.connect_errors:
            raise self.connect_errors.pop(0)

    async def records(
        self, topic: str, *, start: str | float = "start", follow: bool = False, follower: Follower | None = None
    ) -> AsyncIterator[list[Record]]:
        self.starts.append(start)
        async for batch in super().records(topic, start=start, follow=follow, follower=follower):
            self.batches += 1
            yield batch
            if self.read_error is not None:
                error, self.read_error = self.read_error, None
                raise error

    async def workers(self, topic: str) -> list[Any]:
        if self.workers_error is not None:
            raise self.workers_error
        return await super().workers(topic)
