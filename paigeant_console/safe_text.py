"""The one gateway by which text from a broker reaches a terminal.

Whoever can publish a message chooses its bytes, and a terminal obeys bytes: an escape sequence sets the title, clears
the screen or writes the clipboard, a direction override turns a sentence round, an invisible character makes two names
look like one. Therefore every string that came off the wire (payloads, but also queue names, header keys, agent names
and error messages) passes through this module before anything prints it, and what comes out is a `SafeText`:

- every character that is a control, is invisible or reorders its neighbours is replaced by something that can be
  seen, never deleted: deletion would let `1<ESC>0` pose as `10`;
- it never starts with a combining mark and never stacks more than two of them on a cell, so joining pieces stays safe;
- it is plain text: nothing in it is markup, and no widget may parse it as such.

This module imports neither Textual nor (before a text outside ASCII turns up) Rich, so the plain commands can use it.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, Literal, TypeAlias, TypeVar

from paigeant_console._pretty_json import pretty_json

__all__ = [
    "BLOCK_LIMIT",
    "LINE_LIMIT",
    "WRAP_LIMIT",
    "Align",
    "PayloadKind",
    "SafeText",
    "ascii_safe",
    "cells",
    "hex_lines",
    "is_clean",
    "joined",
    "literal",
    "safe",
    "safe_block",
    "safe_json",
    "safe_payload",
    "scrub",
]

_T = TypeVar("_T")

Align: TypeAlias = Literal["left", "right", "center"]
PayloadKind: TypeAlias = Literal["json", "text", "hex"]

LINE_LIMIT: Final = 1000
"""Cells of one line that `safe` keeps unless told otherwise."""
BLOCK_LIMIT: Final = 64 * 1024
"""Bytes (or characters) of one value that the multi-line functions look at unless told otherwise."""
WRAP_LIMIT: Final = 4096
"""Cells after which the multi-line functions start a new line."""

_MARKS_PER_CELL: Final = 2
_MEMO_LIMIT: Final = 8192


class SafeText(str):
    """Text that may be written to a terminal: one line, printable, plain.

    Made by the functions of this module only. Calling the class does not check anything, so nothing else may call it
    (a test looks for it); the console's own words become safe by `literal`.
    """

    __slots__ = ()


_EMPTY: Final = SafeText("")

# Characters that draw nothing, or that only change how the one before them is drawn, and that the Unicode categories do
# not give away: fillers, joiners and variation selectors are letters or marks by category.
_INVISIBLE: Final = frozenset(
    [
        0x034F,  # combining grapheme joiner
        *(0x115F, 0x1160, 0x3164, 0xFFA0),  # Hangul fillers
        *(0x17B4, 0x17B5),  # Khmer inherent vowels
        *(0x180B, 0x180C, 0x180D, 0x180F),  # Mongolian variation selectors
        0xFFFC,  # object replacement character
        0x16FE4,  # Khitan small script filler
        0x1D159,  # musical symbol null notehead
        *range(0xFE00, 0xFE10),  # variation selectors
        *range(0x1F3FB, 0x1F400),  # emoji modifiers: half of the terminals give them cells of their own
        *range(0xE0100, 0xE01F0),  # variation selectors supplement
    ]
)
# Everything that Unicode calls "other" and the two separators that break lines. A character that this Python does not
# know yet is treated like them: its width is anybody's guess.
_UNSAFE_CATEGORIES: Final = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])


def _visible(codepoint: int) -> str | int:
    """What is shown for a character: the same code point where it is safe, otherwise text that can be seen."""
    if codepoint < 0x20:
        if codepoint == 0x09:
            return "    "
        return "⏎" if codepoint == 0x0A else chr(0x2400 + codepoint)
    if codepoint < 0x7F:
        return codepoint
    if 0xDC80 <= codepoint <= 0xDCFF:  # a byte that was no UTF-8, as `surrogateescape` carries it
        return f"\\x{codepoint - 0xDC00:02x}"
    if 0xD800 <= codepoint <= 0xDFFF:
        return "".join(f"\\x{byte:02x}" for byte in chr(codepoint).encode("utf-8", "surrogatepass"))
    if unicodedata.category(chr(codepoint)) in _UNSAFE_CATEGORIES or codepoint in _INVISIBLE:
        return f"<U+{codepoint:04X}>"
    return codepoint


def _kind(codepoint: int) -> str:
    """`m` for a mark, which shares the cell of the character before it, `x` for all else; one letter a character."""
    if codepoint < 0x300 or isinstance(_VISIBLE[codepoint], str):
        return "x"
    if unicodedata.category(chr(codepoint)) in ("Mn", "Me", "Mc"):
        return "m"
    from rich.cells import get_character_cell_size

    return "x" if get_character_cell_size(chr(codepoint)) else "m"


class _Memo(dict[int, _T]):
    """A table for `str.translate` that is filled as characters turn up, and does not grow without end."""

    def __init__(self, compute: Callable[[int], _T]) -> None:
        super().__init__()
        self._compute = compute

    def __missing__(self, codepoint: int) -> _T:
        if len(self) >= _MEMO_LIMIT:
            self.clear()
        value = self[codepoint] = self._compute(codepoint)
        return value


_VISIBLE: Final = _Memo(_visible)
_KIND: Final = _Memo(_kind)
_MARK_RUN: Final = re.compile("m+")
_MARKS_TO_TAME: Final = re.compile(f"^m|m{{{_MARKS_PER_CELL + 1}}}")


def _tame_marks(text: str) -> str:
    """Keep two marks a cell, say how many more there were, and give a mark without a base a dotted circle."""
    kinds = text.translate(_KIND)
    if not _MARKS_TO_TAME.search(kinds):
        return text
    pieces: list[str] = []
    end = 0
    for run in _MARK_RUN.finditer(kinds):
        start, stop = run.span()
        pieces.append(text[end:start])
        if start == 0:
            pieces.append("◌")
        pieces.append(text[start : min(stop, start + _MARKS_PER_CELL)])
        if (more := stop - start - _MARKS_PER_CELL) > 0:
            pieces.append(f"<+{more} mark{'s' if more > 1 else ''}>")
        end = stop
    pieces.append(text[end:])
    return "".join(pieces)


def scrub(text: str) -> str:
    """Replace what must not reach a terminal, and do nothing else: no limit, no cutting.

    Args:
        text: Any text.

    Returns:
        One line of printable text.
    """
    if text.isascii():
        return text if text.isprintable() else text.translate(_VISIBLE)
    return _tame_marks(text).translate(_VISIBLE)


def is_clean(text: str) -> bool:
    """Tell whether a text is shown as it stands.

    Args:
        text: Any text.

    Returns:
        True if `scrub` would not change it.
    """
    return (text.isascii() and text.isprintable()) or scrub(text) == text


def literal(text: str) -> SafeText:
    """Turn the console's own words into safe text.

    Args:
        text: Text from this program's source, never from a broker, a file or the network.

    Returns:
        The same text.

    Raises:
        ValueError: If it holds a character that would have to be replaced, which is a mistake in the program.
    """
    if not is_clean(text):
        raise ValueError("a literal must be one line of printable text")
    return SafeText(text)


def joined(parts: Iterable[SafeText], separator: SafeText = _EMPTY) -> SafeText:
    """Join safe texts to one safe text; `str.join` would forget that they are safe.

    Args:
        parts: What to join.
        separator: What goes between.

    Returns:
        The joined text.
    """
    return SafeText(separator.join(parts))


def _cell_len(text: str) -> int:
    """Width of a text in cells."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _clip(text: str, limit: int, cut: bool) -> str:
    """Shorten clean text to a width in cells, the ellipsis included."""
    if limit <= 0:
        return ""
    if not cut and (len(text) * 2 <= limit or _cell_len(text) <= limit):
        return text
    if _cell_len(text) >= limit:
        text = _set_cells(text, limit - 1)
    return text + "…"


