"""What changed between two payloads: value by value, each with its path; linear in their size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec

from paigeant_console.model.text import Span, plural
from paigeant_console.safe_text import SafeText, joined, literal, safe

__all__ = ["changes"]

MOST: Final = 500
"""Changes that are listed."""
DEEPEST: Final = 6
"""Objects within objects that are looked into; what is deeper is compared whole."""
_VALUE: Final = 2000
_PATH: Final = 200

_Object: TypeAlias = dict[str, msgspec.Raw]
_Change: TypeAlias = tuple[str, bytes | None, bytes | None]
_decode = msgspec.json.Decoder(_Object).decode


def changes(before: bytes, after: bytes) -> list[Span] | None:
    """One line for each value that was added (``+``), changed (``~``) or taken out (``-``), and how many were not.

    Args:
        before: a payload.
        after: another.

    Returns:
        Lines, each with the name of its style; None: one of them is no JSON object.
    """
    old, new = _object(before), _object(after)
    if old is None or new is None:
        return None
    lines: list[Span] = []
    same = more = 0
    for path, left, right in _walk(old, new, "", 1):
        if left == right:
            same += 1
        elif len(lines) < MOST:
            lines.append(_line(path, left, right))
        else:
            more += 1
    if more:
        lines.append((joined((literal("  and "), plural(more, "more change"))), "dim"))
    if not lines:
        lines.append((literal("nothing changed"), "dim"))
    if same:
        lines.append((joined((literal("  "), plural(same, "value"), literal(" as before"))), "dim"))
    return lines


def _walk(old: _Object, new: _Object, path: str, depth: int) -> Iterator[_Change]:
    for name in [*old, *(name for name in new if name not in old)]:
        here = f"{path}.{name}" if path else name
        left, right = old.get(name), new.get(name)
        if left is None or right is None:
            yield here, None if left is None else bytes(left), None if right is None else bytes(right)
            continue
        inner_left, inner_right = _object(left), _object(right)
        if depth < DEEPEST and inner_left is not None and inner_right is not None and bytes(left) != bytes(right):
            yield from _walk(inner_left, inner_right, here, depth + 1)
        else:
            yield here, bytes(left), bytes(right)


def _line(path: str, left: bytes | None, right: bytes | None) -> Span:
    name = safe(path, _PATH)
    if left is None:
        return joined((literal("+ "), name, literal(": "), _value(right))), "ok"
    if right is None:
        return joined((literal("- "), name, literal(": "), _value(left))), "error"
    return joined((literal("~ "), name, literal(": "), _value(left), literal(" → "), _value(right))), "warn"


def _value(value: bytes | None) -> SafeText:
    return safe(value or b"", _VALUE)


def _object(value: bytes | msgspec.Raw) -> _Object | None:
    try:
        return _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
