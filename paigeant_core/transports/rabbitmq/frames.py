"""Frames as bytes: what a hop publishes, acknowledges and is delivered.

The driver's library does it for any method of AMQP, property by property and field by
field through general encoders. These are the few that every hop needs; a rare type of
field still goes through the library.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any, NamedTuple

import pamqp.decode
import pamqp.encode
from pamqp.commands import Basic
from pamqp.header import ContentHeader

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
DELIVER, GOT, CONFIRMED, REFUSED, CLOSE, CLOSED = (
    struct.pack(">HH", *method) for method in ((60, 60), (60, 71), (60, 80), (60, 120), (20, 40), (20, 41))
)
"""Methods, as their frames begin."""
BLOCKED, UNBLOCKED = (struct.pack(">HH", 10, method) for method in (60, 61))
"""What the broker says on channel 0 when it takes no more publishes, with the reason, and when it does again."""

FRAME = struct.Struct(">BHI")
"""How a frame begins: kind, channel, size. One byte ends it."""

_END = b"\xce"
ALIVE = FRAME.pack(HEARTBEAT, 0, 0) + _END
"""A heartbeat."""

_CONTENT = struct.Struct(">BHIHHQH")
_ACK = struct.Struct(">BHIHHQBB")
_SIZES = struct.Struct(">4xQH")
_SIZE = struct.Struct(">I")
_TAG = struct.Struct(">QB")
_PUBLISH = struct.pack(">HHH", 60, 40, 0)
_STRING = ord("S")
_WIDTHS = {
    **dict.fromkeys(b"V\0", 0),
    **dict.fromkeys(b"tbB", 1),
    **dict.fromkeys(b"sUu", 2),
    **dict.fromkeys(b"Iif", 4),
    **dict.fromkeys(b"D", 5),
    **dict.fromkeys(b"lLdT", 8),
}
"""Bytes of a field of each type; all others begin with their length."""
OFFSET = "x-stream-offset"
"""The header in which the broker says where in its stream a message stands."""


class Outgoing(NamedTuple):
    """One publish."""

    exchange: str
    key: str
    body: bytes
    properties: Basic.Properties


# -- writing ------------------------------------------------------------------------------


def publish(number: int, item: Outgoing, largest: int) -> list[bytes]:
    """The frames of a publish, in pieces.

    Args:
        number: of the channel.
        item: what to publish.
        largest: bytes of the largest frame.
    """
    flags, fields = 0, []
    for name, flag, kind in _FIELDS:
        value = getattr(item.properties, name)
        if value is not None and value != "":
            flags |= flag
            fields.append(_ENCODERS[kind](value))
    properties, body = b"".join(fields), item.body
    head = _CONTENT.pack(HEADER, number, 14 + len(properties), 60, 0, len(body), flags)
    pieces = [_method(number, item.exchange, item.key), head, properties, _END]
    for start in range(0, len(body), largest - 8):
        part = body[start : start + largest - 8]
        pieces += (FRAME.pack(BODY, number, len(part)), part, _END)
    return pieces


def ack(number: int, tag: int, multiple: bool) -> bytes:
    """The frame that acknowledges one delivery, or all up to it."""
    return _ACK.pack(METHOD, number, 13, 60, 80, tag, multiple, 0xCE)


@lru_cache(4096)
def _method(number: int, exchange: str, key: str) -> bytes:
    method = _PUBLISH + _short(exchange) + _short(key) + b"\0"
    return FRAME.pack(METHOD, number, len(method)) + method + _END


def _short(text: str) -> bytes:
    data = text.encode()
    return bytes((len(data),)) + data


def _table(table: dict[str, Any]) -> bytes:
    parts = []
    for key, value in table.items():
        parts.append(_short(key))
        if type(value) is str:
            data = value.encode()
            parts += (b"S", _SIZE.pack(len(data)), data)
        else:
            parts.append(pamqp.encode.encode_table_value(value))
    data = b"".join(parts)
    return _SIZE.pack(len(data)) + data


# -- reading ------------------------------------------------------------------------------


def confirm(frame: bytes) -> tuple[int, bool]:
    """Of a confirm, or of an answer to a get: its tag, and whether all up to it are meant."""
    tag, bits = _TAG.unpack_from(frame, 4)
    return tag, bool(bits & 1)


def delivery(frame: bytes) -> Basic.Deliver:
    """Of a delivery: by which consumer, its tag, whether it comes again. Where it was published to is left out."""
    at = 5 + frame[4]
    tag, bits = _TAG.unpack_from(frame, at)
    return Basic.Deliver(frame[5:at].decode(), tag, bool(bits & 1))


def header(frame: bytes) -> ContentHeader:
    """Of a message: its size and properties.

    Where they cannot be read, which must not end the line, of them only what the broker wrote: whoever reads a stream
    has to know how far it is.
    """
    size, flags = _SIZES.unpack_from(frame)
    return ContentHeader(body_size=size, properties=_properties(frame, flags) or _whereabouts(frame, flags))


def readable(whole: bytes) -> bytes:
    """A content header, from kind to end, as the driver can read it.

    Its reader raises at what a publisher may write (tables in tables without end, times after
    the last one), and the line would end at the same message again and again: of such a one
    the properties are left out.
    """
    head = whole[FRAME.size : FRAME.size + _SIZES.size]
    size, flags = _SIZES.unpack(head)
    if _properties(whole[FRAME.size : -1], flags) is not None:
        return whole
    _, number, _ = FRAME.unpack_from(whole)
    return _CONTENT.pack(HEADER, number, _SIZES.size, 60, 0, size, 0) + _END


def _properties(frame: bytes, flags: int) -> Basic.Properties | None:
    properties = Basic.Properties()
    at = _SIZES.size
    try:
        for name, flag, kind in _FIELDS:
            if flags & flag:
                at, value = _DECODERS[kind](frame, at)
                setattr(properties, name, value)
    except _UNREADABLE:
        return None
    return properties


def _whereabouts(frame: bytes, flags: int) -> Basic.Properties:
    """Of properties that cannot be read, the offset alone, past fields that are looked at no closer than needed."""
    at = _SIZES.size
    try:
        for name in ("content_type", "content_encoding"):
            if flags & Basic.Properties.flags[name]:
                at += 1 + frame[at]
        if flags & Basic.Properties.flags["headers"]:
            end = at + 4 + _SIZE.unpack_from(frame, at)[0]
            at += 4
            while at < end:
                key = frame[at + 1 : at + 1 + frame[at]]
                at += 1 + len(key)
                if key == OFFSET.encode():
                    return Basic.Properties(headers={OFFSET: pamqp.decode.embedded_value(frame[at:end])[1]})
                width = _WIDTHS.get(frame[at])
                at += 1 + (4 + _SIZE.unpack_from(frame, at + 1)[0] if width is None else width)
    except _UNREADABLE:
        pass  # the broker lets none through that is cut short
    return Basic.Properties()


_UNREADABLE = (ValueError, LookupError, ArithmeticError, OSError, struct.error, RecursionError)


def _read_short(data: bytes, at: int) -> tuple[int, str]:
    end = at + 1 + data[at]
    return end, data[at + 1 : end].decode()


def _read_table(data: bytes, at: int) -> tuple[int, dict[str, Any]]:
    table: dict[str, Any] = {}
    end = at + 4 + _SIZE.unpack_from(data, at)[0]
    at += 4
    while at < end:
        at, key = _read_short(data, at)
        if data[at] == _STRING:
            start = at + 5
            at = start + _SIZE.unpack_from(data, at + 1)[0]
            table[key] = data[start:at]
            with suppress(UnicodeDecodeError):
                table[key] = data[start:at].decode()
        else:
            used, table[key] = pamqp.decode.embedded_value(data[at:end])
            at += used
    return end, table


def _read(kind: str, data: bytes, at: int) -> tuple[int, Any]:
    used, value = pamqp.decode.by_type(data[at:], kind)
    return at + used, value


_FIELDS = tuple(
    (name, Basic.Properties.flags[name], Basic.Properties.amqp_type(name)) for name in Basic.Properties.attributes()
)
_KINDS = {kind for _, _, kind in _FIELDS}
_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    **{kind: pamqp.encode.METHODS[kind] for kind in _KINDS},
    "shortstr": _short,
    "table": _table,
}
_DECODERS: dict[str, Callable[[bytes, int], tuple[int, Any]]] = {
    **{kind: partial(_read, kind) for kind in _KINDS},
    "shortstr": _read_short,
    "table": _read_table,
}
