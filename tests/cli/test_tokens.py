"""On-behalf-of tokens by commands alone: a topic key, a dispatch, a worker, a token that is over, and a release."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from paigeant_core import WorkflowDispatcher, get_transport
from paigeant_core.clock import ManualClock
from paigeant_core.tokens import Tokens, TopicKey
from tests.cli.conftest import Cli
from tests.core.tokens.kit import jwt

Start = Callable[..., subprocess.Popen[str]]

TARGET = """
import logging

from paigeant_core import Worker

worker = Worker()


@worker.activity("pay", scopes=["pay"])
async def pay(ctx):
    print("calling with", ctx.obo_token)
    logging.getLogger("shop").warning("called with %s", ctx.obo_token)
    return {"length": len(ctx.obo_token)}
"""


def write(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.fixture
def tokens(here: Cli, tmp_path: Path) -> dict[str, str]:
    """PAIGEANT_TOKENS of whoever dispatches, by the public half that keygen printed, and of the worker."""
    public = here("keygen", "topic.json", "--topic-key").ended(0).out
    write(tmp_path / "public.json", public, 0o644)
    return {
        "shop": write(tmp_path / "shop.toml", 'keys = ["public.json"]', 0o644),
        "worker": write(tmp_path / "worker.toml", 'keys = ["topic.json"]', 0o644),
    }


def test_a_topic_key_is_made_and_only_its_public_half_is_printed(here: Cli) -> None:
    document = here("keygen", "topic.json", "--topic-key", "--json").ended(0).document
    key = TopicKey.load("topic.json")
    assert (document["file"], document["kid"], document["jwk"]) == ("topic.json", key.kid, key.public_document())
    assert "d" not in document["jwk"]
    assert Path("topic.json").stat().st_mode & 0o777 == 0o600
    here("keygen", "other.json", "--topic-key", "--name", "shop").ended(2).said("leave out --name")


def test_without_a_key_a_token_is_refused_before_anybody_asks_for_the_broker(here: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "user.token", jwt())
    done = here("dispatch", "pay", "--token-file", path, "--url", "redis://127.0.0.1:1/0").ended(2)
    done.said("carries an on-behalf-of token only encrypted or in a vault", "keygen --topic-key", "PAIGEANT_TOKENS")


@pytest.mark.parametrize("scheme", ["redis", "rabbit"])
def test_without_a_key_nothing_is_published(
    cli: Cli, scheme: str, topic: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = str(request.getfixturevalue(f"{scheme}_url"))
    path = write(tmp_path / "user.token", jwt())
    on = ("--topic", topic)
    env = {"PAIGEANT_URL": url}
    cli("dispatch", "pay", "--token-file", path, *on, env=env).ended(2)
    assert cli("list", "--json", *on, env=env).ended(0).documents == []


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: write(path, jwt(), 0o644), "others can read it"),
        (lambda path: write(path, ""), "one line of text"),
        (lambda path: write(path, "one\ntwo"), "one line of text"),
        (str, "no such file"),
        (lambda path: write(path, jwt("notify")), "step pay: it needs pay, which its token does not permit"),
        (lambda path: write(path, jwt("pay", exp=1)), "expired at 1970"),
    ],
    ids=["open", "empty", "two lines", "missing", "too narrow", "over"],
)
def test_a_token_that_cannot_be_taken_is_refused(
    here: Cli,
    tokens: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], str],
    why: str,
) -> None:
    monkeypatch.setenv("PAIGEANT_TOKENS", tokens["shop"])
    step = json.dumps({"name": "pay", "scopes": ["pay"]})
    here("dispatch", step, "--token-file", make(tmp_path / "user.token")).ended(2).said(why)


def test_a_token_given_in_place_of_its_file_is_not_repeated(here: Cli) -> None:
    for token in (jwt(), jwt() * 20):
        done = here("dispatch", "pay", "--token-file", token).ended(2).said("not the token")
        assert "eyJ" not in done.err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "a topic key that they are encrypted for, or a vault"),
        ("keys = [", "no TOML"),
        ("key = []", "unknown key 'key'"),
        ('keys = "topic.json"', "keys is of the wrong kind"),
        ("keys = [5]", "names of files"),
        ('keys = ["missing.json"]', "no such file"),
        ('keys = ["topic.json"]\n[exchange]', "needs an endpoint"),
        ('keys = ["topic.json"]\n[exchange]\nendpoint = "http://a/"', "https URL"),
        ('keys = ["topic.json"]\n[exchange]\nendpoint = "https://a/"\nclient_secret = "x"', "unknown key"),
        ('keys = ["topic.json"]\n[exchange]\nendpoint = "https://a/"\nclient_secret_file = "topic.toml"', "chmod 600"),
        ('keys = ["topic.json"]\n[exchange]\nendpoint = "https://a/"\nactor_token_file = "none"', "no such file"),
    ],
)
def test_a_tokens_file_that_cannot_be_is_refused(
    here: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, why: str
) -> None:
    here("keygen", "topic.json", "--topic-key")
    monkeypatch.setenv("PAIGEANT_TOKENS", write(tmp_path / "topic.toml", text, 0o644))
    here("dispatch", "pay").ended(2).said("topic.toml" if "none" not in text and "missing" not in text else "", why)


def test_a_tokens_file_says_all_of_it(here: Cli, tokens: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path / "client.secret", "hush")
    write(tmp_path / "actor.token", jwt(sub="worker"))
    text = """
