"""Following the journal through an outage of the broker: what `tail` and `--wait` have in common."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Final, TypeVar

from paigeant_console.output import note
from paigeant_core.errors import AuthenticationError, ConnectError
from paigeant_core.journal import Record
from paigeant_core.transports import Transport
from paigeant_core.transports.following import Follower, Missed
from paigeant_core.transports.types import END, START

__all__ = ["Following"]

T = TypeVar("T")

PATIENCE: Final = 60.0
"""Seconds that a broker which was reached once is waited for."""
AGAIN_AFTER: Final = 0.5
QUIET: Final = 2.0
"""Seconds without a word, which a follower has once a second, after which it is looked whether the broker is there."""
LOOK_WITHIN: Final = 5.0


class Following:
    """Waits for a broker that is away, and says so once; on brokers whose transport waits by itself likewise.

    Args:
        transport: Where; connected.
        topic: Whose journal.
    """

    def __init__(self, transport: Transport, topic: str) -> None:
        self._transport = transport
        self._topic = topic
        self._away_since: float | None = None

    async def records(
        self, start: str | float, missed: Callable[[Missed], None] | None = None
    ) -> AsyncIterator[list[Record]]:
        """As `Transport.records` with `follow`; it reads on where it was, so nothing comes twice or is left out.

        Args:
            start: From where on.
            missed: Told what could not be read.

        Raises:
            ConnectError: The broker was away for too long.
        """
        position = start
        if start == END:
            # A place, which stays what it is while the broker is away.
            newest = await self.ask(lambda: self._transport.newest(self._topic, 1))
            position = newest[-1].position if newest else START

        def miss(what: Missed) -> None:
            nonlocal position
            if what is Missed.ANEW:
                position = START
            if missed is not None:
                missed(what)

        follower = Follower(miss)
        while True:
            batches = self._transport.records(self._topic, start=position, follow=True, follower=follower)
            try:
                async with aclosing(batches):  # type: ignore[type-var]  # a generator in all
                    while True:
                        batch = await self._next(batches)
                        if batch:
                            position = batch[-1].position
                        yield batch
            except ConnectError as error:
                await self._wait(error)

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """What the broker answers, now or once it is back.

        Args:
            question: Asks it; takes nothing and changes nothing, as it may be asked again.

        Raises:
            ConnectError: The broker was away for too long.
        """
        while True:
            try:
                answer = await question()
            except ConnectError as error:
                await self._wait(error)
            else:
                self._heard()
                return answer

    async def _next(self, batches: AsyncIterator[list[Record]]) -> list[Record]:
        coming = asyncio.ensure_future(anext(batches))
        try:
            while not (await asyncio.wait({coming}, timeout=QUIET))[0]:
                try:
                    async with asyncio.timeout(LOOK_WITHIN):
                        await self._transport.broker_info()
                except TimeoutError:
                    self._miss(ConnectError(f"no answer from {self._transport.url}"))
                except ConnectError as error:
                    self._miss(error)
                else:
                    # It is there: the line is slow, or what was asked takes its time.
                    self._heard()
            batch = coming.result()
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        self._heard()
        return batch

    async def _wait(self, error: ConnectError) -> None:
        self._miss(error)
        await asyncio.sleep(AGAIN_AFTER)

    def _miss(self, error: ConnectError) -> None:
        """The broker did not answer; raises what came of it when that is so for too long, or will stay so."""
        now = time.monotonic()
        if self._away_since is None:
            if not isinstance(error, AuthenticationError):
                note(f"the broker is away; waiting for it, {PATIENCE:g} s at most")
            self._away_since = now
        if now - self._away_since > PATIENCE or isinstance(error, AuthenticationError):
            raise error

    def _heard(self) -> None:
        if self._away_since is not None:
            self._away_since = None
            note("the broker is back; going on")
