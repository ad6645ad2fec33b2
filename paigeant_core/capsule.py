"""A workflow in one file: every record of its journal with the messages' bytes, and what broker it comes from.

    data = await export(transport, "workflows", correlation_id)
    capsule = Capsule.decode(data)
    adopt(MemoryTransport("laptop"), capsule)

A capsule leaves production, so values that look like secrets are replaced unless they
are asked for; what was replaced is listed in it.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

import msgspec

from paigeant_core.clock import parse_rfc3339, rfc3339
from paigeant_core.errors import DecodeError, InvalidMessage, PaigeantError, WorkflowNotFound
from paigeant_core.handoff import wish_of
from paigeant_core.journal import ENDED, MAX_TIME, Record, State
from paigeant_core.message import PaigeantMessage
from paigeant_core.names import check_topic
from paigeant_core.transition import Place, Transition
from paigeant_core.transports import Transport
from paigeant_core.transports.memory import MemoryTransport

KIND = "paigeant.capsule"
MAX_CAPSULE = 256 * 1024 * 1024
"""Bytes of a capsule that are read."""

REDACTED = "[redacted]"
_SECRET = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|api[-_]?key|credential|private[-_]?key|authorization|cookie"
    r"|(^|[-_])(cvc|cvv|pin|iban|ssn|card)$|card[-_]?(number|no)$",
    re.IGNORECASE,
)


class _Entry(msgspec.Struct):
    position: str
    at: float
    meta: str
    body: str | None = None
    body_base64: str | None = None


class _File(msgspec.Struct):
    kind: str
    schema: int
    exported_at: str
    topic: str
    correlation_id: str
    broker: dict[str, Any]
    records: list[_Entry]
    redacted: list[str] = []


@dataclass(frozen=True, slots=True)
class Capsule:
    """What a capsule holds.

    Attributes:
        topic: where the workflow ran.
        correlation_id: the workflow.
        records: its journal, oldest first.
        redacted: what was replaced: paths in the payload, `itinerary.…` in steps, `detail.…` in a record's detail,
            `token`, `records`, `undecodable bytes`.
        broker: name, version and facts of the broker that it comes from.
        exported_at: when, RFC 3339.
    """

    topic: str
    correlation_id: str
    records: tuple[Record, ...]
    redacted: tuple[str, ...]
    broker: dict[str, Any]
    exported_at: str

    @classmethod
    def decode(cls, data: bytes) -> Capsule:
        """The capsule in these bytes.

        Raises:
            InvalidMessage: they are none.
        """
        try:
            file = msgspec.json.decode(data, type=_File)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise InvalidMessage("this file is no capsule; paigeant-console export ID writes one") from None
        if file.kind != KIND or file.schema != 1:
            raise InvalidMessage("this file is no capsule that this version can read")
        try:
            records = tuple(_record(entry) for entry in file.records)
        except (DecodeError, ValueError):
            raise InvalidMessage("this capsule is damaged: a record in it cannot be read") from None
        if not any(record.state for record in records):
            raise InvalidMessage("this capsule holds no state of its workflow")
        if any(record.headers.correlation_id != file.correlation_id for record in records):
            raise InvalidMessage("this capsule is damaged: it holds records of another workflow")
        return cls(
            check_topic(file.topic), file.correlation_id, records, tuple(file.redacted), file.broker, file.exported_at
        )


async def export(transport: Transport, topic: str, correlation_id: str, *, secrets: bool = False) -> bytes:
    """Put a workflow into a capsule.

    Args:
        transport: where it is.
        topic: its topic.
        correlation_id: its whole ID.
        secrets: keep what looks like a secret; a token in clear never is kept.

    Raises:
        WorkflowNotFound: the journal holds nothing of it.
    """
    history = await transport.history(topic, correlation_id)
    if not history:
        raise WorkflowNotFound(f"workflow {correlation_id}: the journal of topic {topic} holds nothing of it")
    info = await transport.broker_info()
    redacted: set[str] = set()
    entries = [_entry(record, redacted, secrets=secrets) for record in history]
    file = _File(
        kind=KIND,
        schema=1,
        exported_at=rfc3339(transport.clock.now()),
        topic=topic,
        correlation_id=correlation_id,
        broker={"broker": info.broker, "version": info.version, "facts": dict(info.facts)},
        records=entries,
        redacted=sorted(redacted),
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=1)


def adopt(transport: MemoryTransport, capsule: Capsule) -> None:
    """Put the workflow of a capsule into an in-memory broker, where it stands as it stood.

    What waited for a time waits for it still, and what was asked of a running step is still to come; a deadline of
    a hold is left out.
    """
    now = transport.clock.now()
    with transport.broker.topic(capsule.topic, wake=True) as topic:
        topic.max_age = float("inf")
        for record in capsule.records:
            at = record.at
            workflow = topic.workflows.get(capsule.correlation_id)
            # A copy of an older epoch that was late changes nothing.
            late = workflow is not None and record.headers.epoch < workflow.last.headers.epoch
            if record.state and not late:
                transition = Transition(place=_place(record), record=record, delay=_delay(record, now))
                topic.apply(transition, workflow.id if workflow is not None else None)
            else:
                if workflow is not None and wish_of(record) and record.headers.message_id == workflow.last.id:
                    workflow.id, workflow.asked = record.id, record
                topic.append(record)
            record.at = at


def scrubbed(record: Record) -> Record:
    """The record without tokens, and without what looks like a secret in its message or detail; itself, without either.

    A body that cannot be decoded is left out: nobody can say what is in it.
    """
    body = record.body
    clean = _without_secrets(body, set()) if body is not None and _may_hold_secrets(body) else body
    detail = _clean_detail(record, set())
    if clean == body and detail is None:
        return record
    light = record.without_body(detail)
    if clean != REDACTED.encode():
        light.body = clean
    return light


_SUSPICIOUS = (
    *(b"pass", b"secret", b"token", b"delegation", b"api", b"credential", b"private", b"authoriz", b"cookie"),
    *(b"cvc", b"cvv", b"pin", b"iban", b"ssn", b"card"),
)


def _may_hold_secrets(body: bytes) -> bool:
    """A quick look; a name that is written with escapes may be any."""
    text = body.lower()
    return b"\\" in text or b"\n" not in text or any(word in text for word in _SUSPICIOUS)


def _place(record: Record) -> Place:
    if record.state in ENDED:
        return Place.NOWHERE
    places = {
        State.RETRYING: Place.DELAYED,
        State.DEAD: Place.DEAD,
        State.COMPENSATION_FAILED: Place.DEAD,
        State.HELD: Place.HELD,
        State.QUARANTINED: Place.QUARANTINE,
    }
    return places.get(State(record.state), Place.WORK)


def _delay(record: Record, now: float) -> float:
    try:
        return max(0.0, parse_rfc3339(str(record.detail.get("due_at", ""))) - now)
    except ValueError:
        return 0.0


def _entry(record: Record, redacted: set[str], *, secrets: bool) -> _Entry:
    body = record.body
    if body is not None:
        body = _without_token(body, redacted) if secrets else _without_secrets(body, redacted)
    if not secrets and (detail := _clean_detail(record, redacted)) is not None:
        clean = record.without_body(detail)
        clean.body = record.body
        record = clean
    entry = _Entry(record.position, record.at, record.encode_meta().decode())
    if body is not None:
        try:
            entry.body = body.decode()
        except UnicodeDecodeError:
            entry.body_base64 = base64.b64encode(body).decode()
    return entry


def _record(entry: _Entry) -> Record:
    if not 0 <= entry.at < MAX_TIME:
        raise DecodeError("no journal record: its time is none")
    body = entry.body.encode() if entry.body is not None else None
    if entry.body_base64 is not None:
        body = base64.b64decode(entry.body_base64, validate=True)
    record = Record.decode(entry.meta.encode(), body, position=entry.position, at=entry.at)
    if record.state:
        State(record.state)
    return record


def _without_token(body: bytes, redacted: set[str]) -> bytes:
    try:
        message = PaigeantMessage.decode(body)
    except PaigeantError:
        return body
    if not message.in_clear:
        return body
    redacted.add("token")
    message.obo_token = None
    return message.encode()


def _without_secrets(body: bytes, redacted: set[str]) -> bytes:
    try:
        message = PaigeantMessage.decode(body)
    except PaigeantError:
        # Nobody can say what is in it; its headers, where it has any, say which record it belongs to.
        redacted.add("undecodable bytes")
        headers = body[: body.find(b"\n") + 1]
        return headers + REDACTED.encode()
    if message.carrier:
        redacted.add("token")
        message.obo_token = None
        if message.delegation is not None:
            message.delegation = message.delegation.summary()
    try:
        _redact(message.payload, "", redacted)
        _ = message.payload_bytes
    except PaigeantError:
        # It is no JSON, or nested deeper than it could be written again.
        redacted.add("payload")
        message.payload = {"payload": REDACTED}
    for number, step in enumerate(message.routing_slip.itinerary):
        _redact(step.arguments, f"itinerary.{number}.arguments", redacted)
    if any(map(_holds_secrets, message.records)):
        message.records = []
        redacted.add("records")
    return message.encode()


def _clean_detail(record: Record, redacted: set[str]) -> dict[str, Any] | None:
    """What a record tells, without what looks like a secret; None: nothing of it does.

    Its own names stay, as ``token_expires_at``: they are the journal's. What operators and handlers named is in the
    arguments of steps, in a result that could not be merged, and in what was signed of either.
    """
    raw = record.detail_bytes
    if not (b'"arguments"' in raw or b'"result"' in raw or b'"signed"' in raw):
        return None
    try:
        detail = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        redacted.add("detail")
        return {}
    if not isinstance(detail, dict):
        return None
    found: set[str] = set()
    for name, value in detail.items():
        _redact(value, f"detail.{name}", found)
    if isinstance(result := detail.get("result"), str):
        detail["result"] = _clean_text(result, "detail.result", found)
    if isinstance(signed := detail.get("signed"), str) and _holds_secrets(signed):
        del detail["signed"]
        found.add("detail.signed")
    redacted |= found
    return detail if found else None


def _clean_text(text: str, path: str, redacted: set[str]) -> str:
    """A text that is JSON without what looks like a secret in it; one that is none, or was cut, is left out."""
    found: set[str] = set()
    try:
        value = msgspec.json.decode(text)
        _redact(value, path, found)
        clean = msgspec.json.encode(value).decode() if found else text
    except (msgspec.MsgspecError, ValueError, RecursionError):
        found, clean = {path}, REDACTED
    redacted |= found
    return clean


def _holds_secrets(record: str) -> bool:
    """Whether a signed record holds step arguments that look like a secret, or cannot be read.

    It holds those of every step, done or to do, and cannot be changed: it would be refused.
    """
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(record.split(".")[1] + "=="))
        steps = [*claims.get("slip", {}).get("itinerary", ()), *claims.get("ins", ())]
        found: set[str] = set()
        for step in steps:
            if isinstance(step, dict):
                _redact(step.get("arguments"), "", found)
    except (IndexError, ValueError, TypeError, AttributeError):
        return True
    return bool(found)


def _redact(value: Any, path: str, redacted: set[str]) -> None:
    """Replace what looks like a secret; in an object that looks like one, whatever it holds."""
    # Not by recursion: newer Pythons decode what is nested deeper than they call.
    ahead = [(value, path, False)]
    while ahead:
        value, path, inside = ahead.pop()
        items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in list(items):
            where = f"{path}.{key}" if path else str(key)
            secret = inside or (isinstance(key, str) and _SECRET.search(key) is not None)
            if isinstance(inner, dict | list):
                ahead.append((inner, where, secret))
            elif secret and inner is not None:
                value[key] = REDACTED
                redacted.add(where)
