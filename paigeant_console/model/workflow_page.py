"""One workflow in full: what it is and why it stands where it stands, its hops with every try, and its history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import msgspec

from paigeant_console.model.documents import readable
from paigeant_console.model.fold import Fold
from paigeant_console.model.hop_cells import (
    TEXT_LIMIT,
    bar,
    by,
    extras,
    taken_from,
    taken_over,
    try_cells,
    undone_cells,
)
from paigeant_console.model.hop_log import Hop, Spent, hops_of, number_of, spent_of
from paigeant_console.model.looks import DONE, FAILED, SKIPPED, TO_COME, UNDONE, Look, kind_look, look, times_glyph
from paigeant_console.model.payload_diff import changes
from paigeant_console.model.plain_rows import RowCells
from paigeant_console.model.record_line import record_summary
from paigeant_console.model.row import Row
from paigeant_console.model.slip_track import failed_hop
from paigeant_console.model.stuck import explain, keys_line
from paigeant_console.model.text import EMPTY, Piece, Span, apart, clip, count, fit_line, shown, wrap_words
from paigeant_console.model.times import age, countdown, day_and_time, duration, parsed, seconds_in, stopwatch
from paigeant_console.model.trust import UNSIGNED, VALID, Finding, examine, last_body
from paigeant_console.model.workflow_list import state_spans
from paigeant_console.safe_text import SafeText, hex_lines, joined, literal, safe_block, safe_payload
from paigeant_core.journal import Record, State, without_late
from paigeant_core.message import Headers, PaigeantMessage

if TYPE_CHECKING:
    from paigeant_core.security.trust import Trust

__all__ = ["FORMS", "Detail", "Form", "WorkflowPage"]

_SPACE: Final = literal(" ")
_MOVING: Final = frozenset({State.QUEUED, State.RUNNING, State.RETRYING, State.COMPENSATING})

Form: TypeAlias = Literal["pretty", "changes", "raw", "hex"]
FORMS: Final[tuple[Form, ...]] = get_args(Form)
"""How a payload can be shown."""


@dataclass(frozen=True, slots=True)
class Detail:
    """What the payload pane shows.

    Attributes:
        title: what it is.
        lines: its text.
        raw: the bytes that are copied and written.
        styles: of the lines; empty: none has any.
    """

    title: SafeText
    lines: Sequence[SafeText]
    raw: bytes
    styles: Sequence[str] = ()


class WorkflowPage:
    """One workflow, made of its records; made anew when it changed.

    Args:
        history: its records, oldest first; may be empty.
        fold: that knows its row.
        correlation_id: whose.
        ascii_only: write ASCII only.
        policy: whose signatures count; None: nobody can tell here.
    """

    def __init__(
        self,
        history: Sequence[Record],
        fold: Fold,
        correlation_id: str,
        *,
        ascii_only: bool = False,
        policy: Trust | None = None,
    ) -> None:
        self.history = history
        self._moves = [record for record in without_late(history) if record.state]
        self.correlation_id = correlation_id
        self._fold = fold
        self._ascii = ascii_only
        self._hops = hops_of(history)
        last = last_body(history)
        self._stood: dict[int, Row | None] = {}
        # By the time of its own record: a key that runs out later takes nothing back.
        self.trust = examine(last[0], policy, last[1], last[1]) if last is not None else Finding(UNSIGNED)

    @property
    def row(self) -> Row | None:
        """Its row; of a workflow that the feed has not in memory what its records tell; None: there are none either."""
        row = self._fold.rows.get(self.correlation_id)
        return self._told if row is None else row

    @cached_property
    def _told(self) -> Row | None:
        fold = Fold()
        fold.apply(self.history)
        return fold.rows.get(self.correlation_id)

    # -- head ---------------------------------------------------------------------------

    def head(self, width: int, now: float, stood: tuple[Row, float] | None = None) -> list[Sequence[Span]]:
        """Who it is and where it stands, or stood: two or three lines.

        Args:
            width: cells there are.
            now: seconds since the Unix epoch.
            stood: the workflow as it was, and when, see :meth:`as_it_stood`; None: as it is.
        """
        row, at = stood if stood is not None else (self.row, now)
        if row is None:
            return [[(shown(self.correlation_id, width, ascii_only=self._ascii), "strong")]]
        headers = row.headers
        stuck = self._fold.stuck(row, at)
        name = shown(headers.name, 60, ascii_only=self._ascii)
        first = [
            Piece(tuple(state_spans(row, stuck, self._ascii))),
            Piece(((name, "strong"),) if name else (), rank=2),
            Piece(((shown(headers.correlation_id, 130, ascii_only=self._ascii), ""),)),
            Piece((self._trusted(),), rank=2 if self.trust.broken_since is not None else 4, right=True),
        ]
        # Of a message that nobody could read, nothing is known but that it came.
        hop = literal(f"hop {headers.hop} of {headers.steps_total}" if headers.steps_total else "its message is unread")
        created = parsed(headers.created_at)
        second = [
            Piece(((hop, ""),)),
            *(self._numbers(headers) if headers.steps_total else ()),
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

    def _numbers(self, headers: Headers) -> Sequence[Piece]:
        return (
            Piece(((literal(f"try {headers.attempt}"), "strong" if headers.attempt > 1 else "dim"),), rank=1),
            Piece(((literal(f"run {headers.run}"), "strong" if headers.run > 1 else "dim"),), rank=3),
            Piece(((literal(f"epoch {headers.epoch}"), "dim"),), rank=5),
        )

    def _trusted(self) -> Span:
        """What its signatures are worth, in a few words."""
        found = self.trust
        if found.status == VALID:
            acted = f", {len(found.interventions)} by operators" if found.interventions else ""
            return literal(f"{len(found.entries)} signatures valid{acted}"), "ok"
        if found.broken_since is None:
            return literal(found.status), "dim"
        code = shown(found.status.replace("_", " "), 20, ascii_only=self._ascii)
        return joined((literal("BROKEN: "), code, literal(f" since hop {found.broken_since}"))), "error"

    def _signed_by(self, number: int) -> Sequence[Span]:
        """Who signed that a hop was done, where that is looked at."""
        if not self.trust.entries:
            return ()
        entry = self.trust.hop(number)
        if entry is None:
            since = self.trust.broken_since
            return [(literal("unchecked"), "error")] if since is not None and number >= since else ()
        return [(joined((literal("signed "), shown(entry.signer, 40, ascii_only=self._ascii))), "dim")]

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

    def reason(self, width: int, now: float, most: int, *, read_only: bool = False) -> list[Sequence[Span]]:
        """Why it stands where it stands, wrapped, and the keys that help; none where there is nothing to say.

        Args:
            width: cells there are.
            now: seconds since the Unix epoch.
            most: lines there are.
            read_only: keys that write refuse.
        """
        row = self.row
        found = explain(self._fold, row, now, ascii_only=self._ascii) if row is not None else None
        if found is None:
            return []
        keys = keys_line(found, read_only=read_only)
        room = max(20, width - 2)
        text = wrap_words(found.sentence, room, most - 1 if keys else most)
        # A key that is cut off helps nobody: where there is any room, they have a second line beyond the rest.
        below = wrap_words(keys, room, 2 if most > 2 else 1) if keys else []
        said: list[Sequence[Span]] = [[(joined((literal("  "), line)), found.style)] for line in text]
        return [*said, *([(literal("  "), ""), (line, "dim")] for line in below)]

    # -- hops ---------------------------------------------------------------------------

    def hops(self, now: float) -> list[tuple[str, RowCells]]:
        """Rows of the hops: each step, under it every try that failed, and last the end, where it came to one.

        Columns: mark and step, try, started, how long it waited, how long it worked, both as a bar, and what came
        of it and by whom.
        """
        row = self.row
        scale = self._scale(now)
        rows: list[tuple[str, RowCells]] = []
        for number, hop in enumerate(self._hops, start=1):
            current = row is not None and row.step is not None and row.headers.hop == number
            current = current and row is not None and row.state != State.COMPENSATED
            cells = self._hop_cells(number, hop, row if current and self._ended is None else None, row, now, scale)
            rows.append((str(number), cells))
            below = [try_cells(one, "try", now, scale, self._ascii) for one in hop.tries]
            below += [try_cells(one, "undo, try", now, scale, self._ascii) for one in hop.undoes]
            if hop.undone is not None and row is not None and row.unwound:
                below.append(undone_cells(hop.undone, hop.undo_sent, now, scale, self._ascii))
            rows.extend((f"{number}.{index}", said) for index, said in enumerate(below, start=1))
        if self._ended is not None:
            mark = look(self._ended.state)
            name = [(joined((literal("   "), mark.mark(self._ascii), _SPACE)), mark.style), (literal("end"), "")]
            none = (EMPTY, "")
            at = (day_and_time(self._ended.at, now), "dim")
            rows.append((str(len(self._hops) + 1), (name, none, at, none, none, none, (mark.word, mark.style))))
        return rows

    @property
    def _ended(self) -> Record | None:
        """The record that completed it."""
        last = self._moves[-1] if self._moves else None
        return last if last is not None and last.state == State.COMPLETED else None

    def stands_at(self) -> str | None:
        """The key of the row of :meth:`hops` where the workflow stands."""
        if self._ended is not None:
            return str(len(self._hops) + 1)
        return None if self.row is None else str(self.row.headers.hop)

    def totals(self, now: float) -> tuple[float, float]:
        """Seconds that it waited and worked so far, in this run."""
        spans = [span for hop in self._hops for span in self._spent(hop, now)]
        return sum(span.waited or 0.0 for span in spans), sum(span.worked or 0.0 for span in spans)

    def _spent(self, hop: Hop, now: float) -> list[Spent]:
        spans = [spent_of(one.record, one.sent) for one in (*hop.tries, *hop.undoes)]
        if hop.undone is not None:
            spans.append(spent_of(hop.undone, hop.undo_sent))
        if hop.done is not None:
            spans.append(spent_of(hop.done, hop.sent))
        if (here := self._here(hop)) is not None:
            spans.append(here)
        return [replace(span, ended=now) if span.ended is None and span.began is not None else span for span in spans]

    def _here(self, hop: Hop) -> Spent | None:
        """Of the step where it stands: while it waits it has not begun, and parked it does neither."""
        row = self.row
        if row is None or self._ended is not None or not 0 < row.hop <= len(self._hops):
            return None
        if self._hops[row.hop - 1] is not hop:
            return None
        sent = hop.undo_sent if row.undoing else hop.came.at if hop.came is not None else None
        if sent is None:
            return None
        sent = max(sent, row.trouble.back_at)
        if row.running is not None and row.state in (State.RUNNING, State.COMPENSATING):
            return Spent(sent, row.running.since, None, row.trouble.ran_since or None)
        waits = row.state in (State.QUEUED, State.RETRYING, State.COMPENSATING)
        return Spent(sent, None, None) if waits else None

    def _scale(self, now: float) -> tuple[float, float]:
        """From when to when the bars reach."""
        started = self.history[0].at if self.history else now
        moving = self.row is not None and self.row.state in _MOVING
        return started, now if moving or not self.history else self.history[-1].at

    def _hop_cells(
        self, number: int, hop: Hop, here: Row | None, row: Row | None, now: float, scale: tuple[float, float]
    ) -> RowCells:
        mark = self._mark(number, hop, here, row)
        name: Sequence[Span] = (
            (joined((literal(f"{number:>2} "), mark.mark(self._ascii), _SPACE)), mark.style),
            (shown(hop.name, TEXT_LIMIT, ascii_only=self._ascii), "strong" if here is not None else ""),
        )
        span = Spent(None, None, None)
        took = waited = EMPTY
        attempt = 1
        outcome: Sequence[Span] = ()
        if here is not None:
            attempt = here.headers.attempt
            span = self._here(hop) or span
            runs = span.began is not None
            if span.began is not None:
                took, waited = stopwatch(now - span.began), duration(span.waited)
            elif span.sent is not None:
                waited = age(now - span.sent)
            said = [(look(here.state).word, mark.style)]
            who = by(here.runner if runs else "", self._ascii)
            outcome = apart(said, taken_from(here.trouble.taken_from if runs else "", self._ascii), who)
            if here.state == State.RETRYING and (due := parsed(here.due_at)) is not None:
                outcome = [*outcome, (joined((literal(" next try "), countdown(due - now))), "warn")]
        elif hop.done is not None:
            detail = hop.done.detail
            attempt = number_of(detail.get("attempt"), 1)
            span = spent_of(hop.done, hop.sent)
            took = duration(seconds_in(detail.get("duration_s")))
            waited = duration(span.waited)
            who = by(hop.done.worker, self._ascii)
            outcome = apart(taken_over(detail), who, self._signed_by(number), extras(detail, self._ascii))
        elif mark is FAILED and hop.tries:
            attempt = hop.tries[-1].number
            outcome = [(mark.word, mark.style)]
        return (
            name,
            (times_glyph(attempt, self._ascii) if attempt > 1 else EMPTY, "strong"),
            (day_and_time(span.began, now) if span.began is not None else EMPTY, "dim"),
            (waited, "dim"),
            (took, ""),
            bar(span, scale, self._ascii),
            outcome,
        )

    def _mark(self, number: int, hop: Hop, here: Row | None, row: Row | None) -> Look:
        if here is not None:
            return look(here.state)
        if row is not None and row.unwound and number <= row.steps_done:
            if hop.done is None and hop.undone is None:
                return SKIPPED
            return UNDONE if row.state == State.COMPENSATED or number > row.hop else DONE
        if row is not None and number == failed_hop(row):
            return FAILED
        if hop.done is not None:
            return DONE
        done = row is not None and number <= row.headers.steps_done
        return (SKIPPED if hop.came is not None else DONE) if done else TO_COME

    # -- details ------------------------------------------------------------------------

    def payload_at(
        self, key: str | None, width: int, form: Form = "pretty", *, base: int | None = None
    ) -> Detail | None:
        """The payload as it came to the hop of a row of :meth:`hops`; of a hop that was not reached: as it is now.

        Args:
            key: of the row.
            width: cells there are.
            form: how to show it.
            base: the hop that ``changes`` are told from; None: the one before.
        """
        number = int(key.partition(".")[0]) if key else 0
        record = self._hops[number - 1].came if 0 < number <= len(self._hops) else None
        # The form comes first: the rest may be cut.
        what = literal({"raw": "raw payload", "hex": "payload in hex"}.get(form, "payload"))
        title = joined((what, literal(f" as it came to hop {number}")))
        if record is None:
            record = self._newest()
            title = joined((what, literal(" as it ended" if self._ended is not None else " as it stands")))
            number = len(self._hops) + 1 if self._ended is not None else self.reached()
        if record is None or record.body is None:
            return None
        message = readable(record)
        if message is None:
            kind, lines = safe_payload(record.body, line_limit=max(20, width))
            what = literal(f"message that nobody can read, {kind}, ")
            return Detail(joined((what, count(len(record.body)), literal(" bytes"))), lines, record.body)
        payload = message.payload_bytes
        size = joined((literal(", "), count(len(payload)), literal(" bytes")))
        if form == "changes":
            return self._changes(number, base, payload, size)
        if form == "raw":
            return Detail(joined((title, size)), safe_block(payload, line_limit=max(20, width)), payload)
        if form == "hex":
            return Detail(joined((title, size)), hex_lines(payload, per_line=16 if width >= 76 else 8), payload)
        _, lines = safe_payload(payload, line_limit=max(20, width))
        arguments = self._arguments(message, number)
        if arguments:
            extra = safe_payload(arguments, line_limit=max(20, width))[1]
            lines = [*lines, EMPTY, literal("arguments of this step alone:"), *extra]
        return Detail(joined((title, size)), lines, payload)

    def _changes(self, number: int, base: int | None, payload: bytes, size: SafeText) -> Detail:
        """What is different from an earlier hop."""
        start = max(1, number - 1) if base is None else base
        here = literal("the end" if number > len(self._hops) else f"hop {number}")
        before = self.payload_bytes_at(start)
        title = joined((literal(f"changed from hop {start} to "), here, size))
        if base is None and number <= 1:
            before, title = b"{}", joined((literal("what it was dispatched with"), size))
        found = changes(before, payload) if before is not None else None
        if found is None:
            return Detail(title, [literal("these two cannot be compared")], payload)
        return Detail(title, [line for line, _ in found], payload, [style for _, style in found])

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

    def as_it_stood(self, key: str | None) -> tuple[Row, float] | None:
        """The workflow as it was when it came to the hop of a row, and when that was; None: it stands there now."""
        number = self.hop_of(key)
        if number is None or str(number) == self.stands_at():
            return None
        if number not in self._stood:
            came = self._hops[number - 1].came
            fold = Fold()
            for record in self.history:
                fold.apply((record,))
                if record is came:
                    break
            self._stood[number] = fold.rows.get(self.correlation_id)
        row = self._stood[number]
        return (row, row.at) if row is not None else None

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
        return next((record for record in reversed(self._moves) if record.body is not None), None)

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


def _aged(word: str, at: float, now: float) -> tuple[Span, ...]:
    ago = literal(f" ({age(now - at)} ago)")
    return (literal(f"{word} "), "dim"), (day_and_time(at, now), ""), (ago, "dim")


def _key(record: Record) -> str:
    return record.position or record.id
