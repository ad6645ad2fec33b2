"""A line table whose newest row is the first: its cursor stays there until the operator moves it."""

from __future__ import annotations

from paigeant_console.widgets.line_table import LineTable

__all__ = ["TopTable"]


class TopTable(LineTable):
    """The mirror of a table that follows its end.

    While the cursor has not been moved it stays on the first row, so that what is new is in
    sight; once it was moved it stays on its row, whatever comes in above it. `g` follows the
    top again.
    """

    on_top = True
    """Whether the cursor stays on the first row."""

    def sync(self) -> None:
        """Take up rows that came, went or moved."""
        super().sync()
        if self.on_top and self.cursor_index:
            super().move_to_index(0)

    def move_to_index(self, index: int) -> None:
        """Put the cursor on a row, as the operator wants it.

        Args:
            index: the row, from 0.
        """
        self.on_top = False
        super().move_to_index(index)

    def action_cursor_first(self) -> None:
        """Go to the first row, and follow the top."""
        super().action_cursor_first()
        self.on_top = True
