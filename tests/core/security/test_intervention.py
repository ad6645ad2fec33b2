"""What operators sign, what their policy refuses, and what a worker makes of requests that nobody signed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from paigeant_core import (
    ActivityContext,
    ActivitySpec,
    RetryPolicy,
    State,
    Transport,
    Worker,
    WorkflowDispatcher,
    get_transport,
)
from paigeant_core.errors import Refused
from paigeant_core.handoff import request
from paigeant_core.journal import Record
from paigeant_core.names import new_id
from paigeant_core.operations import (
    Action,
    Cancel,
    Compensate,
    Hold,
    Insert,
    Operations,
    Replay,
    Report,
    Retry,
    Skip,
    Standing,
)
from paigeant_core.operations.aside import Release
from paigeant_core.routing import Step
from paigeant_core.security.account import VALID, account
from paigeant_core.security.keys import SigningKey
from paigeant_core.security.trust import Principal, Trust
from paigeant_core.transition import Place
from paigeant_core.transports.rabbitmq import RabbitTransport
from paigeant_core.transports.rabbitmq.topology import Names
from tests.core.bench import PATIENCE, Bench
from tests.core.security.kit import names, trusted

SHOP, CREW, ANN, BEN = (SigningKey.generate(name) for name in ("shop", "crew", "ann", "ben"))


def policy() -> Trust:
    """Ann does everything but start workflows, ben retries."""
    return Trust(
        [
            trusted(SHOP, Principal(name="shop", roles=names("dispatcher"))),
            trusted(CREW, Principal(name="crew", roles=names("worker"), activities=names("*"), inserts=names("*"))),
            trusted(ANN, Principal(name="ann", roles=names("operator"), operations=names("*"))),
            trusted(BEN, Principal(name="ben", roles=names("operator"), operations=names("retry"))),
        ]
    )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def operations(bench: Bench, signer: SigningKey | None = ANN, trust: Trust | None = None) -> Operations:
    return Operations(bench.transport, bench.topic, signer=signer, trust=trust or policy())


def crew(bench: Bench, gate: asyncio.Event | None = None) -> Worker:
    """Serves charge, which waits at the gate, review and notify."""
    worker = bench.worker(signer=CREW, trust=policy())
    serve(worker, gate)
    return worker


def serve(worker: Worker, gate: asyncio.Event | None = None) -> None:
    @worker.activity("charge")
    async def charge(ctx: ActivityContext) -> dict[str, Any]:
        if gate is not None:
            await gate.wait()
        return {"charged": ctx.idempotency_key}

    @worker.activity("review")
    @worker.activity("notify")
    async def other(ctx: ActivityContext) -> None:
        pass


async def dispatch(bench: Bench, *steps: object, signer: SigningKey | None = SHOP) -> str:
    dispatcher = WorkflowDispatcher(bench.transport, signer=signer)
    return await dispatcher.dispatch_workflow(list(steps), {"amount": 5}, topic=bench.topic)


async def act(bus: Operations, action: Action, *workflows: str) -> Report:
    return await bus.execute(await bus.plan(action, workflows, reason="because"))


async def standing(bus: Operations, workflow: str) -> Standing:
    found = await bus.standing(workflow)
    assert found is not None
    return found


async def running(bench: Bench, bus: Operations, workflow: str) -> None:
    async def there() -> bool:
        return (await standing(bus, workflow)).state == State.RUNNING

    await bench.until(there, "running")


def claims_of(record: Record) -> list[tuple[str, str, str]]:
    """Kind, name and signer of each signed record of the workflow's last message, all of them valid."""
    assert record.body is not None
    found = account(record.body, policy(), record.at, record.at)
    assert found.status == VALID, found.reason
    return [(entry.kind, entry.name, entry.signer) for entry in found.entries]


# -- what is signed ---------------------------------------------------------------------


@pytest.fixture(params=["memory", "redis", "rabbitmq"])
def url(request: pytest.FixtureRequest) -> str:
    name = {"memory": None, "redis": "redis_url", "rabbitmq": "rabbit_url"}[request.param]
    return f"memory://{new_id()}" if name is None else str(request.getfixturevalue(name))


