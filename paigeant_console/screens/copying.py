"""Taking things along from a screen: to the terminal's clipboard, or to a file that only this user can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paigeant_console.actions import key_of
from paigeant_console.clipboard import ClipboardTooLarge
from paigeant_console.safe_text import SafeText, joined, literal, safe
from paigeant_console.widgets.span_lines import Line

if TYPE_CHECKING:
    from paigeant_console.screens.base import ConsoleScreen

__all__ = ["Copying"]


class Copying:
    """What a screen copies and writes; each method does it, and gives what to say of it.

    Args:
        screen: which.
    """

    def __init__(self, screen: ConsoleScreen) -> None:
        self._screen = screen
        self._offered: bytes | None = None

    def forget(self) -> None:
        """From now on `w` means what the screen shows, not what the terminal was asked to copy."""
        self._offered = None

    def copy(self) -> Line:
        """Copy the ID, or what has the focus."""
        found = self._screen.copied()
        if found is None:
            return [(literal("copy: there is nothing to copy here"), "warn")]
        return self._copy(found[0], found[1], multiline=b"\n" in found[1])

    def copy_command(self) -> Line:
        """Copy the command line that does or shows the same."""
        line, left_out = self._command(), self._left_out
        what = joined((literal("the command"), literal(" ") if left_out else left_out, left_out))
        return self._copy(what, line.encode(), said=((literal(": "), "dim"), (safe(line, 200), "")))

    def write(self) -> Line:
        """Write what the terminal was asked to copy just now, else the command of what is asked, else what is shown."""
        offered, self._offered = self._offered, None
        if offered is not None:
            return self._written(offered)
        if self._screen.confirm_bar.confirmation is not None:
            return *self._written(self._command().encode()), (joined((literal(" "), self._left_out)), "warn")
        found = self._screen.copied()
        return (
            [(literal("write: there is nothing to write here"), "warn")] if found is None else self._written(found[1])
        )

    @property
    def _left_out(self) -> SafeText:
        return self._screen.shared.target.left_out

    def _command(self) -> str:
        """The command line of what is asked now, else of the view."""
        asked = self._screen.confirm_bar.confirmation
        if asked is None:
            return self._screen.command()
        if asked.edited is None:
            return asked.command
        try:
            # The command reads the payload from a file, so there has to be one.
            return asked.edited.command(self._screen.shared.write_file(asked.edited.payload, "payload"))
        except OSError:
            return asked.command

    def _copy(self, what: SafeText, value: bytes, *, multiline: bool = False, said: Line = ()) -> Line:
        if not self._screen.shared.clipboard:
            return (literal("clipboard is off in the configuration: "), "dim"), *self._written(value)
        try:
            self._screen.console.copy_text(value, multiline=multiline)
        except ClipboardTooLarge:
            return (literal("too large for a terminal's clipboard: "), "warn"), *self._written(value)
        self._offered = value
        if_not = joined((literal("; if it did not, "), key_of("write"), literal(" writes a file")))
        return (literal("asked the terminal to copy "), ""), (what, "strong"), (if_not, "dim"), *said

    def _written(self, value: bytes) -> Line:
        try:
            where = self._screen.shared.write_file(value, "copied")
        except OSError as error:
            return ((safe(f"could not write a file: {error.strerror or type(error).__name__}", 200), "error"),)
        return (literal("written to "), ""), (safe(where, 300), "strong")
