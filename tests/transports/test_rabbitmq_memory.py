"""RabbitMQ: what a process remembers of a stream is bounded by what the stream holds."""

from __future__ import annotations

import asyncio

import pytest

from paigeant_core.errors import DuplicateWorkflow
from paigeant_core.limits import JOURNAL_AGE
from paigeant_core.transports.rabbitmq import RabbitTransport, streams, topology
from paigeant_core.transports.rabbitmq.topology import Names
from tests.transports.on_rabbitmq import dispatch

pytestmark = [pytest.mark.xdist_group("rabbitmq"), pytest.mark.rabbitmq, pytest.mark.timeout(240)]

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that hold a few messages, and a look at what they have dropped after every few."""
    for stream in ("journal", "ids"):
        monkeypatch.setitem(topology.STREAMS, stream, topology._stream(JOURNAL_AGE, 4096, 8192))
    monkeypatch.setattr(streams, "LOOK_AFTER", 5)


async def test_an_index_forgets_the_workflows_that_its_stream_has_dropped(rabbit_url: str, topic: str) -> None:
    async with RabbitTransport(rabbit_url) as transport, RabbitTransport(rabbit_url) as fresh:
        known = transport.journal_index(Names(topic))
        first = await dispatch(transport, topic, "a")
        await known.catch_up()
        assert first in known.workflows
        async with asyncio.timeout(PATIENCE):
            last = first
            while first in known.workflows:
                for _ in range(10):
                    last = await dispatch(transport, topic, "a")
                await known.catch_up()
        assert last in known.workflows
        assert await transport.history(topic, first) == []
        assert len(await transport.history(topic, last)) == 1
        # Whoever reads the stream only now knows as much.
        assert known.workflows.keys() >= {row.headers.correlation_id for row in await fresh.newest(topic, 1000)}


async def test_chosen_ids_are_refused_again_for_as_long_as_their_stream_holds_them(rabbit_url: str, topic: str) -> None:
    async with RabbitTransport(rabbit_url) as transport:
        await dispatch(transport, topic, "a", correlation_id="id-0")
        known = transport._ids[topic].known
        number = 0
        async with asyncio.timeout(PATIENCE):
            while "id-0" in known:
                number += 1
                await dispatch(transport, topic, "a", correlation_id=f"id-{number}")
        with pytest.raises(DuplicateWorkflow):
            await dispatch(transport, topic, "a", correlation_id=f"id-{number}")
        assert len(known) < number
        await dispatch(transport, topic, "a", correlation_id="id-0")
