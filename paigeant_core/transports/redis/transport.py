"""The transport on Redis Streams: Redis 6.2 or newer, or Valkey."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

from redis.exceptions import ResponseError

from paigeant_core.clock import Clock
from paigeant_core.errors import DuplicateWorkflow, PublishUnknown, Unsupported
from paigeant_core.journal import Record
from paigeant_core.limits import JOURNAL_AGE, PARKED_AGE
from paigeant_core.names import new_id
from paigeant_core.pauses import PAUSE, Pause, switch_in
from paigeant_core.transition import Place, Transition
from paigeant_core.transports.base import Transport
from paigeant_core.transports.following import Follower
from paigeant_core.transports.redis import observe, reading
from paigeant_core.transports.redis.connection import Lines
from paigeant_core.transports.redis.consumer import RedisConsumer
from paigeant_core.transports.redis.encoding import Move, ask, erase, move
from paigeant_core.transports.redis.endpoint import Endpoint, LineLost
from paigeant_core.transports.redis.examine import examine
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.scripts import AUDIT, SWITCH, Command
from paigeant_core.transports.types import (
    START,
    BrokerInfo,
    Erased,
    Finding,
    QueueStatus,
    Settled,
    WorkerInfo,
    WorkerStatus,
)
from paigeant_core.urls import mask_url, parse_url

OLDEST = (6, 2)
_VERSION = re.compile(r"(\d+)\.(\d+)")
_OPERATED = (Settled.DONE, Settled.ALREADY, Settled.SUPERSEDED, Settled.SUPERSEDED, Settled.CLAIMED)
"""What the answers of a move and of a request mean to an operator."""
_BLOCKS = (
    "no command that reads a stream gives it any more, but the bytes of deleted entries lie in memory, snapshot and "
    "append-only file until all entries of their block (4 KiB, or 100 entries) are trimmed"
)
_FACTS = ("redis_mode", "maxmemory_policy", "maxmemory_human", "used_memory_human", "aof_enabled", "os")


class RedisTransport(Transport):
    """A way to one Redis server.

    Args:
        url: ``redis://`` or ``rediss://``.
        clock: the local one, for what a worker says of itself; journal and delays go by
            the server's.

    Raises:
        ConfigError: the URL cannot be read.
    """

    scheme: ClassVar[str] = "redis"

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        parse_url(url)
        super().__init__(mask_url(url), clock)
        self._endpoint = Endpoint(url)
        self._lines = Lines(self._endpoint)
        self._keys: dict[str, Keys] = {}
        self._known: set[tuple[str, str]] = set()
        self._consumers: set[RedisConsumer] = set()
        self._may_try = True
        """Whether this user may write, as far as is known."""

    def keys(self, topic: str) -> Keys:
        """The names of a topic's keys."""
        found = self._keys.get(topic)
        if found is None:
            found = self._keys[topic] = Keys(topic)
        return found

    @property
    def skipped(self) -> int:
        """Journal entries that this transport read and that were no records."""
        return self._lines.skipped

    # -- connection ---------------------------------------------------------------------

    async def connect(self) -> None:
        """See :meth:`Transport.connect`."""
        await self._lines.one(("PING",))
        info = await self.broker_info()
        match = _VERSION.match(info.version)
        if match is not None and tuple(map(int, match.groups())) < OLDEST and info.broker == "Redis":
            raise Unsupported(f"Redis at {self._endpoint.address} is {info.version}; Paigeant needs 6.2 or newer")

    async def disconnect(self) -> None:
        """See :meth:`Transport.disconnect`."""
        await asyncio.gather(*[consumer.close() for consumer in list(self._consumers)])
        self._lines.close()

    async def broker_info(self) -> BrokerInfo:
        """See :meth:`Transport.broker_info`."""
        (answer,) = await self._lines.ask(("INFO",))
        said: dict[str, str] = {}
        if not isinstance(answer, ResponseError):
            for line in answer.decode("utf-8", "replace").splitlines():
                name, colon, value = line.partition(":")
                if colon:
                    said[name] = value
        facts = {name: said[name] for name in _FACTS if name in said}
        if "valkey_version" in said:
            return BrokerInfo(broker="Valkey", version=said["valkey_version"], facts=facts)
        # INFO may be forbidden to this user.
        return BrokerInfo(broker="Redis", version=said.get("redis_version", "unknown"), facts=facts)

    async def examine(self, topic: str) -> list[Finding]:
        """See :meth:`Transport.examine`."""
        return await examine(self._lines, self.keys(topic), self.clock)

    # -- producing and consuming --------------------------------------------------------

    async def dispatch(self, topic: str, transition: Transition, *, chosen_id: bool = True) -> None:
        """See :meth:`Transport.dispatch`."""
        keys = self.keys(topic)
        headers = transition.record.headers
        activity = (topic, headers.activity)
        item = Move(keys, "dispatch", transition, fresh=activity not in self._known)
        if self._code(await self._once(move(keys, [item]))) == 3:
            raise DuplicateWorkflow(
                f"workflow {headers.correlation_id} exists already in topic {topic}; choose another ID"
            )
        self._known.add(activity)

    def consumer(self, topic: str, info: WorkerInfo, *, lease: float) -> RedisConsumer:
        """See :meth:`Transport.consumer`."""
        consumer = RedisConsumer(
            self._endpoint, self.keys(topic), topic, info, lease, self.clock, self._known, self._consumers.discard
        )
        self._consumers.add(consumer)
        return consumer

    # -- observing ----------------------------------------------------------------------

    def records(
        self, topic: str, *, start: str | float = START, follow: bool = False, follower: Follower | None = None
    ) -> AsyncIterator[list[Record]]:
        """See :meth:`Transport.records`."""
        return reading.records(self._lines, self.keys(topic), start, follow, follower or Follower())

    async def newest(self, topic: str, limit: int) -> list[Record]:
        """See :meth:`Transport.newest`."""
        return await observe.newest(self._lines, self.keys(topic), limit)

    async def ahead(self, topic: str, start: str | float) -> int | None:
        """See :meth:`Transport.ahead`."""
        return await observe.ahead(self._lines, self.keys(topic), start)

    async def find(self, topic: str, prefix: str, limit: int = 5) -> list[str]:
        """See :meth:`Transport.find`."""
        return await observe.find(self._lines, self.keys(topic), prefix, limit)

    async def history(self, topic: str, correlation_id: str) -> list[Record]:
        """See :meth:`Transport.history`."""
        return await observe.history(self._lines, self.keys(topic), correlation_id)

    async def queues(self, topic: str) -> list[QueueStatus]:
        """See :meth:`Transport.queues`."""
        return await observe.queues(self._lines, self.keys(topic))

    async def workers(self, topic: str) -> list[WorkerStatus]:
        """See :meth:`Transport.workers`."""
        return await observe.workers(self._lines, self.keys(topic))

    async def silent(self, topic: str) -> list[WorkerStatus]:
        """See :meth:`Transport.silent`."""
        return await observe.silent(self._lines, self.keys(topic))

    async def refusal(self, topic: str) -> str:
        """See :meth:`Transport.refusal`."""
        if not self._may_try:
            return ""
        said = await observe.refusal(self._lines, self.keys(topic))
        # A user that may not write is not to fill the server's log with it.
        self._may_try = said is not None
        return said or ""

    async def parked(self, topic: str, place: Place, limit: int = 1000) -> list[Record]:
        """See :meth:`Transport.parked`."""
        return [record async for batch in self.parked_batches(topic, place, limit) for record in batch]

    def parked_batches(self, topic: str, place: Place, limit: int = 1000) -> AsyncIterator[list[Record]]:
        """See :meth:`Transport.parked_batches`."""
        return observe.parked_batches(self._lines, self.keys(topic), place, limit)

    # -- acting -------------------------------------------------------------------------

    async def operate(
        self, topic: str, transition: Transition, *, expect: str, unless_claimed: bool = False
    ) -> Settled:
        """See :meth:`Transport.operate`."""
        keys = self.keys(topic)
        item = Move(keys, "unclaimed" if unless_claimed else "operate", transition, expect=expect, fresh=True)
        return _OPERATED[self._code(await self._once(move(keys, [item])))]

    async def request(self, topic: str, asked: Record, *, expect: str) -> Settled:
        """See :meth:`Transport.request`."""
        return _OPERATED[self._code(await self._once(ask(self.keys(topic), asked, expect)))]

    async def switch(self, topic: str, record: Record) -> Pause | None:
        """See :meth:`Transport.switch`."""
        keys, activity = self.keys(topic), record.headers.activity
        pausing = int(switch_in(record) == PAUSE)
        try:
            answer = await self._lines.one(
                SWITCH([keys.journal, keys.paused, keys.resumed], [pausing, activity, record.encode_meta()])
            )
        except LineLost as error:
            if error.sent:
                raise PublishUnknown(f"{error}; whether it was done is not known") from None
            raise
        return observe.pause_in(answer)

    async def pauses(self, topic: str) -> dict[str, Pause]:
        """See :meth:`Transport.pauses`."""
        return await observe.pauses(self._lines, self.keys(topic))

    async def announce(self, topic: str, schemas: Mapping[str, bytes]) -> None:
        """See :meth:`Transport.announce`."""
        words = [word for item in schemas.items() for word in item]
        await self._lines.one(("HSET", self.keys(topic).schemas, *words))

    async def schemas(self, topic: str) -> dict[str, bytes]:
        """See :meth:`Transport.schemas`."""
        flat = await self._lines.one(("HGETALL", self.keys(topic).schemas))
        names = (name.decode("utf-8", "replace") for name in flat[::2])
        return {name: bytes(schema) for name, schema in zip(names, flat[1::2], strict=True) if schema}

    async def delete_topic(self, topic: str) -> None:
        """See :meth:`Transport.delete_topic`."""
        await observe.delete_all(self._lines, self.keys(topic))
        self._known = {known for known in self._known if known[0] != topic}

    async def erase(self, topic: str, marker: Record, *, expect: str) -> Erased:
        """See :meth:`Transport.erase`; what Redis has deleted of a stream lies in its memory until the block goes."""
        code, records, parked = await self._once(erase(self.keys(topic), marker, expect))
        settled = _OPERATED[self._code(code)]
        if settled is not Settled.DONE:
            return Erased(settled=settled)
        kept = PARKED_AGE if parked else JOURNAL_AGE
        return Erased(
            settled=settled,
            records=int(records),
            parked=int(parked),
            remains=(_BLOCKS,),
            until=self.clock.now() + kept,
        )

    async def append_audit(self, topic: str, entry: bytes, *, follows: bytes | None = None) -> bool:
        """See :meth:`Transport.append_audit`."""
        return await self._keep(self.keys(topic).audit, entry, follows)

    async def audit(self, topic: str, limit: int = 1000) -> list[bytes]:
        """See :meth:`Transport.audit`."""
        return await self._kept(self.keys(topic).audit, limit)

    async def append_operation(self, topic: str, entry: bytes) -> None:
        """See :meth:`Transport.append_operation`."""
        await self._keep(self.keys(topic).operations, entry)

    async def operation_entries(self, topic: str, limit: int = 1000) -> list[bytes]:
        """See :meth:`Transport.operation_entries`."""
        return await self._kept(self.keys(topic).operations, limit)

    async def _keep(self, key: str, entry: bytes, follows: bytes | None = None) -> bool:
        # Which entry is meant, no safeguard: what an entry follows is in the entry, as SHA-256.
        known = "" if follows is None else hashlib.sha1(follows, usedforsecurity=False).hexdigest()
        return bool(await self._lines.one(AUDIT([key], [new_id(), entry, known])) != 2)

    async def _kept(self, key: str, limit: int) -> list[bytes]:
        entries = await self._lines.one(("XREVRANGE", key, "+", "-", "COUNT", limit))
        named = [dict(zip(fields[::2], fields[1::2], strict=False)) for _, fields in reversed(entries)]
        return [fields[b"e"] for fields in named if b"e" in fields]

    async def _once(self, command: Command) -> Any:
        """The answer to what is done once however often it is sent."""
        try:
            return await self._lines.one(command)
        except LineLost as error:
            self._known.clear()
            if error.sent:
                raise PublishUnknown(f"{error}; whether it was done is not known") from None
            raise

    def _code(self, answer: Any) -> int:
        """What a script says came of the one thing that it was asked for."""
        (code,) = answer if isinstance(answer, list) else (answer,)
        if isinstance(code, ResponseError):
            raise self._endpoint.refused(code)
        return int(code)
