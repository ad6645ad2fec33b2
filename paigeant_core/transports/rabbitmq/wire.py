"""Records and messages as they travel on AMQP: what goes into body, properties and headers.

One publish is two things at once: the journal's record, and the next work message.
The body is the message's bytes; the record's meta is the AMQP header ``r``, so that
a page of RabbitMQ's own shows it as text. AMQP properties repeat what people look for
(correlation ID, message ID, kind); they are never an authority.

Every physical copy has an ID, the AMQP message ID. A record that settles a copy names
it in the header ``prev``: that is how a copy that comes again is found out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from pamqp.common import FieldTable

from paigeant_core.errors import DecodeError
from paigeant_core.journal import MAX_TIME, Record
from paigeant_core.names import new_id
from paigeant_core.transition import Place, Transition
from paigeant_core.transports.rabbitmq.connection import Message, Properties
from paigeant_core.transports.rabbitmq.frames import OFFSET, Outgoing
from paigeant_core.transports.rabbitmq.topology import PLACES, Names, rung_for

RECORD = "r"
PREVIOUS = "prev"
"""The copy that this record settles."""
DUE = "due"
"""When a delayed copy is due, milliseconds since the epoch by its maker's clock."""
REST = "rest"
"""Milliseconds that it had yet to wait when it left for this rung: two clocks may differ."""
DEATHS = "deaths"
"""Deaths that were counted before the copy was handed back."""
AGAIN = "again"
"""A copy that was handed back: like one redelivered, it is looked up before it runs."""
TWICE = "twice"
"""Said under AGAIN: there may be another one of it on its way through the ladder, which does not say so."""
TIMER = "timer"
"""A hold's deadline: the ID of the record that holds."""
PLACE = "place"
"""Where the message goes when the deadline has come."""
SINCE = "since"
"""When the hold began, milliseconds since the epoch."""
MARK = "mark"
"""A mark in a stream, by which its writer knows that it has read up to now."""
BOOT = "boot"
"""A mark in the fence: a node of the broker was restarted before this time, milliseconds since the epoch."""
NODE = "node"
"""A queue that a worker left on a node, and that tells of its death by being empty or gone."""
OVER = "over"
"""It was taken away, and tells nothing."""
WORKER = "worker"
SCHEMA = "schema"
_BARE = "bare"
"""The record has no body, which is not the same as an empty one."""
_SPLIT = "split"
"""The meta was too long for a header: the body begins with so many bytes of it."""

LONGEST_META = 32 * 1024
"""AMQP headers must fit into one frame, 128 KiB in all."""

