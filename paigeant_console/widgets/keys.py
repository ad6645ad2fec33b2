"""Bindings made from the action table, so that no key does anything the table does not tell of."""

from __future__ import annotations

from typing import Final

from textual.binding import Binding, BindingType

from paigeant_console.actions import ACTIONS, FORMS, keys_of

__all__ = ["PASSING", "action_of", "bindings_of"]

PASSING: Final = frozenset({"ctrl+c", "ctrl+q", "ctrl+z", "ctrl+l"})
"""Keys that mean the same whatever has the focus."""


def bindings_of(owner: str) -> list[BindingType]:
    """The bindings of a widget, or of the app.

    Args:
        owner: whose, in the table's words.
    """
    return [
        Binding(",".join(action.keys), f"act('{action.id}')", str(action.label), show=False, id=action.id)
        for action in ACTIONS
        if action.owner == owner and action.keys
    ]


def action_of(owner: str, key: str) -> str | None:
    """The action that a key of a form means, by its ID; None: it means none.

    Args:
        owner: the form, in the table's words.
        key: Textual's name of the key.
    """
    return next((action.id for action in _FORMS if action.owner == owner and key in keys_of(action)), None)


_FORMS: Final = [action for action in ACTIONS if action.owner in FORMS]
