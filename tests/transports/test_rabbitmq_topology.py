"""RabbitMQ: what stands on the broker for a topic, and the ladder of its delays."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from paigeant_core import transition as moves
from paigeant_core.errors import InvalidMessage
from paigeant_core.limits import JOURNAL_BYTES
from paigeant_core.transports.rabbitmq.connection import Channel
from paigeant_core.transports.rabbitmq.topology import RUNGS, STREAMS, Names, rung_for
from tests.servers import SharedServer
from tests.settable_clock import SettableClock
from tests.transports import on_rabbitmq
from tests.transports.on_rabbitmq import dispatch, hands, kinds

pytestmark = pytest.mark.xdist_group("rabbitmq")

channel = on_rabbitmq.channel
connect = on_rabbitmq.connect


# -- what stands on the broker --------------------------------------------------------------


async def test_names_and_arguments_of_what_a_topic_has(connect: Any, topic: str, rabbit_server: SharedServer) -> None:
    transport = await connect()
    await dispatch(transport, topic, "a", "b", correlation_id="mine")
    async with hands(transport, topic, "a", "b") as worker:
        await worker.fail(await worker.take_one(), delay=0.1)
        await worker.bury(await worker.take_one())
        await transport.append_audit(topic, b"{}")
        async with httpx.AsyncClient(auth=("guest", "guest"), base_url=rabbit_server.management_url or "") as api:
            queues = {item["name"]: item for item in (await api.get("/api/queues/%2F")).json()}
            exchanges = {item["name"]: item for item in (await api.get("/api/exchanges/%2F")).json()}
            bindings = {
                (item["source"], item["routing_key"], item["destination"])
                for item in (await api.get("/api/bindings/%2F")).json()
            }
    base = f"paigeant.{topic}"
    mine = {name.removeprefix(base + ".") for name in queues if name.startswith(base + ".")}
    marks = {name for name in mine if name.startswith("boot.")}
    # They tell of a node's death by what does not survive it; RabbitMQ 4.3 takes no queue that does not.
    kinds_of = [(queues[f"{base}.{name}"]["durable"], queues[f"{base}.{name}"]["type"]) for name in marks]
    assert kinds_of == [(True, "classic"), (True, "classic")]
    assert {queues[f"{base}.{name}"]["arguments"]["x-expires"] for name in marks} == {7 * 86_400_000}
    assert mine - marks == {"work.a", "work.b", "journal", "dead", "fence", "ids", "audit", "workers", "delay.100"}
    for name in mine & STREAMS.keys():
        assert queues[f"{base}.{name}"]["type"] == "stream"
        assert queues[f"{base}.{name}"]["arguments"] == STREAMS[name]
    assert STREAMS["journal"]["x-max-length-bytes"] == JOURNAL_BYTES
    assert (STREAMS["journal"]["x-max-age"], STREAMS["dead"]["x-max-age"]) == ("7D", "90D")
    assert queues[f"{base}.work.a"]["type"] == "quorum"
    rung = queues[f"{base}.delay.100"]
    assert rung["type"] == "quorum"
    assert rung["arguments"]["x-message-ttl"] == 100
    assert rung["arguments"]["x-dead-letter-exchange"] == f"{base}.due"
    assert rung["arguments"]["x-dead-letter-strategy"] == "at-least-once"
    assert rung["arguments"]["x-overflow"] == "reject-publish"
    assert (exchanges[base]["type"], exchanges[base]["durable"]) == ("topic", True)
    assert (exchanges[f"{base}.due"]["type"], exchanges[f"{base}.delay"]["type"]) == ("direct", "topic")
    assert {
        (base, "#", f"{base}.journal"),
        (base, "work.a", f"{base}.work.a"),
        (base, "dead.#", f"{base}.dead"),
        (base, "fence", f"{base}.fence"),
        (base, "ids", f"{base}.ids"),
        (base, "delay.100.#", f"{base}.delay.100"),
        (f"{base}.delay", "delay.100.#", f"{base}.delay.100"),
        (f"{base}.due", "delay.100.a", f"{base}.work.a"),
        (f"{base}.due", "work.a", f"{base}.work.a"),
    } <= bindings
    # What comes due and who lives is not in the journal.
    assert not [key for source, key, name in bindings if name == f"{base}.journal" and source not in ("", base)]
    assert not [key for source, key, name in bindings if name == f"{base}.workers" and source]


async def test_what_rabbitmqs_own_pages_show_of_a_message(connect: Any, topic: str, channel: Channel) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a")
    message = await channel.basic_get(f"paigeant.{topic}.work.a")
    properties = message.header.properties
    assert (properties.app_id, properties.message_type, properties.delivery_mode) == ("paigeant", "dispatched", 2)
    assert properties.correlation_id == workflow
    assert b'"kind":"dispatched"' in str((properties.headers or {})["r"]).encode()
    (record,) = await transport.history(topic, workflow)
    assert properties.message_id == record.id
    assert message.body == record.body


@pytest.mark.parametrize("name", ["a.work", "a.work.b", "x.delay", "x.due.y", "a.journal"])
async def test_a_topic_whose_queues_could_be_anothers_is_refused(connect: Any, name: str) -> None:
    transport = await connect()
    with pytest.raises(InvalidMessage, match="between dots"):
        await dispatch(transport, name, "a")


def test_a_topic_may_be_called_work() -> None:
    assert Names("work").work("a") == "paigeant.work.work.a"


# -- the ladder -----------------------------------------------------------------------------


def test_a_delay_takes_the_longest_rung_that_is_no_longer() -> None:
    assert [rung_for(seconds) for seconds in (0, 0.04, 0.05, 0.1, 0.19, 0.2, 0.999, 1, 59, 86_400, 1e9)] == [
        None, None, 100, 100, 100, 200, 500, 1000, 50_000, 86_400_000, 86_400_000,
    ]  # fmt: skip
    assert list(RUNGS) == sorted(set(RUNGS))


async def test_a_delay_of_several_rungs_is_journalled_once_and_kept_to(
    connect: Any, topic: str, channel: Channel
) -> None:
    transport = await connect()
    workflow = await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        # What is left after the first rung is measured anew: there is room for a slow machine.
        await worker.fail(await worker.take_one(), delay=3.9)
        failed_at = (await transport.history(topic, workflow))[-1].at
        again = await worker.take_one()
        waited = transport.clock.now() - failed_at
        assert again.message is not None
        assert (again.message.headers.attempt, again.deaths) == (2, 0)
        assert waited >= 3.89
        await worker.finish(again)
    assert await kinds(transport, topic, workflow) == ["dispatched", "retrying", "finished"]
    for rung in (2000, 1000):
        await channel.queue_declare(f"paigeant.{topic}.delay.{rung}", passive=True)


async def test_two_clocks_that_differ_do_not_prolong_a_delay(connect: Any, topic: str) -> None:
    transport, slow = await connect(), await connect()
    slow.clock = SettableClock(-20.0)
    await dispatch(transport, topic, "a")
    async with hands(transport, topic, "a") as worker:
        await worker.fail(await worker.take_one(), delay=0.3)
        failed = time.monotonic()
    async with hands(slow, topic, "a") as heir:
        await heir.finish(await heir.take_one())
    assert time.monotonic() - failed < 15


async def test_what_waits_in_the_ladder_comes_to_a_queue_that_was_made_anew_meanwhile(
    connect: Any, topic: str, channel: Channel
) -> None:
    transport, other = await connect(), await connect()
    names = Names(topic)
    await dispatch(transport, topic, "a")
    async with hands(other, topic, "a") as worker:
        delivery = await worker.take_one()
        assert delivery.message is not None
        again = moves.retry(delivery.message, ValueError("no"), 0.5, worker.span())
    await transport._topology.rung(names, 500, "a")
    await channel.queue_delete(names.work("a"))
    # This one still knows the queue, as whoever published before that; the rung is there, and takes it.
    await transport._publish(names, again, ())
    async with hands(other, topic, "a") as heir:
        following = await heir.take_one()
        assert following.message is not None
        assert following.message.headers.attempt == 2
        await heir.finish(following)
