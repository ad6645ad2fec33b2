"""What dispatcher and worker do with records: sign a start, verify a message, sign a hop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial, reduce

import msgspec

from paigeant_core import transition as moves
from paigeant_core.delegation import token_digest
from paigeant_core.errors import PaigeantError
from paigeant_core.handoff import heed, not_done, wish_of
from paigeant_core.journal import Kind, Record
from paigeant_core.message import PaigeantMessage, with_record
from paigeant_core.routing import RoutingSlip
from paigeant_core.security.chain import (
    MAX_RUN,
    Chain,
    check_message,
    extend,
    follow,
    look,
    same_slip,
    verify,
)
from paigeant_core.security.keys import Signer
from paigeant_core.security.records import Origin, Signed, StepDone, digest, link, sign
from paigeant_core.security.refusal import Code, VerificationError
from paigeant_core.security.trust import Trust
from paigeant_core.transition import Span, Transition
from paigeant_core.transports.types import Copy, Witness

_MOVED = frozenset({Kind.ADVANCED, Kind.FINISHED, Kind.HELD, Kind.COMPENSATING, Kind.COMPENSATED})
"""Kinds by which a worker changes the slip or the payload."""

_UNDOING = frozenset({Kind.COMPENSATING, Kind.COMPENSATED})

_encode = msgspec.json.encode


def sign_origin(message: PaigeantMessage, key: Signer, at: float, *, expires: int = 0, parent: str = "") -> None:
    """Put the origin record into the first message of a workflow.

    Args:
        message: as it is about to be dispatched.
        key: the dispatcher's.
        at: now.
        expires: the deadline, seconds since the Unix epoch; 0: none.
        parent: of which workflow it is a copy, see :attr:`Origin.parent`; empty: of none.

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
        parent=parent,
    )
    message.records = [sign(key, claims)]


