"""The terms of a query, and what they ask of a workflow or a record."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec

__all__ = [
    "AllOf",
    "AnyOf",
    "Everywhere",
    "KeyedNumber",
    "Node",
    "Not",
    "Number",
    "Operator",
    "Pattern",
    "Text",
    "Time",
    "View",
    "as_number",
    "asks_for",
    "comes_with_time",
    "decided_without",
    "narrows",
    "needs_payload",
]


class View(Protocol):
    """What a query asks of a workflow or a record."""

    @abstractmethod
    def texts(self, name: str) -> Iterable[str]:
        """The values of a text field; none: it has no value."""

    @abstractmethod
    def number(self, name: str) -> float | None:
        """A number; `age` in seconds, `created` and `updated` in seconds since the Unix epoch; None: unknown."""

    @abstractmethod
    def keyed(self, name: str, key: str) -> Iterable[str]:
        """The values of `label.KEY` or `payload.KEY`; a number as its text."""

    @abstractmethod
    def everything(self) -> Iterable[str]:
        """Every text of it, the payload's last."""

    @abstractmethod
    def holds(self, needle: str) -> bool:
        """Whether a folded text stands somewhere in one of `everything`; views have quicker ways to find out."""

    @abstractmethod
    def now(self) -> float:
        """Seconds since the Unix epoch."""


Operator: TypeAlias = Literal[">", ">=", "<", "<=", "="]


def _compare(value: float, operator: Operator, than: float, width: float = 0.0) -> bool:
    match operator:
        case ">":
            return value > than
        case ">=":
            return value >= than
        case "<":
            return value < than
        case "<=":
            return value <= than
        case "=":
            return than <= value < than + width if width else value == than


class Pattern(msgspec.Struct, frozen=True):
    """Text to look for, folded, in pieces between stars; a single piece may stand anywhere unless it is the `whole`."""

    pieces: tuple[str, ...]
    whole: bool = False

    @property
    def needle(self) -> str | None:
        """The text that a value has to hold; None: it is not as simple as that."""
        return self.pieces[0] if len(self.pieces) == 1 and not self.whole else None

    def narrows(self, other: Pattern) -> bool:
        """Whether every value that fits this one fits the other too, as is plain to see: it was typed on.

        Args:
            other: What stood there before.
        """
        mine, its = self.needle, other.needle
        return self == other or (mine is not None and its is not None and its in mine)

    def matches(self, value: str) -> bool:
        """Whether a value fits.

        Args:
            value: Any text.
        """
        value = value.casefold()
        if len(self.pieces) == 1:
            return self.pieces[0] == value if self.whole else self.pieces[0] in value
        # Greedy from the left is right for stars alone, and linear: no pattern can make it slow.
        first, *middle, last = self.pieces
        if not value.startswith(first):
            return False
        at = len(first)
        for piece in middle:
            found = value.find(piece, at)
            if found < 0:
                return False
            at = found + len(piece)
        return len(value) - at >= len(last) and value.endswith(last)


class Everywhere(msgspec.Struct, frozen=True):
    """A word without a field."""

    pattern: Pattern

    def matches(self, view: View) -> bool:
        """See `Query.matches`."""
        pattern = self.pattern
        if len(pattern.pieces) == 1 and not pattern.whole:
            return view.holds(pattern.pieces[0])
        return any(map(pattern.matches, view.everything()))


class Text(msgspec.Struct, frozen=True):
    """`field:text`; with a key `label.X:text` and `payload.X:text`."""

    name: str
    key: str
    pattern: Pattern

    def matches(self, view: View) -> bool:
        """See `Query.matches`."""
        values = view.keyed(self.name, self.key) if self.key else view.texts(self.name)
        return any(map(self.pattern.matches, values))


class Number(msgspec.Struct, frozen=True):
    """`field:>3`, `age:>10m`."""

    name: str
    operator: Operator
    than: float
    width: float = 0.0
    """What counts as equal: `age:10m` means ten minutes and some seconds."""

    def matches(self, view: View) -> bool:
        """See `Query.matches`."""
        value = view.number(self.name)
        return value is not None and _compare(value, self.operator, self.than, self.width)


class Time(msgspec.Struct, frozen=True):
    """`created:>2026-01-31`, or `updated:>10m` for longer ago than that."""

    name: str
    operator: Operator
    than: float
    width: float = 0.0
    ago: bool = False

    def matches(self, view: View) -> bool:
        """See `Query.matches`."""
        value = view.number(self.name)
        if value is None:
            return False
        return _compare(view.now() - value if self.ago else value, self.operator, self.than, self.width)


