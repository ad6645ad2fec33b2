"""What the console knows about terminals, and where it reaches into Textual's private parts.

Textual promises nothing about the names that begin with an underscore here (`App._filters`, `_handle_exception`,
`_fatal_error`, `_print_error_renderables`, `_exit_renderables`, `_exception`, `_driver`, `_loop`): each use has a test
in `tests/console/test_terminal.py`, and no other module has any but `painting` and `stylesheet`, which have tests of
their own.

Importing this module sets Textual's knobs, because Textual reads them while it is imported; import it before Textual.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from io import StringIO
from pathlib import Path
from typing import Final, TextIO

KNOBS: Final[Mapping[str, str]] = {
    "TEXTUAL_FPS": "15",  # a slow link gains more from fewer frames than an eye from more
    "TEXTUAL_ANIMATIONS": "none",
    "TEXTUAL_SMOOTH_SCROLL": "0",
    "ESCDELAY": "100",  # milliseconds; shorter ones tear arrow keys apart on a slow link
}
"""Textual's settings, each read from the environment when Textual is imported."""


def set_knobs(environ: MutableMapping[str, str]) -> None:
    """Set what the user did not set.

    Args:
        environ: The environment to change.
    """
    for name, value in KNOBS.items():
        environ.setdefault(name, value)


set_knobs(os.environ)

from rich.cells import cell_len, set_cell_size  # noqa: E402 - after the knobs, see above
from rich.console import Console, RenderableType  # noqa: E402
from rich.segment import Segment  # noqa: E402
from textual import events  # noqa: E402
from textual.app import App  # noqa: E402
from textual.color import Color  # noqa: E402
from textual.filter import LineFilter, Monochrome, NoColor  # noqa: E402
from textual.types import CSSPathType  # noqa: E402
from textual.worker import WorkerFailed  # noqa: E402

from paigeant_console.clipboard import ClipboardTooLarge, clipboard_text  # noqa: E402
from paigeant_console.leaving import leaving_in_order  # noqa: E402
from paigeant_console.safe_text import SafeText, literal, safe, safe_block, scrub  # noqa: E402
from paigeant_console.stylesheet import ParsedOnce  # noqa: E402
from paigeant_console.user_directories import user_directory  # noqa: E402

__all__ = [
    "KNOBS",
    "MIN_HEIGHT",
    "MIN_WIDTH",
    "ConsoleAppBase",
    "ControlFilter",
    "Terminal",
    "TerminalError",
    "check_terminal",
    "run_console",
    "set_knobs",
    "size_problem",
    "write_crash_log",
]

PROGRAM: Final = "paigeant-console"
MIN_WIDTH: Final = 60
"""Columns below which the console shows a sentence instead of its views."""
MIN_HEIGHT: Final = 15
"""Lines below which it does."""

SERVED: Final = "paigeant_console.served:ServedDriver"
"""The driver that `serve` names in TEXTUAL_DRIVER: the screen is in a browser."""

_SWITCH_S: Final = 0.001
"""Seconds that one thread may keep another waiting: a key goes through three, and the feed's is always busy."""
_GRACE_S: Final = 5.0
_CRASH_LOGS_KEPT: Final = 20
_CRASH_LOG_LIMIT: Final = 256 * 1024


class TerminalError(Exception):
    """The console cannot run on this terminal; the message is a sentence for the operator."""

    code: Final = "terminal_unsuitable"


@dataclass(frozen=True, slots=True)
class Terminal:
    """A terminal that the console can run on."""

    term: str
    """The value of TERM."""
    width: int
    """Columns at the start."""
    height: int
    """Lines at the start."""
    ascii_only: bool
    """Whether only ASCII may be written."""


