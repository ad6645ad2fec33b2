"""What can follow in a command or a query: words that go on with what was typed, and actions that match it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from paigeant_console.actions import ACTIONS, Action
from paigeant_console.model.query import FIELDS, saved_names, words_of

__all__ = ["MOST", "complete_query", "going_on", "matching", "query_words"]

MOST: Final = 20
"""Words that are looked for."""


def going_on(text: str, words: Iterable[str]) -> list[str]:
    """The words that go on with the last one of a text, that one whole; not more than twenty.

    Args:
        text: what was typed so far.
        words: what could stand there.
    """
    begun = text.rpartition(" ")[2]
    found: list[str] = []
    for word in words:
        if word.startswith(begun) and word != begun:
            found.append(word)
            if len(found) == MOST:
                break
    return found


def query_words(text: str) -> list[str]:
    """What can go on with a query: names of fields and of saved queries, and after some fields their words."""
    begun = text.rpartition(" ")[2].lstrip("!(")
    field, colon, _ = begun.partition(":")
    if begun.startswith("@"):
        return going_on(begun, [f"@{name}" for name in saved_names()])
    if not colon:
        return going_on(begun, [f"{name}:" if "." not in name else name.removesuffix("X") for name in FIELDS])
    return going_on(begun, [f"{field}:{word}" for word in words_of(field)])


def complete_query(text: str) -> str | None:
    """A query with its last word completed; None: nothing goes on with it."""
    begun = text.rpartition(" ")[2].lstrip("!(")
    found = query_words(text) if begun else []
    return text[: len(text) - len(begun)] + found[0] if found else None


def matching(text: str, view: str) -> Sequence[Action]:
    """The actions that a text could mean, the likeliest first; those of a view before those of others.

    Args:
        text: some words, or the beginnings of some.
        view: where the operator is.
    """
    words = text.lower().split()
    ranked: list[tuple[int, int, Action]] = []
    for place, action in enumerate(ACTIONS):
        if action.owner != "app" or action.id in ("palette", "escape", "interrupt"):
            continue
        name = f"{action.id} {action.label} {' '.join(action.command)}".lower()
        everything = f"{name} {action.help}".lower()
        if not all(word in everything for word in words):
            continue
        rank = 0 if any(name.startswith(word) or f" {word}" in name for word in words) else 1 if words else 0
        ranked.append((rank + (0 if view in action.where else 10), place, action))
    return [action for _, _, action in sorted(ranked, key=lambda found: found[:2])]
