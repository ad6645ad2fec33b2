"""Cells of the commands' tables: values off the wire, figures, ages and times."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from paigeant_console.model.times import parsed
from paigeant_console.output import json_line
from paigeant_console.safe_text import SafeText, joined, literal, safe

__all__ = ["age", "detail_text", "figure", "moment", "since", "text"]

_TOLD: Final = frozenset(["started_at", "completed_at", "failed_attempt", "max_attempts", "operation_id"])
"""What a record's line says in other columns, or what nobody reads in a line."""
_DASH: Final = literal("-")
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


def text(value: object, limit: int = 200) -> SafeText:
    """One cell of a table; a dash for nothing.

    Args:
        value: A value that may have come off the wire.
        limit: Most terminal cells of it.
    """
    return _DASH if value is None or value == "" else safe(str(value), limit)


def figure(value: float | None) -> SafeText:
    """A figure; a question mark for what the broker cannot tell.

    Args:
        value: The figure.
    """
    return literal("?" if value is None else f"{value:g}" if isinstance(value, float) else str(value))


def age(seconds: float | None) -> SafeText:
    """How long ago, in one unit: `45s`, `14m`, `5h`, `3d`. The console's ages are coarser, so that they move less.

    Args:
        seconds: How long; None: unknown.
    """
    if seconds is None:
        return literal("?")
    # Clocks differ a little: what was a moment "in the future" is now.
    span = max(0.0, seconds)
    for unit, size, upto in (("s", 1.0, 2 * _MINUTE), ("m", _MINUTE, 2 * _HOUR), ("h", _HOUR, 2 * _DAY)):
        if span < upto:
            return literal(f"{int(span / size)}{unit}")
    return literal(f"{int(span / _DAY)}d")


def since(stamp: object, now: float) -> SafeText:
    """How long ago an RFC 3339 time was.

    Args:
        stamp: The time, off the wire.
        now: Seconds since the Unix epoch.
    """
    at = parsed(stamp)
    return age(None if at is None else now - at)


def moment(stamp: object) -> SafeText:
    """A time in the zone of this machine, to the second; what cannot be read is shown as it is.

    Args:
        stamp: RFC 3339, off the wire.
    """
    at = parsed(stamp)
    try:
        return text(stamp) if at is None else literal(time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)))
    except (ValueError, OverflowError, OSError):
        return text(stamp)


def detail_text(detail: Mapping[str, Any]) -> SafeText:
    """The detail of a record on one line: its error and reason in words, the rest as `key=value`.

    Args:
        detail: Off the wire.
    """
    parts: list[SafeText] = []
    for key, value in detail.items():
        if key in _TOLD or value is None:
            continue
        if key == "next" and isinstance(value, dict):
            parts.append(safe(f"next={value.get('activity')}", 100))
        elif key == "error" and isinstance(value, dict):
            parts.append(safe(f"{value.get('type')}: {value.get('message')}", 300))
        elif isinstance(value, str):
            parts.append(joined([safe(key, 40), literal("="), safe(value, 200)]))
        else:
            parts.append(joined([safe(key, 40), literal("="), safe(json_line({"": value})[4:-1], 200)]))
    return joined(parts, literal("  "))
