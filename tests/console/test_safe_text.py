from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import time
import tracemalloc
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len, split_graphemes

from paigeant_console import safe_text
from paigeant_console.safe_text import (
    SafeText,
    ascii_safe,
    cells,
    hex_lines,
    is_clean,
    joined,
    literal,
    safe,
    safe_block,
    safe_json,
    safe_payload,
    scrub,
)
from tests.console import corpus
from tests.console.corpus import MARK_PILE, ROOT, Case, hostile_cases, leaks

# All of Unicode, lone surrogates too, and what matters often: a strategy that only draws from the whole hardly ever
# meets two marks in a row.
NASTY = st.sampled_from(
    "\x00\t\n\r\x1b\x7f\x85\x9b\xad\u0301\u0489\u200d\u202e\u2028\u3164\ud800\udcff\ufe0f\U000e0041"
)
TEXTS = st.text(st.one_of(st.characters(), st.characters(max_codepoint=0x7F), NASTY))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def assert_safe(text: str) -> None:
    assert type(text) is SafeText
    text.encode("utf-8")
    for char in text:
        assert unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"), hex(ord(char))
        assert char not in "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u3164\ufe0f\uffa0"
    # A base and at most two marks; and no mark may fall on what stands before this text.
    for start, end, _ in split_graphemes(text)[0]:
        assert end - start <= 3
    assert not text or cell_len(text[0]) > 0


def cases() -> list[Case]:
    return list(hostile_cases())


# The corpus


def test_corpus_one_line():
    for case in cases():
        for value in (case.text, case.text.encode("utf-8", "surrogatepass")):
            for limit in (1, 2, 7, 80, 1000, 10**6):
                text = safe(value, limit)
                assert_safe(text)
                assert cell_len(text) <= limit
                assert not leaks(text.encode()), case.name
                assert "\n" not in text


def test_corpus_blocks_and_payloads():
    for case in cases():
        for value in (case.text, case.text.encode("utf-8", "surrogatepass")):
            for lines in (safe_block(value), safe_json(value), safe_block(value, limit=10, line_limit=3)):
                for line in lines:
                    assert_safe(line)
                    assert cell_len(line) <= 4096
                # The case "lf" allows line breaks where lines are shown as lines; no line has one inside.
                assert leaks("\0".join(lines).encode()) == [], case.name


def test_corpus_in_ascii_and_in_columns():
    for case in cases():
        plain = ascii_safe(safe(case.text))
        assert plain.isascii()
        assert_safe(plain)
        for width in (0, 1, 2, 3, 40):
            cell = cells(safe(case.text), width)
            assert cell_len(cell) == width
            assert leaks(cell.encode()) == []


def test_corpus_harmless_text_is_shown_as_itself():
    shown_otherwise = {"lone-surrogate", "wide", "many-lines", "path-like"}  # replaced visibly, see below
    for case in cases():
        if not case.forbidden and case.name not in shown_otherwise:
            assert safe(case.text, limit=10**6) == case.text, case.name


def test_corpus_freezes_nothing():
    for case in cases():
        start = time.perf_counter()
        safe(case.text)
        safe_block(case.text)
        safe_json(case.text)
        assert time.perf_counter() - start < 2, case.name


def test_the_corpus_check_can_fail():
    unsafe = "\0".join(case.text for case in cases()).encode("utf-8", "surrogatepass")
    assert len(leaks(unsafe)) >= 50


# Any text


@given(TEXTS, st.integers(0, 60))
def test_any_text_is_one_safe_line(text, limit):
    line = safe(text, limit)
    assert_safe(line)
    assert cell_len(line) <= limit
    if is_clean(text) and cell_len(text) <= limit:
        assert line == text


@given(st.binary(max_size=300), st.integers(0, 60))
def test_any_bytes_are_one_safe_line(data, limit):
    line = safe(data, limit)
    assert_safe(line)
    assert cell_len(line) <= limit


@given(st.one_of(TEXTS, st.binary(max_size=300)), st.integers(0, 50), st.integers(2, 20))
def test_any_value_is_a_safe_block(value, limit, line_limit):
    for lines in (safe_block(value, limit, line_limit), safe_json(value, limit, line_limit)):
        for line in lines[:-1]:
            assert_safe(line)
            assert cell_len(line) <= max(line_limit, 80)  # a hex dump has its own width
        for line in lines[-1:]:
            assert_safe(line)


@given(TEXTS, st.integers(-2, 30), st.sampled_from(["left", "right", "center"]))
def test_cells_are_exact(text, width, align):
    cell = cells(safe(text), width, align=align)
    assert_safe(cell) if not cell.startswith(" ") else None
    assert cell_len(cell) == max(width, 0)


@given(TEXTS)
def test_scrubbing_twice_changes_nothing(text):
    once = scrub(text)
    assert scrub(once) == once
    assert is_clean(once)


@given(st.lists(TEXTS.map(safe)))
def test_joined_safe_texts_are_safe(parts):
    assert_safe(joined(parts))


