"""Paigeant: durable workflows of AI agents whose state travels in the message."""

from typing import TYPE_CHECKING

from paigeant_core.__about__ import __version__
from paigeant_core.activity import Activity, ActivityContext
from paigeant_core.dispatcher import WorkflowDispatcher
from paigeant_core.errors import (
    AmbiguousID,
    AuthenticationError,
    ConfigError,
    Conflict,
    ConnectError,
    DecodeError,
    DuplicateWorkflow,
    HandlerError,
    IllegalTransition,
    InvalidMessage,
    MessageError,
    MessageTooLarge,
    NonRetryable,
    NotEligible,
    OperationError,
    OverLimit,
    PaigeantError,
    PayloadInvalid,
    PublishError,
    PublishUnknown,
    Refused,
    RetryAfter,
    RoutingError,
    SlipExhausted,
    TokenExpired,
    TokenSealed,
    TransportError,
    Unsupported,
    UnsupportedVersion,
    WorkflowNotFound,
)
from paigeant_core.journal import Kind, Record, State
from paigeant_core.message import Headers, PaigeantMessage
from paigeant_core.retry import RetryPolicy
from paigeant_core.routing import ActivitySpec, RoutingSlip, Step
from paigeant_core.telemetry import Metrics
from paigeant_core.transports import Transport, get_transport
from paigeant_core.worker import Worker

if TYPE_CHECKING:
    # Under their own names, which exports them: in __all__ they would make a star import need the extra.
    from paigeant_core.agents import PlannerAgentDeps as PlannerAgentDeps
    from paigeant_core.agents import create_planner_agent as create_planner_agent

__all__ = [
    "Activity",
    "ActivityContext",
    "ActivitySpec",
    "AmbiguousID",
    "AuthenticationError",
    "ConfigError",
    "Conflict",
    "ConnectError",
    "DecodeError",
    "DuplicateWorkflow",
    "HandlerError",
    "Headers",
    "IllegalTransition",
    "InvalidMessage",
    "Kind",
    "MessageError",
    "MessageTooLarge",
    "Metrics",
    "NonRetryable",
    "NotEligible",
    "OperationError",
    "OverLimit",
    "PaigeantError",
    "PaigeantMessage",
    "PayloadInvalid",
    "PublishError",
    "PublishUnknown",
    "Record",
    "Refused",
    "RetryAfter",
    "RetryPolicy",
    "RoutingError",
    "RoutingSlip",
    "SlipExhausted",
    "State",
    "Step",
    "TokenExpired",
    "TokenSealed",
    "Transport",
    "TransportError",
    "Unsupported",
    "UnsupportedVersion",
    "Worker",
    "WorkflowDispatcher",
    "WorkflowNotFound",
    "__version__",
    "get_transport",
]


def __getattr__(name: str) -> object:
    # pydantic-ai is an extra, and slow to import: only when asked for.
    if name in ("create_planner_agent", "PlannerAgentDeps"):
        from paigeant_core import agents

        return getattr(agents, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
