"""Tokens as an authorisation server makes them, and such a server, which does what a test wants it to."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

from paigeant_core.tokens.exchange import ACCESS_TOKEN, GRANT

ISSUER = "https://login.example.com"


def jwt(
    scope: str | Sequence[str] | None = "pay notify", *, sub: str = "ann", exp: float | None = None, **more: Any
) -> str:
    """A JWT of a user; its signature is of no concern to whoever carries it."""
    claims: dict[str, Any] = {"iss": ISSUER, "sub": sub, "exp": int(exp or time.time() + 3600)} | more
    if scope is not None:
        claims["scope"] = scope
    parts = ({"alg": "RS256", "typ": "at+jwt"}, {name: value for name, value in claims.items() if value is not None})
    encoded = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJlLW9mLW5vYm9keQ"])


class AuthorizationServer:
    """Exchanges tokens (RFC 8693), or does one of the things that go wrong: set :attr:`mood`.

    ``grant`` · ``expired`` (its token is over) · ``revoked`` (it refuses) · ``widened`` (more scopes than asked for) ·
    ``quietly_widened`` (in the token, not beside it) · ``narrowed`` (fewer) · ``other_user`` · ``stalled`` (it never
    answers) · ``broken`` (500) · ``busy`` (429, wait 7 s) · ``garbage`` · ``huge`` · ``redirect`` · ``no_token`` ·
    ``echo`` (it refuses and repeats the token).
    """

    def __init__(self) -> None:
        self.mood = "grant"
        self.url = ""
        self.asked: list[dict[str, str]] = []
        self.clients: list[str] = []
        self.issued: list[str] = []
        self._stalled = asyncio.Event()

    def make(self, scope: str | None, **claims: Any) -> str:
        """A token that it issues."""
        return jwt(scope, jti=str(len(self.issued)), **claims)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[AuthorizationServer]:
        """It listens while the block runs."""
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
        try:
            yield self
        finally:
            self._stalled.set()
            server.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in head[1:])}
            body = (await reader.readexactly(int(headers["content-length"]))).decode()
            fields = {key: value for key, (value,) in parse_qs(body).items()}
            self.asked.append(fields)
            if "authorization" in headers:
                self.clients.append(b64decode(headers["authorization"].removeprefix("Basic ")).decode())
            status, answer, more = await self._answer(fields)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(data)}", "Connection: close", *more, "", ""]
            writer.write("\r\n".join(lines).encode() + data)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever asked has gone
        finally:
            writer.close()

    async def _answer(self, fields: dict[str, str]) -> tuple[int, Any, list[str]]:
        assert fields["grant_type"] == GRANT
        assert fields["subject_token_type"] == ACCESS_TOKEN
        scope = fields.get("scope", "pay notify")
        match self.mood:
            case "revoked":
                return 400, {"error": "invalid_grant", "error_description": "the user took it back"}, []
            case "echo":
                return (
                    401,
                    {"error": f"bad {fields['subject_token']}", "error_description": fields["subject_token"]},
                    [],
                )
            case "stalled":
                await self._stalled.wait()
                return 200, b"", []
            case "broken":
                return 500, {"error": "server_error"}, []
            case "busy":
                return 429, b"slow down", ["Retry-After: 7"]
            case "garbage":
                return 200, b"\xff{[", []
            case "huge":
                return 200, {"access_token": "x" * 100_000}, []
            case "redirect":
                return 302, b"", ["Location: http://127.0.0.1:1/token"]
            case "no_token":
                return 200, {"issued_token_type": ACCESS_TOKEN, "token_type": "Bearer"}, []
        told: str | None = scope
        sub, exp = "ann", time.time() + 300
        if self.mood == "expired":
            exp = time.time() - 5
        elif self.mood == "other_user":
            sub = "bob"
        elif self.mood == "widened":
            told = scope = f"{scope} admin"
        elif self.mood == "quietly_widened":
            told, scope = None, f"{scope} admin"
        elif self.mood == "narrowed":
            told = scope = "nothing"
        token = self.make(scope, sub=sub, exp=exp, act={"sub": "worker"})
        self.issued.append(token)
        document = {"access_token": token, "issued_token_type": ACCESS_TOKEN, "token_type": "Bearer"}
        if told is not None:
            document["scope"] = told
        return 200, document, []
