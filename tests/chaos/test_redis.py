"""Chaos on Redis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from paigeant_core.transports import Transport
from paigeant_core.transports.redis import RedisTransport
from tests.chaos.contract import ChaosContract, Scene, hold
from tests.chaos.grounds import RedisEverysecGround, RedisGround
from tests.chaos.proxy import Proxy
from tests.chaos.storm import Plan, ride

pytestmark = pytest.mark.xdist_group("chaos")  # one after the other: each has processes of its own


class TestRedis(ChaosContract):
    """What a broker survives that stays up."""

    @pytest.fixture
    def url(self, redis_url: str) -> str:
        return redis_url

    def stall_at_the_publish(self, transport: Transport, proxy: Proxy) -> None:
        assert isinstance(transport, RedisTransport)
        proxy.stall("back")

    async def test_a_dispatch_whose_answer_got_lost_is_repeated_and_stored_once(
        self, scene: Scene, proxy: Proxy
    ) -> None:
        async with self._behind(proxy, scene.url) as transport:
            transition, told = await self._dispatch_unanswered(scene, proxy, transport, chosen=True)
            assert told is None
            # And whoever repeats it all the same changes nothing.
            await transport.dispatch(scene.topic, transition, chosen_id=True)
        await self._runs_once(scene)


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("ground", "fault"),
    [(RedisGround, "kill"), (RedisEverysecGround, "kill"), (RedisEverysecGround, "power"), (RedisGround, "clock")],
    ids=["always", "everysec", "everysec-power", "always-clocks"],
)
async def test_nothing_is_lost_when_workers_and_redis_are_killed(
    ground: type[RedisGround], fault: str, tmp_path: Path
) -> None:
    with ground() as broker:
        verdict = await ride(broker, Plan(fault=fault, kills=3, every=0.7), tmp_path)
    hold(verdict, tmp_path)
    assert (verdict.kills, verdict.restarts) == (3, 1)
    causes: dict[str, Any] = {"power": {"worker", "broker"}}
    assert set(verdict.again) <= causes.get(fault, {"worker"})
