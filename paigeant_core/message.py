"""The message: headers, routing slip and payload, and its form on the wire.

On every broker a message is the same bytes, three parts with a newline between::

    {"spec_version":"1","correlation_id":"…", …}      flat strings, for routing and display
    {"itinerary":["charge"],"executed":[…]}           the routing slip and security records
    {"customer_email":"ann@example.com"}              the payload, its own exact bytes

JSON without indentation holds no newline, so a reader that wants the headers alone
stops at the first one, and a payload that nobody changed is copied, never re-encoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from paigeant_core.delegation import Delegation
from paigeant_core.errors import DecodeError, InvalidMessage, MessageTooLarge, TokenSealed, UnsupportedVersion
from paigeant_core.json_values import BAD_JSON
from paigeant_core.limits import MAX_COUNT, MAX_SLIP, SPEC_VERSION
from paigeant_core.names import check_correlation_id, is_name, new_id
from paigeant_core.payload import decode_payload, encode_payload, rewrite_payload
from paigeant_core.routing import RoutingSlip, SlipWire
from paigeant_core.secret import Secret


class Headers(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What routing and display need; never an authority. On the wire all are strings."""

    spec_version: int = SPEC_VERSION
    message_id: str = ""
    """New with each hand-off; what a repeated settle is known by."""
    correlation_id: str = ""
    name: str = ""
    labels: str = ""
    """A JSON object of strings, as text; see :attr:`label_map`."""
    topic: str = ""
    activity: str = ""
    """The step to be done, or being undone; empty when finished."""
    hop: int = 1
    run: int = 1
    epoch: int = 1
    attempt: int = 1
    steps_done: int = 0
    steps_total: int = 0
    created_at: str = ""
    """When the workflow was dispatched, RFC 3339."""
    timestamp: str = ""
    """When this message was made, RFC 3339, by its maker's clock."""
    traceparent: str = ""
    """W3C trace context, handed on as it came."""

    @property
    def label_map(self) -> dict[str, str]:
        """The labels; empty where they cannot be read."""
        if not self.labels:
            return {}
        try:
            return msgspec.json.decode(self.labels, type=dict[str, str])
        except msgspec.MsgspecError:
            return {}

    @property
    def idempotency_key(self) -> str:
        """``<correlation>/<run>/<hop>``: the same for every try of this piece of work."""
        return f"{self.correlation_id}/{self.run}/{self.hop}"

    def to_strings(self) -> dict[str, str]:
        """The headers as flat strings, without the empty ones."""
        strings = {
            "spec_version": str(self.spec_version),
            "message_id": self.message_id,
            "correlation_id": self.correlation_id,
            "topic": self.topic,
            "hop": str(self.hop),
            "run": str(self.run),
            "epoch": str(self.epoch),
            "attempt": str(self.attempt),
            "steps_done": str(self.steps_done),
            "steps_total": str(self.steps_total),
            "created_at": self.created_at,
            "timestamp": self.timestamp,
        }
        if self.activity:
            strings["activity"] = self.activity
        if self.name:
            strings["name"] = self.name
        if self.labels:
            strings["labels"] = self.labels
        if self.traceparent:
            strings["traceparent"] = self.traceparent
        return strings


_encode = msgspec.json.encode
# strict=False turns the strings on the wire into the numbers they stand for.
_decode_headers = msgspec.json.Decoder(Headers, strict=False).decode
_decode_slip = msgspec.json.Decoder(SlipWire).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode_headers(body: bytes) -> Headers:
    """The headers of a message, without a look at slip or payload.

    Raises:
        DecodeError: these bytes do not begin with headers.
    """
    end = body.find(b"\n")
    if end < 0:
        raise DecodeError("no message: no line of headers")
    try:
        return _decode_headers(body[:end])
    except BAD_JSON:
        raise DecodeError("no message: the headers cannot be read") from None


