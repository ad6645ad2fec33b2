"""Readers of text: the query that an operator types, and the door of the terminal."""

from __future__ import annotations

import unicodedata

from paigeant_console.clipboard import ClipboardTooLarge, clipboard_text
from paigeant_console.model.query import QueryError, parse
from paigeant_console.safe_text import (
    SafeText,
    ascii_safe,
    cells,
    hex_lines,
    is_clean,
    safe,
    safe_block,
    safe_payload,
    scrub,
)

QUERIES = (
    b"state:dead step:process-payment id:3f2 name:onboarding",
    b'label.tier:premium age:>10m attempt:>=3 OR NOT (stuck:no_worker error:"time out")',
    b"payload.customer_email:ann@example.com !worker:w* AND since:1h",
    b'( ( a OR "b c" ) !! x )',
)
QUERY_WORDS = (b"OR", b"NOT", b"AND", b"!", b"(", b")", b":", b"label.", b"payload.", b"age:>", b"..", b"*", b'\\"')
TEXTS = (
    b"plain",
    "né́́́́ \u202egnp\u2066 \U000e0041 \u200b\ufeff\n\t".encode(),
    b"\x1b]52;c;Y3VybA==\x07\x1b[2J\x9b1m\x90q\x9c",
    b'{"a": [1.0, 12345678901234567890, "\\u001b[31m", "\xed\xa0\x80"], "a": {"b": null}}',
    b"\xff\xfe\x00\x01" * 4,
    "日本語\u0301\u0301\u0301 ㄱ 👩‍👩‍👧".encode(),
)
TEXT_WORDS = (
    *(b"\x1b", b"\x1b[", b"\x1bP", b"\x9b", b"\xc2\x9b", b"\x07", b"\x7f", b"\r", b"\x0b", b"[/]", b"[@click=quit]"),
    *("\u202e".encode(), "\u2028".encode(), "\u0085".encode(), "\u0301".encode(), "\U000e0001".encode()),
    *("\u115f".encode(), "\ufe0f".encode(), "日".encode(), b"\xed\xa0\x80", b"\xf4\x90\x80\x80"),
)
_FORBIDDEN = frozenset(["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"])


def query(data: bytes) -> None:
    """A query is read, or QueryError says where it cannot be."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = parse(text)
    except QueryError as refused:
        assert 0 <= refused.position <= max(len(text), 4096)
        assert str(refused)
        return
    assert found == parse(text)
    assert isinstance(found.needs_payload, bool)


def safe_text(data: bytes) -> None:
    """Nothing that comes out moves a cursor, hides or reorders; nothing is wider than was asked for."""
    from rich.cells import cell_len

    for value in (
        data,
        data.decode("utf-8", "surrogateescape"),
        data.decode("utf-16-le", "surrogatepass" if len(data) % 2 == 0 else "replace"),
    ):
        whole = scrub(value if isinstance(value, str) else value.decode("utf-8", "surrogateescape"))
        _clean(whole)
        assert scrub(whole) == whole
        for width in (0, 1, 7, 80):
            line = safe(value, width)
            _clean(line)
            assert cell_len(line) <= width
            for align in ("left", "right", "center"):
                assert cell_len(cells(line, width, align=align)) == width
        for block in (safe_block(value, 300, 40), safe_payload(value, 300, 40)[1]):
            for line in block:
                _clean(line)
        try:
            copied = clipboard_text(value, environ={}, multiline=True)
        except ClipboardTooLarge:
            continue
        assert copied.startswith("\x1b]52;c;")
        assert copied[7:-1].isascii()
        assert copied[7:-1].isprintable()
    for line in hex_lines(data, 64):
        _clean(line)


def _clean(text: str) -> None:
    assert is_clean(text)
    if not text.isascii():
        assert not any(unicodedata.category(char) in _FORBIDDEN for char in text)
    else:
        assert text.isprintable()
    ascii_safe(SafeText(text))
