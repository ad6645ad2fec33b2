"""The user's own keys: from config.toml to the action table, checked before the console opens.

[console.keys]
retry = "f5"
"view.queues" = ["3", "f3"]
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Final

from paigeant_console.actions import ACTIONS, EVERY, FORMS, Action, key_text
from paigeant_core.errors import ConfigError

__all__ = ["FIXED", "key_name", "read_keys"]

FIXED: Final = frozenset({"interrupt", "quit", "suspend", "redraw", "escape"})
"""Actions whose keys mean the same whatever has the focus, so they stay where they are."""

_ESCAPE: Final = frozenset({"prompt.cancel", "confirm.no", "replay.cancel", "payload.cancel"})
"""Actions that Esc means too, whatever other keys they get: everybody tries it first."""

_LINE: Final = ("backspace", "delete", "left", "right", "home", "end", "space")
_EDITING: Final = frozenset((*_LINE, "ctrl+a", "ctrl+d", "ctrl+e", "ctrl+k", "ctrl+u", "ctrl+w"))
_TYPED: Final = {
    "prompt": _EDITING,
    "payload": _EDITING | {"up", "down", "enter", "tab", "pageup", "pagedown"},
}
"""Keys that edit what is typed in a form, so they can mean nothing else there; letters and signs do so too."""

_NAME: Final = re.compile(r"(?:(?:ctrl|shift|alt)\+)*(?:f[1-9]|f1[0-9]|f2[0-4]|[a-z_]{2,40}|[A-Za-z0-9])")
_OTHER_NAMES: Final = {
    # What Unicode calls a character, and Textual its key.
    "solidus": "slash",
    "reverse_solidus": "backslash",
    "commercial_at": "at",
    "hyphen_minus": "minus",
    "plus_sign": "plus",
    "low_line": "underscore",
}
_SPELLED: Final = {
    "esc": "escape",
    "return": "enter",
    "pgup": "pageup",
    "pgdn": "pagedown",
    "del": "delete",
    " ": "space",
}


def key_name(text: str) -> str | None:
    """Textual's name of a key as people write it: ``?``, ``^R``, ``Ctrl+R``, ``F5``, ``PgDn``; None: it is none."""
    if len(text) == 1 and text.isprintable() and text not in _SPELLED:
        if text.isalnum():
            return text if text.isascii() else None
        name = unicodedata.name(text, "").lower().replace("-", "_").replace(" ", "_")
        return _OTHER_NAMES.get(name, name) or None
    text = f"ctrl+{text[1:].lower()}" if re.fullmatch(r"\^[A-Za-z]+", text) else text
    *modifiers, key = text.split("+") if text != "+" else [text]
    key = key if len(key) == 1 and not modifiers else key.lower()
    name = "+".join([*(modifier.lower() for modifier in modifiers), _SPELLED.get(key, key)])
    return name if _NAME.fullmatch(name) else None


def read_keys(table: Mapping[str, Any], where: str) -> dict[str, tuple[str, ...]]:
    """The keys of actions by their IDs.

    Args:
        table: ``[console.keys]``: by ID a key, or a list of keys.
        where: names the table in what is said of it.

    Raises:
        ConfigError: no such action or key, one that stays where it is, or a key that would mean two things.
    """
    known = {action.id: action for action in ACTIONS if action.keys}
    changed: dict[str, tuple[str, ...]] = {}
    for name, value in table.items():
        if name not in known:
            raise ConfigError(f"{where}: no action {ascii(name)[:60]} has a key; {_nearest(name, known)}")
        if name in FIXED:
            raise ConfigError(f"{where}: {name} stays on {key_text(known[name].keys[0])}")
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise ConfigError(f"{where}: {name} must be a key in quotes, or a list of them")
        keys = [_key(text, name, where) for text in texts]
        if name in _ESCAPE and "escape" not in keys:
            keys.append("escape")
        changed[name] = tuple(keys)
    _check(list(known.values()), changed, where)
    return changed


def _key(text: str, action: str, where: str) -> str:
    name = key_name(text)
    if name is None:
        raise ConfigError(f"{where}: {action} = {ascii(text)[:40]}: write a key like r, R, ?, ^R, F5 or PgDn")
    return name


def _check(actions: Sequence[Action], changed: Mapping[str, Sequence[str]], where: str) -> None:
    """No key may mean two things in one view."""
    for view in (*sorted(EVERY), "help", *sorted(FORMS)):
        taken: dict[str, Action] = {}
        for action in actions:
            # These mean the same in forms; but Esc, which is the form's own.
            passes = view in FORMS and action.id in FIXED - {"escape"}
            for key in changed.get(action.id, action.keys) if view in action.where or passes else ():
                if action.id in changed and view in _TYPED and (len(key_text(key)) == 1 or key in _TYPED[view]):
                    raise ConfigError(
                        f"{where}: {action.id} cannot be {key_text(key)}, as it edits what is typed there"
                    )
                other = taken.setdefault(key, action)
                if other is not action:
                    raise ConfigError(
                        f"{where}: {key_text(key) or key} would be both {other.id} and {action.id} in view {view}; "
                        "give one of them another key"
                    )


def _nearest(name: str, known: Mapping[str, Action]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=1)
    return f"is {close[0]} meant?" if close else f"known are {', '.join(sorted(set(known) - FIXED))}"
