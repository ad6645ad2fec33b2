"""The feed's line: when it connects again, and what it says while there is none."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator

import pytest

from paigeant_console.feed import Feed, Phase, reader
from paigeant_core.errors import AuthenticationError, ConfigError, ConnectError, TransportError
from paigeant_core.journal import Record
from paigeant_core.transports.following import Follower
from paigeant_core.transports.memory import MemoryTransport
from tests.console.feedkit import PATIENCE, Broken, live, quicken, running
from tests.console.story import Story, sample_story


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays are real; they need not be long."""
    quicken(monkeypatch)


def test_it_connects_again_and_reads_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    story = sample_story()
    transport = Broken(story)
    seen: list[tuple[Phase, str]] = []
    transport.connect_errors = [
        ConnectError("nobody answers at h:6379"),
        AuthenticationError("the password was refused"),
    ]
    set_phase = Feed._set_phase

    def noted(feed: Feed, phase: Phase, reason: str = "") -> None:
        # Each lasts a moment, which somebody who looks from outside may miss.
        seen.append((phase, reason))
        set_phase(feed, phase, reason)

    monkeypatch.setattr(Feed, "_set_phase", noted)
    with running(story, lambda: transport) as feed:
        assert feed.wait(lambda: feed.status().phase is Phase.LIVE, PATIENCE)
        assert (Phase.RECONNECTING, "nobody answers at h:6379") in seen
        assert (Phase.RECONNECTING, "the password was refused") in seen
        live(feed, story)
        records = story.records()
        transport.read_error = TransportError("the line broke")
        story.start("new", ("charge",))
        assert feed.wait(lambda: len(transport.starts) > 1 and feed.serial == records + 1, PATIENCE)
        live(feed, story)
        assert transport.starts[0] == "start"
        assert transport.starts[-1] == str(records + 1), "no record is read twice"
        assert feed.serial == story.records()


def test_it_says_when_it_tries_again() -> None:
    story = Story()
    transport = Broken(story)
    transport.connect_errors = [ConnectError("nobody answers")] * 1000
    with running(story, lambda: transport) as feed:
        assert feed.wait(lambda: feed.status().retry_in is not None, PATIENCE)
        status = feed.status()
        assert status.reason == "nobody answers"
        assert not status.connected
        assert feed.wait(lambda: transport.connects > 4, PATIENCE), "it does not give up"


def test_an_error_of_a_driver_ends_nothing_and_is_not_quoted() -> None:
    story = sample_story()
    transport = Broken(story)
    transport.read_error = KeyError("secret in a payload")
    with running(story, lambda: transport) as feed:
        live(feed, story)
        assert len(transport.starts) == 2
        assert "secret" not in feed._reason


def test_a_transport_that_cannot_be_made_is_told() -> None:
    def connect() -> MemoryTransport:
        raise ConfigError("unknown broker URL scheme")

    with running(Story(), connect) as feed:
        assert feed.wait(lambda: feed.status().phase is Phase.FAILED, PATIENCE)
        assert feed.status().reason == "unknown broker URL scheme"
        with pytest.raises(TransportError, match="no connection"):
            feed.history("a").result(PATIENCE)


def test_a_bug_is_told_and_not_swallowed() -> None:
    def connect() -> MemoryTransport:
        raise ZeroDivisionError

    feed = Feed("memory://", "workflows", connect=connect)
    feed.start()
    assert feed.wait(lambda: feed.status().phase is Phase.FAILED, PATIENCE)
    assert feed.status().reason == "the feed stopped: ZeroDivisionError"
    feed.stop()


def test_a_silent_broker_is_stale_and_then_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "STALE_AFTER", 0.05)
    monkeypatch.setattr(reader, "GIVE_UP_AFTER", 0.2)
    story = sample_story()
    silent = threading.Event()

    class Silent(Broken):
        async def records(
            self, topic: str, *, start: str | float = "start", follow: bool = False, follower: Follower | None = None
        ) -> AsyncIterator[list[Record]]:
            self.starts.append(start)
            async for batch in MemoryTransport.records(self, topic, start=start):
                yield batch
            silent.set()
            await asyncio.sleep(3600)

    transport = Silent(story)
    phases: list[Phase] = []
    with running(story, lambda: transport) as feed:

        def read_again() -> bool:
            phases.append(feed._phase)
            return len(transport.starts) > 1

        assert feed.wait(read_again, PATIENCE)
        assert silent.is_set()
        assert Phase.STALE in phases
        assert feed.serial == story.records(), "it reads on where it was"


def test_connecting_has_its_time_however_long_the_broker_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "STALE_AFTER", 0.05)
    monkeypatch.setattr(reader, "GIVE_UP_AFTER", 0.4)
    story = sample_story()

    class Far(Broken):
        async def connect(self) -> None:
            away = time.monotonic() - begun < 0.8
            # As by TLS and AMQP over a slow line.
            await asyncio.sleep(0.2)
            if away:
                raise ConnectError("nobody answers")

    begun = time.monotonic()
    with running(story, lambda: Far(story)) as feed:
        assert feed.wait(lambda: feed.status().quiet_s > 0.6, PATIENCE), "nothing was heard, whatever was tried"
        assert feed.wait(lambda: feed.status().phase is Phase.LIVE, PATIENCE)


def test_a_connection_that_nobody_accepts_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "STALE_AFTER", 0.05)
    monkeypatch.setattr(reader, "GIVE_UP_AFTER", 0.2)
    story = sample_story()

    class Never(Broken):
        async def connect(self) -> None:
            self.connects += 1
            await asyncio.sleep(3600 if self.connects < 3 else 0)

    with running(story, lambda: Never(story)) as feed:
        assert feed.wait(lambda: feed.status().reason == "the broker was silent", PATIENCE)
        assert feed.wait(lambda: feed.status().phase is Phase.LIVE, PATIENCE)
