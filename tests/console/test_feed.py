"""The feed: what it reads, what it says while it cannot, and that neither it nor the screen waits for the other."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from paigeant_console.feed import Phase, distance, reader
from paigeant_console.model.fold import Fold
from paigeant_console.model.snapshot import PARKED_LIMIT
from paigeant_core.errors import ConnectError, Refused, TransportError
from paigeant_core.journal import Record
from paigeant_core.operations import DeadLetter, Retry
from paigeant_core.transition import Place
from paigeant_core.transports.following import Follower
from paigeant_core.transports.memory import MemoryTransport
from paigeant_core.transports.types import QueueStatus
from tests.console import story as told
from tests.console.feedkit import PATIENCE, Broken, live, quicken, running
from tests.console.story import Story, sample_story


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays are real; they need not be long."""
    quicken(monkeypatch)


# Reading


def test_it_reads_the_journal_and_says_when_it_is_live() -> None:
    story = sample_story()
    with running(story) as feed:
        live(feed, story)
        status = feed.status()
        assert status.phase is Phase.LIVE
        assert status.records == story.records()
        assert status.workflows == 9
        assert status.counts == {
            "completed": 1,
            "dead": 1,
            "held": 1,
            "quarantined": 1,
            "queued": 2,
            "retrying": 1,
            "running": 2,
        }
        assert status.connected
        assert feed.info is not None
        assert feed.info.broker == "memory"


def test_the_newest_workflows_are_there_before_the_journal_is_read() -> None:
    story = sample_story()
    go = threading.Event()

    class Slow(MemoryTransport):
        async def records(
            self, topic: str, *, start: str | float = "start", follow: bool = False, follower: Follower | None = None
        ) -> AsyncIterator[list[Record]]:
            await asyncio.to_thread(go.wait, PATIENCE)
            async for batch in super().records(topic, start=start, follow=follow, follower=follower):
                yield batch

    with running(story, lambda: Slow("story", broker=story.broker)) as feed:
        assert feed.wait(lambda: feed.status().workflows == 9, PATIENCE)
        assert (feed.serial, feed.status().phase) == (0, Phase.CATCHING_UP)
        before = feed.status().counts
        go.set()
        live(feed, story)
        status = feed.status()
        assert (status.workflows, status.records) == (9, story.records())
        assert sum(status.counts.values()) == sum(before.values()) == 9


def test_it_tells_each_view_what_changed_since_it_looked() -> None:
    story = sample_story()
    with running(story) as feed:
        live(feed, story)
        one, other = feed.subscribe(), feed.subscribe()
        assert feed.take(one) is None, "all that there are"
        assert feed.take(one) == set()
        version = feed.version
        story.done(told.RUNNING)
        live(feed, story)
        assert feed.take(one) == {told.RUNNING}
        assert feed.take(other) is None
        assert feed.version > version
        feed.unsubscribe(one)
        story.done(told.RUNNING)
        live(feed, story)
        assert feed.take(one) == set()
        assert feed.take(other) == {told.RUNNING}


def test_nothing_changes_the_version_while_nothing_happens() -> None:
    story = sample_story()
    transport = Broken(story)
    with running(story, lambda: transport) as feed:
        live(feed, story)
        version, batches = feed.version, transport.batches
        # The transport says once a second that nothing came, and workers are asked all the time.
        deadline = time.monotonic() + PATIENCE
        while transport.batches < batches + 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert transport.batches >= batches + 2
        assert feed.version == version


def test_what_workers_say_is_laid_over() -> None:
    story = sample_story()
    with running(story) as feed:
        live(feed, story)
        subscription = feed.subscribe()
        feed.take(subscription)
        story.runs("orders-2", told.QUEUED, activities=["validate-order-details"])
        assert feed.wait(lambda: str(feed.fold.rows[told.QUEUED].state) == "running", PATIENCE)
        assert told.QUEUED in (feed.take(subscription) or ())
        assert feed.status().counts["running"] == 3


