"""The log of operations as it is read: back to where what matters begins, and on from there.

Whoever carries out an operation for a day leaves tens of thousands of entries behind its
beginning, and without that nobody can abort it. So it is read for as far back as it takes,
and those who look every second read what is new.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from paigeant_core.operations.log import OVER, OperationStatus, take
from paigeant_core.transports import Transport

RECENT = 200
"""Entries that are read to begin with, where only the last seconds matter."""

MORE = 4
"""How many times as many are read, where these did not do."""

KEPT = 1_000
"""Operations that are over and are still shown, the newest."""

Known = Mapping[str, OperationStatus]


async def newer(transport: Transport, topic: str, last: bytes) -> list[bytes] | None:
    """What came behind an entry, oldest first; None: that entry is not there any more.

    Args:
        transport: where.
        topic: whose log.
        last: the entry.
    """
    limit = RECENT
    while True:
        entries = await transport.operation_entries(topic, limit)
        if last in entries:
            return entries[entries.index(last) + 1 :]
        if _ends(entries, limit):
            return None
        limit *= MORE


class OperationLog:
    """What one console knows of the operations of a topic.

    Args:
        transport: where.
        topic: whose log.
    """

    def __init__(self, transport: Transport, topic: str) -> None:
        self._transport = transport
        self._topic = topic
        self._known: dict[str, OperationStatus] = {}
        self._last = b""
        self._read = 0  # entries
        self._all = False  # and there are no more before them
        self._lost: set[str] = set()  # whose beginning is not there, though all was read
        self._forgot = False  # some of what is over
        self._turn = asyncio.Lock()

    async def read(self, limit: int, enough: Callable[[Known], bool]) -> dict[str, OperationStatus]:
        """The operations whose beginning was read, oldest first; whoever asks may change them.

        Args:
            limit: how many of the newest entries are read at least.
            enough: whether what was read will do; else more of the log is read, to its end if need be.
        """
        async with self._turn:
            more = await newer(self._transport, self._topic, self._last) if self._last else None
            if more is None:
                self._read, self._all = 0, False
            else:
                before = len(self._known)
                self._forgot |= len(without_old(self._known)) < before
                take(self._known, more)
                self._last = more[-1] if more else self._last
                self._read += len(more)
            while not self._does(limit, enough):
                limit = max(limit, self._read * MORE)
                await self._read_anew(limit)
            return {
                key: replace(
                    status,
                    targets=status.targets.copy(),
                    approvals=status.approvals.copy(),
                    missed=status.missed.copy(),
                )
                for key, status in self._known.items()
                if status.action
            }

    def _does(self, limit: int, enough: Callable[[Known], bool]) -> bool:
        if self._all and not self._forgot:
            return True
        sought = {key: status for key, status in self._known.items() if key not in self._lost}
        return (self._all or limit <= self._read) and enough(sought)

    async def _read_anew(self, limit: int) -> None:
        entries = await self._transport.operation_entries(self._topic, limit)
        self._known, self._forgot = {}, False
        take(self._known, entries)
        self._last = entries[-1] if entries else b""
        self._all = _ends(entries, limit)
        self._read = len(entries) if self._all else limit
        self._lost = {key for key, status in self._known.items() if self._all and not status.whole}


def all_begun(known: Known) -> bool:
    """Whether the beginning of all that is not over was read."""
    return all(status.whole or status.state in OVER for status in known.values())


def without_old(known: dict[str, OperationStatus]) -> dict[str, OperationStatus]:
    """``known``, out of which the oldest are taken that are over."""
    over = [key for key, status in known.items() if status.state in OVER]
    for key in over[:-KEPT]:
        del known[key]
    return known


def _ends(entries: list[bytes], limit: int) -> bool:
    # Less than was asked for; by half, as a broker passes over what others put among them.
    return len(entries) < limit / 2
