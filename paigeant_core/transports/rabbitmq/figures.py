"""How many messages consumers hold, which AMQP does not tell: from the management API, where it answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from paigeant_core.transports.rabbitmq.connection import Line, Turn
from paigeant_core.urls import management_url

EVERY: Final = 5.0
"""Seconds between two questions: the API's own figures are that old."""

REST: Final = 60.0
"""Seconds for which it is not asked again where it did not answer."""

WITHIN: Final = 1.0
"""Seconds for an answer: who looks at queues is not kept waiting for longer."""


class Figures:
    """Asks now and then, and remembers.

    Args:
        line: whose broker is asked.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._lock = Turn()
        self._in_flight: dict[str, int] = {}
        self._next = 0.0

    async def in_flight(self) -> Mapping[str, int]:
        """Messages that consumers hold, by queue, as of some seconds ago; of a queue that is not in it nobody knows."""
        async with self._lock:
            if time.monotonic() >= self._next:
                self._in_flight = await self._ask()
            return self._in_flight

    async def _ask(self) -> dict[str, int]:
        rows = None
        if await listens(self._line.url):
            # Here: it brings an HTTP client with it, which takes longer to load than all else that is looked at.
            from paigeant_core.transports.rabbitmq.management import Management

            with suppress(TimeoutError):
                async with asyncio.timeout(WITHIN), Management(self._line.url) as api:
                    rows = await api.rows("queues", self._line.vhost, columns=("name", "messages_unacknowledged"))
        self._next = time.monotonic() + (REST if rows is None else EVERY)
        found = ((row.get("name"), row.get("messages_unacknowledged")) for row in rows or ())
        return {name: held for name, held in found if isinstance(name, str) and isinstance(held, int) and held >= 0}


async def listens(url: str) -> bool:
    """Whether anything takes a connection where the management API is.

    Args:
        url: the broker's.
    """
    try:
        parts = urlsplit(management_url(url))
        port = parts.port or (443 if parts.scheme == "https" else 80)
        async with asyncio.timeout(WITHIN):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (OSError, ValueError):
        return False
    writer.close()
    return True
