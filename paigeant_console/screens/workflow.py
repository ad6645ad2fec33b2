"""One workflow: its slip, its hops with every try, the payload at each of them, and its history; live."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.css.scalar import Scalar
from textual.widget import Widget

from paigeant_console.actions import key_of
from paigeant_console.model.confirmation import command_line
from paigeant_console.model.deeds import outstanding_line
from paigeant_console.model.fold import Fold
from paigeant_console.model.hop_cells import BAR
from paigeant_console.model.looks import look
from paigeant_console.model.plain_rows import PlainRows
from paigeant_console.model.row import Row
from paigeant_console.model.slip_track import track_of
from paigeant_console.model.text import EMPTY, Span, clip, wrap_words
from paigeant_console.model.times import at_heading, day_and_time, rough
from paigeant_console.model.workflow_page import FORMS, Detail, Form, WorkflowPage
from paigeant_console.safe_text import SafeText, joined, literal, safe
from paigeant_console.screens.pausing import PausingScreen
from paigeant_console.screens.shared import Shared
from paigeant_console.widgets.columns import Column
from paigeant_console.widgets.line_table import LineTable
from paigeant_console.widgets.payload_view import PayloadView
from paigeant_console.widgets.slip_track import SlipTrack
from paigeant_console.widgets.span_lines import Line, SpanLines
from paigeant_console.widgets.top_table import TopTable
from paigeant_core.errors import PaigeantError
from paigeant_core.journal import Record
from paigeant_core.operations import OperationStatus, Report

__all__ = ["WorkflowScreen"]

WIDE: Final = 120
"""Columns from which on the payload stands beside the hops."""
REASON_LINES: Final = 3
ASK_EVERY: Final = 5.0
"""Seconds between two looks at what operations there are."""

_HOPS: Final = (
    Column(literal("HOP"), 31, min_width=20, priority=11),
    Column(literal("TRY"), 3, priority=6),
    Column(literal("STARTED"), 8, priority=5),
    Column(literal("WAITED"), 6, align="right", priority=4),
    Column(literal("TOOK"), 6, align="right", priority=7),
    Column(literal("WAITING AND WORKING"), BAR, priority=1),
    Column(literal("OUTCOME"), 30, min_width=16, priority=10),
)


def _record_columns() -> tuple[Column, ...]:
    at = at_heading()
    return (
        Column(at, max(8, len(at)), priority=8),
        Column(literal("KIND"), 13, priority=9),
        Column(literal("WHAT"), 60, min_width=10, priority=10),
    )


class _Head(SpanLines):
    """Who it is and where it stands."""

    grows: ClassVar[bool] = True
    DEFAULT_CSS = """
    _Head { height: auto; }
    """

    def __init__(self, name: str, *, ascii_only: bool) -> None:
        super().__init__(ascii_only=ascii_only, id=name)
        self.source: WorkflowScreen | None = None

    def lines_for(self, width: int) -> Sequence[Line]:
        """See :class:`SpanLines`."""
        return self.source.head_lines(width) if self.source is not None and width > 0 else ((),)


class _Reason(_Head):
    """Why it stands there."""

    def lines_for(self, width: int) -> Sequence[Line]:
        """See :class:`SpanLines`."""
        return self.source.reason_lines(width) if self.source is not None and width > 0 else ()


class _Title(SpanLines):
    """The line above a pane."""

    def __init__(self, *, ascii_only: bool) -> None:
        super().__init__(ascii_only=ascii_only)
        self._spans: tuple[Span, ...] = ()

    def show(self, *spans: Span) -> None:
        """Say what the pane shows."""
        self._spans = spans
        self.update_lines()

    def lines_for(self, width: int) -> Sequence[Line]:
        """See :class:`SpanLines`."""
        rule = "-" if self.ascii_only else "─"
        spans = clip([(literal(f"{rule}{rule} "), "dim"), *self._spans], max(0, width - 4), ascii_only=self.ascii_only)
        used = sum(len(text) for text, _ in spans)
        return ([*spans, (literal(" " + rule * max(0, width - used - 1)), "dim")],)


class _HopTable(LineTable):
    """The hops; the cursor stays on the one where the workflow stands until it is moved."""

    stands_at: str | None = None
    moved = False

    def on_resize(self) -> None:
        """Show as many hops before that one as there is room for now; the table's own handler then draws them."""
        if not self.moved:
            self._view.top = 0

    def sync(self) -> None:
        """Take up other rows."""
        super().sync()
        if not self.moved and self.stands_at is not None and self.stands_at != self.cursor_key:
            index = self.source.index_of(self.stands_at)
            if index is not None:
                super().move_to_index(index)

    def move_to_index(self, index: int) -> None:
        """Put the cursor on a row, as the operator wants it; where the workflow stands it follows again.

        Args:
            index: the row, from 0.
        """
        super().move_to_index(index)
        self.moved = self.cursor_key != self.stands_at


