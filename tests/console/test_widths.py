"""What columns get on narrow and wide screens, and where the order is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from paigeant_console.actions import Situation
from paigeant_console.feed import FeedStatus, Phase
from paigeant_console.model.help_text import help_lines
from paigeant_console.model.looks import STATES
from paigeant_console.model.status import feed_sentence
from paigeant_console.model.tables import worker_rows
from paigeant_console.model.workflow_list import ORDERS, one_line
from paigeant_console.safe_text import literal
from paigeant_console.widgets.columns import fit_columns
from paigeant_console.widgets.workflow_table import _layout
from paigeant_core.transports.types import Holding, WorkerInfo, WorkerStatus
from tests.console.appkit import console
from tests.console.story import sample_story
from tests.console.story_rows import plain


def test_what_is_free_goes_to_the_reason() -> None:
    def room(width: int) -> int:
        names, columns = _layout(width, dead=False, state=13)
        return {names[index]: cells for index, cells in fit_columns(columns, width - 2)}["why"]

    assert room(200) >= 50
    assert room(260) == room(200) + 60


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_an_arrow_stands_at_the_column_that_rows_are_ordered_by(tmp_path: Path, size: tuple[int, int]) -> None:
    headings = {
        "created": "AGE",
        "updated": "SINCE",
        "state": "STATE",
        "name": "NAME",
        "activity": "SLIP",
        "attempts": "TRY",
    }
    async with console(sample_story(), tmp_path, size=size) as opened:
        for order in (*ORDERS[1:], ORDERS[0]):
            await opened.press("o")
            assert [word for word in opened.lines()[2].split() if "↓" in word] == [f"{headings[order]}↓"]
        await opened.press("O")
        assert "AGE↑" in opened.lines()[2].split()


def test_a_worker_tells_whole_ids_where_there_is_room() -> None:
    info = WorkerInfo(worker="w1", activities=("slow",), concurrency=4)
    running = tuple(
        Holding(correlation_id=f"slow-000{number}", activity="slow", hop=1, run=1, attempt=1, epoch=1, since=0.0)
        for number in range(3)
    )
    status = WorkerStatus(info=info, running=running, last_seen_s=1.0)

    def runs(room: int) -> str:
        return plain(worker_rows([status], 5.0, room=room, ascii_only=False)[0][1][-1])

    assert runs(100) == "slow 00:05 slow-0000, slow 00:05 slow-0001, slow 00:05 slow-0002"
    assert "sl…-0001" in runs(20)


def test_no_two_states_have_one_sign() -> None:
    for ascii_only in (False, True):
        marks = [look.mark(ascii_only) for look in STATES.values()]
        assert len(set(marks)) == len(marks)


async def test_the_help_says_how_to_go_on_and_to_leave(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(80, 24)) as opened:
        await opened.press("?")
        assert "PgDn goes on below, q leaves the help" in opened.text()
        lines = help_lines(Situation("workflows"), literal("x"), 80, ascii_only=False)
        signs = [" ".join(one_line(line).split()) for line in lines]
        assert {"✗ dead", "⊗ undo failed", "↶ compensating, undone"} <= set(signs)
        assert any(sign.startswith("! behind a state") for sign in signs)


async def test_what_the_palette_found_is_next_to_what_is_typed(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(80, 24)) as opened:
        await opened.press("ctrl+p")
        await opened.type("theme")
        assert ":theme" in opened.lines()[-3]


async def test_times_say_their_zone_on_every_page(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(120, 40)) as opened:
        await opened.press("5")
        assert opened.text().count("AT UTC") == 2
        await opened.press("4", "enter")
        await opened.shows("AT UTC")


def test_a_line_that_never_stood_is_not_called_lost() -> None:
    said = feed_sentence(FeedStatus(Phase.RECONNECTING, reason="nobody answers", retry_in=5, met=False), 0.0)
    assert said == "not connected yet: nobody answers; next try in 5s"
