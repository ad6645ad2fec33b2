"""One signed record: its three kinds, how it is written, and how it is read strictly.

A record is a compact JWS. Its header has exactly ``alg``, ``typ`` and ``kid``, its
payload is one JSON object of the fields below. Times are whole seconds since the Unix
epoch; digests are SHA-256 in base64url without padding, of exact bytes.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Annotated, Any, Final, NamedTuple, TypeAlias

import msgspec

from paigeant_core.delegation import Delegation
from paigeant_core.errors import MessageTooLarge
from paigeant_core.limits import MAX_COUNT
from paigeant_core.security.keys import MAX_RECORD, Signer, segment, signature_holds
from paigeant_core.security.refusal import Code, VerificationError
from paigeant_core.security.trust import Trust, TrustedKey

ORIGIN: Final = "paigeant-origin+jws"
STEP: Final = "paigeant-step+jws"
OPERATION: Final = "paigeant-op+jws"
PROPOSAL: Final = "paigeant-proposal+jws"
"""An operation that waits for a second operator; never a record of a chain."""

MAX_HEADER: Final = 512
"""Characters of a protected header: three short members, and what was read is kept for a while."""

_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")
_LAST: Final = {0: "", 2: "AQgw", 3: "AEIMQUYcgkosw048"}
"""What a segment can end with, by its length modulo 4: base64url has one form for given bytes."""

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
"""Not any integer: a time of 400 digits cannot be compared with a clock."""


class _Common(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    iss: str
    """The principal."""
    iat: _Count
    """When it was signed."""
    wf: str
    """The correlation ID."""
    n: _Count
    """The place in the chain, 0…."""
    ep: _Count
    """The workflow's epoch."""
    out: str
    """Digest of the payload after it."""