class _Pane(Vertical):
    """A title and what it is the title of."""

    DEFAULT_CSS = """
    _Pane { height: 1fr; }
    """

    def __init__(self, name: str, title: _Title, content: Widget) -> None:
        super().__init__(id=name)
        self.title = title
        self.content = content

    def compose(self) -> ComposeResult:
        """Title and content."""
        yield self.title
        yield self.content


class WorkflowScreen(PausingScreen):
    """One workflow.

    Args:
        shared: what all screens share.
        correlation_id: which.
        tab: the view that it was opened from.
        fold: that knows its row; by default the feed's.
    """

    view: ClassVar[str] = "workflow"

    def __init__(self, shared: Shared, correlation_id: str, tab: str, fold: Fold | None = None) -> None:
        self._tab = tab
        super().__init__(shared)
        ascii_only = shared.ascii_only
        self.correlation_id = correlation_id
        self._fold = shared.feed.fold if fold is None else fold
        self.page = WorkflowPage((), self._fold, correlation_id, ascii_only=ascii_only)
        self._hop_rows, self._record_rows = PlainRows(), PlainRows()
        self._fetching = False
        self._fetch_again_at = 0.0
        self._fetched: tuple[int, int] | None = None
        self._history_open = False
        self._detail: Detail | None = None
        self._problem: SafeText | None = None
        self._operations: dict[str, OperationStatus] = {}
        self._operations_at = float("-inf")
        self._form: Form = "pretty"
        self._base: int | None = None
        self._head = _Head("head", ascii_only=ascii_only)
        self._reason_lines = _Reason("reason", ascii_only=ascii_only)
        self._head.source = self._reason_lines.source = self
        self._track = SlipTrack(ascii_only=ascii_only)
        waiting = literal("asking the broker for its history …")
        self.hops = _HopTable(_HOPS, self._hop_rows, empty=waiting, ascii_only=ascii_only, id="hops-table")
        self.payload = PayloadView(ascii_only=ascii_only, id="payload-text")
        self.records = TopTable(
            _record_columns(), self._record_rows, empty=waiting, ascii_only=ascii_only, id="history-table"
        )
        self._panes = [
            _Pane("hops", _Title(ascii_only=ascii_only), self.hops),
            _Pane("payload", _Title(ascii_only=ascii_only), self.payload),
            _Pane("history", _Title(ascii_only=ascii_only), self.records),
        ]
        self._panes_box = Container(*self._panes, id="panes")

    @property
    def tab(self) -> str:
        """See :class:`ConsoleScreen`."""
        return self._tab

    def body(self) -> Iterable[Widget]:
        """Head, slip, and the three panes."""
        return self._head, self._track, self._reason_lines, self._panes_box

    def on_mount(self) -> None:
        """Ask for the history at once."""
        self.hops.focus()
        self._arrange()

    def on_resize(self) -> None:
        """Put the panes beside each other where there is room."""
        self._arrange()
        self.call_after_refresh(self._fit_hops)

    def _arrange(self) -> None:
        """All panes where there is room for them, else the payload or the history."""
        wide = self.app.size.width >= WIDE
        self.set_class(wide, "-wide")
        _, payload, history = self._panes
        payload.display = wide or not self._history_open
        history.display = wide or self._history_open

    def _fit_hops(self) -> None:
        """Give the hops as many lines as they need, but leave half of the screen to the rest."""
        room = self._panes_box.size.height
        height = max(2, min(len(self._hop_rows) + 1, room // 2 - 1))
        if room and self.hops.styles.height != Scalar.from_number(height):
            self.hops.styles.height = height

    def focus_view(self) -> None:
        """See :meth:`ConsoleScreen.focus_view`."""
        if self.focused is None or not self.focused.display or self.focused in (self.prompt, self.confirm_bar):
            self.set_focus(self.hops, scroll_visible=False)

    # -- looking ------------------------------------------------------------------------

    def look(self, changed: bool) -> None:
        """See :meth:`ConsoleScreen.look`."""
        with self.feed.lock:
            row, policy = self._fold.rows.get(self.correlation_id), self.feed.trust
            stamp = -1 if row is None else row.revision, 0 if policy is None else policy.changes
        if stamp != self._fetched and not self._fetching and time.monotonic() >= self._fetch_again_at:
            self._fetching = True
            self.run_worker(self._fetch(stamp), group="history", exit_on_error=True)
        if self.status.connected and time.monotonic() - self._operations_at >= ASK_EVERY:
            self._operations_at = time.monotonic()
            self.run_worker(self._ask_operations(), group="operations")
        self._draw()

    async def _ask_operations(self) -> None:
        """What others ask for, or armed, is not in the workflow's history until it is done."""
        with contextlib.suppress(PaigeantError):
            self._operations = await asyncio.wrap_future(self.feed.deeds.runs())
        if self.built:
            self._reason_lines.update_lines()

    async def _fetch(self, stamp: tuple[int, int]) -> None:
        """Ask for the history; what was asked for meanwhile is asked for again at the next look."""
        history: list[Record] = []
        try:
            history = await self.records_of_it()
        except PaigeantError as error:
            self._problem = safe(str(error), 200)
            self._fetch_again_at = time.monotonic() + ASK_EVERY
        else:
            self._problem = None if history else literal("the broker has no record of it any more")
            self._fetched = stamp
        finally:
            self._fetching = False
        if not self.built:
            return
        if history:
            self.page = WorkflowPage(
                history,
                self._fold,
                self.correlation_id,
                ascii_only=self.shared.ascii_only,
                policy=self.feed.trust,
            )
        self._draw()

    async def records_of_it(self) -> list[Record]:
        """Its records, oldest first."""
        return await asyncio.wrap_future(self.feed.history(self.correlation_id))

    def _draw(self) -> None:
        now = self.feed.now()
        with self.feed.lock:
            hops, records = self.page.hops(now), self.page.records(now)
            stands_at = self.page.stands_at()
        self._hop_rows.replace(hops)
        self._record_rows.replace(records)
        if self._problem is not None:
            self.hops.set_empty(self._problem)
            self.records.set_empty(self._problem)
        elif self.page.history and not hops:
            self.hops.set_empty(literal("nobody can read its message, so there is no hop to be told of"))
        self._fit_hops()
        self.hops.stands_at = stands_at
        self.hops.sync()
        self.records.sync()
        self._head.update_lines()
        self._reason_lines.update_lines()
        self._titles()
        self._inspect()

    def head_lines(self, width: int) -> Sequence[Line]:
        """The head, under the lock as it reads the row."""
        with self.feed.lock:
            return self.page.head(width, self.feed.now(), self._stood())

    def reason_lines(self, width: int) -> Sequence[Line]:
        """The reason, likewise; where a hop before is looked at, that, on as many lines: nothing else moves."""
        with self.feed.lock:
            now, stood = self.feed.now(), self._stood()
            most = REASON_LINES if self.app.size.height >= 24 else 2
            asked = outstanding_line(
                self._operations.values(), self.correlation_id, now, ascii_only=self.shared.ascii_only
            )
            wrapped = wrap_words(asked, max(20, width - 2), 2) if asked else []
            told = [joined((literal("  "), line)) for line in wrapped]
            lines: Sequence[Line] = [
                *[[(line, "warn")] for line in told],
                *self.page.reason(width, now, most, read_only=self.nothing_can_be_done),
            ]
            return lines if stood is None else [self._past_line(stood[1], now), *[()] * (len(lines) - 1)]

    def _stood(self) -> tuple[Row, float] | None:
        """The workflow as it was at the hop that is looked at, and when; None: where it stands. Under the lock."""
        return self.page.as_it_stood(self.hops.cursor_key)

    def _past_line(self, at: float, now: float) -> Line:
        row = self.page.row
        is_now = joined((literal("; it is "), look(row.state).word, literal(" now"))) if row is not None else EMPTY
        goes_on = literal(f"; {key_of('hop.later')} goes on")
        return [(joined((literal("  as it stood at "), day_and_time(at, now), is_now, goes_on)), "warn")]

    @property
    def nothing_can_be_done(self) -> bool:
        """Whether keys that act refuse."""
        return self.feed.read_only

    def _titles(self) -> None:
        now = self.feed.now()
        with self.feed.lock:
            waited, worked = self.page.totals(now)
        known = len(self.page.names())
        hops: list[Span] = [(literal(f" {known:,}"), "dim")] if known else []
        if waited or worked:
            spent = literal(" waited "), rough(waited), literal(", worked "), rough(worked)
            hops.append((joined(spent), "dim"))
        history: list[Span] = [(literal(f" {len(self.page.history):,}"), "dim")]
        for pane, word, said in ((self._panes[0], "hops", hops), (self._panes[2], "history", history)):
            style = "strong" if self.focused is pane.content else "dim"
            pane.title.show((literal(word), style), *said)

    def _slip(self) -> None:
        """Draw the slip as it stands, or as it stood at the hop that is looked at."""
        now = self.feed.now()
        with self.feed.lock:
            stood = self._stood()
            row, at = stood if stood is not None else (self.page.row, now)
            if row is not None:
                self._track.show(track_of(row, at, ascii_only=self.shared.ascii_only))

    def _inspect(self, *, keep: bool = True) -> None:
        """Show in the payload pane what the cursor is on, and the slip as it was there."""
        self._slip()
        width = max(20, self.payload.size.width)
        with self.feed.lock:
            if self.focused is self.records and self.records.cursor_key is not None:
                detail = self.page.record_detail(self.records.cursor_key, width)
            else:
                detail = self.page.payload_at(self.hops.cursor_key, width, self._form, base=self._base)
        same = detail is not None and self._detail is not None and detail.title == self._detail.title
        self._detail = detail
        pane = self._panes[1]
        style = "strong" if self.focused is self.payload else "dim"
        if detail is None:
            pane.title.show((literal("payload"), style))
            self.payload.show_text([literal("nothing to show yet")])
            return
        pane.title.show((detail.title, style))
        self.payload.show_text(detail.lines, detail.styles, keep=keep and same)

    def on_line_table_cursor_moved(self) -> None:
        """Show what the cursor is on now."""
        self._head.update_lines()
        self._reason_lines.update_lines()
        self._titles()
        self._inspect(keep=False)

    def on_descendant_focus(self) -> None:
        """Show what the cursor of the pane that has the keys is on."""
        if self.built:
            if self.focused in (self.hops, self.payload, self.records):
                # Not by :focus: a question that takes the keys for a moment would paint both tables anew.
                self.hops.set_class(self.focused is self.records, "-weak")
                self.records.set_class(self.focused is not self.records, "-weak")
            self._titles()
            self._inspect()

    # -- keys ---------------------------------------------------------------------------

    def targets(self) -> list[str]:
        """See :meth:`ConsoleScreen.targets`."""
        return [self.correlation_id]

    def offered_hop(self) -> int | None:
        """The hop under the cursor, if it was reached."""
        return self.page.hop_of(self.hops.cursor_key)

    def do_panes(self) -> None:
        """Go to the next pane."""
        order: list[Widget] = [self.hops, self.payload, self.records]
        at = order.index(self.focused) if self.focused in order else -1
        going = order[(at + 1) % len(order)]
        self._history_open = going is self.records
        self._arrange()
        self.set_focus(going, scroll_visible=False)

    def do_hop_earlier(self) -> None:
        """Look at the hop before."""
        self._scrub(-1)

    def do_hop_later(self) -> None:
        """Look at the next hop."""
        self._scrub(1)

    def _scrub(self, step: int) -> None:
        if self.focused is self.records:
            self.set_focus(self.hops, scroll_visible=False)
        hops = [index for index in range(len(self._hop_rows)) if "." not in self._hop_rows.key(index)]
        at = self.hops.cursor_index or 0
        # From a try that failed back to its own hop, then to the one before.
        there = [index for index in hops if (index < at if step < 0 else index > at)]
        if there:
            self.hops.move_to_index(there[-1] if step < 0 else there[0])

    def do_form(self) -> None:
        """Show the payload in another form."""
        self._form = FORMS[(FORMS.index(self._form) + 1) % len(FORMS)]
        self._inspect(keep=False)

    def do_compare(self) -> None:
        """Tell changes from this hop on, or from the one before again."""
        number = self.offered_hop()
        self._base = None if number == self._base else number
        self._form = "changes"
        if self._base is None:
            self.say((literal("changes are told from the hop before"), "info"))
        else:
            self.say((literal(f"changes are told from hop {self._base}; [ and ] go to another, c ends it"), "info"))
        self._inspect(keep=False)

    def copied(self) -> tuple[SafeText, bytes] | None:
        """The payload where it has the focus, else the ID."""
        if self.focused is self.payload and self._detail is not None:
            return self._detail.title, self._detail.raw
        return literal("the ID"), self.correlation_id.encode()

    def command(self) -> str:
        """See :meth:`ConsoleScreen.command`."""
        return command_line(self.shared.target, ["show", self.correlation_id])

    def acted(self, report: Report) -> None:
        """Look at once."""
        self._fetched = None

    def open_row(self, table: object, key: str) -> None:
        """Go to the payload of the row."""
        self.set_focus(self.payload, scroll_visible=False)

    def nothing(self) -> SafeText:
        """What stands there when the broker knows nothing of it."""
        return joined((literal("no workflow "), safe(self.correlation_id, 130)))
