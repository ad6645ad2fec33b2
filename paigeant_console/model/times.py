"""Ages, durations and times of day as people read them, and how seldom they need to change.

Every text here comes with its *tick*: a number that changes exactly when the text does,
so that a row whose age still reads the same is not painted again.
"""

from __future__ import annotations

import time
from math import ceil

from paigeant_console.model.text import EMPTY
from paigeant_console.safe_text import SafeText, joined, literal
from paigeant_core.clock import parse_rfc3339
from paigeant_core.journal import MAX_TIME

__all__ = [
    "age",
    "age_tick",
    "at_heading",
    "clock",
    "countdown",
    "countdown_tick",
    "day_and_time",
    "duration",
    "moment",
    "parsed",
    "rough",
    "seconds_in",
    "spoken",
    "stopwatch",
    "stopwatch_tick",
    "zone",
]

MINUTE, HOUR, DAY = 60, 3600, 86400


def age(seconds: float) -> SafeText:
    """How long ago, by the minute at most: ``<1m``, ``7m``, ``26m``, ``3h``, ``2d``."""
    whole = max(0, int(seconds))
    if whole < MINUTE:
        return literal("<1m")
    if whole < HOUR:
        return literal(f"{whole // MINUTE}m")
    return literal(f"{whole // HOUR}h" if whole < DAY else f"{whole // DAY}d")


def age_tick(seconds: float) -> int:
    """Changes exactly when :func:`age` does."""
    whole = max(0, int(seconds))
    if whole < HOUR:
        return whole // MINUTE
    return 100 + whole // HOUR if whole < DAY else 200 + whole // DAY


def stopwatch(seconds: float) -> SafeText:
    """How long something runs: by the second under a minute (``00:12``), then ``12m``, ``3h05``, ``2d``."""
    whole = max(0, int(seconds))
    if whole < MINUTE:
        return literal(f"00:{whole:02d}")
    if whole < HOUR:
        return literal(f"{whole // MINUTE}m")
    if whole < DAY:
        return literal(f"{whole // HOUR}h{whole % HOUR // MINUTE:02d}")
    return literal(f"{whole // DAY}d")


def stopwatch_tick(seconds: float) -> int:
    """Changes exactly when :func:`stopwatch` does."""
    whole = max(0, int(seconds))
    if whole < MINUTE:
        return whole
    return MINUTE + whole // MINUTE if whole < DAY else DAY + whole // DAY


def countdown(seconds: float) -> SafeText:
    """When something is due, in steps of ten seconds: ``in 50s``, ``in 12m``, ``due``."""
    whole = ceil(seconds)
    if whole <= 0:
        return literal("due")
    if whole <= MINUTE:
        return literal(f"in {ceil(whole / 10) * 10}s")
    if whole < HOUR:
        return literal(f"in {ceil(whole / MINUTE)}m")
    return literal(f"in {whole // HOUR}h" if whole < DAY else f"in {whole // DAY}d")


def countdown_tick(seconds: float) -> int:
    """Changes exactly when :func:`countdown` does."""
    whole = ceil(seconds)
    if whole <= 0:
        return 0
    if whole <= MINUTE:
        return ceil(whole / 10)
    if whole < HOUR:
        return 10 + ceil(whole / MINUTE)
    return 100 + whole // HOUR if whole < DAY else 200 + whole // DAY


def seconds_in(value: object) -> float | None:
    """A number of seconds that somebody wrote into a record's detail; None: it is none, or beyond every clock."""
    if not isinstance(value, int | float) or not -MAX_TIME < value < MAX_TIME:
        return None
    return float(value)


def duration(seconds: float | None) -> SafeText:
    """How long something took: ``120ms``, ``2.5s``, ``2m05``, ``1h03``."""
    if seconds is None:
        return EMPTY
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        return literal(f"{seconds * 1000:.0f}ms")
    if seconds < 59.95:
        return literal(f"{seconds:.1f}s")
    whole = round(seconds)
    if whole < HOUR:
        return literal(f"{whole // MINUTE}m{whole % MINUTE:02d}")
    return literal(f"{whole // HOUR}h{whole % HOUR // MINUTE:02d}" if whole < DAY else f"{whole // DAY}d")


def rough(seconds: float) -> SafeText:
    """How long something takes so far, so that it changes seldom: from ten seconds on in tens."""
    return duration(seconds if seconds < 10 else float(int(seconds / 10) * 10))


def spoken(seconds: float) -> SafeText:
    """A span as it is said, in steps that change seldom: ``40 s``, ``14 min``, ``3 h``, ``2 days``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return literal(f"{whole - whole % 10} s" if whole >= 10 else "a moment")
    if whole < 3600:
        return literal(f"{whole // 60} min")
    return literal(f"{whole // 3600} h" if whole < 2 * 86400 else f"{whole // 86400} days")


def clock(at: float) -> SafeText:
    """The time of day here: ``14:03:09``."""
    return literal(time.strftime("%H:%M:%S", time.localtime(at)))


def day_and_time(at: float, now: float) -> SafeText:
    """The time, with the day where it was another one: ``14:03:09``, ``01-31 14:03``."""
    then, today = time.localtime(at), time.localtime(now)
    same = (then.tm_year, then.tm_yday) == (today.tm_year, today.tm_yday)
    return literal(time.strftime("%H:%M:%S" if same else "%m-%d %H:%M", then))


def moment(at: float) -> SafeText:
    """The day and the time with their zone: ``2026-01-31 14:03:09 UTC``."""
    return joined((literal(time.strftime("%Y-%m-%d %H:%M:%S ", time.localtime(at))), zone()))


def at_heading() -> SafeText:
    """Over a column of times: ``AT UTC``."""
    return joined((literal("AT "), zone()))


def zone() -> SafeText:
    """Which zone these times are of: ``UTC``, ``+02:00``."""
    offset = time.localtime().tm_gmtoff
    if not offset:
        return literal("UTC")
    hours, minutes = divmod(abs(offset) // 60, 60)
    return literal(f"{'-' if offset < 0 else '+'}{hours:02d}:{minutes:02d}")


def parsed(text: object) -> float | None:
    """The time that ``text``, off the wire, stands for; None where it stands for none."""
    if not isinstance(text, str) or not text:
        return None
    try:
        return parse_rfc3339(text)
    except ValueError:
        return None
