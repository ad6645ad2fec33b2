"""The transport on RabbitMQ: quorum queues for work, a stream for the journal."""

from __future__ import annotations

import asyncio
import logging
import math
import zlib
from collections.abc import Iterable, Mapping
from typing import ClassVar
from urllib.parse import parse_qs

from paigeant_core.clock import Clock
from paigeant_core.errors import ConfigError, DuplicateWorkflow, PublishUnknown
from paigeant_core.names import is_own_id
from paigeant_core.transition import Transition
from paigeant_core.transports.rabbitmq.connection import TakenInPart, version_of
from paigeant_core.transports.rabbitmq.consumer import RabbitConsumer
from paigeant_core.transports.rabbitmq.figures import listens
from paigeant_core.transports.rabbitmq.index import Index
from paigeant_core.transports.rabbitmq.mirror import ChosenIds, Mirror
from paigeant_core.transports.rabbitmq.observing import ELSEWHERE
from paigeant_core.transports.rabbitmq.operating import Operating
from paigeant_core.transports.rabbitmq.presence import Presence
from paigeant_core.transports.rabbitmq.topology import Names
from paigeant_core.transports.types import (
    BrokerInfo,
    Capabilities,
    Finding,
    WorkerInfo,
)
from paigeant_core.urls import parse_url

logger = logging.getLogger("paigeant")

_BUCKETS = 16
"""Locks that chosen correlation IDs are spread over."""

CONSUMER_TIMEOUT = 1800.0
"""Seconds after which RabbitMQ takes back what is not acknowledged, where it was not set to anything else."""


