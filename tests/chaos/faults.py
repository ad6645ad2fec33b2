"""Points at which a worker process kills itself, armed by tests alone.

`CHAOS_FAULT=<point>@<n>` makes the process die by SIGKILL when it comes to that point for the n-th time. The points are
put into the classes of the library from outside, by the module of the worker that tests start: the library knows
nothing of them.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
from collections.abc import Callable
from typing import Any

from paigeant_core.transports.types import Consumer, Delivery
from tests.chaos import ledger

POINTS = {
    "claimed": "a claim was answered, no handler has begun",
    "before-settle": "the handler came to its end, nothing was said",
    "after-settle": "the hop was handed on, the worker does not know yet",
}
"""What every transport has."""

REDIS_POINTS = {
    **POINTS,
    "answered": "the server has done the move, and nobody reads its answer",
}
RABBITMQ_POINTS = {
    **POINTS,
    "unconfirmed": "the next message was sent, no confirm has come",
    "confirmed": "the next message is confirmed, the old copy not acknowledged",
}


class _Trap:
    """Counts how often a point was reached, and kills at the n-th time."""

    def __init__(self, point: str, at: int, book: ledger.Ledger) -> None:
        self.point = point
        self._left = at
        self._book = book

    def reached(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._book.note(ledger.KILLED, pid=os.getpid(), note=self.point)
            os.kill(os.getpid(), signal.SIGKILL)


def arm(spec: str, scheme: str, book: ledger.Ledger) -> None:
    """Put a trap into the library's classes.

    Args:
        spec: ``<point>@<n>``.
        scheme: of the broker's URL.
        book: where the death is written down.

    Raises:
        ValueError: there is no such point.
    """
    point, _, count = spec.partition("@")
    known = RABBITMQ_POINTS if scheme.startswith("amqp") else REDIS_POINTS
    if point not in known:
        raise ValueError(f"no fault point {point!r} on {scheme}")
    trap = _Trap(point, int(count or 1), book)
    if point in POINTS:
        _on_the_consumer(point, scheme, trap)
    elif point == "answered":
        _redis_answered(trap)
    elif point == "confirmed":
        _rabbitmq_confirmed(trap)
    else:
        _rabbitmq_unconfirmed(trap)


def _on_the_consumer(point: str, scheme: str, trap: _Trap) -> None:
    cls = _consumer_of(scheme)
    if point == "claimed":
        _delivered(cls, trap)
    elif point == "before-settle":
        _around(cls, "settle", before=trap.reached)
    else:
        _around(cls, "settle", after=trap.reached)


def _consumer_of(scheme: str) -> type[Consumer]:
    if scheme.startswith("amqp"):
        from paigeant_core.transports.rabbitmq import RabbitConsumer

        return RabbitConsumer
    from paigeant_core.transports.redis import RedisConsumer

    return RedisConsumer


def _around(
    cls: Any, name: str, *, before: Callable[[], None] | None = None, after: Callable[[], None] | None = None
) -> None:
    original = getattr(cls, name)

    @functools.wraps(original)
    async def trapped(*args: Any, **kwargs: Any) -> Any:
        if before is not None:
            before()
        result = await original(*args, **kwargs)
        if after is not None:
            after()
        return result

    setattr(cls, name, trapped)


def _delivered(cls: Any, trap: _Trap) -> None:
    original = cls.deliver

    @functools.wraps(original)
    async def deliver(self: Consumer, slots: int, take: Callable[[list[Delivery]], None]) -> None:
        def trapped(claimed: list[Delivery]) -> None:
            trap.reached()
            take(claimed)

        await original(self, slots, trapped)

    cls.deliver = deliver


def _redis_answered(trap: _Trap) -> None:
    from paigeant_core.transports.redis.connection import Line
    from paigeant_core.transports.redis.scripts import MOVE

    original = Line.begin

    @functools.wraps(original)
    def begin(self: Line, commands: Any, answered: Any, wait: float = 0.0) -> Any:
        def told(result: Any) -> None:
            if isinstance(result, list) and any(command[:2] == ("EVALSHA", MOVE.sha) for command in commands):
                trap.reached()
            answered(result)

        return original(self, commands, told, wait)

    Line.begin = begin  # type: ignore[method-assign]


def _rabbitmq_confirmed(trap: _Trap) -> None:
    from paigeant_core.transports.rabbitmq.desk import Desk

    original = Desk.ack

    @functools.wraps(original)
    async def ack(self: Desk, *args: Any, **kwargs: Any) -> None:
        trap.reached()
        await original(self, *args, **kwargs)

    Desk.ack = ack  # type: ignore[method-assign]


def _rabbitmq_unconfirmed(trap: _Trap) -> None:
    from paigeant_core.transports.rabbitmq.publisher import Publisher

    original = Publisher.send

    @functools.wraps(original)
    async def send(self: Publisher, *args: Any, **kwargs: Any) -> None:
        sending = asyncio.ensure_future(original(self, *args, **kwargs))
        # So many turns of the loop, and the bytes have gone out; an answer takes longer than that.
        for _ in range(5):
            await asyncio.sleep(0)
        trap.reached()
        await sending

    Publisher.send = send  # type: ignore[method-assign]
