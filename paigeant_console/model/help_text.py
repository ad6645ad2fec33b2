"""The help of a view, made from the action table: what each key does, and why one cannot be used now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from paigeant_console.actions import FORMS, Action, Situation, help_of, keys_text, of_view, refusal
from paigeant_console.model.looks import DONE, SKIPPED, STATES, TO_COME, UNDONE
from paigeant_console.model.text import Span, spans_width, width_of, wrap_words
from paigeant_console.safe_text import SafeText, cells, joined, literal

__all__ = ["help_lines"]

KEY_CELLS: Final = 18
_FORM_TITLES: Final = {
    "prompt": "While something is asked",
    "confirm": "While a confirmation is asked",
    "replay": "While a replay is prepared",
    "payload": "While a payload is edited",
}
_QUERY: Final = (
    ("state:dead", "a field; text matches anywhere in it, in any case"),
    ("step:charge*", "* stands for anything"),
    ("age:>10m attempt:>=3", "both must hold"),
    ("state:dead OR stuck:slow", "either"),
    ("!state:completed", "not"),
    ("label.tier:premium", "a label"),
    ("timeout", "a word is looked for everywhere"),
)


def help_lines(situation: Situation, title: SafeText, width: int, *, ascii_only: bool) -> list[Sequence[Span]]:
    """All lines of the help.

    Args:
        situation: of the view that it is asked for.
        title: what that view is called.
        width: cells there are.
        ascii_only: write ASCII only.
    """
    lines: list[Sequence[Span]] = [[(joined((literal("Keys of "), title)), "strong")], []]
    here = of_view(situation.view)
    acting = [action for action in here if action.writes]
    moving = [action for action in here if action.owner == "table" and action.id.startswith("table.")]
    rest = [action for action in here if action not in acting and action not in moving]
    for heading, actions in (("Look and find", rest), ("Act", acting), ("Move", moving)):
        if actions:
            lines.append([(literal(heading), "info")])
            lines += [line for action in actions for line in _lines(action, situation, width)]
            lines.append([])
    if any(action.writes for action in here):
        for form in sorted(FORMS, key=list(_FORM_TITLES).index):
            lines.append([(literal(_FORM_TITLES[form]), "info")])
            there = Situation(form, read_only=situation.read_only)
            lines += [line for action in of_view(form) for line in _lines(action, there, width)]
            lines.append([])
    lines.append([(literal("Signs"), "info")])
    words: dict[SafeText, list[SafeText]] = {}
    styles: dict[SafeText, str] = {}
    for look in (*STATES.values(), DONE, TO_COME, UNDONE, SKIPPED):
        mark = look.mark(ascii_only)
        words.setdefault(mark, []).append(look.word)
        styles.setdefault(mark, look.style or "strong")
    words[literal("!")] = [literal("behind a state: it does not move, and its reason says why")]
    styles[literal("!")] = "error"
    for mark, said in words.items():
        sign = cells(joined((literal("  "), mark)), KEY_CELLS)
        lines.append([(sign, styles[mark]), (joined(said, literal(", ")), "")])
    lines += [[], [(literal("Filters"), "info")]]
    for example, meaning in _QUERY:
        lines.append([(cells(literal(f"  {example}"), 28), "strong"), (literal(meaning), "")])
    return lines


def _lines(action: Action, situation: Situation, width: int) -> list[Sequence[Span]]:
    """What one action does: its keys, and beside them as many lines as it needs."""
    why_not = refusal(action, situation)
    style = "dim" if why_not is not None else ""
    keys = joined((literal("  "), keys_text(action)))
    first = keys if width_of(keys) >= KEY_CELLS else cells(keys, KEY_CELLS)
    room = max(20, width - KEY_CELLS - 1)
    texts: list[Span] = [(text, style) for text in wrap_words(help_of(action), room)]
    if why_not is not None:
        texts.append((literal(f"not now: {why_not.partition(': ')[2]}"), "warn"))
    lines: list[Sequence[Span]] = []
    for index, (text, text_style) in enumerate(texts):
        keys_here = first if index == 0 else literal(" " * KEY_CELLS)
        lines.append([(joined((keys_here, literal(" "))), "dim" if why_not is not None else "key"), (text, text_style)])
    if action.command:
        command = literal(f":{action.command[0]}")
        gap = width - spans_width(lines[0]) - width_of(command)
        if gap > 1:
            lines[0] = [*lines[0], (literal(" " * gap), ""), (command, "dim")]
    return lines
