"""Redis: claims made ahead: no more is handed out or held than there are slots for, and nothing is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from paigeant_core import ActivityContext, Worker
from paigeant_core.transports.redis import RedisTransport
from paigeant_core.transports.redis.encoding import Token
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.slots import STALE, Slots, Waiter
from paigeant_core.transports.types import Delivery
from tests.transports import on_redis
from tests.transports.hands import until
from tests.transports.on_redis import dispatch

client = on_redis.client
connect = on_redis.connect
transport = on_redis.transport

PAUSED = "paused"


class Claims(RuleBasedStateMachine):
    """A worker, its slots, and a server that answers claims in their order with as much as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.slots: Slots | None = None
        self.now = 0.0
        self.serial = 0
        self.held: dict[Token, Delivery] = {}
        self.claims: list[int] = []
        self.back: set[Token] = set()
        self.withdrawn = False
        self.running: list[Token] = []
        self.settling: list[Token] = []

    def teardown(self) -> None:
        self.loop.close()

    def give_back(self, token: Token) -> None:
        assert token in self.held, "given back twice, or what was handed out"
        assert token not in self.running
        assert self.withdrawn or token[0] == PAUSED, "more was claimed than there were slots for"
        del self.held[token]
        self.back.add(token)

    @precondition(lambda self: self.slots is None)
    @rule(concurrency=st.integers(1, 6))
    def start(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self.slots = Slots(concurrency, self.held, self.give_back, lambda: self.now)

    @property
    def free(self) -> int:
        """As a worker counts: a slot is free once its step is being settled."""
        return min(self.concurrency - len(self.running), 2 * self.concurrency - len(self.running) - len(self.settling))

    @precondition(lambda self: self.slots is not None and self.slots.waiter is None and self.free > 0)
    @rule()
    def ask(self) -> None:
        assert self.slots is not None
        self.slots.wait(Waiter(self.free, self.loop.create_future()))

    @precondition(lambda self: self.slots is not None and self.slots.claimable)
    @rule()
    def claim(self) -> None:
        assert self.slots is not None
        self.claims.append(self.slots.claimable)
        self.slots.asked += self.slots.claimable

    @precondition(lambda self: self.claims)
    @rule(most=st.sampled_from([0, 1, 2, 9, 9]), paused=st.booleans())
    def answer(self, most: int, paused: bool) -> None:
        assert self.slots is not None
        asked = self.claims.pop(0)
        found = []
        for number in range(min(asked, most)):
            self.serial += 1
            activity = PAUSED if paused and number == 0 else "a"
            found.append(Delivery(body=b"", activity=activity, deaths=0, token=(activity, str(self.serial))))
        self.slots.plenty = len(found) == asked
        self.slots.offer(found)
        self.slots.asked -= asked
        self.withdrawn = self.withdrawn and bool(self.claims)
        self.take()

    @precondition(lambda self: self.slots is not None)
    @rule()
    def hand_out(self) -> None:
        assert self.slots is not None
        self.slots.hand_out()
        self.take()

    def take(self) -> None:
        assert self.slots is not None
        waiter = self.slots.waiter
        if waiter is not None and waiter.future.done():
            taken = [delivery.token for delivery in waiter.future.result()]
            assert 0 < len(taken) <= waiter.slots
            self.running += taken
            self.slots.waiter = None

    @precondition(lambda self: self.running)
    @rule(count=st.sampled_from([1, 9]))
    def settle(self, count: int) -> None:
        assert self.slots is not None
        for _ in range(min(count, len(self.running))):
            self.settling.append(self.running.pop(0))
            self.slots.freed()

    @precondition(lambda self: self.settling)
    @rule(count=st.sampled_from([1, 9]))
    def settled(self, count: int) -> None:
        for _ in range(min(count, len(self.settling))):
            del self.held[self.settling.pop(0)]

    @precondition(lambda self: self.slots is not None)
    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        assert self.slots is not None
        self.slots.paused = frozenset({PAUSED}) if paused else frozenset()

    @precondition(lambda self: self.slots is not None and self.slots.waiter is not None)
    @rule()
    def cancel(self) -> None:
        assert self.slots is not None
        self.withdrawn = True
        self.slots.withdraw()
        self.take()
        self.slots.waiter = None
        if not self.claims:
            assert self.held.keys() == {*self.running, *self.settling}
            self.withdrawn = False

    @precondition(lambda self: self.slots is not None and self.slots.waiter is None)
    @rule()
    def nobody_comes(self) -> None:
        assert self.slots is not None
        self.withdrawn = True
        self.now += 2 * STALE
        self.slots.look()
        assert self.held.keys() == {*self.running, *self.settling}
        self.withdrawn = bool(self.claims)

    @invariant()
    def no_more_than_may_be(self) -> None:
        assert len(self.running) <= getattr(self, "concurrency", 0)
        assert len(self.held) + sum(self.claims) <= 2 * getattr(self, "concurrency", 0)
        assert {*self.running, *self.settling} <= self.held.keys()


TestClaims = Claims.TestCase
TestClaims.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)