# What is shown instead


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("", ""),
        ("plain", "plain"),
        ("naïve Ünïcödé 漢字", "naïve Ünïcödé 漢字"),
        ("a\x00\x1b\x1f", "a␀␛␟"),
        ("one\ntwo\r\n", "one⏎two␍⏎"),
        ("a\tb", "a    b"),
        ("1\x1b0", "1␛0"),  # not 10
        ("\x7f\x85\x9b", "<U+007F><U+0085><U+009B>"),
        ("a\u202eb", "a<U+202E>b"),
        ("a\u200db\ufe0f", "a<U+200D>b<U+FE0F>"),
        ("\u2028\U000e0041\ufeff\uffff", "<U+2028><U+E0041><U+FEFF><U+FFFF>"),
        ("\ue000", "<U+E000>"),  # private use: what it looks like is up to the font
        ("\u3164", "<U+3164>"),
        ("\ud800", "\\xed\\xa0\\x80"),
        ("\udcff", "\\xff"),
        (b"\xff\xfeok\xc3", "\\xff\\xfeok\\xc3"),
        ("é".encode(), "é"),
        ("e\u0301", "e\u0301"),
        ("\u0301x", "◌\u0301x"),
        ("z" + "\u0301" * 5 + "x", "z\u0301\u0301<+3 marks>x"),
        ("z" + "\u0301" * 3, "z\u0301\u0301<+1 mark>"),
        ("a\u00a0b", "a\u00a0b"),
        ("[bold]x[/]", "[bold]x[/]"),
    ],
)
def test_shown(value, shown):
    assert safe(value) == shown


@pytest.mark.parametrize(
    ("value", "limit", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("abcdef", 1, "…"),
        ("abcdef", 0, ""),
        ("abcdef", -3, ""),
        ("", 0, ""),
        (b"abcdef", 5, "abcd…"),
        ("漢字漢字", 8, "漢字漢字"),
        ("漢字漢字", 7, "漢字漢…"),
        ("漢字漢字", 6, "漢字 …"),  # half a character is a space
        ("\x1b" * 9, 5, "␛␛␛␛…"),
        ("\u202e", 4, "<U+…"),
        ("x" + "\u0301" * 4, 5, "x\u0301\u0301<+2…"),
    ],
)
def test_clipped(value, limit, shown):
    assert safe(value, limit) == shown


def test_long_bytes_are_not_decoded_to_the_end():
    value = "漢".encode() * 10_000_000
    tracemalloc.start()
    try:
        assert safe(value, 100) == "漢" * 49 + " …"
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_the_memory_of_characters_is_bounded():
    for start in range(0, 0x30000, 1000):
        safe("".join(map(chr, range(start, start + 1000))), 10**5)
    assert len(safe_text._VISIBLE) <= safe_text._MEMO_LIMIT
    assert len(safe_text._KIND) <= safe_text._MEMO_LIMIT


def test_clean_ascii_takes_the_short_way(monkeypatch):
    line = "2025-01-01T00:00:00.000Z order-7 charge-card advanced worker-3 attempt 1 in 12ms"
    assert len(line) == 80
    monkeypatch.setattr(safe_text, "scrub", None)  # 0.9 µs instead of 5
    assert safe(line) == line
    assert safe(line.encode()) == line


# Blocks


def test_block_keeps_lines_and_says_what_is_missing():
    assert safe_block("a\n\nb\n") == ["a", "", "b"]
    assert safe_block("") == []
    assert safe_block("one\r\ntwo") == ["one␍", "two"]
    assert safe_block(b"0123456789", limit=4) == ["0123", "… 6 more bytes not shown"]
    assert safe_block("0123456789", limit=4) == ["0123", "… 6 more characters not shown"]
    assert safe_block("abcdefgh", line_limit=3) == ["abc", "def", "gh"]
    assert safe_block("漢字漢字", line_limit=5) == ["漢字", "漢字"]
    assert len(safe_block("x\n" * 1_000_000)) == 32_768 + 1


@pytest.mark.parametrize("cut", range(1, 12))
def test_block_tears_no_character(cut):
    value = "aé漢🚀z".encode()
    lines = safe_block(value, limit=cut)
    assert "\\x" not in "".join(lines)
    shown = lines[0].encode() if not lines[0].startswith("…") else b""
    assert value.startswith(shown)
    if len(shown) < len(value):
        assert lines[-1] == f"… {len(value) - len(shown)} more bytes not shown"


# JSON


def test_json_is_laid_out():
    document = b'{"a":1.50,"b":[1e400,{},[]],"a":{"c":"\\u202e"},"d":[[1]]}'
    kind, lines = safe_payload(document)
    assert kind == "json"
    assert lines == [
        "{",
        '  "a": 1.50,',
        '  "b": [',
        "    1e400,",
        "    {},",
        "    []",
        "  ],",
        '  "a": {',
        '    "c": "\\u202e"',
        "  },",
        '  "d": [',
        "    [",
        "      1",
        "    ]",
        "  ]",
        "}",
    ]


