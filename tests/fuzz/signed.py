"""Readers of what is signed: a record, its claims, a chain, a key."""

from __future__ import annotations

import base64
import json
from functools import cache

from paigeant_core.security.account import account
from paigeant_core.security.chain import verify
from paigeant_core.security.keys import ALGORITHMS, BAD_KEY, algorithm_of, import_jwk
from paigeant_core.security.records import OPERATION, ORIGIN, STEP, digest, link, read
from paigeant_core.security.refusal import Code, VerificationError
from paigeant_core.security.trust import Trust
from tests.core.security.kit import AT, PAYLOAD, SLIP, People, Story

CODES = frozenset(Code)
_NAMES = "iss iat wf n ep out in prev step hop att res ins fin op reason done failed undone crit jwk b64 kid typ alg"
_MORE = (
    "replay skip insert compensate retry slip aud kty OKP EC crv P-256 x y d use sig key_ops scopes review arguments"
)
WORDS = (
    *(b'"%b"' % name.encode() for name in f"{_NAMES} {_MORE}".split(" ")),
    *(b"Ed25519", b"ES256", b"HS256", b"none", b"EdDSA", b'{"name":"review","scopes":["admin"]}'),
    *(ORIGIN.encode(), STEP.encode(), OPERATION.encode(), b"eyJ", b"e30", b".", b"..", b"\n"),
)


@cache
def _stories() -> tuple[Story, ...]:
    """Two whole chains of two workflows by the same people, then one with keys of the other kind."""
    made = []
    people = People("Ed25519")
    for them, workflow in ((people, "order-1"), (people, "order-2"), (People("ES256"), "order-3")):
        story = Story(them, workflow).origin(slip=SLIP | {"on_failure": "compensate"}).step("desk", "validate", 1)
        story.step("payments", "charge", 2, ins=["review"]).operate("ann", "replay", out=digest(PAYLOAD))
        made.append(story.step("payments", "review", 3).step("payments", "notify", 4, res="failed"))
    return tuple(made)


@cache
def _trust() -> Trust:
    keys = [key for story in _stories()[1:] for key in story.trust.keys.values()]
    return Trust(keys, "test")


@cache
def _genuine() -> frozenset[str]:
    return frozenset(link(record) for story in _stories() for record in story.records)


def record(data: bytes) -> None:
    """A record is one that somebody signed, or is refused with a code; the text may be any."""
    text = data.decode("utf-8", "surrogateescape")
    for index in (0, 1):
        try:
            read(text, _trust(), index)
        except VerificationError as refused:
            assert refused.code in CODES
            continue
        assert link(text) in _genuine()


def claims(data: bytes) -> None:
    """Whatever somebody with a trusted key signed is folded, or refused with a code."""
    kinds = (("shop", ORIGIN, 0), ("payments", STEP, 2), ("desk", STEP, 1), ("ann", OPERATION, 3))
    story = _stories()[0]
    by, typ, before = kinds[len(data) % len(kinds)]
    records = [*story.records[:before], story.people.keys[by].sign(typ, data)]
    try:
        chain = verify(records, Trust(story.trust.keys.values(), "test"), AT)
    except VerificationError as refused:
        assert refused.code in CODES
        return
    assert chain.length == before + 1
    assert chain.at <= AT + 120
    assert chain.slip.to_document()


def chain(data: bytes) -> None:
    """Only what people signed, in their order and whole from the start, is a chain.

    The input is an order of records: a byte each, or, after 0xff, a text up to a newline.
    """
    genuine = [record for story in _stories() for record in story.records]
    records: list[str] = []
    at = 0
    while at < len(data) and len(records) < 300:
        if data[at] != 0xFF:
            records.append(genuine[data[at] % len(genuine)])
            at += 1
            continue
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        records.append(data[at + 1 : end].decode("utf-8", "replace"))
        at = end + 1
    accepted = []
    for trust in (_trust(), Trust(_trust().keys.values(), "test")):  # with a memory, and without
        try:
            accepted.append(verify(records, trust, AT).length)
        except VerificationError as refused:
            assert refused.code in CODES
    if not accepted:
        return
    assert accepted == [len(records)] * 2, "what is remembered and what is verified anew differ"
    links = [link(record) for record in records]
    assert any(links == [link(record) for record in story.records[: len(links)]] for story in _stories())
    # The account of a message never raises, whatever its body.
    assert account(data, _trust(), AT, AT).status


def jwk(data: bytes) -> None:
    """A JWK is a key of ours with a sound point, or one of the errors that its readers expect."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(document, dict):
        return
    try:
        key = import_jwk(document)
    except BAD_KEY:
        return
    assert algorithm_of(key) in ALGORITHMS
    again = import_jwk(key.as_dict(private=False))
    assert again.thumbprint() == key.thumbprint()


def record_seeds() -> list[bytes]:
    """Records as they are signed."""
    return [record.encode() for story in _stories() for record in story.records]


def claim_seeds() -> list[bytes]:
    """What is in them; of each kind, in every length modulo four, so that each is signed by each."""
    made = []
    for record in _stories()[0].records:
        payload = record.split(".")[1]
        body = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        made += [body + b" " * more for more in range(4)]
    return made


def chain_seeds() -> list[bytes]:
    """Whole chains, mixed ones, and records written out."""
    first = _stories()[0].records
    joined = b"\xff" + "\n\xff".join(first).encode("latin-1")
    return [bytes(range(6)), bytes(range(6, 12)), bytes(range(12, 18)), bytes((0, 1, 2, 9, 4, 5)), joined]


def jwk_seeds() -> list[bytes]:
    """Public keys of both kinds, and a private one."""
    people = [_stories()[0].people, _stories()[2].people]
    made = [json.dumps(them.keys["shop"].public_document()).encode() for them in people]
    return [*made, b'{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":"nWGx"}']
