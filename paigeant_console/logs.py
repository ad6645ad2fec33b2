"""Where log records, and errors that nobody awaited, go: one scrubbed line each, or nowhere.

A command's own words say what went wrong; what drivers and asyncio log beside it, with tracebacks, is for debugging.
"""

from __future__ import annotations

import logging
import os
import sys

from paigeant_console.output import note

__all__ = ["debugging", "quiet", "to_stderr"]


def debugging() -> bool:
    """Whether PAIGEANT_DEBUG asks for details."""
    return os.environ.get("PAIGEANT_DEBUG", "") not in ("", "0")


class _Notes(logging.Handler):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - a record whose arguments do not fit must not end a worker
            text = str(record.msg)
        if record.exc_info and debugging():
            text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
        for line in text.splitlines():
            note(f"{record.levelname.lower()}: {line}", url=self._url)


def quiet() -> None:
    """Let nothing but a command's own words reach stderr, unless somebody debugs."""
    root = logging.getLogger()
    if debugging():
        to_stderr("")
    elif not root.handlers:
        # With no handler at all Python prints warnings by itself.
        root.addHandler(logging.NullHandler())
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
    for handler in [handler for handler in root.handlers if isinstance(handler, _Notes | logging.NullHandler)]:
        root.removeHandler(handler)
    root.addHandler(_Notes(url))
    logging.getLogger("paigeant").setLevel(logging.DEBUG if debugging() else logging.INFO)
