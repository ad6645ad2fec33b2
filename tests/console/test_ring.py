"""How many records come a second, whatever clocks have stamped them."""

from __future__ import annotations

import pytest

from paigeant_console.feed.ring import Ring
from paigeant_core.journal import Kind, Record
from paigeant_core.message import Headers

NOW = 1_800_000_000


def _records(at: float, number: int) -> list[Record]:
    return [
        Record(Kind.ADVANCED, Headers(message_id="m", correlation_id="c"), at=at, position="1") for _ in range(number)
    ]


def test_a_writer_whose_clock_is_ahead_hides_nobody_elses_records() -> None:
    ring = Ring()
    for now in range(NOW, NOW + 60):
        ring.extend(_records(now, 10))
        ring.extend(_records(now + 29, 1))
        ring.rate(now)
    assert ring.rate(NOW + 60) == pytest.approx(11, abs=0.2)


def test_a_clock_that_is_set_back_hides_nothing_for_longer_than_the_rate_is_of() -> None:
    ring = Ring()
    for now in (*range(NOW, NOW + 60), *range(NOW - 3600, NOW - 3560)):
        ring.extend(_records(now, 10))
        ring.rate(now)
    assert ring.rate(NOW - 3560) == 10


def test_what_is_read_between_two_looks_is_bounded() -> None:
    ring = Ring()
    for at in range(NOW - 5000, NOW):
        ring.pass_over(_records(at, 1))
    assert ring.rate(NOW) == 1
