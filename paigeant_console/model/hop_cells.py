"""Cells of the hop table: its bars, the tries that failed and what was undone, and what came of each by whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from paigeant_console.model.hop_log import Spent, Try, spent_of
from paigeant_console.model.looks import UNDONE, look
from paigeant_console.model.plain_rows import RowCells
from paigeant_console.model.record_line import died_with_it
from paigeant_console.model.text import EMPTY, Span, apart, shown
from paigeant_console.model.times import day_and_time, duration
from paigeant_console.safe_text import joined, literal
from paigeant_core.journal import Record, State

__all__ = ["BAR", "TEXT_LIMIT", "bar", "by", "extras", "taken_from", "taken_over", "try_cells", "undone_cells"]

TEXT_LIMIT: Final = 64
BAR: Final = 24
"""Cells of the bars that show when it waited and when it worked."""


def bar(span: Spent, scale: tuple[float, float], ascii_only: bool) -> Sequence[Span]:
    """When it waited and when it worked, within the whole of the workflow."""
    start, end = scale
    if span.sent is None or end <= start:
        return ((EMPTY, ""),)

    def cell(at: float | None) -> int:
        return round(BAR * min(1.0, max(0.0, ((end if at is None else at) - start) / (end - start))))

    sent, began, ended = cell(span.sent), cell(span.began if span.first is None else span.first), cell(span.ended)
    if span.began is None:
        ended = began
    else:
        # However short, it is to be seen.
        began = min(began, BAR - 1)
        sent, ended = min(sent, began), max(ended, began + 1)
    wait, work = (".", "#") if ascii_only else ("░", "█")
    return (literal(" " * sent + wait * (began - sent)), "dim"), (literal(work * (ended - began)), "info")


def undone_cells(
    record: Record, sent: float | None, now: float, scale: tuple[float, float], ascii_only: bool
) -> RowCells:
    """The row below a hop that says that it was undone."""
    span = spent_of(record, sent)
    mark = UNDONE.mark(ascii_only)
    nothing = record.detail.get("undo") == "no compensator"
    outcome: list[Span] = [(literal("nothing to undo: it has no compensator"), "dim")] if nothing else []
    return (
        ((literal("    "), ""), (mark, UNDONE.style), (literal(" undone"), "dim")),
        (EMPTY, ""),
        (day_and_time(span.began, now) if span.began is not None else EMPTY, "dim"),
        (duration(span.waited), "dim"),
        (duration(span.worked), "dim"),
        bar(span, scale, ascii_only),
        apart(outcome, taken_over(record.detail), by(record.worker, ascii_only)),
    )


def try_cells(one: Try, word: str, now: float, scale: tuple[float, float], ascii_only: bool) -> RowCells:
    """The row below a hop of a try that failed; `word` is what was tried."""
    record = one.record
    span = spent_of(record, one.sent)
    cross = look(State.DEAD)
    at = span.began if span.began is not None else record.at
    return (
        ((literal("    "), ""), (cross.mark(ascii_only), "error"), (literal(f" {word} {one.number}"), "dim")),
        (EMPTY, ""),
        (day_and_time(at, now), "dim"),
        (duration(span.waited), "dim"),
        (duration(span.worked), "dim"),
        bar(span, scale, ascii_only),
        apart(_error(record.detail, ascii_only), taken_over(record.detail), by(record.worker, ascii_only)),
    )


def by(worker: str, ascii_only: bool) -> Sequence[Span]:
    """On which worker."""
    return [(joined((literal("on "), shown(worker, TEXT_LIMIT, ascii_only=ascii_only))), "dim")] if worker else ()


def _error(detail: Mapping[str, Any], ascii_only: bool) -> Sequence[Span]:
    error = detail.get("error")
    if not isinstance(error, Mapping):
        return [(shown(str(detail.get("reason", "")).replace("_", " "), 300, ascii_only=ascii_only), "error")]
    kind = shown(str(error.get("type", "")), 60, ascii_only=ascii_only)
    message = shown(str(error.get("message", "")), 300, ascii_only=ascii_only)
    return [(joined((kind, literal(": "))) if message else kind, "error"), (message, "")]


def extras(detail: Mapping[str, Any], ascii_only: bool) -> Sequence[Span]:
    """Steps that its handler put in, or left out."""
    said: list[Span] = []
    for key in ("inserted", "discarded"):
        steps = detail.get(key)
        if isinstance(steps, list) and steps:
            names = shown(", ".join(map(str, steps)), 200, ascii_only=ascii_only)
            said = apart(said, [(joined((literal(f"{key} "), names)), "info")])
    return said


def taken_over(detail: Mapping[str, Any]) -> Sequence[Span]:
    """That others had begun it."""
    died = died_with_it(detail.get("deaths"))
    return [(literal(f"taken over ({died})"), "warn")] if died else ()


def taken_from(worker: str, ascii_only: bool) -> Sequence[Span]:
    """From whom it was taken over."""
    name = shown(worker, TEXT_LIMIT, ascii_only=ascii_only)
    return [(joined((literal("taken over from "), name)), "warn")] if worker else ()
