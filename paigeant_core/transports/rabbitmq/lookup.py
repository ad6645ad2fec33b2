"""Looking into the streams for what became of a copy."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from paigeant_core.clock import parse_rfc3339
from paigeant_core.errors import DecodeError
from paigeant_core.journal import Record
from paigeant_core.message import Headers, decode_headers
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.connection import Line, Message, Missing
from paigeant_core.transports.rabbitmq.mirror import Fence
from paigeant_core.transports.rabbitmq.streams import EMPTY_AFTER, Reading, silent, up_to_now
from paigeant_core.transports.rabbitmq.topology import Names

SKEW = 30.0
"""Seconds by which two machines' clocks may differ; a worker that is further off does not claim."""


def headers_in(message: Message) -> Headers | None:
    """The headers of the message in a delivery; None: it is none."""
    try:
        return decode_headers(wire.body_of(message) or b"")
    except DecodeError:
        return None


def made_at(headers: Headers) -> float | None:
    """When a message was made, by its maker's clock; None: it does not say."""
    try:
        return parse_rfc3339(headers.timestamp)
    except ValueError:
        return None


async def handed_on(line: Line, names: Names, copies: Sequence[Message], now: float, mark: str) -> dict[str, Record]:
    """The records by which some of ``copies`` were handed on, by the copies' IDs.

    That is a record that names the copy as the one it settles, or any later word on where
    the workflow stands: after a crash of the broker a record can be missing in between.
    The journal is read from the time of the oldest copy on, and what that costs is what
    was written since, so many are looked up at once. Where that time was too late, by a clock
    that is ahead, the journal is read from its beginning.

    Args:
        line: over which.
        names: of the topic.
        copies: as they came. A foreign one does not say when it was made, and is in no record.
        now: by the looker's clock.
        mark: what has just been written into the journal.

    Raises:
        ConnectError: the journal cannot be read now, or not up to the mark: one of a cluster's nodes that is behind
            does not know yet what became of a copy.
    """
    wanted: dict[str, Headers] = {}
    made: list[float] = []
    for message in copies:
        headers = headers_in(message)
        if headers is not None and (at := made_at(headers)) is not None:
            wanted[wire.copy_of(message)] = headers
            made.append(at)
    found: dict[str, Record] = {}
    if not made:
        return found
    keys: dict[str, list[str]] = {}
    for key, headers in wanted.items():
        keys.setdefault(headers.correlation_id, []).append(key)
    seen: set[str] = set()
    complete = False
    try:
        # Nobody looks at a dispatcher's clock. Where the record that made a copy does not come by, this began too late.
        for start in (min(*made, now) - SKEW, "first"):
            async for batch in up_to_now(line, names.journal, start, sure=True):
                for message in batch:
                    complete = complete or message.header.properties.message_id == mark
                    _note(message, keys, wanted, seen, found)
            if wanted.keys() <= seen | found.keys():
                break
    except Missing:
        return found  # the topic was deleted
    if not complete:
        raise silent(line, names.journal)
    return found


def _note(
    message: Message,
    keys: dict[str, list[str]],
    wanted: dict[str, Headers],
    seen: set[str],
    found: dict[str, Record],
) -> None:
    own = keys.get(message.header.properties.correlation_id or "")
    previous = wire.headers_of(message).get(wire.PREVIOUS)
    if not isinstance(previous, str) or previous not in wanted:
        previous = ""
    if own is None and not previous:
        return
    record = wire.record_of(message)
    if record is None:
        return
    if previous:
        found.setdefault(previous, record)
    for key in own or ():
        if wire.copy_of(message) == key:
            seen.add(key)
        elif key in seen and record.state and record.headers.epoch >= wanted[key].epoch:
            found.setdefault(key, record)


async def is_held(line: Line, names: Names, fence: Fence, timer: wire.Timer) -> bool | None:
    """Whether a workflow is still held as it was when the timer was set; None: nobody can tell any more.

    Nothing but an operator or a timer moves a held workflow, and both tell the fence. A timer is published ahead of its
    hold, so there may be none. Then it is in no stream that reaches back as far; one that does not may have dropped it.

    Args:
        line: over which.
        names: of the topic.
        fence: up to date.
        timer: the deadline.
    """
    headers = timer.transition.record.headers
    last = fence.last(headers.correlation_id)
    if last is not None and (last.epoch > headers.epoch or last.timer == timer.held):
        return False
    for queue in (names.stream("held"), names.journal):
        found = await _has_hold(line, queue, timer)
        if found is not None:
            return found
    return None


async def _has_hold(line: Line, queue: str, timer: wire.Timer) -> bool | None:
    workflow = timer.transition.record.headers.correlation_id
    try:
        async for batch in up_to_now(line, queue, timer.since - SKEW):
            for message in batch:
                if message.header.properties.correlation_id in (workflow, "", None):
                    record = wire.record_of(message)
                    if record is not None and record.id == timer.held:
                        return True
        begins = await _begin_of(line, queue)
    except Missing:
        return None
    return False if begins <= timer.since else None


async def _begin_of(line: Line, queue: str) -> float:
    """The time of the first record in a stream."""
    reading = await Reading.attach(line, queue, "first")
    try:
        for message in await reading.batch(EMPTY_AFTER):
            if (record := wire.record_of(message)) is not None:
                return record.at
        return inf
    finally:
        await reading.close()


async def moved_on(line: Line, names: Names, record: Record, but: Sequence[Record] = ()) -> bool:
    """Whether the journal says anything later of where a workflow stands.

    Args:
        line: over which.
        names: of the topic.
        record: of the workflow, with its position.
        but: records that do not count.
    """
    ours = {each.id for each in but}
    headers = record.headers
    async for batch in up_to_now(line, names.journal, int(record.position) + 1):
        for message in batch:
            later = wire.record_of(message)
            if (
                later is not None
                and later.state
                and later.id not in ours
                and later.headers.correlation_id == headers.correlation_id
                and later.headers.epoch >= headers.epoch
            ):
                return True
    return False
