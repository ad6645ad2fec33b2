"""Typing commands: what stands behind `:`, how it is completed, and the palette of all actions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

from paigeant_console.actions import Action, by_id, commands, key_of, refusal
from paigeant_console.config import THEMES
from paigeant_console.model.completion import MOST, going_on, matching, query_words
from paigeant_console.model.confirmation import dispatch_confirmation
from paigeant_console.model.dispatch_line import parse_dispatch
from paigeant_console.model.grouping import GROUPINGS
from paigeant_console.model.pasted import ids_in
from paigeant_console.model.workflow_list import ORDERS
from paigeant_console.safe_text import SafeText, joined, literal, safe
from paigeant_console.screens.confirming import confirmed
from paigeant_console.widgets.span_lines import Line
from paigeant_core.errors import PaigeantError

if TYPE_CHECKING:
    from paigeant_console.screens.base import ConsoleScreen

__all__ = ["Commands"]

OFFERED: Final = 6
"""Words that are shown of those that could follow."""
_PACE: Final = ("ramp", "rate=", "brake=", "delay=", "limit=")
_ORDERS: Final = {
    "activity": ("pause", "resume"),
    "operations": ("pause", "resume", "abort", "undo", "approve", "reject"),
}
_CALLED: Final = {"activity": "the activity's name", "operations": "the beginning of the operation's ID"}
_NAMING: Final = {
    "activity": ("activity", ""),
    "activity-pause": ("activity", "pause"),
    "operations": ("operations", ""),
    "operation-pause": ("operations", "pause"),
    "operation-approve": ("operations", "approve"),
    "operation-abort": ("operations", "abort"),
    "operation-reject": ("operations", "reject"),
}
"""Commands behind which something is named that is to be acted on, and the order; empty: it comes first."""
_NOT_ALONE: Final = {"queues": ("activity", "operation-pause")}
"""Of these the ones that mean nothing without a name, by view; in all others there is no activity under the cursor."""
_ALONE: Final = {"pause": "see `operations pause`, `activity pause`"}
"""What may have been meant by words behind commands that take none."""


class Commands:
    """The commands of a screen.

    Args:
        screen: which.
    """

    def __init__(self, screen: ConsoleScreen) -> None:
        self._screen = screen
        self._known: Callable[[str], Iterable[str]] = lambda _: ()

    # -- the line -----------------------------------------------------------------------

    def ask(self) -> None:
        """Ask for a command."""
        screen = self._screen

        def done(line: str | None) -> None:
            screen.update_hints()
            if line is not None and line.strip():
                screen.run_command(line.strip())

        screen.prompt.ask(
            literal(":"),
            done,
            complete=self.complete,
            changed=self._offer,
            placeholder=literal("workflows, retry, open ID, ctx NAME, theme NAME, dispatch STEP …, quit"),
            remember=":",
        )
        screen.update_hints()

    def complete(self, text: str) -> str | None:
        """The whole of what was begun, or None."""
        found = self.words(text) if text else []
        return text[: len(text) - len(text.rpartition(" ")[2])] + found[0] if found else None

    def words(self, text: str) -> list[str]:
        """What can go on with the last word of a command."""
        word, space, _ = text.lstrip().partition(" ")
        if not space:
            return going_on(word, commands())
        action = commands().get(word)
        return [] if action is None else self._arguments(action, text)

    def _arguments(self, action: Action, text: str) -> list[str]:
        screen = self._screen
        if action.id == "filter":
            return query_words(text)
        if action.id == "open":
            begun = text.rpartition(" ")[2]
            with screen.feed.lock:
                # Of a hundred thousand the first twenty are found without a list of all.
                return list(islice((key for key in screen.feed.fold.rows if key.startswith(begun)), MOST))
        word, *behind = text.split(" ")
        orders = _ORDERS.get(word)
        if orders is not None and len(behind) == 1:
            return going_on(text, orders)
        if action.id in ("dispatch", "insert") or word in ("activity", "activity-pause"):
            with screen.feed.lock:
                return going_on(text, sorted({*screen.feed.fold.signs, *screen.feed.fold.served}))
        words = {
            "context": screen.shared.contexts,
            "theme": THEMES,
            "order": ORDERS,
            "group": GROUPINGS,
            "undo": ("limit=",),
            "release": (),
        }.get(action.id, _PACE if action.writes and action.needs_row else ())
        return going_on(text, words)

    def _offer(self, text: str) -> Line:
        """Some of what could follow, for the end of the line."""
        found = self.words(text) if text else []
        if len(found) < 2:
            return ()
        names = [safe(word, 24) for word in found[1:OFFERED]]
        more = literal(" …" if len(found) > OFFERED else "")
        return [(joined((key_of("prompt.complete"), literal(", or "), joined(names, literal(" ")), more)), "dim")]

    def run(self, line: str) -> None:
        """Do what was typed after `:`.

        Args:
            line: it.
        """
        screen = self._screen
        typed, _, rest = line.partition(" ")
        word, words = self._meant(typed), rest.strip()
        action = commands().get(word)
        if action is None:
            screen.say(
                (
                    joined((literal("no such command: "), safe(typed, 40), literal(f"; {key_of('help')} lists them"))),
                    "warn",
                )
            )
            return
        with_words = {
            "open": self._open_typed,
            "dispatch": self._dispatch_typed,
            "filter": screen.set_filter,
            "context": self._use_context,
            "theme": self._use_theme,
        }.get(action.id)
        why_not = refusal(action, screen.situation())
        nameless = not words and word in _NOT_ALONE.get(screen.view, ("activity", "activity-pause"))
        if word in _NAMING and (words or (nameless and why_not is None)):
            self._order(word, words)
        elif with_words is None and not words:
            screen.perform(action.id)
        elif why_not is not None:
            screen.say((why_not, "warn"))
        elif with_words is not None:
            with_words(words)
        elif not screen.perform_with(action, words):
            does = _ALONE.get(word, "it acts on the row under the cursor" if action.needs_row else "")
            screen.say((literal(f"{word} takes no words, nothing was done{does and '; '}{does}"), "warn"))

    def _meant(self, word: str) -> str:
        """A command, or the only one that begins so; empty: there is none, or are several."""
        known = commands()
        begun = [word] if word in known else [name for name in known if name.startswith(word)]
        return begun[0] if len({known[name].id for name in begun}) == 1 else ""

    def _order(self, word: str, words: str) -> None:
        """Give an order to what is named behind it. Of what is under the cursor nothing is meant."""
        screen, (what, order) = self._screen, _NAMING[word]
        if not order:
            order, _, words = words.partition(" ")
        orders, situation = _ORDERS[what], screen.situation()
        if situation.read_only or situation.past:
            self._refuse(what, refusal(by_id("dispatch"), situation))
        elif order not in orders or not words.strip():
            self._refuse(what, literal(f": write {', '.join(orders)}, and {_CALLED[what]}"))
        elif not screen.order(what, order, words.strip()):
            self._refuse(what, refusal(by_id("activity" if what == "activity" else "operation.approve"), situation))

    def _refuse(self, what: str, why_not: SafeText | None) -> None:
        """Say why not, in place of what another action is called."""
        _, colon, why = (why_not or ": not in this view").partition(": ")
        self._screen.say((literal(f"{what}{colon}{why}"), "warn"))

    # -- commands with words ------------------------------------------------------------

    def _open_typed(self, prefix: str) -> None:
        self._screen.ask(self._open(prefix))

    def _dispatch_typed(self, typed: str) -> None:
        self._screen.ask(self._dispatch(typed))

    def _use_context(self, name: str) -> None:
        shared = self._screen.shared
        if name:
            problem = shared.use_context(name)
            if problem is not None:
                self._screen.say((problem, "warn"))
        elif shared.contexts:
            here = joined((literal("; this is "), shared.place.context)) if shared.place.context else literal("")
            names = safe(", ".join(shared.contexts), 400)
            self._screen.say((joined((literal("contexts: "), names, here)), "info"))
        else:
            self._screen.say((literal("there are no contexts: [contexts.NAME] in config.toml makes one"), "warn"))

    def _use_theme(self, name: str) -> None:
        shared = self._screen.shared
        problem = shared.use_theme(name) if name else safe(f"theme: there are {', '.join(THEMES)}", 200)
        if problem is not None:
            self._screen.say((problem, "warn"))

    def take_paste(self, text: str) -> None:
        """Open the workflow whose ID is in what was pasted.

        Args:
            text: all of it.
        """
        screen, found = self._screen, ids_in(text)
        with screen.feed.lock:
            known = next((item for item in found if item in screen.feed.fold.rows), None)
        if known is not None:
            screen.shared.open_workflow(known)
        elif len(found) == 1:
            screen.ask(self._open(found[0]))
        else:
            screen.say((literal("there is no correlation ID of this topic in what was pasted"), "warn"))

    async def _open(self, prefix: str) -> None:
        screen = self._screen
        try:
            screen.shared.open_workflow(await asyncio.wrap_future(screen.feed.resolve(prefix)))
        except PaigeantError as error:
            screen.say((safe(str(error), 300), "warn"))

    async def _dispatch(self, typed: str) -> None:
        screen = self._screen
        try:
            steps, variables = parse_dispatch(typed)
            target = screen.shared.target
            asked = dispatch_confirmation(steps, variables, target, ascii_only=screen.shared.ascii_only)
            if target.production and not await confirmed(screen, asked):
                screen.say((literal("dispatch: nothing was done"), "dim"))
                return
            workflow = await asyncio.wrap_future(screen.feed.dispatch(steps, variables))
        except PaigeantError as error:
            why = str(error).removeprefix("dispatch: ")
            screen.say((joined((literal("dispatch: "), safe(why, 300))), "warn"))
        else:
            screen.say((joined((literal("dispatched "), safe(workflow, 140))), "ok"))

    # -- the palette --------------------------------------------------------------------

    def open_palette(self) -> None:
        """Offer all actions, and do the one that is chosen."""
        screen, palette = self._screen, self._screen.palette
        situation = screen.situation()

        def changed(text: str) -> Line:
            palette.show(matching(text, screen.view), situation)
            return ()

        def done(line: str | None) -> None:
            chosen = palette.chosen
            palette.close()
            screen.update_hints()
            if line is None or chosen is None:
                return
            if chosen.keys or chosen.id not in _TYPED:
                screen.perform(chosen.id)
            else:
                # It needs words; they are typed behind its command.
                screen.prompt.ask(
                    literal(":"),
                    lambda typed: screen.run_command(typed.strip()) if typed and typed.strip() else None,
                    value=f"{chosen.command[0]} ",
                    complete=self.complete,
                    changed=self._offer,
                    remember=":",
                )
                screen.update_hints()

        label = literal("do what?")
        screen.prompt.ask(
            label, done, changed=changed, rows=palette.move, placeholder=literal("type a part of its name")
        )
        screen.update_hints()


_TYPED: Final = frozenset({"open", "dispatch", "insert", "activity", "context", "theme"})
"""Commands that mean nothing without words behind them."""
