"""Reading a topic's journal, up to now or for ever, and whether it is still the one that was read."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, Self

from redis.exceptions import ResponseError

from paigeant_core.errors import InvalidMessage
from paigeant_core.journal import Record
from paigeant_core.transports.following import Follower, Missed
from paigeant_core.transports.redis.connection import Backoff, Line, Lines
from paigeant_core.transports.redis.encoding import records_of
from paigeant_core.transports.redis.endpoint import LineLost
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.pages import FIRST_PAGE
from paigeant_core.transports.redis.scripts import EXTENT, Command
from paigeant_core.transports.types import END, START

_POSITION = re.compile(r"(\d{1,20})-(\d{1,20})\Z")
_LAST_OF_MS = 2**64 - 1
_BEFORE_ALL = "0-0"
_BATCH_BYTES = 512 * 1024
_BATCH_MAX = 250
"""A batch that the processor's cache holds is folded half as fast again as one of a thousand records."""
_PATIENCE = 2.0
LOOK_EVERY = 1.0
"""Seconds between two looks of a follower at how far the journal goes."""


class Extent(NamedTuple):
    """How far a journal goes.

    Attributes:
        first: ID of its first entry; empty: it has none.
        last: the last ID that it gave out, whatever became of the entry.
        length: how many entries it has.
        added: how many it ever had; None: a server before 7.0 does not count them.
    """

    first: str
    last: str
    length: int
    added: int | None

    @classmethod
    def of(cls, answer: list[Any]) -> Self | None:
        """What the script said; None: there is no journal."""
        if not answer:
            return None
        first, last, length, *added = answer
        return cls(first.decode(), last.decode(), int(length), int(added[0]) if added else None)

    def since(self, known: Extent) -> int | None:
        """How many entries came since the journal was looked at before; None: nobody knows."""
        return None if self.added is None or known.added is None else self.added - known.added


def missed(position: str, known: Extent, found: Extent | None) -> Missed | None:
    """What somebody who goes on behind ``position`` cannot have seen.

    The IDs of a stream are times, so they do not tell whether anything stood between two of them. What tells is how
    many entries were added: ``entries-added`` of XINFO STREAM, see https://redis.io/docs/latest/commands/xinfo-stream/.

    Args:
        position: of the last entry that he was given.
        known: how far the journal went when he looked last.
        found: how far it goes now; None: there is none.
    """
    if found is None:
        return Missed.ANEW
    if position == _BEFORE_ALL:
        return None
    others = not found.first or order(found.first) > order(known.last)
    came = found.since(known)
    if order(found.last) < order(position) or (came is not None and came < (found.length if others else 0)):
        # It ends before what was read, or has more entries than came since: they are another one's.
        return Missed.ANEW
    if found.last == position or (found.first and order(found.first) <= order(position)):
        return None
    # All that was read is gone; something behind it may be too.
    whole = known.last == position and came == found.length
    return None if whole else Missed.TRIMMED


class _Sight:
    """What a follower knows of how far the journal goes; he looks at most once a second, however much comes."""

    def __init__(self, keys: Keys, follower: Follower) -> None:
        self._keys = keys
        self._follower = follower
        self._looked = 0.0
        self._none = False
        """Whether there was no journal at the last look."""
        self.found: Extent | None = follower.journal
        """How far the journal went at the last look; the follower's own once he is told what follows from it."""

    def look_at_once(self) -> None:
        """The line broke: nobody knows for how long."""
        self._looked = 0.0

    async def look(self, line: Line, position: str, came: bool) -> tuple[Missed | None, str]:
        """See :func:`missed`, and behind which ID he goes on; None also where it is not time to look.

        Args:
            line: to the server.
            position: of the last entry that he was given.
            came: he was just given some.
        """
        # By the clock on the wall: it goes on while a machine sleeps. And a journal that just began may be gone again.
        if abs(time.time() - self._looked) < LOOK_EVERY and not (came and self._none):
            return None, position
        (answer,) = await line.call(EXTENT([self._keys.journal], []))
        self._looked = time.time()
        if isinstance(answer, ResponseError):
            return None, position  # not every user may run scripts; he reads on without
        known: Extent | None = self._follower.journal
        found = self.found = Extent.of(answer)
        self._none = found is None
        lapse = None if known is None else missed(position, known, found)
        if lapse is Missed.ANEW:
            position = _BEFORE_ALL
        elif lapse is Missed.TRIMMED and found is not None and not found.first:
            position = found.last  # there is nothing behind it yet
        return lapse, position