class Guard:
    """What a worker lets in, and what it signs.

    Args:
        key: the worker's.
        trust: the policy.
        activities: what it serves.
    """

    def __init__(self, key: Signer, trust: Trust, activities: Iterable[str]) -> None:
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
        seen, chain = look(message.records, self.trust, now)
        check_message(chain, message, now)
        if chain.over:
            # Its last message names the step that failed, for people: whoever publishes it again would have that run.
            raise VerificationError(Code.ORDER, "its compensation is through, and no step follows")
        message.verified = seen, chain
        return chain

    async def verify_anew(self, message: PaigeantMessage, now: float) -> None:
        """Like :meth:`verify`; an unknown key, or a minute gone by, is a reason to read the policy anew first.

        Raises:
            VerificationError: why it is not to be run.
        """
        renewed = await self.trust.renewed()
        try:
            self.verify(message, now)
        except VerificationError as refused:
            if renewed or refused.code != Code.UNKNOWN_KEY or not await self.trust.renewed():
                raise
            self.verify(message, now)

    def check_witness(self, message: PaigeantMessage, witness: Witness) -> None:
        """Look whether a verified message is where its workflow stands, by the broker's own word.

        Signatures cannot tell an older, whole state that somebody publishes again from the newest.

        Args:
            message: verified.
            witness: what the fence knows.

        Raises:
            VerificationError: it is older than that, or another line of the workflow.
        """
        records = message.records
        length, _, head = witness.mark.partition(".")
        marked = int(length) if length.isascii() and length.isdecimal() else 0
        if len(records) < marked:
            raise VerificationError(Code.ROLLBACK, f"{len(records)} records, and the workflow has {marked} by now")
        if marked and link(records[marked - 1]) != head:
            raise VerificationError(Code.FORK, f"its record {marked - 1} is not the one that the workflow went on with")
        if witness.copy is not Copy.UNKNOWN and 0 < marked < len(records):
            raise VerificationError(Code.FORK, "it has records that the workflow does not know")
        if witness.copy is Copy.OTHER:
            raise VerificationError(Code.ROLLBACK, "a copy beside the one that the workflow stands at")

    def signed(self, transition: Transition, message: PaigeantMessage, span: Span, body: bytes) -> Transition:
        """``transition`` with its step record; or a dead letter, if others would refuse the record.

        Args:
            transition: what becomes of the workflow.
            message: the message that was run, verified.
            span: by whom and when.
            body: the message's bytes as they came.
        """
        try:
            signed = self._sign(transition, transition, message)
        except PaigeantError as refused:
            if message.routing_slip.undoing:
                return moves.failed(message, refused, "cannot_sign", span, body)
            at, worker = span.completed_at, span.worker
            return moves.dead_letter(message, at, reason="cannot_sign", body=body, error=refused, worker=worker)
        if signed is transition:
            signed = replace(transition)  # what was asked for is heeded by the plain one
        signed.heeds = partial(self._heed, transition, signed, message)
        return signed

    def _heed(self, plain: Transition, signed: Transition, message: PaigeantMessage, asked: Record) -> Transition:
        """What becomes of a hand-off, given what an operator asked for; what they did not sign is not heeded.

        Args:
            plain: what becomes of the workflow, without what this worker signed.
            signed: the same, signed.
            message: the message that was run.
            asked: the request, as it stands in the broker.
        """
        try:
            record = asked.detail.get("signed")
            if not isinstance(record, str):
                return signed
            chain = extend(verify(message.records, self.trust, plain.record.at), record, self.trust, plain.record.at)
            claims = chain.asked
            if claims is None or claims.op != wish_of(asked):
                return signed
            # Not what stands beside the signature: what was signed.
            detail = {**asked.detail, "operator": chain.signer, "reason": claims.reason, "operation_id": claims.id}
            if claims.op == "insert":
                detail["steps"] = [msgspec.json.decode(step) for step in claims.ins]
            known = Record(asked.kind, asked.headers, detail=detail, id=asked.id, position=asked.position, at=asked.at)
            heeded = heed(plain, known)
            if heeded is plain:
                return signed
            if "not_done" in heeded.record.detail:
                return not_done(signed, heeded.record.detail["not_done"])
            heeded = self._sign(plain, heeded, message, record)
        except PaigeantError:
            return signed
        heeded.heeds = signed.heeds
        return heeded

    def _sign(
        self, plain: Transition, transition: Transition, message: PaigeantMessage, asked: str | None = None
    ) -> Transition:
        """``transition`` with what it takes to follow from ``message``.

        Args:
            plain: what the step did.
            transition: what becomes of the workflow: the same, but for what was asked for.
            message: the message that was run.
            asked: the operator's record of what was asked for.

        Raises:
            PaigeantError: others would refuse it.
        """
        record, body = transition.record, transition.record.body
        did = _did(plain, message)
        begins = record.kind in _UNDOING and not did
        moved = did or begins
        if body is None or (not moved and asked is None):
            return transition  # a retry and a dead letter change nothing that is signed
        key, trust = self.key, self.trust
        seen, chain = message.verified or look(message.records, trust, record.at)
        # Without what was asked for: that takes of the room that is left for operators.
        if moved and chain.length >= MAX_RUN:
            raise VerificationError(Code.TOO_LARGE, f"the chain has {chain.length} records: too many for a step")
        seen, added = seen.copy(), [] if asked is None else [asked]
        if asked is not None:
            chain = extend(chain, asked, trust, record.at)
        if moved:
            done = plain.record.body
            assert done is not None  # who did something hands something on
            made = plain.made or PaigeantMessage.decode(done)
            claims = _claims(chain, message, made, key, plain.record, begins=begins, heeds=asked is not None)
            signed = sign(key, claims)
            added.append(signed)
            # What others would refuse is not handed on; and what was signed here need not be verified here again.
            known = trust.keys.get(key.kid)
            if known is None:
                raise VerificationError(Code.UNKNOWN_KEY, f"the trust policy knows the key {key.kid} no more")
            chain = follow(chain, Signed(claims, known, link(signed)), trust, record.at)
        following = transition.made or PaigeantMessage.decode(body)
        if not same_slip(chain.slip, following.routing_slip):
            raise VerificationError(Code.SLIP, "what is handed on is not what a step can make of its routing slip")
        for each in added:
            seen.add(each)
        seen.remember(chain)
        return _with_more(transition, added, chain)


