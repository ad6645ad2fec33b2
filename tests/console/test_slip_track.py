"""The slip track: never wider than asked, and the current step in sight."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from paigeant_console.model.looks import DONE, SKIPPED, STATES, TO_COME, UNDONE
from paigeant_console.model.slip_track import StepMark, Track, draw_track, track_of, wrap_track
from paigeant_console.model.text import spans_width
from paigeant_console.safe_text import SafeText, is_clean, literal, safe
from tests.console import story as told
from tests.console.story import START, Story, sample_story
from tests.console.story_rows import StoryRows, plain, workers_of

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).map(lambda text: safe(text, 64))


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


def test_the_step_that_failed_is_not_taken_for_one_that_was_undone() -> None:
    story = Story()
    story.start("a", ("validate", "pay", "card", "notify"), on_failure="compensate")
    story.done("a")
    story.done("a")
    rows = StoryRows(story)

    def drawn() -> str:
        rows.read()
        return plain(draw_track(track_of(rows.fold.rows["a"], rows.now()), 80))

    story.fails("a", ValueError("card declined"))
    assert drawn() == "✓ validate → ↶ pay → ✗ card → · notify"
    story.undone("a")
    story.fails("a", ValueError("not now"), delay=30)
    assert drawn() == "↻ validate in 30s ×2 → ↶ pay → ✗ card → · notify"
    story.fails("a", ValueError("refund refused"))
    assert drawn() == "⊗ validate ×2 → ↶ pay → ✗ card → · notify"
    story.start("b", ("validate", "card"), on_failure="compensate")
    story.done("b")
    story.fails("b", ValueError("card declined"))
    story.undone("b")
    rows.read()
    row = rows.fold.rows["b"]
    assert plain(draw_track(track_of(row, rows.now()), 80)) == "↶ validate → ✗ card"
    assert plain(draw_track(track_of(row, rows.now()), 14)) == "↶1 → ✗ card"
