"""Token exchange with a server that keeps to RFC 8693, and with one that does not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from paigeant_core.delegation import delegation_of
from paigeant_core.errors import ConfigError, TokenExpired
from paigeant_core.secret import Secret
from paigeant_core.tokens import TokenExchange
from paigeant_core.tokens.exchange import ACCESS_TOKEN, GRANT, AuthorizationServerDown
from tests.core.tokens.kit import AuthorizationServer, jwt


@pytest.fixture
async def server() -> AsyncIterator[AuthorizationServer]:
    async with AuthorizationServer().serving() as server:
        yield server


async def ask(server: AuthorizationServer, token: str = "", scopes: tuple[str, ...] = ("pay",), **options: Any) -> str:
    secret = Secret(token or jwt())
    found = await TokenExchange(server.url, **options).exchange(
        secret, delegation_of(secret), scopes, time.time(), wait=2.5
    )
    return found.reveal()


async def test_a_token_is_exchanged_for_one_that_permits_just_the_step(server: AuthorizationServer) -> None:
    token = jwt("pay notify")
    found = await ask(
        server,
        token,
        client_id="payments",
        client_secret="client-secret",
        actor_token="actor",
        audience="ledger",
        resource="https://ledger.example",
    )
    assert found == server.issued[0]
    assert server.asked == [
        {
            "grant_type": GRANT,
            "subject_token": token,
            "subject_token_type": ACCESS_TOKEN,
            "requested_token_type": ACCESS_TOKEN,
            "scope": "pay",
            "audience": "ledger",
            "resource": "https://ledger.example",
            "actor_token": "actor",
            "actor_token_type": ACCESS_TOKEN,
        }
    ]
    assert server.clients == ["payments:client-secret"]
    assert delegation_of(Secret(found)).scope == ("pay",)


async def test_an_actor_token_can_be_had_anew_each_time(server: AuthorizationServer) -> None:
    actors = iter(["one", "two"])
    exchange = TokenExchange(server.url, actor_token=lambda: next(actors))
    secret = Secret(jwt())
    for _ in range(2):
        await exchange.exchange(secret, delegation_of(secret), (), time.time())
    assert [fields["actor_token"] for fields in server.asked] == ["one", "two"]
    assert "scope" not in server.asked[0]


@pytest.mark.parametrize(
    ("mood", "why"),
    [
        ("revoked", "refused to exchange the token: invalid_grant"),
        ("echo", "refused to exchange the token: status 401"),
        ("expired", "has expired"),
        ("widened", "widened the token: admin"),
        ("quietly_widened", "widened the token: admin"),
        ("narrowed", "widened the token: nothing"),
        ("other_user", "another user"),
        ("garbage", "holds no access token"),
        ("huge", "holds no access token"),
        ("no_token", "holds no access token"),
        ("redirect", "refused to exchange the token: status 302"),
    ],
)
async def test_what_is_no_renewal_holds_the_workflow(server: AuthorizationServer, mood: str, why: str) -> None:
    server.mood = mood
    token = jwt("pay notify")
    with pytest.raises(TokenExpired, match=why) as refused:
        await ask(server, token)
    assert token not in str(refused.value)
    assert not any(issued in str(refused.value) for issued in server.issued)


async def test_a_server_that_gives_less_than_the_step_needs_is_no_help(server: AuthorizationServer) -> None:
    server.mood = "narrowed"
    with pytest.raises(TokenExpired, match="does not grant pay any more"):
        await ask(server, jwt("pay nothing"), scopes=("nothing", "pay"))


async def test_without_scopes_of_the_step_none_beyond_the_tokens_are_taken(server: AuthorizationServer) -> None:
    server.mood = "widened"
    with pytest.raises(TokenExpired, match="widened the token: admin"):
        await ask(server, jwt("pay notify"), scopes=())
    server.mood = "grant"
    assert await ask(server, jwt("pay notify"), scopes=()) == server.issued[-1]


@pytest.mark.parametrize(("mood", "seconds"), [("broken", 2.5), ("busy", 7.0)])
async def test_a_server_in_trouble_is_asked_again_later(server: AuthorizationServer, mood: str, seconds: float) -> None:
    server.mood = mood
    with pytest.raises(AuthorizationServerDown, match="answered") as trouble:
        await ask(server)
    assert trouble.value.seconds == seconds


async def test_a_server_that_never_answers_is_given_up(server: AuthorizationServer) -> None:
    server.mood = "stalled"
    with pytest.raises(AuthorizationServerDown, match="cannot be asked") as trouble:
        await ask(server, timeout=0.1)
    assert trouble.value.seconds == 2.5


async def test_a_server_that_is_not_there_is_asked_again_later() -> None:
    secret = Secret(jwt())
    exchange = TokenExchange("http://127.0.0.1:1/token")
    with pytest.raises(AuthorizationServerDown, match="ConnectError"):
        await exchange.exchange(secret, delegation_of(secret), (), time.time())


@pytest.mark.parametrize(
    ("endpoint", "options"),
    [
        ("http://login.example.com/token", {}),
        ("ftp://localhost/token", {}),
        ("https://user:secret@login.example.com/token", {}),
        ("https://", {}),
        ("", {}),
        ("https://login.example.com/token", {"timeout": 0}),
        ("https://login.example.com/token", {"timeout": 1e9}),
    ],
)
def test_an_endpoint_that_cannot_be_is_refused(endpoint: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as refused:
        TokenExchange(endpoint, **options)
    assert "secret" not in str(refused.value)