def check_terminal(
    *,
    environ: Mapping[str, str] | None = None,
    stdin: TextIO | None = None,
    stderr: TextIO | None = None,
    ascii_only: bool = False,
) -> Terminal:
    """Look whether the console can run here. Textual reads from stdin and writes to stderr, so stdout may be a pipe.

    Args:
        environ: The environment; by default this process's.
        stdin: Where keys come from; by default this process's.
        stderr: Where the screen goes; by default this process's.
        ascii_only: What the user asked for; it is also set where the encoding is not UTF-8.

    Returns:
        What was found.

    Raises:
        TerminalError: If this is no terminal, or one that cannot move its cursor.
    """
    environ = os.environ if environ is None else environ
    if environ.get("TEXTUAL_DRIVER") == SERVED:
        # The page's terminal, whose size `serve` says; what comes and goes through the pipes is its own protocol.
        return Terminal(term=SERVED, width=80, height=24, ascii_only=ascii_only)
    stdin = sys.__stdin__ if stdin is None else stdin
    stderr = sys.__stderr__ if stderr is None else stderr
    for stream, name in ((stdin, "standard input"), (stderr, "standard error")):
        if stream is None or stream.closed or not stream.isatty():
            raise TerminalError(f"The console needs a terminal, and {name} is none. The commands (list, tail) do not.")
    term = environ.get("TERM", "")
    if term in ("", "dumb", "unknown"):
        shown = f"TERM={term}" if term else "TERM is not set, which"
        raise TerminalError(
            f"{shown} says that this terminal cannot move its cursor. Use the commands (list, tail), or set TERM."
        )
    assert stderr is not None  # the loop has looked
    try:
        width, height = os.get_terminal_size(stderr.fileno())
    except OSError:
        width, height = 80, 24
    utf8 = (stderr.encoding or "").lower().replace("-", "").replace("_", "") == "utf8"
    return Terminal(term=term, width=width, height=height, ascii_only=ascii_only or not utf8)


def size_problem(width: int, height: int) -> SafeText | None:
    """Say what is wrong with a size.

    Args:
        width: Columns.
        height: Lines.

    Returns:
        A sentence, or None if the console fits.
    """
    if width >= MIN_WIDTH and height >= MIN_HEIGHT:
        return None
    return literal(f"The console needs {MIN_WIDTH}x{MIN_HEIGHT}; this terminal has {width}x{height}.")


