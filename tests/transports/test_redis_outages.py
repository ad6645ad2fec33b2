"""Redis: servers that go away, forget, say nothing or are full."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from paigeant_core.errors import ConnectError, DuplicateWorkflow, PublishError, PublishUnknown, TransportError
from paigeant_core.journal import Kind, Record, State
from paigeant_core.operations import Cancel, Operations, OperationState, Pace, Retry, Running
from paigeant_core.operations import run as run_module
from paigeant_core.transports.redis import RedisTransport
from paigeant_core.transports.redis import consumer as consumer_module
from paigeant_core.transports.redis import lease as lease_module
from paigeant_core.transports.redis.connection import Lines, ThreadLine
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.scripts import LOST
from paigeant_core.transports.types import Delivery, Settled, WorkerInfo, worker_record
from tests.chaos.proxy import Proxy, port_of
from tests.servers import RedisServer
from tests.transports.hands import Hands, until
from tests.transports.on_redis import dispatch, states


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server that a test may kill; what it was told survives."""
    with RedisServer(appendonly=True, appendfsync="always") as private:
        yield private


async def test_scripts_that_the_server_forgot_are_given_to_it_again(server: RedisServer, topic: str) -> None:
    async with RedisTransport(server.url) as transport:
        await dispatch(transport, topic, "a", "b")
        hands = Hands(transport, topic, "a", "b")
        delivery = await hands.take_one()
        server.cli("SCRIPT", "FLUSH")
        assert await hands.finish(delivery) is Settled.DONE
        following = await hands.take_one()
        server.cli("SCRIPT", "FLUSH")
        await dispatch(transport, topic, "a")
        assert await hands.finish(following) is Settled.DONE
        await hands.consumer.close()


