"""The pump: what moves messages between a worker and the server.

One task owns the first line. Whatever became ready since its last round trip (settles,
messages to give back) goes out together with a claim that does not wait, in one round
trip: that is what makes a hop cheap. How much it claims, :mod:`.slots` says. Where there
is nothing to settle, a second line waits for work on the server, so that an idle worker
costs nothing and wakes at once; while it waits the pump does not claim, so slots are
never exceeded.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from paigeant_core.clock import Clock
from paigeant_core.errors import TransportError
from paigeant_core.names import is_name
from paigeant_core.transition import Place, Transition
from paigeant_core.transports.redis.alarm import Alarm
from paigeant_core.transports.redis.clocks import ClockWatch
from paigeant_core.transports.redis.connection import Backoff, Line, ReadingLine
from paigeant_core.transports.redis.encoding import (
    Found,
    Token,
    claim,
    delivery_of,
    join,
    leave,
    takeover,
    waiting_read,
)
from paigeant_core.transports.redis.endpoint import Endpoint, LineLost, is_gone, is_transient
from paigeant_core.transports.redis.errands import Errands, Taken
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.lease import Heartbeat, presence
from paigeant_core.transports.redis.scripts import DUE, Command
from paigeant_core.transports.redis.settling import Answer, Settler, Settling
from paigeant_core.transports.redis.slots import Slots, Waiter
from paigeant_core.transports.redis.takeovers import Takeovers
from paigeant_core.transports.types import Delivery, Witness, WorkerInfo, worker_record

logger = logging.getLogger("paigeant")

BLOCK = 2.0
"""Seconds that a waiting read may take; short of any time-out on the way."""
DUE_EVERY = 1.0
DUE_BATCH = 100

FLIGHTS = 2
"""Round trips under way at once: while the server does one, the worker makes ready the other."""


class _Flight(NamedTuple):
    """What a round trip under way carries, and how many messages it asks for."""

    answers: list[Answer]
    settles: list[Settling]
    errands: Taken
    asked: int


class Pump:
    """Settles, claims, gives back, moves what is due; see the module and :class:`RedisConsumer`."""

    def __init__(
        self,
        endpoint: Endpoint,
        keys: Keys,
        topic: str,
        info: WorkerInfo,
        lease: float,
        clock: Clock,
        known: set[tuple[str, str]],
        heartbeat: Heartbeat,
    ) -> None:
        self.held: dict[Token, Delivery] = {}  # claimed, and not settled
        self.gave_back: list[str] = []  # workflows whose steps were handed back unfinished
        self.slots = Slots(info.concurrency, self.held, self.give_back)
        self.started = False
        self._endpoint = endpoint
        self._keys = keys
        self._topic = topic
        self._info = info
        self._name = info.worker
        self._lease = lease
        self._takeovers = Takeovers(lease)
        self._clock = ClockWatch(clock, info.worker)
        self._known = known
        self._heartbeat = heartbeat
        self._line = Line(endpoint)
        self._settler = Settler(endpoint, keys, self.held, self._remember, self._kick)
        self._reading_line = ReadingLine(endpoint)
        self._activities: list[str] = list(dict.fromkeys(info.activities))
        self._open: list[str] = list(self._activities)
        """Activities that nobody paused."""
        self._turn = 0
        self._errands = Errands(endpoint, keys, info.worker, self._kick)
        self._wake = asyncio.Event()
        self._alarm = Alarm(self._wake.set)
        self._task: asyncio.Task[None] | None = None
        self._reads = False
        """The second line waits for work, or rests because it broke."""
        self._joined = self._begun = False
        self._flights = 0
        self._problem: Exception | None = None
        self._unblock = False
        self._closing = False
        self._dropped = False
        self._backoff = Backoff()
        self._due_at = 0.0

    # -- what is asked of it ------------------------------------------------------------

    def wait(self, waiter: Waiter) -> None:
        """Find work for ``waiter``."""
        self.slots.wait(waiter)
        self._kick()

    def cancelled(self, waiter: Waiter) -> None:
        """The claim that made ``waiter`` was cancelled."""
        self.slots.withdraw()
        if not waiter.future.cancelled() and waiter.future.exception() is None:
            # It was answered in the same turn of the loop: nobody will run these.
            for delivery in waiter.future.result():
                self.give_back(delivery.token)
        elif self._reads:
            self._unblock = True
            self._kick()

    def settle(self, item: Settling) -> None:
        """Carry out ``item`` with the next round trip."""
        self.slots.freed()
        self._settler.add(item)

    def give_back(self, token: Token, future: asyncio.Future[None] | None = None) -> None:
        """Put a claimed message back with the next round trip."""
        self.held.pop(token, None)
        self._errands.give_back(token, future)

    async def witness(self, token: Token, correlation_id: str) -> Witness:
        """Ask what the fence knows, with the next round trip."""
        return await self._errands.witness(token, correlation_id)

    async def finish(self, seconds: float) -> bool:
        """Settle what is ready, give back what is held and say goodbye; False: not in that time."""
        self._closing = True
        self.slots.refuse(TransportError("this consumer was closed"))
        self._kick()
        assert self._task is not None
        await asyncio.wait({self._task}, timeout=seconds)
        return self._task.done()

    async def drop(self, *, crash: bool = False) -> None:
        """End the task and both lines, with ``crash`` without a word; whoever still waits is told."""
        self._dropped = True
        self._alarm.cancel()
        if crash:
            self._line.drop()
            self._reading_line.drop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._line.close()
        self._reading_line.close()
        self._give_up(TransportError("this consumer was closed"))
        for delivery in self.held.values():
            delivery.settled = True
        self.held.clear()

    def _kick(self) -> None:
        if not self._wake.is_set():
            self._wake.set()
        if self._task is None:
            self.started = True
            self._task = asyncio.create_task(self._run(), name=f"paigeant-{self._name}")

    def _give_up(self, error: TransportError) -> bool:
        """Tell whoever waits for anything; False: nobody did."""
        asked = self._errands.give_up(error)
        refused = self.slots.refuse(error)
        return self._settler.give_up(error) or refused or asked

    # -- the task -----------------------------------------------------------------------

    async def _run(self) -> None:
        self._takeovers.at = asyncio.get_running_loop().time()
        while True:
            try:
                if not self._joined:
                    await self._land()
                    await self._join()
                await self._until_ready()
                # Once more around the loop: what becomes ready in this turn rides along.
                await asyncio.sleep(0)
                if self._problem is not None:
                    await self._land()
                    problem, self._problem = self._problem, None
                    raise problem
                if self._closing and self._settler.idle and not self._errands.backs:
                    await self._land()
                    await self._leave()
                    return
                if self._flights < FLIGHTS:
                    self._round_trip()
                # Only now: the server does the one half while the other is run.
                self.slots.hand_out()
            except LineLost as error:
                # The server may come back empty: what it knew is no longer sure.
                self._known.clear()
                await asyncio.sleep(self._cut_off(error))
            except TransportError as error:
                # It will not do it later either: whoever waits is told.
                if not self._give_up(error) and not self._backoff.failures:
                    logger.error("worker %s: %s", self._name, error)
                await asyncio.sleep(self._next_rest())
            except Exception as error:
                # A fault of ours: a pump that ends in silence would leave everybody waiting for ever.
                logger.exception("worker %s: %s", self._name, type(error).__name__)
                self._give_up(TransportError(f"{type(error).__name__} in the transport; see the log"))
                await asyncio.sleep(self._next_rest())

    def _cut_off(self, error: LineLost) -> float:
        """A line was lost; the seconds until the next try."""
        if not self._backoff.failures:
            logger.warning("worker %s, trying again: %s", self._name, error)
        rest = self._next_rest()
        self._takeovers.cut_off(asyncio.get_running_loop().time() + rest)
        return rest

    def _next_rest(self) -> float:
        # The time for a close is bounded, so tries are spent more freely.
        return min(self._backoff.next(), 0.2 if self._closing else 60.0)

    async def _until_ready(self) -> None:
        loop = asyncio.get_running_loop()
        while not (
            self._problem is not None
            or not self._joined
            or (self._closing and self._settler.idle and not self._errands.backs)
            or self.slots.ready
            or (self._flights < FLIGHTS and self._has_something(loop.time()))
        ):
            self._wake.clear()
            if self._flights < FLIGHTS:  # else the next that lands wakes it, and what is due goes out then
                self._alarm.set(self._due_at)
            await self._wake.wait()

    def _has_something(self, now: float) -> bool:
        return bool(
            self._settler.ready
            or self._errands.backs
            or self._errands.asks
            or self._unblock
            or now >= self._due_at
            or self._claimable(now)
        )

    def _claimable(self, now: float) -> int:
        """How many messages may be claimed now."""
        if self._reads or self._clock.off or not self._open:
            return 0
        if self.slots.asked and self._takeovers.due(now):
            return 0  # it must know all that is held, so no claim may be under way beside it
        return self.slots.claimable

    async def _join(self) -> None:
        """Make the queues ready, say that this worker started, and look at the clock."""
        alive = presence(self._keys, self._topic, self._info, self._lease, self._heartbeat.running)
        paused = ("HKEYS", self._keys.paused)
        *answers, info = await self._line.call(join(self._keys, self._activities), paused, alive, ("INFO", "server"))
        for answer in answers:
            self._endpoint.check(answer)
        self._takeovers.joined(info, asyncio.get_running_loop().time())
        self._paused_are(answers[1])
        # One that has begun may have results to hand on: where its clock is wrong by now it claims nothing, no more.
        (self._clock.told if self._begun else self._clock.check)(answers[-1] / 1000)
        self._begun = True
        self._known.update((self._topic, activity) for activity in self._activities)
        self._joined = True
        self._heartbeat.start()

    def _round_trip(self) -> None:
        """Send everything that is ready, and claim where that cannot exceed the slots."""
        now = asyncio.get_running_loop().time()
        commands: list[Command] = []
        answers: list[Answer] = []
        settles = self._settler.take(commands, answers)
        errands = self._errands.take(commands, answers)
        if self._unblock:
            self._unblock = False
            commands += self._reading_line.unblock()
            answers += [lambda _: None] * (len(commands) - len(answers))
        if now >= self._due_at:
            self._due_at = now + DUE_EVERY
            self.slots.look()
            commands.append(DUE(self._keys.moving, [DUE_BATCH]))
            answers.append(self._was_due)
            commands.append(("HKEYS", self._keys.paused))
            answers.append(self._paused_are)
            if not self._info.activities:
                commands.append(("SMEMBERS", self._keys.activities))
                answers.append(self._activities_are)
        asked = 0
        if slots := self._claimable(now):
            names = self._next_turn()
            if self._takeovers.due(now):
                asked = slots
                known = self.held.keys() | self._errands.leaving
                commands.append(takeover(self._keys, self._name, names, self._takeovers.idle, slots, known))
                answers.append(partial(self._took_over, names, slots))
            elif commands or self._flights:
                asked = slots
                commands.append(claim(self._keys, self._name, names, slots))
                answers.append(partial(self._claimed, names, slots))
            elif not self.slots.ready:
                self._read(names, slots)
        if not commands:
            return
        self.slots.asked += asked
        self._flights += 1
        self._line.begin(commands, partial(self._landed, _Flight(answers, settles, errands, asked)))

    def _landed(self, flight: _Flight, results: list[Any] | Exception) -> None:
        """One round trip is over; what went wrong is left for the pump to deal with."""
        try:
            if isinstance(results, Exception):
                self._settler.restore(flight.settles)
                self._errands.restore(flight.errands)
                self._takeovers.limbo |= flight.asked > 0
                raise results
            for handle, result in zip(flight.answers, results, strict=True):
                try:
                    handle(result)
                except TransportError as error:
                    self._problem = self._problem or error
            if self._backoff.failures and self._problem is None:
                self._backoff.reset()
                logger.info("worker %s is back on the line to Redis at %s", self._name, self._endpoint.address)
        except Exception as error:  # noqa: BLE001 - the pump says what it was, and goes on
            self._problem = self._problem or error
        finally:
            self._flights -= 1
            self.slots.asked -= flight.asked
            # Whoever still waits when the last claim is answered: there is nothing.
            idle = flight.asked and not self.slots.asked and self._problem is None
            if idle and self._open and (slots := self.slots.claimable):
                self._read(self._next_turn(), slots)
            self._wake.set()

    async def _land(self) -> None:
        """Wait until nothing is under way."""
        while self._flights:
            self._wake.clear()
            await self._wake.wait()

    def _next_turn(self) -> list[str]:
        """The activities that are open, another one first each time, so that none starves the others."""
        self._turn = (self._turn + 1) % len(self._open)
        return self._open[self._turn :] + self._open[: self._turn]

    # -- answers ------------------------------------------------------------------------

    def _remember(self, transition: Transition) -> None:
        if transition.place is Place.WORK:
            activity = transition.record.headers.activity
            self._known.add((self._topic, activity))
            if not self._info.activities and activity not in self._activities:
                self._due_within(0.0)  # to look at once which there are: it serves them all
        elif transition.place is Place.DELAYED:
            self._due_within(transition.delay)
        elif transition.deadline is not None:
            self._due_within(transition.deadline.delay)

    def _was_due(self, answer: Any) -> None:
        if isinstance(answer, ResponseError) and not is_transient(answer):
            # Nobody waits for this answer, and no settle has to suffer for it.
            logger.error("worker %s cannot move what is due: %s", self._name, self._endpoint.refused(answer))
            return
        self._endpoint.check(answer)
        moved, following, stuck, server_time = answer
        self._unblock = self._clock.told(server_time / 1000) or self._unblock
        if stuck:
            logger.error("worker %s: %d messages that are due cannot be moved: %s", self._name, *stuck)
        if moved >= DUE_BATCH or following >= 0:
            self._due_within(0.0 if moved >= DUE_BATCH else following / 1000)

    def _due_within(self, seconds: float) -> None:
        # A millisecond more: the server's are whole ones.
        at = asyncio.get_running_loop().time() + seconds + 0.001
        if at < self._due_at:
            self._due_at = at
            self._wake.set()

    def _activities_are(self, answer: Any) -> None:
        self._endpoint.check(answer)
        # The set is in the broker, where anybody may write: a name of ours, or none.
        names = sorted(name for name in (item.decode("utf-8", "replace") for item in answer) if is_name(name))
        if names != self._activities:
            self._activities = names
            self._open = [name for name in names if name not in self.slots.paused]
            self._joined = False
            # The waiting read does not know the new queue.
            self._unblock = True

    def _paused_are(self, answer: Any) -> None:
        if isinstance(answer, ResponseError) and not is_transient(answer):
            return  # no settle has to suffer for it
        self._endpoint.check(answer)
        paused = frozenset(item.decode("utf-8", "replace") for item in answer)
        if paused != self.slots.paused:
            self.slots.paused = paused
            self._open = [name for name in self._activities if name not in paused]
            # The waiting read waits for others.
            self._unblock = self._reads

    def _claimed(self, names: list[str], slots: int, answer: Any) -> None:
        if not self._claim_failed(answer):
            found = [(names[index - 1], 0, entry) for index, entries in answer for entry in entries]
            self.slots.plenty = len(found) >= slots
            self._offer(found)

    def _took_over(self, names: list[str], slots: int, answer: Any) -> None:
        if self._claim_failed(answer):
            return
        self._takeovers.took(len(answer), slots, asyncio.get_running_loop().time())
        self._offer([(names[index - 1], deaths, (entry, fields)) for index, deaths, entry, fields in answer])

    def _offer(self, found: list[Found]) -> None:
        self.slots.offer(list(map(delivery_of, found)))

    def _claim_failed(self, answer: Any) -> bool:
        """Whether a claim was refused; for good: its caller is told, and nobody else."""
        if not isinstance(answer, ResponseError):
            return False
        if is_transient(answer):
            self._endpoint.check(answer)
        self.slots.refuse(self._endpoint.refused(answer))
        return True

    # -- waiting for work ---------------------------------------------------------------

    def _read(self, names: list[str], slots: int) -> None:
        """Let the server wait for work, on the second line."""
        seconds = min(BLOCK, self._takeovers.at - asyncio.get_running_loop().time())
        if not self._info.activities:
            seconds = min(seconds, DUE_EVERY)
        millis = max(10, round(seconds * 1000))
        self._reads = True
        command = waiting_read(self._keys, self._name, names, slots, millis)
        self._reading_line.read(command, self._was_read, wait=millis / 1000)

    def _was_read(self, results: list[Any] | Exception) -> None:
        if self._dropped:
            return
        rest = 0.0
        try:
            if isinstance(results, Exception):
                raise results
            (answer,) = results
            if not isinstance(answer, ResponseError):
                activity = self._keys.activity
                self._offer([(activity(key), 0, entry) for key, found in answer or () for entry in found])
            elif is_gone(answer):
                self._joined = False
            else:
                self._claim_failed(answer)
        except LineLost as error:
            self._takeovers.limbo |= error.sent
            rest = self._cut_off(error)
        except TransportError as error:
            self.slots.refuse(error)
        except Exception as error:
            logger.exception("worker %s: %s", self._name, type(error).__name__)
            rest = self._next_rest()
        if not rest:
            self._rested()
        else:
            asyncio.get_running_loop().call_later(rest, self._rested)

    def _rested(self) -> None:
        """The second line is free again; whoever has what it brought asks for more by himself."""
        self._reads = False
        if self.slots.wanted or not self._joined:
            self._wake.set()

    # -- the end ------------------------------------------------------------------------

    async def _leave(self) -> None:
        """Hand back all that is held, and say goodbye."""
        stopped = worker_record(self._info, self._topic, "stopped", self._clock.now(), self.gave_back)
        goodbye = leave(self._keys, self._name, self._activities, stopped)
        # Unblocked, or the waiting read could still be given something after the goodbye.
        self._endpoint.check((await self._line.call(*self._reading_line.unblock(), goodbye))[-1])