# One cell for one cell: this is done when the layout stands. Words and glyphs with a better twin choose it earlier.
_ASCII_CELLS: Final = {
    **dict.fromkeys("─━═╌╍┄┅┈┉▁▔", "-"),
    **dict.fromkeys("│┃║╎╏┆┇┊┋▏▕", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯╔╗╚╝╠╣╦╩╬┏┓┗┛┣┫┳┻╋", "+"),
    **dict.fromkeys("█▉▊▋▓▒░▄▀▆▇▅▃▂", "#"),
    **dict.fromkeys("▌▍▎▶►\u276f→", ">"),
    **dict.fromkeys("◀◄\u276e←", "<"),
    **dict.fromkeys("·•∙", "."),
    **dict.fromkeys("●◆■", "*"),
    **dict.fromkeys("▲↑", "^"),
    **dict.fromkeys("▼↓✓✔", "v"),
    **dict.fromkeys("✗✘", "x"),
    "\u00d7": "x",  # multiplication sign
    "\u2026": "~",
    "\u23ce": "$",  # return symbol
    "\u00a0": " ",
}


@lru_cache(maxsize=4096)
def _fitting(text: str, ascii_only: bool) -> str:
    """Scrub rendered text without changing how many cells Textual counted for it."""
    clean = scrub(text)
    if ascii_only and not clean.isascii():
        clean = "".join(char if char.isascii() else _ASCII_CELLS.get(char) or "?" * cell_len(char) for char in clean)
    return text if clean == text else set_cell_size(clean, cell_len(text))


class ControlFilter(LineFilter):
    """Backstop at render time for text that did not come through `safe_text`.

    The gateway is where text is made safe; here it is too late to make room. A control character counts as no cell, so
    its picture pushes the end of its segment out, which is better than moving everything to the right of it. Links are
    dropped, since their targets would reach the terminal too.

    Args:
        ascii_only: Also replace everything outside ASCII, cell by cell.
    """

    def __init__(self, ascii_only: bool = False) -> None:
        super().__init__()
        self.ascii_only = ascii_only

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Replace what must not reach the terminal.

        Args:
            segments: A rendered line.
            background: Not used.

        Returns:
            The same line if it is clean, as it nearly always is, otherwise a new one.
        """
        if all(map(self._is_clean, segments)):
            return segments
        result: list[Segment] = []
        for segment in segments:
            if self._is_clean(segment):
                result.append(segment)
                continue
            style = segment.style
            if style is not None and style.link:
                style = style.update_link(None)
            if text := _fitting(segment.text, self.ascii_only):
                result.append(Segment(text, style))
        return result

    def _is_clean(self, segment: Segment) -> bool:
        text, style, control = segment
        if control is not None or (style is not None and style.link):
            return False
        if text.isascii():
            return text.isprintable()
        return _fitting(text, self.ascii_only) == text


_PASSWORD_IN_URL: Final = re.compile(r"(?<=://)([^\s/@:]*):[^\s/@]*(?=@)")


def write_crash_log(text: str, directory: Path | None = None) -> Path:
    """Keep the details of a crash where only this user can read them.

    The text is made safe (somebody will `cat` it) and passwords in URLs are masked; the newest twenty files are kept.

    Args:
        text: What happened.
        directory: Where to; by default the user's log directory.

    Returns:
        The new file, with mode 0600.

    Raises:
        OSError: If it cannot be written.
    """
    if directory is None:
        directory = user_directory("log")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for old in sorted(directory.glob("crash-*.log"))[: -(_CRASH_LOGS_KEPT - 1)]:
        with contextlib.suppress(OSError):
            old.unlink()
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = directory / f"crash-{stamp}-{os.getpid()}-{time.monotonic_ns() % 1_000_000:06d}.log"
    # O_EXCL: a link that somebody put there is not followed.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        for line in safe_block(_PASSWORD_IN_URL.sub(r"\1:***", text), limit=_CRASH_LOG_LIMIT):
            file.write(line + "\n")
    return path


class ConsoleAppBase(App[int]):
    """An app that cannot be made to write control characters, and that dies quietly.

    It has the filter above, copies through the gateway, carries the class `-too-small` while the terminal is, and in a
    crash prints one line: Textual's own report prints the locals of every frame, which hold payloads and passwords.

    Args:
        ascii_only: Write ASCII only.
        log_directory: Where a crash is written down; by default the user's log directory.
        css_path: As in Textual.
        ansi_color: As in Textual.
    """

    def __init__(
        self,
        *,
        ascii_only: bool = False,
        log_directory: Path | None = None,
        css_path: CSSPathType | None = None,
        ansi_color: bool | None = None,
    ) -> None:
        super().__init__(css_path=css_path, ansi_color=ansi_color)
        self.stylesheet = ParsedOnce(variables=self.get_css_variables())
        self.ascii_only = ascii_only
        self._log_directory = log_directory
        self._crashed = False
        if self.no_color:
            # Textual has chosen by the theme that it starts with: shades of grey, in 24 bits.
            self._filters = [NoColor() if isinstance(item, Monochrome) else item for item in self._filters]
        self._filters.append(ControlFilter(ascii_only))

    def delay_update(self, delay: float = 0.0) -> None:
        """Paint as usual; Textual calls this to stop for a twentieth of a second whenever another view is shown.

        Args:
            delay: as in Textual; a screen of ours is not painted before it has looked.
        """

    def on_resize(self, event: events.Resize) -> None:
        """Say in CSS whether the terminal is too small.

        Textual calls this beside a subclass's own handler, not instead of it.

        Args:
            event: Tells the new size.
        """
        self.set_class(size_problem(*event.size) is not None, "-too-small")

    def copy_text(self, value: str | bytes, *, multiline: bool = False) -> None:
        """Ask the terminal to put text on the clipboard. Whether it did cannot be known.

        Args:
            value: What to copy; it is made safe first.
            multiline: Keep newlines.

        Raises:
            ClipboardTooLarge: If it is too large for a terminal; offer to write a file.
        """
        sequence = clipboard_text(value, environ=os.environ, multiline=multiline)
        if self._driver is not None:
            self._driver.write(sequence)

    def copy_to_clipboard(self, text: str) -> None:
        """Copy what was selected in a widget of Textual's own.

        Args:
            text: The text; where it is too large only this program keeps it.
        """
        self._clipboard = text
        with contextlib.suppress(ClipboardTooLarge):
            self.copy_text(text, multiline=True)

    def _handle_exception(self, error: Exception) -> None:
        # As in Textual, less the report: the code for the shell, and the error for tests that drive the app.
        self._return_code = 1
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self.report_crash(error)
        self._close_messages_no_wait()

    def _fatal_error(self) -> None:
        error = sys.exc_info()[1]
        self.report_crash("fatal error" if error is None else error)
        self._close_messages_no_wait()

    def panic(self, *renderables: RenderableType) -> None:
        """Leave after an error that something else has rendered, such as Textual's input thread.

        Args:
            renderables: What Textual would have printed; it goes to the log.
        """
        self._return_code = self._return_code or 1
        self.report_crash(_plain(renderables))
        self._close_messages_no_wait()

    def report_crash(self, error: BaseException | str) -> None:
        """Write the details to a file and line up one sentence for stderr, which is printed when the screen is gone.

        Args:
            error: What went wrong. Of an exception the sentence tells the class alone: its message may quote a payload.
        """
        if isinstance(error, WorkerFailed):  # which keeps the error, but not as its cause
            error = error.error
        if isinstance(error, BaseException):
            name = type(error).__name__
            details = "".join(traceback.TracebackException.from_exception(error).format())
        else:
            name, details = "fatal error", error
        try:
            where = f"details are in {write_crash_log(details, self._log_directory)}"
        except OSError as failure:
            where = f"details could not be written ({failure.strerror or type(failure).__name__})"
        if not self._crashed:  # what follows the first error is most often its consequence
            self._crashed = True
            self._exit_renderables.append(safe(f"{PROGRAM}: internal error ({name}); {where}"))

    def _print_error_renderables(self) -> None:
        """Print what is to be said after the screen is gone, as plain text: no filter stands here any more."""
        text = _plain(self._exit_renderables)
        self._exit_renderables.clear()
        for line in safe_block(text):
            sys.stderr.write(f"{line}\n")


def _plain(renderables: Sequence[RenderableType]) -> str:
    """Text of anything that Rich can render; strings stay as they are, so markup in them means nothing."""
    lines: list[str] = []
    for renderable in renderables:
        if isinstance(renderable, str):
            lines.append(renderable)
            continue
        file = StringIO()
        Console(file=file, width=120, color_system=None, markup=False, highlight=False, emoji=False).print(renderable)
        lines.append(file.getvalue().rstrip("\n"))
    return "\n".join(lines)


def run_console(app: ConsoleAppBase, *, mouse: bool = False, grace_s: float = _GRACE_S) -> int:
    """Run the console until it is left. Must be called from the main thread.

    Args:
        app: The app.
        mouse: Listen to the mouse. Off by default: each move would repaint what it passes, at 9 KB a move.
        grace_s: Seconds that leaving may take after a signal.

    Returns:
        The exit code: of `App.exit`, 1 after a crash, 128 and its number after a signal.
    """

    def leave(code: int) -> bool:
        loop = app._loop
        if loop is not None:
            loop.call_soon_threadsafe(partial(app.exit, return_code=code))
        return loop is not None

    with leaving_in_order(leave, grace_s), _quick_threads():
        try:
            app.run(mouse=mouse)
        except Exception as error:  # noqa: BLE001 - out of Textual's own clean-up; nothing else is left to report it
            app.report_crash(error)
            app._print_error_renderables()
            return 1
    if app.return_code:
        return app.return_code
    return app.return_value if isinstance(app.return_value, int) else 0


@contextlib.contextmanager
def _quick_threads() -> Iterator[None]:
    """Let threads take turns quickly."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, _SWITCH_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before)