def _set_cells(text: str, width: int) -> str:
    """Cut or pad clean text to exactly `width` cells."""
    if text.isascii():
        return text[:width].ljust(width)
    from rich.cells import set_cell_size

    return set_cell_size(text, width)


def safe(value: str | bytes, limit: int = LINE_LIMIT) -> SafeText:
    r"""Make one line that can be shown.

    Newlines become `⏎`, tabs spaces, other control characters their pictures (`␛`), invisible and reordering ones
    `<U+202E>`, bytes that are no UTF-8 and lone surrogates `\xNN`. Never raises.

    Args:
        value: Text or bytes off the wire.
        limit: Most cells to give back; a longer text ends in `…`.

    Returns:
        Text of at most `limit` cells.
    """
    if isinstance(value, bytes):
        # A character has at most four bytes; what lies beyond the limit is not even decoded.
        value = value[: 4 * limit + 8].decode("utf-8", "surrogateescape")
    if len(value) <= limit:
        if value.isascii() and value.isprintable():
            return SafeText(value)
        return SafeText(_clip(scrub(value), limit, cut=False))
    return SafeText(_clip(scrub(value[: max(limit, 0)]), limit, cut=True))


def _take(value: str | bytes, limit: int) -> tuple[str, str]:
    """Decode the first `limit` bytes (or characters), and say in a sentence how many more there are, if any."""
    more = len(value) - limit
    if isinstance(value, bytes):
        head = value[:limit]
        if more > 0:
            # Do not tear the last character: an incremental decoder keeps back the bytes that lack their followers.
            decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
            text = decoder.decode(head)
            more += len(decoder.getstate()[0])
        else:
            text = head.decode("utf-8", "surrogateescape")
    else:
        text = value[:limit]
    unit = "bytes" if isinstance(value, bytes) else "characters"
    return text, f"… {more:,} more {unit} not shown" if more > 0 else ""