def test_the_traffic_is_a_ring() -> None:
    story = Story()
    with running(story, ring=10) as feed:
        for number in range(25):
            story.start(f"w{number}", ("charge",))
        live(feed, story)
        first, records = feed.traffic(0)
        assert (first, len(records)) == (15, 10)
        assert [record.headers.correlation_id for record in records] == [f"w{number}" for number in range(15, 25)]
        first, records = feed.traffic(23)
        assert (first, [record.headers.correlation_id for record in records]) == (23, ["w23", "w24"])
        assert feed.traffic(25) == (25, [])
        assert all(record.body is None for record in records)


def test_what_is_far_from_the_end_is_folded_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distance, "KEPT_BYTES", 20 * 450)
    monkeypatch.setattr(reader, "NEWEST", 4)
    story = Story()
    for number in range(40):
        story.start(f"w{number}", ("charge",))
        story.done(f"w{number}")
    monkeypatch.setattr(reader, "SLICE", 5)

    class Long(MemoryTransport):
        async def ahead(self, topic: str, start: str | float) -> int | None:
            # Some are trimmed while it reads.
            return story.records() + 3

    with running(story, lambda: Long("story", broker=story.broker), ring=10) as feed:
        live(feed, story)
        assert (feed.status().workflows, feed.status().records) == (40, 80)
        assert feed.fold.records == 80
        # Of the others nothing was kept, though there is room for it.
        assert 12 <= len(feed.bodies) <= 28
        assert feed.bodies.dropped > 20
        assert feed.bodies.get("w0") is None
        assert feed.bodies.get("w39") == story.last("w39").body
        first, records = feed.traffic(0)
        assert (first, len(records)) == (70, 10)
        story.start("later", ("charge",))
        live(feed, story)
        assert feed.traffic(80)[1][0].headers.correlation_id == "later"


def test_nothing_is_far_at_the_end_nor_where_nobody_knows_it() -> None:
    reading = distance.Distance(Fold(), 10)
    reading.begin(1000, [])
    assert reading.far(100) == (True, True)
    # Nine tenths of it were trimmed meanwhile.
    reading.end()
    assert reading.far(100) == (False, False)
    reading.begin(None, [])
    assert reading.far(100) == (False, False)


def test_parked_messages_that_the_journal_forgot_are_shown_too() -> None:
    story = sample_story()
    with story.broker.topic(story.topic) as state:
        while len(state.journal) > 1:
            state._trim_one()
    with running(story) as feed:
        assert feed.wait(lambda: feed.status().phase is Phase.LIVE, PATIENCE)
        assert set(feed.fold.rows) == {told.DEAD, told.HELD, told.QUARANTINED, told.QUEUED}
        assert feed.status().counts == {"dead": 1, "held": 1, "quarantined": 1, "queued": 1}


def test_what_is_parked_is_asked_for_again_when_the_line_broke_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    story = sample_story()
    with story.broker.topic(story.topic) as state:
        while len(state.journal) > 1:
            state._trim_one()
    limits: list[int] = []

    class Breaking(Broken):
        async def parked(self, topic: str, place: Place, limit: int = 1000) -> list[Record]:
            limits.append(limit)
            if len(limits) == 2:
                raise ConnectError("the line broke")
            return await super().parked(topic, place, limit)

    with running(story, lambda: Breaking(story)) as feed:
        assert feed.wait(lambda: told.QUARANTINED in feed.fold.rows, PATIENCE)
        assert set(feed.fold.rows) == {told.DEAD, told.HELD, told.QUARANTINED, told.QUEUED}
    assert set(limits) == {PARKED_LIMIT}, "as many as `list` looks at"