_OWN_FLOW = frozenset({PREVIOUS, DUE, REST, DEATHS, AGAIN, RECORD, TIMER, PLACE, SINCE, _BARE, _SPLIT})
_TIMER_PLACES = frozenset(map(str, (Place.WORK, Place.DEAD, Place.NOWHERE)))
_SHORT = 255
_MAX_MILLIS = int(MAX_TIME * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """A hold's deadline.

    Attributes:
        held: the record that holds.
        since: when it was made.
        transition: what becomes of the workflow.
    """

    held: str
    since: float
    transition: Transition


def journalled(
    names: Names,
    record: Record,
    key: str,
    *,
    prev: str = "",
    copy: str = "",
    also: Sequence[str] = (),
    headers: FieldTable | None = None,
) -> Outgoing:
    """The publish that journals ``record`` and carries its body wherever ``key`` leads.

    Args:
        names: of the topic.
        record: what to journal.
        key: routing key.
        prev: the copy that it settles.
        copy: the ID of the new copy; else the record's own.
        also: more routing keys (``fence``, ``ids``); RabbitMQ strips them.
        headers: more AMQP headers.
    """
    table: FieldTable = dict(headers) if headers else {}
    meta = record.encode_meta()
    body = record.body
    if body is None:
        table[_BARE] = True
        body = b""
    if len(meta) > LONGEST_META:
        table[_SPLIT] = len(meta)
        body = meta + body
    else:
        table[RECORD] = meta.decode()
    if prev:
        table[PREVIOUS] = prev
    if also:
        table["BCC"] = list(also)
    properties = Properties(
        delivery_mode=2,
        headers=table,
        correlation_id=_short(record.headers.correlation_id),
        message_id=_short(copy or record.id) or new_id(),
        message_type=_short(str(record.kind)),
        app_id="paigeant",
    )
    return Outgoing(names.exchange, key, body, properties)


def plain(names: Names, record: Record, *, prev: str = "", also: Sequence[str] = ()) -> Outgoing:
    """The publish of a record that moves no message."""
    return journalled(names, record, f"journal.{record.kind}", prev=prev, also=also)


def delay_headers(seconds: float, rung: int, now: float) -> FieldTable:
    """Headers of a copy that waits ``seconds``, the first ``rung`` milliseconds of it in a rung."""
    return {DUE: int((now + seconds) * 1000), REST: max(0, round(seconds * 1000) - rung)}


def remaining(headers: Mapping[str, Any], now: float) -> float:
    """Seconds that a delayed copy has yet to wait; 0 or less: it is due, or what it says is no time."""
    due, rest = headers.get(DUE), headers.get(REST)
    if not _is_millis(due) or not _is_millis(rest):
        return 0.0
    # By the clock, but never longer than was left: the two clocks may not agree.
    return min(due / 1000 - now, rest / 1000)


def rest_of(headers: Mapping[str, Any]) -> float:
    """Seconds that a delayed copy had yet to wait when it left for the rung that it came out of; 0: it is none."""
    rest = headers.get(REST)
    return rest / 1000 if _is_millis(rest) else 0.0


def moved(
    names: Names,
    transition: Transition,
    *,
    now: float,
    prev: str = "",
    copy: str = "",
    queue: str = "",
    also: Sequence[str] = (),
    headers: FieldTable | None = None,
) -> list[Outgoing]:
    """The publishes that carry out ``transition``, in order.

    Args:
        names: of the topic.
        transition: what to carry out.
        now: by the publisher's clock.
        prev: the copy that it settles.
        copy: the ID of the new copy; else the record's own.
        queue: the activity whose queue gets the message or its timer; else its own.
        also: more routing keys for the message, see :func:`journalled`.
        headers: more AMQP headers.
    """
    record = transition.record
    activity = queue or record.headers.activity
    table: FieldTable = dict(headers) if headers else {}
    items = [plain(names, before) for before in transition.before]
    if transition.place is Place.NOWHERE:
        key = f"journal.{record.kind}"
    elif (parked := PLACES.get(transition.place)) is not None:
        key = f"{parked}.{record.headers.activity}"
        if transition.deadline is not None:
            # Ahead of the hold: a timer without its hold is dropped, a hold without its timer would stay.
            items.append(_timer(names, transition, activity, now))
    else:
        key = f"work.{activity}"
        if transition.place is Place.DELAYED and (rung := rung_for(transition.delay)) is not None:
            key = f"delay.{rung}.{activity}"
            table.update(delay_headers(transition.delay, rung, now))
    items.append(journalled(names, record, key, prev=prev, copy=copy, also=also, headers=table))
    return items


def _timer(names: Names, transition: Transition, activity: str, now: float) -> Outgoing:
    deadline = transition.deadline
    assert deadline is not None
    table: FieldTable = {
        TIMER: transition.record.id,
        PLACE: str(deadline.place),
        SINCE: int(transition.record.at * 1000),
    }
    rung = rung_for(deadline.delay)
    if rung is None:
        key = f"work.{activity}"
    else:
        key = f"delay.{rung}.{activity}"
        table.update(delay_headers(deadline.delay, rung, now))
    timer = journalled(names, deadline.record, key, copy=new_id(), headers=table)
    return timer._replace(exchange=names.due if rung is None else names.delay)


def again(message: Message, exchange: str, key: str, headers: FieldTable) -> Outgoing:
    """The same copy, put elsewhere without a word to the journal.

    Args:
        message: the copy as it came.
        exchange: where to publish it.
        key: routing key.
        headers: what changes in its headers.
    """
    old = message.header.properties
    # What the broker itself put in (x-death, x-delivery-count) would grow from round to round.
    # Ours are texts and numbers; a foreign publisher's may be what cannot be written again, as bytes that are no text.
    kept = {
        key: value for key, value in headers_of(message).items() if key in _OWN_FLOW and isinstance(value, str | int)
    }
    properties = Properties(
        delivery_mode=2,
        headers={**kept, **headers},
        correlation_id=old.correlation_id,
        message_id=old.message_id or new_id(),
        message_type=old.message_type,
        app_id=old.app_id,
    )
    return Outgoing(exchange, key, message.body, properties)


def mark(queue: str, identity: str) -> Outgoing:
    """A mark in a stream, put there past every exchange."""
    properties = Properties(delivery_mode=2, headers={MARK: identity}, app_id="paigeant", message_id=identity)
    return Outgoing("", queue, b"", properties)


def boot(queue: str, now: float, lost: str = "") -> Outgoing:
    """A mark that a node of the broker was restarted; ``lost`` is the queue that told of it."""
    headers: FieldTable = {BOOT: int(now * 1000)}
    if lost:
        headers[NODE] = lost
    properties = Properties(
        delivery_mode=2, headers=headers, app_id="paigeant", message_id=new_id(), message_type="boot"
    )
    return Outgoing("", queue, b"", properties)


def witness(queue: str) -> Outgoing:
    """What lies in a queue that tells of a node's death: it does not survive it, as all else of ours does."""
    return Outgoing("", queue, b"", Properties(delivery_mode=1, app_id="paigeant", message_id=new_id()))


def node_mark(queue: str, name: str, worker: str, *, over: bool = False) -> Outgoing:
    """What the fence is told of a queue that tells of a node's death."""
    headers: FieldTable = {NODE: name, WORKER: worker}
    if over:
        headers[OVER] = True
    properties = Properties(
        delivery_mode=2, headers=headers, app_id="paigeant", message_id=new_id(), message_type="node"
    )
    return Outgoing("", queue, b"", properties)


def schema(queue: str, activity: str, text: bytes) -> Outgoing:
    """What payloads an activity takes."""
    properties = Properties(
        delivery_mode=2,
        headers={SCHEMA: activity},
        app_id="paigeant",
        message_id=new_id(),
        message_type="schema",
    )
    return Outgoing("", queue, text, properties)


def direct(queue: str, body: bytes) -> Outgoing:
    """Bytes for a queue, put there past every exchange."""
    return Outgoing("", queue, body, Properties(delivery_mode=2, app_id="paigeant", message_id=new_id()))


# -- reading ------------------------------------------------------------------------------


def headers_of(message: Message) -> Mapping[str, Any]:
    """The AMQP headers of a delivery; never None."""
    return message.header.properties.headers or {}


def offset_of(message: Message) -> int:
    """Where in its stream a delivery stands."""
    offset = headers_of(message).get(OFFSET)
    return offset if isinstance(offset, int) else -1


def copy_of(message: Message) -> str:
    """The ID of this copy; of a foreign one without an ID, what its bytes come to."""
    identity = message.header.properties.message_id
    return identity or "sha-" + hashlib.sha256(message.body).hexdigest()[:32]


def body_of(message: Message) -> bytes | None:
    """The message's bytes as they were given, or None where the record had none."""
    headers = headers_of(message)
    body = message.body
    split = headers.get(_SPLIT)
    if isinstance(split, int) and 0 < split <= len(body):
        body = body[split:]
    return None if headers.get(_BARE) is True and not body else body


def record_of(message: Message, position: str | None = None) -> Record | None:
    """The journal's record in a delivery; None: it is none of ours.

    Args:
        message: the delivery.
        position: where it stands; None: its offset.
    """
    headers = headers_of(message)
    split = headers.get(_SPLIT)
    text = headers.get(RECORD)
    if isinstance(split, int) and 0 < split <= len(message.body):
        meta = message.body[:split]
    elif isinstance(text, str):
        meta = text.encode()
    else:
        return None
    try:
        return Record.decode(meta, body_of(message), position=str(offset_of(message)) if position is None else position)
    except DecodeError:
        return None


def deaths_of(message: Message) -> int:
    """Workers that died with this copy in their hands."""
    headers = headers_of(message)
    counts = (headers.get("x-delivery-count"), headers.get(DEATHS))
    return sum(count for count in counts if isinstance(count, int) and 0 <= count < 1 << 31)


def timer_of(message: Message) -> Timer | None:
    """The deadline that a delivery of a work queue is; None: a message to run."""
    headers = headers_of(message)
    held, place, since = headers.get(TIMER), headers.get(PLACE), headers.get(SINCE)
    # A foreign publisher's place may be a list, which is not even looked for among ours.
    if not isinstance(held, str) or not _is_millis(since) or not isinstance(place, str) or place not in _TIMER_PLACES:
        return None
    record = record_of(message, position="")
    if record is None or record.body is None:
        return None
    return Timer(held=held, since=since / 1000, transition=Transition(place=Place(place), record=record))


def _short(text: str) -> str:
    """``text`` if it fits into an AMQP short string, else nothing."""
    return text if len(text) <= _SHORT // 4 or len(text.encode("utf-8", "replace")) <= _SHORT else ""


def _is_millis(value: object) -> TypeGuard[int]:
    """Whether it is a time or a span as we write them; others can neither be read as a time nor be written again."""
    return isinstance(value, int) and 0 <= value < _MAX_MILLIS
