"""Steps done lately: counted by activity, drawn as a sparkline, gone after a minute."""

from __future__ import annotations

from pathlib import Path

from paigeant_console.demo import ORDER
from paigeant_console.model.rates import CELLS, SPAN, Rates, per_second, sparkline
from paigeant_core.clock import rfc3339
from paigeant_core.journal import Kind, Record
from paigeant_core.message import Headers
from tests.console.appkit import console
from tests.console.story import START, Story

NOW = START - START % SPAN


def done(step: str, at: float, kind: Kind = Kind.ADVANCED) -> Record:
    detail = {"step": step, "completed_at": rfc3339(at)}
    return Record(kind, Headers(topic="t", correlation_id="a"), state="queued", detail=detail, at=at)


def test_steps_are_counted_in_the_span_they_were_done_in() -> None:
    rates = Rates()
    steps = [done("charge", NOW - 1), done("charge", NOW - 5), done("charge", NOW - 6), done("notify", NOW - 1)]
    rates.note(steps, NOW)
    rates.note([done("charge", NOW - 30, Kind.FINISHED), done("charge", NOW - 600), done("charge", NOW + 1)], NOW)
    assert rates.lately("charge", NOW) == [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2]
    assert rates.lately("charge", NOW + SPAN)[-1] == 1, "a span counts when it is whole"
    assert rates.lately("notify", NOW)[-1] == 1
    assert rates.lately("unknown", NOW) == [0] * CELLS
    failed = Record(Kind.RETRYING, Headers(topic="t", activity="charge"), detail={"step": "charge"}, at=NOW - 1)
    rates.note([failed], NOW)
    assert rates.lately("charge", NOW)[-1] == 2, "a try that failed is not done"


def test_what_is_long_ago_is_let_go() -> None:
    rates = Rates()
    for number in range(1000):
        rates.note([done("charge", NOW + number * SPAN)], NOW + number * SPAN)
    assert len(rates._done["charge"]) <= 2 * CELLS
    assert rates.lately("charge", NOW + 1000 * SPAN) == [1] * CELLS


def test_a_clock_that_is_ahead_or_set_back_does_not_take_the_present_away() -> None:
    rates = Rates()
    for number in range(60):
        now = NOW + number * SPAN
        rates.note([done("charge", now), done("charge", now + 29)], now)
    assert rates.lately("charge", NOW + 60 * SPAN) == [2] * CELLS
    for number in range(30):
        now = NOW - 3600 + number * SPAN
        rates.note([done("charge", now)], now)
    assert rates.lately("charge", NOW - 3600 + 30 * SPAN) == [1] * CELLS


def test_sparklines_are_in_proportion_and_have_an_ascii_twin() -> None:
    assert sparkline([0, 1, 2, 4, 8]) == "·▁▂▄█"
    assert sparkline([0, 1, 2, 4, 8], ascii_only=True) == "_.:=#"
    assert sparkline([0, 1000]) == "·█"
    assert sparkline([0, 0]) == "··"
    assert sparkline([]) == ""
    assert [str(per_second([9, *last])) for last in ([0, 0], [0, 1], [50, 50], [1000, 0])] == ["", "0.1", "10", "100"]


async def test_queues_show_what_was_done_lately(tmp_path: Path) -> None:
    story = Story()
    story.clock.advance(NOW - START + SPAN)
    for number in range(4):
        story.start(f"w{number}", ORDER[:2])
        story.done(f"w{number}", took=0.5)
    story.clock.advance(SPAN)
    for ascii_only, line in ((False, "0.4 ···········█"), (True, "0.4 ___________#")):
        async with console(story, tmp_path, size=(140, 24), ascii_only=ascii_only) as opened:
            await opened.press("3")
            await opened.shows("validate-order-details")
            row = next(text for text in opened.lines() if "validate-order-details" in text)
            assert line in row, row
        async with console(story, tmp_path, size=(80, 24), ascii_only=ascii_only) as opened:
            await opened.press("3")
            await opened.shows("DONE/S")
