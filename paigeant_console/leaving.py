"""How the console ends when nobody pressed a key for it: by a signal, or because its terminal is gone.

And how a command does that follows something: because nobody reads what it writes any more.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final, TextIO

from paigeant_console.exit_codes import Signalled

__all__ = ["drop", "leaving_in_order", "watching_for_its_reader"]

SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

# Leaves focus reports, bracketed paste, the kitty keyboard, the mouse, the other screen; shows the cursor, wraps lines.
_RESTORE: Final = (
    b"\x1b[?1004l\x1b[?2004l\x1b[<u\x1b[?1000l\x1b[?1003l\x1b[?1015l\x1b[?1006l\x1b[?1049l\x1b[?25h\x1b[?7h"
)


@contextlib.contextmanager
def leaving_in_order(leave_app: Callable[[int], bool], grace_s: float) -> Iterator[None]:
    """Leave in order on SIGTERM, SIGHUP and SIGINT, and when the terminal is gone; after some seconds without order.

    Textual installs no handlers, and would leave the terminal in its other screen. A handler of the event loop is not
    enough: when the terminal takes no more output Textual blocks the loop, and then only a thread is left to end it.

    Args:
        leave_app: Asks the app to leave with a code, from any thread; False: it does not run.
        grace_s: Seconds that leaving may take.
    """
    stdin, stderr = sys.__stdin__, sys.__stderr__
    try:
        attributes = termios.tcgetattr(stdin) if stdin is not None else None
    except (termios.error, ValueError, OSError):
        attributes = None
    watchdogs: list[threading.Timer] = []

    def die(code: int) -> None:
        with contextlib.suppress(Exception):
            if stdin is not None and attributes is not None:
                termios.tcsetattr(stdin, termios.TCSANOW, attributes)
            if stderr is not None and select.select([], [stderr], [], 0)[1]:
                os.write(stderr.fileno(), _RESTORE)
        os._exit(code)

    def leave(number: int, _frame: FrameType | None) -> None:
        code = 128 + number
        if not watchdogs:
            watchdogs.append(threading.Timer(grace_s, die, (code,)))
            watchdogs[0].daemon = True
            watchdogs[0].start()
        if not leave_app(code):  # before its loop runs, or after
            raise SystemExit(code)

    def gone() -> None:
        leave(signal.SIGHUP, None)

    previous = {}
    for number in SIGNALS:
        # What was ignored stays ignored: that is how nohup works.
        if signal.getsignal(number) is not signal.SIG_IGN:
            previous[number] = signal.signal(number, leave)
    try:
        if Signalled.last:
            leave(Signalled.last, None)
        with _watching_for_its_end(_terminal(stdin), gone):
            yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        if watchdogs:
            for stream in (sys.__stdout__, sys.__stderr__):
                _flush_or_drop(stream)
        for watchdog in watchdogs:
            watchdog.cancel()


def _flush_or_drop(stream: TextIO | None) -> None:
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        # The terminal is gone.
        drop(stream)


def drop(stream: TextIO | None) -> bool:
    """Let the interpreter flush ``stream`` into nothing when it ends: it would fail again, and exit with 120.

    Returns:
        Whether that could be arranged.
    """
    try:
        if stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return True


def watching_for_its_reader(stream: TextIO | None, gone: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
    """Call `gone`, in another thread, when nobody reads a pipe any more: a write would tell, but may come in hours.

    Args:
        stream: What is written to; where it is no pipe and no socket, nothing is watched.
        gone: What to do then.
    """
    watched = _descriptor(stream)
    mode = os.fstat(watched).st_mode if watched >= 0 else 0
    return _watching_for_its_end(watched if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else -1, gone)


def _terminal(stream: TextIO | None) -> int:
    """The descriptor of a stream that is a terminal; -1: it is none."""
    watched = _descriptor(stream)
    return watched if watched >= 0 and os.isatty(watched) else -1


def _descriptor(stream: TextIO | None) -> int:
    try:
        return -1 if stream is None else stream.fileno()
    except (ValueError, OSError):
        return -1


@contextlib.contextmanager
def _watching_for_its_end(watched: int, gone: Callable[[], None]) -> Iterator[None]:
    """Call `gone` when what is at the other end of a descriptor is there no more; -1: nothing is watched.

    No signal tells of that for a terminal under nohup, or in a session that has none of its own, and Textual would read
    its end over and over, with a whole core.
    """
    if watched < 0:
        yield
        return
    ours, theirs = os.pipe()
    poll = select.poll()
    poll.register(watched, 0)  # which asks for the hang-up alone, or for the error that a pipe without a reader has
    poll.register(ours, select.POLLIN)

    def watch() -> None:
        if any(descriptor == watched for descriptor, _ in poll.poll()):
            gone()

    watcher = threading.Thread(target=watch, name="hang-up watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        os.close(theirs)
        watcher.join()
        os.close(ours)
