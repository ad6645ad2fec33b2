"""The head start: whatever the journal, reading its end first comes to the same as reading it in order."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from paigeant_console.model.fold import Fold
from paigeant_console.model.head_start import HeadStart
from paigeant_core import transition as moves
from paigeant_core.journal import Record
from tests.console.test_fold import NOW, Story

MOVES = ("done", "fails", "dies", "operated", "asked")


def journal(moves: list[tuple[int, str]]) -> list[Record]:
    """The records of three workflows of four steps, as these moves in this order make them."""
    stories = [Story("a", "b", "c", "d", at=NOW + number) for number in range(3)]
    records: list[Record] = []
    for story in stories:
        records += story.journal
    for number, move in moves:
        story = stories[number]
        if story.message.routing_slip.finished:
            continue
        before = len(story.journal)
        epoch = (story.message.headers.epoch + 1,) if move == "operated" else ()
        getattr(story, move)(*epoch)
        records += story.journal[before:]
    for position, record in enumerate(records):
        record.position = str(position)
    return records


def shown(fold: Fold) -> dict[str, Any]:
    return {
        key: (fold.document(row, NOW), row.names, row.token, row.due_at, row.reason, row.worker, row.error, row.asked)
        for key, row in fold.rows.items()
    }


@given(
    moves=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(MOVES)), max_size=20),
    newest=st.integers(0, 30),
    later=st.integers(0, 5),
    batch=st.integers(1, 7),
    again=st.booleans(),
)
def test_the_end_first_comes_to_the_same_as_all_in_order(
    moves: list[tuple[int, str]], newest: int, later: int, batch: int, again: bool
) -> None:
    records = journal(moves)
    end = len(records) - later
    begin = max(0, end - newest)
    plain, fold = Fold(), Fold()
    plain.apply(records)
    start = HeadStart(fold)
    if again:
        # What was seen before, and the reader begins behind the head start's first.
        fold.apply(records[:begin])
    start.take(records[begin:end])
    if again and end - begin == 1:
        start.end()
    ahead = {key: row.state for key, row in fold.rows.items()}
    for at in range(begin + 1 if again and begin < end else 0, len(records), batch):
        fold.apply(start.rest(records[at : at + batch]))
        if start.under_way:
            # What the head start showed does not go back to what it was before.
            assert {key: fold.rows[key].state for key in ahead} == ahead
    assert not start.under_way
    assert shown(fold) == shown(plain)
    assert fold.signs == plain.signs


def test_why_one_was_undone_is_filled_in_behind_it() -> None:
    story = Story("a", "b")
    story.done()
    story.add(moves.compensate(story.message, NOW, {"operator": "ann", "reason": "customer asked"}))
    story.add(moves.undone(story.message, story.span(), had_compensator=True))
    fold = Fold()
    start = HeadStart(fold)
    start.take(story.journal[-1:])
    row = fold.rows[story.message.correlation_id]
    assert row.undone_for is None
    fold.apply(start.rest(story.journal))
    assert row.undone_for is not None
    assert (row.undone_for.operator, row.undone_for.reason) == ("ann", "customer asked")


def test_what_was_trimmed_before_it_was_read_keeps_nothing_back() -> None:
    records = journal([(0, "done"), (1, "done"), (0, "done")])
    fold = Fold()
    start = HeadStart(fold)
    start.take(records[-2:])
    assert start.under_way
    # The reader finds the end at once: what the head start saw is gone from the journal.
    start.end()
    later = journal([(0, "done"), (1, "done"), (0, "done"), (1, "done")])[-1:]
    assert list(start.rest(later)) == later


def test_what_is_asked_of_a_step_that_the_head_start_does_not_reach_is_known_behind_it() -> None:
    story = Story("a", "b")
    story.asked("cancel")
    fold = Fold()
    start = HeadStart(fold)
    start.take(story.journal[-1:])
    fold.apply(start.rest(story.journal))
    asked = fold.rows[story.message.correlation_id].asked
    assert asked is not None
    assert asked.wish == "cancel"