class KeyedNumber(msgspec.Struct, frozen=True):
    """`label.X:>3` and `payload.X:>3`."""

    name: str
    key: str
    operator: Operator
    than: float

    def matches(self, view: View) -> bool:
        """See `Query.matches`."""
        values = map(as_number, view.keyed(self.name, self.key))
        return any(value is not None and _compare(value, self.operator, self.than) for value in values)


class Not(msgspec.Struct, frozen=True):
    """`NOT x`, `!x`."""

    node: Node

    def matches(self, view: View) -> bool:
        """See `Query.matches`."""
        return not self.node.matches(view)


class AllOf(msgspec.Struct, frozen=True):
    """Terms with a space between; none: everything matches."""

    nodes: tuple[Node, ...]

    def matches(self, view: View) -> bool:
        """See `Query.matches`."""
        return all(node.matches(view) for node in self.nodes)


class AnyOf(msgspec.Struct, frozen=True):
    """Terms with `OR` between."""

    nodes: tuple[Node, ...]

    def matches(self, view: View) -> bool:
        """See `Query.matches`."""
        return any(node.matches(view) for node in self.nodes)


Node: TypeAlias = Everywhere | Text | Number | Time | KeyedNumber | Not | AllOf | AnyOf


def needs_payload(node: Node) -> bool:
    """Whether the answer may depend on the payload.

    Args:
        node: A query, or a part of one.
    """
    if isinstance(node, AllOf | AnyOf):
        return any(map(needs_payload, node.nodes))
    if isinstance(node, Not):
        return needs_payload(node.node)
    if isinstance(node, Everywhere):
        # One that matches all has nothing to look for.
        return node.pattern.whole or any(node.pattern.pieces)
    return isinstance(node, Text | KeyedNumber) and node.name == "payload"


def asks_for(node: Node, field: str) -> bool:
    """Whether a text field is asked for by its name.

    Args:
        node: A query, or a part of one.
        field: Which.
    """
    if isinstance(node, AllOf | AnyOf):
        return any(asks_for(part, field) for part in node.nodes)
    if isinstance(node, Not):
        return asks_for(node.node, field)
    return isinstance(node, Text) and not node.key and node.name == field


def comes_with_time(node: Node, words: Sequence[str]) -> bool:
    """Whether time alone may make it select another one: without any record, as a workflow gets older or stuck.

    Args:
        node: A query, or a part of one.
        words: What `stuck` can be.
    """
    if isinstance(node, AllOf | AnyOf):
        return any(comes_with_time(part, words) for part in node.nodes)
    if isinstance(node, Not):
        return comes_with_time(node.node, words)
    if isinstance(node, Time):
        return node.ago
    if isinstance(node, Everywhere):
        # One that matches all does so at any time.
        return any(node.pattern.pieces) and any(map(node.pattern.matches, words))
    return isinstance(node, Text | Number) and node.name in ("age", "stuck")


def decided_without(node: Node, view: View, field: str) -> bool | None:
    """What a query comes to while one text field is not known; None: that depends on the field.

    Args:
        node: A query, or a part of one.
        view: What is asked; for everything but the field.
        field: Which.
    """
    if isinstance(node, Not):
        inner = decided_without(node.node, view, field)
        return None if inner is None else not inner
    if isinstance(node, AllOf | AnyOf):
        # One term that fails, or of those with `OR` one that holds, decides, whatever the others are.
        decides = isinstance(node, AnyOf)
        unknown = False
        for part in node.nodes:
            found = decided_without(part, view, field)
            if found is decides:
                return decides
            unknown = unknown or found is None
        return None if unknown else not decides
    return None if asks_for(node, field) else node.matches(view)


def narrows(node: Node, other: Node) -> bool:
    """Whether all that a query selects, now or later, another one selects by now, as is plain to see from their form.

    Args:
        node: The one, that somebody types on.
        other: What they had typed before.
    """
    if isinstance(other, AllOf):
        parts = node.nodes if isinstance(node, AllOf) else (node,)
        return all(any(narrows(part, term) for part in parts) for term in other.nodes)
    if isinstance(node, AllOf):
        return any(narrows(part, other) for part in node.nodes)
    if isinstance(node, Everywhere) and isinstance(other, Everywhere):
        return node.pattern.narrows(other.pattern)
    if isinstance(node, Text) and isinstance(other, Text):
        return (node.name, node.key) == (other.name, other.key) and node.pattern.narrows(other.pattern)
    return False


def as_number(text: str) -> float | None:
    """The finite number that a text is; None: it is none.

    Args:
        text: Any text.
    """
    if len(text) > 40:
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
