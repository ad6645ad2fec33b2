"""The attack matrix: every attack on every broker with both algorithms, through a real worker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiormq
import msgspec
import pytest
from pamqp.commands import Basic
from redis.asyncio import Redis

from paigeant_core import ActivityContext, PaigeantMessage, Transport, Worker, WorkflowDispatcher, get_transport
from paigeant_core.names import new_id
from paigeant_core.security.hop import Guard
from paigeant_core.security.records import digest
from paigeant_core.security.refusal import Code
from paigeant_core.transition import Place
from paigeant_core.transports.memory import MemoryTransport
from paigeant_core.transports.redis.keys import Keys
from tests.core.bench import PATIENCE
from tests.core.security.attacks import ATTACKS, Scene
from tests.core.security.kit import PAID, PAYLOAD, People, Story
from tests.transports.hands import until

UNDER_WAY = "under-way"
UNDER_WAY_CODES = {"rollback": Code.ROLLBACK, "fork": Code.FORK, "current": Code.BODY_DIGEST}
"""Attacks on a workflow of which a step is done and the next one runs; it goes on all the same."""
Plant = Callable[[str, str, bytes], Awaitable[object]]


@pytest.fixture(params=["memory", "redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> tuple[str, str]:
    name = {"memory": None, "redis": "redis_url", "rabbitmq": "rabbit_url"}[request.param]
    url = f"memory://{new_id()}" if name is None else str(request.getfixturevalue(name))
    return request.param, url


class Hand:
    """Somebody who writes straight into a queue of the broker, past the library."""

    def __init__(self, kind: str, url: str, transport: Transport) -> None:
        self.kind = kind
        self.url = url
        self.transport = transport

    async def __aenter__(self) -> Plant:
        if isinstance(self.transport, MemoryTransport):
            return self._memory
        if self.kind == "redis":
            self._client = Redis.from_url(self.url)
            return self._redis
        self._connection = await aiormq.connect(self.url)
        self._channel = await self._connection.channel()
        return self._rabbit

    async def __aexit__(self, *_: object) -> None:
        if self.kind == "redis":
            await self._client.aclose()
        elif self.kind == "rabbitmq":
            await self._connection.close()

    async def _memory(self, topic: str, activity: str, body: bytes) -> None:
        assert isinstance(self.transport, MemoryTransport)
        with self.transport.broker.topic(topic, wake=True) as state:
            state.put(activity, body)

    async def _redis(self, topic: str, activity: str, body: bytes) -> None:
        await self._client.xadd(Keys(topic).work(activity), {"m": body})

    async def _rabbit(self, topic: str, activity: str, body: bytes) -> None:
        properties = Basic.Properties(delivery_mode=2)
        await self._channel.basic_publish(body, routing_key=f"paigeant.{topic}.work.{activity}", properties=properties)


def _payments(people: People, topic: str, ran: list[str], gate: asyncio.Event) -> Worker:
    """Runs what it is given; `notify` of the workflow that is attacked under way waits for the gate."""
    worker = Worker(topic, signer=people.keys["payments"], trust=people.trust())

    async def handler(ctx: ActivityContext) -> dict[str, Any]:
        headers = ctx.message.headers
        if (headers.correlation_id, headers.activity) == (UNDER_WAY, "notify"):
            await gate.wait()
        ran.append(f"{headers.correlation_id} {headers.activity}")
        return {"paid": True}

    for activity in ("charge", "notify", "review"):
        worker.activity(activity)(handler)
    return worker


def _older(first: PaigeantMessage) -> PaigeantMessage:
    """The first message of a workflow that stands at its second step, as if an operator had sent it again."""
    first.headers = msgspec.structs.replace(first.headers, message_id="older", epoch=3)
    return first


def _other_line(people: People, first: PaigeantMessage, at: int) -> PaigeantMessage:
    """Another second message: whoever has the worker's key can sign another result of the same step."""
    story = Story(people, UNDER_WAY)
    story.at, story.records = at, list(first.records)
    story.step("payments", "charge", 1, out=digest(PAID))
    slip = story.verify(at).slip
    headers = msgspec.structs.replace(first.headers, message_id="other", epoch=3, activity="notify", hop=2)
    return PaigeantMessage(headers, slip, PAID, records=story.records)