async def test_operations_are_records_that_workers_accept_on_every_broker(bench: Bench, url: str, topic: str) -> None:
    gate = asyncio.Event()
    worker = Worker(topic, signer=CREW, trust=policy(), drain=5)
    serve(worker, gate)
    async with get_transport(url) as transport:
        bus = Operations(transport, topic, signer=ANN, trust=policy())
        workflow = await WorkflowDispatcher(transport, signer=SHOP).dispatch_workflow(
            ["charge", "notify"], {"amount": 5}, topic=topic
        )

        async def there(*states: str) -> bool:
            return (await standing(bus, workflow)).state in states

        serving = asyncio.create_task(worker.run(transport))
        try:
            await bench.until(lambda: there(State.RUNNING), "running")
            inserted = await act(bus, Insert((Step("review", arguments={"n": 1.0}),)), workflow)
            await _heard(transport, topic)
            gate.set()
            await bench.until(lambda: there(State.COMPLETED), "completed")
            await act(bus, Replay(from_step="charge", changes={"amount": 6}), workflow)
            await bench.until(lambda: there(State.COMPLETED), "completed again")
        finally:
            worker.stop()
            await asyncio.wait_for(serving, PATIENCE)
        last = (await standing(bus, workflow)).record
        assert claims_of(last) == [
            ("origin", "", "shop"),
            ("operation", "insert", "ann"),
            ("step", "charge", "crew"),
            ("step", "review", "crew"),
            ("step", "notify", "crew"),
            ("operation", "replay", "ann"),
            ("step", "charge", "crew"),
            ("step", "notify", "crew"),
        ]
        assert inserted.count("done") == 1
        assert not await transport.parked(topic, Place.QUARANTINE)


async def _heard(transport: Transport, topic: str) -> None:
    """Everything that was asked for so far is known to this transport's workers; RabbitMQ's learn it later."""
    if isinstance(transport, RabbitTransport):
        await transport.fence(Names(topic)).catch_up()


async def test_what_operators_did_can_be_read_off_the_chain_with_their_reasons(bench: Bench) -> None:
    bus, workflow = operations(bench), await dispatch(bench, "charge", "notify")
    await act(bus, Hold(), workflow)
    await act(bus, Release({"amount": 7}), workflow)
    report = await act(bus, Skip(), workflow)
    record = (await standing(bus, workflow)).record
    assert record.body is not None
    entries = account(record.body, policy(), record.at, record.at).entries
    assert [(entry.name, entry.signer, entry.result) for entry in entries[1:]] == [
        ("hold", "ann", "because"),
        ("release", "ann", "because"),
        ("skip", "ann", "because"),
    ]
    assert record.detail["key"] == ANN.kid
    assert record.detail["operator"] == "ann"
    assert [entry for entry in entries if entry.status != VALID] == []
    assert report.operation_id == record.detail["operation_id"]


async def test_a_copy_is_begun_by_whoever_may_start_workflows(bench: Bench) -> None:
    workflow = await dispatch(bench, "charge", "notify")
    await act(operations(bench), Skip(), workflow)
    (result,) = (await act(operations(bench), Replay(as_new=True), workflow)).results
    assert result.outcome == "failed"
    assert "the role dispatcher" in result.reason
    roles = names("operator", "dispatcher")
    trust = Trust(
        [
            *(key for key in policy().keys.values() if key.kid != ANN.kid),
            trusted(ANN, Principal(name="ann", roles=roles, operations=names("*"))),
        ]
    )
    (result,) = (await act(operations(bench, trust=trust), Replay(as_new=True), workflow)).results
    worker = bench.worker(signer=CREW, trust=trust)
    serve(worker)
    async with bench.serving(worker):
        record = await bench.reaches(result.new_correlation_id, State.COMPLETED)
    assert record.message is not None
    assert [(str(step), step.skipped) for step in record.message.routing_slip.executed] == [
        ("charge", True),
        ("notify", False),
    ]


# -- what is refused before it is done --------------------------------------------------


@pytest.mark.parametrize(
    ("signer", "action", "why"),
    [
        (None, Retry(), "no key to sign with"),
        (SigningKey.generate("ann"), Retry(), "does not know the key"),
        (SHOP, Retry(), "the role operator"),
        (BEN, Skip(), "does not let ben"),
    ],
    ids=["nobody", "a stranger", "no operator", "a junior"],
)
async def test_what_the_policy_would_refuse_is_refused_at_once(
    bench: Bench, signer: SigningKey | None, action: Action, why: str
) -> None:
    workflow = await dispatch(bench, "charge")
    with pytest.raises(Refused, match=why):
        await operations(bench, signer).plan(action, [workflow], reason="because")
    assert len(await bench.history(workflow)) == 1


async def test_steps_with_more_permissions_than_the_workflow_has_are_not_inserted(bench: Bench) -> None:
    workflow = await dispatch(bench, ActivitySpec(name="charge", scopes=["pay"]))
    bus = operations(bench)
    (result,) = (await act(bus, Insert((Step("review", scopes=("refund",)),)), workflow)).results
    assert result.outcome == "failed"
    assert "needs more than" in result.reason
    assert (await act(bus, Insert((Step("review", scopes=("pay",)),)), workflow)).count("done") == 1


