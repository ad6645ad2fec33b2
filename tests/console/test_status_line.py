"""The first line: what stands in it, and what goes first where there is no room."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paigeant_console.feed.status import FeedStatus, Phase
from paigeant_console.model.status import Place, context_pieces
from paigeant_console.model.text import fit_line
from paigeant_console.safe_text import literal
from tests.console.story_rows import plain

LIVE = FeedStatus(Phase.LIVE)
HERE = Place(context=literal(""), url=literal("redis://10.20.30.40:6379/0"), topic=literal("workflows"))


def line(place: Place, width: int) -> str:
    return plain(fit_line(context_pieces(place, LIVE, 0.0, width, paused=False, ascii_only=False), width))


def test_the_url_is_whole_where_there_is_room() -> None:
    said = line(HERE, 80)
    assert said.startswith("redis://10.20.30.40:6379/0  topic workflows  ")
    assert said.endswith("unsigned  0.0/s  live   WRITE ")


@pytest.mark.parametrize("width", range(40, 200, 7))
def test_nothing_is_cut_while_there_is_room(width: int) -> None:
    place = replace(HERE, url=literal("amqps://" + "very-" * 14 + "long.example.com:5671/"))
    said = line(place, width)
    assert len(said) == width
    if "…" in said:
        assert "    " not in said, "there is room left"
    assert " WRITE " in said
