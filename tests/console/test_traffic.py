"""The traffic: the newest records, and bodies up to their size."""

from __future__ import annotations

from paigeant_console.feed.ring import Ring
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


def test_a_ring_that_passed_over_some_has_those_behind_alone() -> None:
    story = Story()
    for number in range(6):
        story.start(f"w{number}", ("charge",))
    with story.broker.topic(story.topic) as state:
        records = [without_body(record) for record in state.journal]
    ring = Ring(10)
    ring.extend(records[:2])
    ring.pass_over(records[2:4])
    assert (ring.serial, ring.position, ring.since(0)) == (4, records[3].position, (4, []))
    ring.extend(records[4:])
    assert ring.since(0) == (4, records[4:])


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


def test_a_workflow_that_changes_is_among_the_newest_again_and_has_one_message() -> None:
    story = Story()
    cache = BodyCache(size=6000)  # of two and a bit in each half

    def take_what_came(known: int) -> int:
        with story.broker.topic(story.topic) as state:
            cache.take(list(state.journal)[known:])
            return len(state.journal)

    for name in ("w0", "w1", "w2"):
        story.start(name, ("a",) * 5, {"text": "x" * 1000})
    read = take_what_came(0)
    for _ in range(4):
        story.done("w0")
    read = take_what_came(read)
    assert (len(cache), cache.dropped) == (3, 0)
    for name in ("w3", "w4"):
        story.start(name, ("a",) * 5, {"text": "x" * 1000})
    take_what_came(read)
    assert (len(cache), cache.dropped) == (3, 2)
    assert cache.get("w0") == story.last("w0").body
    assert cache.get("w1") is None
