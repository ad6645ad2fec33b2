"""What is typed after `:dispatch`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant_console.model.dispatch_line import parse_dispatch
from paigeant_core.errors import InvalidMessage


def test_words_are_steps_and_pairs_are_fields() -> None:
    steps, variables = parse_dispatch(
        "validate charge customer_email=ann@example.com amount=12.5 note='two words' ok=true"
    )
    assert steps == ["validate", "charge"]
    assert variables == {"customer_email": "ann@example.com", "amount": 12.5, "note": "two words", "ok": True}


@pytest.mark.parametrize(("typed", "said"), [("", "name the steps"), ("a=1", "name the steps"), ("x =1", "no name")])
def test_what_starts_nothing_is_refused(typed: str, said: str) -> None:
    with pytest.raises(InvalidMessage, match=said):
        parse_dispatch(typed)


@given(st.text())
def test_any_line_is_understood_or_refused(typed: str) -> None:
    try:
        steps, _ = parse_dispatch(typed)
    except InvalidMessage:
        return
    assert steps
