"""The journal: one append-only record for each thing that happened to a workflow.

A record is two byte strings on every broker: its *meta* (what happened, JSON) and its
*body*, the whole message that was published or parked by it, where one was. Each
record alone is enough for a row of `list`: it has the workflow's state after it, and
the headers, which are the first line of the body or, without one, part of the meta.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from paigeant_core.clock import rfc3339
from paigeant_core.errors import DecodeError
from paigeant_core.message import Headers, PaigeantMessage, decode_headers


class Kind(StrEnum):
    """What happened."""

    DISPATCHED = "dispatched"
    ADVANCED = "advanced"
    RETRYING = "retrying"
    FAILED = "failed"
    HELD = "held"
    RELEASED = "released"
    DEAD_LETTERED = "dead_lettered"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation_failed"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    QUARANTINED = "quarantined"
    OPERATED = "operated"
    WORKER = "worker"


class State(StrEnum):
    """Where a workflow stands. Exactly one at a time."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    HELD = "held"
    COMPENSATING = "compensating"
    COMPENSATION_FAILED = "compensation_failed"
    DEAD = "dead"
    QUARANTINED = "quarantined"
    COMPLETED = "completed"
    COMPENSATED = "compensated"
    CANCELLED = "cancelled"


ENDED = frozenset({State.COMPLETED, State.COMPENSATED, State.CANCELLED})
"""States that nothing leads out of but a replay."""

PARKED = frozenset({State.HELD, State.DEAD, State.QUARANTINED, State.COMPENSATION_FAILED})
"""States in which the message waits in a store of its own for an operator."""


MAX_TIME = 1e11
"""Seconds since the Unix epoch that a record's time is below; later ones cannot be written as text."""

_ONWARD = frozenset({Kind.ADVANCED, Kind.HELD, Kind.COMPENSATING})


class _Meta(msgspec.Struct, omit_defaults=True, gc=False):
    kind: str
    id: str = ""
    state: str = ""
    worker: str = ""
    at: float = 0.0
    detail: msgspec.Raw = msgspec.Raw(b"")
    headers: dict[str, str] | None = None


class StepTold(msgspec.Struct, gc=False):
    """What most that follow a journal want of a record's detail.

    Attributes:
        step: the step that was done; empty: none was.
        duration_s: seconds that it took; None: not told.
        inserted: steps that were inserted, as JSON; empty: none.
    """

    step: str = ""
    duration_s: float | None = None
    inserted: msgspec.Raw = msgspec.Raw(b"")


_decode_meta = msgspec.json.Decoder(_Meta).decode
_decode_told = msgspec.json.Decoder(StepTold).decode
_NOTHING = StepTold()
_SOMETHING = msgspec.Raw(b"null")