class PaigeantMessage:
    """One workflow on its way: headers, routing slip, payload.

    Workers and the dispatcher make them; handlers of the low-level form get them from
    ``transport.subscribe``, change :attr:`payload`, call
    ``routing_slip.mark_complete`` and publish them again.
    """

    __slots__ = (
        "_decoded",
        "_granted",
        "_payload",
        "_token",
        "delegation",
        "delivery",
        "headers",
        "records",
        "routing_slip",
        "verified",
    )

    def __init__(
        self,
        headers: Headers,
        routing_slip: RoutingSlip,
        payload: bytes,
        *,
        obo_token: str | Secret | None = None,
        delegation: Delegation | None = None,
        records: list[str] | None = None,
    ) -> None:
        self.headers = headers
        self.routing_slip = routing_slip
        self._token = Secret(obo_token) if obo_token and not isinstance(obo_token, Secret) else obo_token or None
        self._granted: Secret | None = None
        self.delegation = delegation
        """On whose behalf the workflow runs, and what carries the token where it is not the message itself."""
        self.records: list[str] = records or []
        """Signed records, oldest first."""
        self.verified: Any = None
        """What the worker that runs it found its records to say; nobody else's business."""
        self.delivery: Any = None
        """What the broker knows this copy by, where it came from ``subscribe``."""
        self._payload = payload
        self._decoded: dict[str, Any] | None = None

    def __repr__(self) -> str:
        headers = self.headers
        return f"<PaigeantMessage {headers.correlation_id} hop {headers.hop} {headers.activity or 'finished'}>"

    @property
    def correlation_id(self) -> str:
        """The workflow's ID."""
        return self.headers.correlation_id

    @property
    def obo_token(self) -> str | None:
        """The token of the user on whose behalf the workflow runs.

        In a worker that exchanges tokens it is the one for the step that runs.

        Raises:
            TokenSealed: there is one, and this process has no key that opens it.
        """
        secret = self._granted or self._token
        if secret is not None:
            return secret.reveal()
        if self.delegation is not None:
            raise TokenSealed("the workflow's token is sealed, and this process has no key that opens it")
        return None

    @obo_token.setter
    def obo_token(self, value: str | None) -> None:
        self._token = None if value is None else Secret(value)
        self._granted = None

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The tokens that this process knows of it."""
        if self._token is None and self._granted is None:
            return ()  # so with most, and asked at every hop
        return tuple(secret for secret in (self._token, self._granted) if secret is not None)

    @property
    def in_clear(self) -> bool:
        """Whether its token would be written into it as it is."""
        return self._token is not None and not (self.delegation is not None and self.delegation.carrier)

    @property
    def carrier(self) -> str:
        """What rides in it of the token: encrypted, a vault's handle, or itself; empty: nothing."""
        if self.delegation is not None and self.delegation.carrier:
            return self.delegation.carrier
        return "" if self._token is None else self._token.reveal()

    def opened(self, token: Secret) -> None:
        """Keep the token that its carrier gave; on the wire it stays sealed."""
        self._token = token

    def delegated(self, delegation: Delegation | None, token: Secret | None) -> None:
        """Let it run on behalf of ``delegation`` from now on, with ``token`` where nothing else carries it."""
        self.delegation = delegation
        self._token, self._granted = token, None

    def granted(self, token: Secret) -> None:
        """Let :attr:`obo_token` give ``token`` to the step that runs now; the workflow's own stays as it was."""
        self._granted = token

    @property
    def payload(self) -> dict[str, Any]:
        """The payload as a dict that may be changed in place.

        Raises:
            DecodeError: the payload is no JSON object.
        """
        if self._decoded is None:
            self._decoded = decode_payload(self._payload)
        return self._decoded

    @payload.setter
    def payload(self, value: Mapping[str, Any]) -> None:
        self._payload = encode_payload(value)
        self._decoded = None

    @property
    def payload_bytes(self) -> bytes:
        """The payload as bytes: as it came, but for the values that were changed.

        Raises:
            InvalidMessage: :attr:`payload` was changed to what JSON cannot say.
            MessageTooLarge: it was changed to more than 1 MiB.
        """
        # The dict stays: whoever holds it may go on changing it after a log line asked for the bytes.
        if self._decoded is not None:
            self._payload = rewrite_payload(self._payload, self._decoded)
        return self._payload

    def replaced(
        self,
        slip: RoutingSlip,
        *,
        timestamp: str,
        attempt: int = 1,
        run: int | None = None,
        epoch: int | None = None,
        payload: bytes | None = None,
    ) -> PaigeantMessage:
        """The next message of this workflow: a new message ID, headers that fit ``slip``.

        Args:
            slip: the slip after the move.
            timestamp: when, RFC 3339.
            attempt: the attempt it asks for.
            run: a new run, else as before.
            epoch: a new epoch, else as before.
            payload: new payload bytes, else as before.
        """
        old = self.headers
        headers = Headers(
            spec_version=SPEC_VERSION,
            message_id=new_id(),
            correlation_id=old.correlation_id,
            name=old.name,
            labels=old.labels,
            topic=old.topic,
            activity=slip.current_name(),
            hop=slip.reached,
            run=old.run if run is None else run,
            epoch=old.epoch if epoch is None else epoch,
            attempt=attempt,
            steps_done=len(slip.executed),
            steps_total=len(slip.executed) + len(slip.itinerary),
            created_at=old.created_at,
            timestamp=timestamp,
            traceparent=old.traceparent,
        )
        return PaigeantMessage(
            headers,
            slip,
            self.payload_bytes if payload is None else payload,
            obo_token=self._token,
            delegation=self.delegation,
            records=self.records,
        )

    def encode(self) -> bytes:
        """The message on the wire.

        Raises:
            MessageTooLarge: the slip is over its cap.
        """
        slip = self.routing_slip.to_document()
        if self.delegation is not None:
            slip["delegation"] = self.delegation
        if self.in_clear:
            slip["token"] = self.carrier
        if self.records:
            slip["records"] = self.records
        encoded = _encode(slip)
        if len(encoded) > MAX_SLIP:
            raise MessageTooLarge(f"the routing slip is {len(encoded)} bytes, the cap is {MAX_SLIP}")
        return b"%b\n%b\n%b" % (_encode(self.headers.to_strings()), encoded, self.payload_bytes)

    @classmethod
    def decode(cls, body: bytes) -> PaigeantMessage:
        """The message that these bytes are; the payload itself stays as it is.

        Raises:
            UnsupportedVersion: a newer Paigeant wrote it.
            DecodeError: they are no message.
        """
        headers = decode_headers(body)
        if headers.spec_version > SPEC_VERSION:
            raise UnsupportedVersion(f"spec_version {headers.spec_version}: this Paigeant reads up to {SPEC_VERSION}")
        start = body.find(b"\n") + 1
        end = body.find(b"\n", start)
        if end < 0:
            raise DecodeError("no message: no line with a routing slip")
        try:
            wire = _decode_slip(body[start:end])
            slip = RoutingSlip.from_wire(wire)
        except (*BAD_JSON, InvalidMessage) as error:
            reason = str(error) if isinstance(error, InvalidMessage) else "it cannot be read"
            raise DecodeError(f"no message: routing slip: {reason}") from None
        payload = body[end + 1 :]
        if not payload.startswith(b"{") or not payload.endswith(b"}"):
            raise DecodeError("no message: the payload is no JSON object")
        _check_headers(headers, slip)
        return cls(
            headers, slip, payload, obo_token=wire.token or None, delegation=wire.delegation, records=wire.records
        )

    def to_json(self) -> str:
        """The whole message in one JSON document, the payload with its exact bytes.

        Without the token: a document is for people and files. Headers follow a slip that was moved and is not handed
        on yet.

        Raises:
            DecodeError: the payload is no JSON object.
        """
        # A worker hands on a payload it did not read; in one document with others it has to be JSON.
        decode_payload(self.payload_bytes)
        slip = self.routing_slip.to_document()
        if self.delegation is not None:
            slip["delegation"] = self.delegation.summary()
        if self.records:
            slip["records"] = self.records
        document = {
            "headers": _moved(self.headers, self.routing_slip).to_strings(),
            "routing_slip": slip,
            "payload": msgspec.Raw(self.payload_bytes),
        }
        return _encode(document).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> PaigeantMessage:
        """The message that :meth:`to_json` wrote.

        Raises:
            UnsupportedVersion: a newer Paigeant wrote it.
            DecodeError: it is no such document.
        """
        data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
        try:
            document = _decode_fields(data)
            parts = b"\n".join(_one_line(document[key]) for key in ("headers", "routing_slip"))
            payload = bytes(document["payload"])
        except (*BAD_JSON, KeyError):
            raise DecodeError("no message: not a document with headers, routing_slip and payload") from None
        decode_payload(payload)
        return cls.decode(parts + b"\n" + payload.strip())


