"""A worker and the user's token: what a step is given, when it is not run, and what never gets out."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from paigeant_core import (
    ActivityContext,
    ActivitySpec,
    ConfigError,
    InvalidMessage,
    NonRetryable,
    State,
    TokenSealed,
    WorkflowDispatcher,
)
from paigeant_core.message import PaigeantMessage
from paigeant_core.operations import Operations, Replay
from paigeant_core.secret import Secret
from paigeant_core.tokens import FileVault, TokenExchange, Tokens, TopicKey
from paigeant_core.transition import Place
from tests.core.bench import Bench
from tests.core.tokens import steps
from tests.core.tokens.kit import AuthorizationServer, jwt
from tests.core.tokens.steps import (
    ANN,
    KEY,
    PAYMENTS,
    PUBLIC,
    SHOP,
    TRUST,
    Given,
    body,
    dispatch,
    kept,
    release,
    worker,
)

bench = steps.bench


@pytest.fixture
async def server() -> AsyncIterator[AuthorizationServer]:
    async with AuthorizationServer().serving() as server:
        yield server


# -- it rides sealed, and the step has it -----------------------------------------------


@pytest.mark.parametrize("signed", [False, True])
async def test_the_step_is_given_the_token_and_the_broker_is_not(bench: Bench, signed: bool) -> None:
    given: Given = []
    token = jwt()
    keys: dict[str, Any] = {"signer": PAYMENTS, "trust": TRUST} if signed else {}
    workflow = await dispatch(bench, "pay", "notify", token=token, signer=SHOP if signed else None)
    message = PaigeantMessage.decode(body(bench))
    assert message.delegation is not None
    assert (message.delegation.sub, message.delegation.scope) == ("ann", ("pay", "notify"))
    with pytest.raises(TokenSealed):
        _ = message.obo_token
    async with bench.serving(worker(bench, given, **keys)):
        await bench.reaches(workflow, State.COMPLETED)
    assert given == [token, token]
    assert token.encode() not in await kept(bench, workflow)


async def test_a_vault_keeps_it_and_may_renew_it(bench: Bench, tmp_path: Path) -> None:
    given: Given = []
    vault = FileVault(tmp_path / "vault")
    token, renewed = jwt(exp=time.time() + 5), jwt("pay", exp=time.time() + 900)
    workflow = await dispatch(bench, "pay", token=token, tokens=Tokens(vault=vault))
    message = PaigeantMessage.decode(body(bench))
    assert message.delegation is not None
    path = tmp_path / "vault" / message.delegation.vault
    path.write_text(json.dumps({"wf": workflow, "tok": renewed}))
    bench.clock.advance(60)
    async with bench.serving(worker(bench, given, tokens=Tokens(vault=vault))):
        await bench.reaches(workflow, State.COMPLETED)
    assert given == [renewed]
    assert token.encode() not in await kept(bench, workflow)


@pytest.mark.parametrize(
    ("written", "why"),
    [(None, "no token for it any more"), (jwt(sub="bob"), "another user"), (jwt("pay admin"), "permits more")],
    ids=["gone", "other user", "wider"],
)
async def test_what_a_vault_cannot_give_holds_the_workflow(
    bench: Bench, tmp_path: Path, written: str | None, why: str
) -> None:
    workflow = await dispatch(bench, "pay", tokens=Tokens(vault=FileVault(tmp_path / "vault")))
    (path,) = (tmp_path / "vault").iterdir()
    if written is None:
        path.unlink()
    else:
        path.write_text(json.dumps({"wf": workflow, "tok": written}))
    async with bench.serving(worker(bench, tokens=Tokens(vault=FileVault(tmp_path / "vault")))):
        record = await bench.reaches(workflow, State.HELD)
    assert record.detail["reason"] == "token_expired"
    assert why in record.detail["error"]["message"]


async def test_a_vault_that_cannot_be_read_is_asked_again(bench: Bench, tmp_path: Path) -> None:
    workflow = await dispatch(bench, "pay", tokens=Tokens(vault=FileVault(tmp_path / "vault")))
    (path,) = (tmp_path / "vault").iterdir()
    path.chmod(0o644)
    async with bench.serving(worker(bench, tokens=Tokens(vault=FileVault(tmp_path / "vault")))):
        record = await bench.reaches(workflow, State.RETRYING)
        assert (record.detail["delay_s"], record.detail["max_attempts"]) == (1.0, 2)
        path.chmod(0o600)
        bench.clock.advance(1.5)
        await bench.reaches(workflow, State.COMPLETED)


async def test_in_memory_a_token_needs_no_set_up(bench: Bench) -> None:
    given: Given = []
    workflow = await bench.dispatch("pay", "notify", obo_token="user-token")
    async with bench.serving(worker(bench, given, tokens=None)):
        await bench.reaches(workflow, State.COMPLETED)
    assert given == ["user-token", "user-token"]


async def test_a_key_that_was_replaced_still_opens(bench: Bench) -> None:
    workflow = await dispatch(bench, "pay")
    new = TopicKey.generate()
    async with bench.serving(worker(bench, tokens=Tokens([new, KEY]))):
        await bench.reaches(workflow, State.COMPLETED)


async def test_a_worker_without_the_key_runs_what_needs_no_token_and_holds_what_does(bench: Bench) -> None:
    workflow = await dispatch(bench, "notify", "pay")

    async def needs_none(ctx: ActivityContext) -> None:
        return None

    blind = bench.worker()
    blind.activity("notify")(needs_none)
    blind.activity("pay", scopes=["pay"])(needs_none)
    async with bench.serving(blind):
        record = await bench.reaches(workflow, State.HELD)
    assert (record.headers.activity, record.detail["reason"]) == ("pay", "token_sealed")


async def test_a_handler_that_asks_for_a_token_nobody_can_open_is_not_given_none(bench: Bench) -> None:
    given: Given = []
    workflow = await dispatch(bench, "notify")
    async with bench.serving(worker(bench, given, tokens=Tokens([TopicKey.generate()]))):
        record = await bench.reaches(workflow, State.HELD)
    assert (given, record.detail["reason"]) == ([], "token_sealed")


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("how", ["of another workflow", "sealed by somebody", "changed", "no JWE"])
async def test_a_sealed_token_that_was_swapped_goes_to_quarantine(bench: Bench, how: str, signed: bool) -> None:
    given: Given = []
    signer = SHOP if signed else None
    await dispatch(bench, "notify", token=jwt(sub="eve"), signer=signer)
    eves = PaigeantMessage.decode(body(bench, "notify")).delegation
    workflow = await dispatch(bench, "pay", signer=signer)
    with bench.broker.topic(bench.topic) as topic:
        (entry,) = topic.work["pay"]
        message = PaigeantMessage.decode(entry.body)
        assert message.delegation is not None
        assert eves is not None
        jwe = {
            "of another workflow": eves.jwe,
            "sealed by somebody": KEY.seal(workflow, Secret(jwt(sub="eve"))),
            "changed": message.delegation.jwe[:-3] + "AAA",
            "no JWE": "no JWE",
        }[how]
        message.delegation = replace(message.delegation, jwe=jwe)
        topic.work["notify"].clear()
        entry.body = message.encode()
    keys: dict[str, Any] = {"signer": PAYMENTS, "trust": TRUST} if signed else {}

    async def there() -> bool:
        return bool(await bench.transport.parked(bench.topic, Place.QUARANTINE))

    async with bench.serving(worker(bench, given, **keys)):
        await bench.until(there, "quarantine")
    (record,) = await bench.transport.parked(bench.topic, Place.QUARANTINE)
    assert record.detail["code"] == ("splice" if how == "of another workflow" and not signed else "token_digest")
    assert given == []


# -- permissions ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "options", "why"),
    [
        (jwt("notify"), {}, "step pay: it needs pay, which its token does not permit"),
        ("an opaque token of a kind", {}, "step pay: it needs pay, and its token does not tell"),
        ("", {}, "step pay: it needs pay, and the workflow has no token"),
        (jwt("pay", exp=1), {}, "expired at 1970"),
        (jwt("pay"), {"obo_scopes": ["admin"]}, "more than the token permits"),
        ("", {"obo_scopes": ["pay"]}, "no obo_token was given"),
    ],
    ids=["less", "does not tell", "none", "over", "more said", "said of none"],
)
async def test_a_dispatch_asks_for_no_more_than_its_token_permits(
    bench: Bench, token: str, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidMessage, match=why):
        await dispatch(bench, ActivitySpec(name="pay", scopes=["pay"]), token=token, **options)
    assert not [batch async for batch in bench.transport.records(bench.topic) if batch]


async def test_scopes_can_be_said_of_a_token_that_does_not_tell(bench: Bench) -> None:
    step = ActivitySpec(name="pay", scopes=["pay"])
    workflow = await dispatch(bench, step, token="an opaque token of a kind", obo_scopes=["pay"])
    async with bench.serving(worker(bench)):
        await bench.reaches(workflow, State.COMPLETED)


@pytest.mark.parametrize(
    ("token", "why"), [(jwt("notify"), "does not permit"), ("", "has no token")], ids=["less", "none"]
)
async def test_what_an_activity_needs_is_looked_at_before_it_runs(bench: Bench, token: str, why: str) -> None:
    given: Given = []
    workflow = await dispatch(bench, "notify", "pay", token=token)
    async with bench.serving(worker(bench, given)):
        record = await bench.reaches(workflow, State.DEAD)
    assert record.detail["reason"] == "not_permitted"
    assert why in record.detail["error"]["message"]
    assert len(given) == 1


async def test_a_payload_that_holds_the_token_is_not_dispatched(bench: Bench) -> None:
    token = jwt()
    dispatcher = WorkflowDispatcher(bench.transport, tokens=Tokens([KEY]))
    for itinerary, variables in ((["pay"], {"t": token}), ([ActivitySpec(name="pay", arguments={"t": [token]})], {})):
        with pytest.raises(InvalidMessage, match="holds the on-behalf-of token"):
            await dispatcher.dispatch_workflow(itinerary, variables, obo_token=token, topic=bench.topic)


# -- exchange ---------------------------------------------------------------------------


def exchanging(server: AuthorizationServer, **options: Any) -> Tokens:
    return Tokens([KEY], exchange=TokenExchange(server.url, **options))


async def test_each_step_is_given_a_token_that_permits_just_what_it_needs(
    bench: Bench, server: AuthorizationServer
) -> None:
    given: Given = []
    token = jwt()
    workflow = await dispatch(bench, "pay", "notify", token=token)
    async with bench.serving(worker(bench, given, tokens=exchanging(server))):
        await bench.reaches(workflow, State.COMPLETED)
    assert given == server.issued
    assert [fields.get("scope") for fields in server.asked] == ["pay", None]
    assert {fields["subject_token"] for fields in server.asked} == {token}
    everything = await kept(bench, workflow)
    assert not any(secret.encode() in everything for secret in [token, *server.issued])


@pytest.mark.parametrize("mood", ["expired", "revoked", "widened", "quietly_widened", "other_user", "garbage", "echo"])
async def test_a_token_that_is_not_renewed_holds_the_workflow(
    bench: Bench, server: AuthorizationServer, mood: str
) -> None:
    given: Given = []
    server.mood = mood
    workflow = await dispatch(bench, "pay")
    async with bench.serving(worker(bench, given, tokens=exchanging(server))):
        record = await bench.reaches(workflow, State.HELD)
    assert (record.detail["reason"], given) == ("token_expired", [])


@pytest.mark.parametrize("mood", ["broken", "stalled", "busy"])
async def test_a_server_in_trouble_is_asked_by_the_policy_and_then_given_up(
    bench: Bench, server: AuthorizationServer, mood: str
) -> None:
    given: Given = []
    server.mood = mood
    workflow = await dispatch(bench, "pay")
    made = worker(bench, given, tokens=exchanging(server, timeout=0.2 if mood == "stalled" else 20))
    # Which exceptions of its handler are tried again is no matter here.
    object.__setattr__(made.activities["pay"].retry, "retry_on", (KeyError,))
    async with bench.serving(made):
        record = await bench.reaches(workflow, State.RETRYING)
        assert record.detail["delay_s"] == (7.0 if mood == "busy" else 1.0)
        bench.clock.advance(8)
        record = await bench.reaches(workflow, State.DEAD)
    assert (record.detail["reason"], record.detail["error"]["type"]) == (
        "attempts_exhausted",
        "AuthorizationServerDown",
    )
    assert (len(server.asked), given) == (2, [])


# -- what never gets out ----------------------------------------------------------------


async def test_an_error_that_quotes_the_token_is_kept_without_it(bench: Bench) -> None:
    def fails(ctx: ActivityContext) -> None:
        raise ValueError(f"401 for {ctx.obo_token}")

    token = jwt()
    workflow = await dispatch(bench, "pay", token=token)
    async with bench.serving(worker(bench, then=fails)):
        await bench.reaches(workflow, State.RETRYING)
        bench.clock.advance(2)
        record = await bench.reaches(workflow, State.DEAD)
    assert record.detail["error"]["message"] == "401 for ***"
    assert token.encode() not in await kept(bench, workflow)


def _returns(ctx: ActivityContext) -> dict[str, Any]:
    return {"deep": [{"token": ctx.obo_token}]}


def _inserts(ctx: ActivityContext) -> None:
    ctx.insert_next(ActivitySpec(name="notify", arguments={"token": ctx.obo_token}))


@pytest.mark.parametrize("leak", [_returns, _inserts])
async def test_a_result_that_holds_the_token_is_refused(bench: Bench, leak: Callable[[ActivityContext], Any]) -> None:
    token = jwt()
    workflow = await dispatch(bench, "pay", token=token)
    async with bench.serving(worker(bench, then=leak)):
        record = await bench.reaches(workflow, State.DEAD)
    assert record.detail["reason"] == "result_invalid"
    assert token.encode() not in await kept(bench, workflow)


def _holds(ctx: ActivityContext) -> None:
    ctx.hold(f"ask {ctx.obo_token}", until=time.time() + 1e6, on_deadline="release")


def _invalid(ctx: ActivityContext) -> list[str | None]:
    return [ctx.obo_token]


@pytest.mark.parametrize("leak", [_holds, _invalid])
async def test_what_else_a_handler_says_is_kept_without_it(
    bench: Bench, leak: Callable[[ActivityContext], Any]
) -> None:
    token = jwt()
    workflow = await dispatch(bench, "pay", token=token)
    async with bench.serving(worker(bench, then=leak)):
        record = await bench.reaches(workflow, State.HELD if leak is _holds else State.DEAD)
    assert "***" in json.dumps(record.detail)
    assert token.encode() not in await kept(bench, workflow)


CUT = 100
"""Characters of the token that would be left of it by what is cut."""


def _fails_at_length(ctx: ActivityContext) -> None:
    raise NonRetryable("x" * (2000 - CUT) + str(ctx.obo_token))


def _holds_at_length(ctx: ActivityContext) -> None:
    ctx.hold("x" * (500 - CUT) + str(ctx.obo_token))


def _invalid_at_length(ctx: ActivityContext) -> list[str]:
    return ["x" * (2 * 1024 * 1024 - CUT) + str(ctx.obo_token)]


@pytest.mark.parametrize("leak", [_fails_at_length, _holds_at_length, _invalid_at_length])
async def test_what_is_cut_to_its_length_keeps_no_part_of_the_token(
    bench: Bench, leak: Callable[[ActivityContext], Any]
) -> None:
    token = jwt()
    workflow = await dispatch(bench, "pay", token=token)
    async with bench.serving(worker(bench, then=leak)):
        await bench.reaches(workflow, State.HELD if leak is _holds_at_length else State.DEAD)
    assert token[:20].encode() not in await kept(bench, workflow)


# -- without a worker -------------------------------------------------------------------


async def test_a_subscription_opens_tokens_where_it_is_given_the_key(bench: Bench) -> None:
    token = jwt()
    workflow = await dispatch(bench, "pay", "notify", token=token)
    async for _, message in bench.transport.subscribe(bench.topic, tokens=Tokens([KEY])):
        assert message.obo_token == token
        message.routing_slip.mark_complete("pay")
        await bench.transport.publish(bench.topic, message)
        break
    assert token.encode() not in await kept(bench, workflow)


@pytest.mark.parametrize("signed", [False, True])
async def test_a_workflow_started_anew_elsewhere_has_no_token_until_it_is_handed_one(
    bench: Bench, signed: bool
) -> None:
    given: Given = []
    keys: dict[str, Any] = {"signer": PAYMENTS, "trust": TRUST} if signed else {}
    operator: dict[str, Any] = {"signer": ANN, "trust": TRUST} if signed else {}
    first, renewed = jwt("pay notify"), jwt("pay", jti="renewed")
    workflow = await dispatch(bench, "pay", "notify", token=first, signer=SHOP if signed else None)
    operations = Operations(bench.transport, bench.topic, **operator or {"operator": "ann"})
    plan = await operations.plan(Replay(as_new=True), [workflow], reason="again")
    (result,) = (await operations.execute(plan)).results
    copy = result.new_correlation_id
    async with bench.serving(worker(bench, given, **keys)):
        await bench.reaches(workflow, State.COMPLETED)
        record = await bench.reaches(copy, State.HELD)
        assert record.detail["reason"] == "token_sealed"
        assert record.message is not None
        assert record.message.delegation is not None
        assert (record.message.delegation.sub, record.message.delegation.carrier) == ("ann", "")
        assert "another user" in await release(bench, copy, jwt(sub="bob"), PUBLIC, **operator)
        assert await release(bench, copy, renewed, PUBLIC, **operator) == "done"
        record = await bench.reaches(copy, State.COMPLETED)
    assert given == [first, first, renewed, renewed]
    assert record.message is not None
    assert len(record.message.records) == (4 if signed else 0)


def test_tokens_need_a_key_or_a_vault() -> None:
    with pytest.raises(ConfigError, match="a topic key"):
        Tokens()
