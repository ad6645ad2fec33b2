"""Chaos on RabbitMQ."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import DuplicateWorkflow, PublishUnknown
from paigeant_core.journal import Kind, Record
from paigeant_core.transports import Transport, get_transport
from paigeant_core.transports.rabbitmq import RabbitConsumer, RabbitTransport
from paigeant_core.transports.rabbitmq.publisher import Publisher
from paigeant_core.transports.types import Settled
from tests.chaos import ledger
from tests.chaos.contract import PATIENCE, ChaosContract, Scene, hold, until
from tests.chaos.crew import ROOT
from tests.chaos.grounds import RabbitGround
from tests.chaos.proxy import Proxy
from tests.chaos.storm import Plan, ride
from tests.servers import RabbitServer
from tests.transports.hands import Hands

pytestmark = pytest.mark.xdist_group("chaos")  # one after the other: each has processes of its own


class TestRabbit(ChaosContract):
    """What a broker survives that stays up."""

    @pytest.fixture
    def url(self, rabbit_url: str) -> str:
        return rabbit_url

    def stall_at_the_publish(self, transport: Transport, proxy: Proxy) -> None:
        assert isinstance(transport, RabbitTransport)
        stall_at_the_next(transport._publisher, proxy)

    @pytest.mark.parametrize("chosen", [False, True], ids=["own-id", "chosen-id"])
    async def test_a_dispatch_whose_confirm_got_lost_is_told_to_be_unknown_and_runs_once(
        self, scene: Scene, proxy: Proxy, chosen: bool
    ) -> None:
        async with self._behind(proxy, scene.url) as transport:
            transition, told = await self._dispatch_unanswered(scene, proxy, transport, chosen=chosen)
            assert isinstance(told, PublishUnknown)
            if chosen:
                with pytest.raises(DuplicateWorkflow):
                    await transport.dispatch(scene.topic, transition, chosen_id=True)
        await self._runs_once(scene)

    async def test_of_a_step_that_was_given_back_as_the_line_broke_one_copy_runs(
        self, url: str, topic: str, proxy: Proxy
    ) -> None:
        async with AsyncExitStack() as stack:
            one, two = [await stack.enter_async_context(get_transport(url)) for _ in range(2)]
            behind = await stack.enter_async_context(self._behind(proxy, url))
            workflow = await WorkflowDispatcher(one).dispatch_workflow(["a"], {}, topic=topic)
            giving, left, right = (Hands(transport, topic, "a") for transport in (behind, one, two))
            for hands in (giving, left, right):
                stack.push_async_callback(hands.consumer.close)
            given = await giving.take_one()
            assert isinstance(giving.consumer, RabbitConsumer)
            stall_at_the_next(giving.consumer._desk.publisher, proxy)
            giving_back = asyncio.create_task(giving.consumer.hand_back(given))

            async def ready(count: int) -> bool:
                return [queue.ready for queue in await one.queues(topic)] == [count]

            await until(partial(ready, 1), "it was not given back")
            await asyncio.to_thread(proxy.cut)
            # The broker has the copy that was given back, and takes back the one that it gave.
            await until(partial(ready, 2), "there are no two copies")
            await giving_back
            taken = await left.take_one()
            # While one of them runs nobody gets the other, and when it is done nobody does.
            await right.nothing(1.0)
            assert await left.finish(taken) is Settled.DONE

            async def gone() -> bool:
                await right.nothing(0.1)
                return await ready(0) and len(await two.history(topic, workflow)) == 3

            await until(gone, "the other copy was not dropped")
            kinds = [record.kind for record in await two.history(topic, workflow)]
            assert kinds == [Kind.DISPATCHED, Kind.FINISHED, Kind.SUPERSEDED]


def stall_at_the_next(publisher: Publisher, proxy: Proxy) -> None:
    """Let the next publish to an exchange of ours get through, and no confirm come back."""
    send = publisher.send

    async def stalled(items: Any, **options: Any) -> None:
        if any(item.exchange.startswith("paigeant.") for item in items):
            await publisher._open()
            await asyncio.to_thread(proxy.stall, "back")
            publisher.send = send  # type: ignore[method-assign]
        await send(items, **options)

    publisher.send = stalled  # type: ignore[method-assign]


@pytest.mark.rabbitmq
@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_nothing_is_lost_when_workers_and_rabbitmq_are_killed(tmp_path: Path) -> None:
    with RabbitGround() as broker:
        verdict = await ride(broker, Plan(kills=3, every=1.0, workflows=40), tmp_path)
    hold(verdict, tmp_path)
    assert (verdict.kills, verdict.restarts) == (3, 1)
    assert set(verdict.again) <= {"worker", "broker"}


@pytest.mark.rabbitmq
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("alarm", "raised", "lifted"),
    [("set_vm_memory_high_watermark", ("absolute", "1MB"), "0.9"), ("set_disk_free_limit", ("1000000GB",), "1MB")],
    ids=["memory", "disk"],
)
async def test_while_the_broker_is_out_of_something_all_say_that_they_wait_and_looking_goes_on(
    topic: str, tmp_path: Path, alarm: str, raised: tuple[str, ...], lifted: str
) -> None:
    async def command(*arguments: str) -> asyncio.subprocess.Process:
        environment = {**os.environ, "PAIGEANT_URL": server.url, "PAIGEANT_TOPIC": topic, "PAIGEANT_CONFIG": os.devnull}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "paigeant_console", *arguments),
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    async def looks(*arguments: str) -> str:
        process = await command(*arguments)
        async with asyncio.timeout(PATIENCE):
            out, told = await process.communicate()
        assert process.returncode == 0, told.decode()
        return out.decode()

    with RabbitServer() as server, ExitStack() as stack:
        async with get_transport(server.url) as transport:
            scene = Scene(server.url, topic, tmp_path, transport)
            stack.callback(scene.book.close)
            stack.callback(scene.crew.close)
            scene.crew.settings |= {"CHAOS_STEP_MS": "500"}
            scene.crew.start(server.url)
            await scene.dispatch("one")
            await scene.reach(Kind.FINISHED, 1)
            (running,) = await scene.dispatch("one", "two")
            await asyncio.to_thread(server.ctl, alarm, *raised)
            dispatching = await command("dispatch", "one")
            try:
                assert dispatching.stderr is not None
                async with asyncio.timeout(PATIENCE):
                    said = (await dispatching.stderr.readline()).decode()
                assert "has confirmed no publish for 5 s: it may be out of memory or disk; waiting" in said
                assert running in await looks("list")
                assert running in await looks("show", running)
                assert "one" in await looks("queues")
                assert dispatching.returncode is None
                async with asyncio.timeout(PATIENCE):
                    while "confirmed no publish" not in scene.crew.logs():  # noqa: ASYNC110 - a file
                        await asyncio.sleep(0.1)
                assert scene.crew.living() == 1
            finally:
                await asyncio.to_thread(server.ctl, alarm, lifted)
            async with asyncio.timeout(PATIENCE):
                assert await dispatching.wait() == 0
            await scene.reach(Kind.FINISHED, 3)
            assert ledger.handed_on_twice(await scene.records()) == {}
            assert ledger.started_again(scene.book.read()) == []
            assert await asyncio.to_thread(scene.crew.dismiss) == [0]


@pytest.mark.timeout(240)
async def test_many_may_begin_to_use_a_topic_at_the_same_moment(rabbit_url: str, topic: str) -> None:
    # Who reads a stream that is just being made is refused by the broker (3.10), or cut off with the whole line.
    async with AsyncExitStack() as stack:
        one, two, left, right, looking = [await stack.enter_async_context(get_transport(rabbit_url)) for _ in range(5)]

        async def look(topic: str) -> list[Record]:
            return [record async for batch in looking.records(topic) for record in batch]

        for number in range(12):
            fresh = f"{topic}-{number}"
            hands = [Hands(transport, fresh, "a") for transport in (left, right)]
            dispatching = [
                WorkflowDispatcher(transport).dispatch_workflow(["a"], {}, topic=fresh, correlation_id=f"w{index}")
                for index, transport in enumerate((one, two))
            ]
            results = await asyncio.gather(*dispatching, look(fresh), *(worker.take_one() for worker in hands))
            assert results[:2] == ["w0", "w1"]
            for worker in hands:
                await worker.consumer.close()
