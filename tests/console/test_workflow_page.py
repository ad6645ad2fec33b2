"""One workflow over time: waiting and working apart, as it stood at a hop, and its payload in every form."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from paigeant_console.model.fold import Fold
from paigeant_console.model.hop_cells import BAR
from paigeant_console.model.payload_diff import changes
from paigeant_console.model.workflow_page import WorkflowPage
from paigeant_console.safe_text import literal
from paigeant_core import transition as moves
from paigeant_core.operations import Operations, Replay
from paigeant_core.transition import Span
from paigeant_core.transports.types import WorkerInfo, WorkerStatus, holding
from tests.console import story as told
from tests.console.story import START, Story, sample_story
from tests.console.story_rows import StoryRows, plain, workers_of


def page(story: Story, key: str) -> WorkflowPage:
    rows = StoryRows(story)
    rows.read()
    rows.fold.observe(workers_of(story), START)
    history = story._do(story.transport().history(story.topic, key))
    return WorkflowPage(history, rows.fold, key)


@pytest.mark.parametrize("seen_to_vanish", [True, False])
def test_a_step_that_was_taken_over_says_so_while_it_runs_and_did_not_wait_meanwhile(seen_to_vanish: bool) -> None:
    story = Story()
    story.start("a", ("one", "two"))
    story.wait(10)
    made = page(story, "a")
    fold, row = made._fold, made._fold.rows["a"]

    def runs_on(name: str, since: float) -> WorkerStatus:
        info = WorkerInfo(worker=name, activities=("one",), concurrency=1)
        return WorkerStatus(info=info, running=(holding(row.headers, since),))

    fold.observe([runs_on("w2", START + 10)], START + 10)
    if seen_to_vanish:
        fold.observe([], START + 40)
    # Until its lease is over the dead one is still told to run it.
    first, second = runs_on("w2", START + 10), runs_on("w1", START + 50)
    fold.observe([second] if seen_to_vanish else [second, first], START + 50)
    one = cells_text(made.hops(START + 60))[0].split(" | ")
    assert one[3:5] == ["10.0s", "00:10"]
    assert one[6] == "running taken over from w2 on w1"
    assert made.totals(START + 60) == (10.0, 10.0)
    fold.observe([second], START + 70)
    assert row.trouble.taken_from == "w2"
    # What comes next has been taken over from nobody.
    story.done("a", took=5.0)
    made = page(story, "a")
    assert made._fold.rows["a"].trouble.taken_from == ""


def cells_text(rows) -> list[str]:
    return [
        " | ".join(plain([cell]) if isinstance(cell[0], str) else plain(cell) for cell in map(_cell, cells))
        for _, cells in rows
    ]


def _cell(cell):
    return cell or ((literal(""), ""),)


def _in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_waiting_and_working_are_told_apart() -> None:
    story = Story()
    story.start("a", ("one", "two", "three"))
    story.wait(10)
    story.done("a", took=5.0)
    story.wait(5)
    story.fails("a", ValueError("no"), delay=10, took=2.0)
    story.wait(10)
    story.done("a", took=8.0)
    story.wait(80)
    made = page(story, "a")
    rows = [row.split(" | ") for row in cells_text(made.hops(story.clock.now()))]
    assert [(row[3], row[4]) for row in rows] == [("10.0s", "5.0s"), ("10.0s", "8.0s"), ("5.0s", "2.0s"), ("1m", "")]
    assert [row[5] for row in rows] == ["░░█", "    ░░██", "   ░█", "        " + "░" * 16]
    assert made.totals(story.clock.now()) == (25.0, 15.0)
    assert made.stands_at() == "3"
    story.runs("w1", "a", activities=["three"])
    story.wait(20)
    made = page(story, "a")
    made._fold.observe(workers_of(story), story.clock.now())
    last = cells_text(made.hops(story.clock.now()))[-1].split(" | ")
    assert last[3:5] == ["1m20", "00:20"]
    assert made.totals(story.clock.now()) == (105.0, 35.0)
    ascii_page = WorkflowPage(made.history, made._fold, "a", ascii_only=True)
    assert "." * 14 + "#" in cells_text(ascii_page.hops(story.clock.now()))[-1]


def test_the_last_try_of_a_dead_letter_counts_too() -> None:
    story = Story()
    story.start("a", ("one",))
    story.wait(3)
    story.fails("a", ValueError("no"), took=4.0)
    made = page(story, "a")
    row = cells_text(made.hops(story.clock.now()))[1].split(" | ")
    assert (row[3], row[4]) == ("3.0s", "4.0s")
    assert made.totals(story.clock.now()) == (3.0, 4.0)


def test_what_completed_has_an_end_with_its_last_payload() -> None:
    story = sample_story()
    made = page(story, told.DONE)
    rows = made.hops(story.clock.now())
    assert rows[-1][0] == made.stands_at() == "5"
    assert "✓ end" in cells_text(rows)[-1]
    ended = made.payload_at("5", 80)
    assert ended is not None
    assert ended.title.startswith("payload as it ended")
    assert ended.raw == story.message(told.DONE).payload_bytes
    assert made.hop_of("5") is None, "there is nothing to replay from"


def test_the_slip_as_it_stood_at_a_hop() -> None:
    story = sample_story()
    made = page(story, told.DONE)
    assert made.as_it_stood("5") is None, "it stands there"
    stood = made.as_it_stood("3")
    assert stood is not None
    row, at = stood
    assert (row.state, row.headers.hop, row.headers.steps_done) == ("queued", 3, 2)
    assert at == START + 1.6
    assert made.as_it_stood(None) is None
    assert page(story, told.RETRYING).as_it_stood("3.1") is None, "a try belongs to its hop"


def test_a_payload_is_shown_raw_in_hex_and_as_what_changed() -> None:
    story = Story()
    story.start("a", ("one", "two", "three"), {"card": {"n": 1.50, "valid": "2024-01"}, "by": "ann", "old": [1, 2]})
    story.done("a", {"card": {"n": 1.5, "valid": "2029-08"}, "paid": True})
    story.done("a", {"by": "bo\x1b[2J"})
    made = page(story, "a")

    def shown(key: str, form: Any, base: int | None = None) -> tuple[str, list[str], Sequence[str]]:
        detail = made.payload_at(key, 80, form, base=base)
        assert detail is not None
        return str(detail.title), [str(line) for line in detail.lines], detail.styles

    title, lines, styles = shown("2", "changes")
    assert title.startswith("changed from hop 1 to hop 2, ")
    assert lines == [
        '~ card.valid: "2024-01" → "2029-08"',
        "+ paid: true",
        "  3 values as before",
    ]
    assert styles == ["warn", "ok", "dim"]
    assert shown("3", "changes")[1][0] == '~ by: "ann" → "bo\\u001b[2J"'
    title, lines, _ = shown("3", "changes", 1)
    assert title.startswith("changed from hop 1 to hop 3")
    assert len(lines) == 4
    title, lines, _ = shown("1", "changes", 3)
    assert "- paid: true" in lines
    title, lines, _ = shown("1", "changes")
    assert title.startswith("what it was dispatched with")
    assert all(line.startswith("+ ") for line in lines)
    assert shown("2", "changes", 2)[1][0] == "nothing changed"
    assert shown("1", "raw")[1][0].startswith('{"card":{"n":1.5,')
    assert shown("1", "raw")[0].startswith("raw payload as it came"), "what is cut off is the end"
    assert shown("1", "hex")[0].startswith("payload in hex as it came")
    assert shown("1", "hex")[1][0].startswith("00000000  7b 22 63 61 72 64 22")


def test_what_cannot_be_compared_says_so() -> None:
    assert changes(b"[]", b"{}") is None
    assert changes(b"{}", b"\xff") is None
    many = msgspec.json.encode({f"k{number}": number for number in range(600)})
    lines = changes(b"{}", many)
    assert lines is not None
    assert (len(lines), str(lines[-1][0])) == (501, "  and 100 more changes")
    deep = b'{"a":' * 50 + b"1" + b"}" * 50
    deeper = deep.replace(b"1", b"2")
    found = changes(deep, deeper)
    assert found is not None
    assert found[0][0].startswith("~ a.a.a.a.a.a: ")


def test_a_bar_is_no_longer_than_its_column() -> None:
    story = Story()
    story.start("a", ("one",))
    story.wait(100)
    story.fails("a", ValueError("no"), took=0.001)
    bar = cells_text(page(story, "a").hops(story.clock.now()))[-1].split(" | ")[5]
    assert bar == "░" * (BAR - 1) + "█"


def test_hops_tell_every_try(monkeypatch: pytest.MonkeyPatch) -> None:
    _in_utc(monkeypatch)
    story = sample_story()
    made = page(story, told.DEAD)
    told_rows = cells_text(made.hops(story.clock.now()))
    assert told_rows[0] == " 1 ✓ validate-order-details |  | 10:00:23 | 0ms | 400ms | ██ | on w1"
    assert told_rows[2].startswith(" 3 ✗ process-payment | ×2 |")
    assert "try 1" in told_rows[3]
    assert "ConnectionError: payment provider answered 503" in told_rows[3]
    assert "try 2" in told_rows[4]
    assert told_rows[5].startswith(" 4 · update-inventory")


def test_hops_tell_what_was_undone_and_why() -> None:
    story = Story()
    story.start("a", ("validate", "pay", "card", "notify"), on_failure="compensate")
    story.done("a")
    story.done("a")
    story.fails("a", ValueError("card declined"))
    story.undone("a", took=2.0)
    story.fails("a", ValueError("refund refused"), took=3.0)
    made = page(story, "a")
    told_rows = [" ".join(row.split()) for row in cells_text(made.hops(story.clock.now()))]
    assert told_rows[0].startswith("1 ⊗ validate |")
    assert told_rows[1].startswith("✗ undo, try 1 |")
    assert told_rows[1].endswith("ValueError: refund refused on w1")
    assert told_rows[2].startswith("2 ↶ pay |")
    assert told_rows[3].startswith("↶ undone |")
    assert "| 2.0s |" in told_rows[3]
    assert told_rows[4].startswith("3 ✗ card |")
    assert told_rows[4].endswith("| failed")
    assert told_rows[5].endswith("ValueError: card declined on w1")
    assert told_rows[6].startswith("4 · notify")
    assert made.totals(story.clock.now()) == (0.0, 8.0)
    assert plain(made.reason(200, story.clock.now(), 2)[0]) == (
        "  undoing validate failed: ValueError: refund refused; "
        "being undone because card failed: ValueError: card declined"
    )
    at_first = made.payload_at("1", 80)
    assert at_first is not None
    assert at_first.title.startswith("payload as it came to hop 1")


def test_what_was_undone_without_a_compensator_says_so() -> None:
    story = Story()
    story.start("a", ("validate", "card"), on_failure="compensate")
    story.done("a")
    story.fails("a", ValueError("card declined"))
    story.undone("a", had_compensator=False)
    made = page(story, "a")
    told_rows = cells_text(made.hops(story.clock.now()))
    assert "nothing to undo: it has no compensator on w1" in told_rows[1]
    assert plain(made.reason(200, story.clock.now(), 2)[0]) == "  undone because card failed: ValueError: card declined"


def test_a_hop_that_a_dead_worker_had_begun_says_so() -> None:
    story = Story()
    story.start("a", ("one", "two"))
    span = Span(worker="w2", started_at=story.clock.now(), completed_at=story.clock.now() + 1, deaths=1)
    story._settle(story.message("a"), moves.done(story.message("a"), None, span))
    made = page(story, "a")
    assert cells_text(made.hops(story.clock.now()))[0].endswith("taken over (1 worker died with it) on w2")
    assert "after 1 worker died with it" in cells_text(made.records(story.clock.now()))[0]


def test_each_hop_shows_the_payload_as_it_came() -> None:
    made = page(sample_story(), told.DEAD)
    first, third, later = (made.payload_at(key, 80) for key in ("1", "3.1", "6"))
    assert first is not None
    assert third is not None
    assert later is not None
    assert "order_valid" not in "".join(first.lines)
    assert "order_valid" in "".join(third.lines)
    assert third.raw == made.payload_bytes_at(3)
    assert later.title.startswith("payload as it stands")
    assert made.hop_of("6") is None
    assert made.hop_of("2") == 2
    assert made.reached() == 3


def test_a_replay_starts_the_hops_anew_from_there() -> None:
    story = sample_story()
    operations = Operations(story.transport(), operator="ann@desk")
    plan = story._do(operations.plan(Replay(from_step=2), [told.DEAD], reason="once more"))
    story._do(operations.execute(plan))
    made = page(story, told.DEAD)
    rows = cells_text(made.hops(story.clock.now()))
    assert rows[0].startswith(" 1 ✓")
    assert rows[1].startswith(" 2 ○ check-inventory")
    assert rows[2].startswith(" 3 · process-payment"), "the failures of the run before are history"
    assert "replay by ann@desk once more" in cells_text(made.records(story.clock.now()))[0]


def test_bytes_that_nobody_can_read_are_shown_in_hex() -> None:
    made = page(sample_story(), told.QUARANTINED)
    shown = made.payload_at(None, 80)
    assert shown is not None
    assert "1b 5b 32 4a" in shown.lines[0]
    assert made.payload_bytes_at(1) is None
    head = made.head(80, START + 300)
    assert "quarantined" in plain(head[0])
    assert plain(head[1]).startswith("its message is unread  created")
    said = made.reason(100, START + 300, 3)
    assert plain(said[-1]).strip() == "mend what sent it; :restore brings it back, where it can be read by now"


def test_a_workflow_that_is_not_known_has_an_empty_page() -> None:
    made = WorkflowPage((), Fold(), "nowhere")
    assert made.hops(START) == []
    assert made.records(START) == []
    assert made.reason(80, START, 3) == []
    assert made.payload_at("1", 80) is None
    assert made.record_detail("1", 80) is None
    assert plain(made.head(80, START)[0]) == "nowhere"
