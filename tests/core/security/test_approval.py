"""A second person: nothing runs before another operator signed the same, and workers see to it."""

from __future__ import annotations

import asyncio
import re

import msgspec
import pytest

from paigeant_console.model.deeds import operation_rows
from paigeant_core import State, Transport, Worker, WorkflowDispatcher, get_transport
from paigeant_core.errors import Refused
from paigeant_core.names import new_id
from paigeant_core.operations import Hold, Operations, Pace, Plan, Release, Replay, Restore, Result, Skip
from paigeant_core.operations import run as run_module
from paigeant_core.operations.log import OperationState, OperationStatus
from paigeant_core.security.account import VALID, account
from paigeant_core.security.keys import SigningKey
from paigeant_core.security.trust import Principal, Trust
from paigeant_core.transition import Place
from tests.core.bench import Bench
from tests.core.security.kit import names, trusted
from tests.core.security.test_intervention import ANN, CREW, SHOP, serve, standing
from tests.transports.hands import until

BOB = SigningKey.generate("bob")
EVE = SigningKey.generate("eve")


def policy(**approval: object) -> Trust:
    """Ann and bob do everything, but at charge not alone, and bob starts workflows; eve only skips."""
    approval = approval or {"flagged": ["charge"]}
    all_of = names("*")
    return Trust(
        [
            trusted(SHOP, Principal(name="shop", roles=names("dispatcher"))),
            trusted(CREW, Principal(name="crew", roles=names("worker"), activities=all_of)),
            trusted(ANN, Principal(name="ann", roles=names("operator"), operations=all_of)),
            trusted(BOB, Principal(name="bob", roles=names("operator", "dispatcher"), operations=all_of)),
            trusted(EVE, Principal(name="eve", roles=names("operator"), operations=names("skip"))),
        ],
        **approval,  # type: ignore[arg-type]
    )


def bus(transport: Transport, topic: str, key: SigningKey, trust: Trust | None = None) -> Operations:
    return Operations(transport, topic, signer=key, trust=trust or policy())


async def dispatch(transport: Transport, topic: str, *steps: str) -> str:
    return await WorkflowDispatcher(transport, signer=SHOP).dispatch_workflow(list(steps), {"amount": 5}, topic=topic)


@pytest.fixture(params=["memory", "redis", "rabbitmq"])
def url(request: pytest.FixtureRequest) -> str:
    name = {"memory": None, "redis": "redis_url", "rabbitmq": "rabbit_url"}[request.param]
    return f"memory://{new_id()}" if name is None else str(request.getfixturevalue(name))


async def test_what_one_proposes_another_approves_and_workers_accept(url: str, topic: str) -> None:
    async with get_transport(url) as transport:
        ann, bob = bus(transport, topic, ANN), bus(transport, topic, BOB)
        workflow = await dispatch(transport, topic, "charge", "notify")
        assert (await ann.execute(await ann.plan(Hold(), [workflow], reason="wait"))).count("done") == 1
        plan = await ann.plan(Release({"amount": 7}), [workflow], reason="checked")
        assert "charge" in ann.second(plan)
        with pytest.raises(Refused, match="second person"):
            await ann.execute(plan)
        with pytest.raises(Refused, match="second person"):
            await ann.start(plan)
        status = await ann.propose(plan)
        assert (await standing(ann, workflow)).state == State.HELD
        assert (await bob.runs())[status.operation_id].state is OperationState.WAITING
        with pytest.raises(Refused, match="your own"):
            await ann.proposed(status.operation_id)
        with pytest.raises(Refused, match="approve or reject"):
            await ann.resume(status.operation_id)
        ((_, cells),) = operation_rows((await bob.runs()).values(), transport.clock.now())
        assert "for a second person (a approves)" in str(cells[-1])
        offered = await bob.proposed(status.operation_id[:8])
        assert (offered.action, offered.reason, offered.eligible) == (Release({"amount": 7}), "checked", 1)
        assert (await bob.approve(offered)).count("done") == 1
        done = (await ann.runs())[status.operation_id]
        assert (done.state, done.done) == (OperationState.FINISHED, 1)
        assert done.said == "proposed by ann, approved by bob"
        with pytest.raises(Refused, match="is finished"):
            await bob.approve(offered)
        worker = Worker(topic, signer=CREW, trust=policy(), drain=5)
        serve(worker)

        serving = asyncio.create_task(worker.run(transport))

        async def over() -> bool:
            return (await standing(ann, workflow)).state == State.COMPLETED

        await until(over, "a worker refused it")
        worker.stop()
        await serving
        assert (await standing(ann, workflow)).message().payload["amount"] == 7


