"""The judge itself: what it calls lost, twice and restarted, on events made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paigeant_core import transition as moves
from paigeant_core.dispatcher import new_workflow
from paigeant_core.journal import Record
from paigeant_core.transition import Span
from tests.chaos import ledger
from tests.chaos.ledger import Event


def step(what: str, at: float, worker: str, key: str = "w/1/1", **fields: Any) -> Event:
    workflow, run, hop = key.split("/")
    return Event(what=what, at=at, workflow=workflow, run=int(run), hop=int(hop), key=key, worker=worker, **fields)


def ran(begin: float, end: float, worker: str, key: str = "w/1/1") -> list[Event]:
    return [step(ledger.STARTED, begin, worker, key), step(ledger.FINISHED, end, worker, key)]


def events(*items: Event | list[Event]) -> list[Event]:
    flat = [event for item in items for event in (item if isinstance(item, list) else [item])]
    return sorted(flat, key=lambda event: event.at)


@pytest.fixture
def book(tmp_path: Path) -> ledger.Ledger:
    return ledger.Ledger(tmp_path / "ledger")


def test_a_torn_line_takes_no_other_with_it(book: ledger.Ledger) -> None:
    book.note(ledger.BORN, worker="w1", pid=7)
    with book.path.open("ab") as file:
        file.write(b'\n{"what":"started","at":1')
    book.note(ledger.KILLED, pid=7)
    assert [(event.what, event.worker) for event in book.read()] == [(ledger.BORN, "w1"), (ledger.KILLED, "w1")]
    book.close()


def test_a_confirmed_workflow_is_lost_until_every_hop_came_to_its_end() -> None:
    told = [Event(what=ledger.DISPATCHED, at=0, workflow="w"), Event(what=ledger.UNKNOWN, at=0, workflow="u")]
    assert ledger.lost(told, 2) == {"w"}
    assert ledger.unsure(told) == {"u"}
    half = events(told, ran(1, 2, "a", "w/1/2"), step(ledger.STARTED, 1, "a", "w/1/1"))
    assert ledger.lost(half, 2) == {"w"}
    assert ledger.lost(events(half, ran(3, 4, "b")), 2) == set()


def test_a_hop_is_handed_on_twice_when_two_records_of_one_epoch_say_so() -> None:
    message = new_workflow(["a", "b"], {}, topic="t", at=1.0, correlation_id="w")
    records: list[Record] = [moves.dispatch(message, 1.0).record]
    for epoch in (1, 1, 2):
        copy = message.replaced(message.routing_slip, timestamp="", epoch=epoch)
        records.append(moves.done(copy, None, Span(worker="x", started_at=1.0, completed_at=2.0)).record)
    assert ledger.handed_on_twice(records) == {("w", 1, 1, 1): 2}
    assert ledger.handed_on_twice(records[:2] + records[3:]) == {}


def test_a_second_start_is_put_down_to_what_was_lost_in_between() -> None:
    def causes(*items: Event | list[Event]) -> list[str]:
        return [item.cause for item in ledger.started_again(events(*items))]

    first, second = step(ledger.STARTED, 10, "a"), step(ledger.STARTED, 40, "b")
    dead = Event(what=ledger.KILLED, at=12, worker="a")
    assert causes(first, second) == [""]
    assert causes(first, dead, second) == ["worker"]
    assert causes(first, Event(what=ledger.ASKED, at=12, worker="a"), second) == ["asked"]
    assert causes(first, Event(what=ledger.KILLED, at=12, worker="c"), second) == [""]
    for cause in (ledger.BROKER, ledger.LINE):
        down = [Event(what=ledger.DOWN, at=11, note=f"{cause} x"), Event(what=ledger.UP, at=13, note=f"{cause} x")]
        assert causes(first, down, second) == [cause]
        # It was handed on long before.
        assert causes(ran(1, 2, "a"), down, second) == [""]
    # Nobody acts here but workers that make up for a broker's crash, so a raised epoch is theirs.
    back = [Event(what=ledger.DOWN, at=1, note="broker"), Event(what=ledger.UP, at=3, note="broker")]
    assert causes(first, back, second) == [""]
    assert causes(first, back, step(ledger.STARTED, 40, "b", epoch=2)) == ["broker"]
    assert causes(first, back, step(ledger.STARTED, 50, "b", epoch=2)) == [""]
    # The worker died long after it had handed the hop on.
    assert causes(ran(10, 11, "a"), Event(what=ledger.KILLED, at=20, worker="a"), second) == [""]
    # The same, where the broker was down and the settle waited.
    down = [Event(what=ledger.DOWN, at=11, note="broker"), Event(what=ledger.UP, at=19, note="broker")]
    assert causes(ran(10, 11, "a"), down, Event(what=ledger.KILLED, at=20, worker="a"), second) == ["worker"]
    # A new attempt is no restart.
    assert causes(first, step(ledger.STARTED, 40, "b", attempt=2)) == []


def test_a_workflow_forks_at_the_first_hop_that_ran_twice_across_an_outage() -> None:
    down = [Event(what=ledger.DOWN, at=10, note="broker"), Event(what=ledger.UP, at=12, note="broker")]
    across = [*ran(9, 11, "a", "w/1/2"), *ran(13, 14, "b", "w/1/2")]
    later = [*ran(30, 31, "a", "w/1/3"), *ran(30, 31, "b", "w/1/3")]
    assert ledger.forks(events(down, across, later)) == {("w", 1): 2}
    assert ledger.forks(events(across, later)) == {}
    assert ledger.forks(events(down, later)) == {}
    # It ran across the outage, and only once.
    assert ledger.forks(events(down, ran(9, 11, "a", "w/1/2"), later)) == {}


def test_a_takeover_is_timed_from_the_death_and_not_across_an_outage() -> None:
    dead = Event(what=ledger.KILLED, at=12, worker="a")
    taken = events(step(ledger.STARTED, 10, "a"), dead, step(ledger.STARTED, 15, "b"))
    assert ledger.takeovers(taken) == [3]
    down = [Event(what=ledger.DOWN, at=13, note="broker"), Event(what=ledger.UP, at=14, note="broker")]
    assert ledger.takeovers(events(taken, down)) == []
    assert ledger.recoveries(events(taken, down)) == [1]
    # Published anew behind its queue's backlog, since the broker had just come back: no takeover.
    back = [Event(what=ledger.DOWN, at=1, note="broker"), Event(what=ledger.UP, at=3, note="broker")]
    anew = step(ledger.STARTED, 25, "b", epoch=2)
    assert ledger.takeovers(events(step(ledger.STARTED, 10, "a"), dead, back, anew)) == []
    assert ledger.takeovers(events(step(ledger.STARTED, 10, "a"), dead, anew)) == [13]
    assert ledger.takeovers(events(taken, back)) == [3]
    # It had run to its end: nothing was taken over.
    assert ledger.takeovers(events(ran(10, 11, "a"), dead, step(ledger.STARTED, 15, "b"))) == []


def test_where_a_cluster_goes_on_the_longest_time_without_a_start_counts() -> None:
    down = [Event(what=ledger.DOWN, at=10, note=ledger.BROKER), Event(what=ledger.UP, at=20, note=ledger.BROKER)]
    starts = [step(ledger.STARTED, at, "a", f"w/1/{hop}") for hop, at in enumerate((2.0, 9.5, 10.5, 14.0, 15.0, 80.0))]
    assert ledger.pauses(events(down, starts)) == [3.5]
    assert ledger.pauses(events(starts)) == []


def test_two_handlers_at_once_are_seen_where_the_first_worker_lives() -> None:
    both = events(ran(10, 20, "a"), ran(15, 25, "b"))
    assert len(ledger.together(both)) == 1
    assert ledger.together(events(both, Event(what=ledger.KILLED, at=12, worker="a"))) == []
    assert ledger.together(events(ran(10, 14, "a"), ran(15, 25, "b"))) == []
