"""dramatiq on Redis or RabbitMQ, by the URL, with its threads; on RabbitMQ publishes are confirmed."""

from __future__ import annotations

import time
from typing import Any

import dramatiq

from benchmarks.peers import _peer


def _broker(url: str) -> dramatiq.Broker:
    if url.startswith("redis"):
        from dramatiq.brokers.redis import RedisBroker

        broker: dramatiq.Broker = RedisBroker(url=url)
    else:
        from dramatiq.brokers.rabbitmq import RabbitmqBroker

        broker = RabbitmqBroker(url=url, confirm_delivery=True)
    # Nobody scrapes the metrics of a benchmark.
    broker.middleware = [item for item in broker.middleware if type(item).__name__ != "Prometheus"]
    dramatiq.set_broker(broker)
    return broker


def _actors(broker: dramatiq.Broker) -> dict[str, Any]:
    actors: dict[str, Any] = {}

    def register(name: str) -> None:
        following = _peer.NEXT[name]

        def step(message: dict[str, Any]) -> None:
            _peer.hop()
            if following:
                actors[following].send(message)

        actors[name] = dramatiq.actor(step, actor_name=name, broker=broker, queue_name=name)

    for name in _peer.STEPS:
        register(name)
    actors["slow"] = dramatiq.actor(_peer.slow_blocking, actor_name="slow", broker=broker, queue_name="slow")
    return actors


def fill(url: str, count: int, size: int) -> None:
    first, payload = _actors(_broker(url))["one"], _peer.payload(size)
    for _ in range(count):
        first.send(payload)


def ten(url: str) -> None:
    actor = _actors(_broker(url))["slow"]
    for number in range(10):
        actor.send(number)


def work(url: str, concurrency: int) -> None:
    broker = _broker(url)
    _actors(broker)
    # More threads than this only wait for each other.
    dramatiq.Worker(broker, worker_threads=min(8, concurrency)).start()
    time.sleep(1e6)


if __name__ == "__main__":
    _peer.main(fill=fill, work=work, ten=ten)
