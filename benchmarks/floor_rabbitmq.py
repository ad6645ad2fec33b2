"""The floor for RabbitMQ: what a hop costs when aio-pika alone makes the same publishes.

A hop takes a message from a quorum queue, publishes one of the same size to the next
quorum queue (a stream bound to the same exchange journals it), waits for the confirm
and acknowledges the old one. The last of four goes to the stream alone. Nothing is
decoded, routed or checked: what our transport is measured against.

    python -m benchmarks.floor_rabbitmq [URL] [CONCURRENCY …]
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage

BODY = b"x" * 1440
"""As large as one of our messages with a payload of 1 KB."""

RECORD = "x" * 229
"""As large as a journal record's meta."""

STEPS = 4
"""Queues that a message goes through."""

RATE = 5_000
"""Hops a second that there are messages for."""


async def run(
    url: str, *, seconds: float | None = None, messages: int | None = None, concurrency: int = 16, warm_up: float = 0.5
) -> float:
    """Hops a second that aio-pika makes.

    Args:
        url: of the broker.
        seconds: how long to measure; 3 where neither is given.
        messages: how many hops to measure instead.
        concurrency: hops in flight at once.
        warm_up: seconds before the measuring begins.
    """
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=concurrency)
        async with _topology(channel) as (exchange, queues):
            done = 0
            target: int | None = None
            reached = asyncio.Event()

            async def hop(incoming: AbstractIncomingMessage) -> None:
                nonlocal done
                following = int((incoming.routing_key or "work.0").rpartition(".")[2]) + 1
                key = f"work.{following}" if following < STEPS else "journal.finished"
                await _publish(exchange, key, incoming.message_id or "")
                await incoming.ack()
                done += 1
                if target is not None and done >= target:
                    reached.set()

            # Published beforehand, so that what is measured is the hop alone.
            hops = messages if messages is not None else int((seconds or 3.0) * RATE)
            needed = hops // STEPS + concurrency
            for start in range(0, needed, 200):
                await asyncio.gather(*(_publish(exchange, "work.0", "") for _ in range(min(200, needed - start))))
            tags = [(queue, await queue.consume(hop)) for queue in queues]
            await asyncio.sleep(warm_up)
            before, started = done, time.perf_counter()
            if messages is not None:
                target = done + messages
                await reached.wait()
            else:
                await asyncio.sleep(3.0 if seconds is None else seconds)
            rate = (done - before) / (time.perf_counter() - started)
            if done >= needed * STEPS:
                print("    the messages ran out: the figure is too low; ask for fewer seconds", file=sys.stderr)
            for queue, tag in tags:
                await queue.cancel(tag)
            return rate


async def _publish(exchange: AbstractExchange, key: str, previous: str) -> None:
    identity = os.urandom(16).hex()
    message = aio_pika.Message(
        BODY,
        headers={"r": RECORD, "prev": previous},
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        correlation_id=identity,
        message_id=identity,
        type="advanced",
        app_id="paigeant",
    )
    await exchange.publish(message, routing_key=key, mandatory=False)


@contextlib.asynccontextmanager
async def _topology(
    channel: AbstractChannel,
) -> AsyncIterator[tuple[AbstractExchange, list[aio_pika.abc.AbstractQueue]]]:
    name = f"paigeant.floor-{os.urandom(4).hex()}"
    exchange = await channel.declare_exchange(name, aio_pika.ExchangeType.TOPIC, durable=True)
    journal = await channel.declare_queue(
        f"{name}.journal",
        durable=True,
        arguments={"x-queue-type": "stream", "x-max-age": "7D", "x-max-length-bytes": 1024**3},
    )
    await journal.bind(exchange, "#")
    queues = []
    for number in range(STEPS):
        arguments: dict[str, str | int] = {"x-queue-type": "quorum"}
        queue = await channel.declare_queue(f"{name}.work.{number}", durable=True, arguments=dict(arguments))
        await queue.bind(exchange, f"work.{number}")
        queues.append(queue)
    try:
        yield exchange, queues
    finally:
        for queue in (*queues, journal):
            await queue.delete(if_unused=False, if_empty=False)
        await exchange.delete()


async def _main(url: str, levels: list[int]) -> None:
    for concurrency in levels:
        rates = sorted([await run(url, concurrency=concurrency) for _ in range(3)])
        print(f"C={concurrency:<4} {rates[1]:8.0f} hops/s  ({rates[0]:.0f}-{rates[2]:.0f})")


if __name__ == "__main__":
    given = sys.argv[1:]
    broker = given.pop(0) if given and "://" in given[0] else "amqp://guest:guest@127.0.0.1:5672/"
    asyncio.run(_main(broker, [int(level) for level in given] or [1, 16, 128]))