def _finish(lines: Iterable[str], line_limit: int, more: str) -> list[SafeText]:
    """Scrub and wrap lines, and add the sentence about what is missing."""
    width = max(line_limit, 2)  # two: a wide character must fit
    result: list[SafeText] = []
    for line in lines:
        clean = scrub(line)
        if len(clean) * 2 <= width or _cell_len(clean) <= width:
            result.append(SafeText(clean))
        elif clean.isascii():
            result.extend(SafeText(clean[start : start + width]) for start in range(0, len(clean), width))
        else:
            from rich.cells import chop_cells

            result.extend(SafeText(piece) for piece in chop_cells(clean, width))
    if more:
        result.append(SafeText(more))
    return result


def safe_block(value: str | bytes, limit: int = BLOCK_LIMIT, line_limit: int = WRAP_LIMIT) -> list[SafeText]:
    """Make lines that can be shown, where the value's newlines are shown as lines.

    Args:
        value: Text or bytes off the wire.
        limit: Bytes (of bytes) or characters (of text) to show; a last line says how many more there are.
        line_limit: Cells after which a line is wrapped.

    Returns:
        The lines; none for an empty value.
    """
    text, more = _take(value, max(limit, 0))
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return _finish(lines, line_limit, more)


def safe_payload(
    value: str | bytes, limit: int = BLOCK_LIMIT, line_limit: int = WRAP_LIMIT
) -> tuple[PayloadKind, list[SafeText]]:
    """Make lines of a payload in the best form that fits it.

    JSON is laid out with its numbers, escapes and duplicate keys as they were written; other text is shown as it is;
    what is no UTF-8 is shown as hex.

    Args:
        value: A payload.
        limit: Bytes (of bytes) or characters (of text) to show; a last line says how many more there are.
        line_limit: Cells after which a line is wrapped.

    Returns:
        Which form it is, and the lines.
    """
    text, more = _take(value, max(limit, 0))
    if isinstance(value, bytes) and any("\udc80" <= char <= "\udcff" for char in set(text)):
        return "hex", hex_lines(value, limit)
    lines = pretty_json(text, cut=bool(more))
    if lines is not None:
        return "json", _finish(lines, line_limit, more)
    return "text", safe_block(value, limit, line_limit)


