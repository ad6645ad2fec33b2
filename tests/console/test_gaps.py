"""What was missed while a console runs: it is said, and no row stays of which nobody knows how it stands."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from paigeant_console.feed import Feed, Phase, reader
from paigeant_console.feed.intake import Intake
from paigeant_console.feed.mending import Mending
from paigeant_console.feed.past import Past
from paigeant_console.history import History
from paigeant_console.model.fold import Fold
from paigeant_console.model.query import parse
from paigeant_console.model.workflow_list import WorkflowList
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import ConnectError
from paigeant_core.journal import ENDED, PARKED, Record, State
from paigeant_core.limits import JOURNAL_AGE
from paigeant_core.transports import Transport, get_transport
from paigeant_core.transports.following import Follower, Missed
from paigeant_core.transports.memory import MemoryTransport
from paigeant_core.transports.rabbitmq import topology
from paigeant_core.transports.redis import RedisTransport
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.types import START
from tests.chaos.proxy import Proxy, port_of
from tests.console.feedkit import PATIENCE, live, running
from tests.console.story import Story, sample_story
from tests.console.test_fold import NOW
from tests.console.test_history import FOREVER, journal_of, kept, written
from tests.transports.hands import Hands


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays are real; they need not be long."""
    monkeypatch.setattr(reader, "FIRST_DELAY", 0.01)


def trim(story: Story) -> None:
    """Leave the journal's last record."""
    with story.broker.topic(story.topic) as topic:
        while len(topic.journal) > 1:
            topic._trim_one()


class Cut(MemoryTransport):
    """A transport whose line can be cut, for all who read."""

    def __init__(self, story: Story) -> None:
        super().__init__("story", broker=story.broker)
        self.cut = False
        self.readers = 0

    async def connect(self) -> None:
        if self.cut:
            raise ConnectError("nobody answers")

    async def records(
        self, topic: str, *, start: str | float = START, follow: bool = False, follower: Follower | None = None
    ) -> AsyncIterator[list[Record]]:
        await self.connect()
        self.readers += follow
        try:
            async for batch in super().records(topic, start=start, follow=follow, follower=follower):
                await self.connect()
                yield batch
        finally:
            self.readers -= follow


