"""Tokens encrypted for a topic: who opens them, for which workflow, and what is refused."""

from __future__ import annotations

import json
import pickle
from base64 import urlsafe_b64decode, urlsafe_b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.jwk import OctKey, OKPKey

from paigeant_core.errors import ConfigError
from paigeant_core.secret import Secret
from paigeant_core.security.keys import SigningKey
from paigeant_core.security.refusal import VerificationError
from paigeant_core.tokens import TopicKey
from paigeant_core.tokens.topic_key import kid_of

KEY = TopicKey.generate()
TOKEN = Secret("a token of some length")


def public(key: TopicKey = KEY) -> TopicKey:
    return TopicKey.from_document(key.public_document())


@given(st.text(max_size=500), st.text(min_size=1, max_size=20))
def test_the_public_half_seals_and_the_whole_opens(token: str, workflow: str) -> None:
    sealed = public().seal(workflow, Secret(token))
    assert kid_of(sealed) == KEY.kid
    assert KEY.open(workflow, sealed) == Secret(token)


def test_a_header_says_what_was_used_and_nothing_is_compressed() -> None:
    header = json.loads(urlsafe_b64decode(KEY.seal("w", TOKEN).split(".")[0] + "=="))
    assert {name: header[name] for name in ("alg", "enc", "typ", "kid")} == {
        "alg": "ECDH-ES+A256KW",
        "enc": "A256GCM",
        "typ": "paigeant-token+jwe",
        "kid": KEY.kid,
    }
    assert set(header) == {"alg", "enc", "typ", "kid", "epk"}


def test_the_public_half_opens_nothing() -> None:
    assert (KEY.opens, public().opens) == (True, False)
    with pytest.raises(VerificationError):
        public().open("w", KEY.seal("w", TOKEN))


def test_a_token_pasted_into_another_workflow_does_not_open() -> None:
    with pytest.raises(VerificationError, match="another workflow") as refused:
        KEY.open("other", KEY.seal("w", TOKEN))
    assert refused.value.code == "splice"


@pytest.mark.parametrize("part", range(5))
def test_one_bit_that_was_changed_is_enough(part: int) -> None:
    parts = KEY.seal("w", TOKEN).split(".")
    data = bytearray(urlsafe_b64decode(parts[part] + "=="))
    data[-2 if part else 12] ^= 1
    parts[part] = urlsafe_b64encode(data).rstrip(b"=").decode()
    with pytest.raises(VerificationError) as refused:
        KEY.open("w", ".".join(parts))
    assert refused.value.code == "token_digest"
    assert TOKEN.reveal() not in str(refused.value)


def _sealed(plain: bytes, **header: str) -> str:
    fields = {"alg": "ECDH-ES+A256KW", "enc": "A256GCM", "typ": "paigeant-token+jwe", "kid": KEY.kid} | header
    registry = jwe.JWERegistry(algorithms=[fields["alg"], fields["enc"], *([fields["zip"]] if "zip" in fields else [])])
    key = OKPKey.import_key(KEY.public_document() | {"use": "enc"})
    return jwe.encrypt_compact(fields, plain, key, registry=registry)


GOOD = json.dumps({"wf": "w", "tok": "t"}).encode()


def test_the_helper_of_the_next_test_seals_as_a_topic_key_does() -> None:
    assert KEY.open("w", _sealed(GOOD)) == Secret("t")


@pytest.mark.parametrize(
    "sealed",
    [
        _sealed(GOOD, zip="DEF"),
        _sealed(GOOD, enc="A128GCM"),
        _sealed(GOOD, alg="ECDH-ES"),
        _sealed(GOOD, alg="ECDH-ES+A128KW"),
        _sealed(GOOD, typ="JWT"),
        _sealed(b"t"),
        _sealed(b'{"wf":"w"}'),
        _sealed(b'{"wf":"w","tok":5}'),
        _sealed(b"[" * 100_00),
        jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM"}, GOOD, OctKey.generate_key(256)),
    ],
    ids=["zip", "enc", "no wrapping", "wrapping", "typ", "no JSON", "no tok", "tok of another kind", "deep", "dir"],
)
def test_what_another_than_a_topic_key_sealed_is_refused(sealed: str) -> None:
    with pytest.raises(VerificationError):
        KEY.open("w", sealed)


@given(st.text(max_size=300) | st.from_regex(r"[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]*){0,5}"))
def test_what_is_no_jwe_is_refused_and_raises_nothing_else(text: str) -> None:
    for read in (kid_of, lambda sealed: KEY.open("w", sealed)):
        with pytest.raises(VerificationError):
            read(text)


def test_a_key_goes_to_a_file_and_comes_back(tmp_path: Path) -> None:
    path, half = tmp_path / "topic.json", tmp_path / "public.json"
    KEY.save(path)
    half.write_text(json.dumps(KEY.public_document()))
    half.chmod(0o644)
    assert path.stat().st_mode & 0o777 == 0o600
    assert TopicKey.load(path).open("w", TopicKey.load(half).seal("w", TOKEN)) == TOKEN
    with pytest.raises(ConfigError, match="never written over"):
        KEY.save(path)


def test_a_whole_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "topic.json"
    KEY.save(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="others can read it"):
        TopicKey.load(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kty":"OKP","crv":"X25519","x":"AA"}', '"x"'])
def test_a_file_without_a_topic_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "topic.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="this is no topic key"):
        TopicKey.load(path)


def test_a_file_with_halves_of_two_keys_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "topic.json"
    KEY.save(path)
    document = json.loads(path.read_text()) | {"x": TopicKey.generate().public_document()["x"]}
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="this is no topic key"):
        TopicKey.load(path)
    with pytest.raises(ValueError, match="public half of d"):
        TopicKey.from_document(document)


def test_a_key_that_signs_is_no_topic_key(tmp_path: Path) -> None:
    SigningKey.generate("shop").save(tmp_path / "shop.json")
    with pytest.raises(ConfigError, match="this is no topic key"):
        TopicKey.load(tmp_path / "shop.json")


def test_a_key_shows_and_pickles_nothing() -> None:
    assert repr(KEY) == f"<TopicKey {KEY.kid}>"
    assert repr(public()) == f"<TopicKey {KEY.kid} (public)>"
    with pytest.raises(TypeError):
        pickle.dumps(KEY)