class Origin(_Common, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who started the workflow, with what."""

    topic: str
    aud: str
    """The environment."""
    slip: msgspec.Raw
    """The routing slip, nothing executed."""
    exp: _Count = 0
    """The deadline; 0: none."""
    tok: str = ""
    """Digest of what carries the on-behalf-of token; empty: none."""
    dlg: Delegation | None = None
    """On whose behalf it runs, without the carrier."""
    parent: str = msgspec.field(default="", name="par")
    """Of which workflow it is a copy, and at which of its records: ID, space, digest; empty: of none."""


class StepDone(_Common, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who did a step, and what became of it."""

    prev: str
    """Digest of the record before: of what its signature covers."""
    before: str = msgspec.field(name="in")
    """Digest of the payload before it."""
    step: str
    """The activity."""
    hop: _Count
    att: _Count
    res: str
    """``done``; ``failed``: its failure began the compensation; ``undone``."""
    ins: list[msgspec.Raw] = []
    """Steps inserted behind it."""
    fin: bool = False
    """Whether the rest of the itinerary was left out."""
    behind: int = msgspec.field(default=0, name="beh")
    """How many steps, put there by the operation before it, stay in front of those."""


class Operation(_Common, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who intervened, how and why; ``prev`` and ``in`` say what the operator saw."""

    prev: str
    before: str = msgspec.field(name="in")
    op: str
    reason: str
    id: str = ""
    """The operation, as the audit knows it."""
    ins: list[msgspec.Raw] = []
    """Steps that it inserts."""
    back: _Count | None = None
    """Of a replay: the record as of which the workflow goes on; None: as of the last one."""
    asks: bool = False
    """Asked of a step that runs, and done when it is handed on."""
    app: str = ""
    """What the operator who proposed it signed: the same as this, as a JWS of its own; empty: nobody did."""
    tok: str = ""
    """Of a release that hands over another token: digest of what carries it."""
    dlg: Delegation | None = None
    """And on whose behalf it goes on: the same user's, for no more."""


Claims: TypeAlias = Origin | StepDone | Operation

_TYPES: Final[dict[str, type[Claims]]] = {ORIGIN: Origin, STEP: StepDone, OPERATION: Operation}
_TYP_OF: Final[dict[type[Claims], str]] = {kind: typ for typ, kind in _TYPES.items()}
_DECODERS: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    typ: msgspec.json.Decoder(kind) for typ, kind in _TYPES.items()
}
_FIRST: Final = (ORIGIN,)
_LATER: Final = (STEP, OPERATION)
_BAD_JSON: Final = (msgspec.MsgspecError, ValueError, RecursionError)


class Signed(NamedTuple):
    """A record whose signature holds."""

    claims: Claims
    key: TrustedKey
    digest: str
    """What the next record names as ``prev``."""


def digest(data: bytes) -> str:
    """SHA-256 of exact bytes, as records write it."""
    return segment(sha256(data).digest())


def link(record: str) -> str:
    """What the record behind ``record`` names as ``prev``.

    Without the signature: an ES256 signature has two valid forms, and both are of the
    same record.
    """
    return digest(record.rpartition(".")[0].encode())


def sign(key: Signer, claims: Claims) -> str:
    """``claims`` as a record.

    Raises:
        MessageTooLarge: it would be over its cap.
    """
    record = key.sign(_TYP_OF[type(claims)], msgspec.json.encode(claims))
    if len(record) > MAX_RECORD:
        raise MessageTooLarge(f"a signed record would be {len(record)} characters, the cap is {MAX_RECORD}")
    return record


def read(record: str, trust: Trust, index: int) -> Signed:
    """Look at one record by itself: form, header, key, signature, claims.

    Nothing of the payload is parsed before its signature holds.

    Args:
        record: the compact JWS.
        trust: the policy.
        index: where in the chain it stands.

    Raises:
        VerificationError: why it does not count.
    """
    typ, key, body = open_record(record, trust, index, _LATER if index else _FIRST)
    try:
        claims: Claims = _DECODERS[typ].decode(body)
        # What is written as we write it, and holds no other object, has no name twice: no need to parse it again.
        if body.count(b"{") > 1 or msgspec.json.encode(claims) != body:
            _no_name_twice(body)
    except _BAD_JSON:
        raise VerificationError(Code.MALFORMED, "its claims cannot be read", index) from None
    return Signed(claims, key, link(record))


def open_record(record: str, trust: Trust, index: int, types: Sequence[str]) -> tuple[str, TrustedKey, bytes]:
    """Look at a compact JWS: form, header, key, signature; nothing of its payload is looked at.

    Args:
        record: the JWS.
        trust: the policy.
        index: where it stands, for the refusal.
        types: which it may have.

    Returns:
        Its type, the key and the payload.

    Raises:
        VerificationError: why it does not count.
    """
    if len(record) > MAX_RECORD:
        raise VerificationError(Code.TOO_LARGE, f"{len(record)} characters, the cap is {MAX_RECORD}", index)
    if not _COMPACT.match(record):
        raise VerificationError(Code.MALFORMED, "no compact JWS", index)
    header, payload, signature = record.split(".")
    if not (_canonical(header) and _canonical(payload) and _canonical(signature)):
        raise VerificationError(Code.MALFORMED, "base64url in another than its one form", index)
    found = _header(header) if len(header) <= MAX_HEADER else None
    if found is None:
        raise VerificationError(Code.HEADER, "its header is not exactly alg, typ and kid", index)
    algorithm, typ, kid = found
    if typ not in types:
        raise VerificationError(Code.TYP, f"a record of type {ascii(typ)[:60]} cannot stand here", index)
    key = trust.keys.get(kid)
    if key is None:
        raise VerificationError(Code.UNKNOWN_KEY, f"the trust policy has no key {ascii(kid)[:60]}", index)
    if algorithm != key.algorithm:
        raise VerificationError(Code.ALG, f"algorithm {ascii(algorithm)[:40]}, and the key is {key.algorithm}", index)
    signed = record[: -len(signature) - 1]
    if not signature_holds(signed, signature, key.key, algorithm):
        raise VerificationError(Code.SIGNATURE, f"not signed by {key.principal.name}'s key {kid}", index)
    return typ, key, urlsafe_b64decode(payload + "=" * (-len(payload) % 4))


def _canonical(segment: str) -> bool:
    ends = _LAST.get(len(segment) % 4)
    return ends is not None and (not ends or segment[-1] in ends)


@lru_cache(maxsize=1024)
def _header(segment: str) -> tuple[str, str, str] | None:
    # A few keys sign everything, so a header is parsed once.
    try:
        document = json.loads(
            urlsafe_b64decode(segment + "=" * (-len(segment) % 4)), object_pairs_hook=_unique, parse_constant=_refused
        )
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.keys() != {"alg", "typ", "kid"}:
        return None
    algorithm, typ, kid = document["alg"], document["typ"], document["kid"]
    if not (isinstance(algorithm, str) and isinstance(typ, str) and isinstance(kid, str)):
        return None
    return algorithm, typ, kid


def _no_name_twice(data: bytes) -> None:
    # Of two members with one name every reader takes the one it likes. Numbers stay text: some cannot be had.
    json.loads(data, object_pairs_hook=_unique, parse_constant=_refused, parse_int=str, parse_float=str)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name twice")
    return document


def _refused(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def propose(key: Signer, claims: Operation) -> str:
    """``claims`` as what a second operator is asked to sign as well."""
    return key.sign(PROPOSAL, msgspec.json.encode(claims))


def read_proposal(record: str, trust: Trust) -> tuple[Operation, TrustedKey]:
    """What was proposed, and by whose key.

    Raises:
        VerificationError: why it does not count.
    """
    _, key, body = open_record(record, trust, -1, (PROPOSAL,))
    try:
        _no_name_twice(body)
        return msgspec.json.decode(body, type=Operation), key
    except _BAD_JSON:
        raise VerificationError(Code.MALFORMED, "the proposal's claims cannot be read") from None
