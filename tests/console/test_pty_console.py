"""The whole console in a real terminal: nothing hostile reaches it, and it costs little."""

from __future__ import annotations

import re
import signal
import sys
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.console.corpus import ROOT, hostile_cases, leaks
from tests.console.ptyrun import ENTER, ESCAPE, PtyProgram

pytestmark = [pytest.mark.pty, pytest.mark.timeout(180)]

# What Textual says: places, colours, modes and their queries; and what the terminal is asked to copy.
KNOWN = re.compile(
    rb"\x1b\[(?:[0-9;]*[mH]|\?[0-9]+[hl]|\?20(?:26|48)\$p|>[0-9]+u|<u|[0-9]*[JK]|[0-9]+ q)|\x1b\]22;[a-z]*\x07|\n|\r"
    rb"|\x1b\]52;c;[A-Za-z0-9+/=]*\x07"
)
UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufe0f\ufeff\U000e0000-\U000e007f]")


def started(tmp_path: Path, size: tuple[int, int], *options: str, **env: str) -> PtyProgram:
    return PtyProgram(
        [sys.executable, "-m", "tests.console.hostile_console", *options],
        size=size,
        cwd=ROOT,
        env={"XDG_STATE_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "EDITOR": "true", **env},
    )


@pytest.mark.parametrize(("size", "options"), [((160, 50), ()), ((80, 24), ("--ascii",))])
def test_nothing_forbidden_reaches_the_terminal(
    tmp_path: Path, size: tuple[int, int], options: tuple[str, ...]
) -> None:
    cases = hostile_cases()
    with started(tmp_path, size, *options) as pty:
        pty.wait_for_text("l-of-it")
        for _ in range(12):
            pty.send("\x1b[6~")
        pty.wait_until_quiet()
        pty.send("g", "/", "c1", ENTER)
        pty.wait_for_text("FILTER")
        pty.send(ESCAPE)
        pty.wait_until_quiet()
        # One workflow that holds everything, and some that hold one text each.
        for name in ("all-of-it", "c01", "c56-held"):
            pty.send(f":open {name}", ENTER)
            pty.wait_for_text("hops")
            pty.wait_for_text("payload")
            pty.wait_until_quiet()
            # Through its panes, then the payload in every form and the slip at every hop.
            for keys in ("\t", "GgG", "\t", "GkjG", "\t", "v[[", "v]", "v", "c]v"):
                pty.send(*keys)
                pty.wait_until_quiet(0.15)
            pty.send("R")
            pty.wait_for_text("replay ")
            pty.send("p")
            pty.wait_until_quiet()
            pty.send(ESCAPE)
            pty.wait_until_quiet()
            pty.send("e")
            pty.wait_until_quiet()
            pty.send(ESCAPE)
            pty.wait_until_quiet()
            pty.send("rbecause", ENTER)
            pty.wait_for_text("same as")
            pty.send("n")
            pty.wait_until_quiet()
            pty.send("q")
            pty.wait_until_quiet(0.15)
        for view in "2345":
            pty.send(view)
            pty.wait_until_quiet(0.6)
            for keys in ("g", "\x1b[6~" * 8, "\t", "G"):
                pty.send(keys)
                pty.wait_until_quiet(0.15)
        # Every mode of every view: all columns, clock times, orders, the palette, completion, other themes.
        for view in "14":
            for keys in ("W", ">>>>>", "G", "<<", "W", "t", "O", "o", "O", "ooooo", "t", "p", "p"):
                pty.send(view, keys)
                pty.wait_until_quiet(0.1)
        for keys in ("\x10re", "\x1b[B" * 3, ESCAPE, ":open c", "\t", ESCAPE, ":dispatch ", "\t", "\t", ESCAPE):
            pty.send(keys)
            pty.wait_until_quiet(0.15)
        pty.send("/worker:", "\t", "x", ESCAPE, ESCAPE)
        pty.send("5", "g", "jjj", "Y", "w", "y")
        pty.wait_until_quiet(0.15)
        # What operations and entries of the audit have within.
        for keys in ("j", "jj", "\t", "j", "jjj"):
            pty.send("5", keys, ENTER)
            pty.wait_until_quiet(0.15)
            pty.send("G", "?", "q", "q")
            pty.wait_until_quiet(0.15)
        for theme in ("dark", "light", "high-contrast", "ansi"):
            pty.send(f":theme {theme}", ENTER)
            pty.wait_until_quiet(0.15)
        pty.send("\x1b[200~", "\x1b]0;pasted\x07 c01 \u202e", "\x1b[201~")
        pty.wait_until_quiet()
        pty.send("1")
        pty.wait_until_quiet(0.15)
        for view in "14":
            for keys in ("b", "G", ENTER, "gb", "G", ENTER, "gb", "jjj", ENTER, "bg"):
                pty.send(view, keys)
                pty.wait_until_quiet(0.15)
        pty.send("4", "g", " ", "j", " ", "j", " ")
        pty.send("dbecause", ENTER)
        pty.wait_for_text("same as")
        pty.wait_until_quiet()
        pty.send("n", "?")
        pty.wait_for_text("Keys of")
        pty.send("q", "\x11")
        assert pty.exit_status() == 0, pty.text
        raw = pty.raw
    assert leaks(raw, cases) == []
    text = KNOWN.sub(b"", raw).decode("utf-8")
    assert UNSEEN.findall(text) == []
    if options:
        assert text.isascii()


def test_what_it_costs(tmp_path: Path) -> None:
    """Bytes are what an operator on a slow line pays with. The clock of the story stands, so nothing ticks."""
    argv = [sys.executable, "-m", "tests.console.story_console"]
    with PtyProgram(argv, size=(80, 24), cwd=ROOT, env={"XDG_STATE_HOME": str(tmp_path)}) as pty:
        pty.wait_for_text("onboarding")
        pty.wait_until_quiet(1.5)

        def costs(act: Callable[[], object]) -> int:
            mark = pty.mark()
            act()
            pty.wait(lambda pty: pty.mark() > mark, "an answer")
            pty.wait_until_quiet(0.5)
            return pty.mark() - mark

        idle = pty.mark()
        pty.wait_until_quiet(3)
        assert pty.mark() == idle, "while nothing happens nothing is written"
        # All its steps look alike from outside; one is done, so one row differs.
        assert costs(lambda: pty.signal(signal.SIGUSR1)) <= 1000
        assert costs(lambda: pty.send("j")) <= 600
        assert costs(lambda: pty.send("/")) <= 600
        assert costs(lambda: pty.send(ESCAPE)) <= 600
        assert costs(lambda: pty.send(" ")) <= 600
        assert costs(lambda: pty.send("r")) <= 800
        assert costs(lambda: pty.send("x")) <= 400
        assert costs(lambda: pty.send(ESCAPE)) <= 800
        assert costs(lambda: pty.signal(signal.SIGUSR2)) <= 6000, "a hundred new ones cost one screen"
        pty.send("2")
        pty.wait_for_text("burst")
        pty.wait_until_quiet(1)
        assert costs(lambda: pty.signal(signal.SIGUSR2)) <= 6000
        pty.send("\x11")
        assert pty.exit_status() == 0


def test_a_terminal_that_does_not_read_stalls_nothing_but_itself(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.console.story_console"]
    with PtyProgram(argv, size=(120, 40), cwd=ROOT, env={"XDG_STATE_HOME": str(tmp_path)}) as pty:
        pty.wait_for_text("onboarding")
        pty.send("2")
        pty.wait_for_text("AT ")
        pty.pause()
        for _ in range(20):
            pty.signal(signal.SIGUSR2)
            time.sleep(0.05)
        pty.resume()
        # All 2,000 were read meanwhile; the screen shows the last, and not one frame for each.
        pty.wait_for_text("burst-0")
        pty.wait_until_quiet(1)
        pty.send("1")
        pty.wait_until_quiet(1)
        pty.send("\x11")
        assert pty.exit_status() == 0


def test_a_storm_of_sizes_leaves_a_screen_that_fits(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.console.story_console"]
    with PtyProgram(argv, size=(120, 40), cwd=ROOT, env={"XDG_STATE_HOME": str(tmp_path)}) as pty:
        pty.wait_for_text("onboarding")
        for view in ("1", "2", "3", "4", "5", "4\r", "?"):
            pty.send(view)
            pty.wait_until_quiet(0.3)
            for width, height in ((1, 1), (200, 60), (59, 15), (60, 14), (3, 80), (300, 2), (60, 15)):
                pty.resize(width, height)
                time.sleep(0.02)
            pty.wait_until_quiet(0.3)
        pty.resize(40, 10)
        pty.wait_for_text("needs 60x15; this terminal")
        pty.send("q", "1")
        pty.wait_until_quiet(0.3)
        pty.resize(80, 24)
        pty.wait_for_text("Keys of")
        pty.send("q", "1")
        pty.wait_for_text("Enter open")
        pty.send("\x11")
        assert pty.exit_status() == 0


def test_the_command_that_is_copied_goes_to_the_broker_that_was_given(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "paigeant_console", "--url", "redis://ann:secret@127.0.0.1:1/0"]
    own = {name: str(tmp_path) for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    with PtyProgram(argv, size=(160, 24), cwd=ROOT, env={**own, "PAIGEANT_URL": "redis://elsewhere"}) as pty:
        pty.wait_for_text("1 workflows")
        pty.send("Y")
        pty.wait_for_text("the command (password left out)")
        copied = re.search(rb"\x1b\]52;c;([A-Za-z0-9+/=]+)\x07", pty.raw)
        assert copied is not None
        assert b64decode(copied[1]).decode() == "paigeant-console --url redis://ann@127.0.0.1:1/0 list"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_the_terminal_as_it_was(tmp_path: Path, number: int, code: int) -> None:
    argv = [sys.executable, "-m", "tests.console.story_console"]
    with PtyProgram(argv, size=(80, 24), cwd=ROOT, env={"XDG_STATE_HOME": str(tmp_path)}) as pty:
        before = pty.attributes()
        pty.wait_for_text("onboarding")
        pty.send("rabc")
        pty.wait_for_text("because: abc")
        pty.signal(number)
        assert pty.exit_status() == code
        assert b"\x1b[?1049l" in pty.raw
        assert pty.attributes() == before
