"""Token exchange (RFC 8693): a token for one step, with no more than the step needs, just before it runs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Collection
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from paigeant_core.delegation import Delegation, delegation_of, listed
from paigeant_core.errors import ConfigError, InvalidMessage, RetryAfter, TokenExpired
from paigeant_core.secret import Secret

GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a kind of token
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"

TIMEOUT: Final = 10.0
"""Seconds that an exchange may take, all of it."""

MAX_RESPONSE: Final = 64 * 1024
"""Bytes of an answer that are read."""

_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_ERROR: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")


class AuthorizationServerDown(RetryAfter):
    """The authorisation server did not answer, or is in trouble: the step is tried again by its policy."""

    code = "authorization_server_down"


class TokenExchange:
    """Exchanges tokens at one endpoint.

    Args:
        endpoint: the token endpoint; https, but for one on this machine.
        client_id: who the worker is there; empty: the actor token alone says it.
        client_secret: its secret.
        actor_token: the worker's own token, which the new one names as the acting party (`act`);
            or what gives it, called in a thread.
        audience: who the new tokens are for, by name.
        resource: who they are for, by URI.
        timeout: seconds that an exchange may take.

    Raises:
        ConfigError: an endpoint that cannot be, or a timeout.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        client_id: str = "",
        client_secret: Secret | str = "",
        actor_token: Secret | str | Callable[[], Secret | str] = "",
        audience: str = "",
        resource: str = "",
        timeout: float = TIMEOUT,
    ) -> None:
        parts = urlsplit(endpoint)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
            raise ConfigError("the token endpoint must be an https URL: tokens go there")
        if parts.username or parts.password or not parts.hostname:
            raise ConfigError("the token endpoint must be a URL with a host, without a user or a password")
        if not 0.05 <= timeout <= 120:
            raise ConfigError(f"the exchange's timeout is {timeout!r}, it must be from 0.05 to 120 seconds")
        self._endpoint = endpoint
        self._auth = (client_id, _secret(client_secret)) if client_id else None
        self._actor = actor_token if callable(actor_token) else _secret(actor_token)
        self._audience = audience
        self._resource = resource
        self._timeout = timeout
        # Made once, for it takes a tenth of a second.
        self._tls = httpx.create_ssl_context()

    def __repr__(self) -> str:
        return f"<TokenExchange {self._endpoint}>"

    async def exchange(
        self, token: Secret, of: Delegation, scopes: Collection[str], now: float, *, wait: float = 1.0
    ) -> Secret:
        """A token for ``scopes`` in place of ``token``.

        Args:
            token: the user's.
            of: what is known of it.
            scopes: what the step needs; empty: whatever the server gives, never more than before.
            now: the time, seconds since the Unix epoch.
            wait: seconds until the next try, if the server is in trouble.

        Raises:
            TokenExpired: the server refuses, or what it gave is not what was asked for.
            AuthorizationServerDown: it does not answer, or is in trouble.
        """
        fields = {
            "grant_type": GRANT,
            "subject_token": token.reveal(),
            "subject_token_type": ACCESS_TOKEN,
            "requested_token_type": ACCESS_TOKEN,
        }
        if scopes:
            fields["scope"] = " ".join(sorted(scopes))
        if self._audience:
            fields["audience"] = self._audience
        if self._resource:
            fields["resource"] = self._resource
        try:
            async with asyncio.timeout(self._timeout):
                actor = await asyncio.to_thread(self._actor) if callable(self._actor) else self._actor
                if actor:
                    fields |= {"actor_token": _secret(actor).reveal(), "actor_token_type": ACCESS_TOKEN}
                status, body, asked = await self._ask(fields)
        except (TimeoutError, httpx.HTTPError, OSError) as error:
            why = "did not answer in time" if isinstance(error, TimeoutError) else type(error).__name__
            raise AuthorizationServerDown(wait, f"the authorisation server cannot be asked: {why}") from None
        if status >= 500 or status in (408, 425, 429):
            raise AuthorizationServerDown(
                asked if asked is not None else wait, f"the authorisation server answered {status}"
            )
        document = _document(body)
        if status != 200:
            raise TokenExpired(f"the authorisation server refused to exchange the token: {_reason(document, status)}")
        return _checked(document, of, scopes, now)

    async def _ask(self, fields: dict[str, str]) -> tuple[int, bytes, float | None]:
        auth = None if self._auth is None else httpx.BasicAuth(self._auth[0], self._auth[1].reveal())
        # A client of its own each time: nothing of one user's answer is left for the next. No redirects: the token goes
        # where the configuration says. No compression: what is read is what came.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        async with (
            httpx.AsyncClient(timeout=self._timeout, follow_redirects=False, verify=self._tls) as client,
            client.stream("POST", self._endpoint, data=fields, auth=auth, headers=headers) as response,
        ):
            body = b""
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_RESPONSE:
                    return response.status_code, b"", None
            asked = response.headers.get("retry-after", "")
            return response.status_code, body, float(asked) if asked.isdecimal() and len(asked) < 6 else None


def _checked(document: dict[str, Any], of: Delegation, scopes: Collection[str], now: float) -> Secret:
    """The token of an answer, if it is what was asked for (RFC 8693 section 2.2.1)."""
    text, kind, told = document.get("access_token"), document.get("issued_token_type"), document.get("scope")
    if not isinstance(text, str) or not text or kind not in (ACCESS_TOKEN, JWT):
        raise TokenExpired("the authorisation server's answer holds no access token")
    if str(document.get("token_type", "")).lower() not in ("bearer", "n_a"):
        raise TokenExpired("the authorisation server gave a token of a kind that cannot be used here")
    if told is not None and not isinstance(told, str):
        raise TokenExpired("the authorisation server's answer names no scopes that can be read")
    secret = Secret(text)
    try:
        found = delegation_of(secret)
    except InvalidMessage as error:
        raise TokenExpired(f"the authorisation server's token: {error}") from None
    allowed = set(scopes) or set(of.scope or ())
    for given in (told.split() if told is not None else None, found.scope):
        # Left out, it is what was asked for.
        if given is None:
            continue
        if (more := sorted(set(given) - allowed)) and (allowed or of.scope is not None):
            raise TokenExpired(f"the authorisation server widened the token: {listed(more)}")
        if lacking := sorted(set(scopes) - set(given)):
            raise TokenExpired(f"the authorisation server does not grant {listed(lacking)} any more")
    if found.sub and of.sub and found.sub != of.sub:
        raise TokenExpired("the authorisation server gave a token of another user")
    lives = document.get("expires_in")
    if (isinstance(lives, int | float) and lives <= 0) or found.expired(now):
        raise TokenExpired("the authorisation server gave a token that has expired")
    return secret


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _reason(document: dict[str, Any], status: int) -> str:
    # The code alone (RFC 6749 section 5.2): a description may say anything, the token too.
    code = document.get("error")
    return code if isinstance(code, str) and _ERROR.match(code) else f"status {status}"


def _secret(value: Secret | str) -> Secret:
    return value if isinstance(value, Secret) else Secret(value)
