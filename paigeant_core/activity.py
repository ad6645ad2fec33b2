"""Activities: what a worker can do, and what their handlers are given."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeAlias

from paigeant_core.delegation import is_scope
from paigeant_core.errors import ConfigError, HandlerError, NonRetryable
from paigeant_core.json_values import writable
from paigeant_core.message import PaigeantMessage
from paigeant_core.names import check_activity
from paigeant_core.payload import decode_payload
from paigeant_core.payload_model import PayloadModel
from paigeant_core.retry import RetryPolicy
from paigeant_core.routing import to_step
from paigeant_core.secret import conceal
from paigeant_core.transition import OnDeadline, Outcome

Handler: TypeAlias = Callable[["ActivityContext"], Any]
"""``async def`` or plain ``def`` (run in a thread); returns a dict, or None."""

MAX_HOLD_REASON = 500

_NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})


class ActivityContext:
    """What a handler knows of its step, and what it may ask for.

    Attributes:
        message: the whole message, not to be changed.
        activity: the step's name.
        arguments: what was given for this step alone.
        worker: the worker's name.
    """

    def __init__(self, message: PaigeantMessage, *, worker: str, now: float, model: PayloadModel | None = None) -> None:
        step = message.routing_slip.next_step()
        self.message = message
        self.activity = message.headers.activity
        self.arguments: Mapping[str, Any] = (
            MappingProxyType(dict(step.arguments))
            if step is not None and step.arguments and not message.routing_slip.undoing
            else _NO_ARGUMENTS
        )
        self.worker = worker
        self.outcome = Outcome()
        self._now = now
        self._payload: Mapping[str, Any] | None = None
        self._model = model
        self._data: Any = None

    @property
    def payload(self) -> Mapping[str, Any]:
        """The payload, read-only: what a handler returns is merged into it."""
        if self._payload is None:
            self._payload = MappingProxyType(decode_payload(self.message.payload_bytes))
        return self._payload

    @property
    def data(self) -> Any:
        """The payload as an instance of the model that the activity declares.

        Raises:
            HandlerError: it declares none.
            PayloadInvalid: the payload does not fit; seen in compensators alone, other handlers are not run then.
        """
        if self._data is None:
            self.check_payload()
        return self._data

    def check_payload(self) -> None:
        """Read the payload by the activity's model; see :attr:`data`."""
        if self._model is None:
            raise HandlerError(f"ctx.data: {self.activity} declares no model; @worker.activity(…, payload=Model) does")
        self._data = self._model.check(self.message.payload_bytes)

    @property
    def correlation_id(self) -> str:
        """The workflow."""
        return self.message.headers.correlation_id

    @property
    def hop(self) -> int:
        """The number of this step, from 1."""
        return self.message.headers.hop

    @property
    def run(self) -> int:
        """Raised by each replay."""
        return self.message.headers.run

    @property
    def attempt(self) -> int:
        """Which try of this hop it is, from 1."""
        return self.message.headers.attempt

    @property
    def epoch(self) -> int:
        """Raised by each intervention of an operator."""
        return self.message.headers.epoch

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self.message.headers.name

    @property
    def labels(self) -> dict[str, str]:
        """The workflow's labels."""
        return self.message.headers.label_map

    @property
    def obo_token(self) -> str | None:
        """The token of the user on whose behalf the workflow runs; None: it runs on nobody's.

        Raises:
            TokenSealed: there is one, and this worker has no key that opens it.
        """
        return self.message.obo_token

    @property
    def traceparent(self) -> str:
        """W3C trace context, as the dispatcher gave it."""
        return self.message.headers.traceparent

    @property
    def idempotency_key(self) -> str:
        """``<correlation>/<run>/<hop>``, with ``/undo`` in a compensator.

        The same for every attempt, takeover and operator's retry of this hop, so a
        provider that is given it can refuse a second charge. A replay has another.
        """
        key = self.message.headers.idempotency_key
        return f"{key}/undo" if self.message.routing_slip.undoing else key

    def insert_next(self, *steps: object) -> None:
        """Let ``steps`` (names, :class:`ActivitySpec` or objects) follow this one.

        Raises:
            InvalidMessage: one of them is no step.
            NonRetryable: called by a compensator.
        """
        self._check_forward("insert steps")
        self.outcome.inserted.extend(to_step(step) for step in steps)

    def finish(self) -> None:
        """End the workflow with this step; the rest of the itinerary is left out, on record.

        Raises:
            NonRetryable: called by a compensator.
        """
        self._check_forward("finish its workflow")
        self.outcome.finish = True

    def hold(self, reason: str, until: float | datetime | None = None, on_deadline: OnDeadline = "dead_letter") -> None:
        """Park the workflow after this step, until it is released.

        Args:
            reason: why, for people.
            until: the deadline: seconds since the Unix epoch, or a datetime with a time zone; None: none.
            on_deadline: what happens then.

        Raises:
            HandlerError: no reason, a deadline that is no time, past or over thirty years off, or an
                unknown ``on_deadline``.
            NonRetryable: called by a compensator.
        """
        self._check_forward("hold its workflow")
        if not isinstance(reason, str) or not reason.strip():
            raise HandlerError("hold: give a reason, it is what the operator sees")
        if on_deadline not in ("dead_letter", "release"):
            raise HandlerError("hold: on_deadline must be 'dead_letter' or 'release'")
        if until is not None:
            until = _seconds(until)
        if until is not None and not self._now < until <= self._now + 1e9:
            raise HandlerError("hold: the deadline is past, or no time at all; it is seconds since the Unix epoch")
        # A lone surrogate could not be journalled, and the step not settled.
        self.outcome.hold = writable(conceal(reason)[:MAX_HOLD_REASON])
        self.outcome.until = None if until is None else until - self._now
        self.outcome.on_deadline = on_deadline

    def _check_forward(self, what: str) -> None:
        """Refuse ``what`` to a compensator: whatever it asked for, its chain goes on to the step before."""
        if self.message.routing_slip.undoing:
            raise NonRetryable(f"a compensator cannot {what}; let it raise, and the chain parks as compensation_failed")


