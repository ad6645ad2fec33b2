"""When Python looks for garbage: as ever in other people's processes, seldom in the console's own."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from paigeant_console import garbage


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_a_process_that_is_not_our_own_is_left_alone() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    garbage.started()
    garbage.as_usual()
    assert (gc.get_threshold(), gc.get_freeze_count()) == before


def test_what_was_there_at_the_first_frame_is_not_looked_at_again() -> None:
    usual = gc.get_threshold()
    garbage.starting()
    assert gc.get_threshold()[0] > usual[0]
    garbage.started()
    assert gc.get_freeze_count() > 0
    assert usual[0] < gc.get_threshold()[0] < 100_000


def test_a_workers_handlers_get_what_python_does_by_itself() -> None:
    usual = gc.get_threshold()
    garbage.starting()
    garbage.as_usual()
    assert gc.get_threshold() == usual
