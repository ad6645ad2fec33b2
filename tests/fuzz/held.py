"""Readers of what lies in a broker or a file beside the messages: sealed tokens, the audit and its exported heads."""

from __future__ import annotations

import base64
import json
from functools import cache

import msgspec

from paigeant_core.delegation import delegation_of
from paigeant_core.errors import ConfigError, InvalidMessage
from paigeant_core.secret import Secret
from paigeant_core.security.audit_chain import check, read_heads
from paigeant_core.security.refusal import VerificationError
from paigeant_core.tokens.topic_key import TopicKey, kid_of
from tests.core.security.kit import People

TOKEN_WORDS = (
    b"zip",
    b"DEF",
    b"dir",
    b"ECDH-ES+A256KW",
    b"A256GCM",
    b"epk",
    b"kid",
    b"exp",
    b"scope",
    b"sub",
    b"eyJ",
    b".",
)
AUDIT_WORDS = (b'"n"', b'"prev"', b'"signature"', b'"operator"', b"\n", b'"head"', b'"topic"', b'"workflows"', b"eyJ")
_WORKFLOW = "order-1"


@cache
def _key() -> TopicKey:
    return TopicKey.generate()


@cache
def _sealed() -> str:
    return _key().seal(_WORKFLOW, Secret("a token of nobody"))


@cache
def _people() -> People:
    return People()


def token(data: bytes) -> None:
    """A sealed token opens as it was sealed or is refused; of any text as a token there is something to say."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        kid = kid_of(text)
        assert isinstance(kid, str)
        opened = _key().open(_WORKFLOW, text)
    except VerificationError:
        pass
    else:
        assert opened.reveal() == "a token of nobody"
        assert text.partition(".")[0] == _sealed().partition(".")[0]
    try:
        said = delegation_of(Secret(text))
    except InvalidMessage:
        return
    assert said.tok or not text
    assert msgspec.json.decode(msgspec.json.encode(said), type=type(said)) == said


def audit(data: bytes) -> None:
    """Whatever stands in the audit, there is a verdict on it; heads are read, or ConfigError."""
    lines = data.split(b"\n")
    try:
        heads = read_heads(data, "workflows")
    except ConfigError:
        heads = []
    for trust in (None, _people().trust()):
        verdict = check(lines, trust, heads)
        assert verdict.entries == len(lines)


def token_seeds() -> list[bytes]:
    """A sealed token, and a JWT in clear."""
    claims = {"iss": "idp", "sub": "ann", "scope": "pay mail", "exp": 1_800_000_000}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    return [_sealed().encode(), b"eyJhbGciOiJub25lIn0." + body + b".c2ln"]


def audit_seeds() -> list[bytes]:
    """Entries that follow each other, and a head."""
    entry = b'{"n":1,"at":1.0,"operator":"ann","action":"retry","prev":""}'
    head = b'{"topic":"workflows","n":1,"head":"x","at":"2026-11-28T12:00:00Z"}'
    return [entry + b"\n" + entry.replace(b'"n":1', b'"n":2'), head, entry + b"\n" + head]