def with_records(transition: Transition, records: list[str]) -> Transition:
    """A transition like ``transition`` whose messages carry ``records``."""

    def carrying(body: bytes) -> bytes:
        message = PaigeantMessage.decode(body)
        message.records = records
        return message.encode()

    return _rewritten(transition, carrying, mark_of(records))


def mark_of(records: Sequence[str]) -> str:
    """See :attr:`Transition.mark`; empty: nothing is signed."""
    return f"{len(records)}.{link(records[-1])}" if records else ""


def _with_more(transition: Transition, records: list[str], chain: Chain) -> Transition:
    """A transition like ``transition`` whose messages, signed before, carry ``records`` as well: that is ``chain``."""
    return _rewritten(transition, lambda body: reduce(with_record, records, body), f"{chain.length}.{chain.head}")


def _rewritten(transition: Transition, rewrite: Callable[[bytes], bytes], mark: str) -> Transition:
    deadline = transition.deadline
    if deadline is not None:
        deadline = replace(deadline, record=_with_body(deadline.record, rewrite))
    return Transition(
        place=transition.place,
        record=_with_body(transition.record, rewrite),
        before=transition.before,
        delay=transition.delay,
        deadline=deadline,
        mark=mark,
    )


def _with_body(record: Record, rewrite: Callable[[bytes], bytes]) -> Record:
    if record.body is None:
        return record
    return Record(
        record.kind,
        record.headers,
        state=record.state,
        worker=record.worker,
        detail=record.detail,
        body=rewrite(record.body),
        id=record.id,
        at=record.at,
    )


def _did(plain: Transition, message: PaigeantMessage) -> bool:
    """Whether the step changed anything that is signed."""
    record = plain.record
    if record.kind not in _MOVED or record.body is None:
        return False
    # Held before it was run, it did nothing yet.
    held = record.kind == Kind.HELD
    return not held or not same_slip(message.routing_slip, PaigeantMessage.decode(record.body).routing_slip)


def _claims(
    chain: Chain,
    message: PaigeantMessage,
    following: PaigeantMessage,
    key: Signer,
    record: Record,
    *,
    begins: bool,
    heeds: bool,
) -> StepDone:
    headers = message.headers
    before, after = message.routing_slip, following.routing_slip
    inserted: list[msgspec.Raw] = []
    finish, behind = False, 0
    if before.undoing:
        result = "undone"
    elif begins or record.kind in _UNDOING:
        result = "failed"
    else:
        result = "done"
        inserted, finish = _changes(before, after)
        if heeds and chain.asked is not None and (inserted or finish):
            # What was asked for while an earlier attempt ran stood in the slip when this one began.
            behind = len(chain.asked.ins)
    return StepDone(
        iss=key.name,
        iat=int(record.at),
        wf=headers.correlation_id,
        n=chain.length,
        ep=headers.epoch,
        prev=chain.head,
        before=chain.payload,
        out=digest(message.payload_bytes if begins else following.payload_bytes),
        step=headers.activity,
        hop=headers.hop,
        att=headers.attempt,
        res=result,
        ins=inserted,
        fin=finish,
        behind=behind,
    )


def _changes(before: RoutingSlip, after: RoutingSlip) -> tuple[list[msgspec.Raw], bool]:
    """What a step did to the rest of its itinerary: steps that it inserted, and whether it left out the rest."""
    added = len(after.itinerary) - (len(before.itinerary) - 1)
    if added < 0:
        return [], True
    return [msgspec.Raw(_encode(step.to_document())) for step in after.itinerary[:added]], False
