"""An agent that plans workflows: the model picks the steps, Paigeant runs them.

Needs the extra ``agents``. The model is offered one tool, ``dispatch_workflow``. It chooses
steps, their arguments and the payload, and nothing else: topic, token and labels come
from :class:`PlannerAgentDeps` and are never shown to it, and where activities are named
in advance it can start no others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from paigeant_core.dispatcher import WorkflowDispatcher, new_workflow
from paigeant_core.errors import ConfigError, MessageError
from paigeant_core.names import is_name
from paigeant_core.routing import ActivitySpec

try:
    from pydantic_ai import Agent, ModelRetry, RunContext
    from pydantic_ai.models import KnownModelName, Model
except ImportError as error:
    raise ConfigError(
        'planner agents need pydantic-ai, which is an extra: pip install "paigeant-console[agents]"'
    ) from error

Activities: TypeAlias = Mapping[str, str] | Collection[str]
"""Names of activities, or names with what each does."""

INSTRUCTIONS = (
    "You turn a request into a durable workflow: an ordered list of activities that workers carry out later, one after "
    "the other. Call the tool `dispatch_workflow` once with the steps in the order in which they must happen and with "
    "`variables` that hold every fact the steps need. The tool returns the workflow's tracking ID: repeat it, "
    "unchanged, in your answer. Say that the workflow was started, not that its work is done."
)

TOOL_RETRIES = 3
"""How often a model may mend a call that was refused, before the run fails."""


@dataclass
class PlannerAgentDeps:
    """What a run of the planner agent needs; none of it is shown to the model but the activities.

    Attributes:
        workflow_dispatcher: what starts the workflows.
        user_obo_token: the token of the user on whose behalf they run.
        topic: where they are started.
        allowed_activities: what the model may choose from in this run, beside what the
            agent allows; best as a mapping from name to what it does. None: no limit.
        labels: labels of the workflows.

    Raises:
        InvalidMessage: the topic or a label is outside the rules.
        ConfigError: an allowed activity could not be one's name.
    """

    workflow_dispatcher: WorkflowDispatcher
    user_obo_token: str | None = field(default=None, repr=False)
    topic: str = "workflows"
    allowed_activities: Activities | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A topic or label that cannot be is the caller's mistake: found here, it is not put to the model to mend.
        new_workflow(["step"], None, topic=self.topic, at=0.0, labels=self.labels)
        _check_activities(self.allowed_activities)


class PlannedStep(BaseModel):
    """One step of a workflow, as the model writes it down."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="The activity's name.")
    arguments: dict[str, Any] = Field(default_factory=dict, description="What this step alone is given.")


def create_planner_agent(
    model: Model | KnownModelName | str | None = None,
    *,
    instructions: str | None = None,
    system_prompt: str | Sequence[str] = (),
    allowed_activities: Activities | None = None,
    retries: int = TOOL_RETRIES,
) -> Agent[PlannerAgentDeps, str]:
    """Make an agent that starts workflows from requests in plain words.

    Args:
        model: the model or its name; a name is looked up, and its key and package asked
            for, only when the agent runs. None: it is given to each run.
        instructions: in place of :data:`INSTRUCTIONS`; the activities to choose from are
            told to the model in either case.
        system_prompt: ahead of the instructions, and kept in the message history.
        allowed_activities: what the model may choose from; best as a mapping from name
            to what it does. None: no limit but that of the run's deps.
        retries: how often the model may mend a call that was refused.

    Raises:
        ConfigError: an allowed activity could not be one's name.
    """
    _check_activities(allowed_activities)
    agent = Agent(
        model,
        deps_type=PlannerAgentDeps,
        name="paigeant-planner",
        instructions=INSTRUCTIONS if instructions is None else instructions,
        system_prompt=system_prompt,
        defer_model_check=True,
    )

    @agent.instructions
    def _tell_activities(ctx: RunContext[PlannerAgentDeps]) -> str | None:
        """The activities that this run may choose from."""
        allowed = _allowed(allowed_activities, ctx.deps.allowed_activities)
        if allowed is None:
            return None
        lines = [f"- {name}: {text}" if text else f"- {name}" for name, text in allowed.items()]
        return "\n".join(["Activities to choose from, and no others:", *(lines or ["(none)"])])

    @agent.tool(retries=retries)
    async def dispatch_workflow(
        ctx: RunContext[PlannerAgentDeps],
        steps: list[PlannedStep],
        variables: dict[str, Any],
        name: str = "",
    ) -> str:
        """Start a workflow and return its tracking ID.

        Args:
            ctx: the run.
            steps: The activities in the order in which they are carried out, at least one.
            variables: The data that the steps work on, by name.
            name: What kind of workflow it is, in a word or two.
        """
        deps = ctx.deps
        _check_plan(steps, _allowed(allowed_activities, deps.allowed_activities))
        try:
            # Only what the model wrote can be wrong here, so whatever is refused goes back to it. A broker that fails
            # is not its business: that ends the run.
            return await deps.workflow_dispatcher.dispatch_workflow(
                activities=[ActivitySpec(name=step.name, arguments=step.arguments) for step in steps],
                variables=variables,
                obo_token=deps.user_obo_token,
                topic=deps.topic,
                name=name,
                labels=deps.labels,
            )
        except MessageError as refused:
            raise ModelRetry(f"The workflow was not started: {refused}") from refused

    return agent


def _check_plan(steps: list[PlannedStep], allowed: dict[str, str] | None) -> None:
    """Ask the model again where its steps cannot be.

    Raises:
        ModelRetry: no step, or one that no activity is or may be.
    """
    if not steps:
        raise ModelRetry("The workflow was not started: it has no steps. Give at least one.")
    if allowed is not None and (others := [step.name for step in steps if step.name not in allowed]):
        known = ", ".join(allowed) or "none"
        raise ModelRetry(f"The workflow was not started: no such activity: {_listed(others)}. Choose from: {known}.")
    if bad := [step.name for step in steps if not is_name(step.name)]:
        raise ModelRetry(
            f"The workflow was not started: an activity's name is 1 to 64 letters, digits, '_', '.' or '-'; "
            f"these are not: {_listed(bad)}."
        )


def _listed(names: list[str]) -> str:
    return ", ".join(f"{name[:80]!a}" for name in dict.fromkeys(names[:10]))


def _allowed(of_agent: Activities | None, of_run: Activities | None) -> dict[str, str] | None:
    """What both allow, with what it does; None: no limit."""
    if of_agent is None or of_run is None:
        activities = of_run if of_agent is None else of_agent
        return None if activities is None else _described(activities)
    agent, run = _described(of_agent), _described(of_run)
    return {name: text or agent[name] for name, text in run.items() if name in agent}


def _described(activities: Activities) -> dict[str, str]:
    return dict(activities) if isinstance(activities, Mapping) else dict.fromkeys(activities, "")


def _check_activities(activities: Activities | None) -> None:
    if isinstance(activities, str | bytes):
        raise ConfigError("allowed activities must be a list or a mapping of names, not one text")
    for name in activities or ():
        if not isinstance(name, str) or not is_name(name):
            raise ConfigError(
                f"allowed activity {name!a:.80}: an activity's name is 1 to 64 letters, digits, '_', '.' or '-'"
            )
