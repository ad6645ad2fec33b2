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


def test_everything_is_looked_at_where_nobody_types_and_enough_was_made() -> None:
    garbage.starting()
    garbage.started()
    gc.collect()
    for _ in range(garbage._ENOUGH - 1):
        gc.collect(1)
    garbage.between_keys(garbage.QUIET_S)
    assert gc.get_count()[2] == garbage._ENOUGH - 1, "too little was made"
    gc.collect(1)
    garbage.between_keys(garbage.QUIET_S - 0.1)
    assert gc.get_count()[2] == garbage._ENOUGH, "somebody types"
    garbage.between_keys(garbage.QUIET_S)
    assert gc.get_count()[2] == 0


def test_what_was_made_lately_is_looked_at_between_keys() -> None:
    garbage.starting()
    garbage.started()
    gc.collect()
    made: list[list[int]] = [[] for _ in range(garbage._NEW - 1_000)]
    garbage.between_keys(garbage.PAUSE_S)
    assert gc.get_count()[0] >= len(made), "too little was made"
    made += [[] for _ in range(1_000)]
    garbage.between_keys(garbage.PAUSE_S - 0.1)
    assert gc.get_count()[0] >= len(made), "a key is being painted"
    garbage.between_keys(garbage.PAUSE_S)
    assert gc.get_count()[0] < garbage._NEW
    assert gc.get_count()[2] == 1


def test_a_workers_handlers_get_what_python_does_by_itself() -> None:
    usual = gc.get_threshold()
    garbage.starting()
    garbage.as_usual()
    assert gc.get_threshold() == usual
