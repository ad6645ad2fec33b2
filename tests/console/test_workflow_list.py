"""The list of workflows: its order, its filters, and rows that say when they changed."""

from __future__ import annotations

import functools
from typing import cast
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paigeant_console.model import ordering
from paigeant_console.model.bodies import BodyCache
from paigeant_console.model.ordering import SortedKeys
from paigeant_console.model.plain_rows import PlainRows
from paigeant_console.model.query import parse, use_saved
from paigeant_console.model.workflow_list import WorkflowList
from paigeant_console.safe_text import SafeText, is_clean, literal
from paigeant_core.clock import ManualClock
from paigeant_core.journal import PARKED
from tests.console import story as told
from tests.console.story import START, Story, sample_story
from tests.console.story_rows import StoryRows, workers_of


@given(
    st.lists(st.tuples(st.sampled_from("abcdefghij"), st.none() | st.integers(0, 5)), max_size=80),
    st.integers(1, 90),
    st.sampled_from([0, 64]),
    st.sampled_from([1, 500]),
)
@example([*((key, 1) for key in "abcdefg"), ("a", None), ("d", None), ("g", None)], 7, 64, 1)
def test_sorted_keys_are_sorted_however_they_changed(changes, batch: int, few: int, close: int) -> None:
    keys = SortedKeys()
    expected: dict[str, int] = {}
    for start in range(0, len(changes), batch):
        some = dict(changes[start : start + batch])
        with mock.patch.object(ordering, "_FEW", few), mock.patch.object(ordering, "_CLOSE", close):
            keys.update({key: None if rank is None else (rank, key) for key, rank in some.items()})
        for key, rank in some.items():
            expected.pop(key, None)
            if rank is not None:
                expected[key] = rank
    order = [key for _, key in sorted(((rank, key) for key, rank in expected.items()), reverse=True)]
    assert list(keys) == order
    assert [keys.key(index) for index in range(len(keys))] == order
    assert [keys.index_of(key) for key in order] == list(range(len(order)))
    assert keys.index_of("nowhere") is None


def test_many_changes_at_once_are_sorted_too() -> None:
    keys = SortedKeys()
    keys.update({str(n): (n % 7, str(n)) for n in range(500)})
    assert not keys.update({str(n): (n % 7, str(n)) for n in range(500)})
    assert keys.update({str(n): None for n in range(0, 500, 2)})
    assert len(keys) == 250
    assert list(keys) == sorted(keys, key=lambda key: (int(key) % 7, key), reverse=True)


def listed(rows: StoryRows, **options) -> WorkflowList:
    rows.read()
    rows.fold.observe(workers_of(rows.story), START)
    made = WorkflowList(rows, **options)
    made.absorb(rows.fold.rows)
    return made


def keys_of(rows: WorkflowList) -> list[str]:
    return [rows.key(index) for index in range(len(rows))]


def test_the_newest_workflow_is_first_and_stays_in_its_place() -> None:
    rows = StoryRows(sample_story())
    made = listed(rows)
    assert keys_of(made)[0] == told.QUEUED
    assert keys_of(made)[-1] == told.DONE
    before = keys_of(made)
    rows.story.done(told.RUNNING)
    assert not made.absorb(rows.read()), "a workflow that moves on does not move in the list"
    assert keys_of(made) == before
    rows.story.start("newer")
    assert made.absorb(rows.read())
    assert keys_of(made) == ["newer", *before]


def test_other_orders() -> None:
    rows = StoryRows(sample_story())
    made = listed(rows)
    made.set_order("state")
    assert made.scan()
    states = [str(rows.fold.rows[key].state) for key in keys_of(made)]
    assert states[0] == "dead"
    assert states[-1] == "completed"
    made.set_order("updated")
    made.scan()
    rows.story.done(told.RUNNING)
    assert made.absorb(rows.read())
    assert keys_of(made)[0] == told.RUNNING


def test_a_filter_is_applied_to_what_changes_only() -> None:
    rows = StoryRows(sample_story())
    made = listed(rows)
    made.set_query(parse("state:dead"))
    assert made.scan()
    assert keys_of(made) == [told.DEAD]
    rows.story.fails(told.RUNNING, ValueError("no"))
    assert made.absorb(rows.read())
    assert set(keys_of(made)) == {told.DEAD, told.RUNNING}
    made.set_query(None)
    made.scan()
    assert len(made) == 9


def test_a_filter_asks_for_the_payload() -> None:
    rows = StoryRows(sample_story())
    bodies = BodyCache()
    with rows.story.broker.topic(rows.story.topic) as state:
        bodies.take(state.journal)
    made = listed(rows)
    made.body = bodies.get
    for query in ("payload.order_id:a-1004", "A-1004", "payload.items.sku:lamp payload.amount_eur:>100 state:dead"):
        made.set_query(parse(query))
        made.scan()
        assert keys_of(made) == [told.DEAD], query


