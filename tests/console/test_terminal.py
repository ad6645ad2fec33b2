"""The terminal's nature, and each use of a private part of Textual."""

from __future__ import annotations

import io
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from paigeant_console.terminal import (  # isort: skip - before Textual
    KNOBS,
    ConsoleAppBase,
    ControlFilter,
    Terminal,
    TerminalError,
    check_terminal,
    run_console,
    set_knobs,
    size_problem,
    write_crash_log,
)

import pytest
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.color import Color
from textual.content import Content
from textual.filter import ANSIToTruecolor
from textual.widgets import Input, Static

from paigeant_console.clipboard import CLIPBOARD_LIMIT, ClipboardTooLarge, clipboard_text
from tests.console.corpus import ROOT, hostile_cases, leaks
from tests.console.ptyrun import PtyProgram, PtyTimeout
from tests.console.terminal_program import SECRET, TerminalApp

BLACK = Color(0, 0, 0)


@pytest.fixture
def program(tmp_path) -> Callable[..., PtyProgram]:
    def start(mode: str = "plain", **kwargs) -> PtyProgram:
        env = {"TEXTUAL_FPS": None, "NO_COLOR": None, **kwargs.pop("env", {})}
        argv = [sys.executable, "-m", "tests.console.terminal_program", mode, str(tmp_path / "log")]
        return PtyProgram(argv, cwd=ROOT, env=env, **kwargs)

    return start


def only_log(tmp_path: Path) -> Path:
    (log,) = (tmp_path / "log").glob("crash-*.log")
    return log


def assert_restored(pty: PtyProgram, attributes: list[object]) -> None:
    raw = pty.raw
    for on, off in [("?1049h", "?1049l"), ("?25l", "?25h"), ("?1004h", "?1004l"), ("?2004h", "?2004l"), ("?7l", "?7h")]:
        assert raw.rfind(f"\x1b[{off}".encode()) > raw.rfind(f"\x1b[{on}".encode()) >= 0, off
    assert raw.rfind(b"\x1b[<u") > raw.rfind(b"\x1b[>")
    assert pty.attributes() == attributes


# Before Textual


def test_knobs_are_set_where_the_user_set_nothing():
    environ = {"TEXTUAL_FPS": "30", "HOME": "x"}
    set_knobs(environ)
    assert environ == {**KNOBS, "TEXTUAL_FPS": "30", "HOME": "x"}


def test_textual_reads_the_knobs():
    code = (
        "import paigeant_console.terminal; from textual import constants as c; "
        "print(c.MAX_FPS, c.TEXTUAL_ANIMATIONS, c.SMOOTH_SCROLL, c.ESCAPE_DELAY)"
    )
    environ = {name: value for name, value in os.environ.items() if name not in KNOBS}
    for extra, expected in [
        ({}, "15 none False 0.1"),
        ({"TEXTUAL_FPS": "30", "ESCDELAY": "25"}, "30 none False 0.025"),
    ]:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env={**environ, **extra}
        )
        assert done.stdout.strip() == expected


# What is looked at first


class FakeStream(io.StringIO):
    def __init__(self, tty: bool = True, encoding: str = "utf-8") -> None:
        super().__init__()
        self._tty = tty
        self._encoding = encoding

    def isatty(self) -> bool:
        return self._tty

    def fileno(self) -> int:
        raise OSError

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


def check(term: str = "xterm", stdin: FakeStream | None = None, stderr: FakeStream | None = None, **kwargs) -> Terminal:
    environ = {"TERM": term} if term else {}
    return check_terminal(environ=environ, stdin=stdin or FakeStream(), stderr=stderr or FakeStream(), **kwargs)


def test_a_good_terminal():
    assert check() == Terminal(term="xterm", width=80, height=24, ascii_only=False)
    assert check(ascii_only=True).ascii_only
    assert check(stderr=FakeStream(encoding="UTF_8")).ascii_only is False
    assert check(stderr=FakeStream(encoding="latin-1")).ascii_only


@pytest.mark.parametrize("term", ["", "dumb", "unknown"])
def test_terminals_without_a_cursor_are_refused(term):
    with pytest.raises(TerminalError, match="cannot move its cursor") as caught:
        check(term)
    assert caught.value.code == "terminal_unsuitable"


