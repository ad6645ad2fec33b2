"""The console's side of `serve`: what Textual needs to run behind a browser instead of a terminal.

The server (`paigeant_console.web`) names the driver below in TEXTUAL_DRIVER and speaks textual-serve's protocol through
the process's standard input and output.
"""

from __future__ import annotations

from typing import Final

from textual import messages
from textual.drivers.web_driver import WebDriver

__all__ = ["ServedDriver"]

_EVERY_MOVE: Final = "\x1b[?1003h"


class ServedDriver(WebDriver):
    """Textual's driver for a browser, with two rules of the console.

    The mouse is left to the browser unless somebody asked for it, so that text can be selected as on any page. And when
    the server has gone, the console goes: Textual's driver would stay for ever, with nobody to see it.
    """

    def _enable_mouse_support(self) -> None:
        if self._mouse:
            super()._enable_mouse_support()

    def write(self, data: str) -> None:
        """Write to the browser.

        Args:
            data: For its terminal.
        """
        # Textual's driver asks for this one whatever `mouse` says.
        if self._mouse or data != _EVERY_MOVE:
            super().write(data)

    def run_input_thread(self) -> None:
        """Read what the browser sends, to its end."""
        super().run_input_thread()
        if not self.exit_event.is_set():
            self._app.post_message(messages.ExitApp())
