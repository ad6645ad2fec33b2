"""What is parked: kept for longer than the journal, and read beside it, which goes on however long the list is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from paigeant_console.model.snapshot import PARKED_LIMIT, PARKED_PLACES
from paigeant_core.errors import ConnectError, PaigeantError
from paigeant_core.journal import Record
from paigeant_core.transition import Place
from paigeant_core.transports import Transport

__all__ = ["Parked"]

logger = logging.getLogger("paigeant.console")

AGAIN_AFTER: Final = 1.0
"""Seconds until the next try when the line broke."""


class Parked:
    """Reads it once, in batches that are shown as they come. On the feed's loop.

    Args:
        topic: whose.
        take: given each batch.
        told: called when it was read, or could not be.
    """

    def __init__(
        self, topic: str, take: Callable[[Sequence[Record]], Awaitable[None]], told: Callable[[], None]
    ) -> None:
        self.settled = False
        """Whether it was read once, or could not be: there is no more to wait for."""
        self._topic = topic
        self._take = take
        self._told = told
        self._reading: asyncio.Task[None] | None = None

    def begin(self, transport: Transport) -> None:
        """Read it, unless that has begun before; the end of the journal is reached.

        Args:
            transport: connected.
        """
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read(transport))

    def forget(self) -> None:
        """Something was missed: read it anew when next asked."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    async def _read(self, transport: Transport) -> None:
        for place in PARKED_PLACES:
            while not await self._read_place(transport, place):
                self._settle()
                await asyncio.sleep(AGAIN_AFTER)
        self._settle()

    async def _read_place(self, transport: Transport, place: Place) -> bool:
        """Whether there is no more to be had."""
        try:
            async for batch in transport.parked_batches(self._topic, place, PARKED_LIMIT):
                await self._take(batch)
        except (ConnectError, OSError):
            return False  # a broken line is the tail's to find and to say
        except PaigeantError as error:
            logger.warning("what is parked is not known: %s", error)
        return True

    def _settle(self) -> None:
        self.settled = True
        self._told()
