"""Whether this machine's clock agrees with the broker's.

AMQP does not tell the broker's time. But the broker writes down when each chunk of a
stream came, and can be asked to read from a time on: a mark that was just written must
be found from half a minute ago on, and must not be found from in half a minute on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from paigeant_core.clock import Clock, SystemClock
from paigeant_core.errors import ConnectError, TransportError
from paigeant_core.names import new_id
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.connection import Line, Message, Waits
from paigeant_core.transports.rabbitmq.lookup import SKEW
from paigeant_core.transports.rabbitmq.publisher import Publisher
from paigeant_core.transports.rabbitmq.streams import Reading

logger = logging.getLogger("paigeant")

AGAIN = 5.0
"""Seconds between two looks at a clock that was wrong."""

_STEP = 1.0
"""Seconds by which the machine's clock must jump before it is compared again."""

_PATIENCE = 5.0
_BEHIND_IT = 0.05
"""Seconds for a mark to come by that should not."""


class ClockCheck:
    """Compares the machine's clock with the broker's, at the start and when it was set.

    Args:
        line: over which.
        publisher: for marks.
        queue: a stream that is not read by time otherwise.
        clock: a clock that is not the machine's is never wrong.
    """

    def __init__(self, line: Line, publisher: Publisher, queue: str, clock: Clock) -> None:
        self._line = line
        self._publisher = publisher
        self._queue = queue
        self._clock = clock
        self._agreed: float | None = None

    @property
    def due(self) -> bool:
        """Whether the clock was not compared yet, or was set since."""
        if not isinstance(self._clock, SystemClock):
            return False
        return self._agreed is None or abs(self._drift() - self._agreed) > _STEP

    def _drift(self) -> float:
        return self._clock.now() - time.monotonic()

    async def wait(self, worker: str, up: asyncio.Event, over: Callable[[], bool]) -> None:
        """Return when the clock agrees; where it does not, say so once.

        Args:
            worker: who waits.
            up: set while the line stands.
            over: whether there is nothing to wait for any more.
        """
        waits, told = Waits(), False
        while not over():
            if not up.is_set():
                await asyncio.sleep(0.02)
                continue
            try:
                if await self.agrees():
                    return
            except TransportError as error:
                await waits.next(error)
                continue
            if not told:
                told = True
                logger.warning(
                    "this machine's clock is more than %g s off the broker's, so %s claims nothing until it is set",
                    SKEW,
                    worker,
                )
            await asyncio.sleep(AGAIN)

    async def agrees(self) -> bool:
        """Compare; False: it is more than half a minute off.

        Raises:
            TransportError: the broker cannot be asked.
        """
        drift, now, identity = self._drift(), self._clock.now(), new_id()
        await self._publisher.send([wire.mark(self._queue, identity)])
        too_late = await Reading.attach(self._line, self._queue, now + SKEW + 1)
        try:
            if not await self._found(now - SKEW, identity):
                if not await self._found("last", identity):
                    raise ConnectError(f"RabbitMQ at {self._line.where} is too slow: {self._queue} cannot be read")
                return False
            if any(_is(message, identity) for message in await too_late.batch(_BEHIND_IT)):
                return False
        finally:
            await too_late.close()
        self._agreed = drift
        return True

    async def _found(self, start: float | str, identity: str) -> bool:
        deadline = time.monotonic() + _PATIENCE
        reading = await Reading.attach(self._line, self._queue, start)
        try:
            while (left := deadline - time.monotonic()) > 0:
                if any(_is(message, identity) for message in await reading.batch(left)):
                    return True
            return False
        finally:
            await reading.close()


def _is(message: Message, identity: str) -> bool:
    return wire.headers_of(message).get(wire.MARK) == identity
