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
    Refused,
    RetryPolicy,
    State,
    TokenExpired,
    TokenSealed,
    Worker,
    WorkflowDispatcher,
)
from paigeant_core.clock import ManualClock
from paigeant_core.message import PaigeantMessage
from paigeant_core.operations import DeadLetter, Operations, Release, Replay
from paigeant_core.operations.log import to_document
from paigeant_core.secret import Secret
from paigeant_core.security.keys import SigningKey
from paigeant_core.security.trust import Principal, Trust
from paigeant_core.tokens import FileVault, TokenExchange, Tokens, TopicKey
from paigeant_core.transition import Place
from tests.core.bench import Bench
from tests.core.security.kit import names, trusted
from tests.core.tokens.kit import AuthorizationServer, jwt

KEY = TopicKey.generate()
SHOP, PAYMENTS, ANN = (SigningKey.generate(name) for name in ("shop", "payments", "ann"))
TRUST = Trust(
    [
        trusted(SHOP, Principal(name="shop", roles=names("dispatcher"))),
        trusted(PAYMENTS, Principal(name="payments", roles=names("worker"), activities=names("*"))),
        trusted(ANN, Principal(name="ann", roles=names("operator", "dispatcher"), operations=names("*"))),
    ]
)
Given = list[str | None]


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.clock = bench.transport.clock = bench.broker.clock = ManualClock(time.time())
    return bench


@pytest.fixture
async def server() -> AsyncIterator[AuthorizationServer]:
    async with AuthorizationServer().serving() as server:
        yield server


async def dispatch(
    bench: Bench, *steps: object, token: str | None = None, tokens: Tokens | None = None, **options: Any
) -> str:
    signer = options.pop("signer", None)
    dispatcher = WorkflowDispatcher(bench.transport, signer=signer, tokens=tokens or Tokens([KEY]))
    token = jwt() if token is None else token
    return await dispatcher.dispatch_workflow(list(steps), {"a": 1}, topic=bench.topic, obo_token=token, **options)


def worker(
    bench: Bench,
    given: Given | None = None,
    *,
    then: Callable[[ActivityContext], Any] | None = None,
    scopes: tuple[str, ...] = ("pay",),
    **options: Any,
) -> Worker:
    """Of `pay`, which needs a scope, and `notify`, which needs none; each notes the token that it was given."""
    options.setdefault("tokens", Tokens([KEY]))
    made = bench.worker(**options)

    async def handler(ctx: ActivityContext) -> Any:
        if given is not None:
            given.append(ctx.obo_token)
        return None if then is None else then(ctx)

    made.activity("pay", scopes=scopes, retry=RetryPolicy(max_attempts=2, jitter=0))(handler)
    made.activity("notify")(handler)
    return made


def body(bench: Bench, activity: str = "pay") -> bytes:
    with bench.broker.topic(bench.topic) as topic:
        (entry,) = topic.work[activity]
        return entry.body


async def kept(bench: Bench, workflow: str) -> bytes:
    """All that the broker ever held of the workflow."""
    parts = [record.encode_meta() + (record.body or b"") for record in await bench.history(workflow)]
    return b"".join(parts)


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
    for steps, variables in ((["pay"], {"t": token}), ([ActivitySpec(name="pay", arguments={"t": [token]})], {})):
        with pytest.raises(InvalidMessage, match="holds the on-behalf-of token"):
            await dispatcher.dispatch_workflow(steps, variables, obo_token=token, topic=bench.topic)


# -- a token that is over ---------------------------------------------------------------


@pytest.mark.parametrize("signed", [False, True])
async def test_a_token_that_expired_in_the_queue_holds_the_workflow_until_there_is_another(
    bench: Bench, signed: bool
) -> None:
    given: Given = []
    keys: dict[str, Any] = {"signer": PAYMENTS, "trust": TRUST} if signed else {}
    workflow = await dispatch(
        bench, "pay", "notify", token=jwt(exp=bench.clock.now() + 30), signer=SHOP if signed else None
    )
    before = PaigeantMessage.decode(body(bench))
    bench.clock.advance(31)
    async with bench.serving(worker(bench, given, **keys)):
        record = await bench.reaches(workflow, State.HELD)
    assert given == []
    assert record.detail["reason"] == "token_expired"
    assert "expired at" in record.detail["error"]["message"]
    assert (record.headers.hop, record.headers.attempt, record.headers.epoch) == (1, 1, 1)
    after = record.message
    assert after is not None
    assert (after.delegation, after.records) == (before.delegation, before.records)


