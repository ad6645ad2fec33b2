"""Publishing with confirms: the broker has it, has refused it, or the line broke."""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import time
from collections.abc import Sequence

from paigeant_core.errors import PublishError, PublishUnknown, TransportError
from paigeant_core.transports.rabbitmq.connection import (
    Line,
    LineLost,
    LockLost,
    Missing,
    NotReady,
    Properties,
    Turn,
    cancellations,
    quietly_close,
)
from paigeant_core.transports.rabbitmq.frames import Outgoing
from paigeant_core.transports.rabbitmq.lanes import Lane

logger = logging.getLogger("paigeant.waiting")
"""What is said on this one tells a person why nothing comes: commands show it."""

SLOW_CONFIRM = 5.0
"""Seconds without any confirm after which it is said that publishes wait."""

STUCK = 30.0
"""Seconds without its confirm after which it is found out whether one publish alone is kept waiting."""

_PROBE = 5.0
NOWHERE = Outgoing("", "paigeant.nowhere", b"", Properties(app_id="paigeant"))
"""What no queue gets: the broker confirms it at once, unless it takes no publish at all."""

_TOO_LARGE = re.compile(r"larger than .*?(\d+)")


class Refused(PublishError):
    """The broker takes no such message, however often it is tried."""


class Publisher:
    """Publishes with confirms, on one channel of a line.

    Args:
        line: whose.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._lane: Lane | None = None
        self._opening = Turn()
        self._confirmed = 0
        self._watch: asyncio.TimerHandle | None = None
        self._said = False
        self._since: dict[int, float] = {}
        """When each publish that waits was made, the oldest first."""
        self._serial = 0
        self._probing: asyncio.Task[None] | None = None
        self._largest = sys.maxsize
        self.forgot = False
        """Set when the broker forgot a confirm, which only the death of a node makes it do."""

    async def send(self, items: Sequence[Outgoing], *, serial: int = 0) -> None:
        """Publish in this order; return when the broker has confirmed all.

        Args:
            items: what to publish.
            serial: of the line that a lock is held over; 0: any will do.

        Raises:
            ConnectError: there is no line; nothing was published.
            LockLost: it is another line; nothing was published.
            Refused: it is larger than the broker takes; nothing was published.
            TakenInPart: the broker refused; some of it may have been published.
            PublishUnknown: the line broke before the confirm.
            AuthenticationError: this user may not; what was under way beside it is as unknown.
        """
        self._check_size(items)
        before = cancellations()
        lane = await self._open()
        if serial not in (0, self._line.serial):
            raise LockLost(f"the connection to RabbitMQ at {self._line.where} was lost, and a lock with it")
        self._serial += 1
        number = self._serial
        self._since[number] = time.monotonic()
        if self._watch is None:
            self._look_again()
        try:
            if len(items) == 1:
                await _publish(lane, items[0])
            else:
                # Each takes its place in the channel's order as its task starts, that is in this order.
                results = await asyncio.gather(*(_publish(lane, item) for item in items), return_exceptions=True)
                for result in results:
                    if isinstance(result, BaseException):
                        raise result
        except BaseException as error:  # noqa: BLE001 - mapped below, and raised again
            raise self._mapped(error, items, before) from None
        finally:
            del self._since[number]
            self._confirmed += 1

    def _mapped(self, error: BaseException, items: Sequence[Outgoing], before: int) -> BaseException:
        if cancellations() > before:
            return error if isinstance(error, asyncio.CancelledError) else asyncio.CancelledError()
        found = self._line.errors().of(error)
        # The broker closes a channel for one publish, and all that were under way on it hear of that one.
        if isinstance(found, NotReady) and (size := _TOO_LARGE.search(str(found))) is not None:
            self._largest = int(size[1])
            try:
                self._check_size(items)
            except Refused as refused:
                return refused
        elif isinstance(found, Missing) and any(f"'{item.exchange}'" in str(found) for item in items):
            return found
        if isinstance(found, LineLost | NotReady | Missing):
            return PublishUnknown(
                f"the connection to RabbitMQ at {self._line.where} was lost before it confirmed a publish"
            )
        return found or error

    def _check_size(self, items: Sequence[Outgoing]) -> None:
        size = max(len(item.body) for item in items)
        if size > self._largest:
            raise Refused(
                f"RabbitMQ at {self._line.where} takes no message of {size} bytes; "
                f"its max_message_size is {self._largest}"
            )

    async def _open(self) -> Lane:
        lane = self._lane
        if lane is not None and not lane.closed:
            return lane
        async with self._opening:
            if self._lane is None or self._lane.closed:
                self._lane = await self._line.lane(confirms=True)
                if self._watch is not None:
                    # It may be of a loop that is over. The publish that this is for sets another one.
                    self._watch.cancel()
                    self._watch = None
            return self._lane

    def _look_again(self) -> None:
        """Say once when publishes wait and none is confirmed: an alarm of the broker's, as a rule."""
        loop = asyncio.get_running_loop()
        seen = self._confirmed

        def look() -> None:
            self._watch = None
            if not self._since:
                self._said = False
                return
            if time.monotonic() - next(iter(self._since.values())) > STUCK and self._probing is None:
                self._probing = loop.create_task(self._probe())
            if self._confirmed == seen and not self._said:
                self._said = True
                logger.warning(
                    "RabbitMQ at %s has confirmed no publish for %g s: it may be out of memory or disk; waiting",
                    self._line.where,
                    SLOW_CONFIRM,
                )
            self._look_again()

        self._watch = loop.call_later(SLOW_CONFIRM, look)

    async def _probe(self) -> None:
        """Give up a channel of which the broker confirms nothing, though it confirms what comes over another one.

        A cluster that lost a leader can forget a confirm. What became of such a publish is unknown, as when a line
        breaks, and whoever made it finds out in the same way.
        """
        try:
            # Else it said itself that it takes no publish at all.
            if not self._line.blocked:
                await self._compare()
        except Exception as error:
            if isinstance(error, TimeoutError | TransportError) or self._line.errors().of(error) is not None:
                return  # it takes no publish at all: there is nothing to do but to wait
            raise
        finally:
            self._probing = None

    async def _compare(self) -> None:
        stuck, serial, began = self._lane, next(iter(self._since), 0), time.monotonic()
        # However long it takes to open and to close: till then none is opened beside it, and half open it would stay.
        probe = await self._line.lane(confirms=True)
        try:
            async with asyncio.timeout(began + _PROBE - time.monotonic()):
                await probe.publish(NOWHERE)
            if stuck is not None and serial in self._since:
                logger.warning("RabbitMQ at %s lost the confirm of a publish; looking for it", self._line.where)
                self.forgot = True
                stuck.abandon()
                async with asyncio.timeout(_PROBE):
                    await quietly_close(stuck)
        finally:
            await quietly_close(probe)

    def close(self) -> None:
        """No longer look."""
        if self._probing is not None:
            self._probing.cancel()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None


async def _publish(lane: Lane, item: Outgoing) -> None:
    await lane.publish(item)
