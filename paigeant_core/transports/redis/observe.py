"""Looking at a topic without taking anything: journal, histories, figures."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

from redis.exceptions import ResponseError

from paigeant_core.errors import DecodeError
from paigeant_core.journal import ENDED, Kind, Record, State
from paigeant_core.message import Headers, decode_headers
from paigeant_core.names import is_name
from paigeant_core.pauses import Pause, pause_of
from paigeant_core.transition import Place
from paigeant_core.transports.redis.connection import Lines
from paigeant_core.transports.redis.encoding import at_of, body_of, record_of, records_of
from paigeant_core.transports.redis.endpoint import code_of
from paigeant_core.transports.redis.keys import GROUP, Keys
from paigeant_core.transports.redis.lease import read_presence
from paigeant_core.transports.redis.pages import Pages, size_of
from paigeant_core.transports.redis.scripts import HISTORY, Command
from paigeant_core.transports.types import START, QueueStatus, WorkerStatus

_SCAN = 1000
NEWEST_BYTES = 1024 * 1024
"""Bytes of the newest records that are enough: a line that brings fifty kilobytes a second has them in time."""


async def newest(lines: Lines, keys: Keys, limit: int) -> list[Record]:
    """See :meth:`Transport.newest`."""
    found: list[Record] = []
    pages = Pages(limit)
    end, count, room = "+", pages.first, NEWEST_BYTES
    while len(found) < limit and room > 0:
        entries = await lines.one(("XREVRANGE", keys.journal, end, "-", "COUNT", min(count, limit - len(found))))
        if not entries:
            break
        end = f"({entries[-1][0].decode()}"
        found += records_of(entries)
        room -= sum(map(size_of, entries))
        count = pages.next(entries)
    return found[::-1]


async def ahead(lines: Lines, keys: Keys, start: str | float) -> int | None:
    """See :meth:`Transport.ahead`; a stream knows how many entries it has, but not how many stand behind one."""
    return int(await lines.one(("XLEN", keys.journal))) if start == START else None


async def find(lines: Lines, keys: Keys, prefix: str, limit: int) -> list[str]:
    """See :meth:`Transport.find`."""
    if not prefix.isascii():
        return []
    if prefix and await lines.one(("EXISTS", keys.workflow(prefix))):
        return [prefix]
    start = keys.workflow("")
    pattern = _beginning_with(keys.workflow(prefix))
    found: set[str] = set()
    cursor = b"0"
    while len(found) < limit:
        cursor, names = await lines.one(("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN))
        found.update(name.decode("utf-8", "replace")[len(start) :] for name in names)
        if cursor == b"0":
            break
    return sorted(found)[:limit]


def _beginning_with(key: str) -> str:
    """The pattern of all keys that begin so."""
    return re.sub(r"([\\*?\[\]^{}-])", r"\\\1", key) + "*"


async def delete_all(lines: Lines, keys: Keys) -> None:
    """Take away every key of a topic."""
    pattern = _beginning_with(keys.prefix)
    cursor = b"0"
    while True:
        cursor, names = await lines.one(("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN))
        if names:
            await lines.one(("UNLINK", *names))
        if cursor == b"0":
            return


async def history(lines: Lines, keys: Keys, correlation_id: str) -> list[Record]:
    """See :meth:`Transport.history`."""
    found: list[Record] = []
    for _ in range(5):
        found, index = await _chain(lines, keys, correlation_id)
        if not index or any(record.state for record in found) or index["state"] in ENDED:
            break
        # The journal no longer holds where it stands; the message itself does.
        last = await _from_copy(lines, keys, correlation_id, index)
        if last is not None:
            request = _asked(index)
            if request is not None and all(record.id != request.id for record in found):
                found.append(request)
            found.append(last)
            break
        # It moved between the two looks.
    return found[::-1]


async def _chain(lines: Lines, keys: Keys, correlation_id: str) -> tuple[list[Record], dict[str, str]]:
    """A workflow's records, newest first, and what its hash says."""
    position = ""
    found: list[Record] = []
    index: dict[str, str] = {}
    names = (
        *("message", "position", "state", "place", "activity", "entry", "epoch", "run", "hop", "attempt"),
        *("asked", "asked_of", "asked_meta"),
    )
    while True:
        known, entries, position = await lines.one(
            HISTORY([keys.journal, keys.workflow(correlation_id)], [position, 200, 4 * 1024 * 1024])
        )
        if known:
            # The bytes of a delayed message are asked for where they are needed.
            index = {name: (value or b"").decode("utf-8", "replace") for name, value in zip(names, known, strict=False)}
        found += records_of(entries)
        if not position:
            return found, index


