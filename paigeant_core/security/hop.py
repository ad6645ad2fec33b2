"""What dispatcher and worker do with records: sign a start, verify a message, sign a hop."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from paigeant_core import transition as moves
from paigeant_core.delegation import token_digest
from paigeant_core.errors import PaigeantError
from paigeant_core.journal import Kind, Record
from paigeant_core.message import PaigeantMessage
from paigeant_core.routing import RoutingSlip
from paigeant_core.security.chain import (
    MAX_CHAIN,
    Chain,
    check_message,
    follow,
    prefix_digest,
    same_slip,
    verify,
)
from paigeant_core.security.keys import SigningKey
from paigeant_core.security.records import Origin, Signed, StepDone, digest, link, sign
from paigeant_core.security.refusal import Code, VerificationError
from paigeant_core.security.trust import Trust
from paigeant_core.transition import Span, Transition

_MOVED = frozenset({Kind.ADVANCED, Kind.FINISHED, Kind.HELD, Kind.COMPENSATING, Kind.COMPENSATED})
"""Kinds by which a worker changes the slip or the payload."""

_encode = msgspec.json.encode


def sign_origin(message: PaigeantMessage, key: SigningKey, at: float, *, expires: int = 0) -> None:
    """Put the origin record into the first message of a workflow.

    Args:
        message: as it is about to be dispatched.
        key: the dispatcher's.
        at: now.
        expires: the deadline, seconds since the Unix epoch; 0: none.

    Raises:
        MessageTooLarge: the steps with their arguments are more than a record holds.
    """
    headers = message.headers
    claims = Origin(
        iss=key.name,
        iat=int(at),
        wf=headers.correlation_id,
        n=0,
        ep=headers.epoch,
        out=digest(message.payload_bytes),
        topic=headers.topic,
        aud=key.audience,
        slip=msgspec.Raw(_encode(message.routing_slip.to_document())),
        exp=expires,
        tok=token_digest(message.carrier),
        dlg=None if message.delegation is None else message.delegation.summary(),
    )
    message.records = [sign(key, claims)]


class Guard:
    """What a worker lets in, and what it signs.

    Args:
        key: the worker's.
        trust: the policy.
        activities: what it serves.
    """

    def __init__(self, key: SigningKey, trust: Trust, activities: Iterable[str]) -> None:
        self.key = key
        self.trust = trust
        self._activities = tuple(activities)

    def check_key(self, now: float) -> None:
        """Look whether what this worker is about to sign would count with others.

        Raises:
            ConfigError: the key is unknown, revoked, not valid now, or not for these activities.
        """
        self.trust.check_signer(self.key, "worker", now, self._activities)

    def verify(self, message: PaigeantMessage, now: float) -> Chain:
        """Verify the records of a message, and the message by them.

        Raises:
            VerificationError: why it is not to be run.
        """
        chain = verify(message.records, self.trust, now)
        check_message(chain, message, now)
        if chain.over:
            # Its last message names the step that failed, for people: whoever publishes it again would have that run.
            raise VerificationError(Code.ORDER, "its compensation is through, and no step follows")
        return chain

    def signed(self, transition: Transition, message: PaigeantMessage, span: Span, body: bytes) -> Transition:
        """``transition`` with its step record; or a dead letter, if others would refuse the record.

        Args:
            transition: what becomes of the workflow.
            message: the message that was run, verified.
            span: by whom and when.
            body: the message's bytes as they came.
        """
        try:
            self._sign(transition, message)
        except PaigeantError as refused:
            if message.routing_slip.undoing:
                return moves.failed(message, refused, "cannot_sign", span, body)
            at, worker = span.completed_at, span.worker
            return moves.dead_letter(message, at, reason="cannot_sign", body=body, error=refused, worker=worker)
        return transition

    def _sign(self, transition: Transition, message: PaigeantMessage) -> None:
        record = transition.record
        if record.kind not in _MOVED or record.body is None:
            return  # a retry and a dead letter change nothing that is signed
        key, trust = self.key, self.trust
        chain = verify(message.records, trust, record.at)
        if chain.length >= MAX_CHAIN:
            raise VerificationError(Code.TOO_LARGE, f"the chain has {chain.length} records, the cap is {MAX_CHAIN}")
        following = PaigeantMessage.decode(record.body)
        if record.kind == Kind.HELD and same_slip(message.routing_slip, following.routing_slip):
            return  # held before the step was run: nothing that is signed has changed
        claims = _claims(chain, message, following, key, record)
        signed = sign(key, claims)
        records = [*message.records, signed]
        # What others would refuse is not handed on; and what was signed here need not be verified here again.
        next_chain = follow(chain, Signed(claims, trust.keys[key.kid], link(signed)), trust, record.at)
        if not same_slip(next_chain.slip, following.routing_slip):
            raise VerificationError(Code.SLIP, "what is handed on is not what a step can make of its routing slip")
        trust.remember(prefix_digest(records), next_chain)
        following.records = records
        record.body = following.encode()
        if transition.deadline is not None and transition.deadline.record.body is not None:
            due = PaigeantMessage.decode(transition.deadline.record.body)
            due.records = records
            transition.deadline.record.body = due.encode()


def _claims(
    chain: Chain, message: PaigeantMessage, following: PaigeantMessage, key: SigningKey, record: Record
) -> StepDone:
    headers = message.headers
    before, after = message.routing_slip, following.routing_slip
    inserted: list[msgspec.Raw] = []
    finish = False
    if before.undoing:
        result = "undone"
    elif record.kind in (Kind.COMPENSATING, Kind.COMPENSATED):
        result = "failed"
    else:
        result = "done"
        inserted, finish = _changes(before, after)
    return StepDone(
        iss=key.name,
        iat=int(record.at),
        wf=headers.correlation_id,
        n=chain.length,
        ep=headers.epoch,
        prev=chain.head,
        before=chain.payload,
        out=digest(following.payload_bytes),
        step=headers.activity,
        hop=headers.hop,
        att=headers.attempt,
        res=result,
        ins=inserted,
        fin=finish,
    )


def _changes(before: RoutingSlip, after: RoutingSlip) -> tuple[list[msgspec.Raw], bool]:
    """What a step did to the rest of its itinerary: steps that it inserted, and whether it left out the rest."""
    added = len(after.itinerary) - (len(before.itinerary) - 1)
    if added < 0:
        return [], True
    return [msgspec.Raw(_encode(step.to_document())) for step in after.itinerary[:added]], False
