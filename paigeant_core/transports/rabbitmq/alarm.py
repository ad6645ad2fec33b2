"""Whether the broker takes publishes: while it is low on memory or disk it takes none, and reads nothing more.

It tells so whoever publishes then, over the connection that is stopped, and stops that connection as a whole. So it is
asked over one of its own, by a message to nowhere at each look; it tells by itself when the alarm is over.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from aiormq.exceptions import ChannelAccessRefused

from paigeant_core.transports.rabbitmq.connection import Line, Turn
from paigeant_core.transports.rabbitmq.lanes import Lane
from paigeant_core.transports.rabbitmq.publisher import NOWHERE

_ANSWER: Final = 2.0
"""Seconds in which a broker that is well has confirmed it; after that nothing is known."""


class Alarm:
    """Asks one broker.

    Args:
        url: of the broker.
    """

    def __init__(self, url: str) -> None:
        self._line = Line(url, "alarm")
        self._lane: Lane | None = None
        self._forbidden = False
        self._lock = Turn()

    async def look(self) -> str:
        """The alarm that there is, in the broker's words; empty: none, as far as this user may know.

        Raises:
            ConnectError: nothing answers there.
        """
        async with self._lock:
            if not self._line.blocked and not self._forbidden:
                await self._ask()
        return self._line.blocked

    async def _ask(self) -> None:
        if self._lane is None or self._lane.closed:
            self._lane = await self._line.lane(confirms=True)
        with self._line.errors():
            confirm = self._lane.publish(NOWHERE)
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER):
                while not (confirm.done() or self._line.blocked):
                    await asyncio.wait([confirm], timeout=0.02)
        if confirm.done() and not confirm.cancelled():
            # A user that may not publish is told nothing, and is not refused again and again.
            self._forbidden = isinstance(confirm.exception(), ChannelAccessRefused)

    def close(self) -> None:
        """Let go of the connection; one that is stopped would not answer a good-bye."""
        self._line.cut()
