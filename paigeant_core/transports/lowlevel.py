"""The low-level form: subscribe, change the message, publish it again.

Gradual adoption needs no worker: a handler takes a message, calls
``routing_slip.mark_complete`` and publishes it. Since a message from ``subscribe``
carries its delivery, that publish is the same hand-off that a worker's settle is.
"""

from __future__ import annotations

import asyncio
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import msgspec

from paigeant_core import transition as moves
from paigeant_core.admission import admit
from paigeant_core.clock import Clock, rfc3339, ticks_of
from paigeant_core.errors import ConfigError, IllegalTransition, InvalidMessage
from paigeant_core.limits import LEASE
from paigeant_core.message import PaigeantMessage
from paigeant_core.names import check_activity, check_correlation_id, check_topic, new_id
from paigeant_core.retry import RetryPolicy
from paigeant_core.routing import Executed
from paigeant_core.transition import Span, Transition
from paigeant_core.transports.types import Capabilities, Consumer, Delivery, WorkerInfo, holding

if TYPE_CHECKING:
    from paigeant_core.tokens import Tokens

MAX_UNSETTLED = 64
"""Messages that one subscription may hold without settling them."""


@dataclass(slots=True)
class _Held:
    delivery: Delivery
    """Kept alive: it is found by its id(), which another could have once it is gone."""
    consumer: Consumer
    topic: str
    original: PaigeantMessage
    since: float
    began: float
    """The same moment, by what durations are measured with."""
    worker: str


