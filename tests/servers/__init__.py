"""Private, real Redis and RabbitMQ servers for the tests and the benchmarks.

Each server is a process of its own on the loopback interface, with a port, a data directory and a log of its own, so
that it can be killed, stopped and restarted in the middle of a test without touching a server that somebody else uses.
Nothing is left over: a running server dies, and its directory goes, when it is closed, when the interpreter exits, and
also when the interpreter is killed (a watchdog process sees the end of a pipe).

    with RedisServer(appendonly=True) as redis:
        redis.kill()      # as if the power had gone
        redis.restart()   # the same port, the same data

The classes are synchronous: an async test that must not block its loop calls them through `asyncio.to_thread`.
"""

from __future__ import annotations

from tests.servers.private import HOST, PrivateServer, ServerError, ServerMissing, SharedServer, free_port
from tests.servers.rabbitmq import RabbitCluster, RabbitServer
from tests.servers.redis import RedisSentinel, RedisServer

__all__ = [
    "HOST",
    "PrivateServer",
    "RabbitCluster",
    "RabbitServer",
    "RedisSentinel",
    "RedisServer",
    "ServerError",
    "ServerMissing",
    "SharedServer",
    "free_port",
]
