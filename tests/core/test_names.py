"""Names become queues, keys and routing keys: what they may look like."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant_core.errors import InvalidMessage
from paigeant_core.names import check_activity, check_correlation_id, check_topic, is_name, new_id

ALLOWED = frozenset(string.ascii_letters + string.digits + "_.-")


@given(st.text(max_size=70) | st.text("".join(sorted(ALLOWED)), max_size=70))
def test_a_name_is_1_to_64_letters_digits_and_three_signs(text: str) -> None:
    good = 1 <= len(text) <= 64 and set(text) <= ALLOWED
    assert is_name(text) is good
    for check in (check_activity, check_topic):
        if good:
            assert check(text) == text
        else:
            with pytest.raises(InvalidMessage):
                check(text)


@given(st.text(max_size=140) | st.text("".join(sorted(ALLOWED | {":"})), max_size=140))
def test_a_correlation_id_is_1_to_128_of_them_and_colons(text: str) -> None:
    if 1 <= len(text) <= 128 and set(text) <= ALLOWED | {":"} and not text.startswith("q-"):
        assert check_correlation_id(text) == text
    else:
        with pytest.raises(InvalidMessage):
            check_correlation_id(text)


@pytest.mark.parametrize("text", ["", "a\n", "\na", "a b", "a/b", "a*", "ä", "a\x00", "a{b}", "#", "x" * 65, "a:b"])
def test_what_would_be_more_than_a_name_on_a_broker_is_refused(text: str) -> None:
    with pytest.raises(InvalidMessage):
        check_activity(text)


@pytest.mark.parametrize("value", [None, 1, b"a", ["a"], {"a": 1}])
def test_only_text_is_a_name(value: object) -> None:
    with pytest.raises(InvalidMessage):
        check_activity(value)
    with pytest.raises(InvalidMessage):
        check_correlation_id(value)


def test_ids_of_quarantined_messages_cannot_be_chosen() -> None:
    with pytest.raises(InvalidMessage, match="quarantine"):
        check_correlation_id("q-1")
    assert check_correlation_id("q1") == "q1"


@given(st.text(max_size=300))
def test_a_refusal_is_one_short_line_of_ascii_whatever_was_refused(text: str) -> None:
    with pytest.raises(InvalidMessage) as refused:
        check_activity(f"\x1b{text}")
    shown = str(refused.value)
    assert len(shown) < 200
    assert all(character == "…" or 32 <= ord(character) < 127 for character in shown)


def test_new_ids_are_32_hexadecimal_digits_and_never_the_same() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    for value in ids:
        assert check_correlation_id(value) == value
        assert len(value) == 32
        assert set(value) <= set("0123456789abcdef")