def safe_json(value: str | bytes, limit: int = BLOCK_LIMIT, line_limit: int = WRAP_LIMIT) -> list[SafeText]:
    """Make lines of a payload that should be JSON; see `safe_payload`, which also tells what it turned out to be.

    Args:
        value: A payload.
        limit: Bytes (of bytes) or characters (of text) to show.
        line_limit: Cells after which a line is wrapped.

    Returns:
        The lines.
    """
    return safe_payload(value, limit, line_limit)[1]


def hex_lines(value: bytes, limit: int = BLOCK_LIMIT, per_line: int = 16) -> list[SafeText]:
    """Make a hex dump: offset, bytes, and the ASCII characters among them.

    Args:
        value: Any bytes.
        limit: Bytes to show; a last line says how many more there are.
        per_line: Bytes on a line; 16 need 76 cells, 8 need 44.

    Returns:
        The lines; none for no bytes.
    """
    per_line = max(per_line, 1)
    shown = value[: max(limit, 0)]
    lines: list[SafeText] = []
    for offset in range(0, len(shown), per_line):
        row = shown[offset : offset + per_line]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        lines.append(SafeText(f"{offset:08x}  {row.hex(' '):<{per_line * 3 - 1}}  |{text}|"))
    if (more := len(value) - len(shown)) > 0:
        lines.append(SafeText(f"… {more:,} more bytes not shown"))
    return lines


# What this module itself writes outside ASCII, and what people's texts are full of.
_ASCII_TWINS: Final = {
    **{chr(0x2400 + code): f"^{chr(0x40 + code)}" for code in range(0x20)},
    "\u23ce": "^J",  # return symbol
    "\u2026": "...",
    "\u25cc": "o",  # dotted circle
    "\u2192": "->",
    "\u2013": "-",
    "\u2014": "--",
    "\u2018": "'",
    "\u2019": "'",
    "\u201c": '"',
    "\u201d": '"',
    "\u00a0": " ",
}


@lru_cache(maxsize=2048)
def _ascii_twin(char: str) -> str:
    """The ASCII form of one character."""
    return _ASCII_TWINS.get(char) or f"<U+{ord(char):04X}>"


def ascii_safe(text: SafeText) -> SafeText:
    """Write safe text in ASCII, for terminals that show nothing else. Do it before cutting to a width: it gets longer.

    Args:
        text: Safe text.

    Returns:
        Safe text of printable ASCII characters.
    """
    if text.isascii():
        return text if type(text) is SafeText else safe(text, len(text))
    return SafeText("".join(char if char.isascii() else _ascii_twin(char) for char in scrub(text)))


def cells(text: SafeText, width: int, *, align: Align = "left", ellipsis: str = "…") -> SafeText:
    """Cut or pad a text to a number of terminal cells.

    Args:
        text: Safe text. (A plain `str` that slipped past the type checker is made safe first.)
        width: Cells of the result.
        align: Where a shorter text stands.
        ellipsis: One cell that marks a cut, or the empty string for none.

    Returns:
        Text of exactly `width` cells.
    """
    if type(text) is not SafeText:
        text = safe(text, max(width, 0) + 1)
    if width <= 0:
        return _EMPTY
    size = _cell_len(text)
    if size == width:
        return text
    if size > width:
        return SafeText(_set_cells(text, width - len(ellipsis)) + ellipsis)
    space = width - size
    if align == "left":
        return SafeText(text + " " * space)
    left = space if align == "right" else space // 2
    return SafeText(" " * left + text + " " * (space - left))
