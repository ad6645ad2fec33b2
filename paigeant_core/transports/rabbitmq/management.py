"""RabbitMQ's management API over HTTP, where it is reachable: what AMQP itself cannot tell.

User and password are the broker's, unless its URL names others with ``?management=http://USER:PASSWORD@HOST:15672``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit

import httpx

from paigeant_core.errors import ConfigError
from paigeant_core.urls import management_url, mask_url

WITHIN = 5.0
"""Seconds for one answer."""


class Management:
    """A way to the API of one broker.

    Args:
        url: the broker's, with its password.
    """

    def __init__(self, url: str) -> None:
        broker, named = urlsplit(url), management_url(url)
        try:
            own = urlsplit(named)
            _ = own.port
        except ValueError:
            raise ConfigError("?management= in the broker URL cannot be read; write http://HOST:15672") from None
        self.address = mask_url(named)
        """For people."""
        self.user = unquote(broker.username or "guest")
        """Who works on the broker."""
        login = own if own.username else broker
        # Reading the certificates of this machine takes longer than the question: only where they are needed.
        self._client = httpx.AsyncClient(
            base_url=own._replace(netloc=own.netloc.rpartition("@")[2]).geturl(),
            auth=(unquote(login.username or "guest"), unquote(login.password or "guest")),
            timeout=WITHIN,
            verify=own.scheme != "http",
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

    async def get(self, *path: str, columns: Sequence[str] = ()) -> Any:
        """The answer at ``/api/…``, decoded; None: there is none, or this user may not see it.

        Args:
            path: behind ``/api/``.
            columns: what of each row is wanted; empty: all there is.
        """
        params = {"columns": ",".join(columns)} if columns else None
        try:
            answer = await self._client.get("/api/" + "/".join(quote(part, safe="") for part in path), params=params)
            # A health check that failed answers 503, and says why.
            return answer.json() if answer.status_code in (httpx.codes.OK, httpx.codes.SERVICE_UNAVAILABLE) else None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return None

    async def rows(self, *path: str, columns: Sequence[str] = ()) -> Sequence[Mapping[str, Any]] | None:
        """The objects in the list at ``/api/…``; None: it cannot be had.

        Args:
            path: behind ``/api/``.
            columns: what of each is wanted; empty: all there is.
        """
        found = await self.get(*path, columns=columns)
        return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else None
