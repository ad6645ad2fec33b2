"""A token that is over while its workflow runs, and another one in its place."""

from __future__ import annotations

from typing import Any

import pytest

from paigeant_core import (
    ActivityContext,
    ActivitySpec,
    NonRetryable,
    Refused,
    State,
    TokenExpired,
)
from paigeant_core.message import PaigeantMessage
from paigeant_core.operations import DeadLetter, Operations, Release, Replay
from paigeant_core.operations.log import to_document
from paigeant_core.secret import Secret
from paigeant_core.tokens import Tokens
from tests.core.bench import Bench
from tests.core.tokens import steps
from tests.core.tokens.kit import jwt
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
    held,
    kept,
    release,
    worker,
)

bench = steps.bench


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

    bench.clock.advance(1.5 - bench.clock.now() % 1)  # in the middle of a second: a token expires at a whole one
    workflow = await dispatch(bench, "pay", token=jwt(exp=bench.clock.now() + 0.5))
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


async def test_compensation_passes_steps_that_nothing_undoes_without_a_token(bench: Bench) -> None:
    def fails(ctx: ActivityContext) -> None:
        if ctx.activity == "pay":
            bench.clock.advance(31)
            raise NonRetryable("no")

    workflow = await dispatch(bench, "notify", "pay", token=jwt(exp=bench.clock.now() + 30), on_failure="compensate")

    async def rests() -> bool:
        return (await bench.last(workflow)).state in (State.HELD, State.COMPENSATED)

    async with bench.serving(worker(bench, then=fails)):
        await bench.until(rests, "an end of its compensation")
    last = await bench.last(workflow)
    assert (last.state, last.detail.get("undo")) == (State.COMPENSATED, "no compensator")


# -- and another in its place ------------------------------------------------------------


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
