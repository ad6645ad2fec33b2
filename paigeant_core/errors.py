"""Every exception that Paigeant raises, in one tree.

    PaigeantError
    ├── ConfigError                 a setting, URL or TARGET that cannot work
    ├── MessageError
    │   ├── DecodeError             bytes that are no message
    │   ├── InvalidMessage          a message, name or payload outside the rules
    │   ├── MessageTooLarge         payload or message over its cap
    │   └── UnsupportedVersion      written by a newer Paigeant
    ├── RoutingError
    │   ├── SlipExhausted           nothing left to do
    │   └── IllegalTransition       not the step at the head
    ├── TransportError
    │   ├── ConnectError            no broker there
    │   │   └── AuthenticationError the broker refused user or password
    │   ├── PublishError            refused by the broker: nothing was published
    │   ├── PublishUnknown          published or not: no answer, or not all of it was taken
    │   └── Unsupported             this broker cannot do that
    ├── OperationError
    │   ├── DuplicateWorkflow       that correlation ID exists
    │   ├── WorkflowNotFound        no such correlation ID
    │   ├── AmbiguousID             a prefix of more than one
    │   ├── NotEligible             the workflow's state does not allow it
    │   ├── Conflict                the workflow moved meanwhile
    │   └── Refused                 read-only, not confirmed, not allowed
    │       └── OverLimit           more workflows than one operation may touch
    └── HandlerError                raised by handlers, to say what is to happen
        ├── NonRetryable            dead-letter now, whatever the policy
        ├── RetryAfter              try again in so many seconds
        ├── TokenExpired            hold the workflow until its user authorised it anew
        └── TokenSealed             its token cannot be opened here: hold it

Each class has a stable ``code`` for scripts; no message quotes a payload.
"""

from __future__ import annotations


class PaigeantError(Exception):
    """The root of the tree."""

    code = "error"
    """Stable name for `--json`, the journal and dead letters."""


class ConfigError(PaigeantError):
    """A setting, URL or TARGET that cannot work."""

    code = "config"


class MessageError(PaigeantError):
    """Something is wrong with a message."""

    code = "message"


class DecodeError(MessageError):
    """Bytes that are no Paigeant message; they go to quarantine as they are."""

    code = "malformed"


class InvalidMessage(MessageError):
    """A message, name or payload outside the rules."""

    code = "invalid"


class MessageTooLarge(MessageError):
    """A payload or message over its cap."""

    code = "too_large"


class UnsupportedVersion(MessageError):
    """A message written by a newer Paigeant; it waits for a newer worker."""

    code = "version"


class RoutingError(PaigeantError):
    """A routing slip was asked for something it cannot do."""

    code = "routing"


class SlipExhausted(RoutingError):
    """Nothing is left to do in this itinerary."""

    code = "slip_exhausted"


class IllegalTransition(RoutingError):
    """Not the step at the head of the itinerary."""

    code = "illegal_transition"


class TransportError(PaigeantError):
    """The broker, or the way to it, failed."""

    code = "transport"


class ConnectError(TransportError):
    """No broker answers there."""

    code = "unreachable"


class AuthenticationError(ConnectError):
    """The broker refused the user name or the password."""

    code = "authentication"


class PublishError(TransportError):
    """The broker refused; nothing was published."""

    code = "publish"


class PublishUnknown(TransportError):
    """Whether it was published is not known.

    The broker did not answer, or one of the queues that it was for refused it and another may have it.
    """

    code = "publish_unknown"


class Unsupported(TransportError):
    """This broker cannot do that."""

    code = "unsupported"


class OperationError(PaigeantError):
    """An act on a workflow that cannot be done."""

    code = "operation"


class DuplicateWorkflow(OperationError):
    """A workflow of that correlation ID exists already."""

    code = "duplicate"


class WorkflowNotFound(OperationError):
    """No workflow has that correlation ID."""

    code = "not_found"


class AmbiguousID(OperationError):
    """A prefix that more than one correlation ID begins with."""

    code = "ambiguous"


class NotEligible(OperationError):
    """The workflow's state does not allow it."""

    code = "not_eligible"


class Conflict(OperationError):
    """The workflow moved between the look and the act."""

    code = "conflict"


class Refused(OperationError):
    """Read-only, over the limit, not confirmed or not allowed."""

    code = "refused"


class OverLimit(Refused):
    """More workflows than one operation may touch.

    Attributes:
        matched: how many there are.
        limit: how many there may be.
    """

    code = "over_limit"

    def __init__(self, what: str, matched: int, limit: int) -> None:
        super().__init__(f"{what}: {self.why(matched, limit)}; raise it with --limit")
        self.matched = matched
        self.limit = limit

    @staticmethod
    def why(matched: int, limit: int) -> str:
        """What is wrong, for the audit and for people."""
        return f"{matched} workflows matched, the limit is {limit}"


class HandlerError(PaigeantError):
    """Raised by a handler to say what is to happen with its step."""

    code = "handler"


class NonRetryable(HandlerError):
    """Dead-letter the workflow now, whatever the retry policy says."""

    code = "non_retryable"


class TokenExpired(HandlerError):
    """The user's token is not good any more: hold the workflow until its user authorised it anew."""

    code = "token_expired"


class TokenSealed(HandlerError):
    """The workflow has a token that this process has no key for: hold it, it is not run without."""

    code = "token_sealed"


class PayloadInvalid(HandlerError):
    """The payload does not fit the model that the activity declares: dead-letter the workflow, the step is not run."""

    code = "payload_invalid"


class RetryAfter(HandlerError):
    """Try the step again in ``seconds``; it counts as an attempt.

    Args:
        seconds: how long to wait, from 0 to a billion (some thirty years).
        message: why, for the journal.

    Raises:
        ValueError: a wait that cannot be.
    """

    code = "retry_after"

    def __init__(self, seconds: float, message: str = "") -> None:
        # A time that no calendar has could not be journalled, and the step not settled.
        if not 0 <= seconds <= 1e9:
            raise ValueError(f"retry after {seconds!r} seconds: it must be from 0 to a billion")
        super().__init__(message or f"asked to be tried again in {seconds:g} s")
        self.seconds = float(seconds)
