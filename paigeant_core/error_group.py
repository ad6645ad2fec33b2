"""What is in an exception group: a handler that does several things at once raises one, and its class says nothing."""

from __future__ import annotations

from collections.abc import Iterator

MAX_IN_GROUP = 20
"""Exceptions and groups of them in an exception group that are looked at."""


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions that ``error`` consists of: itself, or of a group the first that are no groups.

    Of a group whose groups go deep, those that are found soon; it may be none.
    """
    waiting = [error]
    for _ in range(MAX_IN_GROUP):
        if not waiting:
            break
        found = waiting.pop()
        if isinstance(found, BaseExceptionGroup):
            # As Python has it, whatever a subclass makes of the attribute.
            waiting.extend(reversed(BaseExceptionGroup.exceptions.__get__(found)))
        else:
            yield found
