"""What the two lists of workflows share: filter, order, marks, and rows that never jump."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.widget import Widget

from paigeant_console.actions import Situation
from paigeant_console.feed import Phase, Subscription
from paigeant_console.model.confirmation import command_line
from paigeant_console.model.query import QueryError, parse
from paigeant_console.model.status import feed_sentence
from paigeant_console.model.workflow_list import ORDERS, WorkflowList
from paigeant_console.safe_text import SafeText, joined, literal, safe
from paigeant_console.screens.acting import ActingScreen
from paigeant_console.screens.base import Shared
from paigeant_console.widgets.filter_line import FilterLine
from paigeant_console.widgets.line_table import LineTable
from paigeant_console.widgets.span_lines import Line
from paigeant_console.widgets.workflow_table import WorkflowTable
from paigeant_core.operations import Report

__all__ = ["WorkflowListScreen"]


class WorkflowListScreen(ActingScreen):
    """A list of workflows.

    Args:
        shared: what all screens share.
        rows: the workflows.
    """

    dead: ClassVar[bool] = False

    def __init__(self, shared: Shared, rows: WorkflowList) -> None:
        super().__init__(shared)
        self.rows = rows
        rows.body = shared.feed.bodies.get
        self.table = WorkflowTable(rows, dead=self.dead, empty=self.sentence(), ascii_only=shared.ascii_only)
        self.filter_line = FilterLine(ascii_only=shared.ascii_only)
        self._subscription: Subscription | None = None
        self._text = ""

    def body(self) -> Iterable[Widget]:
        """The filter and the table."""
        return self.filter_line, self.table

    def on_mount(self) -> None:
        """Be told of changes from now on."""
        self._subscription = self.feed.subscribe()
        self.table.focus()

    def on_unmount(self) -> None:
        """Be told no more."""
        if self._subscription is not None:
            self.feed.unsubscribe(self._subscription)

    def focus_view(self) -> None:
        """See :meth:`ActingScreen.focus_view`."""
        self.set_focus(self.table, scroll_visible=False)

    # -- looking ------------------------------------------------------------------------

    def look(self, changed: bool) -> None:
        """See :meth:`ConsoleScreen.look`."""
        if self._subscription is None:
            return
        self.rows.absorb(self.feed.take(self._subscription))
        self._show()

    def _show(self) -> None:
        self.table.set_empty(self.sentence())
        self.table.sync()
        self.table.return_to(self.table.home_key)
        query = self.rows.query
        text = safe(query.text, 200) if query is not None else None
        self.filter_line.show(text, len(self.rows), self.total(), self._progress())

    def total(self) -> int:
        """How many rows there are without a filter."""
        return self.status.workflows

    def _progress(self) -> str:
        part = self.rows.filtering
        if part is not None:
            return f"filtering {part:.0%}"
        query, bodies = self.rows.query, self.feed.bodies
        if query is not None and query.needs_payload and bodies.dropped:
            return f"searched the newest {len(bodies):,} payloads"
        return ""

    def sentence(self) -> SafeText:
        """What stands there when there are no rows."""
        status = self._status
        if status.phase in (Phase.CONNECTING, Phase.CATCHING_UP, Phase.FAILED) or not status.records:
            said = feed_sentence(status, self.feed.now())
            if said is not None:
                return said
        if self.rows.query is not None:
            return literal("nothing matches the filter; Esc clears it")
        return self.nothing()

    def nothing(self) -> SafeText:
        """What stands there when there is nothing at all."""
        how = "`paigeant-console dispatch STEP …`" if self.feed.read_only else "`:dispatch STEP …`"
        return joined((literal("no workflows yet in topic "), self.shared.place.topic, literal(f": {how} starts one")))

    # -- acting -------------------------------------------------------------------------

    def targets(self) -> list[str]:
        """See :meth:`ConsoleScreen.targets`."""
        if self.table.marks:
            return list(self.table.marks)
        return [] if self.table.cursor_key is None else [self.table.cursor_key]

    def situation(self) -> Situation:
        """See :meth:`ConsoleScreen.situation`."""
        from dataclasses import replace

        return replace(super().situation(), marked=len(self.table.marks))

    def acted(self, report: Report) -> None:
        """See :meth:`ActingScreen.acted`: what was done needs no mark any more, what failed keeps it."""
        if all(result.outcome == "done" for result in report.results):
            self.table.clear_marks()

    def command(self) -> str:
        """See :meth:`ConsoleScreen.command`."""
        if self.rows.query is not None and not self.table.marks:
            return command_line(self.shared.target, ["list", self.rows.query.text])
        return super().command()

    def on_line_table_row_selected(self, event: LineTable.RowSelected) -> None:
        """Open the workflow."""
        event.stop()
        self.shared.open_workflow(event.key)

    def on_line_table_marks_changed(self) -> None:
        """Show how many are marked."""
        self.stand()
        self.update_hints()

    def stand(self) -> None:
        """See :meth:`ActingScreen.stand`: how many are marked."""
        number = len(self.table.marks)
        if number:
            self.prompt.stand((literal(f"{number:,} marked; r, R and d act on all of them, u unmarks"), "info"))
        else:
            self.prompt.stand()

    def do_unmark(self) -> None:
        """Unmark all."""
        self.table.clear_marks()

    def do_order(self) -> None:
        """Order by something else."""
        order = ORDERS[(ORDERS.index(self.rows.order) + 1) % len(ORDERS)]
        self.rows.set_order(order)
        self._scan()
        words = {"created": "creation, newest first", "updated": "last change, newest first", "state": "urgency"}
        self.say((literal(f"ordered by {words[order]}"), "info"))

    # -- filter -------------------------------------------------------------------------

    def do_filter(self) -> None:
        """Ask for a filter; it counts while it is typed."""
        self.prompt.ask(
            literal("/"),
            self._filtered,
            value=self._text,
            placeholder=literal("state:dead step:charge age:>10m label.tier:premium … or any word"),
            changed=self._try_filter,
            rows=self._move,
        )
        self.update_hints()

    def _filtered(self, typed: str | None) -> None:
        if typed is None:
            self.set_filter("")
        elif self._try_filter(typed) and self._text != typed:
            # It ended in something that cannot be read: what was understood last still holds.
            kept = safe(self._text, 120)
            self.say((literal("kept the last filter that could be read: "), "warn"), (kept, ""))
        self.update_hints()

    def _move(self, step: int) -> None:
        if step < 0:
            self.table.action_cursor_up()
        else:
            self.table.action_cursor_down()

    def set_filter(self, text: str) -> None:
        """See :meth:`ConsoleScreen.set_filter`."""
        note = self._try_filter(text)
        if self._text != text:
            self.say(*note)

    def _try_filter(self, text: str) -> Line:
        """Filter by what was typed so far.

        Returns:
            What to say of it.
        """
        try:
            query = parse(text)
        except QueryError as error:
            return [(safe(str(error).removeprefix("query: "), 200), "error")]
        if text != self._text:
            self._text = text
            if self.table.home_key is None and not self.table.on_top:
                self.table.home_key = self.table.cursor_key
            self.rows.set_query(query)
            self._scan()
        return self._found()

    def _found(self) -> Line:
        part = self.rows.filtering
        if part is not None:
            return [(literal(f"filtering {part:.0%}"), "dim")]
        return [(literal(f"{len(self.rows):,} of {self.total():,}"), "dim")]

    def _scan(self) -> None:
        """Apply a new filter in slices, and let keys in between them."""
        if not self.rows.scan():
            self.call_later(self._scan)
        self._show()
        if self.prompt.asking:
            self.prompt.note(self._found())

    def do_escape(self) -> None:
        """Clear the filter first."""
        if self.rows.query is not None:
            self.set_filter("")
        else:
            super().do_escape()