@given(JSON, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_any_json_keeps_its_tokens(value, indent, ascii_only):
    # Hypothesis finds lone surrogates, which only the escaped form can carry in UTF-8.
    source = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    kind, lines = safe_payload(source, limit=10**6, line_limit=10**6)
    assert kind == "json"
    for line in lines:
        assert_safe(line)
    if ascii_only:
        shown = "\n".join(lines)
        assert json.loads(shown) == value
        numbers = re.compile(r"-?[0-9][0-9.eE+-]*")
        strings = re.compile(r'"(?:[^"\\]|\\.)*"')
        assert numbers.findall(strings.sub("", shown)) == numbers.findall(strings.sub("", source))


@given(st.text(st.sampled_from('{}[]:,"\\01-.eE+truefalsn \n')))
def test_json_is_what_the_standard_library_takes_for_json(text):
    try:
        json.loads(text, parse_constant=pytest.fail)
    except ValueError:
        is_json = False
    else:
        is_json = True
    assert (safe_payload(text)[0] == "json") == is_json


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1,]",
        "[1 2]",
        '{"a" 1}',
        '{"a":1}}',
        "{,}",
        "[,1]",
        "[1}",
        "{1:2}",
        "nul",
        "01",
        "NaN",
        "'a'",
        '"\x01"',
        "[",
    ],
)
def test_what_is_no_json_is_shown_as_text(text):
    assert safe_payload(text) == ("text", safe_block(text))


def test_json_that_was_cut_is_still_laid_out():
    document = b'{"abc": [1, 2, "hello world"], "def": true}'
    for limit in range(1, len(document)):
        kind, lines = safe_payload(document, limit=limit)
        assert kind == "json", limit
        assert lines[-1] == f"… {len(document) - limit} more bytes not shown"
    assert safe_payload(b"hello world, this is no JSON", limit=20)[0] == "text"


def test_bombs():
    for text in ("[" * 100_000, "[" * 30_000 + "]" * 30_000, '{"a":' * 30_000, "9" * 60_000, "[" + "1" * 5000 + "]"):
        lines = safe_json(text)
        assert sum(map(len, lines)) < 5_000_000
    assert safe_json("[" + "1" * 4000 + "]")[1].strip() == "1" * 4000


def test_what_is_no_utf8_is_shown_as_hex():
    kind, lines = safe_payload(b"\x00\xffabc\x1b[2J" + bytes(16))
    assert kind == "hex"
    assert lines[0] == "00000000  00 ff 61 62 63 1b 5b 32 4a 00 00 00 00 00 00 00  |..abc.[2J.......|"
    assert lines[1] == "00000010  00 00 00 00 00 00 00 00 00                       |.........|"
    assert hex_lines(b"") == []
    assert hex_lines(b"0123456789", limit=4, per_line=2) == [
        "00000000  30 31  |01|",
        "00000002  32 33  |23|",
        "… 6 more bytes not shown",
    ]


# The rest


def test_ascii():
    assert ascii_safe(safe("a\x1bé…→\n")) == "a^[<U+00E9>...->^J"
    assert ascii_safe(safe("plain")) == "plain"


def test_cells():
    text = safe("héllo")
    assert cells(text, 7) == "héllo  "
    assert cells(text, 7, align="right") == "  héllo"
    assert cells(text, 8, align="center") == " héllo  "
    assert cells(text, 4) == "hél…"
    assert cells(text, 4, ellipsis="") == "héll"
    assert cells(text, 1) == "…"
    assert cells(text, 0) == ""
    assert cells(safe("漢字"), 3) == "漢…"
    assert cells(safe("漢字"), 2) == " …"
    assert cells("a\x1b[2J", 9) == "a␛[2J    "  # type: ignore[arg-type]


def test_literals_are_checked():
    assert type(literal("no dead letters ✓")) is SafeText
    for text in ("two\nlines", "\x1b[0m", "a\u202e", "\u0301"):
        with pytest.raises(ValueError, match="printable"):
            literal(text)


def test_marks_of_other_scripts_are_marks():
    for mark in ("\u0301", "\u20dd", "\u0903", "\u1161", "\U00011370"):
        shown = safe("a" + mark * 40)
        assert shown.count(mark) == 2
        assert not MARK_PILE.search(shown)


def test_nobody_else_declares_text_safe():
    for path in sorted((ROOT / "paigeant_console").rglob("*.py")):
        if path.name == "safe_text.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            name = getattr(called, "id", getattr(called, "attr", None))
            assert name != "SafeText", f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: use safe() or literal()"


def test_the_gateway_needs_neither_textual_nor_rich():
    code = (
        "import sys, paigeant_console.safe_text as s; s.safe('a' * 9); s.safe_json(b'[1]'); "
        "print([m for m in ('textual', 'rich', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(ROOT))
    assert done.stdout.strip() == "[]"


def test_an_absent_corpus_skips_but_fails_in_ci(monkeypatch, tmp_path):
    monkeypatch.setattr(corpus, "PATH", tmp_path / "nowhere.json")
    load = hostile_cases.__wrapped__
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="beside the checkout"):
        load()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="absent"):
        load()
