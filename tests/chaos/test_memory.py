"""Chaos in memory: a crash is a loop that stops in the middle."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.contract import hold
from tests.chaos.grounds import MemoryGround
from tests.chaos.storm import Plan, ride

pytestmark = pytest.mark.xdist_group("chaos")  # one after the other: each has processes of its own


async def test_nothing_is_lost_when_workers_crash(tmp_path: Path) -> None:
    with MemoryGround() as broker:
        verdict = await ride(broker, Plan(kills=4, restarts=0, every=0.7, lease=0.7), tmp_path)
    hold(verdict, tmp_path)
    assert verdict.kills == 4
    assert set(verdict.again) <= {"worker"}
