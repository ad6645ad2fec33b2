"""Keys: made, written so that nobody else can read them, read back, and refused where others could."""

from __future__ import annotations

import json
import os
import pickle
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, OKPKey

from paigeant_core.errors import ConfigError
from paigeant_core.security.keys import BAD_KEY, SigningKey, import_jwk, segment, signature_holds


@pytest.fixture(params=["Ed25519", "ES256"])
def key(request: pytest.FixtureRequest) -> SigningKey:
    return SigningKey.generate("payments", algorithm=request.param, audience="production")


def test_a_key_comes_back_from_its_file(key: SigningKey, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    key.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    loaded = SigningKey.load(path)
    assert (loaded.name, loaded.audience, loaded.algorithm) == ("payments", "production", key.algorithm)
    assert loaded.public_document() == key.public_document()


def test_the_kid_is_the_thumbprint_of_rfc_7638(key: SigningKey) -> None:
    assert key.kid == key.public_document()["kid"]
    known: dict[str, str | list[str]] = {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }  # RFC 8037, A.3
    assert SigningKey(OKPKey.import_key(known), "x").kid == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_public_half_holds_no_secret(key: SigningKey) -> None:
    assert "d" not in key.public_document()


def test_a_signature_has_one_length(key: SigningKey) -> None:
    public = import_jwk(key.public_document())
    signed, _, signature = key.sign("t", b"{}").rpartition(".")
    assert signature_holds(signed, signature, public, key.algorithm)
    raw = urlsafe_b64decode(signature + "==")
    # The same numbers with a zero in front, where a reader of numbers sees no difference.
    for longer in (raw[:32] + b"\0" + raw[32:], b"\0" + raw, raw + b"\0", raw[:-1], b""):
        assert not signature_holds(signed, segment(longer), public, key.algorithm)


def test_a_key_shows_and_pickles_no_secret(key: SigningKey, tmp_path: Path) -> None:
    key.save(tmp_path / "key.json")
    secret = json.loads((tmp_path / "key.json").read_text())["d"]
    assert secret not in repr(key)
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)


def test_a_file_is_never_written_over(key: SigningKey, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="never written over"):
        key.save(path)
    assert path.read_text() == "mine"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="never written over"):
        key.save(link)
    with pytest.raises(ConfigError, match="cannot be written"):
        key.save(tmp_path / "none" / "key.json")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o610, 0o777])
def test_a_key_that_others_can_reach_is_refused(key: SigningKey, tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.json"
    key.save(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        SigningKey.load(path)
    path.chmod(0o400)
    assert SigningKey.load(path).kid == key.kid


def test_a_key_of_another_user_is_refused(key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key.json"
    key.save(path)
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        owner = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(ConfigError, match="belongs to another user"):
        SigningKey.load(path)


def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ConfigError, match=r"no plain file|cannot be read"):
            SigningKey.load(path)
    with pytest.raises(ConfigError, match="there is no such file"):
        SigningKey.load(tmp_path / "none")


def other(document: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({name: value for name, value in (document | changes).items() if value is not None}).encode()


def test_a_file_that_holds_no_key_is_refused_without_a_word_of_it(key: SigningKey, tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    key.save(path)
    document = json.loads(path.read_text())
    for data, why in (
        (b"", "no key file"),
        (b"\xff", "no key file"),
        (b"[]", "no key file"),
        (b"[" * 10_000, "no key file"),
        (b"-----BEGIN PRIVATE KEY-----", "no key file"),
        (other(document, d="AAAA"), "no key file"),
        (other(document, x="AAAA"), "no key file"),
        (other(document, kty="oct", k="AAAA"), "no key file"),
        (other(document, kid="mine"), "no key file"),
        (other(document, use="enc"), "no key file"),
        (other(document, name=None), "no key file"),
        (other(document, d=None), "public key"),
        (other(document, name="a b"), "name 'a b'"),
        (other(document, audience=7), "audience 7"),
        (b" " * 20_000, "larger than"),
    ):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=why) as caught:
            SigningKey.load(path)
        assert document["d"] not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"name": "payments", "algorithm": "HS256"}, "use Ed25519 or ES256"),
        ({"name": "", "algorithm": "ES256"}, "name ''"),
        ({"name": "payments", "audience": "a b"}, "audience 'a b'"),
    ],
)
def test_a_key_that_cannot_be_is_not_made(arguments: dict[str, str], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        SigningKey.generate(**arguments)


def test_other_curves_are_refused() -> None:
    for key in (OKPKey.generate_key("X25519"), OKPKey.generate_key("Ed448"), ECKey.generate_key("P-384")):
        with pytest.raises(ValueError, match="neither"):
            import_jwk(key.as_dict(private=False))


def test_a_point_off_the_curve_is_refused() -> None:
    document = ECKey.generate_key("P-256").as_dict(private=False)
    document["y"] = document["x"]
    with pytest.raises(ValueError, match="curve"):
        import_jwk(document)


def test_a_private_key_whose_public_half_is_anothers_is_refused() -> None:
    """Its name would be another's, and nobody could verify what it signs."""
    one, other = (OKPKey.generate_key("Ed25519").as_dict(private=True) for _ in range(2))
    with pytest.raises(BAD_KEY):
        import_jwk(one | {"x": other["x"]})
    one, other = (ECKey.generate_key("P-256").as_dict(private=True) for _ in range(2))
    with pytest.raises(BAD_KEY):
        import_jwk(one | {"x": other["x"], "y": other["y"]})
