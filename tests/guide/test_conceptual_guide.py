"""What the conceptual guide shows and promises, run.

The guide's code is in examples.md as it stands; what it takes as given (a validator, a model, a broker) is put in here.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic_ai import Agent, models
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from paigeant_core import (
    ActivityContext,
    ActivitySpec,
    IllegalTransition,
    Kind,
    PaigeantMessage,
    Record,
    State,
    Transport,
    Worker,
    WorkflowDispatcher,
    create_planner_agent,
    get_transport,
)
from paigeant_core.transports.types import WorkerInfo
from tests.core.bench import PATIENCE, Bench
from tests.guide import examples

ONBOARDING = ["validate-customer-data", "create-customer-account", "setup-payment-method", "send-welcome-email"]

Handle = Callable[[PaigeantMessage], Awaitable[None]]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, topic: str) -> None:
    """No provider can be reached, and `get_transport()` finds a broker that no other test has."""
    monkeypatch.setattr(models, "ALLOW_MODEL_REQUESTS", False)
    monkeypatch.setenv("PAIGEANT_URL", f"memory://{topic}")


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    async with get_transport() as transport:
        yield transport


async def history(transport: Transport, workflow: str, topic: str = "workflows") -> list[Record]:
    return await transport.history(topic, workflow)


async def ended(transport: Transport, workflow: str, state: str, topic: str = "workflows") -> PaigeantMessage:
    """The workflow's last message, once it has come to `state`."""
    async with asyncio.timeout(PATIENCE):
        while True:
            last = [record for record in await transport.history(topic, workflow) if record.state][-1]
            if last.state == state:
                assert last.message is not None
                return last.message
            await asyncio.sleep(0.01)


async def reaches_step(transport: Transport, workflow: str, activity: str) -> None:
    async with asyncio.timeout(PATIENCE):
        async for batch in transport.records("workflows", follow=True):
            if any((item.headers.correlation_id, item.headers.activity) == (workflow, activity) for item in batch):
                return


async def serve(transport: Transport, handlers: dict[str, Handle], topic: str = "workflows") -> None:
    """A service of the low-level form: it takes messages until a workflow is through."""
    async with asyncio.timeout(PATIENCE):
        async for raw, message in transport.subscribe(topic):
            step = message.routing_slip.next_step()
            assert step is not None
            await handlers[step](message)
            await transport.ack(raw)
            if message.routing_slip.finished or not raw.settled:
                return


@asynccontextmanager
async def working(*workers: Worker) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield
    finally:
        await asyncio.sleep(0)
        for worker in workers:
            worker.stop()
        await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)


# -- Core Concepts ----------------------------------------------------------------------


async def test_the_routing_slip_pattern(transport: Transport) -> None:
    itinerary = (await examples.run("The Routing Slip Pattern"))["itinerary"]
    assert itinerary == ONBOARDING
    workflow = await WorkflowDispatcher(transport).dispatch_workflow(itinerary)
    seen: list[tuple[list[str], list[str]]] = []

    async def handle(message: PaigeantMessage) -> None:
        slip = message.routing_slip
        # "The message knows where it's been and where it's going next."
        seen.append(([str(step) for step in slip.executed], [str(step) for step in slip.itinerary]))
        step = slip.next_step()
        assert step is not None
        slip.mark_complete(step)
        await transport.publish("workflows", message)

    await serve(transport, dict.fromkeys(itinerary, handle))
    # "As each step completes, it gets moved from the to-do list to the completed list."
    assert seen == [(ONBOARDING[:done], ONBOARDING[done:]) for done in range(4)]
    assert (await ended(transport, workflow, State.COMPLETED)).routing_slip.executed == ONBOARDING


