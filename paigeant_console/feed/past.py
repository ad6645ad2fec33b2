"""What the feed and the history on disk have to do with each other: taking up at the start, keeping from then on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Sequence
from typing import Final

from paigeant_console.feed.gap import Gap, gap_behind
from paigeant_console.history import History, order
from paigeant_core.clock import rfc3339
from paigeant_core.errors import PaigeantError
from paigeant_core.journal import ENDED, Record
from paigeant_core.transports import Transport
from paigeant_core.transports.following import Follower, Missed
from paigeant_core.transports.types import START

logger = logging.getLogger("paigeant.console")

RESTORED: Final = 50_000
"""Workflows of the history that are taken up at the start; if there are more, all of the journal is read."""
GAP_SHOWN: Final = 120.0
"""Seconds for which it is said that the journal does not reach back to where the last console stood."""


class Past:
    """What earlier consoles saw of the topic, and what this one adds to it. On the feed's loop; the disk in threads.

    Args:
        topic: the topic.
        kept: its history; None: none is kept.
    """

    def __init__(self, topic: str, kept: History | None) -> None:
        self._topic = topic
        self._kept = kept
        self._gap: Gap | None = None
        self._gap_until = 0.0
        self._all_read = asyncio.Event()
        self._rest: dict[str, Record] = {}
        self._deleted = False

    @property
    def gap(self) -> Gap | None:
        """What nobody saw, before this console was started or while its line was down, while it is to be said."""
        return self._gap if time.monotonic() < self._gap_until else None

    def miss(self, missed: Missed, after: float, until: float) -> None:
        """Something was missed while the console runs.

        Args:
            missed: why.
            after: when the last record before it was journalled, seconds since the Unix epoch.
            until: when the first one behind it was.
        """
        if missed is Missed.ANEW:
            # What the history has is the deleted topic's; it is still found there by who asks for it.
            self._deleted, self._rest = True, {}
        self._say(Gap(after, until))

    def _say(self, gap: Gap) -> None:
        self._gap, self._gap_until = gap, time.monotonic() + GAP_SHOWN
        logger.warning("of %s nothing was seen from %s to %s", self._topic, *map(rfc3339, gap))

    def all_read(self) -> list[Record]:
        """The feed has read the journal to its end: the history may begin.

        Returns:
            Where workflows stood that the journal may not tell of.
        """
        self._all_read.set()
        rest, self._rest = self._rest, {}
        return list(rest.values())

    def told(self, workflows: Iterable[str]) -> None:
        """The journal has told of these, and they have left memory: what the history has of them is older."""
        if self._rest:
            for workflow in workflows:
                self._rest.pop(workflow, None)

    async def resume(self, transport: Transport, newest: Sequence[Record], now: float) -> tuple[str, list[Record]]:
        """What was seen before.

        Args:
            transport: connected.
            newest: the end of the journal.
            now: seconds since the Unix epoch.

        Returns:
            Where in the journal to read on, and where workflows stood there, one record of each.
        """
        progress = None if self._kept is None else await asyncio.to_thread(self._kept.progress)
        if self._kept is None or progress is None or self._deleted:
            return START, []
        oldest = await _oldest(transport, self._topic)
        self._gap = gap_behind(progress, oldest, newest[-1:], now)
        records = await asyncio.to_thread(self._kept.standing, RESTORED)
        if self._gap is None:
            first = await asyncio.to_thread(self._kept.oldest)
            if len(records) >= RESTORED or (first and oldest and order(first) > order(oldest.position)):
                # The journal may have more than the history, and what moved longest ago is what is stuck.
                self._rest = _by_workflow(records)
                return START, []
            seen = any(record.position == progress.position for record in newest)
            # So much of what was seen is read once more: the traffic shows it.
            return newest[0].position if seen else progress.position, records
        self._say(self._gap)
        # What became of the others meanwhile, nobody saw.
        self._rest = _by_workflow(record for record in records if record.state in ENDED)
        return START, []

    async def keep(self, transport: Transport, again_after: float) -> None:
        """Read the journal a second time for the history, at the disk's pace: the screen does not wait for it.

        Args:
            transport: that the feed reads with.
            again_after: seconds until the next try when the line broke.
        """
        kept = self._kept
        if kept is None:
            return
        await self._all_read.wait()
        if not await asyncio.to_thread(kept.open):
            return
        if self._gap is not None:
            await asyncio.to_thread(kept.lapse)
        progress = await asyncio.to_thread(kept.progress)
        position = progress.position if progress is not None and self._gap is None else START
        missed: list[Missed] = []
        follower = Follower(missed.append)
        while kept.writes:
            # A broken line is the tail's to find and to say.
            with contextlib.suppress(PaigeantError, OSError):
                position = START if Missed.ANEW in missed else position
                async for batch in transport.records(self._topic, start=position, follow=True, follower=follower):
                    if missed:
                        position = START if Missed.ANEW in missed else position
                        missed.clear()
                        await asyncio.to_thread(kept.flush)
                        await asyncio.to_thread(kept.lapse)
                    if batch:
                        kept.put(batch)
                        position = batch[-1].position
                    if kept.full:
                        await asyncio.to_thread(kept.flush)
            await asyncio.sleep(again_after)


def _by_workflow(records: Iterable[Record]) -> dict[str, Record]:
    return {record.headers.correlation_id: record for record in records}


async def _oldest(transport: Transport, topic: str) -> Record | None:
    """The first record that the journal still has; None: it is empty."""
    async with contextlib.aclosing(transport.records(topic)) as batches:  # type: ignore[type-var]  # a generator in all
        async for batch in batches:
            return batch[0] if batch else None
    return None
