"""What was typed, one after the other in the order in which it came, though some of it has to wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from textual import events

__all__ = ["Typed", "TypedAhead"]

Typed: TypeAlias = events.Key | events.Paste


class TypedAhead:
    """Keys and pastes that were not taken yet.

    Args:
        waits: whether one has to wait; asked of the first of them, for all that came behind it.
        take: takes one.
    """

    def __init__(self, waits: Callable[[Typed], bool], take: Callable[[Typed], Awaitable[None]]) -> None:
        self._waits = waits
        self._take = take
        self._typed: deque[Typed] = deque()

    async def add(self, event: Typed) -> None:
        """Take one behind all that were typed before it, at once if none has to wait."""
        self._typed.append(event)
        await self.go_on()

    async def go_on(self) -> None:
        """Take what has to wait no more."""
        while self._typed and not self._waits(self._typed[0]):
            await self._take(self._typed.popleft())
