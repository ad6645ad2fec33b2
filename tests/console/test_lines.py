"""Times, ids and lines of text: as wide as asked, and changed when their text does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from paigeant_console.actions import VIEWS
from paigeant_console.model import times
from paigeant_console.model.looks import DONE, SKIPPED, STATES, TO_COME, UNDONE, URGENT
from paigeant_console.model.status import tabs_line
from paigeant_console.model.text import Piece, clip, fit_line, short_id, spans_width, wrap_words
from paigeant_console.safe_text import SafeText, safe
from paigeant_core.journal import State

texts = st.text(max_size=30).map(lambda text: safe(text, 60))


spans = st.lists(st.tuples(texts, st.sampled_from(["", "dim", "error"])), max_size=6)


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
    assert [times.age(s) for s in (-5, 0, 59, 60, 599, 1630, 3600, 86400 * 3)] == [
        "<1m", "<1m", "<1m", "1m", "9m", "27m", "1h", "3d",
    ]  # fmt: skip
    ages = [str(times.age(s)) for s in range(60, 3600, 7)]
    assert ages == [str(times.spoken(s)).replace(" min", "m") for s in range(60, 3600, 7)], "no two say it otherwise"
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


@pytest.mark.parametrize(
    ("value", "cut"),
    [
        ("order-1003", "or…-1003"),
        ("order-7", "order-7"),
        ("customer-order-1003", "cu…-1003"),
        ("8491cabea0afe35617bcc74d6d683cf8", "8491cabe"),
        ("q-8491cabea0afe35617bcc74d6d683cf8", "q-8491ca"),
        ("évènement-1003", "évènemen"),
    ],
)
def test_an_id_is_cut_where_others_have_the_same(value: str, cut: str) -> None:
    assert short_id(value, 8)[:8] == cut
    assert cell_len(short_id("order-\x1b[2J-1003", 8)) == 8
    assert short_id("order-1003", 8, ascii_only=True) == "or~-1003"