def test_pipes_are_refused():
    with pytest.raises(TerminalError, match="standard input"):
        check(stdin=FakeStream(tty=False))
    with pytest.raises(TerminalError, match="standard error"):
        check(stderr=FakeStream(tty=False))
    closed = FakeStream()
    closed.close()
    with pytest.raises(TerminalError, match="standard error"):
        check(stderr=closed)


@pytest.mark.pty
def test_a_dumb_terminal_is_told_so_in_a_sentence(program):
    with program(term="dumb") as pty:
        assert pty.exit_status() == 2
        assert b"\x1b" not in pty.raw
        assert b"TERM=dumb says that this terminal cannot move its cursor." in pty.raw


def test_sizes():
    assert size_problem(60, 15) is None
    assert size_problem(59, 15) == "The console needs 60x15; this terminal has 59x15."
    assert size_problem(60, 14) == "The console needs 60x15; this terminal has 60x14."


async def test_the_app_knows_when_it_is_too_small():
    app = ConsoleAppBase()
    async with app.run_test(size=(60, 15)) as pilot:
        assert not app.has_class("-too-small")
        await pilot.resize_terminal(59, 15)
        await pilot.pause()
        assert app.has_class("-too-small")
        await pilot.resize_terminal(100, 40)
        await pilot.pause()
        assert not app.has_class("-too-small")


# The filter: App._filters


def filtered(*segments: Segment, ascii_only: bool = False) -> list[Segment]:
    return ControlFilter(ascii_only).apply(list(segments), BLACK)


def test_clean_lines_pass_untouched():
    line = [Segment("plain "), Segment("│ ✓ 漢字 é", Style(color="red")), Segment("")]
    assert ControlFilter().apply(line, BLACK) is line


def test_corpus_does_not_pass():
    for case in hostile_cases():
        text = case.text.encode("utf-8", "replace").decode()[:2000]
        (segment,) = filtered(Segment(text, Style(bold=True)))
        assert leaks(segment.text.encode()) == [], case.name
        assert cell_len(segment.text) == cell_len(text)
        assert segment.style == Style(bold=True)


def test_links_controls_and_what_has_no_cells_are_dropped():
    evil = Segment("click", Style(link="http://evil.example\x1b\\", bold=True))
    assert filtered(evil) == [Segment("click", Style(bold=True))]
    assert filtered(Segment("\x1b\x07"), Segment("x")) == [Segment("x")]
    assert filtered(Segment.line()) == []


def test_ascii_cell_by_cell():
    line = filtered(Segment("│─┼ ✓ é 漢字 … ▌"), ascii_only=True)
    assert line == [Segment("|-+ v ? ???? ~ >")]


async def test_the_filter_is_the_last_of_the_app():
    app = ConsoleAppBase(ascii_only=True)
    async with app.run_test():
        last = app.get_line_filters()[-1]
        assert isinstance(last, ControlFilter)
        assert last.ascii_only
        app.theme = "ansi-dark"  # Textual replaces one of its filters in the list
        app.theme = "textual-light"
        assert any(isinstance(line_filter, ANSIToTruecolor) for line_filter in app._filters)
        assert isinstance(app.get_line_filters()[-1], ControlFilter)


async def test_the_filter_sees_what_widgets_draw():
    class Hostile(ConsoleAppBase):
        def compose(self) -> ComposeResult:
            static = Static(Content("a\x1b[2Jb\x9bc"))
            static.border_title = Content("t\x1b]0;PWNED")
            static.styles.border = ("solid", "red")
            yield static
            yield Input("i\x1b[2J\u202e")

        def on_mount(self) -> None:
            self.notify("n\x1b[2J", markup=False)

    app = Hostile()
    async with app.run_test(notifications=True) as pilot:
        await pilot.pause(0.2)
        text = "".join(strip.text for strip in app.screen._compositor.render_strips())
        assert not set(text) & set("\x1b\x9b\u202e")
        assert text.count("␛") == 4


@pytest.mark.pty
def test_ascii_in_a_real_terminal(program):
    with program("ascii", env={"PYTHONIOENCODING": "latin-1"}) as pty:
        pty.wait_for_text("| ? > ~ ??")
        pty.send("q")
        assert pty.exit_status() == 5
        assert pty.raw.isascii()


