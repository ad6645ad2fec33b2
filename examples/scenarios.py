"""The conceptual guide's three scenarios as workers: onboarding, orders, support.

    paigeant-console worker examples/scenarios.py
    paigeant-console dispatch validate-order-details process-payment --payload examples/order.json

Each step takes the milliseconds in ``STEP_MS`` (environment, default 50). A payment with
a card that has expired fails for good: mend the payload and replay.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from paigeant_core import ActivityContext, NonRetryable, RetryPolicy, Worker

STEP_SECONDS = int(os.environ.get("STEP_MS", "50")) / 1000

worker = Worker(topic="workflows", concurrency=16)


def step(name: str, result: dict[str, Any]) -> None:
    """Register an activity that waits a little and returns ``result``."""

    @worker.activity(name)
    async def handler(ctx: ActivityContext) -> dict[str, Any]:
        await asyncio.sleep(STEP_SECONDS)
        return result


# Onboarding
step("validate-customer-data", {"valid": True})
step("create-customer-account", {"account": "created"})
step("setup-payment-method", {"payment_method": "stored"})
step("send-welcome-email", {"welcomed": True})

# Orders
step("validate-order-details", {"order_valid": True})
step("check-inventory", {"in_stock": True})
step("update-inventory", {"reserved": True})
step("generate-shipping-label", {"label": "printed"})
step("send-confirmation-email", {"confirmed": True})
step("notify-warehouse", {"warehouse": "told"})

# Support
step("classify-ticket-priority", {"priority": "normal"})
step("route-to-specialist-team", {"team": "billing"})
step("research-customer-history", {"orders_found": 3})
step("generate-initial-response", {"response": "We look into it."})
step("schedule-human-follow-up", {"follow_up": "tomorrow"})


@worker.activity("process-payment", retry=RetryPolicy(max_attempts=5), timeout=30)
async def process_payment(ctx: ActivityContext) -> dict[str, Any]:
    """Charge the card; the idempotency key keeps a provider from charging twice."""
    await asyncio.sleep(STEP_SECONDS)
    card = ctx.payload.get("card") or {}
    if card.get("expires", "2099") < "2026":
        raise NonRetryable(f"card declined: expired {card['expires']}")
    return {"paid": True, "charge": ctx.idempotency_key}
