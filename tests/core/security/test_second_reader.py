"""What we sign and verify, read by PyJWT and by bare cryptography as well: where one says no, so do we."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import OKPAlgorithm
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from paigeant_core.security.keys import REGISTRIES
from paigeant_core.security.records import read
from paigeant_core.security.refusal import VerificationError
from tests.core.security.kit import People, Story

PEOPLE = {algorithm: People(algorithm) for algorithm in REGISTRIES}
STORIES = {algorithm: Story(people).charged() for algorithm, people in PEOPLE.items()}
algorithms = st.sampled_from(sorted(REGISTRIES))


def _jws() -> PyJWS:
    jws = PyJWS()
    jws.register_algorithm("Ed25519", OKPAlgorithm())  # which it knows under the older name EdDSA (RFC 9864)
    return jws


def _pyjwt(record: str, people: People) -> bytes | None:
    """What PyJWT makes of a record, with the key that its header names; None: it refuses."""
    reader = _jws()
    try:
        kid = reader.get_unverified_header(record)["kid"]
        key: Any = people.trust().keys[kid].key.public_key
        found = reader.decode(record, key, algorithms=[people.algorithm])
    except (PyJWTError, KeyError, ValueError, TypeError):
        return None
    payload: bytes = found
    return payload


def _bare(record: str, people: People) -> bytes | None:
    """The same with no library of JOSE at all."""
    try:
        head, payload, signature = record.split(".")
        kid = json.loads(_decoded(head))["kid"]
        key = people.trust().keys[kid].key.public_key
        raw, signed = _decoded(signature), f"{head}.{payload}".encode()
        if isinstance(key, Ed25519PublicKey):
            key.verify(raw, signed)
        else:
            assert isinstance(key, EllipticCurvePublicKey)
            if len(raw) != 64:
                return None
            der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
            key.verify(der, signed, ECDSA(SHA256()))
        return _decoded(payload)
    except (ValueError, KeyError, TypeError, InvalidSignature):
        return None


def _decoded(segment: str) -> bytes:
    return urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _ours(record: str, people: People, index: int) -> bool:
    try:
        read(record, people.trust(), index)
    except VerificationError:
        return False
    return True


@pytest.mark.parametrize("algorithm", sorted(REGISTRIES))
def test_others_read_what_we_sign(algorithm: str) -> None:
    for record in STORIES[algorithm].records:
        payload = _decoded(record.split(".")[1])
        assert _pyjwt(record, PEOPLE[algorithm]) == payload
        assert _bare(record, PEOPLE[algorithm]) == payload


@pytest.mark.parametrize("algorithm", sorted(REGISTRIES))
def test_we_read_what_others_sign(algorithm: str) -> None:
    people = PEOPLE[algorithm]
    key: Any = people.keys["desk"]
    record = STORIES[algorithm].records[1]
    typ = json.loads(_decoded(record.split(".")[0]))["typ"]
    signed = _jws().encode(
        _decoded(record.split(".")[1]), key._key.private_key, algorithm, {"typ": typ, "kid": key.kid}
    )
    assert _ours(signed, people, 1)


@settings(max_examples=300)
@given(algorithm=algorithms, data=st.data())
def test_what_one_of_them_refuses_we_refuse(algorithm: str, data: st.DataObject) -> None:
    people, records = PEOPLE[algorithm], STORIES[algorithm].records
    index = data.draw(st.integers(0, len(records) - 1))
    segments = records[index].split(".")
    place = data.draw(st.sampled_from([0, 1, 2, 2]))
    how = data.draw(st.sampled_from(["bytes", "text", "other", "nothing"]))
    if how == "bytes":
        raw = bytearray(_decoded(segments[place]))
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
        segments[place] = urlsafe_b64encode(raw).rstrip(b"=").decode()
    elif how == "text":
        at = data.draw(st.integers(0, len(segments[place])))
        segments[place] = segments[place][:at] + data.draw(st.text(max_size=3)) + segments[place][at + 1 :]
    elif how == "other":
        segments[place] = records[data.draw(st.integers(0, len(records) - 1))].split(".")[place]
    record = ".".join(segments)
    verdicts = [_pyjwt(record, people) is not None, _bare(record, people) is not None]
    if _ours(record, people, index):
        assert verdicts == [True, True], "we let in what another reader refuses"
    elif how == "bytes":
        # Well-formed base64url: of the signature alone, all are of one mind.
        assert place == 0 or verdicts == [False, False], "we refuse a signature that holds"
