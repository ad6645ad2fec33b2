"""The history: what was seen stays, is found, is bounded, holds no secret, and a new console goes on where it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import stat
import threading
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paigeant_console import history as history_module
from paigeant_console.feed import Feed, Phase, past, reader
from paigeant_console.feed.gap import Gap, gap_behind
from paigeant_console.history import MOST_BYTES, History, Progress, history_path
from paigeant_console.model.fold import Fold
from paigeant_core import transition as moves
from paigeant_core.dispatcher import new_workflow
from paigeant_core.errors import ConfigError
from paigeant_core.journal import PARKED, Record, State
from paigeant_core.operations import Operations, Retry
from tests.console.feedkit import PATIENCE, Broken, live, running
from tests.console.story import Story, sample_story
from tests.console.test_fold import NOW

FOREVER = float("inf")
"""The stories of the tests are told long ago."""
TOKEN = "eyJhbGciOi.this-is-a-token"


def record(number: int, payload: dict[str, object] | None = None, *, at: float = NOW, token: str = "") -> Record:
    message = new_workflow(["a", "b"], payload or {}, topic="t", at=at, name="kept", correlation_id=f"wf-{number:05}")
    if token:
        message.obo_token = token
    dispatched = moves.dispatch(message, at).record
    return Record.decode(dispatched.encode_meta(), dispatched.body, position=str(number), at=at)


def kept(path: Path, records: list[Record], *, most_bytes: int = MOST_BYTES, most_age: float = FOREVER) -> History:
    history = History(path / "h.sqlite3", most_bytes=most_bytes, most_age=most_age)
    assert history.open()
    history.put(records)
    assert history.flush()
    return history


def journal_of(story: Story) -> list[Record]:
    with story.broker.topic(story.topic) as topic:
        return list(topic.journal)


def everything_in(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.iterdir()))


def ids(records: list[Record]) -> list[str]:
    return [item.headers.correlation_id for item in records]


def test_what_was_seen_is_there_for_the_next_console(tmp_path: Path) -> None:
    story = sample_story()
    journal = [item for item in journal_of(story) if item.headers.correlation_id]
    kept(tmp_path, journal).close()
    again = History(tmp_path / "h.sqlite3")
    assert again.progress() == Progress(journal[-1].position, journal[-1].at)
    fold, plain = Fold(), Fold()
    fold.apply(again.standing(100))
    plain.apply(journal)
    assert {key: row.state for key, row in fold.rows.items()} == {key: row.state for key, row in plain.rows.items()}
    for key in plain.rows:
        mine = [item for item in journal if item.headers.correlation_id == key]
        assert [(item.position, item.at, item.kind) for item in again.of(key)] == [
            (item.position, item.at, item.kind) for item in mine
        ]


def test_the_file_is_for_its_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        history = kept(tmp_path / "new", [record(1)])
    finally:
        os.umask(before)
    for file in (tmp_path / "new").iterdir():
        if file.suffix != ".lock":
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    history.close()


def test_no_token_and_no_secret_is_written(tmp_path: Path) -> None:
    payload: dict[str, object] = {"email": "ann@example.com", "api_key": "s3cr3t-one", "in": {"password": "s3cr3t-two"}}
    told = record(3)
    told.detail["steps"] = [{"name": "a", "arguments": {"pin": "s3cr3t-four"}}]
    history = kept(tmp_path, [record(1, payload, token=TOKEN), record(2, {"p\u0061ssword": "s3cr3t-three"}), told])
    history.close()
    data = everything_in(tmp_path)
    assert b"ann@example.com" in data
    for secret in (TOKEN.encode(), b"s3cr3t"):
        assert secret not in data
    (one,) = History(tmp_path / "h.sqlite3").of("wf-00001")
    assert one.message is not None
    assert one.message.payload["email"] == "ann@example.com"


def test_an_epoch_that_no_database_holds_stops_nothing(tmp_path: Path) -> None:
    hostile = record(1)
    hostile.headers = msgspec.structs.replace(hostile.headers, epoch=2**63)
    history = kept(tmp_path, [hostile, record(2)])
    assert sorted(ids(history.standing(10))) == ["wf-00001", "wf-00002"]
    history.close()


def test_an_erased_workflow_leaves_nothing_in_the_file(tmp_path: Path) -> None:
    history = kept(tmp_path, [record(number, {"email": f"person-{number}@example.com"}) for number in range(50)])
    assert b"person-7@" in everything_in(tmp_path)
    assert history.erase("wf-00007") == 1
    assert history.erase("wf-00007") == 0
    assert b"person-7@" not in everything_in(tmp_path)
    assert history.of("wf-00007") == []
    assert len(history.standing(100)) == 49
    history.close()
    assert b"person-7@" not in everything_in(tmp_path)
    # Another process may erase what a console has written, and where there is no file there is nothing to do.
    assert History(tmp_path / "h.sqlite3").erase("wf-00008") == 1
    assert History(tmp_path / "none.sqlite3").erase("wf-00008") == 0
    assert not (tmp_path / "none.sqlite3").exists()


def test_the_oldest_goes_when_there_is_too_much(tmp_path: Path) -> None:
    records = [record(number, {"pad": "x" * 2000}) for number in range(3000)]
    history = kept(tmp_path, records, most_bytes=2_000_000)
    standing = ids(history.standing(5000))
    assert 200 < len(standing) < 1500
    assert standing == [f"wf-{number:05}" for number in range(2999, 2999 - len(standing), -1)]
    history.close()
    # What is let go of is used again; the log beside the file is bounded by SQLite.
    assert (tmp_path / "h.sqlite3").stat().st_size < 8_000_000


def test_what_is_too_old_goes(tmp_path: Path) -> None:
    now = time.time()
    history = kept(tmp_path, [record(1, at=now - 1000), record(2, at=now - 10)], most_age=100.0)
    assert ids(history.standing(10)) == ["wf-00002"]
    assert history.of("wf-00001") == []
    history.close()


def test_one_console_writes_and_another_reads(tmp_path: Path) -> None:
    first = kept(tmp_path, [record(1)])
    second = History(tmp_path / "h.sqlite3")
    assert not second.open()
    assert not second.writes
    second.put([record(2)])
    assert ids(second.standing(10)) == ["wf-00001"]
    second.close()
    first.close()
    third = History(tmp_path / "h.sqlite3")
    assert third.open(), "the file is free again"
    third.close()


def test_a_broken_file_is_begun_anew_and_none_stops_the_console(tmp_path: Path) -> None:
    (tmp_path / "h.sqlite3").write_bytes(b"no database at all, but long enough to be taken for one" * 100)
    history = kept(tmp_path, [record(1)])
    assert ids(history.standing(10)) == ["wf-00001"]
    history.close()
    (tmp_path / "file").write_text("in the way")
    nowhere = History(tmp_path / "file" / "h.sqlite3")
    assert not nowhere.open()
    assert nowhere.problem
    nowhere.put([record(1)])
    assert nowhere.standing(10) == []
    assert nowhere.progress() is None
    nowhere.close()


def test_an_older_file_is_read_before_it_is_written(tmp_path: Path) -> None:
    kept(tmp_path, [record(1)]).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "h.sqlite3")) as database:
        database.execute("DROP TABLE lapse")
    history = History(tmp_path / "h.sqlite3", most_age=FOREVER)
    assert ids(history.standing(10)) == ["wf-00001"]
    assert history.open()
    history.lapse()
    assert history.standing(10) == []
    history.put([record(2)])
    assert history.flush()
    history.erase("wf-00001")
    history.erase("wf-00002")
    history.put([record(3)])
    assert history.flush()
    assert ids(history.standing(10)) == ["wf-00003"], "serials go on behind the lapse, whatever was erased"
    history.close()


@settings(max_examples=60)
@given(known=st.integers(0, 30), first=st.integers(1, 30), length=st.integers(0, 20), anew=st.booleans())
def test_a_gap_is_seen_where_there_is_one(known: int, first: int, length: int, anew: bool) -> None:
    """A topic that was deleted and is used again counts its journal from the start: all in it is later."""
    later = 1000 if anew else 0
    journal = [record(number, at=NOW + number + later) for number in range(first, first + length)]
    gap = gap_behind(Progress(str(known), NOW + known), journal[0] if journal else None, journal[-1:], NOW)
    missed = not journal or known + 1 < first or known > first + length - 1 or (anew and first <= known)
    assert (gap is not None) == missed
    redis = gap_behind(Progress("1700000000000-3", 1.0), at_position("1700000000000-4"), [], NOW)
    assert redis == Gap(1.0, NOW), "positions that are times cannot be counted through"
    assert gap_behind(Progress("1700000000000-4", NOW), at_position("1700000000000-4"), [], NOW) is None


def at_position(position: str) -> Record:
    item = record(1)
    item.position = position
    return item


def test_where_the_history_is(tmp_path: Path) -> None:
    environ = {"PAIGEANT_HISTORY": "1"}
    path = history_path("redis://:one@host/0", "t", environ)
    assert path is not None
    assert path == history_path("redis://:other@host/0", "t", {})
    assert path != history_path("redis://:one@host/0", "u", {})
    assert "one" not in path.name
    assert history_path("memory://", "t", environ) is None
    assert history_path("redis://host/0", "t", {"PAIGEANT_HISTORY": "off"}) is None
    with pytest.raises(ConfigError, match="PAIGEANT_HISTORY"):
        history_path("redis://host/0", "t", {"PAIGEANT_HISTORY": "perhaps"})


# With the feed


def written(feed: Feed, story: Story) -> None:
    """Wait until the history has all there is; the screen has it before."""
    last = journal_of(story)[-1].position

    def there() -> bool:
        assert feed.kept is not None
        progress = feed.kept.progress()
        return progress is not None and progress.position == last

    deadline = time.monotonic() + PATIENCE
    while not there() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert there()


def test_a_console_that_is_started_again_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Much was written since: the head start does not reach back to what was seen.
    monkeypatch.setattr(reader, "NEWEST", 1)
    story = sample_story()
    with running(story, history=History(tmp_path / "h.sqlite3", most_age=FOREVER)) as feed:
        live(feed, story)
        written(feed, story)
        before = feed.status()
    last = journal_of(story)[-1].position
    story.done(next(key for key, row in feed.fold.rows.items() if row.state == State.RUNNING))
    transport = Broken(story)
    with running(story, lambda: transport, history=History(tmp_path / "h.sqlite3", most_age=FOREVER)) as feed:
        assert feed.wait(lambda: feed.status().phase is Phase.LIVE and feed.fold.observed, PATIENCE)
        status = feed.status()
        assert transport.starts[-1] == last
        assert status.records == story.records() - int(last)
        assert status.workflows == before.workflows
        assert status.gap is None


def reopened(tmp_path: Path) -> History:
    return History(tmp_path / "h.sqlite3", most_age=FOREVER)


@pytest.mark.parametrize("shortened", ["restored", "pruned"])
def test_a_history_that_holds_less_than_the_journal_takes_nothing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shortened: str
) -> None:
    monkeypatch.setattr(reader, "NEWEST", 1)
    story = sample_story()
    with running(story, history=reopened(tmp_path)) as feed:
        live(feed, story)
        written(feed, story)
        before = {key: row.state for key, row in feed.fold.rows.items()}
    if shortened == "restored":
        monkeypatch.setattr(past, "RESTORED", 2)
    else:
        with contextlib.closing(sqlite3.connect(tmp_path / "h.sqlite3", isolation_level=None)) as database:
            database.execute("DELETE FROM record WHERE serial < (SELECT max(serial) FROM record)")
            database.execute("DELETE FROM workflow WHERE serial NOT IN (SELECT serial FROM record)")
    with running(story, history=reopened(tmp_path)) as feed:
        assert feed.wait(lambda: feed.status().phase is Phase.LIVE and feed.fold.observed, PATIENCE)
        assert {key: row.state for key, row in feed.fold.rows.items()} == before
        assert feed.status().gap is None


def test_an_id_that_was_used_before_is_shown_as_the_new_topic_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one had ended one epoch up; the topic was deleted, and the new one begins at the first."""
    monkeypatch.setattr(reader, "NEWEST", 1)
    old = Story()
    old.start("order-17", ("charge",))
    old.fails("order-17", ValueError("no"))
    asyncio.run(_retried(old, "order-17"))
    old.done("order-17")
    with running(old, history=reopened(tmp_path)) as feed:
        live(feed, old)
        written(feed, old)
        assert (feed.fold.rows["order-17"].state, feed.fold.rows["order-17"].epoch) == (State.COMPLETED, 2)
    new = Story()
    new.wait(100_000)
    new.start("order-17", ("charge",))
    for number in range(len(journal_of(old))):
        new.start(f"other-{number}", ("charge",))
    for _ in range(2):
        with running(new, history=reopened(tmp_path)) as feed:
            assert feed.wait(lambda: feed.status().phase is Phase.LIVE and feed.fold.observed, PATIENCE)
            assert feed.fold.rows["order-17"].state == State.QUEUED
            written(feed, new)


