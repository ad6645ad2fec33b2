"""The palette: every action of the table that matches what is typed, over the view and above the keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from paigeant_console.actions import Action, Situation, help_of, keys_text, refusal
from paigeant_console.model.text import Span, clip, width_of
from paigeant_console.safe_text import cells, joined, literal
from paigeant_console.widgets.span_lines import Line, SpanLines

__all__ = ["Palette"]

ROWS: Final = 10
"""Actions that are in sight at once."""
_KEYS: Final = 12
_LABEL: Final = 14


class Palette(SpanLines):
    """A list of actions, one of them chosen; it lies over the view, which stays as it is."""

    grows: ClassVar[bool] = True
    DEFAULT_CSS = """
    Palette {
        layer: above;
        dock: bottom;
        margin-bottom: 2;
        height: auto;
        border-top: heavy $primary;
    }
    """

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self.display = False
        self._situation = Situation("")
        self._actions: Sequence[Action] = ()
        self._at = 0

    @property
    def chosen(self) -> Action | None:
        """The action that Enter does."""
        return self._actions[self._at] if self._actions else None

    def show(self, actions: Sequence[Action], situation: Situation) -> None:
        """Offer other actions.

        Args:
            actions: which, the likeliest first.
            situation: where the operator is.
        """
        self._actions, self._situation, self._at = actions, situation, 0
        self.display = True
        self.update_lines()

    def close(self) -> None:
        """Be gone."""
        self.display = False

    def move(self, step: int) -> None:
        """Choose another one.

        Args:
            step: by how many.
        """
        self._at = max(0, min(self._at + step, len(self._actions) - 1))
        self.update_lines()

    def lines_for(self, width: int) -> Sequence[Line]:
        """See :class:`SpanLines`."""
        top = max(0, min(self._at - ROWS // 2, len(self._actions) - ROWS))
        lines = [
            clip(self._row(action, here=top + place == self._at), width, ascii_only=self.ascii_only)
            for place, action in enumerate(self._actions[top : top + ROWS])
        ]
        if not lines:
            lines.append([(literal("no action is called so"), "dim")])
        # It keeps its height, as a change of that paints all of the screen; what was found is next to what is typed.
        return [*([()] * (ROWS - len(lines))), *lines]

    def _row(self, action: Action, *, here: bool) -> list[Span]:
        why_not = refusal(action, self._situation)
        keys = keys_text(action) or literal(f":{action.command[0]}" if action.command else "")
        keys = cells(keys, _KEYS) if width_of(keys) < _KEYS else joined((keys, literal(" ")))
        mark = literal("> " if here else "  ")
        head = joined((mark, keys, cells(action.label, _LABEL), literal(" ")))
        style = "tab" if here else "dim" if why_not is not None else "key"
        if why_not is not None:
            return [(head, style), (joined((literal("not now: "), literal(why_not.partition(": ")[2]))), "warn")]
        return [(head, style), (help_of(action), "dim")]