async def test_messages_as_containers(transport: Transport) -> None:
    workflow = await WorkflowDispatcher(transport).dispatch_workflow(
        ["first", "second"], {"customer_email": "ann@example.com"}, obo_token="user-token"
    )
    async for raw, message in transport.subscribe("workflows"):
        # Routing Slip: the workflow's itinerary.
        slip = message.routing_slip
        assert (slip.itinerary, slip.executed) == (["first", "second"], [])
        assert slip.next_step() == "first"
        with pytest.raises(IllegalTransition):
            slip.mark_complete("second")
        slip.mark_complete("first")
        assert (slip.next_step(), slip.itinerary, slip.executed) == ("second", ["second"], ["first"])
        # Payload: data needed by the workflow.
        assert message.payload == {"customer_email": "ann@example.com"}
        assert message.payload["customer_email"] == "ann@example.com"
        # Security Context: who initiated this workflow.
        assert message.obo_token == "user-token"
        # Tracking Information: unique IDs for monitoring and debugging.
        assert message.correlation_id == workflow
        assert message.headers.message_id
        await transport.nack(raw)
        break
    # Marking a step complete is local until the message is handed on: nothing of it was kept.
    last = (await history(transport, workflow))[-1]
    assert last.message is not None
    assert (last.kind, last.message.routing_slip.itinerary) == (Kind.RETRYING, ["first", "second"])


@pytest.fixture(
    params=[
        "memory",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("rabbitmq", marks=pytest.mark.rabbitmq),
    ]
)
def broker_url(request: pytest.FixtureRequest, topic: str) -> str:
    """One broker after the other, by nothing but its URL."""
    fixtures = {"redis": "redis_url", "rabbitmq": "rabbit_url"}
    if request.param == "memory":
        return f"memory://{topic}"
    url: str = request.getfixturevalue(fixtures[request.param])
    return url


def onboarding_worker(topic: str, ledger: list[tuple[str, str]], stop_after: int | None = None) -> Worker:
    """The guide's onboarding. It writes down each piece of work, and may be told to stop after so many."""
    worker = Worker(topic=topic)
    for number, name in enumerate(ONBOARDING, start=1):

        @worker.activity(name)
        async def handler(ctx: ActivityContext) -> dict[str, Any]:
            ledger.append((ctx.activity, ctx.idempotency_key))
            if len(ledger) == stop_after:
                worker.stop()
            return {ctx.activity: ctx.payload["customer_email"]}

        assert handler.name == ONBOARDING[number - 1]
    return worker