def _forged(plan: Plan, approval: str) -> Plan:
    (line,) = plan.lines
    return Plan(plan.operation_id, plan.action, plan.reason, plan.lines, approvals={line.correlation_id: approval})


async def test_a_signature_that_is_missing_ones_own_or_of_something_else_does_not_do() -> None:
    bench = Bench()
    transport, topic = bench.transport, bench.topic
    workflow = await dispatch(transport, topic, "charge", "notify")
    ann, bob, eve = (bus(transport, topic, key) for key in (ANN, BOB, EVE))
    plan = await bob.plan(Replay(changes={"amount": 7}), [workflow], reason="because")
    skip = await bob.plan(Skip(), [workflow], reason="because")

    def by(who: Operations, what: Plan) -> str:
        return who.proposal(what, what.lines[0])

    other = await ann.plan(Replay(changes={"amount": 8}), [workflow], reason="because")
    other = Plan(plan.operation_id, other.action, other.reason, other.lines)
    for approval, why in (
        ("", "takes a second operator"),
        (by(bob, plan), "are one"),
        (by(ann, other), "something else"),
        (by(ann, skip), "something else"),
        (by(eve, plan), "may not propose"),
        ("a.b.c", "malformed|header|base64url"),
    ):
        (result,) = (await bob.execute(_forged(plan, approval))).results
        assert result.outcome == "failed", approval
        assert re.search(why, result.reason), result.reason
    assert (await standing(ann, workflow)).headers.epoch == 1
    assert (await bob.execute(_forged(plan, by(ann, plan)))).count("done") == 1


async def test_a_worker_does_not_run_what_one_operator_signed_alone() -> None:
    bench = Bench()
    workflow = await dispatch(bench.transport, bench.topic, "charge", "notify")
    alone = bus(bench.transport, bench.topic, ANN, policy(flagged=[]))
    assert (await alone.execute(await alone.plan(Replay(), [workflow], reason="x"))).count("done") == 1
    worker = bench.worker(signer=CREW, trust=policy())
    serve(worker)
    async with bench.serving(worker):

        async def quarantined() -> bool:
            return bool(await bench.transport.parked(bench.topic, Place.QUARANTINE))

        await bench.until(quarantined, "quarantine")
    (record,) = await bench.transport.parked(bench.topic, Place.QUARANTINE)
    assert record.detail["code"] == "approval"


async def test_a_copy_at_a_flagged_activity_waits_for_who_may_start_workflows() -> None:
    bench = Bench()
    workflow = await dispatch(bench.transport, bench.topic, "charge", "notify")
    ann, bob = bus(bench.transport, bench.topic, ANN), bus(bench.transport, bench.topic, BOB)
    for alone in (ann, bob):
        with pytest.raises(Refused, match="second person"):
            await alone.execute(await alone.plan(Replay(as_new=True), [workflow], reason="once more"))
    status = await ann.propose(await ann.plan(Replay(as_new=True), [workflow], reason="once more"))
    (result,) = (await bob.approve(await bob.proposed(status.operation_id))).results
    assert result.outcome == "done"
    worker = bench.worker(signer=CREW, trust=policy())
    serve(worker)
    async with bench.serving(worker):
        record = await bench.reaches(result.new_correlation_id, State.COMPLETED)
    assert record.body is not None
    origin = account(record.body, policy(), record.at, record.at).entries[0]
    assert (origin.kind, origin.signer, origin.status) == ("origin", "bob", VALID)