# The clipboard: App._driver


async def test_copying_goes_through_the_gateway(monkeypatch):
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.delenv("STY", raising=False)
    app = ConsoleAppBase()
    async with app.run_test():
        written: list[str] = []
        assert app._driver is not None
        monkeypatch.setattr(app._driver, "write", written.append)
        app.copy_text("a\n\x1bb")
        app.copy_to_clipboard("a\nb")
        assert written == [clipboard_text("a⏎␛b", environ={}), clipboard_text("a\nb", environ={}, multiline=True)]
        with pytest.raises(ClipboardTooLarge):
            app.copy_text("x" * CLIPBOARD_LIMIT)
        app.copy_to_clipboard("x" * CLIPBOARD_LIMIT)
        assert app.clipboard == "x" * CLIPBOARD_LIMIT
        assert len(written) == 2


@pytest.mark.pty
def test_copying_in_a_real_terminal(program):
    with program() as pty:
        pty.wait_for_text("ready")
        pty.send("y")
        pty.wait_for_bytes(b"\x1b]52;c;b3JkZXItNw==\x07")
        pty.send("q")
        assert pty.exit_status() == 5


# Crashes: App._handle_exception, _fatal_error, panic, _print_error_renderables, _exit_renderables


@pytest.mark.pty
@pytest.mark.parametrize(("key", "name"), [("c", "ValueError"), ("t", "Rendered"), ("w", "RuntimeError")])
def test_a_crash_is_one_line_and_a_private_file(program, tmp_path, key, name):
    with program() as pty:
        attributes = pty.attributes()
        pty.wait_for_text("ready")
        pty.send(key)
        assert pty.exit_status() == 1
        assert_restored(pty, attributes)
        log = only_log(tmp_path)
        after = pty.raw.rpartition(b"\x1b[?1004l")[2].decode()
        assert after.strip() == f"paigeant-console: internal error ({name}); details are in {log}"
        assert SECRET.encode() not in pty.raw
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700
    text = log.read_text()
    assert "Traceback" in text
    assert ("in work" if key == "w" else f"in key_{key}") in text
    assert SECRET not in text  # neither as a local nor as a password in a URL
    assert "\x1b" not in text


async def test_the_error_reaches_tests_that_drive_the_app(tmp_path, capsys):
    app = TerminalApp("plain", str(tmp_path / "log"))
    with pytest.raises(ValueError, match="cannot reach"):
        async with app.run_test() as pilot:
            await pilot.press("c")
    assert app.return_code == 1
    assert capsys.readouterr().err.startswith("paigeant-console: internal error (ValueError); details are in ")


