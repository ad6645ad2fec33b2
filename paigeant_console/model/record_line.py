"""A record of the journal in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from paigeant_console.model.looks import times_glyph
from paigeant_console.model.text import Span, shown
from paigeant_console.model.times import day_and_time, duration, parsed, seconds_in
from paigeant_console.safe_text import joined, literal
from paigeant_core.journal import Kind, Record

__all__ = ["died_with_it", "record_summary"]

_SPACE: Final = literal(" ")


def record_summary(record: Record, *, ascii_only: bool = False, with_step: bool = True) -> Sequence[Span]:
    """What a record says beside when and what, in one line."""
    document = record.to_document()
    detail: Mapping[str, Any] = document["detail"]
    spans: list[Span] = []

    def add(text: object, style: str = "", limit: int = 120) -> None:
        words = shown(str(text), limit, ascii_only=ascii_only)
        if words:
            spans.append((joined((_SPACE, words)) if spans else words, style))

    if with_step and document["activity"]:
        add(document["activity"], "strong")
        if document["attempt"] > 1:
            spans.append((joined((_SPACE, times_glyph(document["attempt"], ascii_only))), "strong"))
    if (seconds := seconds_in(detail.get("duration_s"))) is not None:
        add(f"took {duration(seconds)}", "dim")
    if died := died_with_it(detail.get("deaths")):
        add(f"after {died}", "warn")
    if isinstance(undo := detail.get("undo"), str):
        add("undone" if undo == "done" else f"nothing undone: {undo}", "dim")
    if isinstance(not_done := detail.get("not_done"), str):
        add(f"not done: {not_done}", "warn", 300)
    if isinstance(following := detail.get("next"), Mapping):
        add(f"next {following.get('activity')}", "dim")
    if record.kind == Kind.OPERATED:
        add(detail.get("action", ""), "info")
        add(f"by {detail.get('operator', '')}", "dim")
        add(detail.get("reason", ""), "", 300)
        return spans
    if record.kind == Kind.WORKER:
        add(record.worker, "strong")
        add(detail.get("event", ""), "")
        names = detail.get("activities")
        add(", ".join(map(str, names)) if isinstance(names, list) else "", "dim")
        return spans
    error = detail.get("error")
    if isinstance(error, Mapping):
        add(f"{error.get('type', '')}:", "error")
        add(error.get("message", ""), "", 300)
    elif detail.get("reason"):
        add(str(detail["reason"]).replace("_", " "), "warn", 300)
    if isinstance(why_dead := detail.get("why"), str):
        add(why_dead, "", 300)
    if isinstance(due := parsed(detail.get("due_at")), float):
        add(f"next try {day_and_time(due, record.at)}", "dim")
    if record.worker:
        add(f"on {record.worker}", "dim")
    return spans


def died_with_it(deaths: object) -> str:
    """How many workers died with a step before it was taken over: whoever asks whether it was done twice has to know.

    Args:
        deaths: off the wire.
    """
    if not isinstance(deaths, int) or deaths <= 0:
        return ""
    return f"{deaths:,} worker{'s' if deaths > 1 else ''} died with it"
