"""What is left of a workflow that was erased: who, when, and how far it had come, but nothing of what it was about.

A journal record, the *marker*, says it. It names the state that the workflow stands in from
then on, so it fences: what a late worker still brings is refused. Where a broker cannot take
a record away, readers show what they find of the workflow without its contents
(:func:`stripped`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from paigeant_core.journal import ENDED, Kind, Record, State
from paigeant_core.message import Headers
from paigeant_core.names import new_id

_OPERATED = Kind.OPERATED

ERASED = "erased"
"""What the detail of a marker says."""


def marker(current: Record, at: float, detail: dict[str, Any]) -> Record:
    """The record that a workflow was erased.

    One that was parked is cancelled by it: its message is gone, and nothing can be done with it.

    Args:
        current: the last record that named a state.
        at: now.
        detail: who, why, which operation; no contents.
    """
    headers = msgspec.structs.replace(_bare(current.headers), message_id=new_id(), epoch=current.headers.epoch + 1)
    state = current.state if current.state in ENDED else State.CANCELLED
    return Record(Kind.OPERATED, headers, state=state, detail={**detail, ERASED: True}, at=at)


def is_marker(record: Record) -> bool:
    """Whether ``record`` says that its workflow was erased."""
    return record.kind == _OPERATED and record.body is None and record.state != "" and ERASED in record.detail


def stripped(record: Record) -> Record:
    """``record`` without message, detail, name and labels: that something happened, when, and by which worker."""
    return Record(
        record.kind,
        _bare(record.headers),
        state=record.state,
        worker=record.worker,
        id=record.id,
        position=record.position,
        at=record.at,
    )


def _bare(headers: Headers) -> Headers:
    return msgspec.structs.replace(headers, name="", labels="", traceparent="")
