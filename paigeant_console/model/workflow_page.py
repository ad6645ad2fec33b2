"""One workflow in full: what it is and why it stands where it stands, its hops with every try, and its history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from paigeant_console.model.fold import Fold, Row, readable
from paigeant_console.model.looks import DONE, SKIPPED, TODO, UNDONE, Look, kind_look, look, times_glyph
from paigeant_console.model.plain_rows import RowCells
from paigeant_console.model.text import EMPTY, Piece, Span, clip, count, fit_line, shown, wrap_words
from paigeant_console.model.times import age, countdown, day_and_time, duration, parsed, stopwatch
from paigeant_console.model.workflow_list import state_spans, why
from paigeant_console.safe_text import SafeText, joined, literal, safe_payload
from paigeant_core.journal import Kind, Record, State
from paigeant_core.message import PaigeantMessage

__all__ = ["Detail", "WorkflowPage", "record_summary"]

_SPACE: Final = literal(" ")
TEXT_LIMIT: Final = 64


@dataclass(slots=True)
class _Try:
    """A try of a hop that failed, as the journal tells it."""

    record: Record
    number: int


@dataclass(slots=True)
class _Hop:
    """One hop: what is to be done, and what was."""

    name: str
    tries: list[_Try] = field(default_factory=list)
    done: Record | None = None
    came: Record | None = None
    """The record that published the message it came with."""


@dataclass(frozen=True, slots=True)
class Detail:
    """What the payload pane shows.

    Attributes:
        title: what it is.
        lines: its text.
        raw: the bytes that are copied and written.
    """

    title: SafeText
    lines: Sequence[SafeText]
    raw: bytes


class WorkflowPage:
    """One workflow, made of its records; made anew when it changed.

    Args:
        history: its records, oldest first; may be empty.
        fold: that knows its row.
        correlation_id: whose.
        ascii_only: write ASCII only.
    """

    def __init__(self, history: Sequence[Record], fold: Fold, correlation_id: str, *, ascii_only: bool = False) -> None:
        self.history = history
        self.correlation_id = correlation_id
        self._fold = fold
        self._ascii = ascii_only
        self._hops = _hops_of(history)

    @property
    def row(self) -> Row | None:
        """Its row, or None while the feed does not know it."""
        return self._fold.rows.get(self.correlation_id)

    # -- head ---------------------------------------------------------------------------

    def head(self, width: int, now: float) -> list[Sequence[Span]]:
        """Who it is and where it stands: two or three lines."""
        row = self.row
        if row is None:
            return [[(shown(self.correlation_id, width, ascii_only=self._ascii), "strong")]]
        headers = row.headers
        stuck = self._fold.stuck(row, now)
        name = shown(headers.name, 60, ascii_only=self._ascii)
        first = [
            Piece(tuple(state_spans(row, stuck, self._ascii))),
            Piece(((name, "strong"),) if name else (), rank=2),
            Piece(((shown(headers.correlation_id, 130, ascii_only=self._ascii), ""),)),
            Piece(((literal("unsigned"), "dim"),), rank=4, right=True),
        ]
        hop = literal(f"hop {headers.hop} of {headers.steps_total}")
        created = parsed(headers.created_at)
        second = [
            Piece(((hop, ""),)),
            Piece(((literal(f"try {headers.attempt}"), "strong" if headers.attempt > 1 else "dim"),), rank=1),
            Piece(((literal(f"run {headers.run}"), "strong" if headers.run > 1 else "dim"),), rank=3),
            Piece(((literal(f"epoch {headers.epoch}"), "dim"),), rank=5),
            Piece(_aged("created", created, now) if created is not None else (), rank=4),
            Piece(_aged("changed", row.at, now), rank=2),
            Piece(self._runner(row), rank=6),
        ]
        lines: list[Sequence[Span]] = [
            fit_line(first, width, ascii_only=self._ascii),
            fit_line(second, width, ascii_only=self._ascii),
        ]
        if labels := self._labels(row.headers.label_map):
            lines.append(clip(labels, width, ascii_only=self._ascii))
        return lines

    def _runner(self, row: Row) -> tuple[Span, ...]:
        if not row.runner:
            return ()
        return (literal("on "), "dim"), (shown(row.runner, 60, ascii_only=self._ascii), "")

    def _labels(self, labels: Mapping[str, str]) -> list[Span]:
        spans: list[Span] = []
        for key, value in sorted(labels.items()):
            spans.append((joined((shown(key, 30, ascii_only=self._ascii), literal("="))), "dim"))
            spans.append((joined((shown(value, 60, ascii_only=self._ascii), literal("  "))), ""))
        return spans

    def reason(self, width: int, now: float, most: int) -> list[Sequence[Span]]:
        """Why it stands where it stands, wrapped; at most so many lines, none where there is nothing to say."""
        row = self.row
        if row is None:
            return []
        stuck = self._fold.stuck(row, now)
        spans = why(row, stuck, 4000, ascii_only=self._ascii)
        if not spans:
            return []
        tail = EMPTY
        if row.state == State.DEAD and row.error is not None and row.reason:
            word = shown(row.reason.replace("_", " "), 60, ascii_only=self._ascii)
            tail = joined((literal(" ("), word, literal(")")))
        elif row.state == State.RETRYING and (due := parsed(row.due_at)) is not None:
            tail = joined((literal(" (next try "), countdown(due - now), literal(")")))
        text = joined([*(text for text, _ in spans), tail])
        style = spans[0][1] or "warn"
        return [[(joined((literal("  "), line)), style)] for line in wrap_words(text, max(20, width - 2), most)]

    # -- hops ---------------------------------------------------------------------------

    def hops(self, now: float) -> list[tuple[str, RowCells]]:
        """Rows of the hops: each step, and under it every try that failed.

        Columns: mark and step, try, started, took, what came of it and by whom.
        """
        row = self.row
        rows: list[tuple[str, RowCells]] = []
        for number, hop in enumerate(self._hops, start=1):
            current = row is not None and row.step is not None and row.headers.hop == number
            rows.append((str(number), self._hop_cells(number, hop, row if current else None, row, now)))
            rows.extend(
                (f"{number}.{index}", self._try_cells(one, now)) for index, one in enumerate(hop.tries, start=1)
            )
        return rows

    def _hop_cells(self, number: int, hop: _Hop, here: Row | None, row: Row | None, now: float) -> RowCells:
        mark = self._mark(number, hop, here, row)
        name: Sequence[Span] = (
            (joined((literal(f"{number:>2} "), mark.mark(self._ascii), _SPACE)), mark.style),
            (shown(hop.name, TEXT_LIMIT, ascii_only=self._ascii), "strong" if here is not None else ""),
        )
        if here is not None:
            attempt = here.headers.attempt
            runs = here.running is not None and here.state in (State.RUNNING, State.COMPENSATING)
            began = here.running.since if runs and here.running is not None else None
            took = stopwatch(now - began) if began is not None else EMPTY
            outcome: Sequence[Span] = [(look(here.state).word, mark.style), *self._by(here.runner if runs else "")]
            if here.state == State.RETRYING and (due := parsed(here.due_at)) is not None:
                outcome = [*outcome, (joined((literal(" next try "), countdown(due - now))), "warn")]
        elif hop.done is not None:
            detail = hop.done.detail
            attempt = _number(detail.get("attempt"), 1)
            began = parsed(detail.get("started_at"))
            seconds = detail.get("duration_s")
            took = duration(float(seconds)) if isinstance(seconds, int | float) else EMPTY
            outcome = [*self._by(hop.done.worker), *self._extras(detail)]
        else:
            attempt, began, took, outcome = 1, None, EMPTY, ()
        return (
            name,
            (times_glyph(attempt, self._ascii) if attempt > 1 else EMPTY, "strong"),
            (day_and_time(began, now) if began is not None else EMPTY, "dim"),
            (took, ""),
            outcome,
        )

    def _mark(self, number: int, hop: _Hop, here: Row | None, row: Row | None) -> Look:
        if here is not None:
            return look(here.state)
        if hop.done is not None:
            if row is not None and (row.undoing or row.state == State.COMPENSATED):
                undone = row.state == State.COMPENSATED or number > row.headers.hop
                return UNDONE if undone else DONE
            return DONE
        done = row is not None and number <= row.headers.steps_done
        return (SKIPPED if hop.came is not None else DONE) if done else TODO

    def _try_cells(self, one: _Try, now: float) -> RowCells:
        record = one.record
        detail = record.detail
        began, ended = parsed(detail.get("started_at")), parsed(detail.get("completed_at"))
        took = duration(ended - began) if began is not None and ended is not None else EMPTY
        cross = look(State.DEAD)
        at = began if began is not None else record.at
        return (
            ((literal("    "), ""), (cross.mark(self._ascii), "error"), (literal(f" try {one.number}"), "dim")),
            (EMPTY, ""),
            (day_and_time(at, now), "dim"),
            (took, "dim"),
            [*self._error(detail), *self._by(record.worker)],
        )

    def _by(self, worker: str) -> Sequence[Span]:
        return [(joined((literal(" on "), shown(worker, TEXT_LIMIT, ascii_only=self._ascii))), "dim")] if worker else ()

    def _error(self, detail: Mapping[str, Any]) -> Sequence[Span]:
        error = detail.get("error")
        if not isinstance(error, Mapping):
            return [(shown(str(detail.get("reason", "")).replace("_", " "), 300, ascii_only=self._ascii), "error")]
        kind = shown(str(error.get("type", "")), 60, ascii_only=self._ascii)
        message = shown(str(error.get("message", "")), 300, ascii_only=self._ascii)
        return [(joined((kind, literal(": "))) if message else kind, "error"), (message, "")]

    def _extras(self, detail: Mapping[str, Any]) -> Sequence[Span]:
        said: list[Span] = []
        for key in ("inserted", "discarded"):
            steps = detail.get(key)
            if isinstance(steps, list) and steps:
                names = shown(", ".join(map(str, steps)), 200, ascii_only=self._ascii)
                said.append((joined((literal(f" {key} "), names)), "info"))
        return said

    # -- details ------------------------------------------------------------------------

    def payload_at(self, key: str | None, width: int) -> Detail | None:
        """The payload as it came to the hop of a row of :meth:`hops`; of a hop that was not reached: as it is now."""
        number = int(key.partition(".")[0]) if key else 0
        record = self._hops[number - 1].came if 0 < number <= len(self._hops) else None
        title = literal(f"payload as it came to hop {number}")
        if record is None:
            record = self._newest()
            title = literal("payload as it stands")
        if record is None or record.body is None:
            return None
        message = readable(record)
        if message is None:
            kind, lines = safe_payload(record.body, line_limit=max(20, width))
            what = literal(f"message that nobody can read, {kind}, ")
            return Detail(joined((what, count(len(record.body)), literal(" bytes"))), lines, record.body)
        payload = message.payload_bytes
        _, lines = safe_payload(payload, line_limit=max(20, width))
        arguments = self._arguments(message, number)
        if arguments:
            extra = safe_payload(arguments, line_limit=max(20, width))[1]
            lines = [*lines, EMPTY, literal("arguments of this step alone:"), *extra]
        return Detail(joined((title, literal(", "), count(len(payload)), literal(" bytes"))), lines, payload)

    def _arguments(self, message: PaigeantMessage, number: int) -> bytes:
        slip = message.routing_slip
        index = number - 1 - len(slip.executed)
        if 0 <= index < len(slip.itinerary) and slip.itinerary[index].arguments:
            return msgspec.json.encode(dict(slip.itinerary[index].arguments))
        return b""

    def record_detail(self, position: str, width: int) -> Detail | None:
        """A record of the history in full."""
        record = next((record for record in self.history if _key(record) == position), None)
        if record is None:
            return None
        raw = msgspec.json.encode(record.to_document())
        _, lines = safe_payload(raw, line_limit=max(20, width))
        word, _ = kind_look(str(record.kind))
        return Detail(joined((literal("record: "), word)), lines, raw)

    def hop_of(self, key: str | None) -> int | None:
        """The number of the hop of a row of :meth:`hops`, if it was reached."""
        number = int(key.partition(".")[0]) if key else 0
        reached = 0 < number <= len(self._hops) and self._hops[number - 1].came is not None
        return number if reached else None

    def names(self) -> list[str]:
        """The steps in order, as far as they are known."""
        return [hop.name for hop in self._hops]

    def reached(self) -> int:
        """The last hop that was reached."""
        return max((number for number, hop in enumerate(self._hops, start=1) if hop.came is not None), default=0)

    def payload_bytes_at(self, number: int) -> bytes | None:
        """The payload as it came to a hop, if the journal has it."""
        record = self._hops[number - 1].came if 0 < number <= len(self._hops) else None
        message = readable(record) if record is not None else None
        return None if message is None else message.payload_bytes

    def _newest(self) -> Record | None:
        return next((record for record in reversed(self.history) if record.body is not None and record.state), None)

    # -- history ------------------------------------------------------------------------

    def records(self, now: float) -> list[tuple[str, RowCells]]:
        """Rows of the history, newest first: when, what, of which hop, by whom, and what was said."""
        return [
            (
                _key(record),
                (
                    (day_and_time(record.at, now), "dim"),
                    kind_look(str(record.kind)),
                    record_summary(record, ascii_only=self._ascii),
                ),
            )
            for record in reversed(self.history)
        ]


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
    if isinstance(seconds := detail.get("duration_s"), int | float):
        add(f"took {duration(float(seconds))}", "dim")
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


def _aged(word: str, at: float, now: float) -> tuple[Span, ...]:
    ago = literal(f" ({age(now - at)} ago)")
    return (literal(f"{word} "), "dim"), (day_and_time(at, now), ""), (ago, "dim")


def _key(record: Record) -> str:
    return record.position or record.id


def _number(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _hops_of(history: Sequence[Record]) -> list[_Hop]:
    """What the journal tells of each hop, of the newest run that came to it."""
    newest = next((record for record in reversed(history) if record.state and record.body is not None), None)
    message = readable(newest) if newest is not None else None
    hops = [_Hop(name) for name in (message.routing_slip.names() if message is not None else ())]
    run = 0
    for record in history:
        if not record.state:
            continue
        if record.headers.run != run:
            run = record.headers.run
            for hop in hops[max(0, record.headers.hop - 1) :]:
                # A replay does the work again from here.
                hop.tries, hop.done, hop.came = [], None, None
        _tell(hops, record)
    return hops


def _tell(hops: list[_Hop], record: Record) -> None:
    detail, headers = record.detail, record.headers
    if "undo" in detail or record.state in (State.COMPENSATING, State.COMPENSATION_FAILED):
        return
    if "step" in detail and isinstance(number := detail.get("hop"), int) and 0 < number <= len(hops):
        hops[number - 1].done = record
    if record.kind in (Kind.RETRYING, Kind.DEAD_LETTERED) and "error" in detail and 0 < headers.hop <= len(hops):
        number = _number(detail.get("failed_attempt"), headers.attempt)
        hops[headers.hop - 1].tries.append(_Try(record, number))
    if headers.activity and record.body is not None and 0 < headers.hop <= len(hops):
        hops[headers.hop - 1].came = record