async def test_one_that_expires_between_two_attempts_is_told_of_before(bench: Bench) -> None:
    def fails(ctx: ActivityContext) -> None:
        raise ValueError("not yet")

    workflow = await dispatch(bench, "pay", token=jwt(exp=bench.clock.now() + 0.9))
    async with bench.serving(worker(bench, then=fails)):
        record = await bench.reaches(workflow, State.RETRYING)
        assert record.detail["token_expires_at"] < record.detail["due_at"]
        bench.clock.advance(2)
        held = await bench.reaches(workflow, State.HELD)
    assert held.headers.attempt == 2


async def test_a_handler_can_say_that_the_token_was_refused(bench: Bench) -> None:
    def refused(ctx: ActivityContext) -> None:
        raise TokenExpired("the ledger answered 401")

    workflow = await dispatch(bench, "pay")
    async with bench.serving(worker(bench, then=refused)):
        record = await bench.reaches(workflow, State.HELD)
    assert record.detail["error"] == {"type": "TokenExpired", "message": "the ledger answered 401"}


async def test_compensation_is_held_by_it_too_and_goes_on_where_it_was(bench: Bench) -> None:
    def fails(ctx: ActivityContext) -> None:
        if ctx.activity == "notify":
            bench.clock.advance(31)
            raise NonRetryable("no")

    undone: list[str] = []
    made = worker(bench, then=fails)

    @made.activities["pay"].compensate
    async def refund(ctx: ActivityContext) -> None:
        undone.append(ctx.obo_token or "")

    workflow = await dispatch(bench, "pay", "notify", token=jwt(exp=bench.clock.now() + 30), on_failure="compensate")
    async with bench.serving(made):
        record = await bench.reaches(workflow, State.HELD)
        assert undone == []
        assert record.message is not None
        assert record.message.routing_slip.undoing == 1
        renewed = jwt(exp=bench.clock.now() + 600)
        assert await release(bench, workflow, renewed, PUBLIC) == "done"
        await bench.reaches(workflow, State.COMPENSATED)
    assert undone == [renewed]


# -- and another in its place ------------------------------------------------------------


async def held(bench: Bench, **options: Any) -> str:
    """A workflow that stands held because its token expired."""
    signer = options.pop("signer", None)
    keys: dict[str, Any] = {"signer": PAYMENTS, "trust": TRUST} if signer else {}
    workflow = await dispatch(
        bench, "pay", "notify", token=jwt("pay notify", exp=bench.clock.now() + 30), signer=signer, **options
    )
    bench.clock.advance(31)
    async with bench.serving(worker(bench, tokens=options.get("tokens"), **keys)):
        await bench.reaches(workflow, State.HELD)
    return workflow


async def release(bench: Bench, workflow: str, token: str | None, tokens: Tokens | None, **options: Any) -> str:
    """Release it; what came of it, or why it cannot be."""
    operations = Operations(bench.transport, bench.topic, operator=None if options else "ann", **options)
    action = Release({}, None if token is None else Secret(token), tokens)
    plan = await operations.plan(action, [workflow], reason="signed in again")
    (result,) = (await operations.execute(plan)).results
    return f"{result.outcome} {result.reason}".strip()


PUBLIC = Tokens([TopicKey.from_document(KEY.public_document())])


@pytest.mark.parametrize("signed", [False, True])
async def test_a_new_token_of_the_user_lets_it_go_on(bench: Bench, signed: bool) -> None:
    given: Given = []
    keys: dict[str, Any] = {"signer": PAYMENTS, "trust": TRUST} if signed else {}
    operator: dict[str, Any] = {"signer": ANN, "trust": TRUST} if signed else {}
    workflow = await held(bench, tokens=Tokens([KEY]), signer=SHOP if signed else None)
    renewed = jwt("pay", exp=bench.clock.now() + 600)
    assert await release(bench, workflow, renewed, PUBLIC, **operator) == "done"
    async with bench.serving(worker(bench, given, **keys)):
        await bench.reaches(workflow, State.COMPLETED)
    assert given == [renewed, renewed]
    everything = await kept(bench, workflow) + b"".join(await bench.transport.audit(bench.topic))
    assert renewed.encode() not in everything
    assert b'"reauthorized":true' in everything


async def test_a_replay_from_before_has_the_new_token(bench: Bench) -> None:
    given: Given = []
    workflow = await held(bench, tokens=Tokens([KEY]))
    renewed = jwt("pay notify", exp=bench.clock.now() + 600)
    await release(bench, workflow, renewed, PUBLIC)
    async with bench.serving(worker(bench, given)):
        await bench.reaches(workflow, State.COMPLETED)
        operations = Operations(bench.transport, bench.topic, operator="ann")
        await operations.execute(await operations.plan(Replay(from_step=1), [workflow], reason="again"))
        await bench.reaches(workflow, State.QUEUED)
        await bench.reaches(workflow, State.COMPLETED)
    assert given == [renewed] * 4


