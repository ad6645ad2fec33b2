"""Celery on Redis or RabbitMQ, by the URL, with late acknowledgement: one process that runs its tasks itself."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from kombu import Queue

from benchmarks.peers import _peer

REJECT = bool(os.environ.get("CELERY_REJECT_ON_WORKER_LOST"))


def _app(url: str) -> Celery:
    app = Celery("bench", broker=url)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=REJECT,
        task_ignore_result=True,
        worker_prefetch_multiplier=64 if "PAIGEANT_LEDGER" not in os.environ else 1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        task_queues=[Queue("celery", durable=True)],
    )
    return app


def _tasks(app: Celery) -> dict[str, Any]:
    tasks: dict[str, Any] = {}

    def register(name: str) -> None:
        following = _peer.NEXT[name]

        def step(message: dict[str, Any]) -> None:
            _peer.hop()
            if following:
                tasks[following].delay(message)

        tasks[name] = app.task(step, name=name)

    for name in _peer.STEPS:
        register(name)
    tasks["slow"] = app.task(_peer.slow_blocking, name="slow")
    return tasks


def fill(url: str, count: int, size: int) -> None:
    first, payload = _tasks(_app(url))["one"], _peer.payload(size)
    for _ in range(count):
        first.delay(payload)


def ten(url: str) -> None:
    task = _tasks(_app(url))["slow"]
    for number in range(10):
        task.delay(number)


def work(url: str, concurrency: int) -> None:
    app = _app(url)
    _tasks(app)
    pool = (
        ["--pool=solo"] if "PAIGEANT_LEDGER" not in os.environ else ["--pool=prefork", f"--concurrency={concurrency}"]
    )
    options = ["--without-gossip", "--without-mingle", "--loglevel=WARNING"]
    app.worker_main(["worker", *pool, *options])


if __name__ == "__main__":
    _peer.main(fill=fill, work=work, ten=ten)