def _moved(headers: Headers, slip: RoutingSlip) -> Headers:
    """``headers`` as they are where the slip stands by now."""
    activity = slip.current_name()
    if headers.activity == activity and (not activity or headers.hop == slip.hop):
        return headers
    done = len(slip.executed)
    return msgspec.structs.replace(
        headers,
        activity=activity,
        hop=slip.reached,
        steps_done=done,
        steps_total=done + len(slip.itinerary),
    )


def with_record(body: bytes, record: str) -> bytes:
    """A message that has signed records, with one more.

    Args:
        body: what :meth:`PaigeantMessage.encode` made; all else in it keeps its bytes.
        record: a compact JWS.

    Raises:
        MessageTooLarge: the slip would be over its cap.
    """
    start = body.index(b"\n") + 1
    end = body.index(b"\n", start)
    assert body.endswith(b'"]}', start, end)  # records are last, and there is one
    size = end - start + len(record) + 3
    if size > MAX_SLIP:
        raise MessageTooLarge(f"the routing slip would be {size} bytes, the cap is {MAX_SLIP}")
    return b'%b,"%b"]}%b' % (body[: end - 2], record.encode("ascii"), body[end:])


def _one_line(raw: msgspec.Raw) -> bytes:
    return _encode(msgspec.json.decode(raw))


def check_workflow(headers: Headers) -> None:
    """Refuse headers that name no workflow.

    Raises:
        DecodeError: their correlation ID can be none.
    """
    try:
        check_correlation_id(headers.correlation_id)
    except InvalidMessage as error:
        raise DecodeError(f"no message: {error}") from None


def _check_headers(headers: Headers, slip: RoutingSlip) -> None:
    check_workflow(headers)
    if not headers.message_id:
        raise DecodeError("no message: it has no message ID")
    if headers.activity != slip.current_name() or (headers.activity and not is_name(headers.activity)):
        raise DecodeError("no message: the headers and the routing slip name different steps")
    if headers.activity and headers.hop != slip.hop:
        # The key that a provider refuses a second charge by is made of it.
        raise DecodeError("no message: the headers and the routing slip count different hops")
    counts = (headers.hop, headers.run, headers.epoch, headers.attempt)
    if min(counts) < 1 or max(counts) > MAX_COUNT:
        # Beyond it a broker's own functions round, and a fence would take two epochs for one.
        raise DecodeError("no message: hop, run, epoch and attempt begin at 1 and end at 2^53")
