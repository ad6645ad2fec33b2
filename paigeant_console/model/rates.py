"""How many steps of each activity are done, by what the journal told in the last minute: figures and sparklines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from paigeant_console.safe_text import SafeText, literal
from paigeant_core.journal import Kind, Record

__all__ = ["CELLS", "Rates", "per_second", "sparkline"]

CELLS: Final = 12
"""Cells of a sparkline."""
SPAN: Final = 5
"""Seconds that one of them stands for."""

_LEVELS: Final = {False: "·▁▂▃▄▅▆▇█", True: "_.:-=+*%#"}


_DONE: Final = frozenset({Kind.ADVANCED, Kind.FINISHED})


class Rates:
    """Steps done by activity, in the last minute."""

    def __init__(self) -> None:
        self._done: dict[str, dict[int, int]] = {}

    def note(self, records: Iterable[Record], now: float) -> None:
        """Count the steps that records tell of.

        Args:
            records: in journal order.
            now: seconds since the Unix epoch; what is older than any figure shows is passed over.
        """
        since = now - 2 * CELLS * SPAN
        # Of a long journal nearly all is older, so that is found out first, and at once.
        for record in [record for record in records if record.at >= since]:
            if record.kind in _DONE and (step := record.told().step):
                counts = self._done.setdefault(step, {})
                span = int(min(record.at, now) // SPAN)  # a writer's clock may be ahead
                counts[span] = counts.get(span, 0) + 1
                if len(counts) > 2 * CELLS:
                    # By the time, not by their number: this clock may have been set back.
                    latest = int(now // SPAN)
                    for other in [other for other in counts if not latest - 2 * CELLS < other <= latest]:
                        del counts[other]

    def lately(self, activity: str, now: float) -> list[int]:
        """Steps done in each of the last :data:`CELLS` whole spans, the newest last."""
        counts = self._done.get(activity, {})
        newest = int(now // SPAN) - 1
        return [counts.get(span, 0) for span in range(newest - CELLS + 1, newest + 1)]


def sparkline(figures: Sequence[int], *, ascii_only: bool = False) -> SafeText:
    """Figures as a line of bars, each as high as it is in proportion to the highest; nought is a dot."""
    levels = _LEVELS[ascii_only]
    most = max(figures, default=0)
    return literal("".join(levels[-(-figure * (len(levels) - 1) // most) if most else 0] for figure in figures))


def per_second(figures: Sequence[int]) -> SafeText:
    """How many a second: the mean of the last two spans, in two digits; empty: none."""
    last = figures[-2:]
    rate = sum(last) / (SPAN * len(last)) if last else 0.0
    return literal("" if not rate else f"{rate:.0f}" if rate >= 9.95 else f"{rate:.1f}")
