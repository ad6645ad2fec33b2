"""A program in tmux, as an operator has it over ssh: keys go in, and the screen is read back."""

from __future__ import annotations

import itertools
import os
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

PATIENCE = 60.0


class Tmux:
    """One window of a tmux server of its own.

    Args:
        argv: the program.
        env: its environment.
        size: columns and lines.
        cwd: where it runs.
    """

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], *, size: tuple[int, int] = (80, 24), cwd: Path | None = None
    ) -> None:
        self._argv, self._env, self._size, self._cwd = argv, env, size, cwd

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="paigeant-tmux-")
        width, height = map(str, self._size)
        # tmux starts its server with the environment of whoever asks first, which then is that of the program.
        own = {key: value for key, value in self._env.items() if key not in ("TMUX", "COLUMNS", "LINES")}
        program = f"exec {shlex.join(self._argv)}"
        start = ["-f", os.devnull, "new-session", "-d", "-x", width, "-y", height, "-s", "night", program]
        settings = ["set", "-g", "status", "off", ";", "set", "-g", "remain-on-exit", "on"]
        subprocess.run([*self._tmux(), *start, ";", *settings], env=own, cwd=self._cwd, check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([*self._tmux(), "kill-server"], check=False, stderr=subprocess.DEVNULL)
        self._folder.cleanup()

    def _tmux(self) -> list[str]:
        return ["tmux", "-S", str(Path(self._folder.name) / "tmux")]

    def press(self, *keys: str) -> None:
        """Press keys, by tmux's names where they have some."""
        for key in keys:
            subprocess.run([*self._tmux(), "send-keys", "-t", "night", key], check=True)
            # Escape and a key right behind it are one key with Alt, to every terminal.
            time.sleep(0.4 if key == "Escape" else 0.05)

    def type(self, text: str) -> None:
        """Type a text as it is."""
        subprocess.run([*self._tmux(), "send-keys", "-t", "night", "-l", text], check=True)

    def screen(self, *, colours: bool = False) -> str:
        """What stands there now."""
        options = ["-e"] if colours else []
        done = subprocess.run(
            [*self._tmux(), "capture-pane", "-p", *options, "-t", "night"], check=True, capture_output=True, text=True
        )
        return done.stdout

    def until(self, what: str | Callable[[str], bool], seconds: float = PATIENCE) -> str:
        """Wait until a text stands there, or a condition holds; the screen then."""
        holds = (lambda screen: what in screen) if isinstance(what, str) else what
        deadline = time.monotonic() + seconds
        for tried in itertools.count():
            screen = self.screen()
            if holds(screen):
                return screen
            if time.monotonic() > deadline:
                raise AssertionError(f"{what!r} did not come in {seconds:g} s; the screen:\n{screen}")
            time.sleep(0.05 if tried < 20 else 0.2)
        raise AssertionError