async def test_nothing_is_signed_into_what_somebody_changed(bench: Bench) -> None:
    workflow = await dispatch(bench, "charge")
    with bench.broker.topic(bench.topic) as state:
        last = state.workflows[workflow].last
        assert last.body is not None
        last.body = last.body.replace(b'"amount":5', b'"amount":9')
    (line,) = (await operations(bench).plan(Retry(), [workflow], reason="because")).lines
    assert not line.eligible
    assert "body_digest" in line.why


async def test_without_the_policy_a_key_signs_what_it_can(bench: Bench) -> None:
    workflow = await dispatch(bench, "charge", "notify")
    bus = Operations(bench.transport, bench.topic, signer=ANN)
    assert (await act(bus, Skip(), workflow)).count("done") == 1
    assert claims_of((await standing(bus, workflow)).record)[-1] == ("operation", "skip", "ann")
    (result,) = (await act(bus, Replay(from_step=1), workflow)).results
    assert "needs the trust policy" in result.reason


async def test_a_workflow_without_signatures_gets_none(bench: Bench) -> None:
    workflow = await dispatch(bench, "charge", "notify", signer=None)
    bus = operations(bench)
    assert (await act(bus, Skip(), workflow)).count("done") == 1
    message = (await standing(bus, workflow)).message()
    assert message.records == []


# -- what is asked of a running step ----------------------------------------------------


def _unsigned(asked: dict[str, Any]) -> None:
    del asked["signed"]


def _another_wish(asked: dict[str, Any]) -> None:
    asked["asks"] = "cancel"


def _of_another(asked: dict[str, Any]) -> None:
    head, _, rest = asked["signed"].partition(".")
    asked["signed"] = f"{head}.{rest[::-1]}"


@pytest.mark.parametrize("forge", [_unsigned, _another_wish, _of_another])
async def test_a_request_that_no_operator_signed_is_not_heeded(
    bench: Bench, forge: Callable[[dict[str, Any]], None]
) -> None:
    gate, bus = asyncio.Event(), operations(bench)
    workflow = await dispatch(bench, "charge", "notify")
    async with bench.serving(crew(bench, gate)):
        await running(bench, bus, workflow)
        now = await standing(bus, workflow)
        detail = {"action": "hold", "operator": "ann", "reason": "because", "operation_id": "x"}
        signed = bus.pen.asked(Hold(), now, reason="because", operation_id="x", at=bench.clock.now())
        asked = {**detail, "signed": signed, "asks": "hold"}
        forge(asked)
        record = request(now.headers, bench.clock.now(), asked.pop("asks"), asked)
        await bench.transport.request(bench.topic, record, expect=now.fence)
        gate.set()
        record = await bench.reaches(workflow, State.COMPLETED)
    assert [kind for kind, _, _ in claims_of(record)] == ["origin", "step", "step"]


async def test_what_is_inserted_is_what_was_signed_not_what_stands_beside_it(bench: Bench) -> None:
    gate, bus = asyncio.Event(), operations(bench)
    workflow = await dispatch(bench, "charge", "notify")
    async with bench.serving(crew(bench, gate)):
        await running(bench, bus, workflow)
        now = await standing(bus, workflow)
        action = Insert((Step("review"),))
        signed = bus.pen.asked(action, now, reason="because", operation_id="x", at=bench.clock.now())
        detail = {"action": "insert", "operator": "eve", "signed": signed, "steps": ["charge", "charge"]}
        asked = request(now.headers, bench.clock.now(), "insert", detail)
        await bench.transport.request(bench.topic, asked, expect=now.fence)
        gate.set()
        record = await bench.reaches(workflow, State.COMPLETED)
    assert record.message is not None
    assert record.message.routing_slip.names() == ("charge", "review", "notify")
    assert ("operation", "insert", "ann") in claims_of(record)


async def test_of_a_step_that_fails_a_hold_an_insert_and_a_compensation_are_signed(bench: Bench) -> None:
    gate, bus = asyncio.Event(), operations(bench)
    worker = bench.worker(signer=CREW, trust=policy())

    @worker.activity("charge")
    async def charge(ctx: ActivityContext) -> None:
        await gate.wait()
        gate.clear()
        raise ConnectionError("503")

    @worker.activity("review")
    async def review(ctx: ActivityContext) -> None:
        pass

    ended: list[list[tuple[str, str, str]]] = []
    async with bench.serving(worker):
        for action, state in ((Hold(), State.HELD), (Compensate(), State.COMPENSATED)):
            workflow = await dispatch(bench, "review", "charge")

            async def charging(workflow: str = workflow) -> bool:
                now = await standing(bus, workflow)
                return now.beside is not None and now.headers.activity == "charge"

            await bench.until(charging, "charge")
            assert (await act(bus, action, workflow)).count("done") == 1
            gate.set()
            ended.append(claims_of(await bench.reaches(workflow, state)))
    assert ended[0][2:] == [("operation", "hold", "ann")]
    assert ended[1][2:] == [
        ("operation", "compensate", "ann"),
        ("step", "charge", "crew"),
        ("step", "review", "crew"),
    ]


