"""What QUERY refuses: what cannot be read, and what could select nothing where it is asked."""

from __future__ import annotations

import pytest

from paigeant_console.model.query import QueryError, Selected, parse
from paigeant_core.security.refusal import Code


@pytest.mark.parametrize(
    ("text", "position", "words"),
    [
        ("stat:dead", 0, "is state meant?"),
        ("a  atempt:>3", 3, "is attempt meant?"),
        ("http://x", 0, "quotes"),
        ("state:ded", 6, "is dead meant?"),
        ("state:xyz", 6, "there are queued, running"),
        ("stuck:noworker", 6, "is no_worker meant?"),
        ("kind:advance_", 5, "is advanced meant?"),
        ("!trust:frob", 7, "there are valid, unsigned, unverified"),
        ("trust:revokd", 6, "is revoked meant?"),
        ("state:", 0, "needs a value"),
        ('state:""', 6, "no state is called ''"),
        ("label:premium", 0, "label.tier:premium"),
        ("payload.:x", 0, "needs a key"),
        ("age:>soon", 5, "a span of time"),
        ("age:", 0, "age:>10m"),
        ("attempt:many", 8, "a number"),
        ("attempt:>", 9, "a number"),
        ("attempt:nan", 8, "a number"),
        ("created:>noon", 9, "2026-01-31"),
        ("payload.due:<2026-12-01", 13, "payload.due needs a number behind <, not '2026-12-01'"),
        ("!payload.amount:>1k", 17, "a number behind >, not '1k'"),
        ("label.size:>=", 13, "a number behind >=, not ''"),
        ('name:"open', 5, "close it"),
        ("(state:dead", 0, "close it with )"),
        ("state:dead)", 10, "without an opening one"),
        ("()", 1, "a term is missing"),
        ("OR", 0, "a term is missing"),
        ("state:dead OR", 13, "a term is missing"),
        ("OR state:dead", 0, "a term is missing"),
        ("NOT", 3, "a term is missing"),
        ("a AND", 5, "a term is missing"),
        ("!", 1, "a term is missing"),
        ("(" * 1000, 64, "parentheses"),
        ("x" * 5000, 4096, "4096"),
    ],
)
def test_what_cannot_be_read_is_told_where_and_what_was_meant(text: str, position: int, words: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert caught.value.position == position
    assert words in str(caught.value)
    assert f"character {position + 1}" in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("of", "text", "position", "words"),
    [
        ("workflow", "kind:dead_lettered", 0, "a workflow has no kind at character 1; tail selects by it"),
        ("workflow", "state:dead !kind:advanced", 12, "a workflow has no kind"),
        ("workflow", "NOT (id:x OR kind:*)", 13, "a workflow has no kind"),
        ("record", "!trust:valid", 1, "a record has no trust at character 2; list selects by it"),
    ],
)
def test_a_field_that_nothing_there_has_is_refused(of: Selected, text: str, position: int, words: str) -> None:
    with pytest.raises(QueryError) as caught:
        parse(text, of)
    assert caught.value.position == position
    assert words in str(caught.value)
    assert parse(text) == parse(text, "record" if of == "workflow" else "workflow")


@pytest.mark.parametrize("status", ["valid", "unverified", "invalid", "version", *map(str, Code)])
def test_whatever_can_be_found_of_signatures_can_be_asked_for(status: str) -> None:
    assert parse(f"trust:{status}", "workflow").text
