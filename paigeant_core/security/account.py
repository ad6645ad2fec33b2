"""An account of a message's records, one by one: who signed what, and where trust ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from paigeant_core.errors import ConfigError, MessageError
from paigeant_core.message import PaigeantMessage
from paigeant_core.security.chain import MAX_CHAIN, Chain, check_message, extend
from paigeant_core.security.records import Origin, StepDone
from paigeant_core.security.refusal import Code, VerificationError
from paigeant_core.security.trust import Trust

VALID: Final = "valid"
UNCHECKED: Final = "unchecked"
"""What stands behind a record that was refused: nothing can be said of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One record.

    Attributes:
        index: its place, 0….
        kind: ``origin``, ``step`` or ``operation``; empty: not known.
        name: the activity or the operation.
        result: of a step ``done``, ``failed`` or ``undone``; of an operation its reason.
        hop: of a step; else 0.
        signer: the principal whose key signed it.
        kid: the key.
        at: when, by the signer's clock, seconds since the Unix epoch.
        status: :data:`VALID`, :data:`UNCHECKED` or the code of its refusal.
    """

    index: int
    kind: str = ""
    name: str = ""
    result: str = ""
    hop: int = 0
    signer: str = ""
    kid: str = ""
    at: int = 0
    status: str = UNCHECKED


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """All records of a message, and the verdict.

    Attributes:
        entries: the records, oldest first.
        status: :data:`VALID`, or the code of the first refusal.
        reason: why, in a sentence; empty: valid.
    """

    entries: tuple[Entry, ...]
    status: str
    reason: str = ""


def account(body: bytes, trust: Trust | None, now: float, at: float) -> Account:
    """Go through the records of a message; never raises for what it holds.

    Args:
        body: the message's bytes.
        trust: the policy; None: there is none, and without one it can only be told that there are no records.
        now: the time, seconds since the Unix epoch.
        at: when the message was journalled; its deadline is looked at as of then.

    Raises:
        ConfigError: there are records, and no policy.
    """
    entries: list[Entry] = []
    records: list[str] = []
    chain: Chain | None = None
    try:
        message = PaigeantMessage.decode(body)
        records = message.records[:MAX_CHAIN]
        if not records:
            raise VerificationError(Code.UNSIGNED, "it carries no signature")
        if trust is None:
            raise ConfigError("to verify signed records takes a trust policy: set PAIGEANT_TRUST to a trust.toml")
        if len(message.records) > MAX_CHAIN:
            raise VerificationError(Code.TOO_LARGE, f"{len(message.records)} records, the cap is {MAX_CHAIN}")
        for record in records:
            chain = extend(chain, record, trust, now)
            entries.append(_entry(chain))
        assert chain is not None
        check_message(chain, message, at)
    except MessageError as refused:
        index = len(entries)
        if index < len(records):
            entries.append(Entry(index=index, status=refused.code))
            entries += [Entry(index=later) for later in range(index + 1, len(records))]
        return Account(entries=tuple(entries), status=refused.code, reason=str(refused))
    return Account(entries=tuple(entries), status=VALID)


def _entry(chain: Chain) -> Entry:
    claims = chain.last
    if isinstance(claims, Origin):
        kind, name, result, hop = "origin", "", "", 0
    elif isinstance(claims, StepDone):
        kind, name, result, hop = "step", claims.step, claims.res, claims.hop
    else:
        kind, name, result, hop = "operation", claims.op, claims.reason, 0
    return Entry(
        index=chain.length - 1,
        kind=kind,
        name=name,
        result=result,
        hop=hop,
        signer=chain.signer,
        kid=chain.kid,
        at=claims.iat,
        status=VALID,
    )
