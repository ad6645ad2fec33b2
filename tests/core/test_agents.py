"""The planner agent, offline: models that answer by rule, and nothing that could reach a provider."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic_ai import Agent, UnexpectedModelBehavior, UserError, models
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from paigeant_core import PlannerAgentDeps, WorkflowDispatcher, create_planner_agent
from paigeant_core.agents import INSTRUCTIONS, TOOL_RETRIES
from paigeant_core.errors import ConfigError, InvalidMessage, TransportError
from paigeant_core.message import PaigeantMessage
from paigeant_core.transports.memory import MemoryTransport
from tests.core.bench import Bench


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "ALLOW_MODEL_REQUESTS", False)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def bench() -> Bench:
    return Bench(topic="workflows")


@pytest.fixture
def deps(bench: Bench) -> PlannerAgentDeps:
    return PlannerAgentDeps(workflow_dispatcher=WorkflowDispatcher(bench.transport), user_obo_token="user-token")


class Script:
    """A model that makes the tool calls it is given, one after the other, then says what it was told last."""

    def __init__(self, *calls: dict[str, Any] | str) -> None:
        self.calls = list(calls)
        self.told: list[str] = []
        self.info: AgentInfo | None = None
        self.instructions: str | None = None

    def __call__(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.info = info
        request = messages[-1]
        assert isinstance(request, ModelRequest)
        self.instructions = request.instructions
        for part in request.parts:
            if isinstance(part, ToolReturnPart):  # an answer, or what was wrong with the call
                self.told.append(str(part.content))
        if self.calls:
            return ModelResponse(parts=[ToolCallPart("dispatch_workflow", self.calls.pop(0))])
        return ModelResponse(parts=[TextPart(f"Started: {self.told[-1]}")])

    @property
    def model(self) -> FunctionModel:
        return FunctionModel(self)


def call(*names: str, **variables: Any) -> dict[str, Any]:
    return {"steps": [{"name": name} for name in names], "variables": variables}


async def dispatched(bench: Bench) -> list[PaigeantMessage]:
    records = [record async for batch in bench.transport.records(bench.topic) for record in batch]
    return [record.message for record in records if record.message is not None]


# -- making it --------------------------------------------------------------------------


def test_an_agent_is_made_without_a_key_or_the_providers_package() -> None:
    agent = create_planner_agent(model="openai:gpt-4")
    assert isinstance(agent, Agent)
    assert agent.deps_type is PlannerAgentDeps


async def test_the_model_is_looked_for_when_the_agent_runs(bench: Bench, deps: PlannerAgentDeps) -> None:
    for name in ("openai:gpt-4", "nonsense:model"):
        agent = create_planner_agent(model=name)
        with pytest.raises((ImportError, UserError)):
            await agent.run("go", deps=deps)
        # The name is only the default: a run may be given another model.
        await agent.run("go", deps=deps, model=TestModel())
        with agent.override(model=TestModel()):
            await agent.run("go", deps=deps)
    assert len(await dispatched(bench)) == 4


def test_without_pydantic_ai_the_sentence_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['pydantic_ai'] = None\n"
        "import paigeant_core\n"
        "from paigeant_core.errors import ConfigError\n"
        "for name in ('create_planner_agent', 'PlannerAgentDeps'):\n"
        "    try:\n"
        "        getattr(paigeant_core, name)\n"
        "    except ConfigError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    first, second = done.stdout.splitlines()
    assert first == second
    assert first.endswith('pip install "paigeant-console[agents]"')


def test_the_token_is_not_shown(deps: PlannerAgentDeps) -> None:
    assert "user-token" not in repr(deps)


@pytest.mark.parametrize(
    "make",
    [
        lambda: create_planner_agent(allowed_activities=["no name"]),
        lambda: create_planner_agent(allowed_activities="validate"),
        lambda: create_planner_agent(allowed_activities={1: "one"}),  # type: ignore[dict-item]
        lambda: PlannerAgentDeps(WorkflowDispatcher(MemoryTransport("x")), allowed_activities=[""]),
    ],
    ids=["name", "text", "number", "deps"],
)
def test_an_activity_that_cannot_be_is_refused_at_once(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError, match="allowed activit"):
        make()


@pytest.mark.parametrize("options", [{"topic": "no topic"}, {"labels": {"": "x"}}, {"labels": {"k": 1}}], ids=repr)
def test_deps_that_cannot_be_are_refused_at_once(bench: Bench, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        PlannerAgentDeps(WorkflowDispatcher(bench.transport), **options)


# -- running it -------------------------------------------------------------------------


async def test_a_model_starts_a_workflow_and_gets_its_id(bench: Bench, deps: PlannerAgentDeps) -> None:
    script = Script(
        {
            "steps": [{"name": "validate"}, {"name": "charge", "arguments": {"currency": "EUR"}}],
            "variables": {"customer_email": "john@example.com"},
            "name": "onboarding",
        }
    )
    result = await create_planner_agent(script.model).run("Onboard john@example.com", deps=deps)
    (message,) = await dispatched(bench)
    assert result.output == f"Started: {message.correlation_id}"
    assert message.routing_slip.itinerary == ["validate", "charge"]
    assert message.routing_slip.itinerary[1].arguments == {"currency": "EUR"}
    assert message.payload == {"customer_email": "john@example.com"}
    assert (message.obo_token, message.headers.name, message.headers.topic) == ("user-token", "onboarding", "workflows")


async def test_any_model_can_call_the_tool_by_its_schema(bench: Bench, deps: PlannerAgentDeps) -> None:
    model = TestModel()
    result = await create_planner_agent().run("go", deps=deps, model=model)
    (message,) = await dispatched(bench)
    assert message.correlation_id in result.output
    assert model.last_model_request_parameters is not None
    (tool,) = model.last_model_request_parameters.function_tools
    assert tool.name == "dispatch_workflow"
    assert set(tool.parameters_json_schema["properties"]) == {"steps", "variables", "name"}
    assert tool.parameters_json_schema["required"] == ["steps", "variables"]


async def test_where_and_for_whom_is_not_the_models_to_choose(bench: Bench) -> None:
    dispatcher = WorkflowDispatcher(bench.transport)
    deps = PlannerAgentDeps(dispatcher, "user-token", topic="payments", labels={"tenant": "acme"})
    script = Script({**call("a"), "topic": "elsewhere"}, call("a"))
    await create_planner_agent(script.model).run("go", deps=deps)
    bench.topic = "payments"
    (message,) = await dispatched(bench)
    assert message.headers.label_map == {"tenant": "acme"}
    assert "topic" in script.told[0]


async def test_a_model_is_told_how_to_plan_and_never_the_token(deps: PlannerAgentDeps) -> None:
    script = Script(call("a"))
    result = await create_planner_agent(script.model).run("go", deps=deps)
    assert script.instructions == INSTRUCTIONS
    assert b"user-token" not in result.all_messages_json()


async def test_instructions_and_system_prompt_can_be_ones_own(deps: PlannerAgentDeps) -> None:
    script = Script(call("a"))
    agent = create_planner_agent(script.model, instructions="Plan.", system_prompt="You work for Acme.")
    result = await agent.run("go", deps=deps)
    assert script.instructions == "Plan."
    assert b"You work for Acme." in result.all_messages_json()


async def test_two_workflows_of_one_run_are_two(bench: Bench, deps: PlannerAgentDeps) -> None:
    script = Script(call("a"), call("b"))
    await create_planner_agent(script.model).run("go", deps=deps)
    assert [message.headers.activity for message in await dispatched(bench)] == ["a", "b"]
    assert len(set(script.told)) == 2


# -- what a model gets wrong ------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (call(), "it has no steps"),
        (call("no name"), "these are not: 'no name'"),
        (call("a", "x" * 65), "these are not: '" + "x" * 65),
        (call("\x1b[31m"), r"'\x1b[31m'"),
        (call(*["a"] * 101), "101 steps: a slip holds at most 100"),
        (call("a", text="x" * 1024 * 1024), "the cap is"),
        ('{"steps":[{"name":"a"}],"variables":{"text":"\\ud800"}}', "Invalid JSON"),
        ('{"steps":[{"name":"a","arguments":{"n":NaN}}],"variables":{}}', "NaN"),
        ('{"steps":[{"name":"a"}],"variables":{"n":Infinity}}', "NaN or infinity"),
        ("{", "JSON"),
        ({"steps": [{"name": "a", "timeout": 5}], "variables": {}}, "timeout"),
        ({"steps": ["a"], "variables": {}}, "steps"),
        ({"steps": [{"name": "a"}], "variables": [1]}, "variables"),
        ({"steps": [{"name": "a"}]}, "variables"),
        ({**call("a"), "name": "x" * 201}, "name must be text of at most 200"),
    ],
    ids=lambda value: f"{value!a:.50}",
)
async def test_a_wrong_call_goes_back_to_the_model(
    bench: Bench, deps: PlannerAgentDeps, wrong: dict[str, Any] | str, told: str
) -> None:
    script = Script(wrong, call("a"))
    await create_planner_agent(script.model).run("go", deps=deps)
    assert told in script.told[0]
    (message,) = await dispatched(bench)
    assert script.told[1] == message.correlation_id


async def test_an_activity_that_is_not_allowed_goes_back_to_the_model(bench: Bench, deps: PlannerAgentDeps) -> None:
    script = Script(call("validate", "delete-everything"), call("validate"))
    agent = create_planner_agent(script.model, allowed_activities=["validate", "charge"])
    await agent.run("go", deps=deps)
    assert "no such activity: 'delete-everything'. Choose from: validate, charge." in script.told[0]
    (message,) = await dispatched(bench)
    assert message.routing_slip.itinerary == ["validate"]


@pytest.mark.parametrize(
    ("of_agent", "of_run", "lines"),
    [
        (None, None, None),
        (["a", "b"], None, ["- a", "- b"]),
        (None, {"a": "does a"}, ["- a: does a"]),
        ({"a": "does a", "b": "does b"}, ["b"], ["- b: does b"]),
        ({"a": "does a"}, {"a": "does it here", "c": "does c"}, ["- a: does it here"]),
        (["a"], ["b"], ["(none)"]),
        ([], None, ["(none)"]),
    ],
    ids=["none", "agent", "run", "narrowed", "described", "disjoint", "empty"],
)
async def test_agent_and_run_both_limit_the_choice(
    bench: Bench, deps: PlannerAgentDeps, of_agent: Any, of_run: Any, lines: list[str] | None
) -> None:
    deps.allowed_activities = of_run
    script = Script()
    script.told.append("nothing")
    await create_planner_agent(script.model, allowed_activities=of_agent).run("go", deps=deps)
    assert script.instructions is not None
    if lines is None:
        assert script.instructions == INSTRUCTIONS
    else:
        assert script.instructions.split("\n")[-len(lines) - 1 :] == [
            "Activities to choose from, and no others:",
            *lines,
        ]


async def test_a_model_that_does_not_learn_ends_the_run_and_starts_nothing(
    bench: Bench, deps: PlannerAgentDeps
) -> None:
    script = Script(*[call()] * (TOOL_RETRIES + 5))
    with pytest.raises(UnexpectedModelBehavior):
        await create_planner_agent(script.model).run("go", deps=deps)
    assert len(script.told) == TOOL_RETRIES
    assert await dispatched(bench) == []


async def test_a_broker_that_fails_is_not_the_models_business(
    deps: PlannerAgentDeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*args: object, **options: object) -> None:
        raise TransportError("the broker is out of memory")

    monkeypatch.setattr(MemoryTransport, "dispatch", refuse)
    script = Script(call("a"), call("a"))
    with pytest.raises(TransportError, match="out of memory"):
        await create_planner_agent(script.model).run("go", deps=deps)
    assert script.told == []


def _parts(messages: list[ModelMessage]) -> Iterator[object]:
    for message in messages:
        yield from message.parts


async def test_a_run_shows_the_call_and_its_answer(deps: PlannerAgentDeps) -> None:
    script = Script(call("a"))
    result = await create_planner_agent(script.model).run("go", deps=deps)
    kinds = [type(part).__name__ for part in _parts(result.all_messages())]
    assert kinds == ["UserPromptPart", "ToolCallPart", "ToolReturnPart", "TextPart"]
