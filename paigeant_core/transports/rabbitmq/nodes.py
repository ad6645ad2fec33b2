"""Noticing that a node of the broker died, also where the others went on.

What a node had taken and not yet confirmed dies with it, and can be in one queue and not
in the other. A line that breaks does not tell: a healthy node's line breaks as well. So
each worker leaves marks: durable queues of which each is on one node alone, one on that which
the worker is connected to and one on that which has the fewest, with one message that is
not persistent. While the node is down its marks cannot be had, when it is back they are
empty, and nothing else empties them. The fence says which marks there are, so whoever finds
one missing or empty knows that a node died, and says so in the fence, which all workers read.

(A queue that is not durable would do as well, and RabbitMQ from 4.3 on refuses it.)
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress

from pamqp.common import FieldTable

from paigeant_core.errors import ConnectError, TransportError
from paigeant_core.names import new_id
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.connection import Line, Missing, ignoring_loss, version_of
from paigeant_core.transports.rabbitmq.mirror import Fence
from paigeant_core.transports.rabbitmq.publisher import Publisher
from paigeant_core.transports.rabbitmq.topology import Names

logger = logging.getLogger("paigeant")

_TRIES = 3
"""Times in a row that the broker may refuse a mark before this worker goes without."""

EXPIRES = 7 * 86400.0
"""Seconds after which the broker takes away a mark that nobody looks at. Looking prolongs it; what expires are those
that could not be taken away, because their node was down then."""


class NodeMarks:
    """The marks of one worker.

    Args:
        line: the worker's.
        publisher: over the same line.
        names: of the topic.
        worker: its name.
    """

    def __init__(self, line: Line, publisher: Publisher, names: Names, worker: str) -> None:
        self._line = line
        self._publisher = publisher
        self._names = names
        self._worker = worker
        self._mine: list[str] = []
        self._refused = 0
        self._silent: set[str] = set()

    async def renew(self) -> None:
        """Leave marks anew: the line is a new one, and may lead to another node.

        Raises:
            TransportError: the broker cannot be asked.
        """
        # Where this fails they are still ours, to be taken away at the next try.
        await self.take_away(self._mine)
        self._mine = []
        if self._refused >= _TRIES:
            return
        try:
            for table in self._places():
                queue = self._names.mark(new_id())
                self._mine.append(queue)
                async with self._line.borrowed() as channel:
                    await channel.queue_declare(queue, durable=True, arguments=table)
            # Ahead of the fence's word of them: an empty one would tell of a death.
            await self._publisher.send([wire.witness(queue) for queue in self._mine])
        except TransportError as error:
            self._refused += 1
            if self._refused == _TRIES:
                logger.warning(
                    "RabbitMQ at %s refuses the queues that tell of a node's death: it is not seen, and where the "
                    "broker has Khepri no restart either; let this user configure, write and read %s.*",
                    self._line.where,
                    self._names.boot,
                )
            raise ConnectError(str(error)) from None
        self._refused = 0
        fence = self._names.stream("fence")
        await self._publisher.send([wire.node_mark(fence, queue, self._worker) for queue in self._mine])

    async def take_away(self, marks: Iterable[str]) -> None:
        """Take marks away; the fence is told first, so that nobody misses them.

        Raises:
            TransportError: the broker cannot be asked.
        """
        gone = list(marks)
        if gone:
            fence = self._names.stream("fence")
            await self._publisher.send([wire.node_mark(fence, queue, self._worker, over=True) for queue in gone])
        for queue in gone:
            # Where its node is down it cannot be had, and expires.
            with suppress(Missing):
                async with self._line.borrowed() as channel:
                    await channel.queue_delete(queue)

    async def close(self) -> None:
        """The worker ends."""
        gone, self._mine = self._mine, []
        with ignoring_loss():
            await self.take_away(gone)

    async def sweep(self, fence: Fence, workers: Iterable[str]) -> None:
        """Take away the marks of workers that are gone without having done so.

        Args:
            fence: up to date.
            workers: that were heard of late. One that is silent at two sweeps in a row is gone.

        Raises:
            TransportError: the broker cannot be asked.
        """
        living = {self._worker, *workers}
        silent = {queue for queue, worker in fence.nodes.items() if worker not in living}
        gone, self._silent = silent & self._silent, silent
        await self.take_away(sorted(gone))

    def _places(self) -> list[FieldTable]:
        kind: FieldTable = {"x-queue-type": "classic", "x-expires": int(EXPIRES * 1000)}
        if version_of(str(self._line.server.get("version", ""))) < (4, 0):
            return [{**kind, "x-queue-master-locator": place} for place in ("client-local", "min-masters")]
        return [{**kind, "x-queue-leader-locator": place} for place in ("client-local", "balanced")]