async def test_a_fatal_error_and_a_panic_print_no_details(tmp_path, capsys):
    for way in ("fatal", "fatal in an except", "panic"):
        app = ConsoleAppBase(log_directory=tmp_path / "log")
        async with app.run_test():
            if way == "panic":
                app.panic(f"[bold]{SECRET}[/]", Text(SECRET))
            elif way == "fatal":
                app._fatal_error()
            else:
                try:
                    raise KeyError(SECRET)
                except KeyError:
                    app._fatal_error()
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert "paigeant-console: internal error" in captured.err
        assert SECRET not in captured.err
    logs = sorted((tmp_path / "log").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert len(logs) == 3
    assert f"[bold]{SECRET}[/]" in logs[-1].read_text()


async def test_only_the_first_error_is_told(tmp_path, capfd):
    app = ConsoleAppBase(log_directory=tmp_path)
    async with app.run_test():
        app.report_crash(KeyError("first"))
        app.report_crash(ValueError("second"))
    assert "KeyError" in (err := capfd.readouterr().err)
    assert "ValueError" not in err
    assert len(list(tmp_path.iterdir())) == 2


async def test_a_log_that_cannot_be_written(tmp_path, capfd):
    (tmp_path / "file").write_text("")
    app = ConsoleAppBase(log_directory=tmp_path / "file")
    async with app.run_test():
        app.report_crash(KeyError("x"))
    assert "(KeyError); details could not be written (" in capfd.readouterr().err


@pytest.mark.pty
def test_last_words_are_plain_text(program):
    with program() as pty:
        pty.wait_for_text("ready")
        pty.send("m")
        assert pty.exit_status() == 3
        after = pty.raw.rpartition(b"\x1b[?1004l")[2].decode()
        assert after.strip() == "said [/] ␛[2J<U+202E>"


def test_crash_logs(tmp_path, monkeypatch):
    directory = tmp_path / "a" / "b"
    old = [write_crash_log(f"crash {number}", directory) for number in range(25)]
    left = set(directory.iterdir())
    assert len(left) == 20
    assert old[-1] in left
    path = write_crash_log(f"a\x1b[2J\namqps://me:{SECRET}@h/x and rediss://:{SECRET}@h", directory)
    assert path.read_text() == "a␛[2J\namqps://me:***@h/x and rediss://:***@h\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    if sys.platform == "linux":
        assert write_crash_log("x").is_relative_to(tmp_path / "state" / "paigeant-console")


# Leaving: run_console, signals, App._loop


@pytest.mark.pty
@pytest.mark.parametrize(("key", "code"), [("q", 5), ("r", 7)])
def test_the_exit_code_is_the_apps(program, key, code):
    with program() as pty:
        attributes = pty.attributes()
        pty.wait_for_text("ready")
        pty.send(key)
        assert pty.exit_status() == code
        assert_restored(pty, attributes)
        assert b"\x1b[?1003h" not in pty.raw  # no mouse


@pytest.mark.pty
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_leave_in_order(program, number):
    with program() as pty:
        attributes = pty.attributes()
        pty.wait_for_text("ready")
        pty.signal(number)
        assert pty.exit_status() == 128 + number
        assert_restored(pty, attributes)


@pytest.mark.pty
def test_the_terminal_is_closed(program):
    with program("flood") as pty:
        pty.wait_for_text("ready")
        pty.hang_up()
        assert pty.exit_status() == 128 + signal.SIGHUP


@pytest.mark.pty
def test_a_terminal_that_is_gone_ends_it_also_where_no_signal_tells(program):
    with program("nohup") as pty:
        pty.wait_for_text("ready")
        pty.hang_up()
        assert pty.exit_status() == 128 + signal.SIGHUP


@pytest.mark.pty
def test_a_signal_ends_a_loop_that_is_blocked(program):
    with program(env={"GRACE": "1"}) as pty:
        attributes = pty.attributes()
        pty.wait_for_text("ready")
        pty.send("s")
        time.sleep(0.3)
        pty.signal(signal.SIGTERM)
        assert pty.exit_status() == 128 + signal.SIGTERM
        assert_restored(pty, attributes)


@pytest.mark.pty
def test_a_signal_ends_a_console_whose_terminal_has_stalled(program):
    with program("flood", env={"GRACE": "1", "TEXTUAL_FPS": "60"}, size=(200, 60)) as pty:
        attributes = pty.attributes()
        pty.wait_for_text("ready")
        pty.pause()
        time.sleep(3)  # until the terminal's buffer and Textual's queue are full
        pty.signal(signal.SIGTERM)
        assert pty.exit_status() == 128 + signal.SIGTERM
        assert pty.attributes() == attributes


@pytest.mark.pty
def test_what_was_ignored_stays_ignored(program):
    with program("nohup") as pty:
        pty.wait_for_text("ready")
        pty.signal(signal.SIGHUP)
        with pytest.raises(PtyTimeout):
            pty.exit_status(0.5)
        pty.send("q")
        assert pty.exit_status() == 5


def test_handlers_are_put_back_and_errors_of_textual_itself_are_told(tmp_path, capsys, monkeypatch):
    def broken(self, **kwargs) -> None:
        raise OSError(SECRET)

    monkeypatch.setattr(ConsoleAppBase, "run", broken)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
    assert run_console(ConsoleAppBase(log_directory=tmp_path)) == 1
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)] == before
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "(OSError)" in err
    assert SECRET not in err
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_a_signal_before_the_loop_runs(tmp_path, monkeypatch):
    def slow(self, **kwargs) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    monkeypatch.setattr(ConsoleAppBase, "run", slow)
    with pytest.raises(SystemExit) as caught:
        run_console(ConsoleAppBase(log_directory=tmp_path))
    assert caught.value.code == 143