class LowLevel(ABC):
    """Subscribe, publish, ack and nack, on top of a transport's consumer."""

    capabilities: ClassVar[Capabilities]

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._held: dict[int, _Held] = {}

    @abstractmethod
    async def dispatch(self, topic: str, transition: Transition, *, chosen_id: bool = True) -> None:
        """See :meth:`paigeant_core.transports.base.Transport.dispatch`."""

    @abstractmethod
    def consumer(self, topic: str, info: WorkerInfo, *, lease: float) -> Consumer:
        """See :meth:`paigeant_core.transports.base.Transport.consumer`."""

    async def publish(self, topic: str, message: PaigeantMessage) -> None:
        """Hand on a message that ``subscribe`` gave; without a delivery: dispatch it.

        A message whose slip was moved on advances or finishes; one whose slip was not is
        put back at once as a further attempt of the same step.

        Args:
            topic: the topic it was taken from, or is to be dispatched to.
            message: with its changes.

        Raises:
            IllegalTransition: its delivery is settled already, it was taken from another topic,
                or its slip was changed in another way than by ``mark_complete``.
            InvalidMessage: its payload was changed to what JSON cannot say.
            DuplicateWorkflow: it has no delivery, and its correlation ID exists.
            ConfigError: it holds a token that this broker would store in clear.
        """
        if message.in_clear and self.capabilities.durable:
            raise ConfigError(
                "this message holds an on-behalf-of token in clear, and this broker stores messages: dispatch it with "
                "a WorkflowDispatcher that has tokens"
            )
        delivery: Delivery | None = message.delivery
        if delivery is None:
            await self._dispatch_message(check_topic(topic), message)
            return
        held = self._held.get(id(delivery))
        if delivery.settled or held is None:
            raise IllegalTransition("this message was handed on already, or its subscription is closed")
        if topic != held.topic:
            raise IllegalTransition(f"this message was taken from topic {held.topic}, and is handed on there alone")
        await self._settle(delivery, _handed_on(message, held, _span(held, self.clock)))

    async def subscribe(
        self, topic: str, activity: str | None = None, *, tokens: Tokens | None = None
    ) -> AsyncIterator[tuple[Delivery, PaigeantMessage]]:
        """Take messages one by one, each with its delivery, for ever.

        What is not settled when the iteration is closed goes back to its queue. A step that is
        to be undone is not given: there is no compensator here, and the compensation goes on.

        Args:
            topic: where.
            activity: whose queue; None: of every activity known to the topic.
            tokens: opens the tokens that ride encrypted, for ``message.obo_token``.

        Raises:
            IllegalTransition: 64 messages were taken and not settled.
        """
        check_topic(topic)
        activities = () if activity is None else (check_activity(activity),)
        name = f"subscriber-{new_id()[:8]}"
        info = WorkerInfo(
            worker=name,
            activities=activities,
            concurrency=MAX_UNSETTLED,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_at=self.clock.now(),
        )
        consumer = self.consumer(topic, info, lease=LEASE)
        try:
            while True:
                if sum(held.consumer is consumer for held in self._held.values()) >= MAX_UNSETTLED:
                    raise IllegalTransition(
                        f"{MAX_UNSETTLED} messages were taken and neither published, acked nor nacked"
                    )
                for delivery in await consumer.claim(1):
                    message = await admit(consumer, delivery, topic, name, self.clock, tokens=tokens)
                    if message is None:
                        continue
                    if message.routing_slip.undoing:
                        # Handed to a handler, its work would be done a second time instead of being undone.
                        now = self.clock.now()
                        span = Span(worker=name, started_at=now, completed_at=now, deaths=delivery.deaths)
                        await consumer.settle(delivery, moves.undone(message, span, had_compensator=False))
                        continue
                    message.delivery = delivery
                    original = PaigeantMessage.decode(delivery.body)
                    now, began = self.clock.now(), ticks_of(self.clock)()
                    self._held[id(delivery)] = _Held(delivery, consumer, topic, original, now, began, name)
                    self._report(consumer)
                    yield delivery, message
        finally:
            for key in [key for key, held in self._held.items() if held.consumer is consumer]:
                del self._held[key]
            await asyncio.shield(consumer.close())

    async def ack(self, raw: Delivery) -> None:
        """Nothing after a publish; else the end, ``cancelled`` where steps are left."""
        if (held := self._held.get(id(raw))) is not None and not raw.settled:
            detail = {"reason": "acknowledged without hand-off"}
            await self._settle(raw, moves.cancel(held.original, self.clock.now(), detail, held.worker))

    async def nack(self, raw: Delivery) -> None:
        """Put the step back, to be tried again after a delay that the broker keeps."""
        if (held := self._held.get(id(raw))) is not None and not raw.settled:
            span = _span(held, self.clock)
            delay = RetryPolicy().delay(held.original.headers.attempt)
            await self._settle(raw, moves.retry(held.original, Nacked("put back by its handler"), delay, span))

    async def _settle(self, delivery: Delivery, transition: Transition) -> None:
        consumer = self._held[id(delivery)].consumer
        await consumer.settle(delivery, transition)
        self._held.pop(id(delivery), None)
        self._report(consumer)

    def _report(self, consumer: Consumer) -> None:
        consumer.report(
            [holding(held.original.headers, held.since) for held in self._held.values() if held.consumer is consumer]
        )

    async def _dispatch_message(self, topic: str, message: PaigeantMessage) -> None:
        if message.routing_slip.finished:
            raise InvalidMessage("an empty itinerary: a workflow needs at least one step")
        check_correlation_id(message.correlation_id)
        now = self.clock.now()
        following = message.replaced(message.routing_slip, timestamp=rfc3339(now))
        fields = {"topic": topic, "created_at": message.headers.created_at or rfc3339(now)}
        following.headers = msgspec.structs.replace(following.headers, **fields)
        await self.dispatch(topic, moves.dispatch(following, now), chosen_id=True)


class Nacked(Exception):
    """A handler of the low-level form put its message back."""


def _span(held: _Held, clock: Clock) -> Span:
    return Span(
        worker=held.worker,
        started_at=held.since,
        completed_at=clock.now(),
        deaths=held.delivery.deaths,
        took=ticks_of(clock)() - held.began,
    )


def _handed_on(message: PaigeantMessage, held: _Held, span: Span) -> Transition:
    original = held.original
    timestamp = rfc3339(span.completed_at)
    before, after = original.routing_slip, message.routing_slip
    moved = len(after.executed) - len(before.executed)
    if after.executed[: len(before.executed)] != before.executed or moved < 0 or after.undoing != before.undoing:
        raise IllegalTransition("the executed steps of a slip change by mark_complete alone")
    if moved:
        # `mark_complete(name)` in a handler does not say which attempt it was; its delivery knows.
        # In the place of the entry, which is every slip's that has one like it.
        done = after.executed[len(before.executed)]
        after.executed[len(before.executed)] = Executed(done, original.headers.attempt, skipped=done.skipped)
    payload = message.payload_bytes
    if moved == 0:
        attempt = original.headers.attempt
        changed = original.replaced(after, timestamp=timestamp, attempt=attempt, payload=payload)
        return moves.retry(changed, Nacked("published without mark_complete"), 0.0, span)
    return moves.handed_on(original, message.replaced(after, timestamp=timestamp, payload=payload), span)
