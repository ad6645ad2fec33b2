"""Payloads that are edited: what was not touched stays as it was written."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant_console.model.payload_edit import check_edited, editable
from paigeant_console.safe_text import is_clean


@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=20) | st.integers() | st.booleans() | st.none(), max_size=6)
)
def test_an_edited_payload_that_was_not_touched_says_the_same(payload) -> None:
    raw = json.dumps(payload, ensure_ascii=False).encode("utf-8", "surrogatepass")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        assert editable(raw) is None
        return
    text = editable(raw)
    assert text is not None
    assert all(is_clean(line) for line in text.split("\n")), "nothing in it can do anything to a terminal"
    checked = check_edited(text)
    assert checked.payload is not None
    assert json.loads(checked.payload) == payload
    assert b"\n" not in checked.payload


def test_numbers_stay_as_they_were_written() -> None:
    text = editable(b'{"a": 1.50, "b": 1e400, "c": 12345678901234567890123}')
    assert text is not None
    checked = check_edited(text.replace("e400", "e3"))
    assert checked.payload == b'{"a":1.50,"b":1e3,"c":12345678901234567890123}'


@pytest.mark.parametrize(
    ("text", "said", "line", "column"),
    [
        ('{"a": 1,\n "b" 2}', "line 2, column 6: Expecting ':' delimiter", 2, 6),
        ("[1]", "a payload is a JSON object: { … }", 1, 1),
        ("", "line 1, column 1: Expecting value", 1, 1),
        ('{"a": NaN}', "the payload must be a JSON object", 0, 0),
    ],
)
def test_what_is_no_payload_is_told_with_its_place(text: str, said: str, line: int, column: int) -> None:
    checked = check_edited(text)
    assert (checked.payload, checked.said, checked.line, checked.column) == (None, said, line, column)
