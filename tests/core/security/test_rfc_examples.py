"""The worked examples of the RFCs that records stand on, typed in, through the calls that records go through."""

from __future__ import annotations

from base64 import urlsafe_b64decode

import pytest
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from paigeant_core.security.keys import BAD_KEY, REGISTRIES, SigningKey, algorithm_of, import_jwk
from paigeant_core.security.records import link, read
from paigeant_core.security.refusal import Code, VerificationError
from paigeant_core.security.trust import Principal, Trust
from tests.core.security.kit import names, trusted
from tests.core.security.vectors import vectors

A_PAYLOAD = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
A1 = f"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{A_PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
A1_KEY: dict[str, str | list[str]] = {
    "kty": "oct",
    "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
}
A3 = (
    f"eyJhbGciOiJFUzI1NiJ9.{A_PAYLOAD}."
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)
A3_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",
}
ED_KEY = {
    "kty": "OKP",
    "crv": "Ed25519",
    "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}
ED_SIGNED = (
    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
    "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)


def _public(document: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in document.items() if name != "d"}


def test_rfc_7515_a_3_is_verified_by_the_public_half_and_by_no_other_algorithm() -> None:
    key = import_jwk(_public(A3_KEY))
    assert algorithm_of(key) == "ES256"
    assert jws.deserialize_compact(A3, key, registry=REGISTRIES["ES256"]).payload == urlsafe_b64decode(A_PAYLOAD + "==")
    with pytest.raises((JoseError, ValueError)):
        jws.deserialize_compact(A3, key, registry=REGISTRIES["Ed25519"])
    changed = A3.replace("eyJpc3Mi", "eyJpc3Nj")
    with pytest.raises(JoseError):
        jws.deserialize_compact(changed, key, registry=REGISTRIES["ES256"])


def test_rfc_7515_a_1_verifies_with_its_secret_and_is_no_record() -> None:
    secret = OctKey.import_key(A1_KEY)
    assert jws.deserialize_compact(A1, secret, algorithms=["HS256"]).payload == urlsafe_b64decode(A_PAYLOAD + "==")
    with pytest.raises(BAD_KEY):
        import_jwk(dict(A1_KEY))
    for registry in REGISTRIES.values():
        with pytest.raises((JoseError, ValueError)):
            jws.deserialize_compact(A1, secret, registry=registry)


def test_rfc_8037_a_4_is_the_signature_that_our_ed25519_makes() -> None:
    """Its header says EdDSA, the name that RFC 9864 replaced: the signature is the same, the header is not ours."""
    signed, _, signature = ED_SIGNED.rpartition(".")
    algorithm = REGISTRIES["Ed25519"].get_alg("Ed25519")
    raw = urlsafe_b64decode(signature + "==")
    assert algorithm.verify(signed.encode(), raw, import_jwk(_public(ED_KEY)))
    assert algorithm.sign(signed.encode(), import_jwk(dict(ED_KEY))) == raw
    with pytest.raises((JoseError, ValueError)):
        jws.deserialize_compact(ED_SIGNED, import_jwk(_public(ED_KEY)), registry=REGISTRIES["Ed25519"])


def test_rfc_8037_a_3_and_rfc_7638_give_the_names_of_keys() -> None:
    key = import_jwk(dict(ED_KEY))
    assert isinstance(key, OKPKey)
    assert SigningKey(key, "x").kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
    assert import_jwk(_public(ED_KEY)).thumbprint() == key.thumbprint()
    # RFC 7638, 3.1: an RSA key, which is none of ours; the digest of it is made by the same function.
    modulus = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3ok"
        "njhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu"
        "6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8a"
        "wapJzKnqDKgw"
    )
    document: dict[str, str | list[str]] = {
        "kty": "RSA",
        "n": modulus,
        "e": "AQAB",
        "alg": "RS256",
        "kid": "2011-04-29",
    }
    assert RSAKey.import_key(document).thumbprint() == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
    with pytest.raises(BAD_KEY):
        import_jwk(document)


def test_rfc_7520_4_4_verifies_with_its_secret_and_is_no_record() -> None:
    payload = (
        "SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwg"
        "YW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9m"
        "ZiB0by4"
    )
    token = (
        "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9."
        f"{payload}.s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0"
    )
    secret = OctKey.import_key({"kty": "oct", "k": "hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg"})
    found = jws.deserialize_compact(token, secret, algorithms=["HS256"]).payload
    assert found.decode().startswith("It’s a dangerous business, Frodo")
    ann = SigningKey.generate("ann")
    trust = Trust([trusted(ann, Principal(name="ann", roles=names("dispatcher")))])
    with pytest.raises(VerificationError) as caught:
        read(token, trust, 0)
    assert caught.value.code == Code.HEADER


def test_rfc_7520_5_is_among_the_vectors_of_wycheproof() -> None:
    figures = [vector["comment"] for group, vector in vectors("json_web_encryption") if group["comment"] == "rfc_7520"]
    assert figures == [f"Figure{number}" for number in (81, 92, 117, 128, 136, 148, 159, 170)]


def test_what_is_signed_is_the_text_before_the_last_dot() -> None:
    """RFC 7515, 5.1: the next record names what this one's signature covers, and not the signature."""
    key = ECKey.generate_key("P-256")
    record = SigningKey(key, "x").sign("paigeant-step+jws", b"{}")
    again = SigningKey(key, "x").sign("paigeant-step+jws", b"{}")
    assert record != again  # ECDSA takes a new number each time
    assert link(record) == link(again)