class Activity:
    """A named piece of work: its handler, its compensator and how it is run.

    Made by :meth:`paigeant_core.Worker.activity`; calling it calls the handler.
    """

    def __init__(
        self,
        name: str,
        handler: Handler,
        *,
        retry: RetryPolicy,
        timeout: float | None,
        scopes: Sequence[str],
        payload: Any = None,
    ) -> None:
        if not callable(handler):
            raise ConfigError(f"activity {name}: its handler cannot be called")
        if not isinstance(retry, RetryPolicy):
            raise ConfigError(f"activity {name}: retry is {retry!r:.80}; write retry=RetryPolicy(max_attempts=5)")
        if timeout is not None and (
            isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0
        ):
            raise ConfigError(f"activity {name}: timeout is {timeout!r:.80}, it must be seconds above 0")
        if isinstance(scopes, str) or not isinstance(scopes, Collection) or not all(map(is_scope, scopes)):
            can = "they must be a list of texts without white space, e.g. ['orders:write']"
            raise ConfigError(f"activity {name}: scopes are {scopes!r:.80}, {can}")
        self.name = check_activity(name)
        self.handler = handler
        self.retry = retry
        self.timeout = timeout
        self.scopes = tuple(scopes)
        self.model = None if payload is None else PayloadModel(self.name, payload)
        self.compensator: Handler | None = None
        self.in_thread = not inspect.iscoroutinefunction(handler)
        """Whether its handler is a plain function."""
        self.__doc__ = handler.__doc__

    def __call__(self, context: ActivityContext) -> Awaitable[Any] | Any:
        """Call the handler itself."""
        return self.handler(context)

    def compensate(self, handler: Handler) -> Handler:
        """Register ``handler`` (a decorator) as what undoes this activity."""
        self.compensator = handler
        return handler


def _seconds(until: object) -> float:
    if isinstance(until, datetime) and until.utcoffset() is not None:
        return until.timestamp()
    if isinstance(until, int | float):
        return until
    raise HandlerError("hold: until must be seconds since the Unix epoch, or a datetime with a time zone")
