"""Starting workflows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from paigeant_core import transition as moves
from paigeant_core.clock import rfc3339
from paigeant_core.delegation import delegation_of
from paigeant_core.errors import ConfigError, InvalidMessage
from paigeant_core.json_values import is_text
from paigeant_core.limits import MAX_STEPS
from paigeant_core.message import Headers, PaigeantMessage
from paigeant_core.names import check_correlation_id, check_topic, new_id
from paigeant_core.payload import check_payload, encode_payload
from paigeant_core.permission import check_scopes
from paigeant_core.routing import OnFailure, RoutingSlip
from paigeant_core.secret import SHORTEST, Secret
from paigeant_core.telemetry import current_traceparent
from paigeant_core.transports.base import Transport

if TYPE_CHECKING:
    from paigeant_core.security.keys import Signer
    from paigeant_core.tokens import Tokens

logger = logging.getLogger("paigeant")

MAX_NAME = 200
MAX_LABELS = 32

NEEDS_KEY = (
    "a broker that stores messages carries an on-behalf-of token only encrypted or in a vault: make a topic key with "
    "keygen --topic-key and name it in the tokens.toml of PAIGEANT_TOKENS, or in a program give tokens=Tokens([key])"
)


class WorkflowDispatcher:
    """Starts workflows on a transport.

    Args:
        transport: where to.
        signer: the key that what it starts is signed with; None: nothing is signed.
        tokens: how on-behalf-of tokens ride; None: as they are, on the in-memory broker alone.
    """

    def __init__(self, transport: Transport, *, signer: Signer | None = None, tokens: Tokens | None = None) -> None:
        self.transport = transport
        self.signer = signer
        self.tokens = tokens

    async def dispatch_workflow(
        self,
        activities: Sequence[object],
        variables: Mapping[str, Any] | bytes | None = None,
        *,
        obo_token: str | Secret | None = None,
        obo_scopes: Sequence[str] | None = None,
        topic: str = "workflows",
        correlation_id: str | None = None,
        name: str = "",
        labels: Mapping[str, str] | None = None,
        on_failure: OnFailure = "dead_letter",
        traceparent: str = "",
    ) -> str:
        """Start a workflow; it runs when a worker takes its first step.

        Args:
            activities: its steps, each an :class:`ActivitySpec`, a name or an object.
            variables: its payload, as a mapping or as the bytes of a JSON object.
            obo_token: the token of the user on whose behalf it runs.
            obo_scopes: what the token permits, where it does not tell (it is no JWT), or less
                than it tells; what a step needs must be among them.
            topic: where.
            correlation_id: an ID of one's own; the same twice is refused.
            name: what kind of workflow it is, for people.
            labels: more for people, and for `list` to select by.
            on_failure: ``compensate`` undoes the executed steps when one finally fails.
            traceparent: W3C trace context; empty: that of the span that this is called in, where the process traces.

        Returns:
            The correlation ID.

        Raises:
            ValueError: an empty itinerary.
            InvalidMessage: a name, label, step or payload outside the rules; a token that has
                expired, or that does not permit what a step needs.
            MessageTooLarge: a payload over 1 MiB.
            ConfigError: a token, and a broker that would store it in clear.
            DuplicateWorkflow: the correlation ID exists.
            TransportError: the broker did not take it.
        """
        if obo_token and self.tokens is None and self.transport.capabilities.durable:
            # It would lie in the journal in clear, for as long as the journal is kept.
            raise ConfigError(NEEDS_KEY)
        at = self.transport.clock.now()
        message = new_workflow(
            activities,
            variables,
            obo_token=obo_token,
            obo_scopes=obo_scopes,
            topic=topic,
            correlation_id=correlation_id,
            name=name,
            labels=labels,
            on_failure=on_failure,
            traceparent=traceparent or current_traceparent(),
            at=at,
        )
        check_scopes(message.routing_slip, message.delegation, strict=self.tokens is not None)
        if self.tokens is not None and message.delegation is not None:
            await self._seal(message, self.tokens)
        if self.signer is not None:
            from paigeant_core.security.hop import sign_origin

            sign_origin(message, self.signer, at)
        start = moves.dispatch(message, at)
        if self.signer is not None:
            from paigeant_core.security.hop import mark_of

            start.mark = mark_of(message.records)
        await self.transport.dispatch(topic, start, chosen_id=correlation_id is not None)
        return message.correlation_id

    async def _seal(self, message: PaigeantMessage, tokens: Tokens) -> None:
        (token,) = message.secrets
        text = token.reveal().encode()
        if len(text) >= SHORTEST and text in message.payload_bytes + msgspec.json.encode(
            message.routing_slip.to_document()
        ):
            raise InvalidMessage(
                "the payload or an argument holds the on-behalf-of token, which is not stored in clear"
            )
        assert message.delegation is not None
        message.delegation = await asyncio.to_thread(tokens.carry, message.correlation_id, token, message.delegation)


class EmptyItinerary(InvalidMessage, ValueError):
    """A workflow without steps."""

    code = "empty_itinerary"


def new_workflow(
    activities: Sequence[object],
    variables: Mapping[str, Any] | bytes | None,
    *,
    topic: str,
    at: float,
    obo_token: str | Secret | None = None,
    obo_scopes: Sequence[str] | None = None,
    correlation_id: str | None = None,
    name: str = "",
    labels: Mapping[str, str] | None = None,
    on_failure: OnFailure = "dead_letter",
    traceparent: str = "",
) -> PaigeantMessage:
    """The first message of a workflow; arguments and errors as for a dispatch."""
    if isinstance(activities, str | bytes):
        raise InvalidMessage("activities must be a list of steps, not one text")
    if len(activities) == 0:
        raise EmptyItinerary("an empty itinerary: a workflow needs at least one step")
    if len(activities) > MAX_STEPS:
        raise InvalidMessage(f"{len(activities)} steps: a slip holds at most {MAX_STEPS}")
    if on_failure not in ("dead_letter", "compensate"):
        raise InvalidMessage("on_failure must be 'dead_letter' or 'compensate'")
    slip = RoutingSlip(activities, on_failure=on_failure)
    if isinstance(variables, bytes):
        payload = check_payload(variables)
    else:
        payload = encode_payload({} if variables is None else variables)
    stamp = rfc3339(at)
    token = obo_token.reveal() if isinstance(obo_token, Secret) else obo_token or ""
    for what, text in (("obo_token", token), ("traceparent", traceparent)):
        if text != "" and not is_text(text):
            raise InvalidMessage(f"{what} must be text")
    if obo_scopes is not None and not token:
        raise InvalidMessage("obo_scopes say what a token permits, and no obo_token was given")
    secret = Secret(token) if token else None
    delegation = None if secret is None else delegation_of(secret, obo_scopes)
    if delegation is not None and delegation.expired(at):
        raise InvalidMessage(f"the on-behalf-of token expired at {rfc3339(delegation.exp)}")
    headers = Headers(
        message_id=new_id(),
        correlation_id=new_id() if correlation_id is None else check_correlation_id(correlation_id),
        name=name if name == "" else _check_name(name),
        labels=_check_labels(labels) if labels else "",
        topic=check_topic(topic),
        activity=str(slip.itinerary[0]),
        steps_total=len(slip.itinerary),
        created_at=stamp,
        timestamp=stamp,
        traceparent=traceparent,
    )
    return PaigeantMessage(headers, slip, payload, obo_token=secret, delegation=delegation)


def _check_name(name: str) -> str:
    if not is_text(name) or len(name) > MAX_NAME:
        raise InvalidMessage(f"a workflow's name must be text of at most {MAX_NAME} characters")
    return name


def _check_labels(labels: Mapping[str, str]) -> str:
    if len(labels) > MAX_LABELS:
        raise InvalidMessage(f"{len(labels)} labels: at most {MAX_LABELS} can be given")
    for key, value in labels.items():
        if not is_text(key) or not is_text(value) or len(key) > 64 or len(value) > MAX_NAME or not key:
            raise InvalidMessage(
                f"label {ascii(key)[:80]}: keys and values are text, 64 and {MAX_NAME} characters at most"
            )
    return msgspec.json.encode(dict(labels)).decode()