def _asked(index: dict[str, str]) -> Record | None:
    """What is asked of the step that the workflow stands at; None: nothing is, or it cannot be read."""
    if index["asked"] != index["message"]:
        return None
    try:
        return Record.decode(index["asked_meta"].encode(), None, "")
    except DecodeError:
        return None


async def _from_copy(lines: Lines, keys: Keys, correlation_id: str, index: dict[str, str]) -> Record | None:
    """The last record that named a state, put together from the workflow's current message."""
    place, entry = index["place"], index["entry"]
    if place in (Place.DEAD, Place.HELD, Place.QUARANTINE):
        entries = await lines.one(("XRANGE", keys.parked(Place(place)), entry, entry))
        return record_of(entries[0], parked=True) if entries else None
    body: bytes | None = None
    if place == Place.DELAYED:
        body = await lines.one(("HGET", keys.workflow(correlation_id), "bytes"))
    elif place == Place.WORK:
        entries = await lines.one(("XRANGE", keys.work(index["activity"]), entry, entry))
        body = body_of(entries[0][1])[0] if entries else None
    if body is None:
        return None
    try:
        headers: Headers = decode_headers(body)
    except DecodeError:
        return None
    kinds: dict[str, Kind] = {State.RETRYING: Kind.RETRYING, State.COMPENSATING: Kind.COMPENSATING}
    state = index["state"]
    kind = kinds.get(state, Kind.ADVANCED if headers.steps_done else Kind.DISPATCHED)
    message, position = index["message"], index["position"]
    at = at_of(position)
    if index["asked"] == message:
        # The fence stands at the request; where the step's own record stood nobody knows.
        message, position, at = index["asked_of"], "", at_of(entry)
    return Record(
        kind,
        headers,
        state=state,
        detail={"trimmed": True},
        body=body,
        id=message,
        position=position,
        at=at,
    )


async def queues(lines: Lines, keys: Keys) -> list[QueueStatus]:
    """See :meth:`Transport.queues`."""
    members, delayed, alive, paused = await asyncio.gather(
        lines.one(("SMEMBERS", keys.activities)),
        lines.one(("HGETALL", keys.counts)),
        workers(lines, keys),
        pauses(lines, keys),
    )
    waiting = {name.decode("utf-8", "replace"): int(n) for name, n in zip(delayed[::2], delayed[1::2], strict=True)}
    served = [set(status.info.activities) for status in alive]
    names = sorted(
        set(filter(is_name, (member.decode("utf-8", "replace") for member in members)))
        | {name for name, number in waiting.items() if number > 0}
        | {name for names in served for name in names}
        | set(paused)
    )
    if not names:
        return []
    asked: list[Command] = [("TIME",)]
    for name in names:
        asked += [("XLEN", keys.work(name)), ("XINFO", "GROUPS", keys.work(name))]
    answers = await lines.ask(*asked)
    now = int(answers[0][0]) + int(answers[0][1]) / 1e6
    figures: list[tuple[str, int, int, str]] = []
    for index, name in enumerate(names):
        length, groups = answers[1 + 2 * index : 3 + 2 * index]
        length = length if isinstance(length, int) else 0
        pending, last = _group(groups)
        figures.append((name, max(0, length - pending), pending, last))
    firsts = await lines.ask(
        *[("XRANGE", keys.work(name), f"({last}", "+", "COUNT", 1) for name, _, _, last in figures]
    )
    return [
        QueueStatus(
            activity=name,
            ready=ready,
            in_flight=pending,
            delayed=max(0, waiting.get(name, 0)),
            consumers=sum(name in own or not own for own in served),
            oldest_s=max(0.0, now - at_of(first[0][0].decode())) if isinstance(first, list) and first else None,
            paused=paused.get(name),
        )
        for (name, ready, pending, _), first in zip(figures, firsts, strict=True)
    ]


