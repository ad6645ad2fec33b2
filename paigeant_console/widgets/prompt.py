"""The line above the keys: what came of the last act, or the question that is asked now.

One widget for both, as showing and hiding another one would lay out and paint the whole
screen; so a key typed here costs one line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from textual import events

from paigeant_console.model.text import EMPTY, Span, clip, spans_width, width_of
from paigeant_console.safe_text import SafeText, joined, literal, safe
from paigeant_console.widgets.keys import action_of
from paigeant_console.widgets.span_lines import Line, SpanLines

__all__ = ["Prompt"]

MOST: Final = 4000
"""Characters that can be typed or pasted."""
_LIMIT: Final = 4 * MOST
_SPACE: Final = literal(" ")


@dataclass(slots=True)
class _Question:
    """What is being asked, and what was typed so far."""

    label: SafeText
    done: Callable[[str | None], None]
    remember: str
    value: str = ""
    at: int = 0
    note: Line = ()
    placeholder: SafeText = EMPTY
    complete: Callable[[str], str | None] | None = None
    changed: Callable[[str], Line] | None = None
    rows: Callable[[int], None] | None = None
    refuse: Callable[[str], Line] | None = None
    other: Callable[[str, str | None], bool] | None = None
    before: list[str] = field(default_factory=list)
    place: int = 0
    selected: bool = False
    """What stands there gives way to what is typed."""


class Prompt(SpanLines):
    """One line that says something or asks something.

    It never has the focus: to move that would paint the table that has it twice. The app
    gives it the keys while it asks.
    """

    DEFAULT_CSS = """
    Prompt { height: 1; }
    """

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._said: Line = ()
        self._standing: Line = ()
        self._progress: Line = ()
        self._hushed = False
        self._trouble: SafeText | None = None
        self._over = False
        self._amid_trouble = False
        self._question: _Question | None = None
        self._history: dict[str, list[str]] = {}

    # -- saying -------------------------------------------------------------------------

    def say(self, *spans: Span) -> None:
        """Say something, until something else is said. In trouble that is the answer to a key, and comes first.

        Args:
            spans: what; nothing clears the line.
        """
        self._said = spans
        self._amid_trouble = self._trouble is not None
        self.update_lines()

    def stand(self, *spans: Span) -> None:
        """Say something for as long as nothing else is said.

        Args:
            spans: what; nothing clears it.
        """
        if spans != self._standing:
            self._standing = spans
            self.update_lines()

    def progress(self, *spans: Span) -> None:
        """Say how far something came, for as long as nothing is said, in place of what stands there.

        Args:
            spans: what; nothing clears it.
        """
        if spans != self._progress:
            self._progress = spans
            self.update_lines()

    def hush(self, on: bool) -> None:
        """Leave out what stands there, while something else is asked for above.

        Args:
            on: whether to.
        """
        if on != self._hushed:
            self._hushed = on
            self.update_lines()

    def trouble(self, sentence: SafeText | None, *, over: bool = False) -> None:
        """Say what is wrong with the feed, before all else.

        Args:
            sentence: it; None: nothing is.
            over: it is over, so what is said of something else comes before it.
        """
        if self._trouble is None:
            self._amid_trouble = False
        if (sentence, over) != (self._trouble, self._over):
            self._trouble, self._over = sentence, over
            self.update_lines()

    @property
    def said(self) -> bool:
        """Whether there is something to clear."""
        return bool(self._said)

    # -- asking -------------------------------------------------------------------------

    @property
    def asking(self) -> bool:
        """Whether something is asked now."""
        return self._question is not None

    @property
    def value(self) -> str:
        """What was typed so far."""
        return self._question.value if self._question is not None else ""

    def ask(
        self,
        label: SafeText,
        done: Callable[[str | None], None],
        *,
        value: str = "",
        selected: bool = False,
        placeholder: SafeText = EMPTY,
        complete: Callable[[str], str | None] | None = None,
        changed: Callable[[str], Line] | None = None,
        rows: Callable[[int], None] | None = None,
        refuse: Callable[[str], Line] | None = None,
        other: Callable[[str, str | None], bool] | None = None,
        remember: str = "",
    ) -> None:
        """Ask for a line. The keys are taken from now on: the next one may have been typed already.

        Args:
            label: what for.
            done: called with the line, or with None where it was cancelled.
            value: what stands there at first.
            selected: what stands there gives way to the first character; a key that moves the cursor keeps it.
            placeholder: shown while nothing does.
            complete: gives the whole of what was begun, or None.
            changed: called with what was typed; its spans stand at the end of the line.
            rows: called with -1 and 1 for the arrows, in place of what was typed before.
            refuse: says what is wrong with a line, which is not taken then: the question stays; nothing: it is right.
            other: called with a key, and with the line as it would make it (None: it types nothing); whether that key
                was meant for something else.
            remember: under which name answers are kept for the arrows; empty: not.
        """
        if self._question is not None:
            self._finish(None)
        before = self._history.setdefault(remember, []) if remember else []
        question = _Question(label, done, remember, value, len(value))
        question.placeholder, question.complete, question.changed, question.rows = placeholder, complete, changed, rows
        question.refuse, question.other = refuse, other
        question.before, question.place = before, len(before)
        question.selected = selected and bool(value)
        self._question = question
        if changed is not None:
            question.note = changed(value)
        self.update_lines()

    async def answer(
        self,
        label: SafeText,
        *,
        rows: Callable[[int], None],
        refuse: Callable[[str], Line],
        other: Callable[[str, str | None], bool],
    ) -> str | None:
        """Ask for a line, and wait for it.

        Args:
            label: what for.
            rows: called with -1 and 1 for the arrows.
            refuse: as in :meth:`ask`.
            other: as in :meth:`ask`.
        """
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

        def done(line: str | None) -> None:
            if not answer.done():
                answer.set_result(line)

        # What was said of the line before is no news once another one is typed.
        self.ask(label, done, changed=lambda _: (), rows=rows, refuse=refuse, other=other)
        try:
            return await answer
        finally:
            if answer.cancelled():
                self.withdraw()

    def withdraw(self) -> None:
        """Ask no more; whoever asked is not told."""
        if self._question is not None:
            self._question.done = _nobody
            self._finish(None)

    def _finish(self, line: str | None) -> None:
        """Ask no more, then tell the answer."""
        question = self._question
        assert question is not None
        self._question = None
        if line and question.remember and (not question.before or question.before[-1] != line):
            question.before.append(line)
        if self.is_attached:
            self.update_lines()
        question.done(line)

    def _act(self, name: str) -> None:
        """Do what a key of the table says."""
        question = self._question
        if question is None:
            return
        if name == "prompt.done":
            if question.refuse is not None and (wrong := question.refuse(question.value)):
                self.note(wrong)
            else:
                self._finish(question.value)
        elif name == "prompt.cancel":
            self._finish(None)
        elif name == "prompt.complete" and (whole := self._completion()) is not None:
            self._edit(whole, len(whole))

    def take_key(self, event: events.Key) -> None:
        """Type, move and delete; other keys do nothing while something is asked.

        Args:
            event: the key.
        """
        question = self._question
        if question is None:
            return
        name = action_of("prompt", event.key)
        if name in ("prompt.up", "prompt.down"):
            self._arrow(-1 if name == "prompt.up" else 1)
            return
        if name is not None:
            question.selected = False
            self._act(name)
            return
        typed = event.character is not None and event.is_printable
        value, at = question.value, question.at
        if question.selected and (typed or event.key in ("backspace", "delete")):
            value, at = "", 0
        longer = f"{value[:at]}{event.character}{value[at:]}" if typed else None
        if question.other is not None and question.other(event.key, longer):
            return
        question.selected = False
        if longer is not None:
            self._edit(longer, at + 1)
        elif event.key == "backspace":
            self._edit(value[: max(0, at - 1)] + value[at:], max(0, at - 1))
        elif event.key in ("delete", "ctrl+d"):
            self._edit(value[:at] + value[at + 1 :], at)
        elif event.key == "left":
            self._edit(value, max(0, at - 1))
        elif event.key == "right" and at == len(value):
            self._act("prompt.complete")
        elif event.key == "right":
            self._edit(value, at + 1)
        elif event.key in ("home", "ctrl+a"):
            self._edit(value, 0)
        elif event.key in ("end", "ctrl+e"):
            self._edit(value, len(value))
        elif event.key == "ctrl+w":
            start = value[:at].rstrip().rfind(" ") + 1
            self._edit(value[:start] + value[at:], start)
        elif event.key == "ctrl+u":
            self._edit(value[at:], 0)
        elif event.key == "ctrl+k":
            self._edit(value[:at], at)

    def take_paste(self, text: str) -> None:
        """Take the first line of what was pasted.

        Args:
            text: all of it.
        """
        question = self._question
        if question is not None and text:
            line = text.splitlines()[0]
            value, at = ("", 0) if question.selected else (question.value, question.at)
            question.selected = False
            self._edit(value[:at] + line + value[at:], at + len(line))

    def _arrow(self, step: int) -> None:
        question = self._question
        assert question is not None
        if question.rows is not None:
            question.rows(step)
        elif 0 <= question.place + step <= len(question.before):
            question.place += step
            older = question.before[question.place] if question.place < len(question.before) else ""
            self._edit(older, len(older))

    def _edit(self, value: str, at: int) -> None:
        question = self._question
        assert question is not None
        value = value[:MOST]
        changed = value != question.value
        question.value, question.at = value, min(at, len(value))
        if changed and question.changed is not None:
            question.note = question.changed(value)
        self.update_lines()

    def note(self, note: Line) -> None:
        """Put something else at the end of the question's line.

        Args:
            note: what.
        """
        if self._question is not None:
            self._question.note = note
            self.update_lines()

    def _completion(self) -> str | None:
        question = self._question
        if question is None or question.complete is None or question.at != len(question.value):
            return None
        whole = question.complete(question.value)
        return whole if whole is not None and whole != question.value and whole.startswith(question.value) else None

    # -- drawing ------------------------------------------------------------------------

    def lines_for(self, width: int) -> Sequence[Line]:
        """See :class:`SpanLines`."""
        question = self._question
        if question is None:
            spans = self._said
            if self._trouble is not None and not (self._over and spans):
                answer = [*spans, (literal("; "), "")] if spans and self._amid_trouble else []
                spans = [*answer, (self._trouble, "warn")]
            if not spans and not self._hushed:
                spans = self._progress or self._standing
            return (clip(spans, width, ascii_only=self.ascii_only),)
        # What is typed has half of the line, or as much as it needs.
        needed = width_of(question.label) + width_of(safe(question.value, _LIMIT)) + 4
        note = clip(question.note, max(0, width // 2, width - needed), ascii_only=self.ascii_only)
        room = width - width_of(question.label) - spans_width(note) - 3
        before, after = question.value[: question.at], question.value[question.at :]
        spans = [(joined((question.label, _SPACE)), "strong")]
        shown = _tail(before, max(1, room - 2))
        spans.append((shown, "tab" if question.selected else ""))
        whole = self._completion()
        if whole is not None:
            rest = whole[len(question.value) :]
            spans += [(safe(rest[:1]), "tab"), (safe(rest[1:], _LIMIT), "dim")]
        elif not question.value and question.placeholder:
            spans += [(_SPACE, "tab"), (question.placeholder, "dim")]
        else:
            spans += [(safe(after[:1]) if after else _SPACE, "tab"), (safe(after[1:], _LIMIT), "")]
        spans = clip(spans, width - spans_width(note) - (1 if note else 0), ascii_only=self.ascii_only)
        gap = width - spans_width(spans) - spans_width(note)
        return ([*spans, (literal(" " * gap), ""), *note],)


def _tail(text: str, room: int) -> SafeText:
    """The end of a text that fits."""
    whole = safe(text, _LIMIT)
    if width_of(whole) <= room:
        return whole
    kept: list[SafeText] = []
    for character in reversed(text):
        shown = safe(character)
        room -= width_of(shown)
        if room < 1:
            break
        kept.append(shown)
    kept.append(literal("<"))
    return joined(reversed(kept))


def _nobody(line: str | None) -> None:
    """Whoever asked is gone."""
