"""Readers of messages: the codec itself, the wire of each broker, a capsule's file."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import msgspec
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from paigeant_core import capsule as capsules
from paigeant_core.capsule import Capsule
from paigeant_core.errors import DecodeError, InvalidMessage, MessageError
from paigeant_core.journal import Record
from paigeant_core.message import Headers, PaigeantMessage, decode_headers
from paigeant_core.routing import RoutingSlip, SlipWire
from paigeant_core.transports.rabbitmq import frames, wire
from paigeant_core.transports.redis import encoding
from paigeant_core.transports.redis.lease import read_presence

_FIRST = (
    b'{"spec_version":"1","message_id":"m1","correlation_id":"order-1","topic":"workflows","hop":"1","run":"1",'
    b'"epoch":"1","attempt":"1","steps_done":"0","steps_total":"2","created_at":"2026-11-28T12:00:00.000Z",'
    b'"timestamp":"2026-11-28T12:00:00.000Z","activity":"charge","labels":"{\\"tier\\":\\"premium\\"}"}\n'
    b'{"itinerary":["charge",{"name":"notify","arguments":{"to":"ann"},"retry":{"max_attempts":2},"timeout":3,'
    b'"scopes":["mail"]}],"executed":[],"on_failure":"compensate"}\n{"amount":5.0,"text":"\\u00e9"}'
)
_UNDOING = (
    b'{"spec_version":"1","message_id":"m2","correlation_id":"order-2","hop":"1","activity":"a"}\n'
    b'{"itinerary":["b"],"executed":[{"name":"a","attempt":2},{"name":"x","attempt":0,"skipped":true}],"undoing":1,'
    b'"token":"t","records":["a.b.c"]}\n{}'
)
MESSAGES: Sequence[bytes] = (_FIRST, _UNDOING, b'{"spec_version":"9","message_id":"m3"}\n{}\n{}')
SLIPS: Sequence[bytes] = [body.split(b"\n")[1] for body in MESSAGES]
WORDS: Sequence[bytes] = (
    *(b'"%b"' % name.encode() for name in (*Headers.__struct_fields__, *SlipWire.__struct_fields__)),
    *(b'"name"', b'"arguments"', b'"retry"', b'"timeout"', b'"scopes"', b'"max_attempts"', b'"attempt"', b'"skipped"'),
    *(f'"{capsules.KIND}"'.encode(), b'"records"', b'"meta"', b'"body"', b'"body_base64"', b'"position"'),
    *(b'"kind"', b'"detail"', b'"state"', b'"at"', b'"compensate"', b"\xed\xa0\x80", b"\\ud800", b"q-1"),
)
_META: Sequence[bytes] = (
    b'{"kind":"dispatched","id":"m1","state":"queued","worker":"w","at":1.5,"detail":{"step":"a","hop":1}}',
    b'{"kind":"worker","at":2,"detail":null,"headers":{"correlation_id":"c","epoch":"2"}}',
    b'{"kind":"operated","at":0,"detail":{"asks":"insert","steps":["a",{"name":"b"}]},"headers":{"hop":"3"}}',
)
ENTRIES: Sequence[bytes] = (
    b"m\0" + MESSAGES[0],
    b"m\0" + MESSAGES[1] + b"\0d\0" + b"3",
    b"r\0" + _META[0] + b"\0m\0" + MESSAGES[0] + b"\0p\0" + b"12-0",
    b"r\0" + _META[1],
    b"r\0" + _META[2] + b"\0b\0" + b"1-1",
    b'worker\0{"worker":"w","activities":["a"],"concurrency":1,"host":"h","pid":1,"started_at":1.0,"running":[]}',
)
CAPSULES: Sequence[bytes] = [
    json.dumps(
        {
            "kind": capsules.KIND,
            "schema": 1,
            "exported_at": "2026-11-28T12:00:00Z",
            "topic": "workflows",
            "correlation_id": "order-1",
            "broker": {"broker": "redis"},
            "records": [
                {"meta": _META[0].decode(), "body": MESSAGES[0].decode(), "position": "1-0", "at": 1.0},
                {"meta": _META[0].decode(), "body_base64": b64encode(MESSAGES[0]).decode(), "position": "1", "at": 2},
            ],
            "redacted": ["payload.card"],
        }
    ).encode()
]


def message(data: bytes) -> None:
    """A message is read whole, written the same, and its payload keeps its bytes; or MessageError."""
    try:
        found = PaigeantMessage.decode(data)
    except MessageError:
        return
    payload = data.split(b"\n", 2)[2]
    assert found.payload_bytes == payload
    assert decode_headers(data) == found.headers
    again = PaigeantMessage.decode(found.encode())
    assert again.headers == found.headers
    assert again.routing_slip == found.routing_slip
    assert (again.obo_token, again.records) == (found.obo_token, found.records)
    assert again.payload_bytes == payload
    assert isinstance(found.headers.label_map, dict)
    try:
        document = found.to_json()
    except DecodeError:
        return
    parsed = PaigeantMessage.from_json(document)
    assert parsed.payload_bytes == payload.strip()
    assert (parsed.headers, parsed.routing_slip) == (found.headers, found.routing_slip)
    _ = found.payload
    assert found.payload_bytes == payload


def headers(data: bytes) -> None:
    """Headers are read without the rest, and written the same."""
    try:
        found = decode_headers(data + b"\n")
    except DecodeError:
        return
    assert decode_headers(msgspec.json.encode(found.to_strings()) + b"\n") == found
    assert isinstance(found.label_map, dict)
    assert isinstance(found.idempotency_key, str)


def slip(data: bytes) -> None:
    """A routing slip is read and written the same, and every move of it is one or is refused."""
    try:
        found = RoutingSlip.from_wire(msgspec.json.decode(data, type=SlipWire))
    except (InvalidMessage, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    document = found.to_document()
    assert RoutingSlip.from_document(document).to_document() == document
    assert RoutingSlip.from_wire(msgspec.json.decode(msgspec.json.encode(document), type=SlipWire)) == found
    moved = found.copy()
    if moved.finished or moved.undoing:
        return
    moved.mark_complete(moved.current_name())
    assert moved.names() == found.names()
    assert moved.hop == found.hop + 1


def redis_entry(data: bytes) -> None:
    """Whatever stands in a stream is a message to run, a record, or neither; nothing is raised."""
    fields = data.split(b"\0")
    body, deaths = encoding.body_of(fields)
    assert deaths >= 0
    delivery = encoding.delivery_of(("a", 1, (b"1-0", fields)))
    assert (delivery.body, delivery.deaths) == (body, deaths + 1)
    for parked in (False, True):
        _record(encoding.record_of([b"1000-0", fields], parked=parked))
    # What is read by the thousand is read the same.
    found, alone = encoding.records_of([[b"1000-0", fields]]), encoding.record_of([b"1000-0", fields])
    assert [(record.position, record.at, record.encode_meta(), record.body) for record in found] == (
        [] if alone is None else [(alone.position, alone.at, alone.encode_meta(), alone.body)]
    )
    read_presence(fields[-1])


def rabbit_content(data: bytes) -> None:
    """Whatever properties and headers a publisher chose, reading a delivery raises nothing.

    The input is the content header of a frame, then the body; as on the wire.
    """
    if len(data) < 14:
        return
    size = min(len(data) - 2, struct.unpack_from(">H", data)[0])
    header = frames.header(data[2 : 2 + max(size, 14)].ljust(14, b"\0"))
    properties = header.properties
    delivery = DeliveredMessage(
        delivery=Basic.Deliver("t", 1),
        header=header,
        body=data[2 + size :],
        channel=None,  # type: ignore[arg-type]
    )
    assert isinstance(wire.headers_of(delivery), dict)
    assert wire.copy_of(delivery)
    assert wire.deaths_of(delivery) >= 0
    assert isinstance(wire.remaining(wire.headers_of(delivery), 1.8e9), float)
    body = wire.body_of(delivery)
    assert body is None or delivery.body.endswith(body)
    _record(wire.record_of(delivery, position="1"))
    wire.timer_of(delivery)
    assert properties is not None
    # And what was handed back is published again, with the headers that it came with.
    outgoing = wire.again(delivery, "x", "k", {})
    again = frames.publish(1, outgoing, 131072)
    assert again


def capsule(data: bytes) -> None:
    """A file is a capsule, or InvalidMessage."""
    try:
        found = Capsule.decode(data)
    except InvalidMessage:
        return
    for record in found.records:
        _record(record)


def _record(record: Record | None) -> None:
    if record is None:
        return
    assert isinstance(record.detail, dict)
    msgspec.json.encode(record.to_document())
    try:
        _ = record.message
    except MessageError:
        return
    Record.decode(record.encode_meta(), record.body, position="1")


def contents() -> list[bytes]:
    """Deliveries of RabbitMQ as they come: the length of the content header, itself, and the body."""
    tables: list[dict[str, Any]] = [
        {"r": _META[0].decode(), "prev": "m0"},
        {"r": _META[1].decode(), "bare": True, "deaths": 2, "again": 1, "x-delivery-count": 3},
        {"r": _META[0].decode(), "timer": "m1", "place": "work", "since": 1, "due": 5, "rest": 6},
        {"split": len(_META[0]), "mark": "m", "boot": 1, "x-stream-offset": 7, "x-death": [{"count": 1}]},
        {"a": {"b": {"c": [1, {"d": None}]}}, "f": 1.5, "t": bytearray(b"\xff")},
    ]
    made = []
    for table in tables:
        body = (_META[0] if "split" in table else b"") + MESSAGES[0]
        properties = Basic.Properties(headers=table, message_id="m1", correlation_id="order-1", delivery_mode=2)
        # A marshalled frame is kind, channel and size, then the content header and one byte of end.
        head = ContentHeader(body_size=len(body), properties=properties).marshal()
        made.append(struct.pack(">H", len(head)) + head + body)
    return made
