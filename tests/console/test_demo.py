"""The demo is signed: every message of it holds under the policy that its console has."""

from __future__ import annotations

import asyncio

from paigeant_console.demo import play
from paigeant_console.demo_keys import Keys
from paigeant_console.model.trust import VALID, examine
from paigeant_core.journal import Kind, Record
from paigeant_core.names import new_id
from paigeant_core.operations import Hold, Operations
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from tests.transports.hands import until


async def test_the_demo_runs_signed_and_its_operator_too() -> None:
    keys = Keys()
    transport = MemoryTransport(new_id(), broker=MemoryBroker())
    playing = asyncio.create_task(play(transport, "t", keys=keys))

    async def advanced() -> Record | None:
        async for batch in transport.records("t"):
            for record in batch:
                if record.kind == Kind.ADVANCED:
                    return record
        return None

    record = await until(advanced, "no step of the demo was done")
    assert isinstance(record, Record)
    workflow = record.headers.correlation_id
    bus = Operations(transport, "t", signer=keys.of["you"], trust=keys.trust())
    report = await bus.execute(await bus.plan(Hold(), [workflow], reason="a look"))
    assert report.count("done") == 1

    async def held() -> Record | None:
        standing = await bus.standing(workflow)
        return standing.record if standing is not None and standing.state == "held" else None

    record = await until(held, "it was never held")
    playing.cancel()
    await asyncio.gather(playing, return_exceptions=True)
    assert isinstance(record, Record)
    assert record.body is not None
    found = examine(record.body, keys.trust(), record.at, record.at)
    assert (found.status, [entry.signer for entry in found.interventions]) == (VALID, ["you"])
