"""What activities declare of their payloads, and that operators are held to it, on every transport.

Inherited beside the transport contract, with the same fixtures.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
import pydantic

from paigeant_core.activity import ActivityContext
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.journal import State
from paigeant_core.operations import Action, Operations, Pace, Release, Replay
from paigeant_core.transports import Transport
from paigeant_core.worker import Worker
from tests.transports.contract import Connect
from tests.transports.hands import until


class Card(pydantic.BaseModel):
    """What `charge` takes."""

    amount: Annotated[int, pydantic.Field(gt=0)]


@asynccontextmanager
async def serving(transport: Transport, topic: str, model: Any, ran: list[Any]) -> AsyncIterator[None]:
    """A worker whose `validate` holds and whose `charge` declares a model."""
    worker = Worker(topic=topic, name="shop", drain=1)

    @worker.activity("validate")
    async def validate(ctx: ActivityContext) -> None:
        if ctx.payload.get("ask"):
            ctx.hold("a person has to say")

    @worker.activity("charge", payload=model)
    async def charge(ctx: ActivityContext) -> None:
        ran.append(None if model is None else ctx.data)

    task = asyncio.create_task(worker.run(transport))
    try:
        yield
    finally:
        worker.stop()
        await task


class SchemasContract:
    """Schemas are announced by workers, kept by the broker and gone by in preflight."""

    async def _ordered(self, transport: Transport, topic: str, **variables: Any) -> str:
        return await WorkflowDispatcher(transport).dispatch_workflow(["validate", "charge"], variables, topic=topic)

    async def _stands(self, operations: Operations, workflow: str, state: State) -> None:
        async def there() -> bool:
            standing = await operations.standing(workflow)
            return standing is not None and standing.state == state

        await until(there, f"{workflow} never was {state}")

    async def test_a_worker_announces_its_models_and_takes_them_back(self, connect: Connect, topic: str) -> None:
        transport, console = await connect(), await connect()
        assert await console.schemas(topic) == {}
        ran: list[Any] = []

        async def one(model: Any) -> dict[str, bytes]:
            async with serving(transport, topic, model, ran):
                workflow = await self._ordered(transport, topic, amount=5)
                await self._stands(Operations(transport, topic), workflow, State.COMPLETED)
            # It stays when the worker is gone, and whoever connects later is told.
            found = await console.schemas(topic)
            assert await (await connect()).schemas(topic) == found
            return found

        announced = await one(Card)
        assert announced.keys() == {"charge"}
        assert msgspec.json.decode(announced["charge"])["required"] == ["amount"]
        assert await one(Card) == announced
        assert msgspec.json.decode((await one(dict[str, int]))["charge"])["additionalProperties"] == {"type": "integer"}
        assert await one(None) == {}
        assert ran == [Card(amount=5), Card(amount=5), {"amount": 5}, None]
        await transport.announce(topic, {"charge": announced["charge"], "other": b"{}"})
        await Operations(console, topic).delete_topic(reason="it was a test")
        assert await (await connect()).schemas(topic) == {}

    async def test_a_payload_that_breaks_it_is_refused_before_anything_is_published(
        self, connect: Connect, topic: str
    ) -> None:
        transport, console = await connect(), await connect()
        operations = Operations(console, topic, operator="ann@desk")
        ran: list[Any] = []
        async with serving(transport, topic, Card, ran):
            dead = await self._ordered(transport, topic, amount=-5, secret="hunter2")
            held = await self._ordered(transport, topic, ask=True)
            await self._stands(operations, dead, State.DEAD)
            await self._stands(operations, held, State.HELD)
            assert ran == []
            last = (await console.history(topic, dead))[-1]
            assert last.detail["reason"] == "payload_invalid"
            assert last.headers.attempt == 1
            rule = "payload.amount: Input should be greater than 0"
            assert last.detail["error"] == {
                "type": "PayloadInvalid",
                "message": f"the payload does not fit the model of charge: {rule}",
            }
            length = {item: len(await console.history(topic, item)) for item in (dead, held)}
            edits: list[tuple[Action, str, str]] = [
                (Replay(changes={"amount": "hunter3"}), dead, "payload.amount must be of type integer"),
                (Replay(payload=b'{"amount":0}'), dead, "payload.amount must be above 0"),
                (Replay(payload=b'{"other":"hunter3"}', as_new=True), dead, "payload.amount is missing"),
                (Release({"note": "hunter3"}), held, "payload.amount is missing"),
            ]
            for action, workflow, rule in edits:
                plan = await operations.plan(action, [workflow], reason="a test")
                (line,) = plan.lines
                assert (line.eligible, line.why) == (False, f"{rule}, by the payload model of charge")
                (result,) = (await operations.execute(plan)).results
                assert (result.outcome, result.reason) == ("skipped", line.why)
                assert len(await console.history(topic, workflow)) == length[workflow]
            # One that takes its time looks again at each.
            plan = await operations.plan(edits[0][0], [dead], reason="a test")
            report = await (await operations.start(plan, Pace(rate=50))).go()
            assert [result.outcome for result in report.results] == ["skipped"]
            # A step before it takes anything; what fits is let through.
            plan = await operations.plan(Replay(from_step="validate", changes={"x": 1}), [dead], reason="a test")
            assert plan.eligible == 1
            for action, workflow in ((Replay(changes={"amount": 5}), dead), (Release({"amount": 6}), held)):
                await operations.execute(await operations.plan(action, [workflow], reason="mended"))
                await self._stands(operations, workflow, State.COMPLETED)
        assert [data.amount for data in ran] == [5, 6]