async def pauses(lines: Lines, keys: Keys) -> dict[str, Pause]:
    """See :meth:`Transport.pauses`."""
    flat = await lines.one(("HGETALL", keys.paused))
    found = (pause_in(meta) for meta in flat[1::2])
    return {pause.activity: pause for pause in found if pause is not None}


def pause_in(meta: bytes | None) -> Pause | None:
    """The pause that is kept as the record that began it; None: there is none, or it cannot be read."""
    try:
        return None if meta is None else pause_of(Record.decode(meta, None, position=""))
    except DecodeError:
        return None


def _group(groups: object) -> tuple[int, str]:
    """How many messages workers hold, and which was handed out last."""
    if isinstance(groups, list):
        for flat in groups:
            group = dict(zip(flat[::2], flat[1::2], strict=False))
            if group.get(b"name") == GROUP.encode():
                return int(group[b"pending"]), group[b"last-delivered-id"].decode()
    return 0, "0-0"


async def workers(lines: Lines, keys: Keys) -> list[WorkerStatus]:
    """See :meth:`Transport.workers`."""
    return [status for status, lease in await _reports(lines, keys, keys.workers) if status.last_seen_s <= lease]


async def silent(lines: Lines, keys: Keys) -> list[WorkerStatus]:
    """See :meth:`Transport.silent`."""
    reports = await _reports(lines, keys, keys.gone, keys.workers)
    return [status for status, lease in reports if status.last_seen_s > lease]


_REFUSALS = {
    "OOM": "Redis is out of memory (maxmemory)",
    "READONLY": "this Redis server is a replica",
    "MISCONF": "Redis could not save to its disk",
    "NOREPLICAS": "Redis has too few replicas (min-replicas-to-write)",
}
"""By the code of its answer: why a server takes no writes."""


async def refusal(lines: Lines, keys: Keys) -> str | None:
    """See :meth:`Transport.refusal`; None: this user may not write, and cannot know."""
    # XX: only where it exists, which it never does.
    (answer,) = await lines.ask(("SET", keys.nothing, "", "XX", "PX", 1))
    if not isinstance(answer, ResponseError):
        return ""
    code = code_of(answer)
    return None if code == "NOPERM" else _REFUSALS.get(code, "")


async def _reports(lines: Lines, keys: Keys, *lists: str) -> list[tuple[WorkerStatus, float]]:
    """What the workers on some lists said last, and the lease of each; one that is on two is as the last has it."""
    *scored, server_time = await lines.call(*[("ZRANGE", key, 0, -1, "WITHSCORES") for key in lists], ("TIME",))
    now = int(server_time[0]) + int(server_time[1]) / 1e6
    seen = {name: float(at) for flat in scored for name, at in zip(flat[::2], flat[1::2], strict=True)}
    if not seen:
        return []
    names = [name.decode("utf-8", "replace") for name in sorted(seen)]
    words = await lines.one(("MGET", *[keys.worker(name) for name in names]))
    found = []
    for word, at in zip(words, (seen[name] for name in sorted(seen)), strict=True):
        said = read_presence(word)
        if said is not None:
            quiet = max(0.0, now - at / 1000)
            found.append((WorkerStatus(info=said.info, running=tuple(said.running), last_seen_s=quiet), said.lease))
    return found


async def parked_batches(lines: Lines, keys: Keys, place: Place, limit: int) -> AsyncIterator[list[Record]]:
    """See :meth:`Transport.parked_batches`."""
    stream = keys.parked(place)
    pages = Pages(limit)
    left = limit
    entries = await lines.one(("XREVRANGE", stream, "+", "-", "COUNT", pages.first))
    while entries and left > 0:
        end = f"({entries[-1][0].decode()}"
        read = [(entry[0], record_of(entry, parked=True)) for entry in entries]
        known = [(entry, record) for entry, record in read if record is not None]
        # Where they stand now is asked with the next page: the line may be long, and each takes a round trip.
        entries, *where = await lines.ask(
            ("XREVRANGE", stream, end, "-", "COUNT", pages.next(entries)),
            *[("HMGET", keys.workflow(record.headers.correlation_id), "place", "entry") for _, record in known],
        )
        if isinstance(entries, ResponseError):
            raise lines.endpoint.refused(entries)
        found = [
            record
            for (entry, record), at in zip(known, where, strict=True)
            if not isinstance(at, ResponseError) and at == [place.value.encode(), entry]
        ][:left]
        left -= len(found)
        if found:
            yield found
