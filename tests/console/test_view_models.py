"""What the screens show, without a screen: tracks, orders, times, lines, confirmations, edited payloads."""

from __future__ import annotations

import functools
import json
import threading
import time
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from paigeant_console.actions import ACTIONS, VIEWS, Situation, by_id, commands, hints, of_view, refusal
from paigeant_console.model import times
from paigeant_console.model.bodies import BodyCache
from paigeant_console.model.confirmation import Target, action_words, command_line, confirmation_of
from paigeant_console.model.fold import Fold
from paigeant_console.model.help_text import help_lines
from paigeant_console.model.looks import DONE, SKIPPED, STATES, TO_COME, UNDONE, URGENT
from paigeant_console.model.ordering import SortedKeys
from paigeant_console.model.payload_edit import check_edited, editable
from paigeant_console.model.plain_rows import PlainRows
from paigeant_console.model.query import parse
from paigeant_console.model.slip_track import StepMark, Track, draw_track, track_of, wrap_track
from paigeant_console.model.status import tabs_line
from paigeant_console.model.text import Piece, clip, fit_line, short_id, spans_width, wrap_words
from paigeant_console.model.traffic import TrafficList, without_body
from paigeant_console.model.workflow_list import WorkflowList
from paigeant_console.model.workflow_page import WorkflowPage
from paigeant_console.safe_text import SafeText, is_clean, literal, safe
from paigeant_core.clock import ManualClock
from paigeant_core.journal import PARKED, State
from paigeant_core.operations import DeadLetter, Insert, Operations, Release, Replay, Retry
from paigeant_core.routing import Step
from paigeant_core.transports.types import WorkerStatus
from tests.console import story as told
from tests.console.story import START, Story, sample_story

texts = st.text(max_size=30).map(lambda text: safe(text, 60))
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).map(lambda text: safe(text, 64))
spans = st.lists(st.tuples(texts, st.sampled_from(["", "dim", "error"])), max_size=6)


def plain(line: object) -> str:
    return "".join(text for text, _ in line)  # type: ignore[attr-defined]


