"""Correlation IDs in a text that somebody pasted: alone, or in the middle of a line of a log."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["ids_in"]

LONGEST: Final = 10_000
"""Characters of a text that are looked at."""
MOST: Final = 200
_LEAST: Final = 3
_WORD: Final = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def ids_in(text: str) -> list[str]:
    """What may be a correlation ID, or its beginning, in the order in which it stands there.

    Args:
        text: as it was pasted.
    """
    found: dict[str, None] = {}
    for word in _WORD.findall(text[:LONGEST]):
        whole = word.strip(".:-")
        # `id:3f2a…` may be an ID with a colon in it, or a name and an ID.
        for part in (whole, *whole.split(":")) if ":" in whole else (whole,):
            if len(part) >= _LEAST and len(found) < MOST:
                found[part] = None
    return list(found)