async def test_a_restarted_server_is_waited_for_and_the_work_goes_on(
    server: RedisServer, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with RedisTransport(server.url) as transport:
        workflows = [await dispatch(transport, topic, "a") for _ in range(3)]
        hands = Hands(transport, topic, "a")
        held = [await hands.take_one() for _ in range(2)]
        asking = asyncio.create_task(hands.take_one())
        await asyncio.sleep(0.2)
        third = await asking
        asking = asyncio.create_task(hands.take_one())
        with caplog.at_level(logging.INFO, "paigeant"):
            await asyncio.to_thread(server.kill)
            settling = [asyncio.create_task(hands.finish(delivery)) for delivery in (*held, third)]
            await asyncio.sleep(0.7)
            assert not any(task.done() for task in settling)
            await asyncio.to_thread(server.restart)
            assert await asyncio.gather(*settling) == [Settled.DONE] * 3
            workflows.append(await dispatch(transport, topic, "a"))
            assert await hands.finish(await asking) is Settled.DONE
        for workflow in workflows:
            assert await states(transport, topic, workflow) == [State.QUEUED, State.COMPLETED]
        said = [record.getMessage() for record in caplog.records if "trying again" in record.getMessage()]
        assert 1 <= len(said) <= 6  # of the pump, the waiting read and the heartbeat, not of every try
        assert any("back on the line" in record.getMessage() for record in caplog.records)
        await hands.consumer.close()


async def test_a_server_that_lost_its_data_is_worked_with_again(topic: str) -> None:
    with RedisServer() as server:
        async with RedisTransport(server.url) as transport:
            await dispatch(transport, topic, "a", "b")
            hands = Hands(transport, topic, "a", "b")
            await hands.finish(await hands.take_one())
            await asyncio.to_thread(server.restart)
            second = await dispatch(transport, topic, "a", "b")
            await hands.finish(await hands.take_one())
            await hands.finish(await hands.take_one())
            assert (await states(transport, topic, second))[-1] == State.COMPLETED
            assert [queue.activity for queue in await transport.queues(topic)] == ["a", "b"]
            await hands.consumer.close()


@pytest.mark.parametrize("all_of_it", [False, True], ids=["stream", "all"])
async def test_a_worker_that_waits_for_work_survives_that_its_queue_is_deleted(topic: str, all_of_it: bool) -> None:
    with RedisServer() as server:
        async with RedisTransport(server.url) as transport:
            hands = Hands(transport, topic, "a", "b")
            asking = asyncio.create_task(hands.take_one())

            def waits() -> None:
                while " flags=b " not in server.cli("CLIENT", "LIST"):
                    time.sleep(0.05)

            for _ in range(2):
                await asyncio.to_thread(waits)
                await asyncio.to_thread(server.cli, *(("FLUSHALL",) if all_of_it else ("DEL", Keys(topic).work("a"))))
                await asyncio.sleep(0.1)
                assert not asking.done()
            workflow = await dispatch(transport, topic, "a", "b")
            assert await hands.finish(await asking) is Settled.DONE
            assert await hands.finish(await hands.take_one()) is Settled.DONE
            assert (await states(transport, topic, workflow))[-1] == State.COMPLETED
            await hands.consumer.close()


async def test_a_settle_on_a_silent_server_is_repeated_and_stored_once(server: RedisServer, topic: str) -> None:
    """The server stops answering in the middle: what it had taken is not done twice."""
    import os
    import signal

    async with RedisTransport(f"{server.url}?socket_timeout=0.5") as transport:
        workflow = await dispatch(transport, topic, "a", "b")
        hands = Hands(transport, topic, "a", lease=60)
        delivery = await hands.take_one()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        settling = asyncio.create_task(hands.finish(delivery))
        await asyncio.sleep(1.5)
        assert not settling.done()
        os.kill(server.pid, signal.SIGCONT)
        assert await settling in (Settled.DONE, Settled.ALREADY)
        assert len(await transport.history(topic, workflow)) == 2
        await hands.consumer.close()


async def test_a_dispatch_without_an_answer_says_that_it_may_have_been_done(
    server: RedisServer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    monkeypatch.setattr(Lines, "PATIENCE", 0.5)
    async with RedisTransport(f"{server.url}?socket_timeout=0.3") as transport:
        await dispatch(transport, topic, "a")  # so that the server knows the script
        assert server.pid is not None
        os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(PublishUnknown):
            await dispatch(transport, topic, "a", correlation_id="one")
        os.kill(server.pid, signal.SIGCONT)
        with pytest.raises(DuplicateWorkflow):
            await dispatch(transport, topic, "a", correlation_id="one")


async def test_a_close_without_a_server_does_not_hang(
    server: RedisServer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer_module, "CLOSE", 0.5)
    transport = RedisTransport(server.url)
    await dispatch(transport, topic, "a")
    hands = Hands(transport, topic, "a")
    delivery = await hands.take_one()
    await asyncio.to_thread(server.kill)
    settling = asyncio.create_task(hands.finish(delivery))
    await asyncio.sleep(0.1)
    async with asyncio.timeout(8):
        await hands.consumer.close()
    with pytest.raises(TransportError):
        await settling
    with pytest.raises(TransportError, match="closed"):
        await hands.consumer.claim(1)
    await transport.disconnect()


def out_of_memory(server: RedisServer) -> Callable[[], object]:
    server.cli("CONFIG", "SET", "maxmemory", "1")
    return lambda: server.cli("CONFIG", "SET", "maxmemory", "0")


def cannot_save(server: RedisServer) -> Callable[[], object]:
    """What stands where the snapshot should be keeps it from being written, as a full disk does."""
    in_the_way = server.directory / "dump.rdb"
    (in_the_way / "x").mkdir(parents=True)

    def saved(status: str) -> None:
        server.cli("BGSAVE")
        while f"rdb_last_bgsave_status:{status}" not in server.cli("INFO", "persistence"):
            time.sleep(0.05)

    def lift() -> None:
        shutil.rmtree(in_the_way)
        saved("ok")

    saved("err")
    return lift


@pytest.mark.parametrize(
    ("fault", "said"), [(out_of_memory, "is out of memory"), (cannot_save, "MISCONF")], ids=["memory", "disk"]
)
async def test_a_full_server_takes_nothing_and_loses_nothing(
    topic: str, fault: Callable[[RedisServer], Callable[[], object]], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with RedisServer(options={"maxmemory-policy": "noeviction", "save": "3600 1"}) as server:
        async with RedisTransport(server.url) as transport:
            workflow = await dispatch(transport, topic, "a", "b")
            hands = Hands(transport, topic, "a", "b")
            delivery = await hands.take_one()
            lift = await asyncio.to_thread(fault, server)
            with pytest.raises(PublishError, match=said):
                await dispatch(transport, topic, "a")
            settling = asyncio.create_task(hands.finish(delivery))
            asking = asyncio.create_task(hands.take_one())
            with caplog.at_level(logging.WARNING, "paigeant"):
                async with asyncio.timeout(20):
                    while said not in caplog.text:  # noqa: ASYNC110 - a log
                        await asyncio.sleep(0.05)
            assert "trying again" in caplog.text
            assert not settling.done()
            assert server.cli("XLEN", Keys(topic).work("a")) == "1"
            # Whoever only looks is not kept from it.
            assert await states(transport, topic, workflow) == [State.QUEUED]
            assert [queue.in_flight for queue in await transport.queues(topic) if queue.activity == "a"] == [1]
            await asyncio.to_thread(lift)
            assert await settling is Settled.DONE
            assert await hands.finish(await asking) is Settled.DONE
            assert await states(transport, topic, workflow) == [State.QUEUED, State.QUEUED, State.COMPLETED]
            await hands.consumer.close()


async def test_a_copy_that_a_full_server_did_not_take_back_yet_is_not_run_meanwhile(topic: str) -> None:
    with RedisServer(options={"maxmemory-policy": "noeviction"}) as server:
        async with RedisTransport(server.url) as transport:
            await dispatch(transport, topic, "a")
            hands = Hands(transport, topic, "a", lease=60)
            delivery = await hands.take_one()
            asking = asyncio.create_task(hands.take_one())
            await asyncio.sleep(0.2)
            lift = await asyncio.to_thread(out_of_memory, server)
            going_back = asyncio.create_task(hands.consumer.hand_back(delivery))
            # The waiting read is cut off: what it may have brought is looked for at once.
            await asyncio.to_thread(server.cli, "CLIENT", "KILL", "TYPE", "normal")
            await asyncio.wait([asking], timeout=2.0)
            assert not asking.done()
            await asyncio.to_thread(lift)
            await going_back
            again = await asking
            assert again.token != delivery.token
            assert (again.body, again.deaths) == (delivery.body, 0)
            assert await hands.finish(again) is Settled.DONE
            await hands.consumer.close()


LEASE = 2.0


class Outage:
    """Two workers that were both cut off for longer than a lease, and are when it begins; one of them runs a step."""

    def __init__(self, idle: Hands, its_line: Proxy, busy: Hands, busy_line: Proxy, running: Delivery) -> None:
        self.idle = idle
        self.busy = busy
        self.busy_line = busy_line
        self.running = running
        self._its_line = its_line
        self._waiting = asyncio.create_task(idle.take_one())

    async def cut(self) -> None:
        await asyncio.sleep(0.3)  # it waits for work by then
        self._its_line.cut()
        self.busy_line.cut()
        await asyncio.sleep(1.25 * LEASE)

    def mend_the_idle_one(self) -> None:
        self._its_line.mend()

    async def idle_one_works(self) -> None:
        taken = await self._waiting
        assert taken.message is not None
        assert taken.message.correlation_id == "short"
        await self.idle.finish(taken)


@asynccontextmanager
async def outage(redis_url: str, topic: str) -> AsyncIterator[Outage]:
    with Proxy(port_of(redis_url)) as one, Proxy(port_of(redis_url)) as other:
        async with RedisTransport(one.through(redis_url)) as near, RedisTransport(other.through(redis_url)) as far:
            idle, busy = Hands(near, topic, "a", lease=LEASE), Hands(far, topic, "a", lease=LEASE)
            await dispatch(far, topic, "a", correlation_id="long")
            running = await busy.take_one()
            await idle.nothing()
            crew = Outage(idle, one, busy, other, running)
            await crew.cut()
            async with RedisTransport(redis_url) as beside:
                await dispatch(beside, topic, "a", correlation_id="short")
            yield crew
            await idle.consumer.close()
            await busy.consumer.close()


async def test_the_first_worker_that_is_back_after_an_outage_leaves_the_others_a_lease_for_their_steps(
    redis_url: str, topic: str
) -> None:
    async with outage(redis_url, topic) as crew:
        crew.mend_the_idle_one()
        await crew.idle_one_works()
        await crew.idle.nothing(0.3)
        crew.busy_line.mend()
        await crew.idle.nothing(1.5 * LEASE)
        assert await crew.busy.finish(crew.running) is Settled.DONE
        assert await states(crew.busy.transport, topic, "long") == [State.QUEUED, State.COMPLETED]


async def test_a_step_whose_worker_does_not_come_back_after_an_outage_is_taken_over(redis_url: str, topic: str) -> None:
    async with outage(redis_url, topic) as crew:
        crew.mend_the_idle_one()
        await crew.idle_one_works()
        await crew.busy.consumer._crash()  # type: ignore[attr-defined]
        taken = await crew.idle.take_one()
        assert taken.message is not None
        assert (taken.message.correlation_id, taken.deaths) == ("long", 1)
        assert await crew.idle.finish(taken) is Settled.DONE


async def test_a_worker_that_starts_right_after_its_server_leaves_the_others_a_lease_for_their_steps(
    server: RedisServer, topic: str
) -> None:
    with Proxy(port_of(server.url)) as line:
        async with RedisTransport(line.through(server.url)) as far, RedisTransport(server.url) as near:
            busy, new = Hands(far, topic, "a", lease=LEASE), Hands(near, topic, "a", lease=LEASE)
            await dispatch(near, topic, "a", correlation_id="long")
            running = await busy.take_one()
            line.cut()
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(1.25 * LEASE)
            await asyncio.to_thread(server.restart)
            await new.nothing(0.3)
            line.mend()
            await new.nothing(1.5 * LEASE)
            assert await busy.finish(running) is Settled.DONE
            assert await states(near, topic, "long") == [State.QUEUED, State.COMPLETED]
            await new.consumer.close()
            await busy.consumer.close()


async def test_a_worker_that_is_back_later_than_another_is_not_taken_for_lost(redis_url: str, topic: str) -> None:
    async with outage(redis_url, topic) as crew, RedisTransport(redis_url) as beside:

        async def alive(hands: Hands) -> bool:
            return hands.name in [status.info.worker for status in await beside.workers(topic)]

        crew.mend_the_idle_one()
        await until(lambda: alive(crew.idle), "the heartbeat of the first is not back")
        await asyncio.sleep(0.2)  # it would have looked in the same turn
        crew.busy_line.mend()
        await until(lambda: alive(crew.busy), "the heartbeat of the second is not back")
        await crew.idle_one_works()
        await asyncio.sleep(1.25 * LEASE)  # by then it has looked
        records = [record async for batch in beside.records(topic) for record in batch]
        events = [(record.worker, record.detail["event"]) for record in records if record.kind == Kind.WORKER]
        assert sorted(events) == sorted([(crew.idle.name, "started"), (crew.busy.name, "started")])


async def test_a_silent_worker_is_not_struck_off_without_a_record(topic: str) -> None:
    with RedisServer(options={"maxmemory-policy": "noeviction"}) as server:
        async with RedisTransport(server.url) as transport:
            keys = Keys(topic)
            server.cli("ZADD", keys.workers, "1", "silent")
            record = worker_record(WorkerInfo(worker="silent"), topic, "lost", 2.0)
            lost = LOST([keys.journal, keys.workers, keys.gone], ["silent", 1, record.encode_meta(), 3_600_000])
            lift = out_of_memory(server)
            with pytest.raises(PublishError, match="is out of memory"):
                await transport._lines.one(lost)
            assert server.cli("ZRANGE", keys.workers, "0", "-1") == "silent"
            assert server.cli("ZCARD", keys.gone) == "0"
            lift()
            assert await transport._lines.one(lost) == 1
            assert [item.worker for item in await transport.newest(topic, 5)] == ["silent"]


async def test_a_worker_whose_own_word_is_refused_does_not_look_for_silent_ones(
    topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = lease_module.Heartbeat._look_for_lost
    looks: list[float] = []

    def noted(self: lease_module.Heartbeat, line: ThreadLine) -> None:
        looks.append(time.monotonic())
        look(self, line)

    monkeypatch.setattr(lease_module.Heartbeat, "_look_for_lost", noted)
    with RedisServer(options={"maxmemory-policy": "noeviction"}) as server:
        async with RedisTransport(server.url) as transport:
            hands = Hands(transport, topic, "a", lease=0.9)
            await hands.nothing(0.2)
            lift = await asyncio.to_thread(out_of_memory, server)
            refused = time.monotonic()
            await asyncio.sleep(3.0)
            assert [at for at in looks if at > refused + 0.3] == []
            await asyncio.to_thread(lift)

            async def looked() -> bool:
                return len(looks) > 0

            await until(looked, "it never looks again")
            assert [record.detail["event"] for record in await transport.newest(topic, 9)] == ["started"]
            await hands.consumer.close()


async def is_so(said: bool) -> bool:
    return said


async def test_an_operation_that_takes_its_time_waits_for_a_server_that_is_away(
    server: RedisServer, topic: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lines, "PATIENCE", 0.2)
    async with RedisTransport(server.url) as transport:
        operations = Operations(transport, topic)
        workflows = [await dispatch(transport, topic, "a") for _ in range(6)]
        plan = await operations.plan(Cancel(), workflows, reason="a test")
        running = await operations.start(plan, Pace(rate=10))
        came: list[str] = []
        with caplog.at_level(logging.WARNING, "paigeant"):
            going = asyncio.create_task(running.go(lambda result: came.append(result.outcome)))
            await until(lambda: is_so(len(came) >= 2), "it does nothing")
            await asyncio.to_thread(server.kill)
            await until(lambda: is_so("waits for the broker" in caplog.text), "it does not wait")
            assert not going.done()
            await asyncio.to_thread(server.restart)
            report = await asyncio.wait_for(going, 30)
        assert f"operation {plan.operation_id} goes on" in caplog.text
        assert running.status.state is OperationState.FINISHED
        # The one that was just being done when the line broke may be said to have failed; its journal knows better.
        failed = {result.correlation_id for result in report.results if result.outcome == "failed"}
        assert len(failed) <= 1
        for workflow in workflows:
            assert (await states(transport, topic, workflow))[-1] == State.CANCELLED or workflow in failed
        (found,) = await operations.listed()
        assert (found.state, found.done + found.failed) == (OperationState.FINISHED, 6)
        # One that stays away for too long ends it, to be gone on with.
        monkeypatch.setattr(run_module, "OUTAGE", 0.5)
        await asyncio.to_thread(server.kill)
        running = Running(operations, found, Cancel())
        with pytest.raises(ConnectError):
            await asyncio.wait_for(running.go(), 30)


async def test_the_brake_gives_who_reads_the_journal_time_after_an_outage(
    server: RedisServer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lines, "PATIENCE", 0.2)
    for name, seconds in {"PATIENCE": 2.5, "AGAIN": 0.1, "HEARTBEAT": 0.2}.items():
        monkeypatch.setattr(run_module, name, seconds)
    async with RedisTransport(server.url) as transport:
        records = transport.records

        async def late(*args: Any, **options: Any) -> AsyncIterator[list[Record]]:
            async for batch in records(*args, **options):
                await asyncio.sleep(1.0)  # whoever carries the operation out is answered first
                yield batch

        monkeypatch.setattr(transport, "records", late)
        operations = Operations(transport, topic)
        workflows = [await dispatch(transport, topic, "a") for _ in range(10)]
        running = await operations.start(await operations.plan(Retry(), workflows, reason="x"), Pace(rate=10, brake=20))
        going = asyncio.create_task(running.go())
        await until(lambda: is_so(running.status.done >= 2), "it does nothing")
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(6.0)
        await asyncio.to_thread(server.restart)
        assert len((await asyncio.wait_for(going, 30)).results) == 10
        assert running.status.state is OperationState.FINISHED