def test_the_journal_goes_on_while_what_is_parked_comes_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    # The transport says each second that nothing came.
    monkeypatch.setattr(reader, "GIVE_UP_AFTER", 3.0)
    story = sample_story()
    with story.broker.topic(story.topic) as state:
        while len(state.journal) > 1:
            state._trim_one()
    comes = threading.Event()

    class Slow(Broken):
        async def parked(self, topic: str, place: Place, limit: int = 1000) -> list[Record]:
            if place is not Place.DEAD:
                await asyncio.to_thread(comes.wait, PATIENCE)
            return await super().parked(topic, place, limit)

    transport = Slow(story)
    with running(story, lambda: transport) as feed:
        assert feed.wait(lambda: told.DEAD in feed.fold.rows, PATIENCE), "each kind is shown as it comes"
        time.sleep(3.5)
        assert feed.status().phase is Phase.CATCHING_UP, "the list is not whole"
        story.start("meanwhile", ("charge",))
        assert feed.wait(lambda: "meanwhile" in feed.fold.rows, PATIENCE)
        assert told.QUARANTINED not in feed.fold.rows
        comes.set()
        assert feed.wait(lambda: feed.status().phase is Phase.LIVE, PATIENCE)
        assert set(feed.fold.rows) == {told.DEAD, told.HELD, told.QUARANTINED, told.QUEUED, "meanwhile"}
        assert transport.connects == 1


def test_the_rate_is_of_the_last_seconds() -> None:
    story = Story()
    with running(story) as feed:
        for number in range(50):
            story.start(f"w{number}", ("charge",))
        story.wait(1)
        live(feed, story)
        assert feed.status().rate == 5.0
        story.wait(60)
        assert feed.status().rate == 0.0


def test_queues_are_asked_for_only_while_somebody_looks() -> None:
    story = sample_story()
    with running(story) as feed:
        live(feed, story)
        assert feed.queues is None
        feed.rounds.watch_queues(True)
        assert feed.wait(lambda: feed.queues is not None, PATIENCE)
        queues: Sequence[QueueStatus] = feed.queues or ()
        assert {queue.activity: queue.ready for queue in queues}["inspect-parcel"] == 1
        feed.rounds.watch_queues(False)


# Trouble


def test_workers_that_cannot_be_asked_are_no_trouble() -> None:
    story = sample_story()
    transport = Broken(story)
    transport.workers_error = TransportError("not now")
    with running(story, lambda: transport) as feed:
        assert feed.wait(lambda: feed.status().phase is Phase.LIVE, PATIENCE)
        assert not feed.fold.observed
        transport.workers_error = None
        live(feed, story)


def test_a_screen_that_holds_the_lock_does_not_lose_anything() -> None:
    """A stalled terminal blocks the screen's thread; the feed waits at most for a lock that painting holds."""
    story = Story()
    with running(story) as feed:
        with feed.lock:
            for number in range(500):
                story.start(f"w{number}", ("charge",))
        live(feed, story)
        assert feed.status().workflows == 500


def test_it_ends_while_it_waits_for_the_broker() -> None:
    class Never(Broken):
        async def connect(self) -> None:
            await asyncio.sleep(3600)

    story = Story()
    with running(story, lambda: Never(story)) as feed:
        assert feed.status().phase is Phase.CONNECTING


# Acting


def test_operations_run_on_its_loop() -> None:
    story = sample_story()
    with running(story) as feed:
        live(feed, story)
        plan = feed.plan(Retry(), [told.DEAD, told.DONE], "the card was mended").result(PATIENCE)
        assert plan.eligible == 1
        deed = feed.deeds.begin(plan)
        assert feed.wait(lambda: deed.over, PATIENCE)
        assert (deed.done, deed.skipped, deed.so_far, deed.total) == (1, 1, 2, 2)
        assert deed.report is not None
        assert deed.report.operation_id == plan.operation_id
        assert feed.deeds.take_ended() == [deed]
        assert feed.deeds.take_ended() == feed.deeds.current == []
        live(feed, story)
        assert str(feed.fold.rows[told.DEAD].state) == "queued"
        assert len(feed.audit().result(PATIENCE)) == 1
        history = feed.history(told.DEAD).result(PATIENCE)
        assert history[-1].kind == "operated"
        assert feed.resolve("8491").result(PATIENCE) == told.DEAD


def test_read_only_refuses_in_the_operations() -> None:
    story = sample_story()
    with running(story, read_only=True) as feed:
        live(feed, story)
        with pytest.raises(Refused, match="read-only"):
            feed.plan(DeadLetter(), [told.QUEUED], "no").result(PATIENCE)
        assert story._do(story.transport().parked(story.topic, Place.DEAD, 10))[0].headers.correlation_id == told.DEAD
        assert story.state(told.QUEUED) == "queued"
