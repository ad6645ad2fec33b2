"""One workflow as ``show --json`` shows it, made of its row and its journal records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from paigeant_console.model.fold import Fold
from paigeant_core.errors import PaigeantError
from paigeant_core.journal import Record, without_late
from paigeant_core.message import PaigeantMessage


def workflow_document(
    fold: Fold, history: Sequence[Record], now: float, trust: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """One workflow as ``show --json`` shows it: the row, its slip, payload and history.

    Args:
        fold: into which ``history`` was folded.
        history: the workflow's records, oldest first; at least one that names a state.
        now: seconds since the Unix epoch.
        trust: what was found of its signatures.
    """
    row = fold.rows[history[-1].headers.correlation_id]
    current = next(record for record in reversed(history) if record.id == row.token and record.state)
    document = fold.document(row, now)
    message = readable(current)
    if message is None:
        itinerary: list[Any] = []
        executed: list[Any] = []
        payload: Any = None
    else:
        slip = message.routing_slip
        itinerary = [{"name": str(step), "arguments": dict(step.arguments)} for step in slip.itinerary]
        executed = executed_documents(history, message)
        payload = msgspec.Raw(message.payload_bytes)
    return {
        **document,
        **(trust or {}),
        "itinerary": itinerary,
        "executed": executed,
        "payload": payload,
        "history": [record.to_document() for record in history],
    }


def executed_documents(history: Sequence[Record], message: PaigeantMessage) -> list[dict[str, Any]]:
    """The executed steps of ``message`` with the times and workers that the journal tells."""
    told: dict[int, Record] = {}
    for record in without_late(history):
        detail = record.detail
        if record.state and "undo" not in detail and isinstance(detail.get("hop"), int) and "step" in detail:
            told[detail["hop"]] = record
    documents = []
    for hop, step in enumerate(message.routing_slip.executed, start=1):
        # The journal may tell of who ran it in an earlier run.
        teller = None if step.skipped else told.get(hop)
        detail = teller.detail if teller is not None else {}
        documents.append(
            {
                "name": str(step),
                "attempt": step.attempt,
                "worker": (teller.worker or None) if teller is not None else None,
                "started_at": detail.get("started_at"),
                "completed_at": detail.get("completed_at"),
                "duration_s": detail.get("duration_s"),
            }
        )
    return documents


def readable(record: Record) -> PaigeantMessage | None:
    """The record's message, or None where it has none that can be read."""
    try:
        return record.message
    except PaigeantError:
        return None
