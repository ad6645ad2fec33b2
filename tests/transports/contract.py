"""What every transport must do: one suite that memory, Redis and RabbitMQ inherit.

A subclass gives the fixtures ``connect`` (a function that makes one more connected
transport to the same broker; all are closed after the test) and ``put_raw`` (puts bytes
into an activity's queue behind the library's back).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from paigeant_core import transition as moves
from paigeant_core.clock import rfc3339
from paigeant_core.dispatcher import WorkflowDispatcher, new_workflow
from paigeant_core.errors import TransportError
from paigeant_core.journal import Kind, Record, State
from paigeant_core.transition import Outcome, Place, Transition
from paigeant_core.transports import Transport
from paigeant_core.transports.types import START, Delivery, Settled
from tests.transports.hands import LEASE, PATIENCE, Hands, until

Connect = Callable[[], Awaitable[Transport]]
PutRaw = Callable[[str, str, bytes], Awaitable[None]]


class TransportContract:
    """The behaviour that all transports share."""

    @pytest.fixture
    def connect(self) -> Connect:
        raise RuntimeError("a subclass gives this")

    @pytest.fixture
    def put_raw(self) -> PutRaw:
        raise RuntimeError("a subclass gives this")

    # -- helpers ------------------------------------------------------------------------

    @asynccontextmanager
    async def hands(
        self, transport: Transport, topic: str, *activities: str, lease: float = LEASE
    ) -> AsyncIterator[Hands]:
        worker = Hands(transport, topic, *activities, lease=lease)
        try:
            yield worker
        finally:
            await worker.consumer.close()

    async def dispatch(self, transport: Transport, topic: str, *steps: str, **options: Any) -> str:
        return await WorkflowDispatcher(transport).dispatch_workflow(
            list(steps), options.pop("variables", {"n": 1}), topic=topic, **options
        )

    async def last(self, transport: Transport, topic: str, workflow: str) -> Record:
        """The last record that named a state."""
        return [record for record in await transport.history(topic, workflow) if record.state][-1]

    async def reaches(self, transport: Transport, topic: str, workflow: str, state: str) -> Record:
        async def there() -> Record | None:
            named = [record for record in await transport.history(topic, workflow) if record.state]
            return named[-1] if named and named[-1].state == state else None

        found: Record = await until(there, f"{workflow} never was {state}")
        return found

    async def journal(self, transport: Transport, topic: str, start: str | float = START) -> list[Record]:
        return [record async for batch in transport.records(topic, start=start) for record in batch]

    def reissue(self, record: Record, kind: Place = Place.WORK) -> Transition:
        """An operator's transition: the same message one epoch up."""
        message = record.message
        assert message is not None
        following = message.replaced(
            message.routing_slip, timestamp=rfc3339(record.at), epoch=message.headers.epoch + 1
        )
        note = moves.operated(following, record.at, {"action": "retry"}, state=State.QUEUED, body=True)
        return Transition(place=kind, record=note)

    # -- the hop ------------------------------------------------------------------------

    async def test_a_dispatched_workflow_is_claimed_with_the_bytes_that_were_sent(
        self, connect: Connect, topic: str
    ) -> None:
        transport = await connect()
        payload = b'{"exact": 1.50, "text":"\xc3\xa4 \\u00e4"}'
        workflow = await self.dispatch(
            transport, topic, "first", variables=payload, name="a name", labels={"tier": "premium"}
        )
        async with self.hands(transport, topic, "first") as worker:
            delivery = await worker.take_one()
            assert delivery.message is not None
            assert delivery.activity == "first"
            assert delivery.message.payload_bytes == payload
            headers = delivery.message.headers
            assert (headers.correlation_id, headers.name, headers.label_map) == (
                workflow,
                "a name",
                {"tier": "premium"},
            )
            assert (headers.hop, headers.run, headers.epoch, headers.attempt) == (1, 1, 1, 1)

    async def test_a_chain_runs_through_to_completed(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        workflow = await self.dispatch(transport, topic, "a", "b", "a")
        async with self.hands(transport, topic, "a", "b") as worker:
            for hop, activity in enumerate(["a", "b", "a"], start=1):
                delivery = await worker.take_one()
                assert delivery.message is not None
                assert (delivery.activity, delivery.message.headers.hop) == (activity, hop)
                assert await worker.finish(delivery, {f"hop{hop}": True}) is Settled.DONE
        final = await self.reaches(transport, topic, workflow, State.COMPLETED)
        assert final.message is not None
        assert final.message.payload == {"n": 1, "hop1": True, "hop2": True, "hop3": True}
        records = await transport.history(topic, workflow)
        assert [record.kind for record in records] == [Kind.DISPATCHED, Kind.ADVANCED, Kind.ADVANCED, Kind.FINISHED]
        shown = [record.to_document() for record in records[1:]]
        assert [(item["activity"], item["hop"], item["worker"]) for item in shown] == [
            ("a", 1, worker.name),
            ("b", 2, worker.name),
            ("a", 3, worker.name),
        ]

    async def test_a_message_is_given_to_one_claimant_only(self, connect: Connect, topic: str) -> None:
        one, two = await connect(), await connect()
        workflows = {await self.dispatch(one, topic, "only") for _ in range(6)}
        async with self.hands(one, topic, "only") as first, self.hands(two, topic, "only") as second:
            seen: list[str] = []
            for number in range(6):
                hands = (first, second)[number % 2]
                delivery = await hands.take_one()
                assert delivery.message is not None
                seen.append(delivery.message.correlation_id)
                await hands.finish(delivery)
            assert sorted(seen) == sorted(workflows)
            await first.nothing()
            await second.nothing()

    async def test_a_claim_never_exceeds_its_slots(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        for _ in range(4):
            await self.dispatch(transport, topic, "a")
            await self.dispatch(transport, topic, "b")
        async with self.hands(transport, topic, "a", "b") as worker:
            held: list[Delivery] = []
            while len(held) < 8:
                held += await worker.take(3)
            assert len({delivery.message.correlation_id for delivery in held if delivery.message}) == 8
            for delivery in held:
                await worker.finish(delivery)

    async def test_a_worker_gets_only_the_activities_it_serves(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        await self.dispatch(transport, topic, "other")
        async with self.hands(transport, topic, "mine") as worker:
            await worker.nothing()

    async def test_work_dispatched_while_a_claim_waits_wakes_it(self, connect: Connect, topic: str) -> None:
        transport, other = await connect(), await connect()
        async with self.hands(transport, topic, "a") as worker:
            waiting = asyncio.create_task(worker.take_one())
            await asyncio.sleep(0.3)
            assert not waiting.done()
            workflow = await self.dispatch(other, topic, "a")
            delivery = await waiting
            assert delivery.message is not None
            assert delivery.message.correlation_id == workflow

    async def test_a_cancelled_claim_loses_nothing(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        async with self.hands(transport, topic, "a") as worker:
            for _ in range(3):
                waiting = asyncio.create_task(worker.take_one())
                await asyncio.sleep(0.1)
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)
            workflow = await self.dispatch(transport, topic, "a")
            delivery = await worker.take_one()
            assert delivery.message is not None
            assert delivery.message.correlation_id == workflow
            await worker.finish(delivery)
            await worker.nothing()

    async def test_a_settle_that_is_repeated_answers_already_done(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        workflow = await self.dispatch(transport, topic, "a", "b")
        async with self.hands(transport, topic, "a", "b") as worker:
            delivery = await worker.take_one()
            assert delivery.message is not None
            transition = moves.done(delivery.message, {}, worker.span())
            assert await worker.consumer.settle(delivery, transition) is Settled.DONE
            assert await worker.consumer.settle(delivery, transition) is Settled.ALREADY
            following = await worker.take_one()
            assert following.activity == "b"
            await worker.finish(following)
            await worker.nothing()
        assert len(await transport.history(topic, workflow)) == 3

    async def test_a_handed_back_message_comes_again_as_it_was(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        await self.dispatch(transport, topic, "a")
        async with self.hands(transport, topic, "a") as worker:
            delivery = await worker.take_one()
            await worker.consumer.hand_back(delivery)
            again = await worker.take_one()
            assert again.body == delivery.body
            assert again.deaths == 0
            assert await worker.finish(again) is Settled.DONE

    async def test_a_step_that_nobody_could_settle_comes_again_after_a_while_and_counts_as_a_death(
        self, connect: Connect, topic: str
    ) -> None:
        transport = await connect()
        workflow = await self.dispatch(transport, topic, "a")
        async with self.hands(transport, topic, "a", lease=0.8) as worker:
            delivery = await worker.take_one()
            worker.consumer.let_go(delivery)
            await worker.nothing()
            again = await worker.take_one()
            assert again.body == delivery.body
            assert again.deaths == 1
            assert await worker.finish(again) is Settled.DONE
            assert (await self.last(transport, topic, workflow)).state == State.COMPLETED

    async def test_letting_go_of_what_was_settled_or_handed_back_does_nothing(
        self, connect: Connect, topic: str
    ) -> None:
        transport = await connect()
        workflows = [await self.dispatch(transport, topic, "a") for _ in range(2)]
        async with self.hands(transport, topic, "a", lease=0.8) as worker:
            settled, handed_back = await worker.take_one(), await worker.take_one()
            assert await worker.finish(settled) is Settled.DONE
            await worker.consumer.hand_back(handed_back)
            again = await worker.take_one()
            for delivery in (settled, handed_back):
                worker.consumer.let_go(delivery)
            await worker.nothing(2.5)
            assert await worker.finish(again) is Settled.DONE
        for workflow in workflows:
            kinds = [record.kind for record in await transport.history(topic, workflow)]
            assert kinds == [Kind.DISPATCHED, Kind.FINISHED]

    async def test_closing_hands_back_what_was_not_settled(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        workflow = await self.dispatch(transport, topic, "a")
        async with self.hands(transport, topic, "a", lease=3600) as leaving:
            await leaving.take_one()
        async with self.hands(transport, topic, "a", lease=3600) as staying:
            delivery = await staying.take_one()
            assert delivery.message is not None
            assert delivery.message.correlation_id == workflow
            assert delivery.deaths == 0

    async def test_disconnecting_closes_the_consumers(self, connect: Connect, topic: str) -> None:
        transport, other = await connect(), await connect()
        workflow = await self.dispatch(other, topic, "a")
        leaving = Hands(transport, topic, "a", lease=3600)
        await leaving.take_one()
        waiting = asyncio.create_task(leaving.consumer.claim(1))
        await asyncio.sleep(0.1)
        await transport.disconnect()
        for claim in (waiting, leaving.consumer.claim(1)):
            with pytest.raises(TransportError, match="this consumer was closed"):
                await asyncio.wait_for(claim, PATIENCE)
        assert await other.workers(topic) == []
        async with self.hands(other, topic, "a", lease=3600) as staying:
            delivery = await staying.take_one()
            assert delivery.message is not None
            assert (delivery.message.correlation_id, delivery.deaths) == (workflow, 0)

    async def test_a_worker_that_stops_says_what_it_handed_back(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        workflow = await self.dispatch(transport, topic, "a")
        async with self.hands(transport, topic, "a") as leaving:
            await leaving.consumer.hand_back(await leaving.take_one())
        *_, last = [record async for batch in transport.records(topic) for record in batch]
        assert (last.detail["event"], last.detail["gave_back"]) == ("stopped", [workflow])

    async def test_what_is_delivered_is_taken_once_and_what_cannot_be_taken_is_not_lost(
        self, connect: Connect, topic: str
    ) -> None:
        def fails(_: list[Delivery]) -> None:
            raise ValueError("cannot take it")

        transport = await connect()
        taken: list[list[Delivery]] = []
        async with self.hands(transport, topic, "a", lease=3600) as worker:
            # It waits first, so that what comes is handed out as it is read.
            waiting = asyncio.create_task(worker.consumer.deliver(2, taken.append))
            await asyncio.sleep(0.1)
            workflow = await self.dispatch(transport, topic, "a")
            await asyncio.wait_for(waiting, PATIENCE)
            ((delivery,),) = taken
            assert await worker._admit(delivery) is not None
            assert delivery.message is not None
            assert delivery.message.correlation_id == workflow
            await worker.finish(delivery)
            waiting = asyncio.create_task(worker.consumer.deliver(2, fails))
            await self.dispatch(transport, topic, "a")
            with pytest.raises(ValueError, match="cannot take it"):
                await asyncio.wait_for(waiting, PATIENCE)
        async with self.hands(transport, topic, "a", lease=3600) as heir:
            assert (await heir.take_one()).deaths == 0
        assert len(taken) == 1

    # -- delays -------------------------------------------------------------------------

    async def test_a_retry_waits_in_the_broker_and_comes_with_the_next_attempt(
        self, connect: Connect, topic: str
    ) -> None:
        transport, other = await connect(), await connect()
        workflow = await self.dispatch(transport, topic, "a")
        async with self.hands(transport, topic, "a") as worker:
            await worker.fail(await worker.take_one(), delay=1.0)
            record = await self.last(transport, topic, workflow)
            assert (record.kind, record.state) == (Kind.RETRYING, State.RETRYING)
            assert record.detail["error"] == {"type": "ValueError", "message": "no"}
        # The worker is gone: another finds the message when it is due, and not before.
        failed_at = record.at
        async with self.hands(other, topic, "a") as heir:
            delivery = await heir.take_one()
            assert delivery.message is not None
            assert delivery.message.headers.attempt == 2
            assert other.clock.now() - failed_at >= 0.9
            assert await heir.finish(delivery) is Settled.DONE

    async def test_delays_of_different_length_come_in_their_own_time(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        slow = await self.dispatch(transport, topic, "a")
        async with self.hands(transport, topic, "a") as worker:
            await worker.fail(await worker.take_one(), delay=2.5)
            quick = await self.dispatch(transport, topic, "a")
            await worker.fail(await worker.take_one(), delay=0.3)
            order = []
            for _ in range(2):
                delivery = await worker.take_one()
                assert delivery.message is not None
                order.append(delivery.message.correlation_id)
                await worker.finish(delivery)
            assert order == [quick, slow]

    async def test_a_deferred_message_comes_back_byte_for_byte(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        workflow = await self.dispatch(transport, topic, "a")
        async with self.hands(transport, topic, "a") as worker:
            delivery = await worker.take_one()
            assert delivery.message is not None
            record = Record(
                Kind.RETRYING,
                delivery.message.headers,
                state=State.RETRYING,
                detail={"reason": "version"},
                body=delivery.body,
                at=transport.clock.now(),
            )
            await worker.consumer.defer(delivery, 0.3, record)
            assert (await self.last(transport, topic, workflow)).detail == {"reason": "version"}
            again = await worker.take_one()
            assert again.body == delivery.body
            assert await worker.finish(again) is Settled.DONE

    # -- parking ------------------------------------------------------------------------

    async def test_a_dead_letter_keeps_reason_origin_and_bytes(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        workflow = await self.dispatch(transport, topic, "a", "b")
        async with self.hands(transport, topic, "a", "b") as worker:
            delivery = await worker.take_one()
            assert await worker.bury(delivery) is Settled.DONE
            await worker.nothing()
        (record,) = await transport.parked(topic, Place.DEAD)
        assert record.headers.correlation_id == workflow
        assert record.body == delivery.body
        assert record.detail["reason"] == "not_retryable"
        assert record.detail["origin"] == "a"
        assert record.detail["error"] == {"type": "ValueError", "message": "no"}
        assert (await self.last(transport, topic, workflow)).state == State.DEAD

    async def test_a_held_workflow_stays_until_an_operator_releases_it(self, connect: Connect, topic: str) -> None:
        transport = await connect()
        workflow = await self.dispatch(transport, topic, "a", "b")
        async with self.hands(transport, topic, "a", "b") as worker:
            await worker.finish(await worker.take_one(), {"x": 1}, Outcome(hold="needs a signature"))
            held = await self.last(transport, topic, workflow)
            assert (held.kind, held.state, held.detail["reason"]) == (Kind.HELD, State.HELD, "needs a signature")
            assert [record.headers.correlation_id for record in await transport.parked(topic, Place.HELD)] == [workflow]
            await worker.nothing()
            assert await transport.operate(topic, self.reissue(held), expect=held.id) is Settled.DONE
            assert await transport.parked(topic, Place.HELD) == []
            delivery = await worker.take_one()
            assert delivery.activity == "b"
            await worker.finish(delivery)
        assert (await self.last(transport, topic, workflow)).state == State.COMPLETED

    @pytest.mark.parametrize(
        ("on_deadline", "state"), [("release", State.COMPLETED), ("dead_letter", State.DEAD)], ids=["release", "dead"]
    )
    async def test_a_hold_with_a_deadline_ends_by_itself(
        self, connect: Connect, topic: str, on_deadline: Any, state: str
    ) -> None:
        transport = await connect()
        workflow = await self.dispatch(transport, topic, "a")
        async with self.hands(transport, topic, "a") as worker:
            outcome = Outcome(hold="wait", until=0.5, on_deadline=on_deadline)
            await worker.finish(await worker.take_one(), {"x": 1}, outcome)
            assert (await self.last(transport, topic, workflow)).state == State.HELD
            keeping = asyncio.create_task(worker.take_one())
            await self.reaches(transport, topic, workflow, state)
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    # -- hostile and foreign messages ---------------------------------------------------

    @pytest.mark.parametrize(
        "raw",
        [b"", b"\x00\xff\xfe", b"not a message", b'{"a":1}\n{}\n{}', b"{" * 5000, b'{"spec_version":"1"}\n[]\n{}'],
        ids=["empty", "binary", "text", "headers", "nesting", "slip"],
    )
    async def test_bytes_that_nobody_can_read_are_quarantined_and_the_consumer_goes_on(
        self, connect: Connect, put_raw: PutRaw, topic: str, raw: bytes
    ) -> None:
        transport = await connect()
        first = await self.dispatch(transport, topic, "a")
        async with self.hands(transport, topic, "a") as worker:
            await worker.finish(await worker.take_one())
            await put_raw(topic, "a", raw)
            second = await self.dispatch(transport, topic, "a")
            await worker.finish(await worker.take_one())
            # What came over another line may stand behind the second: somebody has to claim.
            claiming = asyncio.create_task(worker.take_one())
            await until(lambda: transport.parked(topic, Place.QUARANTINE), "it was not quarantined")
            claiming.cancel()
            await asyncio.gather(claiming, return_exceptions=True)
        for workflow in (first, second):
            assert (await self.last(transport, topic, workflow)).state == State.COMPLETED
        (record,) = await transport.parked(topic, Place.QUARANTINE)
        assert record.headers.correlation_id.startswith("q-")
        assert record.body == raw
        assert record.detail["code"] == "malformed"
        assert record.detail["origin"] == "a"
        assert (await self.last(transport, topic, record.headers.correlation_id)).state == State.QUARANTINED

    async def test_a_message_over_the_cap_is_quarantined_unread(
        self, connect: Connect, put_raw: PutRaw, topic: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("paigeant_core.admission.MAX_MESSAGE", 2000)
        transport = await connect()
        message = new_workflow(["a"], {"text": "x" * 2000}, topic=topic, at=transport.clock.now())
        await self.dispatch(transport, topic, "a")
        async with self.hands(transport, topic, "a") as worker:
            await worker.finish(await worker.take_one())
            await put_raw(topic, "a", message.encode())
            await self.dispatch(transport, topic, "a")
            await worker.finish(await worker.take_one())
        (record,) = await transport.parked(topic, Place.QUARANTINE)
        assert (record.body, record.detail["code"]) == (message.encode(), "too_large")

    async def test_a_message_of_a_newer_version_is_put_back_and_not_quarantined(
        self, connect: Connect, put_raw: PutRaw, topic: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("paigeant_core.admission.VERSION_DELAY", 0.3)
        transport = await connect()
        message = new_workflow(["a"], {}, topic=topic, at=transport.clock.now())
        newer = message.encode().replace(b'"spec_version":"1"', b'"spec_version":"9"')
        await self.dispatch(transport, topic, "a")
        async with self.hands(transport, topic, "a") as worker:
            await worker.finish(await worker.take_one())
            await put_raw(topic, "a", newer)
            asking = asyncio.create_task(worker.take_one())
            record = await self.reaches(transport, topic, message.correlation_id, State.RETRYING)
            assert record.detail["reason"] == "version"
            await asyncio.sleep(0.6)
            assert not asking.done()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        assert await transport.parked(topic, Place.QUARANTINE) == []
