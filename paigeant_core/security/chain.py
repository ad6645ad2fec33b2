"""The chain of a workflow's records: verified one by one, folded into what they say.

A chain is an origin record, then one record for each step and each operation. What a
worker acts on, the routing slip, run and payload, is what the fold of verified records
gives; a message that says anything else is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from operator import is_
from typing import Final

import msgspec

from paigeant_core.delegation import Delegation, token_digest
from paigeant_core.errors import InvalidMessage, RoutingError
from paigeant_core.message import PaigeantMessage
from paigeant_core.routing import RoutingSlip, SlipWire, Step
from paigeant_core.security.records import Claims, Operation, Origin, Signed, StepDone, digest, read, read_proposal
from paigeant_core.security.refusal import Code, VerificationError
from paigeant_core.security.trust import Memory, Principal, Trust

MAX_CHAIN: Final = 256
"""Records of a chain."""

MAX_RUN: Final = MAX_CHAIN - 3
"""Records behind which no step is signed. The rest is for what takes the workflow out of the way: a hold, a dead-letter
and a cancel at most, for nothing leads back from those but what is refused here."""

CLOCK_SKEW: Final = 120
"""Seconds by which the clocks of signers may differ."""

CHANGE_PAYLOAD: Final = frozenset({"replay", "release"})
"""Operations that may change the payload."""

KEEP_SLIP: Final = frozenset({"retry", "release", "hold", "cancel", "dead-letter", "restore", "undo"})
"""Operations that leave the routing slip as it is."""

AT_HANDOFF: Final = frozenset({"hold", "cancel", "compensate", "insert"})
"""Operations that can be asked of a step that runs."""

_decode_slip = msgspec.json.Decoder(SlipWire).decode
_decode_step = msgspec.json.decode
_encode = msgspec.json.encode


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """What the verified records say, up to one of them.

    Attributes:
        workflow: the correlation ID.
        audience: the environment.
        topic: where it runs.
        length: how many records there are.
        head: what the next one names as the one before.
        epoch: the epoch that was signed last.
        run: the run.
        at: when the last one was signed.
        expires: the deadline; 0: none.
        slip: what is to do and what is done; not to be changed.
        past: the slip as each record left it.
        asked: what was asked of the step that ran, if that is what the last record says.
        payload: digest of the payload.
        token: digest of what carries the on-behalf-of token; empty: none.
        delegation: on whose behalf it runs, without the carrier; None: nobody's.
        scopes: permissions that steps may need.
        over: its compensation is through: no step follows, unless a replay is signed.
        last: what the last record says.
        signer: who signed it.
        kid: with which key.
    """

    workflow: str
    audience: str
    topic: str
    length: int
    head: str
    epoch: int
    run: int
    at: int
    expires: int
    slip: RoutingSlip
    past: tuple[RoutingSlip, ...]
    asked: Operation | None = None
    payload: str
    token: str
    delegation: Delegation | None
    scopes: frozenset[str]
    over: bool = False
    last: Claims
    signer: str
    kid: str


def verify(records: Sequence[str], trust: Trust, now: float) -> Chain:
    """Verify a chain whole; what was verified before under ``trust`` is not verified again.

    Args:
        records: oldest first.
        trust: the policy.
        now: the time, seconds since the Unix epoch.

    Raises:
        VerificationError: why, and which record.
    """
    return look(records, trust, now)[1]


def look(records: Sequence[str], trust: Trust, now: float) -> tuple[Seen, Chain]:
    """What :func:`verify` gives, and what these records are known by."""
    if not records:
        raise VerificationError(Code.UNSIGNED, "it carries no signature, and signatures are required here")
    if len(records) > MAX_CHAIN:
        raise VerificationError(Code.TOO_LARGE, f"{len(records)} records, the cap is {MAX_CHAIN}")
    # Mostly all of it is known (this worker signed it last), or all but the last record.
    before = Seen(trust.memory, records[:-1])
    whole = before.copy()
    whole.add(records[-1])
    chain = whole.chain()
    if chain is not None:
        return whole, chain
    if len(records) > 1:
        chain = before.chain() or _known_prefix(records, trust)
    for record in records[0 if chain is None else chain.length :]:
        chain = extend(chain, record, trust, now)
    assert chain is not None
    whole.remember(chain)
    return whole, chain


class Seen:
    """What verified records are known by: a digest of them all, signatures included.

    Args:
        memory: of the policy, taken before they are verified: what a policy that changed since would refuse is
            kept where nobody looks any more.
        records: oldest first.
    """

    __slots__ = ("_hashed", "_length", "_memory")

    def __init__(self, memory: Memory, records: Sequence[str] = ()) -> None:
        self._memory = memory
        self._hashed = sha256("\n".join(records).encode("utf-8", "surrogatepass"))
        self._length = len(records)

    def copy(self) -> Seen:
        """The same, to be gone on with by itself."""
        other = Seen.__new__(Seen)
        other._memory = self._memory
        other._hashed = self._hashed.copy()
        other._length = self._length
        return other

    def add(self, record: str) -> None:
        """One more record."""
        if self._length:
            self._hashed.update(b"\n")
        self._hashed.update(record.encode("utf-8", "surrogatepass"))
        self._length += 1

    def chain(self) -> Chain | None:
        """What these records were verified to say; None: they were not, or are forgotten."""
        chain = self._memory.find(self._hashed.digest())
        # One "record" with a newline in it has the digest of two.
        return chain if chain is not None and chain.length == self._length else None

    def remember(self, chain: Chain) -> None:
        """``chain`` is what they say."""
        self._memory.keep(self._hashed.digest(), chain)


def _known_prefix(records: Sequence[str], trust: Trust) -> Chain | None:
    seen = Seen(trust.memory)
    found = None
    for record in records:
        seen.add(record)
        found = seen.chain() or found
    return found


def extend(chain: Chain | None, record: str, trust: Trust, now: float) -> Chain:
    """Verify the next record of ``chain`` (None: the first) and fold it in.

    Raises:
        VerificationError: why it does not count.
    """
    signed = read(record, trust, 0 if chain is None else chain.length)
    return follow(chain, signed, trust, now)


def follow(chain: Chain | None, signed: Signed, trust: Trust, now: float) -> Chain:
    """Fold a record whose signature holds into ``chain``; same errors as :func:`extend`."""
    index = 0 if chain is None else chain.length
    try:
        _check_key(signed, now)
        if chain is None:
            assert isinstance(signed.claims, Origin)  # read() lets nothing else be the first, or stand later
            return _begin(signed.claims, signed, trust)
        assert not isinstance(signed.claims, Origin)
        _check_place(chain, signed.claims)
        if isinstance(signed.claims, StepDone):
            return _step(chain, signed.claims, signed)
        following = _operation(chain, signed.claims, signed)
        _check_approval(chain, following, signed.claims, signed, trust)
        return following
    except (InvalidMessage, RoutingError, msgspec.MsgspecError, RecursionError) as error:
        why = f": {error}" if isinstance(error, InvalidMessage | RoutingError) else ""
        raise VerificationError(Code.MALFORMED, f"it describes no move of a routing slip{why}", index) from None
    except VerificationError as refused:
        raise VerificationError(Code(refused.code), str(refused), index) from None


def check_message(chain: Chain, message: PaigeantMessage, now: float) -> None:
    """Whether a message is the one that its verified records give.

    The epoch may be higher than the one signed: raising it, as the fence does, runs the
    same step again under the same idempotency key.

    Raises:
        VerificationError: what differs.
    """
    headers = message.headers
    if headers.correlation_id != chain.workflow:
        raise VerificationError(Code.SPLICE, "its records belong to another workflow")
    if headers.topic != chain.topic:
        raise VerificationError(Code.TOPIC, "it was started in another topic")
    if headers.epoch < chain.epoch:
        raise VerificationError(Code.EPOCH, f"epoch {headers.epoch}, and epoch {chain.epoch} was signed")
    if headers.run != chain.run:
        raise VerificationError(Code.RUN, f"run {headers.run}, and run {chain.run} was signed")
    if not same_slip(message.routing_slip, chain.slip):
        raise VerificationError(Code.SLIP, "its routing slip is not the one that its records give")
    if digest(message.payload_bytes) != chain.payload:
        raise VerificationError(Code.BODY_DIGEST, "its payload is not the one that was signed")
    if token_digest(message.carrier) != chain.token:
        raise VerificationError(Code.TOKEN_DIGEST, "its token is not the one that was signed")
    if (None if message.delegation is None else message.delegation.summary()) != chain.delegation:
        raise VerificationError(Code.TOKEN_DIGEST, "what it says of its token is not what was signed")
    if chain.expires and now > chain.expires:
        raise VerificationError(Code.EXPIRED, "it is past its signed deadline")


def same_slip(one: RoutingSlip, other: RoutingSlip) -> bool:
    """Whether two slips ask for the same, to the last argument."""
    if (one.undoing, one.on_failure) != (other.undoing, other.on_failure):
        return False
    if len(one.itinerary) != len(other.itinerary) or len(one.executed) != len(other.executed):
        return False
    # Whoever decodes a slip shares its entries and bare names: mostly both hold the same objects.
    if not all(map(is_, one.executed, other.executed)) and any(
        a != b or a.attempt != b.attempt or a.skipped != b.skipped
        for a, b in zip(one.executed, other.executed, strict=True)
    ):
        return False
    # As bytes: 1, 1.0 and true are equal in Python, and not to who reads an argument.
    return all(map(is_, one.itinerary, other.itinerary)) or all(
        a is b or _encode(a.to_document()) == _encode(b.to_document())
        for a, b in zip(one.itinerary, other.itinerary, strict=True)
    )


def _check_key(signed: Signed, now: float) -> None:
    claims, key = signed.claims, signed.key
    if claims.iss != key.principal.name:
        raise VerificationError(Code.ISS, f"it names another principal than {key.principal.name}, whose key signed it")
    if not key.not_before <= claims.iat <= key.not_after:
        raise VerificationError(Code.KEY_WINDOW, f"signed when {key.principal.name}'s key {key.kid} was not valid")
    if key.revoked:
        raise VerificationError(Code.REVOKED, f"{key.principal.name}'s key {key.kid} is revoked")
    if claims.iat > now + CLOCK_SKEW:
        raise VerificationError(Code.FUTURE, f"signed {claims.iat - now:.0f} seconds from now")


def _begin(claims: Origin, signed: Signed, trust: Trust) -> Chain:
    if claims.aud != trust.audience:
        raise VerificationError(
            Code.AUD, f"signed for {ascii(claims.aud)[:60] or 'none'}, and this is {trust.audience or 'another'}"
        )
    if claims.n != 0:
        raise VerificationError(Code.SEQUENCE, f"it carries number {claims.n}")
    if "dispatcher" not in signed.key.principal.roles:
        raise VerificationError(Code.ROLE, f"{signed.key.principal.name} starts no workflows")
    slip = RoutingSlip.from_wire(_decode_slip(claims.slip))
    if (slip.executed and not claims.parent) or slip.undoing or slip.finished or claims.ep < 1:
        raise VerificationError(Code.MALFORMED, "it is no beginning of a workflow")
    return Chain(
        workflow=claims.wf,
        audience=claims.aud,
        topic=claims.topic,
        length=1,
        head=signed.digest,
        epoch=claims.ep,
        run=1,
        at=claims.iat,
        expires=claims.exp,
        slip=slip,
        past=(slip,),
        payload=claims.out,
        token=claims.tok,
        delegation=claims.dlg,
        scopes=frozenset(scope for step in slip.itinerary for scope in step.scopes),
        # Without the slip as it was written: it would keep the whole record in memory.
        last=msgspec.structs.replace(claims, slip=msgspec.Raw(b"")),
        signer=signed.key.principal.name,
        kid=signed.key.kid,
    )


def _check_place(chain: Chain, claims: StepDone | Operation) -> None:
    if claims.wf != chain.workflow:
        raise VerificationError(Code.SPLICE, "it belongs to another workflow")
    if claims.n != chain.length:
        raise VerificationError(Code.SEQUENCE, f"it carries number {claims.n}")
    if claims.prev != chain.head:
        raise VerificationError(Code.LINK, "it does not follow the record before it")
    if claims.before != chain.payload:
        raise VerificationError(Code.INPUT_DIGEST, "it starts from another payload than the record before left")
    # An operation is what raises the epoch; a step is done in the one that there is, and what is asked of it too.
    if claims.ep < chain.epoch + (isinstance(claims, Operation) and not claims.asks):
        raise VerificationError(Code.EPOCH, f"epoch {claims.ep} after epoch {chain.epoch}")
    if claims.iat < chain.at - CLOCK_SKEW:
        raise VerificationError(
            Code.TIME_REGRESS, f"signed {chain.at - claims.iat} seconds before the record that it follows"
        )


def _step(chain: Chain, claims: StepDone, signed: Signed) -> Chain:
    principal = signed.key.principal
    if "worker" not in principal.roles:
        raise VerificationError(Code.ROLE, f"{principal.name} is no worker")
    if not principal.may_run(claims.step):
        raise VerificationError(Code.NOT_AUTHORIZED, f"{principal.name} may not run activity {ascii(claims.step)[:80]}")
    if chain.over:
        raise VerificationError(Code.ORDER, "its compensation is through, and no step follows")
    slip = chain.slip.copy()
    if slip.current_name() != claims.step or slip.hop != claims.hop:
        raise VerificationError(Code.ORDER, f"not the step to be done: hop {slip.hop}")
    if claims.res != "done" and (claims.ins or claims.fin or claims.out != claims.before):
        raise VerificationError(Code.OP_BODY, "a step that failed or was undone changes nothing")
    asked, over = chain.asked, False
    if claims.behind and (asked is None or asked.op != "insert" or claims.behind != len(asked.ins)):
        raise VerificationError(Code.INSERT, "it leaves steps in front that no operator asked for")
    compensates = asked is not None and asked.op == "compensate"
    if claims.res == "done" and not slip.undoing:
        _insert(chain, slip, claims.ins, principal, claims.behind)
        if claims.fin:
            del slip.itinerary[1 + claims.behind :]
        slip.mark_complete(claims.step, claims.att)
        if compensates:
            over = not slip.start_undoing()
    elif claims.res == "failed" and not slip.undoing and (compensates or slip.on_failure == "compensate"):
        over = not slip.start_undoing()
    elif claims.res == "undone" and slip.undoing:
        over = not slip.undo_next()
    else:
        raise VerificationError(Code.ORDER, f"the step at hop {slip.hop} cannot be {ascii(claims.res)[:40]}")
    return _following(chain, claims, signed, slip, chain.run, over)


def _operation(chain: Chain, claims: Operation, signed: Signed) -> Chain:
    principal = signed.key.principal
    if "operator" not in principal.roles:
        raise VerificationError(Code.ROLE, f"{principal.name} is no operator")
    if not principal.may_operate(claims.op):
        raise VerificationError(Code.NOT_AUTHORIZED, f"{principal.name} may not {ascii(claims.op)[:40]}")
    if not claims.reason.strip():
        raise VerificationError(Code.REASON, "an operation without a reason")
    if claims.out != claims.before and claims.op not in CHANGE_PAYLOAD:
        raise VerificationError(Code.OP_BODY, f"{ascii(claims.op)[:40]} changes no payload")
    slip, run = chain.slip.copy(), chain.run
    if claims.ins and claims.op != "insert":
        raise VerificationError(Code.INSERT, f"{ascii(claims.op)[:40]} inserts no steps")
    over = chain.over and claims.op != "replay"
    if over and claims.op not in KEEP_SLIP:
        raise VerificationError(Code.ORDER, "its compensation is through, and only a replay goes on from there")
    if claims.back is not None and claims.op != "replay":
        raise VerificationError(Code.OP_BODY, f"{ascii(claims.op)[:40]} does not go back")
    if claims.asks:
        if claims.op not in AT_HANDOFF or (slip.finished and not slip.undoing) or over:
            raise VerificationError(Code.OP_BODY, f"{ascii(claims.op)[:40]} cannot be asked of a step that runs")
        if claims.op == "insert":
            _insert(chain, slip, claims.ins, None)
        # A compensation begins when that step is handed on: with the step's own record.
        return _following(chain, claims, signed, slip, run, over)
    if claims.op == "replay":
        run += 1
        if claims.back is not None:
            if not 0 <= claims.back < chain.length:
                raise VerificationError(Code.ORDER, "it goes back to a record that is not there")
            slip = chain.past[claims.back].copy()
        slip.undoing = 0
    elif claims.op == "skip":
        if slip.undoing:
            over = not slip.undo_next()
        else:
            slip.skip()
    elif claims.op == "compensate":
        over = not slip.start_undoing()
    elif claims.op == "insert":
        _insert(chain, slip, claims.ins, None)
    elif claims.op not in KEEP_SLIP:
        raise VerificationError(Code.NOT_AUTHORIZED, f"no operation {ascii(claims.op)[:40]}")
    if claims.tok or claims.dlg is not None:
        chain = _reauthorized(chain, claims)
    return _following(chain, claims, signed, slip, run, over)


def _reauthorized(chain: Chain, claims: Operation) -> Chain:
    before, after = chain.delegation, claims.dlg
    if claims.op != "release" or not claims.tok or before is None or after is None:
        raise VerificationError(Code.NOT_AUTHORIZED, f"{ascii(claims.op)[:40]} hands over no token here")
    if why := before.narrowed_by(after):
        wider = (before.iss, before.sub) == (after.iss, after.sub)
        raise VerificationError(Code.SCOPE if wider else Code.NOT_AUTHORIZED, f"its new token: {why}")
    return msgspec.structs.replace(chain, token=claims.tok, delegation=after)


def _check_approval(before: Chain, after: Chain, claims: Operation, signed: Signed, trust: Trust) -> None:
    """Where the policy asks for two operators, the other one signed the same, to the last claim."""
    touched = {before.slip.current_name(), after.slip.current_name() if claims.op == "replay" else ""}
    touched.update(str(Step.from_document(_decode_step(raw), decoded=True)) for raw in claims.ins)
    if not claims.app:
        if claims.op != "hold" and any(map(trust.is_flagged, touched)):
            raise VerificationError(Code.APPROVAL, f"{ascii(claims.op)[:40]} takes a second operator there")
        return
    proposal, key = read_proposal(claims.app, trust)
    _check_key(Signed(proposal, key, ""), float(claims.iat))
    if "operator" not in key.principal.roles or not key.principal.may_operate(claims.op):
        raise VerificationError(Code.APPROVAL, f"{key.principal.name} may not propose {ascii(claims.op)[:40]}")
    if key.principal.name == signed.key.principal.name:
        raise VerificationError(Code.APPROVAL, "who proposed it and who approved it are one")
    same = msgspec.structs.replace(proposal, iss=claims.iss, iat=claims.iat, app=claims.app)
    if _encode(same) != _encode(claims):
        raise VerificationError(Code.APPROVAL, "what was proposed is something else")


def _insert(
    chain: Chain, slip: RoutingSlip, raws: Sequence[msgspec.Raw], by: Principal | None, behind: int = 0
) -> None:
    """Put steps behind the head, and behind so many more.

    ``by`` is the principal of a step; None: an operator, who may by the operation.
    """
    if not raws:
        return
    steps = [Step.from_document(_decode_step(raw), decoded=True) for raw in raws]
    for step in steps:
        if by is not None and not by.may_insert(str(step)):
            raise VerificationError(Code.INSERT, f"a step of {by.name} may not insert {step!s}")
        if not chain.scopes.issuperset(step.scopes):
            raise VerificationError(Code.SCOPE, f"inserted step {step!s} needs more than the workflow was started with")
    front = slip.itinerary[1 : 1 + behind]
    del slip.itinerary[1 : 1 + behind]
    try:
        slip.insert_next(*front, *steps)
    except InvalidMessage as error:
        raise VerificationError(Code.INSERT, str(error)) from None


def _following(
    chain: Chain, claims: StepDone | Operation, signed: Signed, slip: RoutingSlip, run: int, over: bool
) -> Chain:
    return msgspec.structs.replace(
        chain,
        length=chain.length + 1,
        head=signed.digest,
        epoch=claims.ep,
        run=run,
        # Never back: else a row of records, each a little older, would get anywhere.
        at=max(chain.at, claims.iat),
        slip=slip,
        past=(*chain.past, slip),
        asked=claims if isinstance(claims, Operation) and claims.asks else None,
        payload=claims.out,
        over=over,
        last=claims,
        signer=signed.key.principal.name,
        kid=signed.key.kid,
    )
