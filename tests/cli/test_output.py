"""What reaches stdout: JSON Lines of printable ASCII, and tables in which no broker's text can act."""

from __future__ import annotations

import io
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant_console.human import age, detail_text, figure, moment, since, text
from paigeant_console.output import Output, json_line, note
from paigeant_console.safe_text import safe

HOSTILE = "a\x1b[2J\x07\x9b31m\u202e\ud800\x00\r\nb"


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b'{"n":1.50,"big":123456789012345678901234567890,"e":1E400}', None),
        ('{"é":"naïve ☃ 😀"}'.encode(), '{"\\u00e9":"na\\u00efve \\u2603 \\ud83d\\ude00"}'),
        (b'{\n\t"a":\r\n 1 }', '{  "a":   1 }'),
        (b'{"a":1,"a":2}', None),
        (b'{"lone":"\\ud800"}', None),
        (b'{"del":"\x7f"}', '{"del":"\\u007f"}'),
        (b'{"raw":"\xed\xa0\x80"}', '{"raw":"\\ud800"}'),
    ],
)
def test_a_payload_keeps_its_numbers_and_stays_on_its_line(payload: bytes, shown: str | None) -> None:
    line = json_line({"payload": msgspec.Raw(payload)})
    assert line == f'{{"payload":{payload.decode() if shown is None else shown}}}'
    assert line.isascii()
    assert line.isprintable()


@pytest.mark.parametrize(
    "payload", [b'{"a":tru}', b'{"a":"\x1b[2J"}', b'{"a":"\xff"}', b'{"a":NaN}', b"{" + b"[" * 99_999]
)
def test_a_payload_that_is_no_json_becomes_a_string(payload: bytes) -> None:
    line = json_line({"payload": msgspec.Raw(payload)})
    assert line.isascii()
    assert line.isprintable()
    assert isinstance(json.loads(line)["payload"], str)


def test_other_values_are_escaped_too() -> None:
    line = json_line({"name": HOSTILE, HOSTILE: {"x": [HOSTILE, 2**70, None, 1.5]}, "raw": msgspec.Raw(b'{"a":1.50}')})
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["name"] == HOSTILE
    assert json.loads(line)[HOSTILE]["x"][1] == 2**70


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda children: st.one_of(st.lists(children, max_size=3), st.dictionaries(st.text(), children, max_size=3)),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), _JSON, max_size=4), st.sampled_from([None, 2]), st.booleans())
def test_any_document_is_one_line_that_says_the_same(document: dict[str, Any], indent: int | None, ascii: bool) -> None:
    raw = json.dumps(document, indent=indent, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    line = json_line({"payload": msgspec.Raw(raw), "document": document})
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {"payload": document, "document": document}


@given(st.binary())
def test_any_bytes_are_one_line(payload: bytes) -> None:
    line = json_line({"payload": msgspec.Raw(payload)})
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["payload"] is not None or payload.strip() == b"null"


class Pipe(io.StringIO):
    encoding = "utf-8"


class Terminal(Pipe):
    def isatty(self) -> bool:
        return True


def test_a_table_is_as_wide_as_its_cells_and_cut_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[safe("日本"), safe("1"), safe("x" * 60)], [safe("b"), safe("22"), safe(HOSTILE)]]
    monkeypatch.setenv("COLUMNS", "20")
    through_a_pipe, terminal = Pipe(), Terminal()
    Output(stream=through_a_pipe).table(["NAME", "N", "TEXT"], rows, right="N")
    Output(stream=terminal).table(["NAME", "N", "TEXT"], rows, right="N")
    header, first, second = through_a_pipe.getvalue().splitlines()
    assert header == "NAME   N  TEXT"
    assert first == f"日本   1  {'x' * 60}"
    assert second.startswith("b     22  a␛[2J␇<U+009B>31m<U+202E>\\xed\\xa0\\x80␀")
    assert terminal.getvalue().splitlines()[1] == "日本   1  xxxxxxxxx…"


def test_what_is_no_utf8_gets_ascii() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    out = Output(stream=stream)
    assert out.ascii_only
    out.line(safe("é → ☃"))
    out.table(["A"], [[safe("…")]])
    stream.flush()
    stream.seek(0)
    assert stream.read().splitlines() == ["<U+00E9> -> <U+2603>", "A", "..."]


def test_a_note_is_one_scrubbed_line_without_a_password(capsys: pytest.CaptureFixture[str]) -> None:
    note(f"{HOSTILE} redis://u:secret@host", url="redis://u:secret@host")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert line.startswith("paigeant-console: a␛")
    assert line.rstrip("\n").isprintable()
    assert "secret" not in line


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "?"),
        (-3, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (14 * 60 + 5, "14m"),
        (7300, "2h"),
        (3 * 86400, "3d"),
    ],
)
def test_ages(seconds: float | None, shown: str) -> None:
    assert age(seconds) == shown


def test_cells() -> None:
    assert text(None) == text("") == "-"
    assert text(0) == "0"
    assert figure(None) == "?"
    assert figure(3) == "3"
    assert figure(0.5) == "0.5"
    assert since("2023-11-14T22:13:20Z", 1_700_000_060.0) == "60s"
    assert since("never", 0.0) == "?"
    assert moment("never\x1b") == "never␛"
    assert len(moment("2023-11-14T22:13:20.123Z")) == 19
    assert moment("9999-12-31T23:59:59Z").isprintable()
    detail = {
        "error": {"type": "E", "message": "m\x1b"},
        "reason": "r",
        "delay_s": 1.5,
        "next": {"activity": "b"},
        "x": None,
    }
    assert detail_text(detail) == "E: m␛  reason=r  delay_s=1.5  next=b"
