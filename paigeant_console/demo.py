"""`demo`: sample workflows on the in-memory broker, with no server, key or set-up.

Seeded, so that it looks the same each time; and honest: the same worker, transport and
journal as in production, in memory. It shows the guide's three scenarios arriving
steadily, steps that take a while, retries backing off, payments that fail until an
operator mends the payload and replays, an activity that nobody serves, messages that
nobody can read, and a step that an agent does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from paigeant_console.background import Background
from paigeant_console.config import Look
from paigeant_core.activity import ActivityContext
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import NonRetryable
from paigeant_core.retry import RetryPolicy
from paigeant_core.transports.memory import MemoryBroker, MemoryTransport
from paigeant_core.worker import Worker

if TYPE_CHECKING:
    from paigeant_console.demo_keys import Keys

BROKER = "demo"
SEED = 20
NO_WORKER_AFTER = 5.0
"""Shorter than in production, so that the demo shows it within ten seconds."""

JOURNAL_BYTES = 32 * 1024 * 1024
ARRIVE_EVERY = 1.6
"""Seconds between two workflows, on average."""

FLAKY = RetryPolicy(max_attempts=6, initial=1.5, factor=1.7, cap=20.0)

ONBOARDING = ("validate-customer-data", "create-customer-account", "setup-payment-method", "send-welcome-email")
ORDER = (
    "validate-order-details",
    "check-inventory",
    "process-payment",
    "update-inventory",
    "generate-shipping-label",
    "send-confirmation-email",
    "notify-warehouse",
)
SUPPORT = (
    "classify-ticket-priority",
    "route-to-specialist-team",
    "research-customer-history",
    "generate-initial-response",
    "schedule-human-follow-up",
)
RETURNS = ("register-return", "inspect-parcel", "refund-customer")
"""Nobody serves inspect-parcel."""

_PEOPLE = ("ann", "bo", "carla", "dmitri", "eun", "fatou", "goran", "hana", "ines", "jules", "kofi", "lin")
_GOODS = ("lamp", "desk", "kettle", "rug", "chair", "clock")
_TICKETS = ("the invoice is wrong", "I cannot sign in", "where is my parcel", "please cancel my order")


@dataclass(frozen=True, slots=True)
class Sample:
    """A workflow that the demo starts."""

    name: str
    steps: Sequence[str]
    variables: Mapping[str, Any]
    labels: Mapping[str, str]


def samples(seed: int = SEED) -> Callable[[int], Sample]:
    """What the demo's n-th workflow is; the same for the same seed."""

    def sample(number: int) -> Sample:
        chance = random.Random(seed * 1_000_003 + number)  # noqa: S311 - a story, not a secret
        person = chance.choice(_PEOPLE)
        email = f"{person}{chance.randrange(100)}@example.com"
        tier = chance.choice(("premium", "basic", "basic"))
        if number % 9 == 7:
            variables = {"customer_email": email, "order_id": f"R-{4000 + number}"}
            return Sample("return", RETURNS, variables, {"tier": tier})
        kind = number % 3
        if kind == 0:
            variables = {"customer_email": email, "subscription_tier": tier}
            return Sample("onboarding", ONBOARDING, variables, {"tier": tier})
        if kind == 1:
            order = {
                "customer_email": email,
                "order_id": f"A-{1000 + number}",
                "items": [{"sku": chance.choice(_GOODS), "count": chance.randint(1, 3)}],
                "amount_eur": chance.randint(20, 400),
                # Every second order is paid with a card that has expired: mend it and replay.
                "card": {"number": "4000 0000 0000 0069", "expires": "2024-01" if number % 2 == 0 else "2029-08"},
            }
            return Sample("order", ORDER, order, {"tier": tier, "shop": "eu"})
        ticket = {"customer_email": email, "ticket": chance.choice(_TICKETS)}
        return Sample("support", SUPPORT, ticket, {"tier": tier})

    return sample


