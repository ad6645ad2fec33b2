"""What all screens share: where they get everything from, what the app does for them, and who takes keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from textual import events

from paigeant_console.feed import Feed
from paigeant_console.model.confirmation import Target
from paigeant_console.model.status import Place
from paigeant_console.safe_text import SafeText

__all__ = ["KeyTaker", "Shared"]


@dataclass(slots=True)
class Shared:
    """What all screens share.

    Attributes:
        feed: where everything comes from, and goes to.
        place: what the frame says of where this is.
        target: what command lines say of it.
        ascii_only: write ASCII only.
        write_file: writes bytes where only this user can read them, and returns where; the app's.
        show_view: goes to a view by name; the app's.
        open_workflow: opens a workflow by ID; the app's.
        edit_text: edits a text in $EDITOR; None: it could not be, or nothing came back; the app's.
        use_theme: draws in another theme, or says why not; the app's.
        use_context: goes to another context, or says why not; the app's.
        take_typed: takes what was typed and had to wait, see :meth:`ConsoleScreen.has_to_wait`; the app's.
        contexts: names of those there are.
        clipboard: ask the terminal to copy; else what is copied goes to a file.
    """

    feed: Feed
    place: Place
    target: Target
    ascii_only: bool
    write_file: Callable[[bytes, str], str]
    show_view: Callable[[str], None]
    open_workflow: Callable[[str], None]
    edit_text: Callable[[str], str | None]
    use_theme: Callable[[str], SafeText | None]
    use_context: Callable[[str], SafeText | None]
    take_typed: Callable[[], object]
    contexts: tuple[str, ...] = ()
    clipboard: bool = True


class KeyTaker(Protocol):
    """A widget that takes keys while it asks something."""

    def take_key(self, event: events.Key) -> None:
        """Take a key."""
        ...
