"""Spans of time as people type them: in a query, and as an option's value."""

from __future__ import annotations

import re
from typing import Final

from paigeant_console.model.query_terms import as_number

_SPAN: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+\Z")
_SPAN_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def duration(text: str) -> float | None:
    """Seconds in `90`, `10m`, `1h30m`, `2d`, `500ms`; None: it is no span of time.

    Args:
        text: The span.
    """
    if not text.isascii() or len(text) > 40:
        return None
    text = text.lower()
    if _SPAN.match(text):
        return sum(float(amount) * _UNITS[unit] for amount, unit in _SPAN_PART.findall(text))
    return as_number(text) if text[:1].isdigit() else None


def unit(text: str) -> float:
    """Seconds of the smallest unit in a span of time; 1 where it names none.

    Args:
        text: The span.
    """
    return min((_UNITS[unit] for _, unit in _SPAN_PART.findall(text.lower())), default=1.0)
