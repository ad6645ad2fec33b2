"""The corpus of hostile text in a real terminal, shown by a table and a text, with and without what makes it safe.

This file is also the program that runs there: `python -m tests.console.test_pty_line_table MODE`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence

from paigeant_console.terminal import ConsoleAppBase, ControlFilter, run_console  # isort: skip - before Textual

import pytest
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from paigeant_console.safe_text import SafeText, literal, safe, safe_block
from paigeant_console.widgets import Cell, Column, LineTable
from tests.console.corpus import ROOT, Case, hostile_cases, leaks
from tests.console.ptyrun import PtyProgram

COLUMNS = (Column(literal("CASE"), 18), Column(literal("MARK"), 5), Column(literal("TEXT"), 30))


class CaseRows:
    """The corpus as rows."""

    def __init__(self, cases: Sequence[Case], gateway: bool) -> None:
        self.cases = cases
        self.gateway = gateway
        self.revisions = dict.fromkeys((case.name for case in cases), 0)

    def __len__(self) -> int:
        return len(self.cases)

    def key(self, index: int) -> str:
        return self.cases[index].name

    def index_of(self, key: str) -> int | None:
        return next((index for index, case in enumerate(self.cases) if case.name == key), None)

    def revision(self, key: str) -> int:
        return self.revisions[key]

    def cells(self, index: int) -> Sequence[Cell]:
        case = self.cases[index]
        # Without the gateway: text that lies about being safe.
        text = safe(case.text) if self.gateway else SafeText(case.text[:1000])
        return (literal(case.name), "strong"), (safe(str(self.revisions[case.name])), ""), (text, "ok")


class CorpusApp(ConsoleAppBase):
    """One row for each case, and the case under the cursor in full below."""

    CSS = "Static { height: 10; border-top: solid green; }"

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.gateway = mode == "gateway"
        if mode == "naked":
            self._filters = [line_filter for line_filter in self._filters if not isinstance(line_filter, ControlFilter)]
        self.rows = CaseRows(hostile_cases(), self.gateway)
        self.table = LineTable(COLUMNS, self.rows)
        self.text = Static(markup=False)

    def compose(self) -> ComposeResult:
        yield self.table
        yield self.text

    def on_line_table_cursor_moved(self, message: LineTable.CursorMoved) -> None:
        case = self.rows.cases[self.rows.index_of(message.key or "") or 0]
        lines = safe_block(case.text, limit=2000) if self.gateway else [case.text[:2000]]
        self.text.update(Content("\n".join([f"shown: {case.name}", *lines])))
        # Safe text is no markup, and a title that is a `str` is parsed as markup, whatever it went through.
        self.text.border_title = Content(safe(case.text) if self.gateway else case.text)

    def open_row(self, table: object, key: str) -> None:
        self.rows.revisions[key] += 1
        self.table.update_rows([key])

    async def key_q(self) -> None:
        self.exit(return_code=0)


@pytest.fixture
def program(tmp_path) -> Callable[[str, tuple[int, int]], PtyProgram]:
    hostile_cases()

    def start(mode: str, size: tuple[int, int]) -> PtyProgram:
        argv = [sys.executable, "-m", "tests.console.test_pty_line_table", mode]
        return PtyProgram(argv, size=size, cwd=ROOT, env={"TEXTUAL_FPS": "60", "XDG_STATE_HOME": str(tmp_path)})

    return start


def walk(pty: PtyProgram, cases: Sequence[Case]) -> bytes:
    """Put the cursor on each case in turn."""
    for case in cases:
        pty.wait_for_bytes(f"shown: {case.name}".encode())
        pty.send("j")
    pty.wait_until_quiet()
    pty.send("q")
    assert pty.exit_status() == 0
    return pty.raw


@pytest.mark.pty
@pytest.mark.parametrize("mode", ["gateway", "backstop"])
def test_nothing_forbidden_reaches_the_terminal(program, mode):
    cases = hostile_cases()
    with program(mode, (120, 40)) as pty:
        raw = walk(pty, cases)
    assert leaks(raw) == []
    # And besides what Textual means to say there is nothing that a terminal would obey, or that nobody can see.
    known = rb"\x1b\[(?:[0-9;]*[mH]|\?[0-9]+[hl]|\?20(?:26|48)\$p|>[0-9]+u|<u)|\x1b\]22;default\x07|\n|\r"
    text = re.sub(known, b"", raw).decode("utf-8")
    assert re.findall("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufe0f\ufeff]", text) == []


@pytest.mark.pty
def test_without_gateway_and_backstop_it_does(program):
    cases = hostile_cases()
    with program("naked", (120, 40)) as pty:
        raw = walk(pty, cases)
    assert len(leaks(raw)) >= 40


@pytest.mark.pty
def test_hostile_text_is_shown_as_text(program):
    with program("gateway", (120, 40)) as pty:
        pty.wait_for_text("shown: csi-cursor")
        assert "▌ csi-cursor         0     Q␛[7;7HX" in pty.line(1)
        for name, shown in [
            ("markup-click", "[@click=app.quit]press[/]"),
            ("markup-close", "[/]"),
            ("bidi-rlo", "a<U+202E>b"),
            ("osc52-st", "Q␛]52;c;UFdORUQ=␛\\X"),
        ]:
            steps = index_of(name) - index_of(cursor(pty))
            pty.send(("j" if steps > 0 else "k") * abs(steps))
            pty.wait_for_text(f"shown: {name}")
            pty.wait_until_quiet(0.2)
            assert sum(shown in line for line in pty.lines) >= 3  # in the table, in the title, in the text
        pty.send("q")
        assert pty.exit_status() == 0


def index_of(name: str) -> int:
    return [case.name for case in hostile_cases()].index(name)


def cursor(pty: PtyProgram) -> str:
    name = re.search(r"shown: (\S+)", pty.text)
    assert name
    return name[1]


@pytest.mark.pty
@pytest.mark.parametrize(("size", "budget"), [((80, 24), 400), ((120, 40), 500)])
def test_one_row_costs_little(program, size, budget):
    with program("gateway", size) as pty:
        pty.wait_for_text("shown: csi-cursor")
        pty.wait_until_quiet()
        mark = pty.mark()
        pty.send("\r")
        pty.wait(lambda program: " 1 " in program.line(1), "the new revision")
        pty.wait_until_quiet()
        update = pty.since(mark)
        assert len(update) <= budget, update
        mark = pty.mark()
        pty.wait_until_quiet(1.0)
        assert pty.since(mark) == b""  # an idle screen is silent
        pty.send("q")
        assert pty.exit_status() == 0


if __name__ == "__main__":
    sys.exit(run_console(CorpusApp(sys.argv[1])))
