"""Rows of the smaller tables: queues, workers, the audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from paigeant_console.model.fold import Fold
from paigeant_console.model.plain_rows import RowCells
from paigeant_console.model.rates import Rates, per_second, sparkline
from paigeant_console.model.text import EMPTY, Span, brief_id, count, shown, spans_width
from paigeant_console.model.times import age, day_and_time, parsed, stopwatch
from paigeant_console.safe_text import SafeText, joined, literal
from paigeant_core.transports.types import QueueStatus, WorkerStatus

__all__ = ["action_of", "audit_keyed", "audit_rows", "operation_of", "problem_of", "queue_rows", "worker_rows"]

LIMIT: Final = 200
_ID_CELLS: Final = (36, 20, 12, 8)
"""Of the IDs of what a worker runs, the widest that all of them have room for."""


def _figure(value: int | None, style: str = "") -> Span:
    """A number, or that this broker cannot tell."""
    if value is None:
        return literal("?"), "dim"
    return count(value), style if value else "dim"


def queue_rows(
    queues: Sequence[QueueStatus], fold: Fold, rates: Rates, now: float, *, ascii_only: bool
) -> list[tuple[str, RowCells]]:
    """Rows of queues: activity, ready, running, delayed, workers, oldest, median, steps done lately, what is wrong."""
    rows: list[tuple[str, RowCells]] = []
    reported = Counter(held.activity for status in fold.workers for held in status.running)
    for queue in queues:
        unserved = _unserved(queue)
        median = fold.median(queue.activity)
        lately = rates.lately(queue.activity, now)
        rows.append(
            (
                queue.activity,
                (
                    (shown(queue.activity, LIMIT, ascii_only=ascii_only), "strong" if queue.ready else ""),
                    _figure(queue.ready, "warn" if unserved else "strong"),
                    _running(queue, reported[queue.activity]),
                    _figure(queue.delayed, "warn"),
                    _figure(queue.consumers, "ok") if not unserved else (literal("0"), "error"),
                    _oldest(queue),
                    (_seconds(median), "dim"),
                    (per_second(lately), ""),
                    (sparkline(lately, ascii_only=ascii_only), "info" if any(lately) else "dim"),
                    problem_of(queue),
                ),
            )
        )
    return rows


def problem_of(queue: QueueStatus) -> Span:
    """What is wrong with a queue; empty: nothing."""
    problems = [literal("no worker")] if (unserved := _unserved(queue)) else []
    if queue.paused is not None:
        problems.append(literal("paused"))
    return joined(problems, literal(", ")), "error" if unserved else "warn" if problems else ""


def _unserved(queue: QueueStatus) -> bool:
    """Whether it has work and no worker; what a dead worker holds and what is delayed will want one too."""
    return queue.consumers == 0 and bool(queue.ready or queue.in_flight or queue.delayed)


def _running(queue: QueueStatus, reported: int) -> Span:
    """How many are held; where the broker cannot tell, or its word is of some seconds ago, rather what workers say."""
    exact = queue.exact and queue.in_flight is not None
    if not exact and (about := reported or queue.in_flight or 0):
        return joined((literal("~"), count(about))), "info"
    return _figure(queue.in_flight, "info")


def _oldest(queue: QueueStatus) -> Span:
    """Of an empty queue nothing is oldest; of another one it may not be known."""
    if queue.oldest_s is not None:
        return age(queue.oldest_s), ""
    return (EMPTY, "") if queue.ready == 0 else (literal("?"), "dim")


def _seconds(value: float | None) -> SafeText:
    if value is None:
        return EMPTY
    return literal(f"{value * 1000:.0f}ms" if value < 1 else f"{value:.1f}s" if value < 100 else f"{value:.0f}s")


def worker_rows(
    workers: Sequence[WorkerStatus], now: float, *, room: int = 40, ascii_only: bool
) -> list[tuple[str, RowCells]]:
    """Rows of workers: name, load, what each runs, host, since when; IDs are whole where there is room for them.

    Args:
        workers: which.
        now: seconds since the Unix epoch.
        room: cells for what each runs.
        ascii_only: write ASCII only.
    """
    rows: list[tuple[str, RowCells]] = []
    for status in workers:
        info = status.info
        silent = status.last_seen_s > 10
        load = literal(f"{len(status.running):,}/{info.concurrency:,}")
        running = _runs(status, now, room, ascii_only=ascii_only)
        if not running:
            serves = shown(", ".join(info.activities), LIMIT, ascii_only=ascii_only)
            running = [(joined((literal("idle; serves "), serves)) if serves else literal("idle; serves all"), "dim")]
        host = shown(f"{info.host}:{info.pid}" if info.host else "", 60, ascii_only=ascii_only)
        up = age(now - info.started_at) if info.started_at else EMPTY
        seen: Span = (joined((literal("silent for "), age(status.last_seen_s))), "error") if silent else (up, "dim")
        rows.append(
            (
                info.worker,
                (
                    (shown(info.worker, LIMIT, ascii_only=ascii_only), "strong"),
                    (load, "info" if status.running else "dim"),
                    (host, "dim"),
                    seen,
                    running,
                ),
            )
        )
    return rows


def _runs(status: WorkerStatus, now: float, room: int, *, ascii_only: bool) -> list[Span]:
    """What a worker runs, the oldest first."""
    spans: list[Span] = []
    for cells in _ID_CELLS:
        spans = []
        for held in sorted(status.running, key=lambda held: held.since)[:8]:
            if spans:
                spans.append((literal(", "), "dim"))
            spans.append((shown(held.activity, 64, ascii_only=ascii_only), ""))
            spans.append((joined((literal(" "), stopwatch(now - held.since))), "info"))
            name = brief_id(held.correlation_id, cells, ascii_only=ascii_only)
            spans.append((joined((literal(" "), name)), "dim"))
        if spans_width(spans) <= room:
            break
    return spans


def audit_keyed(entries: Iterable[bytes]) -> dict[str, bytes]:
    """Entries of the audit by what names their rows for good: their content, as their places move with each new one."""
    keyed: dict[str, bytes] = {}
    same: Counter[bytes] = Counter()
    for entry in entries:
        keyed[f"{sha256(entry).hexdigest()} {same[entry]}"] = entry
        same[entry] += 1
    return keyed


def audit_rows(keyed: dict[str, bytes], now: float, *, ascii_only: bool) -> list[tuple[str, RowCells]]:
    """Rows of the audit, newest first: when, who, what, how many, what came of it, why.

    Args:
        keyed: from :func:`audit_keyed`.
        now: seconds since the Unix epoch.
        ascii_only: write ASCII only.
    """
    rows: list[tuple[str, RowCells]] = []
    for key, entry in reversed(keyed.items()):
        try:
            document: Any = msgspec.json.decode(entry)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            document = None
        if not isinstance(document, dict):
            unread = (literal("an entry that cannot be read"), "error")
            rows.append((key, ((EMPTY, ""), (EMPTY, ""), unread, (EMPTY, ""), (EMPTY, ""), (EMPTY, ""))))
            continue

        def field(name: str, limit: int = LIMIT, document: dict[str, Any] = document) -> SafeText:
            value = document.get(name)
            return EMPTY if value is None else shown(str(value), limit, ascii_only=ascii_only)

        at = parsed(document.get("at"))
        # What came out nil goes without saying.
        parts = [part for part in str(document.get("outcome") or "").split(", ") if not part.startswith("0 ")]
        outcome = shown(", ".join(parts) or "nothing", LIMIT, ascii_only=ascii_only)
        trouble = any("failed" in part for part in parts)
        rows.append(
            (
                key,
                (
                    (day_and_time(at, now) if at is not None else EMPTY, "dim"),
                    (field("operator"), "strong"),
                    (field("action"), "info"),
                    (field("targets"), ""),
                    (outcome, "error" if trouble else ""),
                    (field("reason", 400), ""),
                ),
            )
        )
    return rows


def operation_of(entry: bytes) -> str:
    """The ID of the operation that an entry of the audit tells of; empty: it tells of none."""
    return _text_in(entry, "operation_id")


def action_of(entry: bytes) -> str:
    """What was done, as an entry of the audit tells it; empty: it does not."""
    return _text_in(entry, "action")


def _text_in(entry: bytes, name: str) -> str:
    try:
        found = msgspec.json.decode(entry)[name]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return ""
    return found if isinstance(found, str) else ""
