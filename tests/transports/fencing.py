"""What the fence keeps back, and what becomes of the steps of workers that die, on every transport."""

from __future__ import annotations

import asyncio

import pytest

from paigeant_core.journal import Kind, State
from paigeant_core.transition import Place
from paigeant_core.transports.types import Settled, holding
from tests.transports.contract import Connect, TransportContract
from tests.transports.hands import Hands, until


class FencingContract(TransportContract):
    """Operators who are quicker than a step, and workers that do not come back."""

    # -- the fence ----------------------------------------------------------------------

    async def test_an_operators_reissue_replaces_the_old_copy(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        workflow = await self.dispatch(transport, topic, "a")
        record = await self.last(transport, topic, workflow)
        assert await transport.operate(topic, self.reissue(record), expect=record.id) is Settled.DONE
        async with self.hands(transport, topic, "a") as worker:
            delivery = await worker.take_one()
            assert delivery.message is not None
            assert delivery.message.headers.epoch == 2
            assert await worker.finish(delivery) is Settled.DONE
            await worker.nothing()
        assert (await self.last(transport, topic, workflow)).state == State.COMPLETED

    async def test_of_two_operators_at_once_one_wins(self, connect: Connect, topic: str) -> None:
        one, two = await connect(), await connect()
        workflow = await self.dispatch(one, topic, "a")
        record = await self.last(one, topic, workflow)
        results = await asyncio.gather(
            one.operate(topic, self.reissue(record), expect=record.id),
            two.operate(topic, self.reissue(record), expect=record.id),
        )
        assert sorted(results) == [Settled.DONE, Settled.SUPERSEDED]

    async def test_a_running_step_that_was_reissued_cannot_hand_on_its_result(
        self, connect: Connect, topic: str
    ) -> None:
        transport, other = await connect(), await connect()
        workflow = await self.dispatch(transport, topic, "a", "b")
        async with self.hands(transport, topic, "a", "b") as slow, self.hands(other, topic, "a", "b") as quick:
            late = await slow.take_one()
            record = await self.last(transport, topic, workflow)
            assert await other.operate(topic, self.reissue(record), expect=record.id) is Settled.DONE
            delivery = await quick.take_one()
            assert await quick.finish(delivery, {"by": "quick"}) is Settled.DONE

            async def refused() -> bool:
                return await slow.finish(late, {"by": "slow"}) is Settled.SUPERSEDED

            assert await refused()
            following = await quick.take_one()
            assert following.message is not None
            assert following.message.payload["by"] == "quick"
            await quick.finish(following)
            await quick.nothing()
            await slow.nothing()
        records = await transport.history(topic, workflow)
        (late_record,) = [item for item in records if item.kind == Kind.SUPERSEDED]
        assert late_record.message is not None
        assert late_record.message.payload["by"] == "slow"
        assert [item.kind for item in records].count(Kind.FINISHED) == 1

    async def test_an_operation_on_a_workflow_that_moved_is_refused(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        workflow = await self.dispatch(transport, topic, "a", "b")
        before = await self.last(transport, topic, workflow)
        async with self.hands(transport, topic, "a") as worker:
            await worker.finish(await worker.take_one())
        assert await transport.operate(topic, self.reissue(before), expect=before.id) is Settled.SUPERSEDED
        assert (await self.last(transport, topic, workflow)).headers.epoch == 1

    # -- workers that die ---------------------------------------------------------------

    async def test_a_dead_workers_step_is_taken_over_and_the_death_counted(self, connect: Connect, topic: str) -> None:
        transport, other = await connect(), await connect()
        workflow = await self.dispatch(transport, topic, "a")
        dying = Hands(transport, topic, "a")
        first = await dying.take_one()
        await dying.consumer._crash()  # type: ignore[attr-defined]
        async with self.hands(other, topic, "a") as heir:
            delivery = await heir.take_one()
            assert delivery.body == first.body
            assert delivery.deaths == 1
            assert await heir.finish(delivery) is Settled.DONE
        assert (await self.last(other, topic, workflow)).state == State.COMPLETED

    async def test_a_worker_that_fell_silent_is_remembered_with_what_it_ran_and_one_that_stopped_is_not(
        self, connect: Connect, topic: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("paigeant_core.transports.rabbitmq.presence.LEASE", 1.0)
        transport, other = await connect(), await connect()
        workflow = await self.dispatch(transport, topic, "a")
        dying = Hands(transport, topic, "a")
        delivery = await dying.take_one()
        assert delivery.message is not None
        running = holding(delivery.message.headers, 1.0)
        dying.consumer.report([running])

        async def told() -> bool:
            return any(status.running for status in await other.workers(topic))

        async def silent() -> bool:
            return any(status.info.worker == dying.name for status in await other.silent(topic))

        await until(told, f"it does not say that it runs {workflow}")
        assert not any(status.running for status in await other.silent(topic))
        await dying.consumer._crash()  # type: ignore[attr-defined]
        async with self.hands(other, topic, "b"):
            await until(silent, "it is not known that it died")
        (status,) = await other.silent(topic)
        assert (status.info.worker, status.info.activities, status.running) == (dying.name, ("a",), (running,))
        assert status.last_seen_s > 0

    async def test_a_step_in_which_five_workers_die_is_poison_and_the_sixth_does_not_run_it(
        self, connect: Connect, topic: str
    ) -> None:
        transport, other = await connect(), await connect()
        workflow = await self.dispatch(transport, topic, "a")
        for _ in range(5):
            # Each of its own: a worker is known by its line, and dies with it.
            dying = Hands(await connect(), topic, "a", lease=0.3)
            await dying.take_one()
            await dying.consumer._crash()  # type: ignore[attr-defined]
        async with self.hands(other, topic, "a", lease=0.3) as heir:
            claiming = asyncio.create_task(heir.take())
            record = await self.reaches(other, topic, workflow, State.DEAD)
            claiming.cancel()
            await asyncio.wait([claiming])
        assert record.detail["reason"] == "poison"
        assert record.detail["error"]["message"] == "5 workers died while they ran this step"
        (parked,) = await other.parked(topic, Place.DEAD)
        assert parked.body == (await other.history(topic, workflow))[0].body

    async def test_a_living_workers_step_is_never_taken_over(self, connect: Connect, topic: str) -> None:
        transport, other = await connect(), await connect()
        await self.dispatch(transport, topic, "a")
        async with (
            self.hands(transport, topic, "a", lease=0.5) as slow,
            self.hands(other, topic, "a", lease=0.5) as idle,
        ):
            delivery = await slow.take_one()
            await idle.nothing(seconds=2.0)
            assert await slow.finish(delivery) is Settled.DONE
