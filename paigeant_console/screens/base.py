"""What every screen has: the frame around its view, what keys do everywhere, and when it looks at the feed."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ClassVar, Final, cast

from textual.app import ComposeResult
from textual.widget import Widget

from paigeant_console.actions import VIEWS, Action, Situation, by_id, key_of, refusal
from paigeant_console.deeds import Deed
from paigeant_console.feed import FeedStatus, Phase
from paigeant_console.model.confirmation import command_line
from paigeant_console.model.deeds import deed_spans, progress_spans
from paigeant_console.model.status import feed_sentence
from paigeant_console.model.text import EMPTY, Span, wrap_words
from paigeant_console.model.times import clock
from paigeant_console.painting import PromptScreen
from paigeant_console.safe_text import SafeText, joined, literal
from paigeant_console.screens.commands import Commands
from paigeant_console.screens.copying import Copying
from paigeant_console.screens.shared import KeyTaker, Shared
from paigeant_console.terminal import ConsoleAppBase
from paigeant_console.widgets.confirm_bar import ConfirmBar
from paigeant_console.widgets.hints import Hints
from paigeant_console.widgets.keys import PASSING
from paigeant_console.widgets.line_table import LineTable
from paigeant_console.widgets.palette import Palette
from paigeant_console.widgets.prompt import Prompt
from paigeant_console.widgets.span_lines import Line, SpanLines
from paigeant_console.widgets.status_bar import StatusBar

__all__ = ["ConsoleScreen"]

TICK_EVERY = 1.0
"""Seconds after which ages are looked at again though nothing happened."""
WIDE: Final = 200
"""Cells of rows with all of their columns."""
SHIFT: Final = 20
"""Cells that one key moves wide rows by."""


class _TooSmall(SpanLines):
    """What is there in place of the view while the terminal is too small."""

    def __init__(self, sentence: Callable[[], SafeText], *, ascii_only: bool) -> None:
        super().__init__(ascii_only=ascii_only, classes="too-small")
        self._sentence = sentence

    def lines_for(self, width: int) -> list[Line]:
        """See :class:`SpanLines`."""
        return [[(line, "warn")] for line in wrap_words(self._sentence(), width)]


class ConsoleScreen(PromptScreen, inherit_bindings=False):
    """A view in its frame.

    Args:
        shared: what all screens share.
    """

    view: ClassVar[str] = ""
    """Its name in the action table."""
    AUTO_FOCUS = ""

    def __init__(self, shared: Shared) -> None:
        super().__init__()
        self.shared = shared
        self.feed = shared.feed
        self.paused = False
        self.pending = False
        """Whether something waits for the broker, so that keys mean nothing."""
        self._warned = False
        self._seen = -1
        self._looked_at = float("-inf")
        self._status = shared.feed.status()
        ascii_only = shared.ascii_only
        self.status_bar = StatusBar(shared.place, VIEWS, self.tab, ascii_only=ascii_only)
        self.prompt = Prompt(ascii_only=ascii_only)
        self.confirm_bar = ConfirmBar(ascii_only=ascii_only)
        self.palette = Palette(ascii_only=ascii_only)
        self.commands = Commands(self)
        self.copying = Copying(self)
        self.hints = Hints(Situation(self.view, has_row=False), ascii_only=ascii_only)
        self.set_class(shared.place.production, "-production")
        if shared.place.production:
            self.border_title = "PRODUCTION"

    # -- frame --------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """Build the frame around the body."""
        yield self.status_bar
        yield from self.body()
        yield from self.forms()
        yield self.prompt
        yield self.hints
        yield _TooSmall(self._too_small, ascii_only=self.shared.ascii_only)

    def body(self) -> Iterable[Widget]:
        """The widgets of the view."""
        return ()

    def forms(self) -> Iterable[Widget]:
        """What may open above the prompt."""
        return self.confirm_bar, self.palette

    @property
    def tab(self) -> str:
        """The numbered view that this screen belongs to."""
        return self.view

    @property
    def console(self) -> ConsoleAppBase:
        """The app, by the only type that screens know of it."""
        return cast(ConsoleAppBase, self.app)

    @property
    def built(self) -> bool:
        """Whether the frame is there: not yet while it is composed, and no more while the app ends."""
        return self.is_mounted and self.is_attached and self.hints.is_attached

    def _too_small(self) -> SafeText:
        from paigeant_console.terminal import size_problem

        width, height = self.app.size
        problem = size_problem(width, height)
        return literal("the terminal is too small") if problem is None else problem

    def feed_trouble(self) -> SafeText | None:
        """Why there is nothing to see yet, or not now; None: the feed is live."""
        if self._status.phase is Phase.LIVE:
            return None  # what nobody saw while no console was there is said above the keys
        if self._status.phase is Phase.RECONNECTING:
            return literal("waiting for the broker …")  # why is said above the keys
        return feed_sentence(self._status, self.feed.now())

    # -- looking at the feed ------------------------------------------------------------

    def on_screen_resume(self) -> None:
        """Look at once at what happened meanwhile."""
        self._seen = -1
        self.flush()

    def flush(self) -> None:
        """Take up what changed; called at most four times a second, and only while this screen is the one on top."""
        if not self.built:
            return
        version, at = self.feed.version, time.monotonic()
        changed = version != self._seen
        if not changed and at - self._looked_at < TICK_EVERY:
            return
        self._seen, self._looked_at = version, at
        self._status = self.feed.status()
        now = self.feed.now()
        self.status_bar.show(self._status, now, paused=self.paused)
        self.prompt.trouble(feed_sentence(self._status, now), over=self._status.phase is Phase.LIVE)
        self._tell_deeds(now)
        if not self.paused:
            self.look(changed)
        self.update_hints()

    def _tell_deeds(self, now: float) -> None:
        """Say what came of operations that this console carried out, and how far the others are."""
        deeds = self.feed.deeds
        for deed in deeds.take_ended():
            self.tell(deed, now)
            if deed.told is not None:
                deed.told(deed)
        self.prompt.progress(*progress_spans(deeds.current, ascii_only=self.shared.ascii_only))

    def tell(self, deed: Deed, now: float, then: SafeText = EMPTY) -> None:
        """Say what came of an operation.

        Args:
            deed: the operation.
            now: when it is.
            then: what can be done about it.
        """
        self.say(*deed_spans(deed, clock(now), then, ascii_only=self.shared.ascii_only))

    def look(self, changed: bool) -> None:
        """Take up what changed in this view.

        Args:
            changed: whether something did; else only time has passed.
        """

    @property
    def status(self) -> FeedStatus:
        """The feed, as it was looked at last."""
        return self._status

    def again(self) -> None:
        """Look at the feed at once."""
        self._seen = -1
        self.flush()

    # -- keys ---------------------------------------------------------------------------

    def situation(self) -> Situation:
        """Where the operator is, for the action table."""
        view = self.view
        if self.built:
            if self.prompt.asking:
                view = "prompt"
            elif self.confirm_bar.waiting:
                asked = self.confirm_bar.confirmation
                possible = asked is not None and asked.eligible > 0
                return Situation("confirm", read_only=self.feed.read_only, has_row=possible)
        return Situation(
            view,
            read_only=self.feed.read_only,
            has_row=self.built and self.has_targets(),
            paused=self.paused,
            marked=0,
        )

    def targets(self) -> list[str]:
        """Correlation IDs that an action is for: the marked ones, else the one under the cursor."""
        return []

    def has_targets(self) -> bool:
        """Whether there are any; asked four times a second."""
        return bool(self.targets())

    def perform(self, name: str) -> None:
        """Do what an action of the table says, or say why not.

        Args:
            name: its ID.
        """
        action = by_id(name)
        situation = self.situation()
        if situation.view == "prompt":
            return
        why_not = refusal(action, situation)
        if why_not is not None:
            self.say((why_not, "warn"))
            return
        if name not in ("escape", "back"):
            self.say()  # what was said of the last act is no news any more
        if name != "write":
            self.copying.forget()
        handler: Callable[[], None] = getattr(self, "do_" + name.replace(".", "_").replace("-", "_"))
        handler()

    def say(self, *spans: Span) -> None:
        """Say something in the line above the keys.

        Args:
            spans: what.
        """
        self.prompt.say(*spans)

    def ask(self, flow: Coroutine[Any, Any, None]) -> None:
        """Run what has to ask the broker before it goes on; one at a time.

        Until it asks something itself, or ends, no key means anything but Escape: what was
        typed ahead was not meant for what will be there then.

        Args:
            flow: it.
        """
        self.pending = True
        self.run_worker(self._asking(flow), group="ask", exclusive=True)

    async def _asking(self, flow: Coroutine[Any, Any, None]) -> None:
        try:
            await flow
        finally:
            self.pending = False
            self.update_hints()

    def focus_view(self) -> None:
        """Give the keys back to the view."""

    def taker(self) -> KeyTaker | None:
        """What takes the keys, because it asks something; None: they mean what they mean."""
        if self.prompt.asking:
            return self.prompt
        return self.confirm_bar if self.confirm_bar.waiting else None

    def swallows(self, key: str) -> bool:
        """Whether a key means nothing just now.

        Args:
            key: Textual's name of it.
        """
        if not self.pending or key in PASSING or self.situation().view != self.view:
            return False
        if key == "escape":
            self.workers.cancel_group(self, "ask")
            if self.feed.deeds.waits:
                self.say((literal("not waited for any more; what was confirmed is done all the same"), "warn"))
            else:
                self.say((literal("nothing was done"), "dim"))
        return True

    def has_to_wait(self, key: str) -> bool:
        """Whether a key, and all that is typed behind it, has to wait for what it is meant for to be shown.

        Args:
            key: Textual's name of it.
        """
        return False

    def before_key(self, key: str) -> None:
        """Take notice of a key that nothing asked for, before it does what it means.

        Args:
            key: Textual's name of it.
        """

    def update_hints(self) -> None:
        """Show the keys of what is open now."""
        if self.built:
            self.hints.show(self.situation())

    # -- what keys do everywhere --------------------------------------------------------

    def do_view_workflows(self) -> None:
        """Show the workflows."""
        self.shared.show_view("workflows")

    def do_view_traffic(self) -> None:
        """Show the traffic."""
        self.shared.show_view("traffic")

    def do_view_queues(self) -> None:
        """Show queues and workers."""
        self.shared.show_view("queues")

    def do_view_dead(self) -> None:
        """Show the dead letters."""
        self.shared.show_view("dead")

    def do_view_audit(self) -> None:
        """Show the audit."""
        self.shared.show_view("audit")

    def do_view_last(self) -> None:
        """Show the view that was shown before."""
        self.shared.show_view("last")

    def do_help(self) -> None:
        """Explain the keys."""
        self.shared.show_view("help")

    def do_command(self) -> None:
        """Ask for a command."""
        self.commands.ask()

    def do_palette(self) -> None:
        """Offer all actions."""
        self.commands.open_palette()

    def run_command(self, line: str) -> None:
        """Do what was typed after `:`.

        Args:
            line: it.
        """
        self.commands.run(line)

    def perform_with(self, action: Action, words: str) -> bool:
        """Do an action that is possible with the words that were typed behind its command.

        Args:
            action: which.
            words: they, and not none.

        Returns:
            Whether it reads any; else nothing was done.
        """
        return False

    def order(self, what: str, order: str, name: str) -> bool:
        """Give an order to what is named, whatever is under the cursor.

        Args:
            what: ``activity`` or ``operations``.
            order: what is to become of it.
            name: its name or ID, or the beginning of it.

        Returns:
            Whether such orders are given here; else nothing was done.
        """
        return False

    def set_filter(self, text: str) -> None:
        """Filter by what was typed after `:filter`.

        Args:
            text: a query.
        """

    def take_paste(self, text: str) -> None:
        """Open the workflow whose ID is in what was pasted.

        Args:
            text: all of it.
        """
        self.commands.take_paste(text)

    def do_pause(self) -> None:
        """Freeze the view, or let it go on."""
        self.paused = not self.paused
        self.again()

    def do_wide(self) -> None:
        """Show all columns of the table that has the keys, of which some are out of sight, or those that fit."""
        table = self.focused
        if not isinstance(table, LineTable):
            panes = key_of("panes")
            self.say((literal(f"wide: this part has no columns; {panes} goes to those that have some"), "warn"))
            return
        table.set_wide(0 if table.wide else WIDE)
        if table.wide > table.size.width:
            left, right = key_of("wide.left"), key_of("wide.right")
            self.say((joined((literal("all columns; "), left, literal(" and "), right, literal(" move"))), "info"))
        elif table.wide:
            self.say((literal("all columns are in sight"), "info"))

    def do_wide_left(self) -> None:
        """Move to the columns on the left."""
        if isinstance(self.focused, LineTable):
            self.focused.shift(-SHIFT)

    def do_wide_right(self) -> None:
        """Move to the columns on the right."""
        if isinstance(self.focused, LineTable):
            self.focused.shift(SHIFT)

    def do_back(self) -> None:
        """Go back; in a view itself, quit."""
        if len(self.app.screen_stack) > 1:
            self.app.pop_screen()
        elif self.feed.deeds.current and not self._warned:
            self._warned = True
            again, view = key_of("back"), key_of("view.audit")
            said = f"an operation is under way; {again} again leaves, and {view} of another console sees it"
            self.say((literal(said), "warn"))
        else:
            self.app.exit(0)

    def do_escape(self) -> None:
        """Clear the message, else go back; never quit."""
        if self.prompt.said:
            self.say()
        elif len(self.app.screen_stack) > 1:
            self.app.pop_screen()

    def do_quit(self) -> None:
        """Quit."""
        self.app.exit(0)

    def do_suspend(self) -> None:
        """Go into the background."""
        self.app.action_suspend_process()

    def do_redraw(self) -> None:
        """Paint everything anew."""
        self.app.refresh(repaint=True, layout=True)

    # -- copying ------------------------------------------------------------------------

    def copied(self) -> tuple[SafeText, bytes] | None:
        """What `y` copies, and what it is called; None: there is nothing."""
        ids = self.targets()
        if not ids:
            return None
        what = literal("the ID") if len(ids) == 1 else literal(f"{len(ids):,} IDs")
        return what, " ".join(ids).encode()

    def command(self) -> str:
        """The command line that shows what this view shows."""
        ids = self.targets()
        return command_line(self.shared.target, ["show", ids[0]] if ids else ["list"])

    def do_copy(self) -> None:
        """Copy the ID, or what has the focus."""
        self.say(*self.copying.copy())

    def do_copy_command(self) -> None:
        """Copy the command line that does or shows the same."""
        self.say(*self.copying.copy_command())

    def do_write(self) -> None:
        """Write to a file what the terminal was asked to copy just now, else what `y` copies, or what is asked now."""
        self.say(*self.copying.write())
