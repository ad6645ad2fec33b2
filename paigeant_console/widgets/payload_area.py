"""The editor for a payload, in a module of its own: Textual's takes its time to import, and few ask for it."""

from __future__ import annotations

from typing import ClassVar, Protocol

from textual.binding import BindingType
from textual.widgets import TextArea

from paigeant_console.widgets.keys import bindings_of

__all__ = ["PayloadArea"]


class _Form(Protocol):
    """Whose payload it is."""

    def act(self, name: str) -> None:
        """Do what a key of the table says."""
        ...

    def check(self) -> None:
        """Say whether what is in the editor is a payload."""
        ...


class PayloadArea(TextArea):
    """An editor for JSON.

    Args:
        form: the form that it is part of; it is told what was typed.
    """

    BINDINGS: ClassVar[list[BindingType]] = bindings_of("payload")
    edits: ClassVar[bool] = True
    """Keys are its own while it has the focus."""

    def __init__(self, form: _Form) -> None:
        # Not tab_behavior="indent": it would make Escape mean "next widget".
        super().__init__(soft_wrap=True, show_line_numbers=True, compact=True, highlight_cursor_line=False)
        self._form = form
        self.cursor_blink = False
        self.display = False

    def action_act(self, name: str) -> None:
        """Do what a key of the table says.

        Args:
            name: the action's ID.
        """
        self._form.act(name)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Say whether it is a payload."""
        event.stop()
        self._form.check()
