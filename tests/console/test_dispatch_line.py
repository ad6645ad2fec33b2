"""What is typed after `:dispatch`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from paigeant_console.model.dispatch_line import parse_dispatch, parse_pace, parse_words
from paigeant_core.errors import InvalidMessage


def test_words_are_steps_and_pairs_are_fields() -> None:
    steps, variables = parse_dispatch(
        "validate charge customer_email=ann@example.com amount=12.5 note='two words' ok=true"
    )
    assert steps == ["validate", "charge"]
    assert {name: bytes(value) for name, value in variables.items()} == {
        "customer_email": b'"ann@example.com"',
        "amount": b"12.5",
        "note": b'"two words"',
        "ok": b"true",
    }


def test_numbers_stay_as_they_were_typed() -> None:
    _, values = parse_words("release", "amt=1.10 n=1E5 long=0.12345678901234567890")
    assert [bytes(value) for value in values.values()] == [b"1.10", b"1E5", b"0.12345678901234567890"]
    assert parse_pace("retry", "rate=1.50 brake=1E1").rate == 1.5


@pytest.mark.parametrize(("typed", "said"), [("", "name the steps"), ("a=1", "name the steps"), ("x =1", "no name")])
def test_what_starts_nothing_is_refused(typed: str, said: str) -> None:
    with pytest.raises(InvalidMessage, match=said):
        parse_dispatch(typed)


@pytest.mark.parametrize(
    "typed",
    ["validate charge --var customer_email=ann@example.com", "validate --var=a=1", "--name=x validate", "-- validate"],
)
def test_options_of_the_shell_are_refused(typed: str) -> None:
    with pytest.raises(InvalidMessage, match=r"^dispatch: options are for the shell; here write the steps, then "):
        parse_dispatch(typed)
    with pytest.raises(InvalidMessage, match=r"^insert: options are for the shell; here write the steps$"):
        parse_words("insert", typed)
    with pytest.raises(InvalidMessage, match=r"^release: options are for the shell; here write field=value$"):
        parse_words("release", typed)
    with pytest.raises(InvalidMessage, match=r"^retry: only ramp, rate=N"):
        parse_pace("retry", typed)


def test_dashes_elsewhere_are_no_options() -> None:
    assert parse_dispatch("a--b -c note=--x") == (["a--b", "-c"], {"note": Raw(b'"--x"')})


@given(st.text())
def test_any_line_is_understood_or_refused(typed: str) -> None:
    try:
        steps, _ = parse_dispatch(typed)
    except InvalidMessage:
        return
    assert steps
