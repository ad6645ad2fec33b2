"""An older whole state, a copy, and another line of a workflow: valid by their signatures, found out by the fence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from redis.asyncio import Redis

from paigeant_core import PaigeantMessage, State, Transport, Worker, WorkflowDispatcher, get_transport
from paigeant_core.admission import admit
from paigeant_core.journal import Record
from paigeant_core.names import new_id
from paigeant_core.operations import DeadLetter, Hold, Operations, Release, Retry
from paigeant_core.security.hop import Guard
from paigeant_core.transition import Place
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.types import WorkerInfo
from tests.core.bench import PATIENCE, Bench
from tests.core.security.test_attacks import Hand, Plant
from tests.core.security.test_intervention import ANN, CREW, SHOP, act, policy, serve, standing
from tests.transports.hands import until


class Scene:
    """A worker with a policy, an operator with a key, and somebody who writes to the broker."""

    def __init__(self, transport: Transport, topic: str, plant: Plant) -> None:
        self.transport = transport
        self.topic = topic
        self._plant = plant
        self.bus = Operations(transport, topic, signer=ANN, trust=policy())
        self.worker = Worker(topic, signer=CREW, trust=policy(), drain=5)
        self.gate = asyncio.Event()
        serve(self.worker, self.gate)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.worker.run(self.transport))
        try:
            yield
        finally:
            self.gate.set()
            self.worker.stop()
            await asyncio.wait_for(task, PATIENCE)

    async def dispatch(self) -> str:
        dispatcher = WorkflowDispatcher(self.transport, signer=SHOP)
        return await dispatcher.dispatch_workflow(["charge", "notify"], {"amount": 5}, topic=self.topic)

    async def publish(self, message: PaigeantMessage, **headers: object) -> bytes:
        """What nobody's transition made: these bytes, in the queue that they name."""
        changes = {"message_id": new_id(), **headers}
        message.headers = msgspec.structs.replace(message.headers, **changes)
        body = message.encode()
        await self._plant(self.topic, message.headers.activity, body)
        return body

    async def reaches(self, workflow: str, state: str) -> Record:
        async def there() -> bool:
            return (await standing(self.bus, workflow)).state == state

        await until(there, f"{workflow} never was {state}")
        return (await standing(self.bus, workflow)).record

    async def code_of(self, body: bytes) -> str:
        """Why it went to quarantine."""

        async def there() -> Record | None:
            found = await self.transport.parked(self.topic, Place.QUARANTINE)
            return next((record for record in found if record.body == body), None)

        found = await until(there, "it was let in")
        assert isinstance(found, Record)
        return str(found.detail["code"])


@pytest.fixture(params=["memory", "redis", "rabbitmq"])
async def scene(request: pytest.FixtureRequest, topic: str) -> AsyncIterator[Scene]:
    name = {"memory": None, "redis": "redis_url", "rabbitmq": "rabbit_url"}[request.param]
    url = f"memory://{new_id()}" if name is None else str(request.getfixturevalue(name))
    async with get_transport(url) as transport, Hand(request.param, url, transport) as plant:
        yield Scene(transport, topic, plant)


async def _message(scene: Scene, workflow: str) -> PaigeantMessage:
    return (await standing(scene.bus, workflow)).message()


async def test_an_older_whole_state_that_is_published_again_is_a_rollback(scene: Scene) -> None:
    workflow = await scene.dispatch()
    old = await _message(scene, workflow)
    scene.gate.set()
    async with scene.serving():
        await scene.reaches(workflow, State.COMPLETED)
        body = await scene.publish(old, epoch=2)
        assert await scene.code_of(body) == "rollback"
    assert (await standing(scene.bus, workflow)).state == State.COMPLETED


async def test_another_line_of_the_workflow_is_a_fork(scene: Scene) -> None:
    workflow = await scene.dispatch()
    now = await standing(scene.bus, workflow)
    # Signed, and never taken: another operator was first.
    lost = scene.bus.pen.sealed(
        Retry().apply(now, scene.transport.clock.now(), {"reason": "because"}),
        Retry(),
        now,
        reason="because",
        operation_id="lost",
        at=scene.transport.clock.now(),
    )
    assert lost.record.message is not None
    await act(scene.bus, Hold(), workflow)
    scene.gate.set()
    async with scene.serving():
        assert await scene.code_of(await scene.publish(lost.record.message)) == "fork"
        await act(scene.bus, Release(), workflow)
        await scene.reaches(workflow, State.COMPLETED)


@pytest.mark.parametrize("scene", ["memory", "redis"], indirect=True)
async def test_a_copy_beside_the_current_one_is_a_rollback_where_the_fence_is_exact(scene: Scene) -> None:
    workflow = await scene.dispatch()
    async with scene.serving():
        await scene.reaches(workflow, State.RUNNING)
        message = await _message(scene, workflow)
        assert await scene.code_of(await scene.publish(message, message_id=message.headers.message_id)) == "rollback"
        scene.gate.set()
        await scene.reaches(workflow, State.COMPLETED)


@pytest.mark.parametrize("scene", ["memory", "redis"], indirect=True)
async def test_a_result_that_came_too_late_does_not_go_on_from_where_it_is_kept(scene: Scene) -> None:
    workflow = await scene.dispatch()
    async with scene.serving():
        await scene.reaches(workflow, State.RUNNING)
        # Without a key: the epoch rises, and nothing is signed.
        await act(Operations(scene.transport, scene.topic), DeadLetter(), workflow)
        scene.gate.set()

        async def late() -> Record | None:
            history = await scene.transport.history(scene.topic, workflow)
            return next((record for record in history if record.kind == "superseded"), None)

        record = await until(late, "nothing came too late")
        assert isinstance(record, Record)
        assert record.message is not None
        assert await scene.code_of(await scene.publish(record.message, epoch=9)) == "fork"


async def test_what_an_operator_moved_between_claim_and_run_is_no_attack() -> None:
    bench = Bench()
    transport = bench.transport
    dispatcher = WorkflowDispatcher(transport, signer=SHOP)
    workflow = await dispatcher.dispatch_workflow(["charge"], {}, topic=bench.topic)
    consumer = transport.consumer(bench.topic, WorkerInfo(worker="w", activities=("charge",)), lease=10)
    (delivery,) = await consumer.claim(1)
    bus = Operations(transport, bench.topic, signer=ANN, trust=policy())
    await act(bus, Retry(), workflow)
    guard = Guard(CREW, policy(), ["charge"])
    assert await admit(consumer, delivery, bench.topic, "w", bench.clock, guard) is None
    assert not await transport.parked(bench.topic, Place.QUARANTINE)
    (again,) = await consumer.claim(1)
    assert await admit(consumer, again, bench.topic, "w", bench.clock, guard) is not None
    await consumer.close()


async def test_a_step_whose_workflow_redis_could_not_tell_of_is_run_again(
    redis_url: str, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        get_transport(redis_url) as transport,
        Hand("redis", redis_url, transport) as plant,
        Redis.from_url(redis_url) as client,
    ):
        scene = Scene(transport, topic, plant)
        scene.worker.lease = 0.5
        workflow = await scene.dispatch()
        key = Keys(topic).workflow(workflow)
        # No hash, as a foreign program or a bad restore leaves it: every question to the fence is an error.
        await client.rename(key, f"{key}:aside")
        await client.set(key, "not a hash")

        async def told() -> bool:
            return "could not be settled" in caplog.text

        scene.gate.set()
        async with scene.serving():
            await until(told, "the step did not end")
            await client.rename(f"{key}:aside", key)
            await scene.reaches(workflow, State.COMPLETED)
