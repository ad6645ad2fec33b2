"""Where log records, and errors that nobody awaited, go: one scrubbed line each, or nowhere.

A command's own words say what went wrong; what drivers and asyncio log beside it, with tracebacks, is for debugging.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from paigeant_console.output import NOTE_LIMIT, note

__all__ = ["Redacting", "debugging", "kept_while_debugging", "quiet", "to_stderr"]


def debugging() -> bool:
    """Whether PAIGEANT_DEBUG asks for details."""
    return os.environ.get("PAIGEANT_DEBUG", "") not in ("", "0")


class Redacting(io.TextIOBase):
    """What handlers print, on its way to ``to``: without the tokens that this process holds.

    Args:
        to: Where it goes.
    """

    def __init__(self, to: TextIO) -> None:
        super().__init__()
        self._to = to

    def write(self, text: str) -> int:
        """Write it redacted."""
        from paigeant_core.secret import redact

        self._to.write(redact(text))
        return len(text)

    def flush(self) -> None:
        """Let what was written reach its end."""
        self._to.flush()

    def writable(self) -> bool:
        """It is."""
        return True

    def isatty(self) -> bool:
        """Whether it ends on a terminal."""
        return self._to.isatty()

    def fileno(self) -> int:
        """Of where it goes."""
        return self._to.fileno()


class _Notes(logging.Handler):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def emit(self, record: logging.LogRecord) -> None:
        for line in _lines(record):
            note(line, url=self._url)


def _lines(record: logging.LogRecord) -> list[str]:
    """A record without the tokens that this process holds; with its traceback for whoever debugs."""
    # Here, so that commands which log nothing start without the library.
    from paigeant_core.secret import redact

    try:
        text = record.getMessage()
        if record.exc_info and debugging():
            text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
    except Exception:  # noqa: BLE001 - a record whose arguments do not fit must not end a worker
        text = str(record.msg)
    return [f"{record.levelname.lower()}: {line}" for line in redact(text).splitlines()]


class _InFile(logging.Handler):
    def __init__(self, file: TextIO) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        from paigeant_console.masking import mask_text
        from paigeant_console.safe_text import safe

        at = time.strftime("%H:%M:%S", time.gmtime(record.created))
        # A full disk ends no worker.
        with contextlib.suppress(OSError, ValueError):
            for line in _lines(record):
                self._file.write(f"{at} {safe(mask_text(line), NOTE_LIMIT)}\n")
            self._file.flush()


@contextlib.contextmanager
def kept_while_debugging(name: str) -> Iterator[None]:
    """Let the log of a console that has workers in it go to a file, if somebody debugs: the screen takes stderr.

    Args:
        name: Of the file, in the user's log directory; the one before is overwritten. Said on stderr.

    Raises:
        OSError: It cannot be written.
    """
    if not debugging():
        yield
        return
    from paigeant_console.user_directories import user_directory

    path = user_directory("log") / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # For this user alone, and no link that somebody put there is followed.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    note(f"PAIGEANT_DEBUG: the log is kept in {path}")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        handler = _InFile(file)
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)


def quiet() -> None:
    """Let nothing but a command's own words, and why it waits, reach stderr, unless somebody debugs."""
    root = logging.getLogger()
    if debugging():
        to_stderr("")
    elif not root.handlers:
        # With no handler at all Python prints warnings by itself.
        root.addHandler(logging.NullHandler())
        logging.getLogger("paigeant.waiting").addHandler(_Notes(""))
    if not debugging():
        # What an object that is torn down at the very end complains of, too.
        sys.unraisablehook = _ignore


def _ignore(unraisable: object) -> None:
    del unraisable


def to_stderr(url: str) -> None:
    """Let the log go to stderr: the library's from INFO, others' from WARNING.

    Args:
        url: The broker's URL, whose password is masked.
    """
    root = logging.getLogger()
    for found in (root, logging.getLogger("paigeant.waiting")):
        for handler in [handler for handler in found.handlers if isinstance(handler, _Notes | logging.NullHandler)]:
            found.removeHandler(handler)
    root.addHandler(_Notes(url))
    logging.getLogger("paigeant").setLevel(logging.DEBUG if debugging() else logging.INFO)
