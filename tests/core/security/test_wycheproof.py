"""Google's vectors of what goes wrong with JOSE, through the very calls that records and keys go through.

The counts are asserted, so that a vector that is passed over is seen; every exception is named with its reason.
"""

from __future__ import annotations

import contextlib
import os
from base64 import urlsafe_b64encode
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwe, jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, import_key

from paigeant_core.security.keys import BAD_KEY, REGISTRIES, algorithm_of, import_jwk, signature_holds
from paigeant_core.security.records import _COMPACT, _canonical, read
from paigeant_core.security.refusal import VerificationError
from paigeant_core.security.trust import Principal, Trust, TrustedKey
from tests.core.security import vectors as data
from tests.core.security.kit import names
from tests.core.security.vectors import vectors

_FOREIGN_KEYS = ("oct", "RSA")


def _documents(group: dict[str, Any]) -> list[dict[str, Any]]:
    """The keys of a group, without the name that the vectors gave them: with us it is the thumbprint."""
    whole = group.get("public") or group["private"]
    keys: list[dict[str, Any]] = whole.get("keys", [whole])
    return [{name: value for name, value in key.items() if name != "kid"} for key in keys]


def _ours(document: dict[str, Any]) -> bool:
    return document["kty"] not in _FOREIGN_KEYS and document.get("crv") in ("Ed25519", "P-256")


def _verifies(token: str, document: dict[str, Any]) -> bool:
    """By the way that a record goes, or by the library's own."""
    try:
        key = import_jwk(document)
    except BAD_KEY:
        return False
    algorithm = algorithm_of(key)
    return _read(token, key, algorithm) or _deserialized(token, key, algorithm)


def _read(token: str, key: OKPKey | ECKey, algorithm: str) -> bool:
    """As `records.read` does it, but for the header: theirs has not our three members."""
    signed, _, signature = token.rpartition(".")
    header, _, payload = signed.partition(".")
    if not _COMPACT.match(token) or not all(map(_canonical, (header, payload, signature))):
        return False
    document = jws.extract_compact(token.encode()).headers()
    if document.get("alg") != algorithm or not document.keys() <= {"alg", "typ", "kid"}:
        return False
    return signature_holds(signed, signature, key, algorithm)


def _deserialized(token: str, key: OKPKey | ECKey, algorithm: str) -> bool:
    try:
        jws.deserialize_compact(token, key, registry=REGISTRIES[algorithm])
    except (JoseError, ValueError):
        return False
    return True


@pytest.mark.parametrize(
    ("name", "invalid", "ours", "foreign"),
    [
        ("json_web_signature", 355, 2, 44),
        ("json_web_key", 21, 0, 5),
        ("json_web_crypto", 45, 1, 3),
    ],
)
def test_signatures(name: str, invalid: int, ours: int, foreign: int) -> None:
    """Refused: all that are invalid, and valid ones with a kind of key that is not one of our two."""
    found: Counter[str] = Counter()
    for group, vector in vectors(name):
        if "jws" not in vector:
            continue
        documents = _documents(group)
        accepted = any(_verifies(vector["jws"], document) for document in documents)
        where = f"{name} {vector['tcId']} {vector['comment']}"
        if vector["result"] == "invalid":
            assert not accepted, where
            found["invalid"] += 1
        elif any(map(_ours, documents)) and _is_ours(vector["jws"]):
            assert accepted, where
            assert all(_read(vector["jws"], import_jwk(document), "ES256") for document in documents), where
            found["ours"] += 1
        else:
            assert not accepted, where
            found["foreign"] += 1
    assert found == Counter(invalid=invalid, ours=ours, foreign=foreign)


def _is_ours(token: str) -> bool:
    return any(jws.extract_compact(token.encode()).headers()["alg"] == algorithm for algorithm in REGISTRIES)


def test_no_signature_of_the_vectors_is_a_record() -> None:
    """401 tokens of others: whatever their keys, none has the header of a record."""
    count = 0
    for group, vector in vectors("json_web_signature"):
        keys = []
        for document in _documents(group):
            with contextlib.suppress(*BAD_KEY):
                keys.append(_trusted(import_jwk(document)))
        trust = Trust(keys)
        for index in (0, 1):
            with pytest.raises(VerificationError):
                read(vector["jws"], trust, index)
        count += 1
    assert count == 401


