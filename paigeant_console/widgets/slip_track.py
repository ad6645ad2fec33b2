"""The slip of one workflow, wrapped where there is room for all of it and shortened where there is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from paigeant_console.model.slip_track import Track, draw_track, wrap_track
from paigeant_console.widgets.span_lines import Line, SpanLines

__all__ = ["SlipTrack"]

MOST_LINES = 3


class SlipTrack(SpanLines):
    """A slip on one to three lines."""

    grows: ClassVar[bool] = True
    DEFAULT_CSS = """
    SlipTrack { height: auto; }
    """

    def __init__(self, *, ascii_only: bool = False) -> None:
        super().__init__(ascii_only=ascii_only)
        self._track: Track | None = None

    def show(self, track: Track) -> None:
        """Draw another track.

        Args:
            track: it.
        """
        if track != self._track:
            self._track = track
            self.update_lines()

    def lines_for(self, width: int) -> Sequence[Line]:
        """See :class:`SpanLines`."""
        if self._track is None or width <= 0:
            return ((),)
        wrapped = wrap_track(self._track, width, MOST_LINES, ascii_only=self.ascii_only)
        return wrapped or (draw_track(self._track, width, ascii_only=self.ascii_only),)