def test_a_query_about_time_finds_rows_as_time_passes() -> None:
    rows = StoryRows(Story())
    rows.story.start("a")
    made = listed(rows)
    made.set_query(parse("age:>1m"))
    made.scan()
    assert len(made) == 0
    rows.story.wait(61)
    assert made.absorb(())
    assert keys_of(made) == ["a"]


@pytest.mark.parametrize(
    "query",
    [
        *("@stuck", "@nested", "STUCK:no_worker", "no_worker", "worker", "no_*", '"no_worker"'),
        *("AGE:>1h", "created_at:>1h", "at:>1h", "!age:<1h", "state:queued (stuck:* OR name:x)"),
    ],
)
def test_however_a_query_asks_for_what_comes_with_time_it_is_asked_anew(query: str) -> None:
    use_saved({"stuck": "stuck:no_worker", "nested": "(state:dead OR state:queued) @stuck"})
    try:
        asked = parse(query, "workflow")
    finally:
        use_saved({})
    rows = StoryRows(Story())
    rows.story.start("a", ("charge",))
    made = listed(rows)
    made.set_query(asked)
    made.scan()
    assert keys_of(made) == []
    rows.story.wait(2 * 3600)
    assert made.absorb(())
    assert keys_of(made) == ["a"]


@pytest.mark.parametrize("query", ["state:queued", "*", "payload.age:3", '"age:"', "created:<2026-02-01", "zebra"])
def test_rows_are_not_looked_at_again_for_a_query_that_time_does_not_change(query: str) -> None:
    assert not parse(query, "workflow").comes_with_time


def test_a_scan_of_many_rows_lets_keys_in_between() -> None:
    story = Story()
    for number in range(2000):
        story.start(f"w{number:04}", ("charge",))
    rows = StoryRows(story)
    made = listed(rows)
    made.set_query(parse("id:w19"))
    slices = 1
    while not made.scan(budget_s=0):
        slices += 1
        assert len(made) == 2000, "the old rows stay until the new ones are there"
        assert 0 <= (made.filtering or 0) <= 1
        if slices == 3:
            story.start("w1999-late", ("charge",))
            made.absorb(rows.read())
    assert slices > 3
    assert len(made) == 101
    assert made.key(0) == "w1999-late", "what came meanwhile is not lost"


def test_a_row_that_reads_the_same_has_the_same_revision() -> None:
    rows = StoryRows(sample_story())
    made = listed(rows)
    made.room = {"slip": 60}
    before = {key: made.revision(key) for key in keys_of(made)}
    rows.story.wait(0.5)
    same = {key for key in before if made.revision(key) == before[key]}
    assert same == set(before), "less than a second changes nothing"
    rows.story.wait(0.5)
    ticked = {key for key in before if made.revision(key) != before[key]}
    assert ticked == {told.RUNNING, told.ALSO_RUNNING}, "only what runs ticks by the second"


@given(st.integers(0, 200))
def test_cells_are_safe_whatever_the_room(room: int) -> None:
    made = listed(_hostile_rows())
    made.columns = ("state", "id", "name", "age", "updated", "hop", "try", "worker", "step", "slip", "why")
    made.room = dict.fromkeys(made.columns, room)
    for ascii_only in (False, True):
        made.ascii_only = ascii_only
        for index in range(len(made)):
            for cell in made.cells(index):
                for span in [cell] if isinstance(cell, tuple) and isinstance(cell[0], str) else cell:
                    text = cast(tuple[str, str], span)[0]
                    assert type(text) is SafeText
                    assert is_clean(text)
                    assert text.isascii() or not ascii_only


_HOSTILE = "Q\x1b]0;pwned\x07\x9b2J\u202e[@click=app.quit]x[/]\u200b"


@functools.cache
def _hostile_rows() -> StoryRows:
    story = Story()
    story.start("a", payload={"x": _HOSTILE}, name=_HOSTILE, labels={"l": _HOSTILE})
    story.fails("a", ValueError(_HOSTILE))
    story.start("b", payload={"x": _HOSTILE}, name=_HOSTILE)
    story.done("b", hold=_HOSTILE)
    return StoryRows(story)


def test_rows_that_say_the_same_have_the_same_revision() -> None:
    rows = PlainRows()
    rows.replace([("a", ((literal("x"), ""), [(literal("y"), "dim")])), ("b", ((literal("z"), ""),))])
    before = rows.revision("a")
    rows.replace([("b", ((literal("z"), ""),)), ("a", ((literal("x"), ""), [(literal("y"), "dim")]))])
    assert rows.revision("a") == before
    assert rows.index_of("a") == 1
    rows.replace([("a", ((literal("x"), "error"), [(literal("y"), "dim")]))])
    assert rows.revision("a") != before
    assert rows.index_of("b") is None


def test_the_dead_letters_are_what_waits_for_an_operator() -> None:
    rows = StoryRows(sample_story())
    made = listed(rows, base=lambda row: row.state in PARKED, order="updated")
    assert keys_of(made) == [told.HELD, told.QUARANTINED, told.DEAD]


def test_the_clock_of_a_story_stands() -> None:
    assert isinstance(Story().clock, ManualClock)
    assert sample_story().records() == sample_story().records()
