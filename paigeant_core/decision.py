"""What becomes of a workflow after its step was run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from paigeant_core import transition as moves
from paigeant_core.activity import Activity, ActivityContext
from paigeant_core.error_group import leaves
from paigeant_core.errors import (
    InvalidMessage,
    MessageTooLarge,
    NonRetryable,
    PayloadInvalid,
    TokenExpired,
    TokenSealed,
)
from paigeant_core.message import PaigeantMessage
from paigeant_core.permission import NotPermitted, withheld
from paigeant_core.retry import RetryPolicy
from paigeant_core.transition import Span, Transition


def decide(
    activity: Activity,
    message: PaigeantMessage,
    context: ActivityContext,
    result: Any,
    error: BaseException | None,
    span: Span,
    body: bytes,
) -> Transition:
    """What becomes of a workflow after its step was run; pure.

    Args:
        activity: what was run.
        message: the message it was run for.
        context: what its handler asked for.
        result: what its handler returned.
        error: what it raised, or None.
        span: by whom and when.
        body: the message's bytes as they came.
    """
    undoing = bool(message.routing_slip.undoing)
    if error is not None:
        return _failed(activity, message, error, span, body)
    if undoing:
        if inspect.isgenerator(result) or inspect.isasyncgen(result):
            invalid = InvalidMessage("the compensator is a generator, so nothing of it was run; it must not yield")
            return moves.failed(message, invalid, "result_invalid", span, body)
        return moves.undone(message, span, had_compensator=activity.compensator is not None)
    outcome = context.outcome
    if outcome.until is not None:
        # A deadline is a time; what was left to it when the handler began has grown shorter since.
        left = outcome.until - (span.completed_at - span.started_at)
        outcome = replace(outcome, until=max(0.0, left))
    try:
        return moves.done(message, result, span, outcome)
    except (InvalidMessage, MessageTooLarge) as refused:
        return moves.result_invalid(message, result, refused, span, body)


def _failed(activity: Activity, message: PaigeantMessage, error: BaseException, span: Span, body: bytes) -> Transition:
    # Of a group: what is not to be tried again decides, then what waits for somebody.
    parts = tuple(leaves(error))
    refused = next((part for part in parts if isinstance(part, NonRetryable | PayloadInvalid)), None)
    if refused is None:
        for part in parts:
            if isinstance(part, TokenExpired | TokenSealed):
                return withheld(message, part, span)
    if isinstance(refused, PayloadInvalid):
        return moves.failed(message, error, refused.code, span, body)
    policy = policy_of(activity, message)
    delay = policy.next_delay(error, message.headers.attempt)
    if delay is not None:
        return moves.retry(message, error, delay, span, most=policy.max_attempts)
    if isinstance(refused, NotPermitted):
        return moves.failed(message, error, refused.code, span, body)
    exhausted = message.headers.attempt >= policy.max_attempts
    return moves.failed(message, error, "attempts_exhausted" if exhausted else "not_retryable", span, body)


def policy_of(activity: Activity, message: PaigeantMessage) -> RetryPolicy:
    """How a step is tried again: as its own options say, beyond those as its activity does."""
    step = message.routing_slip.next_step()
    if step is None or not step.retry or message.routing_slip.undoing:
        return activity.retry
    own: Mapping[str, Any] = {**activity.retry.to_document(), **step.retry}
    policy = RetryPolicy.from_document(own)
    # Which exceptions count is code, not data: it comes from the activity.
    object.__setattr__(policy, "retry_on", activity.retry.retry_on)
    object.__setattr__(policy, "never_on", activity.retry.never_on)
    return policy
