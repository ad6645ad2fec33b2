"""RabbitMQ: a worker that died is journalled as lost by one that lives, and as started where it speaks again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from paigeant_core.journal import Kind, Record
from paigeant_core.message import Headers
from paigeant_core.transports.rabbitmq import RabbitConsumer, RabbitTransport, lookout, presence, roll
from paigeant_core.transports.rabbitmq.lookout import Lookout
from paigeant_core.transports.rabbitmq.presence import Speaker
from paigeant_core.transports.rabbitmq.roll import Roll
from paigeant_core.transports.types import WorkerInfo, WorkerStatus, worker_record
from tests.transports.hands import Hands, until

pytestmark = pytest.mark.xdist_group("rabbitmq")

HEARD = 2.0


@pytest.fixture
async def transport(rabbit_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RabbitTransport]:
    # Each call by hand; and all speak so often that two seconds of silence tell.
    monkeypatch.setattr(lookout, "EVERY", 1e6)
    monkeypatch.setattr(lookout, "HEARD", HEARD)
    monkeypatch.setattr(presence, "RENEW_EVERY", 0.3)
    made = RabbitTransport(rabbit_url)
    await made.connect()
    yield made
    await made.disconnect()


async def working(transport: RabbitTransport, topic: str, *activities: str) -> Hands:
    """A worker that claims, and says that it lives."""
    hands = Hands(transport, topic, *activities)
    claiming = asyncio.create_task(hands.consumer.claim(1))
    await until(lambda: heard(transport, topic, hands.name), "it does not say that it lives")
    claiming.cancel()
    await asyncio.wait([claiming])
    return hands


async def heard(transport: RabbitTransport, topic: str, worker: str) -> bool:
    return worker in {status.info.worker for status in await transport.workers(topic)}


def lookout_of(hands: Hands) -> Lookout:
    assert isinstance(hands.consumer, RabbitConsumer)
    return hands.consumer._lookout


async def crash(hands: Hands) -> None:
    assert isinstance(hands.consumer, RabbitConsumer)
    await hands.consumer._crash()


async def fall_silent(hands: Hands) -> Speaker:
    """Let a worker say nothing more, and work on."""
    assert isinstance(hands.consumer, RabbitConsumer)
    assert isinstance(hands.transport, RabbitTransport)
    speaker = hands.consumer._speaker
    assert speaker is not None
    hands.transport.presence.forget(speaker)
    return speaker


async def events(transport: RabbitTransport, topic: str, worker: str) -> list[str]:
    records = [record async for batch in transport.records(topic) for record in batch]
    return [record.detail["event"] for record in records if record.kind == Kind.WORKER and record.worker == worker]


async def call(hands: Hands) -> None:
    """One look, as the elected worker takes it."""
    await lookout_of(hands).look()
    await lookout_of(hands)._sweep()


async def test_a_worker_that_died_is_journalled_as_lost_once_by_one_that_lives(
    transport: RabbitTransport, topic: str
) -> None:
    living, dying = await working(transport, topic, "a"), await working(transport, topic, "a", "b")
    await call(living)
    await crash(dying)
    await call(living)
    assert await events(transport, topic, dying.name) == ["started"]

    async def lost() -> bool:
        await call(living)
        return "lost" in await events(transport, topic, dying.name)

    await until(lost, "nobody missed it")
    await call(living)
    await call(living)
    assert await events(transport, topic, dying.name) == ["started", "lost"]
    records = [record async for batch in transport.records(topic) for record in batch]
    (record,) = (record for record in records if record.detail["event"] == "lost")
    # All that is known of who was lost; and it is nobody's who looks.
    assert (record.detail["activities"], record.detail["host"], record.detail["pid"]) == (["a", "b"], "test", 1)
    assert await events(transport, topic, living.name) == ["started"]
    await living.consumer.close()
    # Another one that is elected later has it from the journal.
    heir = await working(transport, topic, "a")
    for _ in range(3):
        await call(heir)
    assert await events(transport, topic, dying.name) == ["started", "lost"]
    assert await events(transport, topic, living.name) == ["started", "stopped"]
    await heir.consumer.close()


async def test_a_worker_that_died_while_nobody_looked_is_journalled_by_the_next_that_does(
    transport: RabbitTransport, topic: str
) -> None:
    dying = await working(transport, topic, "a")
    await crash(dying)
    await asyncio.sleep(HEARD + 0.5)
    heir = await working(transport, topic, "a")

    async def lost() -> bool:
        await call(heir)
        return "lost" in await events(transport, topic, dying.name)

    await until(lost, "nobody missed it")
    await heir.consumer.close()


async def test_a_worker_that_was_cut_off_is_journalled_as_started_again(transport: RabbitTransport, topic: str) -> None:
    living, silent = await working(transport, topic, "a"), await working(transport, topic, "b")
    speaker = await fall_silent(silent)

    async def lost() -> bool:
        await call(living)
        return "lost" in await events(transport, topic, silent.name)

    await until(lost, "nobody missed it")
    assert isinstance(silent.consumer, RabbitConsumer)
    silent.consumer._speaker = transport.presence.start(speaker.queue, speaker.info)
    await until(lambda: heard(transport, topic, silent.name), "it does not say that it lives")
    for _ in range(3):
        await call(living)
    assert await events(transport, topic, silent.name) == ["started", "lost", "started"]
    await silent.consumer.close()
    for _ in range(2):
        await call(living)
    assert await events(transport, topic, silent.name) == ["started", "lost", "started", "stopped"]
    await living.consumer.close()


async def test_who_does_not_hear_itself_calls_nobody_lost(transport: RabbitTransport, topic: str) -> None:
    deaf, other = await working(transport, topic, "a"), await working(transport, topic, "b")
    await fall_silent(other)
    # The last word of all is its own, and it is old.
    await asyncio.sleep(1)
    await fall_silent(deaf)
    await asyncio.sleep(HEARD + 1)
    for _ in range(3):
        await call(deaf)
    assert await events(transport, topic, other.name) == ["started"]
    for hands in (deaf, other):
        await crash(hands)


NAMES = st.sampled_from(["w-1", "w-2", "w-3"])


class RollOfWorkers(RuleBasedStateMachine):
    """Whatever workers do and whenever the roll is called, the journal says of each what is so, and says it once."""

    def __init__(self) -> None:
        super().__init__()
        self.roll = Roll()
        self.speaking: set[str] = set()
        self.journal: dict[str, str] = {}
        """The last event of each worker."""
        self.silent_for: dict[str, int] = {}
        """Calls in a row that each missed since it was on the roll."""

    def write(self, worker: str, event: str) -> None:
        self.journal[worker] = event
        self.roll.take(worker_record(WorkerInfo(worker=worker), "t", event, 1.0))

    @rule(worker=NAMES)
    def start(self, worker: str) -> None:
        if worker not in self.speaking:
            self.speaking.add(worker)
            self.silent_for[worker] = 0
            self.write(worker, "started")

    @rule(worker=NAMES)
    def stop(self, worker: str) -> None:
        if worker in self.speaking:
            self.speaking.discard(worker)
            self.write(worker, "stopped")

    @rule(worker=NAMES)
    def fall_silent(self, worker: str) -> None:
        self.speaking.discard(worker)

    @rule(worker=NAMES)
    def speak_again(self, worker: str) -> None:
        if self.journal.get(worker) in ("started", "lost"):
            self.speaking.add(worker)

    @rule(data=st.binary(max_size=8))
    def hostile(self, data: bytes) -> None:
        detail = {"event": "started", "activities": list(data), "pid": "none"}
        self.roll.take(Record(Kind.WORKER, Headers(topic="t"), worker="w-1", detail=detail))

    @rule()
    def call(self) -> None:
        called = self.roll.call([WorkerStatus(info=WorkerInfo(worker=name)) for name in sorted(self.speaking)])
        for worker, event in self.journal.items():
            missed = 0 if worker in self.speaking or event != "started" else self.silent_for.get(worker, 0) + 1
            self.silent_for[worker] = missed
        assert [info.worker for info in called.lost] == sorted(
            worker for worker, event in self.journal.items() if event == "started" and self.silent_for[worker] >= 2
        )
        assert [info.worker for info in called.started] == sorted(
            worker for worker in self.speaking if self.journal[worker] == "lost"
        )
        assert self.roll.stands(called) == called
        for info in called.lost:
            self.write(info.worker, "lost")
        for info in called.started:
            self.write(info.worker, "started")
        assert not any(self.roll.stands(called))


TestRollOfWorkers = RollOfWorkers.TestCase


def test_who_speaks_and_whose_start_was_trimmed_is_on_the_roll() -> None:
    kept = Roll()
    info = WorkerInfo(worker="w", activities=("a",))
    for _ in range(2):
        assert not any(kept.call([WorkerStatus(info=info)]))
    assert not any(kept.call([]))
    assert kept.call([]) == roll.Called([info], [])


def test_who_stopped_is_not_put_on_the_roll_by_what_it_said_before() -> None:
    kept, info = Roll(), WorkerInfo(worker="w")
    kept.take(worker_record(info, "t", "started", 1.0))
    kept.take(worker_record(info, "t", "stopped", 2.0))
    for _ in range(2):
        assert not any(kept.call([WorkerStatus(info=info)]))
    for _ in range(3):
        assert not any(kept.call([]))


def test_what_is_remembered_of_those_who_left_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, info = Roll(), WorkerInfo(worker="w")
    kept.take(worker_record(info, "t", "lost", 1.0))
    kept.call([])
    assert kept._left
    monkeypatch.setattr(roll, "REMEMBERED", 0.0)
    kept.call([])
    assert not kept._left