async def test_switching_the_broker_without_changing_the_workflow(
    broker_url: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAIGEANT_URL", broker_url)
    ledger: list[tuple[str, str]] = []
    steps = (await examples.run("Step 1: Define Your Workflow"))["onboarding_steps"]
    async with get_transport() as transport:
        workflow = await WorkflowDispatcher(transport).dispatch_workflow(
            activities=steps,
            variables={"customer_email": "new.customer@example.com", "subscription_tier": "premium"},
            topic=topic,
        )
        async with working(onboarding_worker(topic, ledger)):
            message = await ended(transport, workflow, State.COMPLETED, topic)
    assert [name for name, _ in ledger] == ONBOARDING
    assert message.payload == {
        "customer_email": "new.customer@example.com",
        "subscription_tier": "premium",
        **dict.fromkeys(ONBOARDING, "new.customer@example.com"),
    }


async def test_switching_the_broker_without_changing_a_low_level_handler(broker_url: str, topic: str) -> None:
    async with get_transport(broker_url) as transport:
        workflow = await WorkflowDispatcher(transport).dispatch_workflow(ONBOARDING, {"visits": 0}, topic=topic)

        async def handle(message: PaigeantMessage) -> None:
            message.payload["visits"] += 1
            step = message.routing_slip.next_step()
            assert step is not None
            message.routing_slip.mark_complete(step)
            await transport.publish(topic, message)

        await serve(transport, dict.fromkeys(ONBOARDING, handle), topic)
        assert (await ended(transport, workflow, State.COMPLETED, topic)).payload == {"visits": 4}


# -- The Three Architectural Principles -------------------------------------------------


async def test_asynchronous_first_communication(transport: Transport) -> None:
    class Working:
        def process(self, data: str) -> str:
            return f"{data}, processed"

    class Down:
        def process(self, data: str) -> str:
            raise ConnectionError("agent_b is down")

    given = {"agent_a": Working(), "agent_b": Down(), "agent_c": Working(), "data": "data"}
    with pytest.raises(ConnectionError, match="agent_b is down"):
        await examples.run("Asynchronous-First Communication: traditional", **given)

    # "This sends a message and continues": nobody serves these activities.
    await examples.run("Asynchronous-First Communication: Paigeant", dispatcher=WorkflowDispatcher(transport))
    (workflow,) = await transport.find("workflows", "")

    # "Each step waits for the previous one, but failures don't cascade": b is down, and a has run all the same.
    one, other = Worker(), Worker()
    a, b, c = "process-with-agent-a", "process-with-agent-b", "process-with-agent-c"
    ran: list[str] = []

    async def handler(ctx: ActivityContext) -> None:
        ran.append(ctx.activity)

    for name in (a, c):
        one.activity(name)(handler)
    other.activity(b)(handler)
    async with working(one):
        await reaches_step(transport, workflow, b)
        assert ran == [a]
        async with working(other):
            await ended(transport, workflow, State.COMPLETED)
    assert ran == [a, b, c]


async def test_durable_execution_goes_on_exactly_where_it_stopped(
    broker_url: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deployments: a worker stops between two steps, and another one, with a connection of its own, goes on there."""
    monkeypatch.setenv("PAIGEANT_URL", broker_url)
    ledger: list[tuple[str, str]] = []
    async with get_transport() as transport:
        workflow = await WorkflowDispatcher(transport).dispatch_workflow(
            ONBOARDING, {"customer_email": "ann@example.com"}, topic=topic
        )
        first = onboarding_worker(topic, ledger, stop_after=2)
        await asyncio.wait_for(first.run(), PATIENCE)
        assert [name for name, _ in ledger] == ONBOARDING[:2]
        stands = (await history(transport, workflow, topic))[-1]
        assert stands.message is not None
        assert (stands.state, stands.message.routing_slip.executed) == (State.QUEUED, ONBOARDING[:2])

        second = onboarding_worker(topic, ledger)
        async with working(second):
            await ended(transport, workflow, State.COMPLETED, topic)
        # Each piece of work was done once, in order, under a key of its own.
        assert ledger == [(name, f"{workflow}/1/{hop}") for hop, name in enumerate(ONBOARDING, start=1)]
        hops = [record for record in await history(transport, workflow, topic) if "step" in record.detail]
        assert [record.worker for record in hops] == [first.name, first.name, second.name, second.name]


async def test_durable_execution_survives_a_server_that_crashes() -> None:
    """The worker vanishes in the middle of the third step: that step alone is run again, with the same key."""
    bench = Bench(topic="workflows")
    ledger: list[tuple[str, str]] = []
    workflow = await bench.dispatch(*ONBOARDING, variables={"customer_email": "ann@example.com"})
    first = onboarding_worker("workflows", ledger, stop_after=2)
    await asyncio.wait_for(first.run(bench.transport), PATIENCE)

    info = WorkerInfo(worker="doomed", activities=(ONBOARDING[2],))
    doomed = bench.transport.consumer("workflows", info, lease=10)
    (delivery,) = await asyncio.wait_for(doomed.claim(1), PATIENCE)
    ledger.append((delivery.activity, f"{workflow}/1/3"))  # its handler has charged the card
    await doomed._crash()

    second = onboarding_worker("workflows", ledger)
    second.transport = bench.transport
    async with working(second):
        # Nobody takes its step while it may still live.
        bench.clock.advance(9.9)
        assert (await bench.queue(ONBOARDING[2])).in_flight == 1
        bench.clock.advance(0.1)
        await bench.reaches(workflow, State.COMPLETED)
    hops = [1, 2, 3, 3, 4]
    assert ledger == [(ONBOARDING[hop - 1], f"{workflow}/1/{hop}") for hop in hops]


async def test_durable_execution_messages_wait_in_the_queue(transport: Transport) -> None:
    workflow = await WorkflowDispatcher(transport).dispatch_workflow(ONBOARDING, {"customer_email": "a@example.com"})
    assert [queue.ready for queue in await transport.queues("workflows")] == [1]
    async with working(onboarding_worker("workflows", [])):
        await ended(transport, workflow, State.COMPLETED)


# -- How You Use Paigeant ---------------------------------------------------------------


async def test_step_1_and_2_define_and_dispatch() -> None:
    names = await examples.run("Step 1: Define Your Workflow")
    assert names["onboarding_steps"] == [ActivitySpec(name=name) for name in ONBOARDING]
    names = await examples.run("Step 2: Dispatch the Workflow", onboarding_steps=names["onboarding_steps"])
    transport: Transport = names["transport"]
    message = await ended(transport, names["correlation_id"], State.QUEUED)
    assert message.routing_slip.itinerary == ONBOARDING
    assert message.payload == {"customer_email": "new.customer@example.com", "subscription_tier": "premium"}


class CustomerValidator:
    """Stands for the guide's customer_validator_agent."""

    async def validate(self, email: str) -> bool:
        return email.endswith("@example.com")


@pytest.mark.parametrize("email", ["new.customer@example.com", "nonsense"])
async def test_step_3_build_workers_to_handle_each_step(transport: Transport, email: str) -> None:
    refused: list[str] = []

    async def handle_validation_error(message: PaigeantMessage) -> None:
        refused.append(message.payload["customer_email"])

    names = await examples.run(
        "Step 3: Build Workers to Handle Each Step",
        transport=transport,
        customer_validator_agent=CustomerValidator(),
        handle_validation_error=handle_validation_error,
    )
    workflow = await WorkflowDispatcher(transport).dispatch_workflow(ONBOARDING, {"customer_email": email})
    async with asyncio.timeout(PATIENCE):
        async for raw, message in transport.subscribe("workflows", "validate-customer-data"):
            await names["handle_validation"](message)
            if refused:
                await transport.ack(raw)
            break
    if email == "nonsense":
        # It was neither handed on nor put back, so that is what the journal says: nothing is lost silently.
        assert refused == [email]
        record = (await history(transport, workflow))[-1]
        assert (record.state, record.detail["reason"]) == (State.CANCELLED, "acknowledged without hand-off")
    else:
        message = await ended(transport, workflow, State.QUEUED)
        assert message.routing_slip.executed == ["validate-customer-data"]
        assert message.routing_slip.next_step() == "create-customer-account"


# -- Integration with AI Agents ---------------------------------------------------------


def plan_onboarding(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """What a language model would do: "Call the dispatch_workflow tool", then "return a tracking ID"."""
    request = messages[-1]
    assert isinstance(request, ModelRequest)
    for part in request.parts:
        if isinstance(part, ToolReturnPart):
            return ModelResponse(parts=[TextPart(f"The onboarding has started; its tracking ID is {part.content}.")])
    assert [tool.name for tool in info.function_tools] == ["dispatch_workflow"]
    call = {
        "steps": [{"name": name} for name in ONBOARDING],
        "variables": {"customer_email": "john@example.com", "subscription_tier": "premium"},
    }
    return ModelResponse(parts=[ToolCallPart("dispatch_workflow", call)])


async def test_using_paigeant_with_pydantic_ai(transport: Transport) -> None:
    assert isinstance(create_planner_agent(model="openai:gpt-4"), Agent)  # as the guide makes it: no key is needed
    names = await examples.run(
        "Using Paigeant with pydantic-ai",
        dispatcher=WorkflowDispatcher(transport),
        model=FunctionModel(plan_onboarding),  # in place of "openai:gpt-4": nothing leaves this machine
    )
    (workflow,) = await transport.find("workflows", "")
    assert workflow in names["result"].output  # "Return a tracking ID"; `.data` in the guide, `.output` today
    message = await ended(transport, workflow, State.QUEUED)
    assert message.routing_slip.itinerary == ONBOARDING
    assert message.payload["customer_email"] == "john@example.com"
    assert message.obo_token == "user-session-token"
    # And it runs as any other does.
    async with working(onboarding_worker("workflows", [])):
        await ended(transport, workflow, State.COMPLETED)


async def test_workflow_workers_can_use_agents_too(transport: Transport) -> None:
    workflow = await WorkflowDispatcher(transport).dispatch_workflow(
        ["analyze-ticket"], {"ticket": "My card was charged twice."}
    )
    names = await examples.run(
        "Workflow Workers Can Use Agents Too",
        Agent=Agent,
        transport=transport,
        model=TestModel(custom_output_text="Priority: high. A double charge."),
    )
    await serve(transport, {"analyze-ticket": names["handle_customer_support_ticket"]})
    message = await ended(transport, workflow, State.COMPLETED)
    assert message.payload == {
        "ticket": "My card was charged twice.",
        "analysis": "Priority: high. A double charge.",
    }


async def test_an_agent_inside_a_workers_activity(transport: Transport) -> None:
    """The same step as most people will write it, with the idea of the guide and a Worker."""
    worker = Worker()

    @worker.activity("analyze-ticket")
    async def analyze(ctx: ActivityContext) -> dict[str, Any]:
        support_agent = Agent(model=TestModel(custom_output_text="Priority: low."))
        analysis = await support_agent.run(f"Determine the priority of this ticket: {ctx.payload['ticket']}")
        return {"analysis": analysis.output}

    workflow = await WorkflowDispatcher(transport).dispatch_workflow(["analyze-ticket"], {"ticket": "Hello"})
    async with working(worker):
        message = await ended(transport, workflow, State.COMPLETED)
    assert message.payload == {"ticket": "Hello", "analysis": "Priority: low."}


# -- Real-World Scenarios ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "name", "first", "steps"),
    [
        ("Step 1: Define Your Workflow", "onboarding_steps", "validate-customer-data", 4),
        ("E-commerce Order Processing", "order_workflow", "validate-order-details", 7),
        ("Customer Support Automation", "support_workflow", "classify-ticket-priority", 5),
    ],
    ids=["onboarding", "order", "support"],
)
async def test_a_scenario_completes(transport: Transport, title: str, name: str, first: str, steps: int) -> None:
    activities = (await examples.run(title, ActivitySpec=ActivitySpec))[name]
    worker = Worker()
    ledger: list[str] = []
    for spec in activities:

        @worker.activity(spec.name)
        async def handler(ctx: ActivityContext) -> dict[str, Any]:
            ledger.append(ctx.activity)
            return {ctx.activity: "done"}

    workflow = await WorkflowDispatcher(transport).dispatch_workflow(activities, {"given": True})
    async with working(worker):
        message = await ended(transport, workflow, State.COMPLETED)
    assert ledger == [spec.name for spec in activities]
    assert (ledger[0], len(ledger)) == (first, steps)
    assert message.payload == {"given": True, **dict.fromkeys(ledger, "done")}
    # "Operational Excellence: built-in monitoring via correlation IDs"
    documents = [record.to_document() for record in await history(transport, workflow)]
    assert {document["correlation_id"] for document in documents} == {workflow}
    assert [document["activity"] for document in documents[1:]] == ledger


# -- all of it --------------------------------------------------------------------------


def test_every_example_of_the_guide_is_run_here() -> None:
    source = inspect.getsource(sys.modules[__name__])
    assert len(examples.EXAMPLES) == 10
    for title in examples.EXAMPLES:
        assert f'"{title}"' in source, title