async def test_what_was_quarantined_at_a_flagged_activity_goes_on_by_two() -> None:
    bench = Bench()
    workflow = await dispatch(bench.transport, bench.topic, "charge", "notify")
    ann, bob = bus(bench.transport, bench.topic, ANN), bus(bench.transport, bench.topic, BOB)
    # A worker whose policy does not know yet who started it.
    blind = Trust([key for key in policy().keys.values() if key.principal.name != "shop"], flagged=["charge"])
    worker = bench.worker(signer=CREW, trust=blind)
    serve(worker)

    async def quarantined() -> bool:
        return bool(await bench.transport.parked(bench.topic, Place.QUARANTINE))

    async with bench.serving(worker):
        await bench.until(quarantined, "quarantine")
    (parked,) = await bench.transport.parked(bench.topic, Place.QUARANTINE)
    plan = await ann.plan(Restore(), [parked.headers.correlation_id], reason="it is known by now")
    assert "charge" in ann.second(plan)
    status = await ann.propose(plan)
    (result,) = (await bob.approve(await bob.proposed(status.operation_id))).results
    assert (result.outcome, result.reason) == ("done", f"workflow {workflow} goes on")
    knowing = bench.worker(signer=CREW, trust=policy())
    serve(knowing)
    async with bench.serving(knowing):
        record = await bench.reaches(workflow, State.COMPLETED)
    assert record.body is not None
    told = account(record.body, policy(), record.at, record.at)
    assert told.status == VALID, told.reason
    assert [(entry.name, entry.signer) for entry in told.entries[1:]] == [
        ("restore", "bob"),
        ("charge", "crew"),
        ("notify", "crew"),
    ]
    assert not await quarantined()


async def test_a_large_selection_waits_and_can_be_rejected() -> None:
    bench = Bench()
    trust = policy(approve_over=1)
    ann, bob = bus(bench.transport, bench.topic, ANN, trust), bus(bench.transport, bench.topic, BOB, trust)
    workflows = [await dispatch(bench.transport, bench.topic, "notify") for _ in range(2)]
    assert ann.second(await ann.plan(Skip(), workflows[:1], reason="why")) == ""
    plan = await ann.plan(Skip(), workflows, reason="why")
    assert "more than 1" in ann.second(plan)
    status = await ann.propose(plan)
    await bob.reject(status.operation_id, reason="not today")
    found = (await ann.runs())[status.operation_id]
    assert (found.state, found.said) == (OperationState.ABORTED, "rejected by bob: not today")
    with pytest.raises(Refused, match="is aborted"):
        await bob.proposed(status.operation_id)
    actions = [msgspec.json.decode(entry)["action"] for entry in await bench.transport.audit(bench.topic)]
    assert actions == ["propose skip", "reject skip"]


async def test_who_may_not_do_it_neither_stops_it_nor_ends_it_and_that_is_on_record() -> None:
    bench = Bench()
    ann, eve = bus(bench.transport, bench.topic, ANN), bus(bench.transport, bench.topic, EVE)
    keyless = Operations(bench.transport, bench.topic, operator="mallory", trust=policy())
    workflow = await dispatch(bench.transport, bench.topic, "notify", "charge")
    running = await ann.start(await ann.plan(Hold(), [workflow], reason="why"), Pace(delay=3600))
    operation_id = running.status.operation_id
    for who, why in ((eve, "does not let eve do that"), (keyless, "no key to sign with")):
        for order in (who.pause, who.abort):
            with pytest.raises(Refused, match=why):
                await order(operation_id)
    assert (await ann.runs())[operation_id].state is OperationState.ARMED
    _, *denied = [msgspec.json.decode(entry) for entry in await bench.transport.audit(bench.topic)]
    assert [(entry["operator"], entry["action"]) for entry in denied] == [
        (who, f"{order} hold") for who in ("eve", "mallory") for order in ("pause", "abort")
    ]
    assert all(entry["outcome"].startswith("denied: hold: the trust policy") for entry in denied)
    assert (await ann.pause(operation_id)).state is OperationState.PAUSED
    assert (await ann.abort(operation_id)).state is OperationState.ABORTED


