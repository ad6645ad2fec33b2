"""Pieces of a line: safe texts with the name of a style, measured, cut and fitted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from paigeant_console.safe_text import SafeText, ascii_safe, cells, joined, literal, safe

__all__ = [
    "EMPTY",
    "GAP",
    "Piece",
    "Span",
    "apart",
    "brief_id",
    "clip",
    "count",
    "fit_line",
    "plural",
    "short_id",
    "shown",
    "spans_width",
    "width_of",
    "wrap_words",
]

Span: TypeAlias = tuple[SafeText, str]
"""A text and the name of its style; what the widgets call a span."""

EMPTY: Final = literal("")
GAP: Final = 2
"""Cells between two pieces of a line."""


def width_of(text: SafeText) -> int:
    """Cells that a text takes."""
    if text.isascii():
        return len(text)
    # Not imported where everything is ASCII.
    from rich.cells import cell_len

    return cell_len(text)


def spans_width(spans: Iterable[Span]) -> int:
    """Cells that spans take together."""
    return sum(width_of(text) for text, _ in spans)


def apart(*groups: Sequence[Span]) -> list[Span]:
    """Groups of spans one after the other, with a space between any two that say something."""
    spans: list[Span] = []
    for group in groups:
        if spans and group:
            spans.append((literal(" "), ""))
        spans.extend(group)
    return spans


def shown(value: str | bytes, limit: int, *, ascii_only: bool = False) -> SafeText:
    """Text off the wire in at most ``limit`` cells."""
    text = safe(value, limit)
    if ascii_only and not text.isascii():
        text = ascii_safe(text)
        if len(text) > limit:
            text = cells(text, limit, ellipsis="~")
    return text


_BY_CHANCE: Final = re.compile(r"q-[0-9a-f]+|[0-9a-f-]{16,}")


def short_id(value: str, room: int, *, ascii_only: bool = False) -> SafeText:
    """An ID for a column: of one made by chance the beginning, of one that somebody chose the end too.

    The beginning is what can be typed, and in the end those differ that somebody chose.

    Args:
        value: the ID, off the wire.
        room: cells that the column has; what is longer is cut there.
        ascii_only: cut with an ASCII ellipsis.
    """
    room = max(room, 1)
    if len(value) <= room or room < 4 or not value.isascii() or _BY_CHANCE.fullmatch(value):
        return shown(value, room + 1, ascii_only=ascii_only)
    head = (room - 1) // 3
    tail = room - 1 - head
    return joined((safe(value[:head], head), literal("~" if ascii_only else "…"), safe(value[-tail:], tail)))


def brief_id(value: str, room: int, *, ascii_only: bool = False) -> SafeText:
    """An ID in a sentence: like :func:`short_id`, and never more than ``room`` cells."""
    if len(value) > room and _BY_CHANCE.fullmatch(value):
        return shown(value, room, ascii_only=ascii_only)
    return short_id(value, room, ascii_only=ascii_only)


def clip(spans: Sequence[Span], width: int, *, ascii_only: bool = False) -> list[Span]:
    """``spans`` cut to ``width`` cells; what was cut ends in an ellipsis."""
    if spans_width(spans) <= width:
        return list(spans)
    ellipsis = "~" if ascii_only else "…"
    kept: list[Span] = []
    for text, style in spans:
        size = width_of(text)
        if size >= width:
            if width > 0:
                # One cell more than fits, so that it is cut and says so.
                kept.append((cells(joined((text, literal(" "))), width, ellipsis=ellipsis), style))
            break
        kept.append((text, style))
        width -= size
    return kept


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a line that is left out when there is no room, the least important first.

    Attributes:
        spans: what it says.
        rank: how important; 0 is never left out, then 1, 2, ….
        right: it stands at the right end.
    """

    spans: tuple[Span, ...]
    rank: int = 0
    right: bool = False


def fit_line(pieces: Sequence[Piece], width: int, *, gap: int = GAP, ascii_only: bool = False) -> list[Span]:
    """Put pieces on one line of exactly ``width`` cells.

    Args:
        pieces: from left to right; those at the right end among them.
        width: cells there are.
        gap: cells between two.
        ascii_only: cut with an ASCII ellipsis.
    """
    kept = [piece for piece in pieces if piece.spans]

    def needed() -> int:
        return sum(spans_width(piece.spans) for piece in kept) + gap * max(0, len(kept) - 1)

    while needed() > width and any(piece.rank for piece in kept):
        # Of two equals the one further to the right goes.
        weakest = max(range(len(kept)), key=lambda index: (kept[index].rank, index))
        del kept[weakest]
    between = (literal(" " * gap), "")
    left: list[Span] = []
    right: list[Span] = []
    for piece in kept:
        side = right if piece.right else left
        if side:
            side.append(between)
        side.extend(piece.spans)
    room = width - spans_width(left) - spans_width(right)
    if room < 0:
        left = clip([*left, *right], width, ascii_only=ascii_only)
        right, room = [], width - spans_width(left)
    return [*left, (literal(" " * room), ""), *right] if room else [*left, *right]


def count(number: int, *, more: bool = False) -> SafeText:
    """A number for people: ``9,240``; where there are more than are counted ``9,240+``."""
    return literal(f"{number:,}{'+' if more else ''}")


def wrap_words(text: SafeText, width: int, most: int = 100) -> list[SafeText]:
    """A text on lines of at most ``width`` cells, broken at spaces where there are any; at most so many lines."""
    lines: list[SafeText] = []
    line: list[SafeText] = []
    used = 0
    for word in map(safe, text.split(" ")):
        size = width_of(word)
        if line and used + 1 + size > width:
            lines.append(joined(line, literal(" ")))
            line, used = [], 0
        while size > width > 0:
            # A word that is longer than a line.
            head = cells(word, width, ellipsis="")
            lines.append(head)
            word = safe(word[len(head.rstrip()) :] if len(head.rstrip()) else word[1:], len(word))
            size = width_of(word)
        line.append(word)
        used += size + (1 if used else 0)
    if line:
        lines.append(joined(line, literal(" ")))
    if len(lines) > most:
        del lines[most:]
        lines[-1] = cells(joined((lines[-1], literal(" " * width))), width)
    return lines


def plural(number: int, word: str, words: str = "") -> SafeText:
    """``1 workflow``, ``2 workflows``."""
    return literal(f"{number:,} {word if number == 1 else words or word + 's'}")
