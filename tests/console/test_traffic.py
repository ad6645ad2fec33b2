"""The traffic: the newest records, and bodies up to their size."""

from __future__ import annotations

from paigeant_console.model.bodies import BodyCache
from paigeant_console.model.query import parse
from paigeant_console.model.traffic import TrafficList, without_body
from tests.console.story import START, Story


def test_the_traffic_keeps_the_newest_records_only() -> None:
    story = Story()
    for number in range(30):
        story.start(f"w{number}", ("charge",))
    with story.broker.topic(story.topic) as state:
        records = [without_body(record) for record in state.journal]
    kept = TrafficList(10)
    kept.extend(0, records[:12], START)
    assert (len(kept), kept.dropped, kept.next_serial) == (10, 2, 12)
    assert kept.index_of("1") is None
    assert kept.index_of("2") == 0
    kept.set_query(parse("id:w1"), START)
    assert [kept.key(index) for index in range(len(kept))] == ["10", "11"]
    kept.extend(12, records[12:], START)
    assert [kept.key(index) for index in range(len(kept))] == []
    kept.set_query(None, START)
    assert kept.key(0) == "20"
    kept.extend(25, records[25:], START)
    assert kept.next_serial == 30, "what it has already is not added again"
    kept.extend(100, records[:3], START)
    assert (len(kept), kept.key(0)) == (3, "100"), "a gap starts anew"
    assert kept.record("99") is None
    assert all(record.body is None for record in kept._records)


def test_a_megabyte_in_a_detail_is_not_kept() -> None:
    story = Story()
    story.start("a", ("charge",))
    record = story.last("a")
    record.detail["result"] = "x" * 10_000
    assert len(without_body(record).detail["result"]) == 2000
    assert len(record.detail["result"]) == 10_000, "the broker's own record is left alone"


def test_bodies_are_kept_up_to_their_size() -> None:
    story = Story()
    for number in range(20):
        story.start(f"w{number}", ("charge",), {"text": "x" * 1000})
    cache = BodyCache(size=5000)
    with story.broker.topic(story.topic) as state:
        cache.take(state.journal)
    assert 1 <= len(cache) <= 4
    assert cache.dropped == 20 - len(cache)
    assert cache.get("w19") is not None
    assert cache.get("w0") is None