class StoryRows:
    """The rows of a story, as a feed would hold them."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.fold = Fold(no_worker_after=30)
        self.lock = threading.RLock()
        self._read = 0

    def now(self) -> float:
        return self.story.clock.now()

    def read(self) -> set[str]:
        """Take up what happened since."""
        with self.story.broker.topic(self.story.topic) as state:
            records = list(state.journal)[self._read :]
            self._read += len(records)
        return self.fold.apply(records)


# The slip track


@st.composite
def tracks(draw: st.DrawFn) -> Track:
    steps = draw(st.lists(names, max_size=12))
    moves = draw(st.booleans())
    current = draw(st.integers(0, len(steps) - 1)) if steps and moves else None
    state = draw(st.sampled_from(list(STATES.values())))
    marks = tuple(
        StepMark(name, state if index == current else draw(st.sampled_from([DONE, TO_COME, UNDONE, SKIPPED])))
        for index, name in enumerate(steps)
    )
    notes = draw(
        st.lists(
            st.tuples(st.sampled_from([literal("00:12"), literal("in 20s"), literal("×2")]), st.just("")), max_size=2
        )
    )
    return Track(marks, current, tuple(notes), before=draw(st.integers(0, 120)), after=draw(st.integers(0, 120)))


@given(tracks(), st.integers(0, 130), st.booleans())
def test_a_track_is_never_wider_than_asked(track: Track, width: int, ascii_only: bool) -> None:
    line = draw_track(track, width, ascii_only=ascii_only)
    assert spans_width(line) <= width
    assert all(type(text) is SafeText and is_clean(text) for text, _ in line)


@given(tracks().filter(lambda track: track.current is not None), st.integers(3, 130), st.booleans())
def test_the_current_step_is_always_in_sight(track: Track, width: int, ascii_only: bool) -> None:
    assert track.current is not None
    mark = track.steps[track.current].look.mark(ascii_only)
    drawn = [text for text, _ in draw_track(track, width, ascii_only=ascii_only)]
    assert any(text.startswith(mark) for text in drawn)
    name = track.steps[track.current].name
    room = width - cell_len(mark) - 1
    if cell_len(name) <= min(room, 8):
        assert name in drawn


@given(tracks(), st.integers(1, 130), st.integers(1, 5))
def test_a_wrapped_track_shows_every_step_or_nothing(track: Track, width: int, most: int) -> None:
    lines = wrap_track(track, width, most)
    assert len(lines) <= most
    assert all(spans_width(line) <= width for line in lines)
    if lines:
        drawn = [text for line in lines for text, _ in line]
        assert all(step.name in drawn for step in track.steps)


@pytest.mark.parametrize(
    ("width", "ascii_only", "expected"),
    [
        (80, False, "✓ validate → ▶ charge 00:12 ×2 → · notify"),
        (80, True, "[x] validate > [>] charge 00:12 x2 > [ ] notify"),
        (40, False, "✓1 → ▶ charge 00:12 ×2 → · notify"),
        (30, False, "✓1 → ▶ charge 00:12 ×2 → ·1"),
        (20, False, "▶ charge 00:12 ×2"),
        (12, False, "▶ charge ×2"),
        (8, False, "▶ charge"),
        (5, False, "▶ ch…"),
        (5, True, "[>] ~"),
        (1, False, "▶"),
    ],
)
def test_the_track_of_the_design(width: int, ascii_only: bool, expected: str) -> None:
    story = Story()
    story.start("a", ("validate", "charge", "notify"))
    story.done("a")
    story.fails("a", ValueError("no"), delay=1)
    story.wait(1).runs("w", "a")
    rows = StoryRows(story)
    rows.read()
    rows.fold.observe(workers_of(story), START)
    story.wait(12.9)
    track = track_of(rows.fold.rows["a"], rows.now(), ascii_only=ascii_only)
    assert plain(draw_track(track, width, ascii_only=ascii_only)) == expected


def test_the_track_of_every_state() -> None:
    rows = StoryRows(sample_story())
    rows.read()
    rows.fold.observe(workers_of(rows.story), START)
    drawn = {key: plain(draw_track(track_of(row, rows.now()), 200)) for key, row in rows.fold.rows.items()}
    assert "✗ process-payment ×2 → · update-inventory" in drawn[told.DEAD]
    assert "‖ create-customer-account" in drawn[told.HELD]
    assert "↻ setup-payment-method in 20s ×2 → · send-welcome-email" in drawn[told.RETRYING]
    assert drawn[told.QUARANTINED] == "⊘ validate-order-details"
    assert drawn[told.DONE].count("✓") == 4
    assert drawn[told.QUEUED].startswith("○ validate-order-details → · check-inventory")


def test_a_late_report_of_a_worker_does_not_make_a_dead_step_run() -> None:
    story = Story()
    story.start("a", ("charge",))
    story.runs("w", "a")
    rows = StoryRows(story)
    rows.read()
    rows.fold.observe(workers_of(story), START)
    story.fails("a", ValueError("no"))
    rows.read()
    story.wait(5)
    assert plain(draw_track(track_of(rows.fold.rows["a"], rows.now()), 80)) == "✗ charge"


def workers_of(story: Story) -> list[WorkerStatus]:
    found: list[WorkerStatus] = story._do(story.transport().workers(story.topic))
    return found


# Times


@given(st.floats(0, 1e7), st.floats(0, 1e7))
@pytest.mark.parametrize(
    ("text", "tick"),
    [
        (times.age, times.age_tick),
        (times.stopwatch, times.stopwatch_tick),
        (times.countdown, times.countdown_tick),
    ],
)
def test_a_tick_changes_exactly_when_its_text_does(text, tick, one: float, other: float) -> None:
    assert (text(one) == text(other)) == (tick(one) == tick(other))


def test_times_read_well() -> None:
    assert [times.age(s) for s in (-5, 0, 59, 60, 599, 1540, 3600, 86400 * 3)] == [
        "<1m", "<1m", "<1m", "1m", "9m", "25m", "1h", "3d",
    ]  # fmt: skip
    assert [times.stopwatch(s) for s in (0, 12.9, 60, 3900, 90000)] == ["00:00", "00:12", "1m", "1h05", "1d"]
    assert [times.countdown(s) for s in (-1, 3, 41, 61, 4000)] == ["due", "in 10s", "in 50s", "in 2m", "in 1h"]
    assert [times.duration(s) for s in (None, 0.0012, 0.9, 2.54, 61, 3700)] == [
        "",
        "1ms",
        "900ms",
        "2.5s",
        "1m01",
        "1h01",
    ]
    assert times.parsed("not a time") is None
    assert times.parsed(12) is None


# Lines


@given(st.lists(st.tuples(spans, st.integers(0, 5), st.booleans()), max_size=6), st.integers(1, 100))
def test_a_fitted_line_is_as_wide_as_asked(pieces, width: int) -> None:
    line = fit_line([Piece(tuple(spans), rank, right) for spans, rank, right in pieces], width)
    assert spans_width(line) == width


@given(spans, st.integers(0, 60))
def test_a_clipped_line_is_at_most_as_wide_as_asked(line, width: int) -> None:
    assert spans_width(clip(line, width)) <= width


@given(st.text(max_size=200).map(lambda text: safe(text, 300)), st.integers(1, 40), st.integers(1, 20))
def test_wrapped_words_fit(text: SafeText, width: int, most: int) -> None:
    lines = wrap_words(text, width, most)
    assert len(lines) <= most
    assert all(cell_len(line) <= max(width, 2) for line in lines)


@pytest.mark.parametrize("width", range(20, 220, 7))
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_the_line_of_views_always_shows_where_one_is(width: int, view: str, ascii_only: bool) -> None:
    counts = {str(state): 10 ** (n % 6) for n, state in enumerate(State)}
    line = tabs_line(VIEWS, view, counts, width, ascii_only=ascii_only)
    assert spans_width(line) <= width
    assert any(style == "tab" for _, style in line)


def test_every_state_has_a_look_and_an_urgency() -> None:
    assert set(STATES) == set(State) == set(URGENT)
    looks = [*STATES.values(), DONE, TO_COME, UNDONE, SKIPPED]
    assert all(cell_len(look.glyph) == 1 and look.twin.isascii() and len(look.twin) == 3 for look in looks)
    # What wants an eye is told apart by its shape, where colour is not seen.
    urgent = [STATES[state] for state in (State.DEAD, State.HELD, State.RETRYING, State.RUNNING, State.QUEUED)]
    assert len({look.glyph for look in urgent}) == len({look.twin for look in urgent}) == len(urgent)


# Order


@given(
    st.lists(st.tuples(st.sampled_from("abcdefghij"), st.none() | st.integers(0, 5)), max_size=80), st.integers(1, 90)
)
def test_sorted_keys_are_sorted_however_they_changed(changes, batch: int) -> None:
    keys = SortedKeys()
    expected: dict[str, int] = {}
    for start in range(0, len(changes), batch):
        some = dict(changes[start : start + batch])
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


# One workflow


def page(story: Story, key: str) -> WorkflowPage:
    rows = StoryRows(story)
    rows.read()
    rows.fold.observe(workers_of(story), START)
    history = story._do(story.transport().history(story.topic, key))
    return WorkflowPage(history, rows.fold, key)


def cells_text(rows) -> list[str]:
    return [
        " | ".join(plain([cell]) if isinstance(cell[0], str) else plain(cell) for cell in map(_cell, cells))
        for _, cells in rows
    ]


def _cell(cell):
    return cell or ((literal(""), ""),)


def test_hops_tell_every_try(monkeypatch: pytest.MonkeyPatch) -> None:
    _in_utc(monkeypatch)
    story = sample_story()
    made = page(story, told.DEAD)
    told_rows = cells_text(made.hops(story.clock.now()))
    assert told_rows[0] == " 1 ✓ validate-order-details |  | 10:00:23 | 0ms | 400ms | ██ |  on w1"
    assert told_rows[2].startswith(" 3 ✗ process-payment | ×2 |")
    assert "try 1" in told_rows[3]
    assert "ConnectionError: payment provider answered 503" in told_rows[3]
    assert "try 2" in told_rows[4]
    assert told_rows[5].startswith(" 4 · update-inventory")


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


def test_a_workflow_that_is_not_known_has_an_empty_page() -> None:
    made = WorkflowPage((), Fold(), "nowhere")
    assert made.hops(START) == []
    assert made.records(START) == []
    assert made.reason(80, START, 3) == []
    assert made.payload_at("1", 80) is None
    assert made.record_detail("1", 80) is None
    assert plain(made.head(80, START)[0]) == "nowhere"


# The traffic


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


# Confirmation and commands


def test_a_plan_says_what_will_happen_and_what_not() -> None:
    story = sample_story()
    plan = story._do(
        Operations(story.transport()).plan(Retry(), [told.DEAD, told.DONE, "nowhere"], reason="it's fixed")
    )
    asked = confirmation_of(plan, Target("redis://h:6379/0", "workflows"))
    assert plain(asked.title) == "retry 1 workflow of 3; 2 not eligible, left alone"
    rows = list(map(plain, asked.rows))
    assert "replay it from a step instead" in rows[0]
    assert "there is no such workflow" in rows[1]
    assert rows[2].endswith("order dead at process-payment try 2 → queued at process-payment")
    assert asked.typed == ()
    assert asked.command == (
        f"paigeant-console --url redis://h:6379/0 retry {told.DEAD} {told.DONE} nowhere --reason 'it'\"'\"'s fixed'"
    )


def test_production_and_many_have_to_be_typed() -> None:
    story = sample_story()
    for number in range(11):
        story.start(f"w{number}", ("charge",))
    operations = Operations(story.transport())
    one = story._do(operations.plan(DeadLetter(), [told.QUEUED], reason="r"))
    assert confirmation_of(one, Target("redis://h", "workflows", "prod", production=True)).typed == ("prod", "1")
    many = story._do(operations.plan(DeadLetter(), [f"w{number}" for number in range(11)], reason="r"))
    assert confirmation_of(many, Target("redis://h", "workflows")).typed == ("11",)


@pytest.mark.parametrize(
    ("target", "flags"),
    [
        (Target("redis://:secret@h:6379/0", "workflows"), ""),
        (Target("redis://h:6379/0", "other"), " --url redis://h:6379/0 --topic other"),
        (Target("redis://h:6379/0", "workflows", "prod"), " --context prod"),
        (Target("memory://demo", "workflows", "demo"), ""),
    ],
)
def test_a_command_line_never_holds_a_password(target: Target, flags: str) -> None:
    assert command_line(target, ["list"]) == f"paigeant-console{flags} list"


def test_an_id_that_looks_like_a_flag_stays_an_id() -> None:
    assert action_words(Retry(), ["--yes"], "r") == ["retry", "--reason", "r", "--", "--yes"]
    given = Release({"approved": True, "by": "Ann B"})
    assert action_words(given, ["a"], "r") == [
        "release",
        "a",
        "--var=approved=true",
        '--var=by="Ann B"',
        "--reason",
        "r",
    ]
    added = Insert((Step("check"), Step("pay", arguments={"n": 1})))
    assert action_words(added, ["a", "-b"], "r") == [
        *("insert", "check", '{"name":"pay","arguments":{"n":1}}', "--id=a", "--id=-b", "--reason", "r"),
    ]


# Payloads that are edited


@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=20) | st.integers() | st.booleans() | st.none(), max_size=6)
)
def test_an_edited_payload_that_was_not_touched_says_the_same(payload) -> None:
    raw = json.dumps(payload, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        assert editable(raw) is None
        return
    text = editable(raw)
    assert text is not None
    assert all(is_clean(line) for line in text.split("\n")), "nothing in it can do anything to a terminal"
    checked = check_edited(text)
    assert checked.payload is not None
    assert json.loads(checked.payload) == payload
    assert b"\n" not in checked.payload


def test_numbers_stay_as_they_were_written() -> None:
    text = editable(b'{"a": 1.50, "b": 1e400, "c": 12345678901234567890123}')
    assert text is not None
    checked = check_edited(text.replace("e400", "e3"))
    assert checked.payload == b'{"a":1.50,"b":1e3,"c":12345678901234567890123}'


@pytest.mark.parametrize(
    ("text", "said", "line", "column"),
    [
        ('{"a": 1,\n "b" 2}', "line 2, column 6: Expecting ':' delimiter", 2, 6),
        ("[1]", "a payload is a JSON object: { … }", 1, 1),
        ("", "line 1, column 1: Expecting value", 1, 1),
        ('{"a": NaN}', "the payload must be a JSON object", 0, 0),
    ],
)
def test_what_is_no_payload_is_told_with_its_place(text: str, said: str, line: int, column: int) -> None:
    checked = check_edited(text)
    assert (checked.payload, checked.said, checked.line, checked.column) == (None, said, line, column)


# The table of actions


def test_no_key_means_two_things_in_one_place() -> None:
    for view in {place for action in ACTIONS for place in action.where}:
        keys = [key for action in of_view(view) for key in action.keys]
        assert len(keys) == len(set(keys)), view


def test_ids_and_commands_are_unique() -> None:
    assert len({action.id for action in ACTIONS}) == len(ACTIONS)
    words = [word for action in ACTIONS for word in action.command]
    assert len(words) == len(set(words)) == len(commands())


def test_every_key_is_explained() -> None:
    for view in (*VIEWS, "workflow"):
        text = "\n".join(plain(line) for line in help_lines(Situation(view), literal(view), 120, ascii_only=False))
        for action in of_view(view):
            assert action.help in text, (view, action.id)


def test_what_cannot_be_done_says_why() -> None:
    read_only = Situation("workflows", read_only=True)
    for action in ACTIONS:
        if action.writes and action.owner == "app":
            assert "read-only" in (refusal(action, read_only) or "")
    assert "no row" in (refusal(by_id("retry"), Situation("workflows", has_row=False)) or "")
    assert "not in this view" in (refusal(by_id("retry"), Situation("traffic")) or "")
    assert refusal(by_id("retry"), Situation("workflows")) is None
    dimmed = {key for key, _, usable in hints(read_only) if not usable}
    assert dimmed == {"r", "R", "d", "h", "l", "s", "x", "U"}
    text = "\n".join(plain(line) for line in help_lines(read_only, literal("workflows"), 60, ascii_only=True))
    assert "not now: this console is read-only" in text


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


def _in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize(
    ("value", "cut"),
    [
        ("order-1003", "…er-1003"),
        ("order-7", "order-7"),
        ("8491cabea0afe35617bcc74d6d683cf8", "8491cabe"),
        ("q-8491cabea0afe35617bcc74d6d683cf8", "q-8491ca"),
        ("évènement-1003", "évènemen"),
    ],
)
def test_an_id_is_cut_where_others_have_the_same(value: str, cut: str) -> None:
    assert short_id(value, 8)[:8] == cut
    assert cell_len(short_id("order-\x1b[2J-1003", 8)) == 8
    assert short_id("order-1003", 8, ascii_only=True) == "~er-1003"
