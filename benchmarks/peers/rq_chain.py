"""RQ on Redis with SimpleWorker, which does not fork a process for each job."""

from __future__ import annotations

import os
from typing import Any

from redis import Redis
from rq import Queue, SimpleWorker

from benchmarks.peers import _peer

NAME = "benchmarks.peers.rq_chain"
_connection: Any = None


def step(name: str, message: dict[str, Any]) -> None:
    _peer.hop()
    if following := _peer.NEXT[name]:
        Queue(connection=_connection).enqueue(f"{NAME}.step", following, message, result_ttl=0)


def fill(url: str, count: int, size: int) -> None:
    queue, payload = Queue(connection=Redis.from_url(url)), _peer.payload(size)
    for start in range(0, count, 200):
        data = Queue.prepare_data(f"{NAME}.step", ("one", payload), result_ttl=0)
        queue.enqueue_many([data] * min(200, count - start))


def ten(url: str) -> None:
    queue = Queue(connection=Redis.from_url(url))
    for number in range(10):
        queue.enqueue("benchmarks.peers._peer.slow_blocking", number)


def work(url: str, concurrency: int) -> None:
    # The job's function is imported by name: as this module, not as the program that was started.
    from benchmarks.peers import rq_chain

    rq_chain._connection = Redis.from_url(url)
    worker = SimpleWorker([Queue(connection=rq_chain._connection)], connection=rq_chain._connection)
    worker.work(logging_level="ERROR")
    os._exit(0)


if __name__ == "__main__":
    _peer.main(fill=fill, work=work, ten=ten)