async def _retried(story: Story, correlation_id: str) -> None:
    operations = Operations(story.transport(), story.topic)
    plan = await operations.plan(Retry(), [correlation_id], reason="again")
    await operations.execute(plan)


def test_a_filter_finds_what_is_in_the_payloads_that_the_history_gave_back(tmp_path: Path) -> None:
    story = sample_story()
    with running(story, history=reopened(tmp_path)) as feed:
        live(feed, story)
        written(feed, story)
    with story.broker.topic(story.topic) as topic:
        while len(topic.journal) > 1:
            topic._trim_one()
    with running(story, history=reopened(tmp_path)) as feed:
        assert feed.wait(lambda: feed.status().phase is Phase.LIVE, PATIENCE)
        known = [key for key, row in feed.fold.rows.items() if row.base != State.QUARANTINED]
        assert known
        assert all(feed.shows(key, True) for key in known)
        assert not feed.shows("nobody", False)


def test_a_file_that_cannot_be_opened_is_as_none(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite3"
    path.mkdir()
    history = History(path)
    assert history.progress() is None
    assert history.standing(10) == []
    assert history.of("wf-00001") == []
    assert not history.open()
    assert history.problem, "it is said what is wrong"
    assert history.problem != "another console writes it"


def test_a_topic_that_is_deleted_and_used_again_meanwhile_is_another_one(tmp_path: Path) -> None:
    history = kept(tmp_path, [record(7), record(8)])
    history.put([record(9), record(1, at=NOW + 60), record(2, at=NOW + 61)])
    assert history.flush()
    assert ids(history.standing(10)) == ["wf-00002", "wf-00001"]
    assert [item.position for item in history.of("wf-00009")] == ["9"], "what was seen of the old one stays"
    assert history.progress() == Progress("2", NOW + 61)
    history.close()


def test_the_latest_time_of_all_is_kept_where_clocks_differ(tmp_path: Path) -> None:
    history = kept(tmp_path, [record(1, at=NOW + 50), record(2, at=NOW)])
    assert history.progress() == Progress("2", NOW + 50)
    history.put([record(3, at=NOW + 10)])
    assert history.flush()
    assert history.progress() == Progress("3", NOW + 50)
    history.close()


def test_a_reader_waits_also_for_few_but_large_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = kept(tmp_path, [record(1)])
    monkeypatch.setattr(history_module, "MOST_WAITING_BYTES", 1000)
    written_on = threading.Event()
    monkeypatch.setattr(history, "_insert", lambda *_: written_on.wait(PATIENCE))
    history.put([record(2, {"pad": "x" * 2000}) for _ in range(2 * history_module._BATCH)])
    assert history.full
    written_on.set()
    assert history.flush()
    assert not history.full
    history.close()


def test_the_traffic_of_a_console_that_is_started_again_begins_with_what_was_seen(tmp_path: Path) -> None:
    story = sample_story()
    with running(story, history=History(tmp_path / "h.sqlite3", most_age=FOREVER)) as feed:
        live(feed, story)
        written(feed, story)
        before = {key: (row.state, row.names) for key, row in feed.fold.rows.items()}
    with running(story, history=History(tmp_path / "h.sqlite3", most_age=FOREVER)) as feed:
        assert feed.wait(lambda: feed.status().phase is Phase.LIVE and feed.fold.observed, PATIENCE)
        journal = journal_of(story)
        assert [item.position for item in feed.traffic(0)[1]] == [item.position for item in journal[1:]]
        assert {key: (row.state, row.names) for key, row in feed.fold.rows.items()} == before


def test_what_the_journal_holds_no_more_is_still_shown_and_the_gap_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The head start reads less than there is, so that what is shown is the history's.
    monkeypatch.setattr(reader, "NEWEST", 1)
    story = sample_story()
    with running(story, history=History(tmp_path / "h.sqlite3", most_age=FOREVER)) as feed:
        live(feed, story)
        written(feed, story)
        done = next(key for key, row in feed.fold.rows.items() if row.state == State.COMPLETED)
        under_way = next(key for key, row in feed.fold.rows.items() if row.state == State.RUNNING)
        parked = [key for key, row in feed.fold.rows.items() if row.base in PARKED]
    story.done(under_way)
    story.done(under_way)
    with story.broker.topic(story.topic) as topic:
        # All that was seen is trimmed, and a record more.
        while len(topic.journal) > 1:
            topic._trim_one()
    with running(story, history=History(tmp_path / "h.sqlite3", most_age=FOREVER)) as feed:
        assert feed.wait(lambda: feed.status().phase is Phase.LIVE, PATIENCE)
        status = feed.status()
        assert status.gap is not None
        assert status.gap.after < status.gap.until
        assert feed.fold.rows[done].state == State.COMPLETED
        assert feed.history(done).result(PATIENCE), "its page too"
        # Of what had not ended nobody knows what became, but for what the broker itself has parked.
        assert set(feed.fold.rows) == {done, under_way, *parked}
        written(feed, story)
    with running(story, history=History(tmp_path / "h.sqlite3", most_age=FOREVER)) as feed:
        assert feed.wait(lambda: feed.status().phase is Phase.LIVE, PATIENCE)
        assert feed.status().gap is None
        assert set(feed.fold.rows) == {done, under_way, *parked}, "nor does the next console that is started"


def test_the_end_of_what_was_seen_is_still_known_after_a_lapse(tmp_path: Path) -> None:
    history = kept(tmp_path, [record(7), record(8, at=NOW + 5)])
    history.lapse()
    assert history.progress() == Progress("8", NOW + 5)
    history.put([record(1, at=NOW - 100), record(2, at=NOW - 90)])
    assert history.flush()
    assert history.progress() == Progress("2", NOW - 90), "of another journal the times begin anew"
    history.close()
