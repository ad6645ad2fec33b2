"""An app that runs in a real terminal: `python -m tests.console.terminal_program MODE DIRECTORY`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from paigeant_console.terminal import (  # isort: skip - before Textual
    ConsoleAppBase,
    TerminalError,
    check_terminal,
    run_console,
)

from textual.app import ComposeResult
from textual.widgets import Static

SECRET = "s3cr3t-0f-0bo"


class TerminalApp(ConsoleAppBase):
    """Leaves, crashes and stalls in every way that there is."""

    def __init__(self, mode: str, directory: str) -> None:
        super().__init__(log_directory=Path(directory), ascii_only=mode == "ascii")
        self.mode = mode
        self.text = Static("ready")

    def compose(self) -> ComposeResult:
        yield self.text
        if self.mode == "ascii":
            yield Static("│ é ▌ … 漢", markup=False)

    def on_mount(self) -> None:
        if self.mode == "flood":
            self.set_interval(0.02, self.flood)

    def flood(self) -> None:
        self.text.update(f"ready {time.monotonic()}" + "x" * 4000)

    def key_q(self) -> None:
        self.exit(return_code=5)

    def key_r(self) -> None:
        self.exit(7)

    def key_m(self) -> None:
        self.exit(return_code=3, message=f"said [/] \x1b[2J{chr(0x202E)}")

    def key_c(self) -> None:
        obo_token = SECRET
        raise ValueError(f"cannot reach redis://me:{SECRET}@host with {len(obo_token)} \x1b[2J")

    def key_t(self) -> None:
        class Rendered(Exception):
            def __rich__(self) -> str:
                return f"[bold]{SECRET}"

        raise Rendered

    def key_w(self) -> None:
        async def work() -> None:
            token = SECRET
            raise RuntimeError(len(token))

        self.run_worker(work(), exit_on_error=True)

    def key_s(self) -> None:
        time.sleep(600)  # a handler that blocks the loop

    def key_y(self) -> None:
        self.copy_text("order-7")


def main(mode: str, directory: str) -> int:
    try:
        check_terminal()
    except TerminalError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if mode == "nohup":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return run_console(TerminalApp(mode, directory), grace_s=float(os.environ.get("GRACE", "10")))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