@contextmanager
def serving(worker: Worker, transport: RedisTransport) -> Iterator[asyncio.Task[None]]:
    task = asyncio.create_task(worker.run(transport))
    try:
        yield task
    finally:
        worker.stop()


async def test_what_a_stopping_worker_claimed_ahead_goes_back_while_its_steps_run_on(
    transport: RedisTransport, client: Any, topic: str
) -> None:
    worker = Worker(topic=topic, concurrency=4, lease=30.0)
    begun, go = asyncio.Event(), asyncio.Event()
    ran = []

    @worker.activity("a")
    async def a(ctx: ActivityContext) -> None:
        ran.append(ctx.correlation_id)
        begun.set()
        await go.wait()

    for _ in range(30):
        await dispatch(transport, topic, "a")
    with serving(worker, transport) as task:
        await begun.wait()
        worker.stop()

        async def only_what_runs() -> bool:
            pending = await client.xpending(Keys(topic).work("a"), "workers")
            # What is given back is put at the end of the queue, and is nobody's.
            return int(pending["pending"]) == len(ran) <= 4

        await until(only_what_runs, "a stopping worker kept what it does not run")
        go.set()
        await task
    assert await client.xlen(Keys(topic).work("a")) == 30 - len(ran)


def _copies(*numbers: int) -> list[Delivery]:
    return [Delivery(body=b"", activity="a", deaths=0, token=("a", str(number))) for number in numbers]


async def test_the_next_claim_asks_for_no_slots_that_the_spare_will_take() -> None:
    slots = Slots(4, {}, lambda _: None)
    future = asyncio.get_running_loop().create_future
    slots.plenty = True
    slots.wait(Waiter(4, future()))
    slots.offer(_copies(1, 2))
    slots.offer(_copies(3, 4))
    slots.wait(Waiter(3, future()))
    assert slots.ready
    assert slots.claimable == 0  # one slot would be left, and that is no half
    slots.freed()
    assert slots.claimable == 2


async def test_no_claim_is_made_ahead_while_twice_the_slots_are_held() -> None:
    held = {copy.token: copy for copy in _copies(*range(6))}
    slots = Slots(4, held, lambda _: None)
    slots.plenty = True
    slots.wait(Waiter(1, asyncio.get_running_loop().create_future()))
    for _ in range(3):
        slots.freed()
    slots.asked = slots.claimable
    assert slots.asked == 2
    assert slots.claimable == 0


async def test_whoever_waits_is_woken_before_the_work_that_it_takes_begins() -> None:
    """Else a worker asks for more only once it has run what it was given, and the server idles meanwhile."""
    order: list[str] = []

    async def step() -> None:
        order.append("step")

    def take(deliveries: list[Delivery]) -> None:
        tasks.extend(asyncio.create_task(step()) for _ in deliveries)

    async def wait() -> None:
        await waiter.future
        order.append("woken")

    tasks: list[asyncio.Task[None]] = []
    waiter = Waiter(2, asyncio.get_running_loop().create_future(), take)
    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiter.answer([Delivery(body=b"", activity="a", token=("a", str(number))) for number in range(2)])
    await asyncio.gather(waiting, *tasks)
    assert order == ["woken", "step", "step"]
