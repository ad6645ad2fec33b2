"""The one door to stdout and stderr of the commands.

Data goes to stdout: JSON Lines in ASCII with `--json`, plain tables otherwise. Everything else goes to stderr. Nothing
is coloured, so NO_COLOR has nothing to switch off.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, TextIO

import msgspec

from paigeant_console.masking import mask_text
from paigeant_console.safe_text import SafeText, ascii_safe, cells, joined, literal, safe

__all__ = ["PROGRAM", "Output", "in_ascii", "json_line", "note"]

PROGRAM: Final = "paigeant-console"
NOTE_LIMIT: Final = 4000
"""Cells of one sentence on stderr."""

_BEYOND_ASCII: Final = re.compile(r"[^\x20-\x7e]+")
_GAP: Final = literal("  ")


def json_line(document: Mapping[str, Any]) -> str:
    r"""One line of JSON in printable ASCII.

    A `msgspec.Raw` in it keeps its numbers as they were written; its characters outside ASCII become `\uXXXX`, and line
    breaks between its tokens become spaces. One that is no JSON after all (bytes that nobody has decoded yet) becomes a
    JSON string of what it holds.

    Args:
        document: What to say.

    Returns:
        The line, without its end.
    """
    if any(type(value) is msgspec.Raw for value in document.values()):
        document = {key: _checked(value) if type(value) is msgspec.Raw else value for key, value in document.items()}
    try:
        text = msgspec.json.encode(document).decode("utf-8", "surrogatepass")
    except (UnicodeEncodeError, OverflowError, msgspec.MsgspecError):
        # Lone surrogates: the standard library can write them, and nothing else here is beyond it.
        text = json.dumps(document, default=_plain)
    return in_ascii(text)


def in_ascii(text: str) -> str:
    r"""JSON without line breaks between its tokens, in printable ASCII: all other characters become `\uXXXX`.

    Args:
        text: The JSON.
    """
    if text.isascii() and text.isprintable():
        return text
    return _BEYOND_ASCII.sub(_escaped, text)


def _checked(raw: msgspec.Raw) -> Any:
    data = bytes(raw)
    try:
        text = data.decode("utf-8", "surrogatepass")
        # As text: neither the size of a number nor its form matters here.
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return data.decode("utf-8", "backslashreplace")
    # Valid JSON has line breaks and tabs between its tokens only.
    return msgspec.Raw(data.translate(_TO_SPACES))


_TO_SPACES: Final = bytes.maketrans(b"\n\r\t", b"   ")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _escaped(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1].replace("\x7f", "\\u007f")


def _plain(value: object) -> Any:
    if isinstance(value, msgspec.Raw):
        return json.loads(bytes(value).decode("utf-8", "surrogatepass"))
    return str(value)


class Output:
    """Where a command's data goes.

    Args:
        as_json: Whether JSON Lines were asked for.
        stream: In place of stdout.
    """

    def __init__(self, *, as_json: bool = False, stream: TextIO | None = None) -> None:
        self.as_json = as_json
        # Kept now: a command may turn sys.stdout away, so that a handler's print() does not get among the data.
        self._stream = sys.stdout if stream is None else stream
        encoding = (getattr(self._stream, "encoding", None) or "").lower().replace("-", "").replace("_", "")
        self.ascii_only = encoding != "utf8"
        """Whether only ASCII may be written."""

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None: no terminal, so nothing need be cut."""
        return shutil.get_terminal_size().columns if self._is_terminal() else None

    def document(self, document: Mapping[str, Any]) -> None:
        """Write one JSON line; `schema` comes first.

        Args:
            document: Its fields.
        """
        self._write(json_line({"schema": 1, **document}))

    def line(self, text: SafeText) -> None:
        """Write one line for people.

        Args:
            text: The line.
        """
        self._write(ascii_safe(text) if self.ascii_only else text)

    def lines(self, texts: Sequence[SafeText]) -> None:
        """Write lines for people.

        Args:
            texts: The lines.
        """
        for text in texts:
            self.line(text)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[SafeText]], *, right: str = "") -> None:
        """Write a table: as wide as its cells, its last column cut where a terminal ends.

        Args:
            header: What stands above the columns.
            rows: The cells.
            right: Columns that are aligned to the right, by what stands above them, separated by spaces.
        """
        titles = [literal(title) for title in header]
        if self.ascii_only:
            rows = [[ascii_safe(cell) for cell in row] for row in rows]
        widths = [max(map(_width, column)) for column in zip(titles, *rows, strict=True)]
        room = self.width
        to_right = set(right.split())
        for row in (titles, *rows):
            padded = [
                cells(cell, width, align="right" if title in to_right else "left")
                for cell, width, title in zip(row, widths, titles, strict=True)
            ]
            line = joined(padded, _GAP)
            if room is not None and _width(line) > room:
                line = cells(line, room, ellipsis="~" if self.ascii_only else "…")
            self._write(line.rstrip())

    def flush(self) -> None:
        """Let whoever reads a pipe see what was written."""
        if self._stream is not None:
            self._stream.flush()

    def _write(self, line: str) -> None:
        if self._stream is None:
            raise OSError("standard output is closed")
        self._stream.write(line + "\n")

    def _is_terminal(self) -> bool:
        return self._stream is not None and self._stream.isatty()


def _width(text: SafeText) -> int:
    if text.isascii():
        return len(text)
    # Only here: Rich costs more than a table of ASCII.
    from rich.cells import cell_len

    return cell_len(text)


def note(text: str, *, url: str = "") -> None:
    """Say one sentence on stderr: scrubbed, and without a password.

    Args:
        text: The sentence.
        url: The broker's URL, whose password may be in the text in another form.
    """
    stream = sys.stderr
    if stream is None:
        return
    line = safe(f"{PROGRAM}: {mask_text(text, url)}", NOTE_LIMIT)
    if not (getattr(stream, "encoding", None) or "").lower().startswith("utf"):
        line = ascii_safe(line)
    try:
        stream.write(f"{line}\n")
        stream.flush()
    except (OSError, ValueError):
        # Nobody is there to be told.
        _forget(stream)


def _forget(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
