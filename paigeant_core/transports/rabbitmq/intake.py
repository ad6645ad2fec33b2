"""Taking messages from work queues, never more than somebody has a free slot for.

AMQP offers two ways, and neither is right alone. *Push*: a consumer with a prefetch is
sent so many messages unasked; with one queue the prefetch is the free slots, with
several queues each has its own and together they are too many, or too few. *Pull*:
``basic.get`` takes exactly one, but costs a round trip, and on an empty queue it must be
asked again.

So: one queue is pushed. Several queues are pulled, and when all are empty each gets a
consumer with a prefetch of one, a doorbell, which is taken away when it rings. When
steps turn out to be quick, several queues are pushed as well: each with its share of the
slots first, and with more where slots stay free; what is then too many is run within a
blink. Whoever owns this gives back what waits longer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from pamqp.commands import Basic

from paigeant_core.errors import TransportError
from paigeant_core.transports.rabbitmq.connection import Channel, Line, Message, quietly_close
from paigeant_core.transports.rabbitmq.lanes import Lane
from paigeant_core.transports.rabbitmq.topology import Names

logger = logging.getLogger("paigeant")

QUICK = 0.25
"""Seconds from hand-out to hand-off below which steps are quick."""

GROW = 0.02
"""Seconds that slots must be free before a queue that is pushed gets more credit."""

_SAMPLES = 16
_LINGER = 0.02
"""Seconds that doorbells stay while nobody has a free slot."""

_STRAGGLE = 60.0
"""Seconds after a consumer was cancelled in which deliveries to it are still taken."""

_HANDS = 8
"""Messages that are asked for at once when pulling."""


class Intake:
    """The consumers on one channel.

    Args:
        line: over which.
        names: of the topic.
        worker: consumer tags begin with it, for RabbitMQ's own pages.
        arrived: called with each delivery and its activity.
        varying: activities may be added later.
    """

    def __init__(
        self, line: Line, names: Names, worker: str, arrived: Callable[[Message, str], None], *, varying: bool
    ) -> None:
        self._line = line
        self._names = names
        self._tag = worker.encode("ascii", "replace").decode()[:200]
        self._arrived = arrived
        self._varying = varying
        self._activities: list[str] = []
        self._serial = 0
        self._turn = 0
        self._want = 0
        self._asked = 0
        self._span = 1
        self._push = False
        self._grow = False
        self._idle = False
        self._stopping = False
        self._bells: dict[str, str] = {}
        self._consumers: dict[str, _Consumer] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self._ringing: set[asyncio.Task[None]] = set()
        self._pace = 1.0
        self._samples = 0
        self._hands: list[Lane] = []
        self._lane: Lane | None = None

    # -- what its owner says --------------------------------------------------------------

    async def start(self, activities: Iterable[str]) -> Channel:
        """Open a channel; nothing is taken before somebody wants something."""
        self._activities = list(activities)
        self._bells.clear()
        self._consumers.clear()
        self._push = not self._varying and len(self._activities) == 1
        self._stopping = self._idle = self._grow = False
        lane = self._lane = await self._line.lane()
        lane.channel.on_consumer_cancel_callbacks.add(lambda _: self._close())
        self._task = asyncio.create_task(self._serve(lane))
        return lane.channel

    def add(self, activity: str) -> None:
        """Serve one more activity."""
        if activity not in self._activities:
            self._activities.append(activity)
            self._grow = True  # where queues are pushed, it gets its credit at once
            self._changed.set()

    async def leave_alone(self, activities: Iterable[str]) -> None:
        """Take nothing more of these until they are added again."""
        gone = set(activities) & set(self._activities)
        if gone:
            self._activities = [activity for activity in self._activities if activity not in gone]
            await self._cancel([tag for tag, consumer in self._consumers.items() if consumer.activity in gone])
            self._changed.set()

    def want(self, slots: int, span: int) -> None:
        """Say how many messages there are free slots for, beyond those that came already.

        Args:
            slots: so many.
            span: free slots and running steps together.
        """
        self._span = max(1, span)
        if slots != self._want:
            self._want = slots
            if not self._push or not self._covered():
                self._changed.set()
            elif slots and len(self._activities) > 1 and self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(GROW, self._grow_if_wanted)

    def acknowledged(self, message: Message) -> None:
        """A delivery was acknowledged: its consumer has that credit again."""
        if (consumer := self._consumers.get(message.consumer_tag or "")) is not None:
            consumer.unacked -= 1
            consumer.leaving.discard(message.delivery_tag or 0)

    def ran(self, message: Message, seconds: float) -> None:
        """How long the step of a message took, from hand-out to hand-off, which is what comes now."""
        if (consumer := self._consumers.get(message.consumer_tag or "")) is not None:
            consumer.leaving.add(message.delivery_tag or 0)
        self._pace += (seconds - self._pace) / 8
        self._samples += 1
        if self._pace < QUICK and self._samples >= _SAMPLES and not self._push and not self._varying:
            self._push = True
            self._changed.set()

    async def pause(self) -> None:
        """Take nothing more until something is wanted: what came is too many."""
        self._want = 0
        self._pace, self._samples = 1.0, 0
        if len(self._activities) > 1:
            self._push = False
        await self._cancel([*self._consumers])

    async def stop(self) -> None:
        """Take nothing more; the channel stays, for acknowledgements."""
        self._stopping = True
        self._want = 0
        self._changed.set()
        if self._task is not None:
            # Not cancelled: the driver closes a channel whose call is, and all would come again.
            await asyncio.wait([self._task], timeout=5.0)
        await self._cancel([*self._consumers])

    async def let_go(self) -> None:
        """The channel is gone; give back what came over the others as well.

        One that stayed open would keep its messages: the broker gives nobody what it counts as being worked on here.
        """
        self.forget()
        hands, self._hands = self._hands, []
        await asyncio.gather(*map(quietly_close, hands))

    def forget(self) -> None:
        """Do nothing more over what was opened."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()

    # -- serving ------------------------------------------------------------------------

    async def _serve(self, lane: Lane) -> None:
        try:
            while not self._stopping:
                self._changed.clear()
                if self._want > 0:
                    self._idle = False
                    if self._push:
                        await self._grant(lane)
                    else:
                        await self._pull(lane)
                elif self._idle:
                    await self._cancel([*self._bells.values()])
                elif self._bells and self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(_LINGER, self._idle_if_unwanted)
                await self._changed.wait()
        except TransportError as error:
            # A queue that is missing, or the line: whoever owns this begins anew when the channel is closed.
            if self._line.alive:
                logger.warning("%s", error)
            await quietly_close(lane)

    def _covered(self) -> bool:
        """Whether the consumers have credit for what is wanted."""
        if len(self._activities) > 1:
            return bool(self._consumers) and not self._bells and not self._grow
        return self._credit() >= self._want

    def _credit(self) -> int:
        """How many more messages may come of the one queue, soon.

        A slot is free as soon as its step has ended, and its message goes when the settle is made. Where steps are
        quick the next one is asked for at once. Where not, the consumer that gets its credit back then would bring
        one too many, which would stand here while others are idle, and lose its place in the queue.
        """
        consumers = self._consumers.values()
        credit = sum(consumer.credit for consumer in consumers)
        return credit if self._pace < QUICK else credit + sum(len(consumer.leaving) for consumer in consumers)

    async def _grant(self, lane: Lane) -> None:
        """Push: give the consumers credit for the free slots."""
        await self._cancel([*self._bells.values()])
        if not self._activities or self._covered():
            return
        if len(self._activities) == 1:
            await self._consume(lane, self._activities[0], self._want - self._credit())
        elif not self._consumers:
            share = -(-self._span // len(self._activities))
            for activity in self._activities:
                await self._consume(lane, activity, share)
        else:
            self._grow = False
            for activity in self._activities:
                mine = [consumer for consumer in self._consumers.values() if consumer.activity == activity]
                more = min(self._want, self._span - sum(consumer.prefetch for consumer in mine))
                if more > 0 and sum(consumer.credit for consumer in mine) <= 0:
                    await self._consume(lane, activity, more)

    async def _pull(self, lane: Lane) -> None:
        """Take one by one, the queues in turn; hang a bell on each that is empty."""
        bells = set(self._bells.values())
        await self._cancel([tag for tag in self._consumers if tag not in bells])
        turn = deque(item for item in self._activities if item not in self._bells)
        if not turn:
            return
        self._turn += 1
        turn.rotate(-self._turn)
        self._asked = 0
        hands = min(_HANDS, self._want)
        while len(self._hands) < hands:
            hand = await self._line.lane()
            # One that the broker closes takes its messages with it, and then all begin anew.
            hand.channel.closing.add_done_callback(partial(self._close_without, hand))
            self._hands.append(hand)
        await asyncio.gather(*(self._pull_with(hand.channel, lane, turn) for hand in self._hands[:hands]))

    async def _pull_with(self, hand: Channel, lane: Lane, turn: deque[str]) -> None:
        while turn and self._asked < self._want and not self._stopping and not self._push:
            activity = turn[0]
            turn.rotate(-1)
            self._asked += 1
            try:
                with self._line.errors():
                    message = await hand.basic_get(self._names.work(activity))
            finally:
                self._asked -= 1
            if not isinstance(message.delivery, Basic.GetEmpty):
                self._arrived(message, activity)
            elif activity in turn:
                turn.remove(activity)
                await self._consume(lane, activity, 1, bell=True)

    async def _consume(self, lane: Lane, activity: str, prefetch: int, *, bell: bool = False) -> None:
        self._serial += 1
        tag = f"{self._tag}.{self._serial}"
        consumer = self._consumers[tag] = _Consumer(activity, prefetch)
        if bell:
            self._bells[activity] = tag

        def came(message: Message) -> None:
            consumer.unacked += 1
            self._arrived(message, activity)
            if self._bells.get(activity) == tag:
                task = asyncio.get_running_loop().create_task(self._take_down(tag))
                self._ringing.add(task)
                task.add_done_callback(self._ringing.discard)

        with self._line.errors():
            await lane.channel.basic_qos(prefetch_count=prefetch)
            await lane.consume(self._names.work(activity), came, tag)

    async def _take_down(self, bell: str) -> None:
        await self._cancel([bell])
        self._changed.set()

    async def _cancel(self, tags: list[str]) -> None:
        for tag in tags:
            self._consumers.pop(tag, None)
            for activity in [activity for activity, bell in self._bells.items() if bell == tag]:
                del self._bells[activity]
            if self._lane is not None and not self._lane.closed:
                with suppress(TransportError), self._line.errors():
                    await self._lane.channel.basic_cancel(tag)
                    # A precaution: what came behind the answer all the same would be ours, and must not vanish.
                    asyncio.get_running_loop().call_later(_STRAGGLE, self._lane.consumers.pop, tag, None)

    def _close_without(self, hand: Lane, _: object) -> None:
        if hand in self._hands:
            self._close()

    def _close(self) -> None:
        """Begin anew: the broker took a consumer away because its queue was deleted, or closed a channel."""
        if self._lane is not None and not self._lane.closed:
            # Beside: the driver calls this from what would read the answer.
            self._closing = asyncio.get_running_loop().create_task(quietly_close(self._lane))

    def _grow_if_wanted(self) -> None:
        self._timer = None
        if self._want > 0:
            self._grow = True
            self._changed.set()

    def _idle_if_unwanted(self) -> None:
        self._timer = None
        self._idle = True
        self._changed.set()


class _Consumer:
    """One consumer: how many messages it may have unacknowledged, and has, and which of them are being settled."""

    __slots__ = ("activity", "leaving", "prefetch", "unacked")

    def __init__(self, activity: str, prefetch: int) -> None:
        self.activity = activity
        self.prefetch = prefetch
        self.unacked = 0
        self.leaving: set[int] = set()

    @property
    def credit(self) -> int:
        """How many more it may be sent."""
        return self.prefetch - self.unacked
