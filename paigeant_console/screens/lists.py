"""What the two lists of workflows share: filter, order, marks, and rows that never jump."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar, Final

from textual.widget import Widget

from paigeant_console.actions import Action, Situation, key_of, keys_of, of_view
from paigeant_console.feed import Phase, Subscription
from paigeant_console.model.confirmation import command_line
from paigeant_console.model.grouping import GROUPINGS, Grouping, is_head
from paigeant_console.model.judging import Judge
from paigeant_console.model.query import Query
from paigeant_console.model.text import count
from paigeant_console.model.workflow_list import ORDERS, Order, WorkflowList
from paigeant_console.safe_text import SafeText, joined, literal, safe
from paigeant_console.screens.filtering import FilteringScreen
from paigeant_console.screens.pausing import PausingScreen
from paigeant_console.screens.shared import Shared
from paigeant_console.widgets.span_lines import Line
from paigeant_console.widgets.workflow_table import WorkflowTable
from paigeant_core.operations import Report

__all__ = ["WorkflowListScreen"]

PAUSE: Final = 0.001
"""Seconds between two slices of a filter."""
VERIFY_PAUSE: Final = 0.02
"""Seconds between two slices of verifying what changed behind a filter: it costs a part of a core, and no more."""

_MAY_NEED_ROW: Final = frozenset({"command", "palette", "copy-command"})
"""Actions that are for a row, or lead to some that are, though they can do without."""
_ORDERED: Final[dict[Order, str]] = {
    "created": "creation, newest first",
    "updated": "last change, newest first",
    "state": "urgency",
    "name": "name",
    "activity": "the activity where they stand",
    "attempts": "attempts, most first",
}
_GROUPED: Final[dict[Grouping, str]] = {
    "state": "state",
    "activity": "the activity where they stand",
    "cause": "the cause of their failure",
}


class WorkflowListScreen(FilteringScreen, PausingScreen):
    """A list of workflows.

    Args:
        shared: what all screens share.
        rows: the workflows.
    """

    dead: ClassVar[bool] = False
    example: ClassVar[SafeText] = literal("state:dead step:charge age:>10m label.tier:premium … or any word")
    table: WorkflowTable

    def __init__(self, shared: Shared, rows: WorkflowList) -> None:
        super().__init__(shared)
        self.rows = rows
        rows.body = shared.feed.bodies.get
        if shared.feed.trust is not None:
            rows.judge = Judge(shared.feed.trust, shared.feed.bodies.get, shared.feed.now)
        self.table = WorkflowTable(rows, dead=self.dead, empty=self.sentence(), ascii_only=shared.ascii_only)
        self._subscription: Subscription | None = None
        self._next_slice: asyncio.TimerHandle | None = None
        self._typing_filter = self._comes_home = False

    def body(self) -> Iterable[Widget]:
        """The filter and the table."""
        return self.filter_line, self.table

    def on_mount(self) -> None:
        """Be told of changes from now on."""
        self._subscription = self.feed.subscribe()
        self._take_up()
        self.table.focus()

    def on_unmount(self) -> None:
        """Be told no more."""
        if self._subscription is not None:
            self.feed.unsubscribe(self._subscription)

    def focus_view(self) -> None:
        """See :meth:`ConsoleScreen.focus_view`."""
        self.set_focus(self.table, scroll_visible=False)

    # -- looking ------------------------------------------------------------------------

    def look(self, changed: bool) -> None:
        """See :meth:`ConsoleScreen.look`."""
        self._take_up()
        self._show()
        self.stand()  # a group that is marked may have become another number

    def _take_up(self) -> None:
        if self._subscription is None:
            return
        changed = self.feed.take(self._subscription)
        if changed is None or (self.rows.judge is not None and self.rows.judge.outdated()):
            self.rows.rescan()
            self._scan()
        else:
            self.rows.absorb(changed)
            if self.rows.verifying and self._next_slice is None:
                self._go_on()

    def _show(self) -> None:
        self.table.set_empty(self.sentence())
        self.table.sync()
        query = self.rows.query
        text = safe(query.text, 200) if query is not None else None
        self.filter_line.show(text, self.rows.matched, self.total(), self.progress())

    def total(self) -> SafeText:
        """How many rows there are without a filter; `+`: others have left memory."""
        return count(self.status.workflows, more=bool(self.status.left))

    def progress(self) -> str:
        """What to say of the filter beside its counts."""
        part = self.rows.filtering
        if part is not None:
            return f"filtering {part:.0%}"
        if self.rows.verifying:
            return f"verifying {self.rows.verifying:,}"
        if self.rows.undecided:
            return f"{self.rows.undecided:,} passed over: no message kept to verify"
        query, bodies = self.rows.query, self.feed.bodies
        if query is not None and query.needs_payload and bodies.dropped:
            return f"searched the newest {len(bodies):,} payloads"
        return ""

    def sentence(self) -> SafeText:
        """What stands there when there are no rows."""
        status = self._status
        if status.phase in (Phase.CONNECTING, Phase.CATCHING_UP, Phase.FAILED) or not status.records:
            said = self.feed_trouble()
            if said is not None:
                return said
        if self.rows.query is not None:
            return literal(f"nothing matches the filter; {key_of('escape')} clears it")
        return self.nothing()

    def nothing(self) -> SafeText:
        """What stands there when there is nothing at all."""
        how = "`paigeant-console dispatch STEP …`" if self.feed.read_only else "`:dispatch STEP …`"
        return joined((literal("no workflows yet in topic "), self.shared.place.topic, literal(f": {how} starts one")))

    # -- acting -------------------------------------------------------------------------

    def targets(self) -> list[str]:
        """See :meth:`ConsoleScreen.targets`."""
        cursor = self.table.cursor_key
        keys = self.table.marks or (() if cursor is None else (cursor,))
        # A group stands for its workflows; one that is marked in an open group counts once.
        return list(dict.fromkeys(member for key in keys for member in self.rows.members(key)))

    def has_targets(self) -> bool:
        """See :meth:`ConsoleScreen.has_targets`; a group may stand for a hundred thousand."""
        return self.table.cursor_key is not None

    def has_to_wait(self, key: str) -> bool:
        """See :meth:`ConsoleScreen.has_to_wait`: what is typed behind a filter is for a row of those that it shows."""
        if self.rows.filtering is None or self.pending or self.situation().view != self.view:
            return False
        action = next((action for action in of_view(self.view) if key in keys_of(action)), None)
        return action is not None and (action.needs_row or action.owner == "table" or action.id in _MAY_NEED_ROW)

    def situation(self) -> Situation:
        """See :meth:`ConsoleScreen.situation`."""
        from dataclasses import replace

        return replace(super().situation(), marked=self._marked())

    def _marked(self) -> int:
        return sum(self.rows.size(key) for key in self.table.marks)

    def acted(self, report: Report) -> None:
        """See :meth:`ActingScreen.acted`: what was done needs no mark any more.

        What failed keeps it, and so does what was marked meanwhile for the next act.
        """
        done = {result.correlation_id for result in report.results if result.outcome == "done"}
        self.table.unmark([key for key in self.table.marks if done.issuperset(self.rows.members(key))])

    def command(self) -> str:
        """See :meth:`ConsoleScreen.command`."""
        if self.rows.query is not None and not self.table.marks:
            return command_line(self.shared.target, ["list", self.rows.query.text])
        return super().command()

    def open_row(self, table: object, key: str) -> None:
        """Open the workflow, or the group."""
        if is_head(key):
            self.rows.toggle(key)
            self._show()
        else:
            self.shared.open_workflow(key)

    def on_line_table_marks_changed(self) -> None:
        """Show how many are marked."""
        self.stand()
        self.update_hints()

    def stand(self) -> None:
        """See :meth:`ActingScreen.stand`: how many are marked."""
        number = self._marked()
        if number:
            self.prompt.stand(
                (literal(f"{number:,} marked; what you do is done to all of them, {key_of('unmark')} unmarks"), "info")
            )
        else:
            self.prompt.stand()

    def do_unmark(self) -> None:
        """Unmark all."""
        self.table.unmark()

    def _unmark_groups(self) -> None:
        """Unmark heads: their groups will be of other workflows than those that were looked at."""
        self.table.unmark([key for key in self.table.marks if is_head(key)])

    def do_order_backwards(self) -> None:
        """Turn the order round."""
        self._order_by(self.rows.order, backwards=not self.rows.backwards)

    def do_times(self) -> None:
        """Tell times by the clock, or how long ago they were."""
        self.rows.absolute = not self.rows.absolute
        self.table.relook()
        self._show()

    def do_order(self) -> None:
        """Order by something else."""
        self._order_by(ORDERS[(ORDERS.index(self.rows.order) + 1) % len(ORDERS)])

    def _order_by(self, order: Order, *, backwards: bool = False) -> None:
        self.rows.set_order(order, backwards=backwards)
        self._scan()
        self.table.relook()
        turned = ", turned round" if backwards else ""
        self.say((literal(f"ordered by {_ORDERED[order]}{turned}"), "info"))

    def do_group(self) -> None:
        """Group by something else."""
        self._group_by(GROUPINGS[(GROUPINGS.index(self.rows.grouping) + 1) % len(GROUPINGS)])

    def _group_by(self, grouping: Grouping) -> None:
        self._unmark_groups()
        self.rows.set_grouping(grouping)
        self._scan()
        said = (
            "not grouped"
            if grouping == "none"
            else f"grouped by {_GROUPED[grouping]}; {key_of('table.open')} opens a group"
        )
        self.say((literal(said), "info"))

    def perform_with(self, action: Action, words: str) -> bool:
        """See :meth:`ConsoleScreen.perform_with`; `order` and `group` may name what by."""
        if action.id not in ("order", "group"):
            return super().perform_with(action, words)
        if action.id == "order" and words in ORDERS:
            self._order_by(words)
        elif action.id == "group" and words in GROUPINGS:
            self._group_by(words)
        else:
            there = ", ".join(ORDERS if action.id == "order" else GROUPINGS)
            self.say((literal(f"{action.id}: there are {there}"), "warn"))
        return True

    # -- filter -------------------------------------------------------------------------

    def apply_query(self, query: Query) -> None:
        """See :meth:`FilteringScreen.apply_query`; the cursor comes back to the row that it was on."""
        if self.table.home_key is None and not self.table.on_top:
            self.table.home_key = self.table.cursor_key
        self._comes_home = True
        self._unmark_groups()
        self.rows.set_query(query)
        self._go_on()

    def do_filter(self) -> None:
        """See :meth:`FilteringScreen.do_filter`."""
        self._typing_filter = True
        super().do_filter()

    def _filtered(self, typed: str | None) -> None:
        """A filter that stands is looked at: what it hid is no place to come back to with no key pressed."""
        self._typing_filter = False
        super()._filtered(typed)
        self._forget_home()

    def _forget_home(self) -> None:
        if not self._typing_filter and not self._comes_home:
            self.table.home_key = None

    def found(self) -> Line:
        """See :meth:`FilteringScreen.found`."""
        part = self.rows.filtering
        if part is not None:
            return [(literal(f"filtering {part:.0%}"), "dim")]
        return [(joined((count(self.rows.matched), literal(" of "), self.total())), "dim")]

    def _scan(self) -> None:
        """Apply a new filter in slices, and let keys and painting in between them."""
        if self._next_slice is not None:
            self._next_slice.cancel()
            self._next_slice = None
        if not self.rows.scan():
            self._go_on()
            return
        self._show()
        if self._comes_home:
            # Only by what was typed: a row that comes into the list later may not take the cursor.
            self._comes_home = False
            self.table.return_to(self.table.home_key)
            self._forget_home()
        self.shared.take_typed()
        if self._typing_filter and self.prompt.value == self._text:
            # Else something else is asked for, or what was typed since cannot be read.
            self.prompt.note(self.found())

    def _go_on(self) -> None:
        """Let what was typed be read and painted, then scan."""
        if self._next_slice is not None:
            self._next_slice.cancel()
        # After a pause: a message to itself at once would keep the queue from ever being empty, and Textual paints, and
        # reads what was typed, when it is. What is shown meanwhile is the flush's to say. Not by Textual's own timer,
        # which never comes where so short a time is over before it has begun to wait.
        pause = VERIFY_PAUSE if self.rows.filtering is None else PAUSE
        self._next_slice = asyncio.get_running_loop().call_later(pause, self.call_later, self._scan)