async def test_a_replay_from_a_hop_before_the_new_token_has_the_new_one(bench: Bench) -> None:
    given: Given = []
    first = jwt("pay notify", exp=bench.clock.now() + 30)
    workflow = await dispatch(bench, "notify", "pay", token=first, tokens=Tokens([KEY]))
    async with bench.serving(worker(bench, given, then=lambda _: bench.clock.advance(31))):
        await bench.reaches(workflow, State.HELD)
    renewed = jwt("pay notify", exp=bench.clock.now() + 600)
    assert await release(bench, workflow, renewed, PUBLIC) == "done"
    async with bench.serving(worker(bench, given)):
        await bench.reaches(workflow, State.COMPLETED)
        operations = Operations(bench.transport, bench.topic, operator="ann")
        await operations.execute(await operations.plan(Replay(from_step=1), [workflow], reason="again"))
        await bench.reaches(workflow, State.QUEUED)
        await bench.reaches(workflow, State.COMPLETED)
    assert given == [first, renewed, renewed, renewed]


async def test_in_memory_a_token_in_clear_is_replaced_by_one(bench: Bench) -> None:
    given: Given = []
    workflow = await bench.dispatch("pay", obo_token=jwt("pay", exp=bench.clock.now() + 30))
    bench.clock.advance(31)
    async with bench.serving(worker(bench, given, tokens=None)):
        await bench.reaches(workflow, State.HELD)
        renewed = jwt("pay", exp=bench.clock.now() + 600)
        assert await release(bench, workflow, renewed, None) == "done"
        await bench.reaches(workflow, State.COMPLETED)
    assert given == [renewed]


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (jwt("pay notify", sub="bob"), "another user"),
        (jwt("pay notify admin"), "permits more than the one before: admin"),
        ("an opaque token of a kind", "does not tell its issuer"),
        (jwt(None), "does not tell what it permits"),
        (jwt("pay notify", exp=1), "the new token expired at 1970"),
        (jwt("notify"), "step pay: it needs pay, which its token does not permit"),
    ],
    ids=["other user", "wider", "opaque", "no scopes", "over", "too narrow"],
)
async def test_no_other_token_is_handed_over(bench: Bench, token: str, why: str) -> None:
    step = ActivitySpec(name="pay", scopes=["pay"])
    workflow = await dispatch(bench, step, token=jwt("pay notify", exp=bench.clock.now() + 30))
    bench.clock.advance(31)
    async with bench.serving(worker(bench)):
        before = await bench.reaches(workflow, State.HELD)
    said = await release(bench, workflow, token, PUBLIC)
    assert said.startswith(("skipped", "failed"))
    assert why in said
    assert (await bench.last(workflow)).id == before.id


async def test_a_token_is_handed_over_sealed_or_not_at_all(bench: Bench) -> None:
    workflow = await held(bench, tokens=Tokens([KEY]))
    assert "needs the topic key" in await release(bench, workflow, jwt("pay"), None)


async def test_a_workflow_of_nobodys_is_handed_none(bench: Bench) -> None:
    workflow = await dispatch(bench, "hold", token="")
    made = bench.worker()
    made.activity("hold")(lambda ctx: ctx.hold("look"))
    async with bench.serving(made):
        await bench.reaches(workflow, State.HELD)
    assert "runs on nobody's behalf" in await release(bench, workflow, jwt("pay"), PUBLIC)


async def test_an_operation_that_others_go_on_with_holds_no_token(bench: Bench) -> None:
    workflow = await held(bench, tokens=Tokens([KEY]))
    operations = Operations(bench.transport, bench.topic, operator="ann")
    action = Release({}, Secret(jwt("pay")), PUBLIC)
    plan = await operations.plan(action, [workflow], reason="all of them")
    with pytest.raises(Refused, match="handed over at once"):
        await operations.start(plan)
    assert set(to_document(action)) == {"name", "values"}


async def test_preflight_tells_of_a_token_that_is_over(bench: Bench) -> None:
    workflow = await held(bench, tokens=Tokens([KEY]))
    operations = Operations(bench.transport, bench.topic, operator="ann")
    for action, told in ((Release(), True), (Release({}, Secret(jwt("pay")), PUBLIC), False), (DeadLetter(), False)):
        (line,) = (await operations.plan(action, [workflow], reason="look")).lines
        assert line.eligible
        assert ("its token expired at " in line.why) is told


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
