"""`keygen`: what it prints is public, and what it writes is for its owner alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from paigeant_core.security.keys import SigningKey
from paigeant_core.security.trust import Trust
from tests.cli.conftest import Cli


@pytest.mark.parametrize("algorithm", ["Ed25519", "ES256"])
def test_the_line_it_prints_makes_a_policy(here: Cli, tmp_path: Path, algorithm: str) -> None:
    done = here("keygen", "shop.json", "--name", "shop", "--algorithm", algorithm, "--audience", "test").ended(0)
    jwk, line = done.out.splitlines()
    path = tmp_path / "trust.toml"
    path.write_text(f'audience = "test"\n[[principal]]\nname = "shop"\nroles = ["dispatcher"]\n{line}\n')
    path.chmod(0o644)
    key = SigningKey.load("shop.json")
    assert list(Trust.load(path).keys) == [key.kid]
    assert json.loads(jwk) == key.public_document()
    assert (key.name, key.audience, key.algorithm) == ("shop", "test", algorithm)
    secret = json.loads(Path("shop.json").read_text())["d"]
    assert secret not in done.out + done.err
    assert Path("shop.json").stat().st_mode & 0o777 == 0o600


def test_it_speaks_json(here: Cli) -> None:
    document = here("keygen", "shop.json", "--name", "shop", "--json").ended(0).document
    assert document["schema"] == 1
    assert document["kid"] == document["jwk"]["kid"] == SigningKey.load("shop.json").kid
    assert (document["file"], document["name"], document["audience"]) == ("shop.json", "shop", "")
    assert document["trust"].startswith("keys = [{ kty = ")
    assert "d" not in document["jwk"]


def test_a_key_is_never_written_over(here: Cli) -> None:
    here("keygen", "shop.json", "--name", "shop").ended(0)
    before = Path("shop.json").read_bytes()
    here("keygen", "shop.json", "--name", "shop").ended(2).said("shop.json", "never written over")
    assert Path("shop.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "--name"),
        (["--name", "a b"], "name 'a b'"),
        (["--name", "shop", "--algorithm", "RS256"], "use Ed25519 or ES256"),
        (["--name", "shop", "--audience", "/"], "audience '/'"),
    ],
)
def test_what_cannot_be_leaves_no_file(here: Cli, arguments: list[str], why: str) -> None:
    here("keygen", "shop.json", *arguments).ended(2).said(why)
    assert not Path("shop.json").exists()
