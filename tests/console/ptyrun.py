"""Runs a program under a real pseudo terminal and watches what reaches it, byte by byte.

    with PtyProgram([sys.executable, "-m", "paigeant_console", "demo"], size=(80, 24)) as program:
        program.wait_for_text("workflows")
        program.send("j", ENTER)
        program.wait(lambda p: "order-7" in p.line(1), "the workflow")
        program.signal(signal.SIGTERM)
        assert program.exit_status() == 143

A thread drains the terminal all the time (unless it is paused, to see what a stalled one does), answers what Textual
asks it, and keeps everything in `raw`; a pyte screen shows what a person would see.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final

import pyte

ENTER: Final = "\r"
ESCAPE: Final = "\x1b"
SPACE: Final = " "
UP: Final = "\x1b[A"
DOWN: Final = "\x1b[B"
PAGE_UP: Final = "\x1b[5~"
PAGE_DOWN: Final = "\x1b[6~"
HOME: Final = "\x1b[H"
END: Final = "\x1b[F"

# What is asked, and what a terminal says that has synchronized output but no resize reports in band.
ANSWERS: Final[Mapping[bytes, bytes]] = {
    b"\x1b[?2026$p": b"\x1b[?2026;2$y",
    b"\x1b[?2048$p": b"\x1b[?2048;0$y",
}
# Sequences that pyte would take for text: kitty's keyboard protocol.
_NOT_FOR_PYTE: Final = re.compile(rb"\x1b\[[<=>][0-9;]*[a-zA-Z]")
_PARTIAL: Final = re.compile(rb"\x1b(?:\[[<=>?]?[0-9;$]*)?\Z")


class PtyTimeout(AssertionError):
    """What was waited for did not come; the message shows the screen."""


class PtyProgram:
    """A program under a pseudo terminal of its own."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        size: tuple[int, int] = (80, 24),
        term: str = "xterm-256color",
        env: Mapping[str, str | None] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        answers: Mapping[bytes, bytes] = ANSWERS,
    ) -> None:
        """Start the program.

        Args:
            argv: The program and its arguments.
            size: Columns and lines.
            term: The value of TERM.
            env: What to change in this process's environment; None removes a name.
            cwd: Where it runs.
            answers: What the terminal answers to which bytes.
        """
        self.size = size
        self._answers = dict(answers)
        self._raw = bytearray()
        self._unfed = b""
        self._asked = 0
        self._changed = threading.Condition()
        self._flowing = threading.Event()
        self._flowing.set()
        self._closed = False
        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        # As in a user's shell: what is buffered there is buffered here.
        not_theirs = ("COLORTERM", "TMUX", "STY", "PYTHONUNBUFFERED")
        environ = {name: value for name, value in os.environ.items() if name not in not_theirs}
        environ["TERM"] = term
        # The size is what the terminal says, not what a shell once exported.
        for name, value in {"COLUMNS": None, "LINES": None, **(env or {})}.items():
            if value is None:
                environ.pop(name, None)
            else:
                environ[name] = value
        self.master, slave = os.openpty()
        try:
            self._set_size(size)
            self.process = subprocess.Popen(
                list(argv),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=environ,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_take_terminal,  # noqa: PLW1509 - one system call, and no lock is taken in the child
            )
        except BaseException:
            os.close(self.master)
            raise
        finally:
            os.close(slave)
        self.started = time.monotonic()
        self._thread = threading.Thread(target=self._drain, name="ptyrun", daemon=True)
        self._thread.start()

    def __enter__(self) -> PtyProgram:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What it wrote

    @property
    def raw(self) -> bytes:
        """All bytes so far."""
        with self._changed:
            return bytes(self._raw)

    def mark(self) -> int:
        """A place in the bytes, for `since`."""
        with self._changed:
            return len(self._raw)

    def since(self, mark: int) -> bytes:
        """The bytes after a place."""
        with self._changed:
            return bytes(self._raw[mark:])

    @property
    def lines(self) -> list[str]:
        """The screen."""
        with self._changed:
            return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """The screen as one text."""
        return "\n".join(self.lines)

    def line(self, y: int) -> str:
        """One line of the screen, from 0."""
        return self.lines[y]

    # Waiting

    def wait(self, predicate: Callable[[PtyProgram], Any], what: str = "", timeout: float = 15.0) -> Any:
        """Wait until a predicate is true.

        Args:
            predicate: Called with this object whenever something was written.
            what: What is waited for, for the error.
            timeout: Seconds.

        Returns:
            What the predicate returned.

        Raises:
            PtyTimeout: If it does not become true, or the program ends before.
        """
        deadline = time.monotonic() + timeout
        while True:
            ended = self.process.poll() is not None and not self._thread.is_alive()
            if result := predicate(self):
                return result
            left = deadline - time.monotonic()
            if left <= 0 or ended:
                why = f"the program ended ({self.process.returncode})" if ended else f"not within {timeout:g} s"
                raise PtyTimeout(f"{what or predicate}: {why}; the screen:\n{self._framed()}")
            with self._changed:
                self._changed.wait(min(left, 0.1))

    def wait_for_text(self, text: str, timeout: float = 15.0) -> None:
        """Wait until a text is on the screen."""
        self.wait(lambda program: text in program.text, repr(text), timeout)

    def wait_for_bytes(self, data: bytes, mark: int = 0, timeout: float = 15.0) -> None:
        """Wait until bytes were written after a place."""
        self.wait(lambda program: data in program.since(mark), repr(data), timeout)

    def wait_until_quiet(self, seconds: float = 0.3, timeout: float = 15.0) -> None:
        """Wait until nothing has been written for some time."""
        deadline = time.monotonic() + timeout
        length = -1
        while length != (length := self.mark()):
            if time.monotonic() > deadline:
                raise PtyTimeout(f"never quiet within {timeout:g} s; the screen:\n{self._framed()}")
            time.sleep(seconds)

    def exit_status(self, timeout: float = 15.0) -> int:
        """Wait for the end.

        Returns:
            The exit code; negative for the signal that killed it.

        Raises:
            PtyTimeout: If it does not end.
        """
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise PtyTimeout(f"still running after {timeout:g} s; the screen:\n{self._framed()}") from None
        self._thread.join(2)  # what it wrote last
        return status

    # Doing

    def send(self, *keys: str | bytes) -> None:
        """Type."""
        for key in keys:
            os.write(self.master, key.encode("utf-8") if isinstance(key, str) else key)

    def resize(self, width: int, height: int) -> None:
        """Change the size; the kernel sends SIGWINCH."""
        with self._changed:
            self.size = (width, height)
            self.screen.resize(height, width)
        self._set_size(self.size)

    def pause(self) -> None:
        """Read no more, as a terminal does behind a stalled line."""
        self._flowing.clear()

    def resume(self) -> None:
        """Read again."""
        self._flowing.set()

    def signal(self, number: int) -> None:
        """Send a signal to the program."""
        self.process.send_signal(number)

    def hang_up(self) -> None:
        """Close the terminal; the kernel sends SIGHUP."""
        self._closed = True
        self._flowing.set()
        self._thread.join(2)
        os.close(self.master)
        self.master = -1

    def attributes(self) -> list[Any]:
        """The line discipline's settings, to see whether they were put back."""
        return termios.tcgetattr(self.master)

    def close(self) -> None:
        """End the program and the terminal."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self._closed = True
        self._flowing.set()
        self.process.wait(10)
        self._thread.join(5)
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    # Inside

    def _framed(self) -> str:
        rule = "+" + "-" * self.size[0] + "+"
        return "\n".join([rule, *(f"|{line.ljust(self.size[0])}|" for line in self.lines), rule])

    def _set_size(self, size: tuple[int, int]) -> None:
        width, height = size
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def _drain(self) -> None:
        while not self._closed:
            if not self._flowing.wait(0.1):
                continue
            try:
                if not select.select([self.master], [], [], 0.1)[0]:
                    continue
                data = os.read(self.master, 1 << 16)
            except (OSError, ValueError):  # the other side has gone: EIO
                break
            if not data:
                break
            with self._changed:
                self._raw += data
                self._answer()
                self._feed(data)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _answer(self) -> None:
        # A question may be torn between two reads, so look again at a few bytes from before.
        start = max(0, self._asked - 16)
        fresh = bytes(self._raw[start:])
        for question, answer in self._answers.items():
            for match in re.finditer(re.escape(question), fresh):
                if start + match.end() > self._asked:
                    with contextlib.suppress(OSError):
                        os.write(self.master, answer)
        self._asked = len(self._raw)

    def _feed(self, data: bytes) -> None:
        data = self._unfed + data
        partial = _PARTIAL.search(data)
        cut = partial.start() if partial and len(data) - partial.start() < 64 else len(data)
        self._unfed = data[cut:]
        # Hostile bytes may be more than pyte can bear; the record in `raw` is what counts then.
        with contextlib.suppress(Exception):
            self._stream.feed(_NOT_FOR_PYTE.sub(b"", data[:cut]))


def _take_terminal() -> None:
    """In the child: make the pseudo terminal the one that sends it signals."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