async def test_what_waits_for_a_second_person_ends_by_a_rejection_which_takes_a_reason() -> None:
    bench = Bench()
    ann, bob = bus(bench.transport, bench.topic, ANN), bus(bench.transport, bench.topic, BOB)
    workflow = await dispatch(bench.transport, bench.topic, "charge")
    status = await ann.propose(await ann.plan(Skip(), [workflow], reason="why"))
    for who in (ann, bob):
        with pytest.raises(Refused, match="approve or reject it"):
            await who.abort(status.operation_id)
    assert (await bob.runs())[status.operation_id].state is OperationState.WAITING
    assert (await ann.reject(status.operation_id, reason="a mistake")).state is OperationState.ABORTED


async def thirty_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Bench, Operations, Operations, list[str], OperationStatus]:
    """Ann asks to hold thirty workflows, which takes bob; whoever carries it out looks at the log after each."""
    for name in ("HEARTBEAT", "RESTING"):
        monkeypatch.setattr(run_module, name, 0.0)
    bench = Bench()
    trust = policy(approve_over=1)
    ann, bob = bus(bench.transport, bench.topic, ANN, trust), bus(bench.transport, bench.topic, BOB, trust)
    workflows = [await dispatch(bench.transport, bench.topic, "notify", "charge") for _ in range(30)]
    status = await ann.propose(await ann.plan(Hold(), workflows, reason="why"))
    return bench, ann, bob, workflows, status


async def test_what_was_approved_can_be_stopped_and_gone_on_with_by_whoever_approves_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench, ann, bob, workflows, status = await thirty_wait(monkeypatch)
    with pytest.raises(Refused, match="approve or reject"):
        await ann.pause(status.operation_id)
    done: list[str] = []

    def dies_at_three(result: Result) -> None:
        done.append(result.correlation_id)
        if len(done) == 3:
            raise EOFError

    with pytest.raises(EOFError):
        await bob.approve(await bob.proposed(status.operation_id), progress=dies_at_three)
    entries = [msgspec.json.decode(entry) for entry in await bench.transport.audit(bench.topic)]
    assert [entry["action"] for entry in entries] == ["propose hold", "approve hold"], "who approved is on record"
    with pytest.raises(Refused, match="is running"):
        await bob.proposed(status.operation_id)
    monkeypatch.setattr("paigeant_core.operations.log.SILENCE", -1.0)
    with pytest.raises(Refused, match="approve or reject"):
        await ann.resume(status.operation_id)
    with pytest.raises(Refused, match="your own"):
        await ann.proposed(status.operation_id)
    report = await bob.approve(await bob.proposed(status.operation_id))
    assert report.count("done") == 30
    for workflow in workflows:
        history = await bench.history(workflow)
        assert sum(record.kind == "operated" for record in history) == 1, "nothing was done twice"
    assert (await ann.runs())[status.operation_id].state is OperationState.FINISHED


async def test_an_approved_operation_that_is_aborted_leaves_the_rest_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    _, ann, bob, _, status = await thirty_wait(monkeypatch)
    plan = await bob.proposed(status.operation_id)
    orders = iter([ann.abort(status.operation_id)])

    def abort(_: Result) -> None:
        for order in orders:
            # In memory nothing is waited for.
            with pytest.raises(StopIteration):
                order.send(None)

    report = await bob.approve(plan, progress=abort)
    assert report.count("done") == 1
    found = (await ann.runs())[status.operation_id]
    assert (found.state, found.done) == (OperationState.ABORTED, report.count("done"))
