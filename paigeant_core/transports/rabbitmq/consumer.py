"""A worker's claim on the work queues: claim, settle, hand back, over a line of its own.

A settle publishes what comes next, waits for the confirm and then acknowledges the old
copy, so nothing can be lost; what can come twice is found out. A copy that comes again
is looked up in the journal before it runs: a record that names it says that it was
handed on. A copy that was lost with the line while its step still ran is not started a
second time: its result waits for the copy to come back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from paigeant_core import transition as moves
from paigeant_core.errors import (
    AuthenticationError,
    Conflict,
    ConnectError,
    DecodeError,
    InvalidMessage,
    PublishUnknown,
    TransportError,
    Unsupported,
)
from paigeant_core.handoff import heed
from paigeant_core.journal import Record
from paigeant_core.message import Headers, decode_headers
from paigeant_core.names import new_id
from paigeant_core.transition import Place, Transition
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.clocks import ClockCheck
from paigeant_core.transports.rabbitmq.comeback import REGAIN, Comeback, Result
from paigeant_core.transports.rabbitmq.connection import Channel, Line, Message, Missing, TakenInPart, Waits, end
from paigeant_core.transports.rabbitmq.desk import Copy, Desk
from paigeant_core.transports.rabbitmq.forks import EARLY, forked
from paigeant_core.transports.rabbitmq.intake import Intake
from paigeant_core.transports.rabbitmq.later import delay_on, ring
from paigeant_core.transports.rabbitmq.lookout import Lookout
from paigeant_core.transports.rabbitmq.nodes import NodeMarks
from paigeant_core.transports.rabbitmq.presence import Speaker
from paigeant_core.transports.rabbitmq.publisher import Refused
from paigeant_core.transports.rabbitmq.surplus import Surplus
from paigeant_core.transports.rabbitmq.topology import Names
from paigeant_core.transports.types import Consumer, Delivery, Holding, Settled, Witness, WorkerInfo, worker_record
from paigeant_core.transports.types import Copy as Copied

if TYPE_CHECKING:
    from paigeant_core.transports.rabbitmq.transport import RabbitTransport

logger = logging.getLogger("paigeant")

FAREWELL = 10.0
"""Seconds that a closing consumer gives its unfinished settles."""

REFRESH = 2.0
"""Seconds between two looks for new activities, where all are served."""


class RabbitConsumer(Consumer):
    """One worker on a topic.

    Args:
        transport: whose fence and presence it shares.
        url: of the broker.
        topic: the topic.
        info: the worker.
    """

    def __init__(self, transport: RabbitTransport, url: str, topic: str, info: WorkerInfo) -> None:
        self._transport = transport
        self._names = names = Names(topic)
        self._info = info
        self._line = line = Line(url, f"worker {info.worker}")
        self._intake = Intake(line, names, info.worker, self._arrived, varying=not info.activities)
        fence, free = transport.fence(names), self._intake.acknowledged
        self._desk = Desk(line, names, fence, transport.clock, info.worker, free=free, consider=self._consider)
        self._up = asyncio.Event()
        self._comeback = Comeback(self._desk, self._up, offer=self._offer, settle=self._settle_kept, ask=self._ask)
        self._marks = NodeMarks(line, self._desk.publisher, names, info.worker)
        self._lookout = Lookout(self._desk, self._comeback, self._up, self._marks)
        self._clocks = ClockCheck(line, self._desk.publisher, names.stream("fence"), transport.clock)
        self._activities: set[str] = set(info.activities)
        self._surplus = Surplus(
            self._desk, wanted=lambda: self._slots > 0, relieve=lambda copies: self._desk.spawn(self._give_back(copies))
        )
        self._buffer = self._surplus.copies
        self._soon = 0
        self._slots = 0
        self._regain_until = 0.0
        self._woken = asyncio.Event()
        self._fatal: TransportError | InvalidMessage | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._speaker: Speaker | None = None
        self._closing = False
        self._closed_by: asyncio.Task[None] | None = None

    # -- claiming -----------------------------------------------------------------------

    async def claim(self, slots: int) -> list[Delivery]:
        """See :meth:`Consumer.claim`."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())
        self._slots = slots
        try:
            while True:
                if self._clocks.due:
                    await self._agree()
                    self._slots = slots
                if self._fatal is not None:
                    raise self._fatal
                if taken := self._take(slots):
                    return taken
                self._woken.clear()
                self._ask()
                await self._woken.wait()
        finally:
            self._slots = 0
            self._ask()
            self._surplus.watch()

    async def _agree(self) -> None:
        """Ask for nothing until the machine's clock agrees with the broker's."""
        self._slots = 0
        self._ask()
        self._surplus.watch()
        await self._clocks.wait(self._info.worker, self._up, lambda: self._fatal is not None)

    def _take(self, slots: int) -> list[Delivery]:
        taken: list[Delivery] = []
        while self._buffer and len(taken) < slots:
            copy = self._buffer.popleft()
            if copy.activity in self._desk.fence.paused:
                self._desk.spawn(self._desk.put_back(copy))
                continue
            if epoch := self._outdated(copy):
                self._desk.spawn(self._desk.drop(copy, "fenced", {"epoch": epoch}))
                continue
            taken.append(copy.hand_out())
            self._desk.out += 1
            self._surplus.taken_at = copy.came
        return taken

    def _outdated(self, copy: Copy) -> int:
        """The epoch that a message is behind; 0: it may run."""
        try:
            headers = decode_headers(copy.body)
        except DecodeError:
            return 0
        if self.believes:
            self.admitted(headers)
        return self._desk.fence.passed(headers)

    def admitted(self, headers: Headers) -> None:
        """See :meth:`Consumer.admitted`."""
        if headers.epoch > 1:
            # It can be here before the fence's own word of it.
            self._desk.fence.met(headers)

    def _ask(self) -> None:
        """Tell the intake how many messages there are free slots for."""
        slots = self._slots
        if asyncio.get_running_loop().time() < self._regain_until:
            # What was lost with the line is asked for as well: its steps are running here.
            slots += self._desk.adrift()
        ahead = len(self._buffer) + len(self._comeback) + self._soon
        self._intake.want(max(0, slots - ahead), self._slots + self._desk.out)

    def _arrived(self, message: Message, activity: str) -> None:
        loop = asyncio.get_running_loop()
        copy = Copy(message, message.channel, activity, wire.copy_of(message), loop.time())
        copy.spared = self._desk.strayed.get(copy.key, 0)
        left = wire.remaining(wire.headers_of(message), self._desk.clock.now())
        if left > 0 and forked(message):
            # It is dealt with now, while the other one waits.
            self._consider(copy)
        elif left > EARLY:
            self._desk.spawn(delay_on(self._desk, copy, left))
        elif left > 0:
            self._soon += 1
            loop.call_later(left, self._due, copy)
        else:
            self._consider(copy)
        self._ask()

    def _due(self, copy: Copy) -> None:
        self._soon -= 1
        if copy.held:
            self._consider(copy)
        self._ask()

    def _consider(self, copy: Copy) -> None:
        """Decide what to do with a copy that is due."""
        desk = self._desk
        if (timer := wire.timer_of(copy.message)) is not None:
            desk.spawn(ring(desk, copy, timer))
            return
        known = desk.copies.get(copy.key)
        if known is not None and known.held:
            # The same copy twice: it waits for what becomes of the first.
            desk.twins.setdefault(copy.key, []).append(copy)
            return
        if known is not None:
            # It was lost with the line, and its step is still running here.
            known.message, known.channel, known.spared = copy.message, copy.channel, copy.spared
            self._comeback.suspect(known)
            return
        desk.copies[copy.key] = copy
        again = copy.message.redelivered or wire.AGAIN in wire.headers_of(copy.message)
        if again or copy.key in desk.settled or copy.key in self._comeback.kept:
            self._comeback.suspect(copy)
        else:
            self._offer(copy)

    def _offer(self, copy: Copy) -> None:
        copy.came = asyncio.get_running_loop().time()
        self._buffer.append(copy)
        self._woken.set()
        if not self._slots:
            self._surplus.watch()

    async def _give_back(self, surplus: Iterable[Copy]) -> None:
        await self._intake.pause()
        for copy in surplus:
            await self._desk.put_back(copy)
        self._ask()

    # -- settling -----------------------------------------------------------------------

    async def witness(self, delivery: Delivery, headers: Headers) -> Witness:
        """See :meth:`Consumer.witness`; known is what went through this transport, and no broker tells the rest."""
        if self._desk.fence.passed(headers):
            return Witness(Copied.GONE)
        return Witness(Copied.UNKNOWN, self._transport.marks.get(headers.correlation_id))

    async def settle(self, delivery: Delivery, transition: Transition) -> Settled:
        """See :meth:`Consumer.settle`."""
        # A timer needs a queue to come out of, also when the message is finished.
        queue = delivery.activity if transition.deadline is not None else ""
        return await self._hand_on(delivery, Result(transition, queue))

    async def defer(self, delivery: Delivery, delay: float, record: Record) -> None:
        """See :meth:`Consumer.defer`."""
        transition = Transition(place=Place.DELAYED, record=record, delay=delay)
        # The same bytes are another copy now: what settles that one must not be mistaken for what settles this.
        await self._hand_on(delivery, Result(transition, delivery.activity, new_id()))

    async def _hand_on(self, delivery: Delivery, result: Result) -> Settled:
        if delivery.settled:
            return Settled.ALREADY
        if self._closed_by is not None and self._closed_by.done():
            raise TransportError("this consumer was closed")
        copy: Copy = delivery.token
        if copy.settling is None or copy.settling.done():
            self._intake.ran(copy.message, asyncio.get_running_loop().time() - copy.came)
            # A task of its own: a caller that is cancelled must not leave a publish half made.
            copy.settling = self._desk.spawn(self._settle(copy, delivery, result))
        return await asyncio.shield(copy.settling)

    async def _settle(self, copy: Copy, delivery: Delivery, result: Result) -> Settled:
        desk, names, transition = self._desk, self._names, result.transition
        waits = Waits()
        epoch = 0
        while True:
            try:
                if copy.unsure or copy.astray or not copy.held:
                    settled = await self._comeback.resolve(copy, result)
                    if settled is not None:
                        delivery.settled = True
                        return settled
                if copy.doubtful and await self._comeback.settle_doubtful(copy, result):
                    transition = result.transition
                    break
                if epoch := desk.fence.passed(transition.record.headers):
                    late = moves.superseded(transition, by=f"epoch {epoch}")
                    items = [wire.plain(names, late, prev=copy.key)]
                else:
                    if (asked := desk.asked(copy)) is not None:
                        transition = result.transition = heed(transition, asked)
                    now = desk.clock.now()
                    items = wire.moved(names, transition, now=now, prev=copy.key, copy=result.copy, queue=result.queue)
                    await desk.topology.lead(names, transition, result.queue)
                await desk.publisher.send(items)
            except Refused:
                # Whoever asked for it may settle with something smaller.
                raise
            except TakenInPart as error:
                copy.unsure = copy.refused = True
                await waits.next(error)
            except (PublishUnknown, Missing, AuthenticationError) as error:
                copy.unsure = True
                desk.topology.forget()
                await waits.next(error)
            except (ConnectError, Conflict) as error:
                await waits.next(error)
            else:
                break
        delivery.settled = True
        if not epoch:
            self._transport.marks.note(transition)
        await desk.done(copy)
        if not self._info.activities and transition.place is Place.WORK:
            self._serve_also([transition.record.headers.activity])
        return Settled.SUPERSEDED if epoch else Settled.DONE

    def _settle_kept(self, copy: Copy, result: Result) -> None:
        delivery = copy.hand_out()
        self._desk.out += 1
        copy.settling = self._desk.spawn(self._settle(copy, delivery, result))

    async def hand_back(self, delivery: Delivery) -> None:
        """See :meth:`Consumer.hand_back`."""
        await self._desk.hand_back(delivery)

    def let_go(self, delivery: Delivery) -> None:
        """See :meth:`Consumer.let_go`."""
        self._desk.spawn(self._desk.lapse(delivery))

    def report(self, running: Sequence[Holding]) -> None:
        """See :meth:`Consumer.report`."""
        if self._speaker is not None:
            self._transport.presence.report(self._speaker, running)

    # -- living -------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Keep the line and the consumers on it, for as long as this worker lives."""
        waits = Waits()
        told = False
        while not self._closing:
            try:
                await self._line.connect_patiently()
                channel = await self._set_up()
            except (AuthenticationError, Unsupported, InvalidMessage) as error:
                self._fatal = error
                self._woken.set()
                return
            except TransportError as error:
                self._desk.topology.forget()
                await waits.next(error)
                continue
            since = asyncio.get_running_loop().time()
            if told:
                logger.warning("connected to RabbitMQ at %s again", self._line.where)
                self._regain_until = since + REGAIN
            self._up.set()
            self._ask()
            try:
                reason = await self._lost(channel)
            finally:
                self._up.clear()
                self._intake.forget()
                self._buffer.clear()
                self._comeback.drift()
                self._desk.drift()
            if not self._closing:
                logger.warning("%s; connecting again", reason)
                told = True
                # Each loss takes what came over the line.
                if not waits.reset(since):
                    await waits.next()

    async def _set_up(self) -> Channel:
        desk, names = self._desk, self._names
        await desk.topology.stream(names, "workers")
        for activity in sorted(self._activities):
            await desk.topology.work(names, activity)
        await desk.fence.look_for_restart(desk.clock.now())
        await self._marks.renew()
        if self._speaker is None:
            await desk.publisher.send([wire.plain(names, self._own_record("started"))])
            self._speaker = self._transport.presence.start(names.stream("workers"), self._info)
            desk.spawn(self._lookout.run())
            if not self._info.activities:
                await self._learn()
                desk.spawn(self._refresh())
        desk.fence.listeners.add(self._switched)
        return await self._intake.start(sorted(self._activities - desk.fence.paused.keys()))

    def _switched(self) -> None:
        """An activity was paused or resumed."""
        paused = self._desk.fence.paused.keys()
        for activity in sorted(self._activities - paused):
            self._intake.add(activity)
        if paused & self._activities:
            self._desk.spawn(self._leave_paused_alone())
        self._ask()

    async def _leave_paused_alone(self) -> None:
        paused = self._desk.fence.paused
        await self._intake.leave_alone(paused)
        surplus = [copy for copy in self._buffer if copy.activity in paused]
        for copy in surplus:
            self._buffer.remove(copy)
        for copy in surplus:
            await self._desk.put_back(copy)
        self._ask()

    async def _lost(self, channel: Channel) -> str:
        """Wait until the channel is gone; return why."""
        await asyncio.wait([channel.closing])
        await self._intake.let_go()
        # What was declared may be what is missing now.
        self._desk.topology.forget()
        if self._line.alive:
            self._lookout.forget()
            return f"RabbitMQ at {self._line.where} closed the channel of {self._info.worker}"
        return f"lost the connection to RabbitMQ at {self._line.where}"

    def _own_record(self, event: str) -> Record:
        return worker_record(self._info, self._names.topic, event, self._desk.clock.now(), self._desk.gave_back)

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH)
            with suppress(TransportError):
                await self._learn()

    async def _learn(self) -> None:
        """Serve every activity that the journal names."""
        index = self._transport.journal_index(self._names)
        await index.catch_up()
        new = sorted(index.activities - self._activities)
        for activity in new:
            await self._desk.topology.work(self._names, activity)
        self._serve_also(new)

    def _serve_also(self, activities: Iterable[str]) -> None:
        for activity in activities:
            self._activities.add(activity)
            if activity not in self._desk.fence.paused:
                self._intake.add(activity)

    # -- ending -------------------------------------------------------------------------

    async def close(self) -> None:
        """See :meth:`Consumer.close`."""
        if self._closed_by is None:
            self._closed_by = asyncio.create_task(self._close())
            self._closed_by.add_done_callback(lambda _: self._transport.consumers.discard(self))
        # Whoever asks again waits for the same end; a caller that is cancelled does not stop it.
        await asyncio.shield(self._closed_by)

    async def _close(self) -> None:
        closing, self._closing = self._closing, True
        self._fatal = TransportError("this consumer was closed")
        self._woken.set()
        self._surplus.end()
        if closing or self._keeper is None:
            return
        settling = [copy.settling for copy in self._desk.copies.values() if copy.settling is not None]
        if settling:
            await asyncio.wait(settling, timeout=FAREWELL)
        if self._up.is_set():
            with suppress(TransportError, TimeoutError):
                async with asyncio.timeout(FAREWELL):
                    await self._leave()
        if self._speaker is not None:
            await self._transport.presence.stop(self._speaker)
        await self._end()
        await self._line.close()

    async def _leave(self) -> None:
        desk = self._desk
        await self._intake.stop()
        self._buffer.clear()
        # A settle that goes on would hand on what is put back here, and somebody else runs.
        await end(*(copy.settling for copy in desk.copies.values() if copy.settling is not None))
        for copy in [*desk.copies.values(), *(twin for twins in desk.twins.values() for twin in twins)]:
            if copy.delivery is not None:
                copy.delivery.settled = True
            await desk.put_back(copy)
        await self._comeback.give_up_all()
        await self._marks.close()
        await desk.publisher.send([wire.plain(self._names, self._own_record("stopped"))])

    async def _end(self) -> None:
        self._desk.fence.listeners.discard(self._switched)
        if self._keeper is not None:
            await end(self._keeper)
        await self._desk.end_tasks()
        self._desk.publisher.close()

    async def _crash(self) -> None:
        """Vanish as a killed process does: nothing handed back, nothing said. For tests."""
        self._closing = True
        self._transport.consumers.discard(self)
        self._surplus.end()
        self._line.cut()
        if self._speaker is not None:
            self._transport.presence.forget(self._speaker)
        await self._end()
        await self._line.lost()