async def test_an_insert_that_there_is_no_room_for_any_more_is_on_record_in_a_signed_workflow(bench: Bench) -> None:
    gate, bus = asyncio.Event(), operations(bench)
    worker = bench.worker(signer=CREW, trust=policy())

    @worker.activity("charge")
    async def charge(ctx: ActivityContext) -> None:
        await gate.wait()
        ctx.insert_next(*["notify"] * 98)
        ctx.hold("a person looks at it")

    workflow = await dispatch(bench, "charge", "notify")
    async with bench.serving(worker):
        await running(bench, bus, workflow)
        assert (await act(bus, Insert((Step("review"),)), workflow)).count("done") == 1
        gate.set()
        record = await bench.reaches(workflow, State.HELD)
    assert record.detail["not_done"] == "insert: no room for 1 more, a slip holds at most 100 steps"
    assert claims_of(record) == [("origin", "", "shop"), ("step", "charge", "crew")]


@pytest.mark.parametrize(("action", "state"), [(Hold(), State.HELD), (Cancel(), State.CANCELLED)])
async def test_a_compensator_that_runs_can_be_asked_to_hold_though_every_step_was_done(
    bench: Bench, action: Action, state: State
) -> None:
    gate, bus = asyncio.Event(), operations(bench)
    worker = bench.worker(signer=CREW, trust=policy())

    @worker.activity("charge")
    async def charge(ctx: ActivityContext) -> None:
        if ctx.hop == 2:
            ctx.hold("a person looks at it")

    @charge.compensate
    async def refund(ctx: ActivityContext) -> None:
        await gate.wait()

    workflow = await dispatch(bench, "charge", "charge")
    async with bench.serving(worker):
        await bench.reaches(workflow, State.HELD)
        assert (await act(bus, Compensate(), workflow)).count("done") == 1

        async def undoing() -> bool:
            return (await standing(bus, workflow)).beside is not None

        await bench.until(undoing, "the compensator")
        (result,) = (await act(bus, action, workflow)).results
        assert (result.outcome, result.reason) == ("done", "asked for: done when charge is handed on")
        gate.set()
        record = await bench.reaches(workflow, state)
        assert claims_of(record)[-2:] == [("operation", action.name, "ann"), ("step", "charge", "crew")]
        if action.name == "hold":
            assert (await act(bus, Release(), workflow)).count("done") == 1
            await bench.reaches(workflow, State.COMPENSATED)


@pytest.mark.parametrize(
    ("does", "path"),
    [
        ("nothing", ["charge", "review", "notify"]),
        ("finish", ["charge"]),
        ("insert", ["charge", "other", "review", "notify"]),
    ],
)
async def test_the_attempt_after_the_one_that_an_insert_was_asked_of_changes_the_slip_as_any_does(
    bench: Bench, does: str, path: list[str]
) -> None:
    gate, bus = asyncio.Event(), operations(bench)
    worker = bench.worker(signer=CREW, trust=policy())

    @worker.activity("charge", retry=RetryPolicy(initial=0, jitter=0))
    async def charge(ctx: ActivityContext) -> None:
        if ctx.attempt == 1:
            await gate.wait()
            raise ConnectionError("503")
        if does == "finish":
            ctx.finish()
        elif does == "insert":
            ctx.insert_next("other")

    @worker.activity("review")
    @worker.activity("notify")
    @worker.activity("other")
    async def other(ctx: ActivityContext) -> None:
        pass

    workflow = await dispatch(bench, "charge", "notify")
    async with bench.serving(worker):
        await running(bench, bus, workflow)
        assert (await act(bus, Insert((Step("review"),)), workflow)).count("done") == 1
        gate.set()

        async def over() -> bool:
            return (await bench.last(workflow)).state in (State.COMPLETED, State.DEAD, State.QUARANTINED)

        await bench.until(over, "its end")
    record = await bench.last(workflow)
    assert record.state == State.COMPLETED, record.detail
    assert record.message is not None
    assert record.message.routing_slip.executed == path
    assert ("operation", "insert", "ann") in claims_of(record)
