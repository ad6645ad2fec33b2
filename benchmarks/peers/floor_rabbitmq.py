"""The floor under a hop on RabbitMQ: aio-pika alone making the same publishes.

A hop takes a message from a quorum queue, publishes one of the same size to the next quorum queue (a stream bound to
the same exchange journals it), waits for the confirm and acknowledges the old one. The last of four goes to the stream
alone. Nothing is decoded, routed or checked: what our transport is measured against.
"""

from __future__ import annotations

import asyncio
import os

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractIncomingMessage, AbstractQueue

from benchmarks.peers import _peer

NAME = "floor"
AROUND = 416
"""Bytes that one of our messages has beside its payload."""
RECORD = "x" * 229
"""As large as a journal record's meta."""


async def _publish(exchange: AbstractExchange, key: str, body: bytes, previous: str) -> None:
    identity = os.urandom(16).hex()
    message = aio_pika.Message(
        body,
        headers={"r": RECORD, "prev": previous},
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        correlation_id=identity,
        message_id=identity,
        type="advanced",
        app_id="paigeant",
    )
    await exchange.publish(message, routing_key=key, mandatory=False)


async def topology(channel: AbstractChannel) -> tuple[AbstractExchange, list[AbstractQueue]]:
    exchange = await channel.declare_exchange(NAME, aio_pika.ExchangeType.TOPIC, durable=True)
    journal = await channel.declare_queue(
        f"{NAME}.journal",
        durable=True,
        arguments={"x-queue-type": "stream", "x-max-age": "7D", "x-max-length-bytes": 1024**3},
    )
    await journal.bind(exchange, "#")
    queues = []
    for number in range(len(_peer.STEPS)):
        queue = await channel.declare_queue(f"{NAME}.work.{number}", durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(exchange, f"work.{number}")
        queues.append(queue)
    return exchange, queues


async def fill(url: str, count: int, size: int) -> None:
    async with await aio_pika.connect(url) as connection:
        exchange, _ = await topology(await connection.channel())
        body = b"x" * (size + AROUND)
        for start in range(0, count, 200):
            await asyncio.gather(*(_publish(exchange, "work.0", body, "") for _ in range(min(200, count - start))))


async def work(url: str, concurrency: int) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=concurrency)
        exchange, queues = await topology(channel)

        async def step(incoming: AbstractIncomingMessage) -> None:
            following = int((incoming.routing_key or "work.0").rpartition(".")[2]) + 1
            key = f"work.{following}" if following < len(queues) else "journal.finished"
            await _publish(exchange, key, incoming.body, incoming.message_id or "")
            await incoming.ack()
            _peer.hop()

        for queue in queues:
            await queue.consume(step)
        await asyncio.Event().wait()


if __name__ == "__main__":
    _peer.main(fill=fill, work=work)
