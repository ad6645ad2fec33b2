"""The guide's order, when its payment fails."""

from __future__ import annotations

from typing import Any

from paigeant_core import (
    ActivityContext,
    ActivitySpec,
    RetryPolicy,
    State,
    Worker,
)
from tests.core.bench import Bench
from tests.guide import examples


async def order(bench: Bench, worker: Worker, ledger: list[str]) -> str:
    """Dispatch the guide's order; each of its activities that the worker has not yet writes itself down."""
    activities = (await examples.run("E-commerce Order Processing", ActivitySpec=ActivitySpec))["order_workflow"]
    for spec in activities:
        if spec.name not in worker.activities:

            @worker.activity(spec.name)
            async def handler(ctx: ActivityContext) -> None:
                ledger.append(ctx.activity)

    return await bench.dispatch(*activities, variables={"card": "expired"})


async def test_if_payment_fails_retry_with_backup_payment_methods() -> None:
    bench = Bench(topic="workflows")
    worker = bench.worker()
    ledger: list[str] = []

    @worker.activity("process-payment", retry=RetryPolicy(initial=30, jitter=0))
    async def process_payment(ctx: ActivityContext) -> dict[str, Any]:
        ledger.append(f"process-payment with card {ctx.attempt}")
        if ctx.attempt == 1:
            raise ConnectionError("the first bank does not answer")
        return {"paid_with": f"card {ctx.attempt}"}

    workflow = await order(bench, worker, ledger)
    async with bench.serving(worker):
        await bench.reaches(workflow, State.RETRYING)
        bench.clock.advance(30)
        await bench.reaches(workflow, State.COMPLETED)
    # "Resume from the exact point of failure": nothing before the payment was done again.
    assert ledger == [
        "validate-order-details",
        "check-inventory",
        "process-payment with card 1",
        "process-payment with card 2",
        "update-inventory",
        "generate-shipping-label",
        "send-confirmation-email",
        "notify-warehouse",
    ]


async def test_if_payment_fails_hold_while_the_customer_updates_payment_info() -> None:
    bench = Bench(topic="workflows")
    worker = bench.worker()
    ledger: list[str] = []

    @worker.activity("process-payment")
    async def process_payment(ctx: ActivityContext) -> None:
        ledger.append(f"process-payment at hop {ctx.hop}")
        if ctx.hop == 3:
            ctx.insert_next("process-payment")
            ctx.hold("the card has expired", until=bench.clock.now() + 3600, on_deadline="release")

    workflow = await order(bench, worker, ledger)
    async with bench.serving(worker):
        await bench.reaches(workflow, State.HELD)
        assert ledger[-1] == "process-payment at hop 3"
        bench.clock.advance(3600)
        await bench.reaches(workflow, State.COMPLETED)
    assert ledger[:4] == [
        "validate-order-details",
        "check-inventory",
        "process-payment at hop 3",
        "process-payment at hop 4",
    ]
    assert len(ledger) == 8