keys = ["topic.json", "public.json"]
vault = "vault"
[exchange]
endpoint = "https://login.example.com/token"
client_id = "payments"
client_secret_file = "client.secret"
actor_token_file = "actor.token"
audience = "ledger"
resource = "https://ledger.example"
timeout = 3
"""
    found = repr(Tokens.load(write(tmp_path / "all.toml", text, 0o644)))
    assert "https://login.example.com/token" in found
    assert "vault" in found
    assert "hush" not in found


async def an_hour_ago(url: str, topic: str, token: str, tokens: str) -> None:
    """Start the workflow `over`, when its token was still good."""
    async with get_transport(url) as transport:
        transport.clock = ManualClock(time.time() - 3600)
        dispatcher = WorkflowDispatcher(transport, tokens=Tokens.load(tokens))
        await dispatcher.dispatch_workflow(["pay"], obo_token=token, topic=topic, correlation_id="over")


def test_a_workflow_runs_on_behalf_of_its_user_and_waits_for_another_token(
    cli: Cli, start: Start, redis_url: str, topic: str, tokens: dict[str, str], tmp_path: Path
) -> None:
    target = write(tmp_path / "activities.py", TARGET)
    on = ("--topic", topic)
    shop = {"PAIGEANT_URL": redis_url, "PAIGEANT_TOKENS": tokens["shop"]}
    first, over, renewed = jwt(), jwt(exp=time.time() - 60), jwt(jti="renewed")
    path = write(tmp_path / "new.token", renewed)
    cli("dispatch", "pay", "--token-file", "-", "--id", "first", *on, env=shop, stdin=first + "\n").ended(0)
    asyncio.run(an_hour_ago(redis_url, topic, over, tokens["shop"]))
    worker = start("worker", target, *on, env=shop | {"PAIGEANT_TOKENS": tokens["worker"]})
    states: object = None
    for _ in range(100):
        states = {
            item["correlation_id"]: (item["state"], item["stuck"])
            for item in cli("list", "--json", *on, env=shop).ended(0).documents
        }
        if states == {"first": ("completed", None), "over": ("held", "token_expired")}:
            break
    else:
        pytest.fail(str(states))
    shown = cli("show", "over", *on, env=shop).ended(0).out
    assert "its token expired at " in shown
    assert "release --token-file FILE" in shown
    dry = cli("release", "over", "--reason", "look", "--dry-run", *on, env=shop).ended(0)
    assert "its next step is held" in dry.out
    cli("release", "over", "--token-file", path, "--reason", "signed in", "--yes", *on, env=shop).ended(0)
    assert cli("show", "over", "--wait", "--json", *on, env=shop).ended(0).documents[-1]["payload"] == {
        "length": len(renewed)
    }
    worker.terminate()
    out, err = worker.communicate(timeout=30)
    everything = out + err + shown + cli("export", "over", "--with-secrets", *on, env=shop).ended(0).out
    assert "calling with ***" in err
    assert "called with ***" in err
    for token in (first, over, renewed):
        assert token not in everything
