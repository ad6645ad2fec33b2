"""The policy: what a trust.toml can say, and the sentence for each that it cannot."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from paigeant_core.errors import ConfigError
from paigeant_core.security.chain import verify
from paigeant_core.security.keys import SigningKey
from paigeant_core.security.trust import MAX_KNOWN, Trust
from tests.core.security.kit import AT, People, Story

X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
JWK = f'{{ kty = "OKP", crv = "Ed25519", x = "{X}" }}'


def policy(folder: Path, text: str) -> Path:
    path = folder / "trust.toml"
    path.write_text(text)
    path.chmod(0o644)
    return path


def line(key: SigningKey, more: str = "") -> str:
    fields = ", ".join(f'{name} = "{value}"' for name, value in key.public_document().items())
    return f"{{ {fields}{more} }}"


def test_a_policy_is_read_whole(people: People, tmp_path: Path) -> None:
    keys = people.keys
    (tmp_path / "payments.json").write_text(json.dumps({"keys": [keys["payments"].public_document()]}))
    path = policy(
        tmp_path,
        f"""
audience = "test"

[[principal]]
name = "shop"
roles = ["dispatcher"]
keys = [
  {line(keys["shop"], ", not_after = 2100-01-01T00:00:00Z")},
  {line(keys["stranger"], ", not_before = 2100-01-01T00:00:00+02:00")},
]

[[principal]]
name = "desk"
roles = ["worker"]
activities = ["validate"]
inserts = ["*"]
keys = [{line(keys["desk"])}]

[[principal]]
name = "payments"
roles = ["worker"]
activities = ["charge", "notify"]
jwks = "payments.json"

[[principal]]
name = "ann"
roles = ["operator"]
operations = ["*"]
keys = [{line(keys["ann"], ", revoked_at = 2026-11-03T12:00:00Z")}]
""",
    )
    trust = Trust.load(path)
    assert trust.audience == "test"
    assert {key.principal.name for key in trust.keys.values()} == {"shop", "desk", "payments", "ann"}
    assert trust.keys[keys["shop"].kid].not_after == datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    assert trust.keys[keys["stranger"].kid].not_before == datetime(2099, 12, 31, 22, tzinfo=UTC).timestamp()
    assert trust.keys[keys["ann"].kid].revoked
    assert not trust.keys[keys["desk"].kid].revoked
    assert verify(Story(people).charged().records, trust, AT).length == 3


def test_a_key_is_rotated_without_losing_what_is_under_way(people: People, tmp_path: Path) -> None:
    old, new = people.keys["shop"], SigningKey.generate("shop", audience="test")
    written = Story(people).origin().records
    day = datetime.fromtimestamp(AT, UTC)
    both = """audience = "test"
