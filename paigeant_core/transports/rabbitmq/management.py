"""RabbitMQ's management API over HTTP, where it is reachable: what AMQP itself cannot tell.

The address is the broker's with port 15672, or what ``?management=URL`` in the broker's
URL says. User and password are the broker's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import httpx

PORT = 15672
TLS_PORT = 15671
WITHIN = 5.0
"""Seconds for one answer."""


class Management:
    """A way to the API of one broker.

    Args:
        url: the broker's, with its password.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        tls = parts.scheme == "amqps"
        named = dict(parse_qsl(parts.query)).get("management")
        self.address = named or f"http{'s' if tls else ''}://{parts.hostname}:{TLS_PORT if tls else PORT}"
        user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        self.user = user
        self._client = httpx.AsyncClient(base_url=self.address, auth=(user, password), timeout=WITHIN)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

    async def get(self, *path: str) -> Any:
        """The answer at ``/api/…``, decoded; None: there is none, or this user may not see it."""
        try:
            answer = await self._client.get("/api/" + "/".join(quote(part, safe="") for part in path))
            # A health check that failed answers 503, and says why.
            return answer.json() if answer.status_code in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE) else None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return None

    async def rows(self, *path: str) -> Sequence[Mapping[str, Any]] | None:
        """The objects in the list at ``/api/…``; None: it cannot be had."""
        found = await self.get(*path)
        return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else None
