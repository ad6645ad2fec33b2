"""What is known of a token, and when another may take its place."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant_core.delegation import MAX_TOKEN, Delegation, delegation_of, token_digest
from paigeant_core.errors import InvalidMessage
from paigeant_core.secret import Secret
from tests.core.tokens.kit import ISSUER, jwt


def of(token: str, scopes: list[str] | None = None) -> Delegation:
    return delegation_of(Secret(token), scopes)


def test_a_jwt_tells_who_what_and_until_when() -> None:
    token = jwt("pay notify pay", sub="ann", exp=2_000_000_000)
    assert of(token) == Delegation(
        iss=ISSUER, sub="ann", scope=("pay", "notify"), exp=2_000_000_000, tok=token_digest(token)
    )


@pytest.mark.parametrize(
    ("claims", "scope"),
    [
        ({"scope": ["a", "b"]}, ("a", "b")),
        ({"scope": None, "scp": "a b"}, ("a", "b")),
        ({"scope": None, "scp": ["a"]}, ("a",)),
        ({"scope": ""}, ()),
        ({"scope": None}, None),
        ({"scope": 5}, None),
        ({"scope": ["a", 5]}, None),
    ],
)
def test_scopes_come_in_more_than_one_form(claims: dict[str, Any], scope: tuple[str, ...] | None) -> None:
    assert of(jwt(**claims)).scope == scope


@given(st.text(max_size=200))
def test_any_other_text_is_a_token_that_tells_nothing(token: str) -> None:
    assert of(token) == Delegation(tok=token_digest(token))


@pytest.mark.parametrize("claims", ['"text"', "5", "[]", "{", "[" * 5000])
def test_a_jwt_without_claims_tells_nothing(claims: str) -> None:
    from base64 import urlsafe_b64encode

    token = f"e30.{urlsafe_b64encode(claims.encode()).decode()}.x"
    assert of(token) == Delegation(tok=token_digest(token))


@pytest.mark.parametrize("exp", [True, "soon", -1, 1e13, 253_402_300_800, float("inf"), float("nan")])
def test_a_time_that_cannot_be_is_none(exp: Any) -> None:
    assert delegation_of(Secret(_with_exp(exp))).exp == 0


def _with_exp(exp: Any) -> str:
    import json
    from base64 import urlsafe_b64encode

    return f"e30.{urlsafe_b64encode(json.dumps({'exp': exp}).encode()).decode()}.x"


def test_scopes_can_be_said_and_narrowed_and_not_widened() -> None:
    assert of("opaque", ["a", "b", "a"]).scope == ("a", "b")
    assert of(jwt("a b"), ["b"]).scope == ("b",)
    with pytest.raises(InvalidMessage, match="name more than the token permits: c"):
        of(jwt("a b"), ["b", "c"])
    for wrong in ("a b", ["a b"], [""], [5], ["\n"], ["x"] * 101):
        with pytest.raises(InvalidMessage):
            of("opaque", wrong)  # type: ignore[arg-type]


def test_a_token_has_a_cap() -> None:
    with pytest.raises(InvalidMessage, match="16385 characters"):
        of("x" * (MAX_TOKEN + 1))


def test_only_a_token_of_the_same_user_for_no_more_takes_the_place_of_one() -> None:
    before = of(jwt("pay notify"))
    assert before.narrowed_by(of(jwt("pay"))) == ""
    assert before.narrowed_by(of(jwt("pay notify"))) == ""
    assert "more than the one before: admin" in before.narrowed_by(of(jwt("pay admin")))
    assert "another user" in before.narrowed_by(of(jwt("pay", sub="bob")))
    assert "another issuer" in before.narrowed_by(of(jwt("pay", iss="https://other.example")))
    assert "does not tell its issuer" in before.narrowed_by(of("opaque"))
    assert "does not tell what it permits" in before.narrowed_by(of(jwt(None)))


def test_expiry_is_a_matter_of_the_token_that_rides() -> None:
    delegation = Delegation(exp=100)
    assert (delegation.expired(99), delegation.expired(100)) == (False, True)
    assert not Delegation().expired(1e12)
    assert not msgspec.structs.replace(delegation, vault="h").expired(200)


def test_a_summary_leaves_the_carrier_out() -> None:
    delegation = Delegation(sub="ann", tok="d")
    assert msgspec.structs.replace(delegation, jwe="e").summary() == delegation
    assert msgspec.structs.replace(delegation, vault="h").summary() == delegation
    assert delegation.summary() is delegation
