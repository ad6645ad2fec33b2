"""Whether a step may run: its permissions and its token, looked at just before it does; and what it must not tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from paigeant_core import transition as moves
from paigeant_core.clock import rfc3339
from paigeant_core.delegation import Delegation, listed
from paigeant_core.errors import InvalidMessage, NonRetryable, TokenExpired, TokenSealed
from paigeant_core.message import PaigeantMessage
from paigeant_core.routing import RoutingSlip
from paigeant_core.secret import SHORTEST, STARS
from paigeant_core.transition import Span, Transition

if TYPE_CHECKING:
    # Not at run time: a worker without tokens starts without cryptography and httpx.
    from paigeant_core.activity import Activity
    from paigeant_core.retry import RetryPolicy
    from paigeant_core.tokens import Tokens


class NotPermitted(NonRetryable):
    """The step needs permissions that the workflow was not given."""

    code = "not_permitted"


def check_scopes(slip: RoutingSlip, delegation: Delegation | None, *, strict: bool) -> None:
    """Refuse an itinerary that asks for more than its token permits.

    Args:
        slip: what is to do.
        delegation: on whose behalf; None: nobody's.
        strict: a token whose permissions nobody knows, or none, permits nothing.

    Raises:
        InvalidMessage: which step, and what it lacks.
    """
    for step in slip.itinerary:
        if step.scopes and (why := _lacking(step.scopes, delegation, strict=strict)):
            raise InvalidMessage(f"step {step!s}: {why}")


async def permit(
    message: PaigeantMessage, activity: Activity, tokens: Tokens | None, policy: RetryPolicy, now: float
) -> None:
    """Let a step run, with the token that it is to have.

    Args:
        message: the step's.
        activity: what is to be run.
        tokens: opens and exchanges; None: the message's own is all there is.
        policy: says how long to wait, where something cannot be asked now.
        now: the time, seconds since the Unix epoch.

    Raises:
        NotPermitted: it needs more than the workflow's token permits.
        TokenExpired: the token is over, or will not be renewed.
        TokenSealed: nobody here can open it, and the step needs it.
        RetryAfter: the vault or the authorisation server is in trouble.
    """
    step, slip = message.routing_slip.next_step(), message.routing_slip
    needs = set(activity.scopes) | set(step.scopes if step is not None and not slip.undoing else ())
    delegation = message.delegation
    if delegation is None and not needs:
        return
    wait = policy.delay(message.headers.attempt)
    if tokens is not None:
        delegation = await tokens.fetch(message, wait)
    if why := _lacking(sorted(needs), delegation, strict=tokens is not None):
        raise NotPermitted(f"activity {activity.name}: {why}")
    if delegation is None:
        return
    if delegation.expired(now):
        raise TokenExpired(f"its token expired at {rfc3339(delegation.exp)}")
    exchange = None if tokens is None else tokens.exchange
    if not message.secrets:
        if needs or exchange is not None:
            raise TokenSealed("no key here opens its token, and the step needs it")
        return
    if exchange is not None:
        message.granted(await exchange.exchange(message.secrets[0], delegation, needs, now, wait=wait))


def withheld(message: PaigeantMessage, error: TokenExpired | TokenSealed, span: Span) -> Transition:
    """The step is not run, or is not done: the workflow waits at it, in the same attempt, until it is released."""
    at = span.completed_at
    following = message.replaced(message.routing_slip, timestamp=rfc3339(at), attempt=message.headers.attempt)
    detail = {"reason": error.code, "error": moves.error_document(error)}
    if message.delegation is not None and message.delegation.expired(at):
        detail["token_expires_at"] = rfc3339(message.delegation.exp)
    return moves.hold(following, at, detail, span.worker)


def silenced(transition: Transition, message: PaigeantMessage, span: Span, body: bytes) -> Transition:
    """``transition`` without the tokens that the step was given: in what it says, and in what it hands on.

    Args:
        transition: what becomes of the workflow.
        message: the message that was run.
        span: by whom and when.
        body: the message's bytes as they came.
    """
    if not message.secrets:
        return transition
    words = [text for secret in message.secrets if len(text := secret.reveal()) >= SHORTEST]
    if not words:
        return transition
    record = transition.record
    if not message.in_clear and record.body is not None and record.body != body:
        following = PaigeantMessage.decode(record.body)
        parts = following.payload_bytes + msgspec.json.encode(following.routing_slip.to_document())
        if any(word.encode() in parts for word in words):
            # What a broker stores is not to hold the token in clear, and the next step has it from ctx.obo_token.
            error = InvalidMessage(
                "what the step handed on holds the on-behalf-of token, which is never stored in clear"
            )
            return moves.dead_letter(
                message, span.completed_at, reason="result_invalid", body=body, error=error, worker=span.worker
            )
    for told in (record, *transition.before, *((transition.deadline.record,) if transition.deadline else ())):
        said = msgspec.json.encode(told.detail)
        if any(word.encode() in said for word in words):
            _clean(told.detail, words)
    return transition


def _lacking(scopes: Any, delegation: Delegation | None, *, strict: bool) -> str:
    if not scopes:
        return ""
    if delegation is None:
        return f"it needs {listed(scopes)}, and the workflow has no token" if strict else ""
    if delegation.scope is None:
        why = "its token does not tell what it permits; name it with obo_scopes"
        return f"it needs {listed(scopes)}, and {why}" if strict else ""
    missing = [scope for scope in scopes if scope not in delegation.scope]
    return f"it needs {listed(missing)}, which its token does not permit" if missing else ""


def _clean(value: Any, words: list[str]) -> None:
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        if isinstance(inner, str):
            for word in words:
                inner = inner.replace(word, STARS)
            value[key] = inner
        else:
            _clean(inner, words)
