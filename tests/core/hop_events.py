"""What can happen to the workflows of the hop's model, and what a worker of it has in its hands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from paigeant_core import ActivityContext
from paigeant_core.message import PaigeantMessage
from paigeant_core.operations import (
    Action,
    Cancel,
    Compensate,
    DeadLetter,
    Hold,
    Plan,
    Release,
    Restore,
    Retry,
    Skip,
)
from paigeant_core.transports.memory.transport import MemoryConsumer
from paigeant_core.transports.types import Delivery, WorkerInfo
from tests.core.flow_model import Flow

TOPIC = "model"


STEPS = ("a", "b", "c")


LEASE = 10.0


BACKOFF = 5.0


POISON = 2
"""Deaths that make poison here: five in one step would hardly ever come about."""


PLAIN: dict[str, type[Action]] = {
    action.name: action for action in (Retry, Hold, Release, Cancel, DeadLetter, Restore, Skip, Compensate)
}


VERBS = (*PLAIN, "undo", "replay", "insert", "copy")


steps = st.lists(st.sampled_from(STEPS), min_size=1, max_size=4)


few_steps = st.lists(st.sampled_from(STEPS), min_size=1, max_size=2)


number = st.sampled_from(range(60))  # evenly: of integers Hypothesis likes the small ones


EVENTS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "dispatch": {"itinerary": steps, "compensates": st.booleans()},
    "claim": {"index": number, "slots": st.integers(1, 3), "told": st.booleans()},
    "hand_on": {
        "index": number,
        "outcome": st.sampled_from(
            ("done", "done", "done", "insert", "finish", "hold", "fail", "fail", "after", "fatal", "bad")
        ),
        "inserted": few_steps,
        "until": st.sampled_from((None, 3.0, 30.0)),
        "on_deadline": st.sampled_from(("release", "dead_letter")),
        "twice": st.booleans(),
    },
    "hand_back": {"index": number},
    "kill": {"index": number},
    "stop": {"index": number},
    "wait": {"seconds": st.sampled_from((1.0, 3.0, 6.0, 11.0, 40.0))},
    "plan": {
        "which": number,
        "index": number,
        "inserted": few_steps,
        "hop": st.sampled_from((None, 1, 2, 3)),
        "sensible": st.sampled_from((True, True, True, False)),
        "at_once": st.sampled_from((True, True, True, False)),
    },
    "carry_out": {"index": number},
}
"""What can happen, and with what."""


MOST_FLOWS = 3


@dataclass(eq=False)
class Run:
    """A step in a worker's hands."""

    delivery: Delivery
    message: PaigeantMessage
    serial: int
    started_at: float
    told: bool


@dataclass(eq=False)
class Hand:
    """A worker."""

    consumer: MemoryConsumer
    info: WorkerInfo
    died_at: float | None = None
    buried: bool = False
    runs: list[Run] = field(default_factory=list)


@dataclass
class Planned:
    """An operation that was planned, and is to be carried out now or later."""

    verb: str
    plan: Plan
    workflow: str
    fence: tuple[int, int]
    beside: bool
    refused: bool
    inserted: list[str]
    hop: int | None
    target: str
    copied: Flow | None


async def nothing(ctx: ActivityContext) -> None:
    """A handler; what it does is decided by the machine."""
