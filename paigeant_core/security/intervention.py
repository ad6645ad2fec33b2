"""What an operator signs: each operation on a signed workflow is a record in its chain.

``prev`` and ``in`` of the record are the head and the payload that the operator saw: a
workflow that moved since does not take it. Nothing is signed into a workflow that was
started without a signature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from paigeant_core.delegation import token_digest
from paigeant_core.errors import ConfigError, NotEligible, Refused
from paigeant_core.handoff import GO_ON
from paigeant_core.message import Headers, PaigeantMessage
from paigeant_core.security.chain import MAX_CHAIN, MAX_RUN, Chain, Seen, check_message, extend, same_slip, verify
from paigeant_core.security.hop import sign_origin, with_records
from paigeant_core.security.keys import Signer
from paigeant_core.security.records import Operation, digest, link, propose, sign
from paigeant_core.security.refusal import Code, VerificationError
from paigeant_core.security.trust import Trust
from paigeant_core.transition import Transition

if TYPE_CHECKING:
    from paigeant_core.operations.action import Action
    from paigeant_core.operations.standing import Standing

CHANGING = frozenset({"replay", "skip", "compensate", "insert"})
"""Operations that change what is signed, whatever they are given."""

ASIDE = frozenset({"hold", "cancel", "dead-letter"})
"""Operations that take a workflow out of the way: nothing is run after them."""


class Pen:
    """What an operator signs with, and whose policy it has to pass.

    Args:
        key: the operator's; None: nothing can be signed.
        trust: the policy, if there is one here; what it would refuse is not signed.
    """

    def __init__(self, key: Signer | None, trust: Trust | None) -> None:
        self.key = key
        self.trust = trust

    def check(self, operation: str, now: float) -> None:
        """Look whether an operation of this operator would count with anybody.

        Args:
            operation: its name.
            now: the time, seconds since the Unix epoch.

        Raises:
            Refused: the policy would refuse it.
        """
        if self.trust is None:
            return
        if self.key is None:
            raise Refused(f"{operation}: the trust policy asks for signed operations, and there is no key to sign with")
        try:
            self.trust.check_signer(self.key, "operator", now)
        except ConfigError as error:
            raise Refused(f"{operation}: {error}") from None
        if not self.trust.keys[self.key.kid].principal.may_operate(operation):
            raise Refused(f"{operation}: the trust policy does not let {self.key.name} do that")

    def look(self, action: Action, standing: Standing, now: float) -> None:
        """Look whether an operation on this workflow would count, before anybody decides on it.

        Raises:
            NotEligible: its records do not hold, they leave no room, or it is signed and there is no key.
        """
        message = _signed_message(standing)
        if message is None:
            return
        if self.key is None and _changes(action):
            raise NotEligible("it is signed, and workers would refuse what nobody signed: a key is needed")
        if self.trust is not None:
            try:
                _verified(message, self.trust, now)
            except VerificationError as refused:
                raise NotEligible(f"its records do not hold: {refused.code}: {refused}") from None
        # A copy begins a chain of its own, and to take a request back is no record.
        if self.key is not None and not getattr(action, "as_new", False) and action.asks(standing) != GO_ON:
            _check_room(action, message)

    def sealed(
        self,
        transition: Transition,
        action: Action,
        standing: Standing,
        *,
        reason: str,
        operation_id: str,
        at: float,
        approval: str = "",
    ) -> Transition:
        """``transition`` with the record of the operation that makes it, where its workflow is signed.

        Args:
            transition: what the operation does.
            action: the operation.
            standing: where the workflow stood.
            reason: why.
            operation_id: its ID.
            at: now.
            approval: what another operator signed, who proposed it; empty: nobody did.

        Raises:
            PaigeantError: the policy would refuse it, or there is no key.
        """
        before, body = _signed_message(standing), transition.record.body
        if before is None or body is None:
            return transition
        following = PaigeantMessage.decode(body)
        if self.key is None:
            if _changes(action):
                raise NotEligible("it is signed, and workers would refuse what nobody signed: a key is needed")
            return transition
        if following.correlation_id != before.correlation_id:
            return self._copied(transition, before, following, at)
        claims = self._meant(action, before, following, reason=reason, operation_id=operation_id, at=at)
        record = sign(self.key, msgspec.structs.replace(claims, app=approval))
        records = [*before.records, record]
        if self.trust is not None:
            seen = Seen(self.trust.memory, records)
            chain = extend(_verified(before, self.trust, at), record, self.trust, at)
            if not same_slip(chain.slip, following.routing_slip):
                raise VerificationError(Code.SLIP, "it does to the routing slip what such an operation may not")
            seen.remember(chain)
        return with_records(transition, records)

    def proposal(
        self,
        transition: Transition | None,
        action: Action,
        standing: Standing,
        *,
        reason: str,
        operation_id: str,
        at: float,
    ) -> str:
        """What a second operator is asked to sign as well; empty: the workflow is not signed.

        Args:
            transition: what the operation does; None: it is asked of the running step.
            action: the operation.
            standing: where the workflow stands.
            reason: why.
            operation_id: its ID.
            at: now.

        Raises:
            PaigeantError: the policy would refuse it.
        """
        before = _signed_message(standing)
        if before is None or self.key is None:
            return ""
        following = None
        if transition is not None and transition.record.body is not None:
            following = PaigeantMessage.decode(transition.record.body)
        claims = self._meant(action, before, following, reason=reason, operation_id=operation_id, at=at)
        return propose(self.key, claims)

    def _meant(
        self,
        action: Action,
        before: PaigeantMessage,
        following: PaigeantMessage | None,
        *,
        reason: str,
        operation_id: str,
        at: float,
    ) -> Operation:
        _check_room(action, before)
        if following is None:
            return self._claims(
                action,
                before,
                before.headers,
                reason=reason,
                operation_id=operation_id,
                at=at,
                out=digest(before.payload_bytes),
                asks=True,
            )
        return self._claims(
            action,
            before,
            following.headers,
            reason=reason,
            operation_id=operation_id,
            at=at,
            out=digest(following.payload_bytes),
            back=self._goes_back(before, following, at) if action.name == "replay" else None,
            token=following if following.carrier != before.carrier else None,
        )

    def asked(
        self, action: Action, standing: Standing, *, reason: str, operation_id: str, at: float, approval: str = ""
    ) -> str:
        """The record of what is asked of a running step; empty: its workflow is not signed, or there is no key.

        Args:
            action: the operation.
            standing: where the workflow stands.
            reason: why.
            operation_id: its ID.
            at: now.
            approval: what another operator signed, who proposed it; empty: nobody did.

        Raises:
            PaigeantError: the policy would refuse it.
        """
        before = _signed_message(standing)
        if before is None or self.key is None:
            return ""
        claims = self._meant(action, before, None, reason=reason, operation_id=operation_id, at=at)
        record = sign(self.key, msgspec.structs.replace(claims, app=approval))
        if self.trust is not None:
            extend(_verified(before, self.trust, at), record, self.trust, at)
        return record

    def _claims(
        self,
        action: Action,
        before: PaigeantMessage,
        headers: Headers,
        *,
        reason: str,
        operation_id: str,
        at: float,
        out: str,
        back: int | None = None,
        asks: bool = False,
        token: PaigeantMessage | None = None,
    ) -> Operation:
        assert self.key is not None
        steps = getattr(action, "steps", ())
        given = token.delegation if token is not None else None
        return Operation(
            iss=self.key.name,
            iat=int(at),
            wf=before.correlation_id,
            n=len(before.records),
            ep=headers.epoch,
            prev=link(before.records[-1]),
            before=digest(before.payload_bytes),
            out=out,
            op=action.name,
            reason=reason,
            id=operation_id,
            ins=[msgspec.Raw(msgspec.json.encode(step.to_document())) for step in steps],
            back=back,
            asks=asks,
            tok=token_digest(token.carrier) if token is not None else "",
            dlg=given.summary() if given is not None else None,
        )

    def _goes_back(self, before: PaigeantMessage, following: PaigeantMessage, at: float) -> int | None:
        """The record as of which a replay goes on; None: where the workflow stands."""
        slip = before.routing_slip.copy()
        slip.undoing = 0
        if same_slip(slip, following.routing_slip):
            return None
        if self.trust is None:
            raise NotEligible("to go back needs the trust policy: set PAIGEANT_TRUST, or leave out --from-step")
        past = _verified(before, self.trust, at).past
        for index in range(len(past) - 1, -1, -1):
            slip = past[index].copy()
            slip.undoing = 0
            if same_slip(slip, following.routing_slip):
                return index
        raise VerificationError(Code.SLIP, "its records know nothing of such a routing slip")

    def _copied(
        self, transition: Transition, before: PaigeantMessage, following: PaigeantMessage, at: float
    ) -> Transition:
        """A workflow that was made of another one is begun by whoever made it."""
        assert self.key is not None
        if self.trust is not None:
            try:
                self.trust.check_signer(self.key, "dispatcher", at)
            except ConfigError as error:
                raise NotEligible(f"a copy is a new workflow: {error}") from None
        parent = f"{before.correlation_id} {link(before.records[-1])}"
        sign_origin(following, self.key, at, parent=parent)
        return with_records(transition, following.records)


def _verified(message: PaigeantMessage, trust: Trust, now: float) -> Chain:
    chain = verify(message.records, trust, now)
    # Its deadline is the workers' business: an operator may still take it out of the way.
    check_message(chain, message, 0.0)
    return chain


def _signed_message(standing: Standing) -> PaigeantMessage | None:
    if standing.record.body is None:
        return None
    message = standing.message()
    return message if message.records else None


def _check_room(action: Action, message: PaigeantMessage) -> None:
    """Whether the chain takes the record of ``action``, and of the step that is run because of it.

    Raises:
        NotEligible: it does not, with what is left to do.
    """
    length = len(message.records)
    if action.name in ASIDE:
        if length >= MAX_CHAIN:
            raise NotEligible(f"it has {length} signed records, and a chain holds no more")
    elif length + 2 > MAX_RUN:
        left = "cancel, dead-letter or hold it, or start a copy of it (replay --as-new)"
        raise NotEligible(f"it has {length} signed records, too many for another run: {left}")


def _changes(action: Action) -> bool:
    return action.name in CHANGING or bool(getattr(action, "values", None) or getattr(action, "token", None))