class _Read(NamedTuple):
    """What one look and one read brought: what was missed before ``entries``, and behind which ID they come."""

    missed: Missed | None
    behind: str
    entries: list[Any]


async def records(
    lines: Lines, keys: Keys, start: str | float, follow: bool, follower: Follower
) -> AsyncIterator[list[Record]]:
    """See :meth:`Transport.records`."""
    # A line of its own: a read that waits would keep others waiting.
    line = Line(lines.endpoint)
    sight = _Sight(keys, follower) if follow else None
    backoff = Backoff(0.05, 0.5)
    heard = time.monotonic()
    position = ""
    count = FIRST_PAGE
    caught_up = False
    reading: asyncio.Task[_Read] | None = None
    try:
        while True:
            try:
                if not position:
                    position = await _first(line, keys, start)
                if reading is None:
                    reading = asyncio.create_task(_read(line, keys, position, count, caught_up, sight))
                found, reading = await reading, None
            except LineLost:
                reading = None
                if sight is not None:
                    sight.look_at_once()
                # Reading takes nothing, so it may be repeated for as long as a restart takes.
                if backoff.failures and time.monotonic() - heard > _PATIENCE:
                    raise
                await asyncio.sleep(backoff.next())
                continue
            heard = time.monotonic()
            backoff.reset()
            if sight is not None:
                follower.journal = sight.found
            if found.missed is not None:
                follower.tell(found.missed)
            position, entries = found.behind, found.entries
            if entries:
                caught_up = False
                position = entries[-1][0].decode()
                # By bytes: a thousand messages may be a megabyte or a gigabyte.
                sample = entries[:: len(entries) // 20 + 1]
                size = sum(len(value) for _, fields in sample for value in fields) // len(sample) + 1
                count = max(1, min(_BATCH_MAX, _BATCH_BYTES // size))
                # While these are looked at, the server makes ready the next.
                reading = asyncio.create_task(_read(line, keys, position, count, caught_up, sight))
                # A task that nothing is awaited behind has not begun, and its command has not gone out.
                await asyncio.sleep(0)
                batch = records_of(entries)
                # Whoever wrote something else into the journal does not stop those who read it.
                lines.skipped += len(entries) - len(batch)
                if batch:
                    yield batch
                continue
            yield []
            if not follow:
                return
            caught_up = True
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        line.close()


async def _read(line: Line, keys: Keys, position: str, count: int, wait: bool, sight: _Sight | None) -> _Read:
    """The entries behind ``position``; where one is to wait for them, none after less than a second."""
    lapse = None
    if sight is not None:
        lapse, position = await sight.look(line, position, not wait)
    if wait and lapse is None:
        command: Command = ("XREAD", "COUNT", count, "BLOCK", 900, "STREAMS", keys.journal, position)
        answer = await line.one(command, wait=1.0)
    else:
        answer = await line.one(("XREAD", "COUNT", count, "STREAMS", keys.journal, position))
    return _Read(lapse, position, answer[0][1] if answer else [])


async def _first(line: Line, keys: Keys, start: str | float) -> str:
    """The stream ID behind which reading starts."""
    if start == START:
        return _BEFORE_ALL
    if start == END:
        last = await line.one(("XREVRANGE", keys.journal, "+", "-", "COUNT", 1))
        return last[0][0].decode() if last else _BEFORE_ALL
    if isinstance(start, str):
        return check_position(start)
    # What was journalled in that very millisecond is wanted too.
    millis = int(start * 1000) - 1
    return f"{millis}-{_LAST_OF_MS}" if millis >= 0 else _BEFORE_ALL


def check_position(text: str) -> str:
    """``text`` if it is a position in a journal.

    Raises:
        InvalidMessage: it is none.
    """
    match = _POSITION.match(text)
    if match is None or max(order(text)) > _LAST_OF_MS:
        raise InvalidMessage(f"{ascii(text)[:60]} is no position in a Redis journal; they look like 1767225600000-0")
    return text


def order(position: str) -> tuple[int, int]:
    """By what IDs of a stream are ordered."""
    millis, _, number = position.partition("-")
    return int(millis), int(number)
