"""RabbitMQ: a worker whose clock is wrong says so and claims nothing, though AMQP does not tell the time."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from paigeant_core.clock import SystemClock
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.transports.rabbitmq import RabbitTransport, clocks
from tests.transports.hands import Hands, until

pytestmark = pytest.mark.xdist_group("rabbitmq")


class Settable(SystemClock):
    def __init__(self, off: float) -> None:
        self.off = off

    def now(self) -> float:
        return time.time() + self.off


@pytest.mark.parametrize("off", [-45.0, 45.0])
async def test_a_machine_whose_clock_is_off_claims_nothing_until_it_is_right(
    rabbit_url: str, topic: str, off: float, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "AGAIN", 0.05)
    monkeypatch.setattr(clocks, "_PATIENCE", 1.0)

    async def said() -> bool:
        return "clock is more than 30 s off" in caplog.text

    async with RabbitTransport(rabbit_url) as right:
        await WorkflowDispatcher(right).dispatch_workflow(["a"], {}, topic=topic)
        async with RabbitTransport(rabbit_url, clock=(clock := Settable(off))) as transport:
            hands = Hands(transport, topic, "a")
            with caplog.at_level(logging.WARNING, "paigeant"):
                claiming = asyncio.create_task(hands.take_one())
                await until(said, "it does not notice")
                assert not claiming.done()
                clock.off = 1.5
                await hands.finish(await claiming)
            # Set while it works: what has come meanwhile is left to others.
            caplog.clear()
            clock.off = off
            with caplog.at_level(logging.WARNING, "paigeant"):
                claiming = asyncio.create_task(hands.take_one())
                await WorkflowDispatcher(right).dispatch_workflow(["a"], {}, topic=topic)
                await until(said, "it does not notice that it was set")
            assert not claiming.done()
            other = Hands(right, topic, "a")
            await other.finish(await other.take_one())
            claiming.cancel()
            await asyncio.wait([claiming])
            await other.consumer.close()
            await hands.consumer.close()


async def test_a_clock_that_is_off_by_less_is_used(rabbit_url: str, topic: str) -> None:
    for off in (-25.0, 25.0):
        async with RabbitTransport(rabbit_url, clock=Settable(off)) as transport:
            await WorkflowDispatcher(transport).dispatch_workflow(["a"], {}, topic=topic)
            hands = Hands(transport, topic, "a")
            await hands.finish(await hands.take_one())
            await hands.consumer.close()
