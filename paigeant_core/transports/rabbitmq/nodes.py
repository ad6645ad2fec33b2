"""Noticing that a node of the broker died, also where the others went on.

What a node had taken and not yet confirmed dies with it, and can be in one queue and not
in the other. A line that breaks does not tell: a healthy node's line breaks as well. So
each worker leaves marks: queues that are not durable, one on the node that it is connected
to and one on the node that has the fewest of them. A node takes its marks with it, and
nothing else does. The fence says which marks there are, so whoever finds one missing knows
that a node died, and says so in the fence, which all workers read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from pamqp.common import FieldTable

from paigeant_core.errors import ConnectError, TransportError
from paigeant_core.names import new_id
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.connection import Line, ignoring_loss, version_of
from paigeant_core.transports.rabbitmq.mirror import Fence
from paigeant_core.transports.rabbitmq.publisher import Publisher
from paigeant_core.transports.rabbitmq.topology import Names

logger = logging.getLogger("paigeant")

_TRIES = 3
"""Times in a row that the broker may refuse a mark before this worker goes without."""


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
        old, self._mine = self._mine, []
        await self.take_away(old)
        if self._refused >= _TRIES:
            return
        try:
            for table in self._places():
                queue = self._names.mark(new_id())
                self._mine.append(queue)
                async with self._line.borrowed() as channel:
                    await channel.queue_declare(queue, durable=False, arguments=table)
        except TransportError as error:
            self._refused += 1
            if self._refused == _TRIES:
                logger.warning("RabbitMQ takes no queue that is not durable, so the death of one node is seen late")
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
        if version_of(str(self._line.server.get("version", ""))) < (4, 0):
            return [{"x-queue-master-locator": place} for place in ("client-local", "min-masters")]
        return [{"x-queue-leader-locator": place} for place in ("client-local", "balanced")]
