"""What the journal does not tell: each second who lives, what is paused, how long queues are."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from paigeant_core.errors import PaigeantError
from paigeant_core.limits import RENEW_EVERY
from paigeant_core.pauses import Pause
from paigeant_core.transports import Transport
from paigeant_core.transports.types import QueueStatus, WorkerStatus

__all__ = ["OF_NOW", "POLL_EVERY", "Rounds"]

POLL_EVERY: Final = 1.0
OF_NOW: Final = 3 * POLL_EVERY
"""Seconds for which an answer is of now: two rounds, and what asking takes."""
ASK_WITHIN: Final = 10.0
HEARD_AGAIN: Final = 2 * RENEW_EVERY
"""Seconds in which every worker has spoken again, once the broker takes writes again."""


class Rounds:
    """Asks the broker again and again.

    Args:
        topic: whose.
        observe: told of the living workers, of what is paused, and of the workers that died before anybody looked.
        show_queues: told of the queues' figures.
        refused: told why the broker takes no writes; empty: it does.
    """

    def __init__(
        self,
        topic: str,
        observe: Callable[[Sequence[WorkerStatus], Mapping[str, Pause], Sequence[WorkerStatus]], None],
        show_queues: Callable[[Sequence[QueueStatus]], None],
        refused: Callable[[str], None],
    ) -> None:
        self.wants_queues = False
        """Whether a view is on the screen that shows them."""
        self._topic = topic
        self._observe = observe
        self._show_queues = show_queues
        self._refused = refused
        self._refused_at = float("-inf")
        self._knows_silent = False
        self._poke: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, transport: Transport, connected: Callable[[], bool], caught_up: Callable[[], bool]) -> None:
        """Ask for ever.

        Args:
            transport: whom.
            connected: whether the broker answers.
            caught_up: whether the journal was read.
        """
        self._loop = asyncio.get_running_loop()
        poke = self._poke = asyncio.Event()
        while True:
            if connected():
                # A broken line is the tail's to find and to say.
                with contextlib.suppress(PaigeantError, OSError, TimeoutError):
                    async with asyncio.timeout(ASK_WITHIN):
                        await self._ask(transport, caught_up())
            else:
                # Whoever dies meanwhile is not seen to live before.
                self._knows_silent = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_EVERY if caught_up() else POLL_EVERY / 4):
                    await poke.wait()
            poke.clear()

    async def _ask(self, transport: Transport, all_known: bool) -> None:
        refusal = await transport.refusal(self._topic)
        self._refused(refusal)
        if refusal:
            self._refused_at = time.monotonic()
        if time.monotonic() - self._refused_at >= HEARD_AGAIN:
            # While nobody can write, nobody can say that he lives.
            await self._look_at_workers(transport, all_known)
        if self.wants_queues:
            self._show_queues(await transport.queues(self._topic))

    async def _look_at_workers(self, transport: Transport, all_known: bool) -> None:
        workers = await transport.workers(self._topic)
        silent = () if self._knows_silent else await transport.silent(self._topic)
        self._observe(workers, await transport.pauses(self._topic), silent)
        # What they held is laid over the workflows that are known by then.
        self._knows_silent = all_known

    def watch_queues(self, on: bool) -> None:
        """Ask for the queues' figures too, at once and from now on, or no more; from any thread."""
        self.wants_queues = on
        if on and self._loop is not None and self._poke is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._poke.set)