@contextmanager
def away(feed: Feed, transport: Cut) -> Iterator[None]:
    """Nobody has a line meanwhile."""
    transport.cut = True
    assert feed.wait(lambda: feed.status().phase is Phase.RECONNECTING, PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while transport.readers and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not transport.readers
    yield
    transport.cut = False


def states(feed: Feed) -> dict[str, str]:
    with feed.lock:
        return {key: str(row.state) for key, row in feed.fold.rows.items()}


def counted(feed: Feed) -> dict[str, int]:
    counts: dict[str, int] = {}
    for state in states(feed).values():
        counts[state] = counts.get(state, 0) + 1
    return counts


@pytest.mark.parametrize("keeps", [False, True])
def test_a_console_whose_journal_was_trimmed_past_it_says_so_and_keeps_no_row_of_which_nobody_knows(
    tmp_path: Path, keeps: bool
) -> None:
    story = sample_story()
    transport = Cut(story)
    history = History(tmp_path / "h.sqlite3", most_age=FOREVER) if keeps else None
    with running(story, lambda: transport, history=history) as feed:
        live(feed, story)
        if keeps:
            written(feed, story)
        shown = WorkflowList(feed)
        subscription = feed.subscribe()
        assert feed.take(subscription) is None
        shown.absorb(list(feed.fold.rows))
        before = states(feed)
        ended = {key for key, state in before.items() if state in ENDED}
        parked = {key for key, state in before.items() if state in PARKED}
        last = feed.status().last_at
        assert last is not None
        unseen = next(key for key, row in feed.fold.rows.items() if row.state == State.RUNNING)
        with away(feed, transport):
            story.wait(100)
            story.done(unseen)
            story.wait(100)
            new = story.start("new", ("charge",))
            trim(story)
        assert feed.wait(lambda: "new" in feed.fold.rows and feed.status().phase is Phase.LIVE, PATIENCE)
        assert feed.wait(lambda: parked <= set(feed.fold.rows), PATIENCE), "what is parked is asked for again"
        status = feed.status()
        assert status.gap == (last, story.last(new).at)
        assert set(states(feed)) == {new, *ended, *parked}
        assert status.counts == counted(feed)
        # It is taken up by the list, and what is drawn before that is blank.
        assert all(shown.revision(key) == 0 for key in before if key not in states(feed))
        assert len(shown.cells(shown.index_of(unseen) or 0)) == len(shown.columns)
        shown.absorb(feed.take(subscription) or ())
        assert {shown.key(index) for index in range(len(shown))} == {new, *ended, *parked}
        if keeps:
            written(feed, story)
    if keeps:
        with running(story, history=History(tmp_path / "h.sqlite3", most_age=FOREVER)) as feed:
            assert feed.wait(lambda: feed.status().phase is Phase.LIVE, PATIENCE)
            assert feed.wait(lambda: set(states(feed)) == {new, *ended, *parked}, PATIENCE), "nor does the next one"
            assert feed.status().gap is None


def test_a_line_that_breaks_is_no_gap(tmp_path: Path) -> None:
    story = sample_story()
    transport = Cut(story)
    with running(story, lambda: transport) as feed:
        live(feed, story)
        before = set(states(feed))
        with away(feed, transport):
            story.start("new", ("charge",))
        live(feed, story)
        assert set(states(feed)) == {*before, "new"}
        assert feed.status().gap is None


@pytest.mark.parametrize("gone_for", ["a while", "a moment", "a broken line"])
def test_the_rows_of_a_topic_that_is_deleted_leave_and_the_next_one_is_shown(tmp_path: Path, gone_for: str) -> None:
    story = sample_story()
    transport = Cut(story)
    with running(story, lambda: transport, history=History(tmp_path / "h.sqlite3", most_age=FOREVER)) as feed:
        live(feed, story)
        written(feed, story)
        old = set(states(feed))

        def again() -> None:
            # More than there were, so that positions do not tell.
            for number in range(story.records() + 30):
                story.start(f"new-{number}", ("charge",))

        if gone_for == "a broken line":
            with away(feed, transport):
                story.broker.delete(story.topic)
                again()
        else:
            story.broker.delete(story.topic)
            if gone_for == "a while":
                assert feed.wait(lambda: not feed.fold.rows, PATIENCE)
                assert feed.status().workflows == 0
                assert feed.status().counts == {}
                assert feed.status().gap is not None
                # No line that breaks meanwhile brings them back.
                with away(feed, transport):
                    pass
                assert feed.wait(lambda: feed.status().phase is Phase.LIVE, PATIENCE)
                assert states(feed) == {}
            again()
        assert feed.wait(lambda: f"new-{story.records() - 1}" in feed.fold.rows, PATIENCE)
        assert feed.wait(lambda: feed.status().phase is Phase.LIVE, PATIENCE)
        assert not old & set(states(feed))
        assert len(states(feed)) == story.records()
        assert feed.status().counts == {"queued": story.records()}
        assert feed.status().gap is not None
        written(feed, story)
        kept = feed.kept
        assert kept is not None
        # The file still has them, for who asks for them.
        assert old <= {record.headers.correlation_id for record in kept.candidates(parse(""))}


def test_what_a_head_start_was_ahead_with_is_read_once_more(tmp_path: Path) -> None:
    story = sample_story()
    journal = journal_of(story)
    intake = Intake(100)
    intake.take_newest(journal[-5:])
    mending = Mending(intake, Past(story.topic, None))
    mending.follower.tell(Missed.TRIMMED)
    assert mending.mend(threading.RLock(), journal, NOW)
    assert not mending.mend(threading.RLock(), journal, NOW)
    intake.take(journal, NOW)
    plain = Fold()
    plain.apply(journal)
    assert {key: row.state for key, row in intake.fold.rows.items()} == {
        key: row.state for key, row in plain.rows.items()
    }


async def test_nothing_of_a_deleted_topic_is_taken_up_again_from_the_history(tmp_path: Path) -> None:
    story = sample_story()
    history = kept(tmp_path, journal_of(story))
    past = Past(story.topic, history)
    newest = journal_of(story)
    assert (await past.resume(story.transport(), newest, NOW))[1]
    past.miss(Missed.ANEW, NOW, NOW + 1)
    assert await past.resume(story.transport(), newest, NOW) == (START, [])
    assert past.all_read() == []
    history.close()


# On real brokers


@pytest.fixture(params=["redis", "rabbitmq"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A broker whose journals are small, as far as it trims them itself."""
    monkeypatch.setitem(topology.STREAMS, "journal", topology._stream(JOURNAL_AGE, 4096, 8192))
    found: str = request.getfixturevalue("redis_url" if request.param == "redis" else "rabbit_url")
    return found


@contextmanager
def watching(url: str, topic: str) -> Iterator[tuple[Feed, Proxy]]:
    with Proxy(port_of(url)) as proxy:
        feed = Feed(proxy.through(url), topic)
        feed.start()
        try:
            yield feed, proxy
        finally:
            feed.stop(PATIENCE)


async def shows(feed: Feed, ready: Callable[[], bool]) -> None:
    assert await asyncio.to_thread(feed.wait, ready, PATIENCE), (feed.status(), states(feed))


async def dispatch(transport: Transport, topic: str, step: str) -> str:
    return await WorkflowDispatcher(transport).dispatch_workflow([step], {"n": 1}, topic=topic)


async def overflow(transport: Transport, topic: str) -> set[str]:
    """Write on until the journal has nothing of what it had, nor all that came since; what it tells of then."""
    first = await dispatch(transport, topic, "c")
    while True:
        for _ in range(5):
            await dispatch(transport, topic, "c")
        if isinstance(transport, RedisTransport):
            await transport._lines.one(("XTRIM", Keys(topic).journal, "MAXLEN", 3))
        left = [record async for batch in transport.records(topic) for record in batch]
        if first != left[0].headers.correlation_id and left[0].headers.activity == "c":
            return {record.headers.correlation_id for record in left}


async def test_a_console_that_comes_back_to_a_real_broker_says_what_it_missed(url: str, topic: str) -> None:
    async with get_transport(url) as transport:
        done, dead, waiting = [await dispatch(transport, topic, step) for step in ("a", "b", "c")]
        one, other = Hands(transport, topic, "a"), Hands(transport, topic, "b")
        await one.finish(await one.take_one())
        await other.bury(await other.take_one())
        await one.consumer.close()
        await other.consumer.close()
        with watching(url, topic) as (feed, proxy):
            wanted = {done: "completed", dead: "dead", waiting: "queued"}
            await shows(feed, lambda: states(feed) == wanted and feed.status().phase is Phase.LIVE)
            last = feed.status().last_at
            assert last is not None
            proxy.cut()
            left = await overflow(transport, topic)
            proxy.mend()
            await shows(feed, lambda: {done, dead, *left} == set(states(feed)))
            gap = feed.status().gap
            assert gap is not None
            assert gap.after == last
            assert gap.until > last
            assert states(feed) == {done: "completed", dead: "dead", **dict.fromkeys(left, "queued")}


async def test_the_rows_of_a_topic_that_is_deleted_on_a_real_broker_leave(url: str, topic: str) -> None:
    async with get_transport(url) as transport:
        old = [await dispatch(transport, topic, "a") for _ in range(3)]
        with watching(url, topic) as (feed, _):
            await shows(feed, lambda: set(old) == set(states(feed)) and feed.status().phase is Phase.LIVE)
            await transport.delete_topic(topic)
            await shows(feed, lambda: not states(feed))
            assert feed.status().gap is not None
            new = [await dispatch(transport, topic, "a") for _ in range(5)]
            await shows(feed, lambda: set(new) == set(states(feed)))
            await transport.delete_topic(topic)
            again = [await dispatch(transport, topic, "a") for _ in range(7)]
            await shows(feed, lambda: set(again) == set(states(feed)))
            await transport.delete_topic(topic)