class RabbitTransport(Operating):
    """A way to a RabbitMQ broker, 3.10 or newer.

    Args:
        url: ``amqp://`` or ``amqps://``; ``?consumer_timeout=7200`` says what an old broker was set to, in seconds.
        clock: where the time comes from, in place of the machine's.

    Raises:
        ConfigError: the URL cannot be read.
    """

    scheme: ClassVar[str] = "amqp"
    capabilities: ClassVar[Capabilities] = Capabilities(exact_fence=False, backwards=False)

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._consumer_timeout = _consumer_timeout_in(parse_url(url).query)
        self.consumers: set[RabbitConsumer] = set()
        super().__init__(url, clock)

    def _begin(self) -> None:
        super()._begin()
        self.presence = Presence(self._url, self.clock)

    # -- connection ---------------------------------------------------------------------

    async def connect(self) -> None:
        """See :meth:`Transport.connect`."""
        await self._line.connect()

    async def disconnect(self) -> None:
        """See :meth:`Transport.disconnect`."""
        # They need fence and presence to the end.
        await asyncio.gather(*[consumer.close() for consumer in list(self.consumers)])
        line, presence, alarm = self._line, self.presence, self._alarm
        following: list[Mirror | Index] = [*self._fences.values(), *self._ids.values(), *self._indexes.values()]
        self._publisher.close()
        # What is called after this connects anew.
        self._begin()
        for each in following:
            await each.close()
        alarm.close()
        await presence.close()
        await line.close()

    async def broker_info(self) -> BrokerInfo:
        """See :meth:`Transport.broker_info`."""
        await self._line.connect()
        server = self._line.server
        facts = {"virtual_host": self._line.vhost}
        for key in ("cluster_name", "platform", "product"):
            if value := server.get(key):
                facts[key] = str(value)
        return BrokerInfo(broker="RabbitMQ", version=str(server.get("version", "unknown")), facts=facts)

    async def examine(self, topic: str) -> list[Finding]:
        """See :meth:`Transport.examine`."""
        # Here: it brings an HTTP client with it, which nobody else needs.
        from paigeant_core.transports.rabbitmq.examine import examine

        await self._line.connect()
        return await examine(self._line.url, Names(topic), self._line.server, self._line.vhost)

    def check_timeouts(self, timeouts: Mapping[str, float | None]) -> None:
        """See :meth:`Transport.check_timeouts`. From 3.12 on our queues themselves say how long a step may take."""
        version = str(self._line.server.get("version", ""))
        if version_of(version) >= (3, 12):
            return
        limit = self._consumer_timeout
        if long := {name: timeout for name, timeout in timeouts.items() if timeout is not None and timeout >= limit}:
            name, timeout = max(long.items(), key=lambda item: item[1])
            enough = math.ceil(timeout) + 60
            raise ConfigError(
                f"RabbitMQ {version} gives a step that runs for {limit:g} s to another worker, and activity {name!r} "
                f"may run for {timeout:g} s: put the line `consumer_timeout = {enough * 1000}` into rabbitmq.conf, and "
                f"?consumer_timeout={enough} into the URL, which says that it is there"
            )
        if free := sorted(name for name, timeout in timeouts.items() if timeout is None):
            logger.warning(
                "RabbitMQ %s gives a step that runs for %g s to another worker; these activities have no timeout: %s",
                version,
                limit,
                ", ".join(free),
            )

    async def check_settings(self, topic: str, activities: Iterable[str]) -> None:
        """See :meth:`Transport.check_settings`: by the management API, where it answers at once."""
        await self._line.connect()
        if await listens(self._line.url):
            # Here: it brings an HTTP client with it, which takes longer to load than all else.
            from paigeant_core.transports.rabbitmq.policies import refuse

            cluster = str(self._line.server.get("cluster_name", ""))
            await refuse(self._line.url, Names(topic), activities, self._line.vhost, cluster)

    async def delete_topic(self, topic: str) -> None:
        """See :meth:`Transport.delete_topic`."""
        # Here: it brings an HTTP client with it, which nobody else needs.
        from paigeant_core.transports.rabbitmq.removal import remove

        names = Names(topic)
        await self._catch_up_elsewhere(names)
        indexes = [self.journal_index(names), *(self._index(names.stream(stream)) for stream in ELSEWHERE)]
        await indexes[0].catch_up()
        fence = self.fence(names)
        await fence.look()
        activities = {name for index in indexes for name in index.activities}
        await remove(self._line, names, activities, list(fence.nodes))
        self._topology.forget()
        following: list[Mirror | Index] = [
            *(mirrors.pop(topic) for mirrors in (self._fences, self._ids) if topic in mirrors),
            *(self._indexes.pop(queue) for queue in [*self._indexes] if queue.startswith(f"{names.exchange}.")),
        ]
        for each in following:
            await each.close()

    # -- producing and consuming --------------------------------------------------------

    async def dispatch(self, topic: str, transition: Transition, *, chosen_id: bool = True) -> None:
        """See :meth:`Transport.dispatch`."""
        names = Names(topic)
        if not chosen_id:
            await self._start(names, transition)
            return
        correlation_id = transition.record.headers.correlation_id
        ids = self._ids.get(topic)
        if ids is None:
            ids = self._ids[topic] = ChosenIds(self._line, self._topology, self._publisher, names)
        bucket = zlib.crc32(correlation_id.encode()) % _BUCKETS

        async def start(serial: int) -> None:
            # The journal first: a topic that does not exist yet is known by that at once.
            exists = is_own_id(correlation_id) and await self._in_journal(names, correlation_id)
            await ids.catch_up()
            exists = exists or correlation_id in ids.known
            if exists:
                raise DuplicateWorkflow(f"workflow {correlation_id} exists already in topic {topic}; choose another ID")
            await self._start(names, transition, ("ids",), serial=serial)
            ids.note(correlation_id)

        await self._under(names.lock(f"id.{bucket}"), start)

    async def _in_journal(self, names: Names, correlation_id: str) -> bool:
        """Whether an ID that looks like a dispatcher's own is taken; those are in no list."""
        index = self.journal_index(names)
        await index.catch_up()
        return correlation_id in index.workflows

    async def _start(
        self, names: Names, transition: Transition, also: tuple[str, ...] = (), *, serial: int = 0
    ) -> None:
        try:
            await self._publish(names, transition, also, serial=serial)
        except TakenInPart as error:
            raise PublishUnknown(
                f"{error}: workflow {transition.record.headers.correlation_id} may run all the same, "
                "and dispatched again it may run twice"
            ) from None
        except PublishUnknown:
            raise PublishUnknown(
                f"the connection to RabbitMQ at {self._line.where} was lost before it confirmed workflow "
                f"{transition.record.headers.correlation_id}: it may run, and dispatched again it may run twice"
            ) from None

    def consumer(self, topic: str, info: WorkerInfo, *, lease: float) -> RabbitConsumer:
        """See :meth:`Transport.consumer`; the lease is the connection's life."""
        consumer = RabbitConsumer(self, self._url, topic, info)
        self.consumers.add(consumer)
        return consumer


def _consumer_timeout_in(query: str) -> float:
    """What the URL says of the broker's consumer_timeout, in seconds."""
    said = parse_qs(query, keep_blank_values=True).get("consumer_timeout", [str(CONSUMER_TIMEOUT)])[-1]
    try:
        seconds = float(said)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise ConfigError(f"consumer_timeout={ascii(said)[:40]} in the broker URL: it must be a number of seconds")
    return seconds