[[principal]]
name = "shop"
roles = ["dispatcher"]
keys = [{old}, {new}]
"""
    # The old key is retired just after it signed.
    trust = Trust.load(
        policy(tmp_path, both.format(old=line(old, f", not_after = {day:%Y-%m-%dT%H:%M:%SZ}"), new=line(new)))
    )
    assert verify(written, trust, AT + 3600).signer == "shop"
    trust.check_signer(new, "dispatcher", AT + 3600)
    with pytest.raises(ConfigError, match="not valid now"):
        trust.check_signer(old, "dispatcher", AT + 3600)


BAD = {
    "no TOML": ("principal = [", "this is no TOML"),
    "nobody": ("", "names nobody"),
    "no tables": ("principal = [1]", "names nobody"),
    "an unknown field": ("audiense = 'x'", "unknown field 'audiense'; known are approval, audience, principal"),
    "an audience that is none": ("audience = 7", "audience 7"),
    "no name": ("[[principal]]\nroles = ['worker']", "name None"),
    "a principal's unknown field": ("[[principal]]\nname = 'a'\nrole = 'worker'", "principal a: unknown field 'role'"),
    "an unknown role": ("[[principal]]\nname = 'a'\nroles = ['boss']", "no role 'boss'; roles are dispatcher"),
    "no role": ("[[principal]]\nname = 'a'", "it has no roles"),
    "roles as text": ("[[principal]]\nname = 'a'\nroles = 'worker'", "roles must be a list"),
    "a worker of nothing": ("[[principal]]\nname = 'a'\nroles = ['worker']", "a worker needs activities"),
    "an operator of nothing": ("[[principal]]\nname = 'a'\nroles = ['operator']", "an operator needs operations"),
    "activities of no worker": (
        "[[principal]]\nname = 'a'\nroles = ['dispatcher']\nactivities = ['x']",
        "activities are for the role worker",
    ),
    "half a wildcard": ("[[principal]]\nname='a'\nroles=['worker']\nactivities=['x*']", r"'x\*' is no name"),
    "no key": ("[[principal]]\nname = 'a'\nroles = ['dispatcher']", "principal a has no key"),
    "keys that are no list": ("[[principal]]\nname='a'\nroles=['dispatcher']\nkeys='x'", "keys must be a list"),
    "a key that is none": ("[[principal]]\nname='a'\nroles=['dispatcher']\nkeys=['x']", "key 1 must be a JWK"),
    "a jwks by URL": (
        "[[principal]]\nname='a'\nroles=['dispatcher']\njwks='http://x'",
        "jwks must be an https URL",
    ),
    "a jwks that is missing": ("[[principal]]\nname='a'\nroles=['dispatcher']\njwks='n'", "there is no such file"),
}
WITH_KEY = "[[principal]]\nname = 'a'\nroles = ['dispatcher']\nkeys = [{}]"
BAD_KEYS = {
    "private": (f'{{ kty = "OKP", crv = "Ed25519", x = "{X}", d = "{X}" }}', "is a private key"),
    "short": ('{ kty = "OKP", crv = "Ed25519", x = "AAAA" }', "does not count"),
    "symmetric": ('{ kty = "oct", k = "AAAA" }', "unknown field 'k'"),
    "another curve": (f'{{ kty = "OKP", crv = "X25519", x = "{X}" }}', "must be Ed25519 or P-256"),
    "without a point": ('{ kty = "EC", crv = "P-256" }', "does not count"),
    "another alg": (JWK[:-1] + ', alg = "ES256" }', "alg is that of another kind"),
    "another use": (JWK[:-1] + ', use = "enc" }', "use is not sig"),
    "other operations": (JWK[:-1] + ', key_ops = ["encrypt"] }', "key_ops has no verify"),
    "another kid": (JWK[:-1] + ', kid = "k1" }', "kid is not its RFC 7638 thumbprint"),
    "a time as text": (JWK[:-1] + ', not_after = "soon" }', "not_after must be a time"),
    "over before it begins": (
        JWK[:-1] + ", not_before = 2027-01-01T00:00:00Z, not_after = 2026-01-01T00:00:00Z }",
        "not later than",
    ),
    "twice": (f"{JWK}, {JWK}", "stands twice"),
}


@pytest.mark.parametrize("what", [*BAD, *BAD_KEYS])
def test_a_policy_that_cannot_be_is_refused_in_a_sentence(tmp_path: Path, what: str) -> None:
    text, why = BAD[what] if what in BAD else (WITH_KEY.format(BAD_KEYS[what][0]), BAD_KEYS[what][1])
    path = policy(tmp_path, text)
    with pytest.raises(ConfigError, match=why) as caught:
        Trust.load(path)
    assert str(caught.value).startswith(str(path))
    assert X not in str(caught.value)


def test_a_principal_stands_once(tmp_path: Path) -> None:
    text = WITH_KEY.format(JWK) + "\n" + WITH_KEY.format(JWK)
    with pytest.raises(ConfigError, match="principal a stands twice"):
        Trust.load(policy(tmp_path, text))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys":7}', "[" * 10_000])
def test_a_jwk_set_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "set.json").write_text(text)
    path = policy(tmp_path, "[[principal]]\nname='a'\nroles=['dispatcher']\njwks='set.json'")
    with pytest.raises(ConfigError, match=r"set\.json"):
        Trust.load(path)


@pytest.mark.parametrize("name", ["trust.toml", "set.json"])
def test_what_others_can_change_is_refused(tmp_path: Path, name: str) -> None:
    key = SigningKey.generate("a")
    (tmp_path / "set.json").write_text(json.dumps({"keys": [key.public_document()]}))
    path = policy(tmp_path, "[[principal]]\nname='a'\nroles=['dispatcher']\njwks='set.json'")
    assert list(Trust.load(path).keys) == [key.kid]
    for mode in (0o664, 0o646):
        (tmp_path / name).chmod(mode)
        with pytest.raises(ConfigError, match="others can change it"):
            Trust.load(path)


def test_who_would_be_refused_does_not_sign(people: People) -> None:
    trust = people.trust(ben={"revoked": True})
    for name, role, activities, why in (
        ("stranger", "worker", (), "does not know the key"),
        ("ben", "operator", (), "is revoked"),
        ("shop", "worker", (), "the role worker"),
        ("payments", "worker", ("charge", "validate"), "run activity validate"),
    ):
        with pytest.raises(ConfigError, match=why):
            trust.check_signer(people.keys[name], role, AT, activities)
    other = people.trust(audience="production")
    with pytest.raises(ConfigError, match="is for audience test, the policy for production"):
        other.check_signer(people.keys["payments"], "worker", AT)
    renamed = SigningKey(people.keys["payments"]._key, "desk", "test")
    with pytest.raises(ConfigError, match="signs as desk, and belongs to payments"):
        trust.check_signer(renamed, "worker", AT)
    trust.check_signer(people.keys["payments"], "worker", AT, ("charge", "notify"))


def test_only_so_many_chains_are_remembered(people: People) -> None:
    trust = people.trust()
    chain = Story(people).origin().verify()
    for number in range(MAX_KNOWN + 1):
        trust.memory.keep(str(number).encode(), chain)
    assert trust.memory.find(b"0") is None
    assert trust.memory.find(str(MAX_KNOWN).encode()) is chain
