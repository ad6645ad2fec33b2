"""Operations for people: how far each came, how it stands, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Final, Protocol

from paigeant_console.actions import key_of
from paigeant_console.model.confirmation import ID_CELLS, pace_words
from paigeant_console.model.looks import Look
from paigeant_console.model.plain_rows import RowCells
from paigeant_console.model.text import EMPTY, Span, brief_id, shown
from paigeant_console.model.times import countdown, day_and_time
from paigeant_console.safe_text import SafeText, joined, literal
from paigeant_core.operations import OperationState, OperationStatus, Report

__all__ = [
    "deed_spans",
    "failed_again",
    "look_of",
    "operation_line",
    "operation_rows",
    "outstanding_line",
    "progress_bar",
    "progress_spans",
    "report_spans",
]

MINUTE: Final = 60
BAR: Final = 10
"""Cells of the bars that show how far an operation came."""


class Done(Protocol):
    """What is told of an operation of this console; see :class:`paigeant_console.deeds.Deed`."""

    @property
    def action(self) -> str:
        """The name of what is done."""
        ...

    @property
    def total(self) -> int:
        """How many workflows it is for."""
        ...

    @property
    def so_far(self) -> int:
        """How many it is through with."""
        ...

    @property
    def done(self) -> int:
        """How many were done."""
        ...

    @property
    def failed(self) -> int:
        """How many could not be done."""
        ...

    @property
    def said(self) -> str:
        """Why it stands still, or ended early."""
        ...

    @property
    def error(self) -> str:
        """Why it came to nothing, or was cut off."""
        ...

    @property
    def on_record(self) -> bool:
        """Whether any console can go on with it."""
        ...

    @property
    def report(self) -> Report | None:
        """What came of it."""
        ...


def deed_spans(deed: Done, at: SafeText, then: SafeText = EMPTY, *, ascii_only: bool = False) -> Sequence[Span]:
    """The line that says what came of an operation, and ``then``, what can be done about it."""
    if deed.report is not None:
        return report_spans(deed.report, deed.action, at, then, said=deed.said, ascii_only=ascii_only)
    name = shown(deed.action, 20, ascii_only=ascii_only)
    spans: list[Span] = [(joined((at, literal(" "), name, literal(": "))), "dim")]
    if deed.so_far:
        # What was done comes first: the reason may be longer than the line, and sounds as if nothing had been.
        way = f"; {key_of('operation.pause')} in view {key_of('view.audit')} goes on" if deed.on_record else ""
        came = f"stopped at {deed.so_far:,}" if deed.so_far < deed.total else f"done for {deed.done:,}"
        spans.append((literal(f"{came} of {deed.total:,}{way}: "), "warn"))
    return [*spans, (shown(deed.error, 400, ascii_only=ascii_only), "error")]


def report_spans(
    report: Report, name: str, at: SafeText, then: SafeText = EMPTY, *, said: str = "", ascii_only: bool = False
) -> Sequence[Span]:
    """The line that says how an operation ended.

    Args:
        report: what came of it.
        name: what was done.
        at: when.
        then: what can be done about it.
        said: why it ended early.
        ascii_only: write ASCII only.
    """
    done, skipped, failed = (report.count(outcome) for outcome in ("done", "skipped", "failed"))
    spans: list[Span] = [(joined((at, literal(f" {name}: "))), "dim")]
    parts: list[Span] = [(literal(f"{done:,} done"), "ok" if done else "dim")]
    if skipped:
        parts.append((literal(f"{skipped:,} skipped"), "warn"))
    if failed:
        parts.append((literal(f"{failed:,} failed"), "error"))
    for index, part in enumerate(parts):
        spans += [(literal(", "), ""), part] if index else [part]
    if then:
        spans.append((joined((literal(" ("), then, literal(")"))), ""))
    first = next((result for result in report.results if result.outcome != "done"), None)
    if said:
        spans += [(literal("; "), ""), (shown(said, 200, ascii_only=ascii_only), "warn")]
    elif first is not None:
        spans.append((literal(": "), ""))
        if len(report.results) > 1:
            which = brief_id(first.correlation_id, ID_CELLS, ascii_only=ascii_only)
            spans.append((joined((which, literal(" "))), "strong"))
        spans.append((shown(first.reason, 300, ascii_only=ascii_only), ""))
    elif len(report.results) == 1:
        only = report.results[0]
        spans += [(literal(" "), ""), (shown(only.correlation_id, 40, ascii_only=ascii_only), "strong")]
        if only.reason:
            spans += [(literal(" "), ""), (shown(only.reason, 200, ascii_only=ascii_only), "")]
    return spans


def progress_spans(deeds: Sequence[Done], *, ascii_only: bool = False) -> Sequence[Span]:
    """How far the operations of this console are; the newest of them, and how many others there are."""
    if not deeds:
        return ()
    newest = deeds[-1]
    name = shown(newest.action, 20, ascii_only=ascii_only)
    so_far = literal(f": {newest.so_far:,} of {newest.total:,}")
    spans: list[Span] = [(joined((name, so_far)), "info")]
    if newest.failed:
        spans.append((literal(f", {newest.failed:,} failed"), "error"))
    if newest.said:
        spans.append((joined((literal("; "), shown(newest.said, 120, ascii_only=ascii_only))), "warn"))
    spans.append((literal(" ..." if ascii_only else " …"), "info"))
    if len(deeds) > 1:
        spans.append((literal(f"  and {len(deeds) - 1:,} more"), "info"))
    spans.append((literal(f"  {key_of('view.audit')} shows it"), "dim"))
    return spans


_ALONE: Final = Look(literal("‖"), literal("[?]"), "error", literal("alone"))
_LOOKS: Final = {
    OperationState.ARMED: Look(literal("○"), literal("[.]"), "warn", literal("armed")),
    OperationState.WAITING: Look(literal("○"), literal("[?]"), "warn", literal("waiting")),
    OperationState.RUNNING: Look(literal("▶"), literal("[>]"), "info", literal("running")),
    OperationState.PAUSED: Look(literal("‖"), literal("[=]"), "warn", literal("paused")),
    OperationState.BRAKED: Look(literal("✗"), literal("[!]"), "error", literal("braked")),
    OperationState.ABORTED: Look(literal("⊖"), literal("[-]"), "dim", literal("aborted")),
    OperationState.FINISHED: Look(literal("✓"), literal("[x]"), "ok", literal("finished")),
}


def look_of(status: OperationStatus, now: float) -> Look:
    """How an operation stands, as it is drawn."""
    alone = status.silent(now) and status.state is not OperationState.BRAKED
    return _ALONE if alone else _LOOKS[status.state]


def operation_rows(
    operations: Iterable[OperationStatus], now: float, *, ascii_only: bool = False
) -> list[tuple[str, RowCells]]:
    """Rows of operations, newest first: when, by whom, what, how it stands, how far, failures, and why."""
    rows: list[tuple[str, RowCells]] = []
    for status in reversed(list(operations)):
        alone = status.silent(now) and status.state is not OperationState.BRAKED
        look = look_of(status, now)
        through, total = status.done + status.skipped + status.failed, len(status.targets)
        bad = status.failed + status.again
        failed: Sequence[Span] = [(literal(f"{status.failed:,}"), "error" if status.failed else "dim")]
        if status.again or status.open:
            failed = [*failed, (literal(f" +{failed_again(status)}"), "error" if status.again else "dim")]
        why = status.said or status.reason
        if status.state is OperationState.ARMED and not status.said:
            why = f"begins {_begins(status.begins_at - now)}; {key_of('operation.abort')} calls it off"
        if status.state is OperationState.WAITING:
            why = f"for a second person ({key_of('operation.approve')} approves), because: {status.reason}"
        said = "nobody carries it out any more" if alone and not status.said else why
        rows.append(
            (
                status.operation_id,
                (
                    (day_and_time(status.at, now), "dim"),
                    (shown(status.operator, 60, ascii_only=ascii_only), "strong"),
                    (shown(str(status.action.get("name", "")), 20, ascii_only=ascii_only), "info"),
                    look.spans(ascii_only),
                    (progress_bar(through, total, ascii_only=ascii_only), look.style or "dim"),
                    (literal(f"{through:,}/{total:,}"), ""),
                    failed,
                    (shown(said, 300, ascii_only=ascii_only), "warn" if alone or (bad and status.said) else ""),
                ),
            )
        )
    return rows


def _begins(seconds: float) -> SafeText:
    """By the second at the end: who wants to call it off has to know how long that can be done."""
    return literal(f"in {ceil(seconds)}s") if 0 < seconds < MINUTE else countdown(seconds)


def failed_again(status: OperationStatus) -> str:
    """How many failed again; with a question mark where it was not seen of all what became of them."""
    if not status.open:
        return f"{status.again:,}"
    return f"{status.again:,}?" if status.again else "?"


def progress_bar(part: int, total: int, *, ascii_only: bool = False) -> SafeText:
    """How much of a whole, as a bar."""
    full = BAR * min(part, total) // total if total > 0 else 0
    done, left = ("#", ".") if ascii_only else ("█", "░")
    return literal(done * full + left * (BAR - full))


def operation_line(status: OperationStatus, *, ascii_only: bool = False) -> SafeText:
    """What is to be known of an operation beside its row: its reason, how fast it goes, and its ID."""
    reason = joined((literal("because: "), shown(status.reason, 300, ascii_only=ascii_only)))
    pace = literal(" ".join(pace_words(status.pace)).replace("--", ""))
    which = joined((literal("operation "), shown(status.operation_id, 40, ascii_only=ascii_only)))
    return joined([part for part in (reason, pace, which) if part], _BETWEEN)


def outstanding_line(
    operations: Iterable[OperationStatus],
    correlation_id: str,
    now: float,
    *,
    ascii_only: bool = False,
    commands: bool = False,
) -> SafeText:
    """What is asked for, or armed, and will be done to a workflow; empty: nothing.

    Args:
        operations: all that there are.
        correlation_id: the workflow.
        now: seconds since the Unix epoch.
        ascii_only: write ASCII only.
        commands: name commands in place of keys.
    """
    said: list[SafeText] = []
    for status in operations:
        if correlation_id not in status.targets or status.state not in _TO_COME:
            continue
        waits = status.state is OperationState.WAITING
        when = (
            literal(" waits for a second person") if waits else literal(f" begins {countdown(status.begins_at - now)}")
        )
        order = "approve" if waits else "abort"
        which = shown(status.operation_id, 40, ascii_only=ascii_only)
        way: SafeText = joined((key_of(f"operation.{order}"), literal(" in view "), key_of("view.audit")))
        if commands:
            way = joined((literal(f"`operations {order} "), which, literal("`")))
        does = literal(" approves it" if waits else " calls it off")
        name = shown(str(status.action.get("name", "")), 20, ascii_only=ascii_only)
        who = joined((literal(" by "), shown(status.operator, 60, ascii_only=ascii_only)))
        reason = joined((literal(" ("), shown(status.reason, 200, ascii_only=ascii_only), literal(")")))
        said.append(joined((name, who, reason, when, _BETWEEN, way, does)))
    return joined(said, _BETWEEN)


_TO_COME: Final = frozenset({OperationState.WAITING, OperationState.ARMED})
"""States of operations of which nothing is done yet."""
_BETWEEN: Final = literal("; ")
