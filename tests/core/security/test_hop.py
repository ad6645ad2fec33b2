"""Dispatcher and worker with keys: what is signed goes through, what is not stays out, byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paigeant_core import (
    ActivityContext,
    ActivitySpec,
    ConfigError,
    MessageTooLarge,
    PaigeantMessage,
    Record,
    State,
    Transport,
    Worker,
    WorkflowDispatcher,
    get_transport,
)
from paigeant_core.limits import POISON_DEATHS
from paigeant_core.names import new_id
from paigeant_core.security import hop
from paigeant_core.security.chain import Chain, verify
from paigeant_core.security.keys import SigningKey
from paigeant_core.security.trust import Principal, Trust
from paigeant_core.transition import Place
from paigeant_core.transports.types import Settled
from tests.core.bench import PATIENCE, Bench
from tests.core.security.kit import names, trusted

SHOP = SigningKey.generate("shop")
PAYMENTS = SigningKey.generate("payments", algorithm="ES256")
DESK = SigningKey.generate("desk")


def policy(**payments: Any) -> Trust:
    """The shop starts, payments does all but `validate`, which the desk does."""
    worker = names("worker")
    activities = names("charge", "notify", "review")
    return Trust(
        [
            trusted(SHOP, Principal(name="shop", roles=names("dispatcher"))),
            trusted(DESK, Principal(name="desk", roles=worker, activities=names("validate"), inserts=names("*"))),
            trusted(
                PAYMENTS,
                Principal(name="payments", roles=worker, activities=activities, inserts=names("review")),
                **payments,
            ),
        ]
    )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def payments(bench: Bench, handler: Callable[[ActivityContext], Any] | None = None, **options: Any) -> Worker:
    """A worker of charge, notify and review; `handler` is that of charge."""
    worker = bench.worker(signer=PAYMENTS, trust=options.pop("trust", policy()), **options)

    async def plain(ctx: ActivityContext) -> dict[str, Any]:
        return {ctx.message.headers.activity: True}

    worker.activity("charge")(handler or plain)
    worker.activity("notify")(plain)
    worker.activity("review")(plain)
    return worker


async def dispatch(bench: Bench, *steps: object, signer: SigningKey | None = SHOP, **options: Any) -> str:
    dispatcher = WorkflowDispatcher(bench.transport, signer=signer)
    return await dispatcher.dispatch_workflow(list(steps), {"amount": 5}, topic=bench.topic, **options)


async def chain_of(bench: Bench, workflow: str) -> Chain:
    """What the records of the workflow's last message say, verified by nobody's memory."""
    message = (await bench.last(workflow)).message
    assert message is not None
    return verify(message.records, policy(), bench.clock.now())


async def quarantined(bench: Bench) -> Record:
    async def there() -> bool:
        return bool(await bench.transport.parked(bench.topic, Place.QUARANTINE))

    await bench.until(there, "quarantine")
    (record,) = await bench.transport.parked(bench.topic, Place.QUARANTINE)
    return record


# -- what is signed goes through --------------------------------------------------------


@asynccontextmanager
async def run(worker: Worker, transport: Transport) -> AsyncIterator[None]:
    task = asyncio.create_task(worker.run(transport))
    try:
        yield
    finally:
        worker.stop()
        await asyncio.wait_for(task, PATIENCE)


@pytest.fixture(params=["memory", "redis", "rabbitmq"])
def url(request: pytest.FixtureRequest) -> str:
    name = {"memory": None, "redis": "redis_url", "rabbitmq": "rabbit_url"}[request.param]
    return f"memory://{new_id()}" if name is None else str(request.getfixturevalue(name))


async def test_workers_hand_on_what_they_verified_and_signed(bench: Bench, url: str, topic: str) -> None:
    desk = Worker(topic, signer=DESK, trust=policy())
    charge = Worker(topic, signer=PAYMENTS, trust=policy())

    @desk.activity("validate")
    async def validate(ctx: ActivityContext) -> dict[str, Any]:
        return {"valid": True}

    @charge.activity("charge")
    async def charged(ctx: ActivityContext) -> dict[str, Any]:
        return {"paid": ctx.payload["amount"]}

    async with get_transport(url) as transport:
        steps = ["validate", ActivitySpec(name="charge", arguments={"currency": "EUR", "rate": 1.0}, scopes=["pay"])]
        dispatcher = WorkflowDispatcher(transport, signer=SHOP)
        started = await dispatcher.dispatch_workflow(steps, b'{"amount": 5.0}', topic=topic)
        bare = await WorkflowDispatcher(transport).dispatch_workflow(steps, b'{"amount": 5.0}', topic=topic)

        async def over() -> bool:
            done = (await transport.history(topic, started))[-1].state == State.COMPLETED
            return done and bool(await transport.parked(topic, Place.QUARANTINE))

        async with run(desk, transport), run(charge, transport):
            await bench.until(over, "one completed and one in quarantine")
        (record,) = await transport.parked(topic, Place.QUARANTINE)
        message = (await transport.history(topic, started))[-1].message
        assert message is not None
        chain = verify(message.records, policy(), transport.clock.now())
        assert (chain.length, chain.signer, chain.slip.finished) == (3, "payments", True)
        assert message.payload_bytes == b'{"amount":5.0,"valid":true,"paid":5.0}'
        # What came unsigned was not run, and is kept as it was.
        (sent,) = [entry for entry in await transport.history(topic, bare) if entry.kind == "dispatched"]
        assert record.body == sent.body
        assert record.detail["code"] == "unsigned"


async def test_retries_holds_inserts_and_an_early_end_keep_the_chain_whole(bench: Bench) -> None:
    tries: list[int] = []

    async def handler(ctx: ActivityContext) -> dict[str, Any]:
        tries.append(ctx.attempt)
        if len(tries) < 2:
            raise ValueError("not yet")
        ctx.insert_next("review", ActivitySpec(name="review", arguments={"n": 2}))
        ctx.hold("a signature", until=bench.clock.now() + 60, on_deadline="release")
        return {"charged": True}

    worker = payments(bench, handler)
    workflow = await dispatch(bench, "charge", "notify")
    async with bench.serving(worker):
        await bench.reaches(workflow, State.RETRYING)
        bench.clock.advance(5)
        await bench.reaches(workflow, State.HELD)
        bench.clock.advance(60)
        await bench.reaches(workflow, State.COMPLETED)
    chain = await chain_of(bench, workflow)
    assert chain.slip.names() == ("charge", "review", "review", "notify")
    assert (chain.length, tries) == (5, [1, 2])


async def test_an_early_end_is_signed(bench: Bench) -> None:
    async def handler(ctx: ActivityContext) -> None:
        ctx.finish()

    workflow = await dispatch(bench, "charge", "notify", "notify")
    async with bench.serving(payments(bench, handler)):
        await bench.reaches(workflow, State.COMPLETED)
    assert (await chain_of(bench, workflow)).slip.names() == ("charge",)


async def test_compensation_is_signed_hop_by_hop(bench: Bench) -> None:
    async def handler(ctx: ActivityContext) -> None:
        if ctx.message.headers.hop == 3:
            raise RuntimeError("no")

    worker = payments(bench, handler)
    undone: list[int] = []
    worker.activities["charge"].compensate(lambda ctx: undone.append(ctx.message.headers.hop))
    last = ActivitySpec(name="charge", retry={"max_attempts": 1})
    workflow = await dispatch(bench, "charge", "notify", last, on_failure="compensate")
    async with bench.serving(worker):
        await bench.reaches(workflow, State.COMPENSATED)
    assert undone == [1]
    chain = await chain_of(bench, workflow)
    assert (chain.length, chain.slip.undoing) == (6, 0)


async def test_poison_begins_a_signed_compensation(bench: Bench) -> None:
    workflow = await dispatch(bench, "charge", "notify", on_failure="compensate")
    worker = payments(bench)
    with bench.broker.topic(bench.topic) as topic:
        topic.work["charge"][0].deaths = POISON_DEATHS
    async with bench.serving(worker):
        await bench.reaches(workflow, State.COMPENSATED)
    assert (await chain_of(bench, workflow)).length == 2


async def test_poison_whose_compensation_cannot_be_signed_is_a_dead_letter(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = await dispatch(bench, "charge", on_failure="compensate")
    sent = (await bench.last(workflow)).body
    monkeypatch.setattr(hop, "MAX_RUN", 1)
    with bench.broker.topic(bench.topic) as topic:
        topic.work["charge"][0].deaths = POISON_DEATHS
    async with bench.serving(payments(bench)):
        record = await bench.reaches(workflow, State.DEAD)
    assert (record.detail["reason"], record.body) == ("cannot_sign", sent)


async def test_a_failure_keeps_its_bytes_and_its_chain(bench: Bench) -> None:
    async def handler(ctx: ActivityContext) -> None:
        raise RuntimeError("no")

    workflow = await dispatch(bench, ActivitySpec(name="charge", retry={"max_attempts": 1}))
    sent = (await bench.last(workflow)).body
    async with bench.serving(payments(bench, handler)):
        record = await bench.reaches(workflow, State.DEAD)
    assert record.body == sent


# -- what is not stays out --------------------------------------------------------------


def tampered(bench: Bench, activity: str, change: Callable[[PaigeantMessage], None]) -> bytes:
    """The waiting message, changed by somebody who can write to the broker."""
    with bench.broker.topic(bench.topic) as topic:
        (copy,) = topic.work[activity]
        message = PaigeantMessage.decode(copy.body)
        change(message)
        copy.body = message.encode()
        return copy.body


def headers(**changes: Any) -> Callable[[PaigeantMessage], None]:
    def change(message: PaigeantMessage) -> None:
        message.headers = msgspec.structs.replace(message.headers, **changes)

    return change


def _amount(message: PaigeantMessage) -> None:
    message.payload["amount"] = 5000


def _order(message: PaigeantMessage) -> None:
    message.routing_slip.itinerary[1:] = []


def _bare(message: PaigeantMessage) -> None:
    message.records = []


def _signature(message: PaigeantMessage) -> None:
    head, _, signature = message.records[0].rpartition(".")
    message.records[0] = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


def _token(message: PaigeantMessage) -> None:
    message.obo_token = "stolen"


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("body_digest", _amount),
        ("slip", _order),
        ("unsigned", _bare),
        ("signature", _signature),
        ("token_digest", _token),
        ("run", headers(run=2)),
        ("splice", headers(correlation_id="another")),
    ],
)
async def test_what_was_changed_is_quarantined_as_it_is_and_not_run(
    bench: Bench, code: str, change: Callable[[PaigeantMessage], None]
) -> None:
    ran: list[str] = []

    async def handler(ctx: ActivityContext) -> None:
        ran.append(ctx.message.correlation_id)

    worker = payments(bench, handler)
    await dispatch(bench, "charge", "notify", obo_token="secret")
    body = tampered(bench, "charge", change)
    other = await dispatch(bench, "charge")
    async with bench.serving(worker):
        record = await quarantined(bench)
        await bench.reaches(other, State.COMPLETED)
    assert record.body == body
    assert record.detail["code"] == code
    assert ran == [other]


async def test_a_replay_that_nobody_signed_is_not_run(bench: Bench) -> None:
    from paigeant_core.operations import Operations, Replay, Retry

    async def handler(ctx: ActivityContext) -> None:
        raise RuntimeError("no")

    workflow = await dispatch(bench, ActivitySpec(name="charge", retry={"max_attempts": 1}))
    operations = Operations(bench.transport, bench.topic, operator="ann")
    async with bench.serving(payments(bench, handler)):
        await bench.reaches(workflow, State.DEAD)
        # The same step under the same key: the fence's epoch alone has risen, and it is run.
        assert (await operations.execute(await operations.plan(Retry(), [workflow], reason="again"))).count("done") == 1
        record = await bench.reaches(workflow, State.DEAD)
        assert record.headers.epoch == 2
        # No key, no replay; and what somebody publishes all the same is not run.
        plan = await operations.plan(Replay(), [workflow], reason="again")
        assert "a key is needed" in plan.lines[0].why
        standing = await operations.standing(workflow)
        assert standing is not None
        forged = Replay().apply(standing, bench.clock.now(), {})
        assert await bench.transport.operate(bench.topic, forged, expect=standing.fence) is Settled.DONE
        assert (await quarantined(bench)).detail["code"] == "run"


async def test_a_compensated_workflow_that_somebody_publishes_again_is_not_run(bench: Bench) -> None:
    ran: list[int] = []

    async def handler(ctx: ActivityContext) -> None:
        ran.append(ctx.message.headers.hop)
        raise RuntimeError("no")

    last = ActivitySpec(name="charge", retry={"max_attempts": 1})
    workflow = await dispatch(bench, "notify", last, on_failure="compensate")
    async with bench.serving(payments(bench, handler)):
        message = (await bench.reaches(workflow, State.COMPENSATED)).message
        assert message is not None
        assert message.headers.activity == "charge"
        headers(epoch=9)(message)
        with bench.broker.topic(bench.topic, wake=True) as topic:
            topic.put("charge", message.encode())
        assert (await quarantined(bench)).detail["code"] == "order"
    assert ran == [2]


# -- who may sign -----------------------------------------------------------------------


async def test_a_worker_inserts_what_it_may_alone(bench: Bench) -> None:
    async def handler(ctx: ActivityContext) -> None:
        ctx.insert_next("charge")

    workflow = await dispatch(bench, "charge", "notify", on_failure="compensate")
    async with bench.serving(payments(bench, handler)):
        record = await bench.reaches(workflow, State.DEAD)
    assert (record.detail["reason"], record.detail["error"]["type"]) == ("cannot_sign", "VerificationError")
    assert record.message is not None
    assert record.message.routing_slip.names() == ("charge", "notify")


@pytest.mark.parametrize(("most", "state"), [(1, State.DEAD), (3, State.COMPENSATION_FAILED)])
async def test_a_chain_that_is_full_parks_its_workflow(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, most: int, state: str
) -> None:
    worker = payments(bench)
    undone: list[int] = []
    worker.activities["charge"].compensate(lambda ctx: undone.append(ctx.message.headers.hop))

    async def fail(ctx: ActivityContext) -> None:
        raise RuntimeError("no")

    del worker.activities["notify"]
    worker.activity("notify")(fail)
    monkeypatch.setattr(hop, "MAX_RUN", most)
    last = ActivitySpec(name="notify", retry={"max_attempts": 1})
    workflow = await dispatch(bench, "charge", last, on_failure="compensate")
    async with bench.serving(worker):
        record = await bench.reaches(workflow, state)
    assert record.detail["reason"] == "cannot_sign"
    assert (await chain_of(bench, workflow)).length == most


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"signer": PAYMENTS}, "has no trust policy"),
        ({"trust": policy()}, "no key to sign with"),
        ({"signer": SigningKey.generate("stranger"), "trust": policy()}, "does not know the key"),
        ({"signer": DESK, "trust": policy()}, "run activity charge"),
        ({"signer": SHOP, "trust": policy()}, "the role worker"),
        ({"signer": PAYMENTS, "trust": policy(not_after=1.0)}, "not valid now"),
    ],
)
async def test_a_worker_that_would_be_refused_does_not_start(bench: Bench, options: dict[str, Any], why: str) -> None:
    worker = bench.worker(**options)
    worker.activity("charge")(lambda ctx: None)
    with pytest.raises(ConfigError, match=why):
        await worker.run()


async def test_a_worker_whose_key_runs_out_claims_no_more_and_loses_nothing(bench: Bench) -> None:
    end = bench.clock.now() + 100
    worker = payments(bench, trust=policy(not_after=end), drain=5.0)
    first = await dispatch(bench, "notify")
    task = asyncio.create_task(worker.run())
    await bench.reaches(first, State.COMPLETED)
    bench.clock.advance(97)
    second = await dispatch(bench, "notify")
    with pytest.raises(ConfigError, match="not valid now"):
        await asyncio.wait_for(task, PATIENCE)
    assert (await bench.last(second)).state == State.QUEUED
    assert (await bench.queue("notify")).ready == 1


async def test_without_keys_signed_work_is_done_as_any_other(bench: Bench) -> None:
    worker = bench.worker()
    worker.activity("charge")(lambda ctx: None)
    workflow = await dispatch(bench, "charge")
    async with bench.serving(worker):
        record = await bench.reaches(workflow, State.COMPLETED)
    assert record.message is not None
    assert len(record.message.records) == 1


async def test_more_than_a_record_holds_is_not_dispatched(bench: Bench) -> None:
    steps = [ActivitySpec(name="charge", arguments={"text": "x" * 400_000})]
    with pytest.raises(MessageTooLarge, match="signed record"):
        await dispatch(bench, *steps)
    assert await bench.transport.find(bench.topic, "") == []


def test_nothing_of_it_is_loaded_where_nothing_is_signed() -> None:
    import subprocess
    import sys

    code = (
        "import sys, paigeant_core; print(*(name for name in sys.modules if 'joserfc' in name or 'security' in name))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stdout.split()) == (0, [])