def _forged(current: PaigeantMessage) -> PaigeantMessage:
    """The very message that is being run, by all its IDs, with another payload."""
    current.payload = {"amount": 5000}
    return current


def test_the_matrix_is_whole() -> None:
    """Of the 36 attacks that the design names, rollback and fork need a hop that was done: they are made under way."""
    assert len(ATTACKS) >= 34
    assert {attack.code for attack in ATTACKS.values()} <= set(Code)


def test_what_the_attacks_begin_with_is_let_in(people: People) -> None:
    """Else an attack could be refused for the honest part of it."""
    at = int(time.time())
    scene = Scene(people, "t", at, "honest")
    for story in (scene.bare(), scene.story(), scene.story().operate("ann", "retry")):
        message = PaigeantMessage.decode(scene.message(story).encode())
        Guard(people.keys["payments"], people.trust(), ["charge"]).verify(message, at)


async def test_every_attack_is_quarantined_byte_for_byte_under_its_code_and_nothing_runs(
    people: People, broker: tuple[str, str], topic: str
) -> None:
    at = int(time.time())
    forged = {name: attack.forge(Scene(people, topic, at, name)) for name, attack in ATTACKS.items()}
    bodies = {name: message.encode() for name, message in forged.items()}
    assert len(set(bodies.values())) == len(bodies)
    ran: list[str] = []
    gate = asyncio.Event()
    worker = _payments(people, topic, ran, gate)
    async with get_transport(broker[1]) as transport, Hand(*broker, transport) as plant:
        dispatcher = WorkflowDispatcher(transport, signer=people.keys["shop"])

        async def start(workflow: str | None = None) -> str:
            steps = ["charge", "notify"]
            return await dispatcher.dispatch_workflow(steps, PAYLOAD, topic=topic, correlation_id=workflow)

        async def reaches(workflow: str, *kinds: str) -> None:
            async def there() -> bool:
                return [record.kind for record in await transport.history(topic, workflow)] == [*kinds]

            await until(there, f"{workflow} did not reach {kinds[-1]}")

        task = asyncio.create_task(worker.run(transport))
        await start(UNDER_WAY)
        await reaches(UNDER_WAY, "dispatched", "advanced")
        first, current = [record.body for record in await transport.history(topic, UNDER_WAY)]
        assert first is not None
        assert current is not None
        forged["rollback"] = _older(PaigeantMessage.decode(first))
        forged["fork"] = _other_line(people, PaigeantMessage.decode(first), int(transport.clock.now()))
        forged["current"] = _forged(PaigeantMessage.decode(current))
        for name in UNDER_WAY_CODES:
            bodies[name] = forged[name].encode()
        for name, message in forged.items():
            queue = ATTACKS[name].queue if name in ATTACKS else ""
            await plant(topic, queue or message.headers.activity, bodies[name])

        async def all_there() -> bool:
            return len(await transport.parked(topic, Place.QUARANTINE, limit=500)) >= len(bodies)

        with contextlib.suppress(TimeoutError):  # said below, by name
            await until(all_there, "")
        gate.set()
        last = await start()
        for workflow in (UNDER_WAY, last):
            await reaches(workflow, "dispatched", "advanced", "finished")
        assert not task.done()
        found = {record.body: record for record in await transport.parked(topic, Place.QUARANTINE, limit=500)}
        worker.stop()
        await asyncio.wait_for(task, PATIENCE)
    codes = {name: found[body].detail["code"] if body in found else "let in" for name, body in bodies.items()}
    expected = {name: attack.code for name, attack in ATTACKS.items()}
    assert codes == expected | UNDER_WAY_CODES
    assert set(found) == set(bodies.values())
    assert sorted(ran) == sorted(
        f"{workflow} {step}" for workflow in (UNDER_WAY, last) for step in ("charge", "notify")
    )