class Record:
    """One entry of the journal.

    Attributes:
        kind: what happened, see :class:`Kind`.
        state: the workflow's state after it, see :class:`State`; empty: unchanged.
        headers: of the message as it stands after it.
        id: what the fence knows this position of the workflow by; the message ID
            unless a message was parked as it was.
        worker: who did it; empty: nobody's worker.
        body: the message published or parked, or the bytes quarantined; else None.
        position: where in the journal it stands, as text of the broker's own.
        at: when, seconds since the Unix epoch, by the broker's clock where it has one.
    """

    __slots__ = ("_detail", "_told", "at", "body", "headers", "id", "kind", "position", "state", "worker")

    def __init__(
        self,
        kind: str,
        headers: Headers,
        *,
        state: str = "",
        worker: str = "",
        detail: dict[str, Any] | msgspec.Raw | None = None,
        body: bytes | None = None,
        id: str = "",
        position: str = "",
        at: float = 0.0,
    ) -> None:
        self.kind = kind
        self.headers = headers
        self.state = state
        self.worker = worker
        self.body = body
        self.id = id or headers.message_id
        self.position = position
        self.at = at
        self._detail = detail
        self._told: StepTold | None = None

    def __repr__(self) -> str:
        return f"<Record {self.position} {self.kind} {self.headers.correlation_id} hop {self.headers.hop}>"

    @property
    def detail(self) -> dict[str, Any]:
        """What else is to be said, by kind; decoded when first asked for."""
        if not isinstance(self._detail, dict):
            raw = self.detail_bytes
            try:
                decoded = msgspec.json.decode(raw) if raw else {}
            except (msgspec.MsgspecError, ValueError, RecursionError):
                decoded = {}  # it was skimmed so far; the record stands without it
            self._detail = decoded if isinstance(decoded, dict) else {}
        return self._detail

    @property
    def detail_bytes(self) -> bytes:
        """The detail as JSON, as it stands on a broker; empty or ``null``: there is none."""
        detail = self._detail
        if isinstance(detail, dict):
            return msgspec.json.encode(detail) if detail else b""
        return b"" if detail is None else bytes(detail)

    @property
    def detail_size(self) -> int:
        """Bytes that the detail takes as JSON, where it was not decoded yet; else the most that there are."""
        detail = self._detail
        return sys.maxsize if isinstance(detail, dict) else 0 if detail is None else len(detail)

    def without_body(self, detail: dict[str, Any] | None = None) -> Record:
        """This record without its message.

        Args:
            detail: another detail; None: its own.
        """
        # Filled in here, as in decode: a console makes one of each record that it reads.
        record = Record.__new__(Record)
        record.kind = self.kind
        record.headers = self.headers
        record.state = self.state
        record.worker = self.worker
        record.body = None
        record.id = self.id
        record.position = self.position
        record.at = self.at
        record._detail = self._detail if detail is None else detail
        record._told = self._told if detail is None else None
        return record

    def told(self) -> StepTold:
        """The step that was done, the seconds it took and whether some were inserted; the rest is not decoded."""
        told = self._told
        if told is None:
            # Kept: the fold and the rates ask for it, one behind the other.
            told = self._told = self._tell()
        return told

    def _tell(self) -> StepTold:
        detail = self._detail
        if isinstance(detail, dict):
            step, duration = detail.get("step"), detail.get("duration_s")
            return StepTold(
                step=step if isinstance(step, str) else "",
                duration_s=duration if isinstance(duration, int | float) else None,
                inserted=_SOMETHING if "inserted" in detail else _NOTHING.inserted,
            )
        if detail is None or len(detail) <= len(b"null"):
            return _NOTHING
        try:
            return _decode_told(detail)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            # What cannot be read may have inserted some.
            return StepTold(inserted=_SOMETHING) if b'"inserted"' in bytes(detail) else _NOTHING

    @property
    def message(self) -> PaigeantMessage | None:
        """The message published or parked by it, or None.

        Raises:
            DecodeError: the body is no message (as with most quarantined ones).
        """
        return None if self.body is None else PaigeantMessage.decode(self.body)

    def encode_meta(self) -> bytes:
        """What goes beside the body on a broker; position is the broker's own."""
        in_body = self.body is not None and self.kind != Kind.QUARANTINED
        return msgspec.json.encode(
            _Meta(
                kind=str(self.kind),
                id="" if self.id == self.headers.message_id else self.id,
                state=str(self.state),
                worker=self.worker,
                at=self.at,
                detail=msgspec.Raw(self.detail_bytes or b"null"),
                headers=None if in_body else self.headers.to_strings(),
            )
        )

    @classmethod
    def decode(cls, meta: bytes, body: bytes | None, position: str, at: float | None = None) -> Record:
        """The record that a broker holds; neither slip nor payload is decoded.

        Args:
            meta: what :meth:`encode_meta` made.
            body: the message, or None.
            position: where it stands.
            at: the broker's time for it; None: the writer's, from the meta.

        Raises:
            DecodeError: it is no record.
        """
        try:
            item = _decode_meta(meta)
            if item.headers is not None:
                headers = msgspec.convert(item.headers, Headers, strict=False)
            elif body is not None:
                headers = decode_headers(body)
            else:
                raise DecodeError("no journal record: it has no headers")
            if not 0 <= item.at < MAX_TIME:
                raise DecodeError("no journal record: its time is none")
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise DecodeError("no journal record") from None
        # A console makes a million of these: each is filled in here, which takes a third of what a call with eleven
        # arguments does.
        record = cls.__new__(cls)
        record.kind = item.kind
        record.headers = headers
        record.state = item.state
        record.worker = item.worker
        record.body = body
        record.id = item.id or headers.message_id
        record.position = position
        record.at = item.at if at is None else at
        record._detail = item.detail
        record._told = None
        return record

    def to_document(self) -> dict[str, Any]:
        """The record as `tail --json` and a workflow's history show it.

        Activity, hop and attempt are those of the step that the record tells of: of
        ``advanced`` the one that was done, with what is next in the detail.
        """
        headers = self.headers
        detail = dict(self.detail)
        activity, hop, attempt = headers.activity, headers.hop, headers.attempt
        # Anybody who may write to the broker can have made it: what is no step's name or number stays in the detail.
        if isinstance(detail.get("step"), str):
            activity = detail.pop("step")
            hop = detail.pop("hop") if type(detail.get("hop")) is int else hop
            attempt = detail.pop("attempt") if type(detail.get("attempt")) is int else attempt
            ongoing = self.kind in _ONWARD and headers.activity
            detail["next"] = {"activity": headers.activity, "hop": headers.hop} if ongoing else None
        return {
            "schema": 1,
            "position": self.position,
            "at": rfc3339(self.at),
            "kind": str(self.kind),
            "correlation_id": headers.correlation_id,
            "activity": activity,
            "hop": hop,
            "run": headers.run,
            "attempt": attempt,
            "epoch": headers.epoch,
            "worker": self.worker or None,
            "detail": detail,
        }


def without_late(history: Sequence[Record]) -> list[Record]:
    """A workflow's records without what came past the fence, where that is eventual.

    A copy of an older epoch that was settled behind the one that took its place is history, and tells nothing of
    where the workflow stands, of what was done in its run, or of the messages that its steps came with.

    Args:
        history: of one workflow, oldest first.
    """
    epoch, kept = 0, []
    for record in history:
        if record.headers.epoch < epoch and (record.state or record.kind == Kind.FAILED):
            continue
        if record.state:
            epoch = record.headers.epoch
        kept.append(record)
    return kept
