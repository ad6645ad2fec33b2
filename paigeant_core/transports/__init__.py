"""Transports, and how one is found by URL."""

from __future__ import annotations

import os

from paigeant_core.clock import Clock
from paigeant_core.transports.base import Transport
from paigeant_core.urls import SENTINEL, parse_url

DEFAULT_URL = "memory://"


def get_transport(url: str | None = None, *, clock: Clock | None = None) -> Transport:
    """The transport for ``url``; nothing is connected yet.

    Args:
        url: ``memory://``, ``redis://``, ``rediss://``, ``redis+sentinel://``, ``rediss+sentinel://``, ``amqp://`` or
            ``amqps://``, with several addresses where there are several servers (``redis://one,two/0``); None:
            PAIGEANT_URL from the environment, then ``memory://``.
        clock: where the time comes from, in place of the machine's.

    Raises:
        ConfigError: no such scheme, or a URL that cannot be read.
    """
    url = url or os.environ.get("PAIGEANT_URL") or DEFAULT_URL
    scheme = parse_url(url).scheme
    # Imported when asked for: a driver costs up to 0.2 s at start.
    if scheme.removesuffix(SENTINEL) in ("redis", "rediss"):
        from paigeant_core.transports.redis import RedisTransport

        return RedisTransport(url, clock=clock)
    if scheme in ("amqp", "amqps"):
        from paigeant_core.transports.rabbitmq import RabbitTransport

        return RabbitTransport(url, clock=clock)
    from paigeant_core.transports.memory import MemoryTransport

    return MemoryTransport(url.partition("://")[2].strip("/"), clock=clock)


__all__ = ["DEFAULT_URL", "Transport", "get_transport"]