def workers(transport: MemoryTransport, seed: int = SEED, keys: Keys | None = None) -> list[Worker]:
    """The demo's workers: one for each scenario."""
    trust = keys.trust() if keys is not None else None

    def worker(name: str, concurrency: int) -> Worker:
        signer = keys.of[name] if keys is not None else None
        return Worker(transport=transport, name=name, concurrency=concurrency, drain=0.5, signer=signer, trust=trust)

    onboarding, orders, support = worker("onboarding", 4), worker("orders", 6), worker("support", 4)

    async def work(context: ActivityContext, least: float, most: float) -> None:
        # By workflow, step and attempt, so that the same one takes the same time in every demo.
        luck = random.Random(f"{seed}{context.idempotency_key}{context.attempt}")  # noqa: S311
        await asyncio.sleep(luck.uniform(least, most))

    def plain(worker: Worker, name: str, least: float, most: float, result: Mapping[str, Any]) -> None:
        @worker.activity(name)
        async def handler(context: ActivityContext) -> dict[str, Any]:
            await work(context, least, most)
            return dict(result)

    plain(onboarding, "validate-customer-data", 0.2, 0.9, {"valid": True})
    plain(onboarding, "create-customer-account", 0.6, 3.0, {"account": "created"})
    plain(onboarding, "send-welcome-email", 0.3, 1.2, {"welcomed": True})
    plain(orders, "validate-order-details", 0.2, 0.6, {"order_valid": True})
    plain(orders, "check-inventory", 0.4, 2.0, {"in_stock": True})
    plain(orders, "update-inventory", 0.2, 0.8, {"reserved": True})
    plain(orders, "generate-shipping-label", 0.8, 2.5, {"label": "DHL-1Z"})
    plain(orders, "send-confirmation-email", 0.2, 0.9, {"confirmed": True})
    plain(orders, "notify-warehouse", 0.2, 0.9, {"warehouse": "told"})
    plain(orders, "register-return", 0.2, 0.6, {"return": "registered"})
    plain(support, "route-to-specialist-team", 0.2, 0.8, {"team": "billing"})
    plain(support, "research-customer-history", 2.0, 9.0, {"orders_found": 3})
    plain(support, "schedule-human-follow-up", 0.2, 0.8, {"follow_up": "tomorrow"})

    @onboarding.activity("setup-payment-method", retry=FLAKY, timeout=20)
    async def setup_payment(context: ActivityContext) -> dict[str, Any]:
        await work(context, 0.4, 1.5)
        failures = random.Random(f"{seed}{context.correlation_id}").choice((0, 1, 2, 3))  # noqa: S311
        if context.attempt <= failures:
            raise ConnectionError("payment provider answered 503, try again later")
        return {"payment_method": "pm_" + context.correlation_id[:6]}

    @orders.activity("process-payment", retry=FLAKY)
    async def process_payment(context: ActivityContext) -> dict[str, Any]:
        await work(context, 0.8, 2.5)
        card = context.payload.get("card")
        expires = card.get("expires") if isinstance(card, Mapping) else None
        if not isinstance(expires, str) or expires < "2026":
            raise NonRetryable(f"card declined: expired {expires}; mend card.expires in the payload and replay")
        return {"paid": True, "charge": context.idempotency_key}

    @support.activity("classify-ticket-priority")
    async def classify_ticket(context: ActivityContext) -> dict[str, Any]:
        await work(context, 0.5, 1.5)
        classify, _ = await asyncio.to_thread(agents)
        return {"priority": await classify(str(context.payload.get("ticket", "")))}

    @support.activity("generate-initial-response", timeout=30)
    async def generate_response(context: ActivityContext) -> dict[str, Any]:
        await work(context, 1.0, 5.0)
        _, respond = await asyncio.to_thread(agents)
        return {"response": await respond(str(context.payload.get("ticket", "")))}

    return [onboarding, orders, support]


@lru_cache(maxsize=1)
def agents() -> tuple[Callable[[str], Any], Callable[[str], Any]]:
    """Two agents that need no model: pydantic-ai's own where the extra `agents` is installed.

    Called from a thread: the import takes a second or two, and the first screen comes before it.
    """

    def priority(ticket: str) -> str:
        return "high" if "cannot" in ticket or "wrong" in ticket else "normal"

    def answer(ticket: str) -> str:
        return f"Thank you for writing. We look into it: {ticket}"

    try:
        from pydantic_ai import Agent
        from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
        from pydantic_ai.models.function import AgentInfo, FunctionModel
    except ImportError:

        async def plain_priority(ticket: str) -> str:
            return priority(ticket)

        async def plain_answer(ticket: str) -> str:
            return answer(ticket)

        return plain_priority, plain_answer

    def agent(instructions: str, rule: Callable[[str], str]) -> Callable[[str], Any]:
        def model(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
            asked = messages[-1].parts[-1]
            return ModelResponse(parts=[TextPart(rule(str(getattr(asked, "content", ""))))])

        made = Agent(FunctionModel(model), instructions=instructions)

        async def ask(ticket: str) -> str:
            return (await made.run(ticket)).output

        return ask

    return agent("Say how urgent a support ticket is.", priority), agent("Answer a support ticket.", answer)


async def arrive(transport: MemoryTransport, topic: str, seed: int = SEED, keys: Keys | None = None) -> None:
    """Start workflows: a handful at once, then one after the other for ever."""
    dispatcher = WorkflowDispatcher(transport, signer=keys.of["shop"] if keys is not None else None)
    sample = samples(seed)
    ids = random.Random(seed)  # noqa: S311 - the same IDs each time, on purpose
    number = 0
    while True:
        item = sample(number)
        await dispatcher.dispatch_workflow(
            list(item.steps),
            item.variables,
            topic=topic,
            correlation_id=f"{ids.getrandbits(128):032x}",
            name=item.name,
            labels=item.labels,
        )
        if number % 40 == 5:
            # Somebody publishes what is no message: it is quarantined, and the workers go on.
            with transport.broker.topic(topic, wake=True) as state:
                state.put("validate-order-details", b'\x1b[2J{"order": oops \xff\xfe')
        number += 1
        await asyncio.sleep(0.02 if number < 12 else ids.uniform(0.5, 1.5) * ARRIVE_EVERY)


async def play(transport: MemoryTransport, topic: str, seed: int = SEED, keys: Keys | None = None) -> None:
    """Workers and arrivals, until cancelled; all signed, where there are keys."""
    crew = workers(transport, seed, keys)
    for worker in crew:
        worker.topic = topic
    async with asyncio.TaskGroup() as group:
        for worker in crew:
            group.create_task(worker.run(transport))
        group.create_task(arrive(transport, topic, seed, keys))


def run_demo(
    *,
    topic: str = "workflows",
    read_only: bool = False,
    look: Look | None = None,
    seed: int = SEED,
) -> int:
    """Open the console on the demo.

    Args:
        topic: the topic's name.
        read_only: refuse every operation.
        look: how the console looks.
        seed: of the story.

    Returns:
        The exit code.
    """
    from paigeant_console.app import run
    from paigeant_console.demo_keys import Keys

    keys = Keys()
    transport = MemoryTransport(BROKER, broker=MemoryBroker(journal_bytes=JOURNAL_BYTES))
    with Background(lambda: play(transport, topic, seed, keys), name="demo"):
        return run(
            transport.url,
            topic,
            context="demo",
            read_only=read_only,
            look=look or Look(),
            signer=keys.of["you"],
            trust=keys.trust(),
            no_worker_after=NO_WORKER_AFTER,
        )