def _trusted(key: OKPKey | ECKey) -> TrustedKey:
    everything = Principal(name="x", roles=names("dispatcher", "worker"), activities=names("*"))
    return TrustedKey(kid=key.thumbprint(), algorithm=algorithm_of(key), key=key, principal=everything)


@pytest.mark.parametrize(
    ("name", "algorithm", "valid", "invalid"),
    [
        ("ed25519", "Ed25519", 88, 63),
        ("ecdsa_secp256r1_sha256_p1363", "ES256", 173, 89),
    ],
)
def test_bare_signatures(name: str, algorithm: str, valid: int, invalid: int) -> None:
    """What joserfc calls for the signature of a record, by the registry that records go through."""
    verify = REGISTRIES[algorithm].get_alg(algorithm).verify
    found: Counter[str] = Counter()
    for group, vector in vectors(name):
        accepted = verify(bytes.fromhex(vector["msg"]), bytes.fromhex(vector["sig"]), import_jwk(_public(group)))
        assert accepted == (vector["result"] == "valid"), f"{name} {vector['tcId']} {vector['comment']}"
        found[vector["result"]] += 1
    assert found == Counter(valid=valid, invalid=invalid)


def _public(group: dict[str, Any]) -> dict[str, str]:
    if "pk" in group["publicKey"]:
        return {"kty": "OKP", "crv": "Ed25519", "x": _segment(bytes.fromhex(group["publicKey"]["pk"]))}
    point = bytes.fromhex(group["publicKey"]["uncompressed"])[1:]
    return {"kty": "EC", "crv": "P-256", "x": _segment(point[:32]), "y": _segment(point[32:])}


def _segment(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


# RFC 7520, figure 170: its plaintext is compressed, and this program never inflates what others sent.
_NOT_DECRYPTED = {"json_web_encryption": {135: "zip"}}


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")  # the vectors use what is deprecated, too
@pytest.mark.parametrize(("name", "invalid", "valid"), [("json_web_encryption", 74, 64), ("json_web_crypto", 32, 2)])
def test_encryption(name: str, invalid: int, valid: int) -> None:
    """A registry of one algorithm, that of the key, and the key given: as tokens are opened."""
    found: Counter[str] = Counter()
    exceptions = _NOT_DECRYPTED.get(name, {})
    for group, vector in vectors(name):
        if "jwe" not in vector:
            continue
        plain = _decrypted(vector["jwe"], group["private"])
        where = f"{name} {vector['tcId']} {vector['comment']}"
        if vector["tcId"] in exceptions:
            assert plain is None, where
            continue
        assert (plain is not None) == (vector["result"] == "valid"), where
        assert plain is None or "pt" not in vector or plain.hex() == vector["pt"], where
        found[vector["result"]] += 1
    assert found == Counter(invalid=invalid, valid=valid)


_ENCRYPTIONS = ["A128CBC-HS256", "A192CBC-HS384", "A256CBC-HS512", "A128GCM", "A192GCM", "A256GCM"]


def _decrypted(token: str, document: dict[str, Any]) -> bytes | None:
    # Of a key that is used as it is (figure 136), `alg` tells what is encrypted with it.
    algorithm = "dir" if document["alg"] in _ENCRYPTIONS else document["alg"]
    registry = jwe.JWERegistry(algorithms=[algorithm, *_ENCRYPTIONS])
    try:
        return jwe.decrypt_compact(token, import_key(document), registry=registry).plaintext
    except (JoseError, ValueError, TypeError):
        return None


def test_without_the_vectors_ci_fails_and_others_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "FOLDER", Path("/nowhere"))
    data.groups.cache_clear()
    try:
        monkeypatch.setitem(os.environ, "CI", "true")
        with pytest.raises(pytest.fail.Exception, match="are absent"):
            data.groups("ed25519")
        monkeypatch.delitem(os.environ, "CI")
        with pytest.raises(pytest.skip.Exception, match="beside the checkout"):
            data.groups("ed25519")
    finally:
        data.groups.cache_clear()


def test_hmac_is_no_algorithm_of_ours() -> None:
    """Therefore the 174 HMAC vectors run through nothing here."""
    assert not any(algorithm.startswith("HS") for algorithm in REGISTRIES)
