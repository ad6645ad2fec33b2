"""The frame's first lines: where this is and how fresh, and the views with how many workflows stand where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from paigeant_console.model.status import Place, Status, context_pieces, tabs_line
from paigeant_console.model.text import fit_line
from paigeant_console.safe_text import SafeText
from paigeant_console.widgets.span_lines import Line, SpanLines

__all__ = ["StatusBar"]


class StatusBar(SpanLines):
    """Two lines that every screen has at its top.

    Args:
        place: where the console is.
        titles: the views with a number.
        view: the one that is shown.
        ascii_only: write ASCII only.
    """

    DEFAULT_CSS = """
    StatusBar { height: 2; }
    """

    def __init__(self, place: Place, titles: Mapping[str, SafeText], view: str, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._place = place
        self._titles = titles
        self._view = view
        self._status: Status | None = None
        self._now = 0.0
        self._paused = False

    def show(self, status: Status, now: float, *, paused: bool) -> None:
        """Take up how things are; what reads the same is not painted.

        Args:
            status: of the feed.
            now: seconds since the Unix epoch.
            paused: whether this view is frozen.
        """
        self._status, self._now, self._paused = status, now, paused
        self.update_lines()

    def lines_for(self, width: int) -> Sequence[Line]:
        """See :class:`SpanLines`."""
        if self._status is None or width <= 0:
            return ()
        ascii_only = self.ascii_only
        context = context_pieces(
            self._place, self._status, self._now, width, paused=self._paused, ascii_only=ascii_only
        )
        return (
            fit_line(context, width, ascii_only=ascii_only),
            tabs_line(
                self._titles,
                self._view,
                self._status.counts,
                width,
                left=self._status.left,
                ascii_only=ascii_only,
            ),
        )
