"""The bar that asks before something is done: what, to which, what that means; the default is always no."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from textual import events

from paigeant_console.actions import by_id, key_of, key_text, keys_of
from paigeant_console.model.confirmation import FEW, Confirmation, Fact
from paigeant_console.model.text import EMPTY, Span, clip, spans_width, width_of, wrap_words
from paigeant_console.safe_text import SafeText, joined, literal
from paigeant_console.widgets.keys import action_of
from paigeant_console.widgets.span_lines import Line, SpanLines

__all__ = ["ConfirmBar"]

FACT_LINES: Final = 3
"""Lines for a reason, a pace or a command line."""
AROUND: Final = 5
"""Lines of the screen around it: at its top, its own border, and the two at the foot."""


class ConfirmBar(SpanLines):
    """Asks, above the keys, and takes every key until it is answered; it lies over the view, which stays as it is."""

    grows: ClassVar[bool] = True
    DEFAULT_CSS = """
    ConfirmBar {
        layer: above;
        dock: bottom;
        margin-bottom: 2;
        height: auto;
        border-top: heavy $warning;
        &.-production { border: heavy $error; }
    }
    """

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self.display = False
        self._confirmation: Confirmation | None = None
        self._answer: asyncio.Future[bool] | None = None
        self._answered: Callable[[bool], object] = bool
        self._top = 0
        self._in_sight = FEW

    @property
    def confirmation(self) -> Confirmation | None:
        """What is asked now; None: nothing."""
        return self._confirmation

    @property
    def waiting(self) -> bool:
        """Whether it waits for a key."""
        return self._answer is not None and not self._answer.done()

    def open(self, confirmation: Confirmation, *, production: bool = False) -> None:
        """Show what is to be done.

        Args:
            confirmation: it.
            production: draw it so that nobody overlooks it.
        """
        self._confirmation = confirmation
        self._top = 0
        self.set_class(production, "-production")
        self.display = True
        self.update_lines()
        self.refresh(layout=True)

    def close(self) -> None:
        """Be gone."""
        self._confirmation = None
        self.display = False

    async def ask(self, answered: Callable[[bool], object]) -> bool:
        """Wait for `y`, or anything that means no.

        Args:
            answered: called at once with the answer, before the next key is looked at.
        """
        self._answered = answered
        self._answer = asyncio.get_running_loop().create_future()
        self.update_lines()
        try:
            return await self._answer
        finally:
            self._answer = None

    def take_key(self, event: events.Key) -> None:
        """Answer, or scroll the targets; no key gets through to what is behind.

        Args:
            event: the key.
        """
        if self._answer is None or self._answer.done():
            return
        name = action_of("confirm", event.key)
        if name == "confirm.yes" and self._confirmation is not None and self._confirmation.eligible:
            self._answer.set_result(True)
            self._answered(True)
        elif name == "confirm.no":
            self._answer.set_result(False)
            self._answered(False)
        elif name in ("confirm.up", "confirm.down"):
            self.scroll_targets(-1 if name == "confirm.up" else 1)

    def scroll_targets(self, lines: int) -> None:
        """Bring other targets into sight.

        Args:
            lines: by how many.
        """
        if self._confirmation is not None:
            self._top = max(0, min(self._top + lines, len(self._confirmation.rows) - self._in_sight))
            self.update_lines()

    def lines_for(self, width: int) -> Sequence[Line]:
        """See :class:`SpanLines`."""
        asked = self._confirmation
        if asked is None:
            return ()
        above: list[Sequence[Span]] = [asked.title]
        above += [[(line, "")] for line in wrap_words(asked.effect, max(20, width), 2)]
        rows = asked.rows
        below: list[Sequence[Span]] = []
        if asked.why and spans_width(rows[0]) > width:
            why = wrap_words(asked.why, max(20, width - 2), 4)
            below += [[(joined((literal("  "), line)), "error")] for line in why]
        for fact in asked.facts:
            below += _wrapped(fact, width)
        if not asked.eligible:
            below.append([(literal(f"nothing can be done; {_cancel()} closes"), "warn")])
        elif not asked.typed:
            below.append(_question())
        height = self.app.size.height
        room = height - AROUND - len(above) - len(below) - (len(rows) > FEW)
        self._in_sight = max(1, min(room, max(FEW, height // 3)))
        targets = list(rows[self._top : self._top + self._in_sight])
        if len(rows) > self._in_sight:
            left = len(rows) - self._top - self._in_sight
            keys = f"{key_of('confirm.down')} {key_of('confirm.up')}"
            targets.append([(literal(f"  {self._top:,} more above, {left:,} below ({keys})"), "dim")])
        return [clip(line, width, ascii_only=self.ascii_only) for line in (*above, *targets, *below)]


def _wrapped(fact: Fact, width: int) -> list[Sequence[Span]]:
    """A word and its text on as many lines as it needs, under each other."""
    word, (text, style) = fact
    indent = width_of(word[0])
    first, *others = wrap_words(text, max(20, width - indent), FACT_LINES) or [EMPTY]
    return [[word, (first, style)], *([(literal(" " * indent), ""), (line, style)] for line in others)]


def _cancel() -> SafeText:
    """The key that everybody tries first."""
    keys = keys_of(by_id("confirm.no"))
    return key_text("escape" if "escape" in keys else keys[0])


def _question() -> list[Span]:
    """What can be answered, by the keys that are bound now."""
    first, *others = [text for text in map(key_text, keys_of(by_id("confirm.no"))) if text]
    too = (
        joined((literal(" no ("), joined(others, literal(", ")), literal(" too)   "))) if others else literal(" no   ")
    )
    return [
        (literal("do it? "), "strong"),
        (key_of("confirm.yes"), "key"),
        (literal(" yes   "), ""),
        (first, "key"),
        (too, ""),
        (key_of("copy-command"), "key"),
        (literal(" copy the command"), ""),
    ]
