"""What names may look like, and how new IDs are made.

Names become queue names, keys and routing keys on a broker, so they are checked
here once, before anything is published.
"""

from __future__ import annotations

import os
import re

from paigeant_core.errors import InvalidMessage

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_CORRELATION_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}\Z")
_OWN_ID = re.compile(r"[0-9a-f]{32}\Z")

QUARANTINE_PREFIX = "q-"
"""Correlation IDs that begin so are given to quarantined messages."""


def check_activity(name: object) -> str:
    """Return ``name`` if it can name an activity.

    Raises:
        InvalidMessage: it is no text of 1 to 64 letters, digits, ``_ . -``.
    """
    return _check(name, "activity name")


def check_topic(name: object) -> str:
    """Return ``name`` if it can name a topic; same rule as an activity."""
    return name if isinstance(name, str) and _is_plain(name, 64) else _check(name, "topic")


def check_correlation_id(value: object) -> str:
    """Return ``value`` if it can be a correlation ID.

    Raises:
        InvalidMessage: it is no text of 1 to 128 letters, digits, ``_ . : -``, or
            it begins with ``q-``, which is kept for quarantined messages.
    """
    if not isinstance(value, str) or not (_is_plain(value, 128) or _CORRELATION_ID.match(value)):
        raise InvalidMessage(f"correlation ID {_shown(value)}: use 1 to 128 letters, digits, '_', '.', ':' or '-'")
    if value.startswith(QUARANTINE_PREFIX):
        raise InvalidMessage(f"correlation ID {_shown(value)}: IDs that begin with 'q-' are kept for quarantine")
    return value


def is_name(value: str) -> bool:
    """Whether ``value`` can name an activity or a topic."""
    return _is_plain(value, 64) or _NAME.match(value) is not None


def _is_plain(value: str, most: int) -> bool:
    """Whether ``value`` has letters, digits and ``_`` alone, as most names and IDs; far quicker than an expression."""
    return value.isascii() and (value.isalnum() or value.isidentifier()) and len(value) <= most


def is_own_id(value: str) -> bool:
    """Whether ``value`` looks like one that :func:`new_id` made."""
    return _OWN_ID.match(value) is not None


def new_id() -> str:
    """A new random ID: 128 bits as 32 hexadecimal digits."""
    while True:
        try:
            return _fresh.pop()
        except IndexError:
            # A system call for each of the two IDs of a hop is 3 % of it.
            drawn = os.urandom(16 * 256).hex()
            _fresh.extend(drawn[start : start + 32] for start in range(0, len(drawn), 32))


_fresh: list[str] = []
# A child process must not draw the IDs that its parent draws.
os.register_at_fork(after_in_child=_fresh.clear)


def _check(value: object, what: str) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise InvalidMessage(f"{what} {_shown(value)}: use 1 to 64 letters, digits, '_', '.' or '-'")
    return value


def _shown(value: object) -> str:
    # ascii() keeps control characters and bidi marks off a terminal.
    text = ascii(value)
    return text if len(text) <= 80 else text[:79] + "…"
