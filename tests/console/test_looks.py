"""Themes, colours and the user's own keys: from the configuration to the terminal."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paigeant_console import actions
from paigeant_console.actions import ACTIONS, by_id, key_of, key_text, keys_of, use_keys
from paigeant_console.config import THEMES, Look, load_look
from paigeant_console.keymap import FIXED, key_name, read_keys
from paigeant_console.widgets.themes import THEMES as DRAWN
from paigeant_core.errors import ConfigError
from tests.console.appkit import console
from tests.console.corpus import ROOT
from tests.console.ptyrun import PtyProgram
from tests.console.story import sample_story

SGR = re.compile(rb"\x1b\[([0-9;]*)m")


@pytest.fixture(autouse=True)
def own_keys() -> Iterator[None]:
    yield
    use_keys({})


def look(tmp_path: Path, text: str, **environ: str) -> Look:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return load_look({"PAIGEANT_CONFIG": str(path), **environ})


# From the configuration


def test_flags_come_before_the_environment_before_the_file_before_the_defaults(tmp_path: Path) -> None:
    assert look(tmp_path, "") == Look()
    file = '[console]\ntheme = "light"\nascii = true\nclipboard = false\n'
    assert look(tmp_path, file) == Look(theme="light", ascii=True, clipboard=False)
    said = look(tmp_path, file, PAIGEANT_THEME="dark", PAIGEANT_ASCII="0", PAIGEANT_MOUSE="1", PAIGEANT_CLIPBOARD="1")
    assert said == Look(theme="dark", mouse=True)
    path = {"PAIGEANT_CONFIG": str(tmp_path / "config.toml"), "PAIGEANT_THEME": "dark"}
    assert load_look(path, theme="high-contrast", mouse=True) == Look(
        theme="high-contrast", ascii=True, mouse=True, clipboard=False
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[console]\ntheme = "drak"', "no theme 'drak'; there are ansi, dark, light, high-contrast"),
        ('[console]\ntehme = "dark"', "unknown key 'console.tehme'; is console.theme meant?"),
        ("[console]\nmouse = 1", "console.mouse must be true or false"),
        ('[console.keys]\nretyr = "x"', "no action 'retyr' has a key; is retry meant?"),
        ('[console.keys]\nzzz = "x"', "no action 'zzz' has a key; known are "),
        ('[console.keys]\nretry = "x"', "x would be both retry and cancel in view dead"),
        ('[console.keys]\nretry = "j"', "j would be both retry and table.down in view dead"),
        ('[console.keys]\nquit = "x"', "quit stays on ^Q"),
        ("[console.keys]\nretry = 5", "retry must be a key in quotes, or a list of them"),
        ("[console.keys]\nretry = []", "retry must be a key in quotes, or a list of them"),
        ('[console.keys]\nretry = "meta-x"', "write a key like r, R, ?, ^R, F5 or PgDn"),
        ('[console.keys]\n"prompt.done" = "x"', "prompt.done cannot be x, as it edits what is typed there"),
        ('[console.keys]\n"payload.done" = "Enter"', "payload.done cannot be Enter, as it edits"),
        ('[console.keys]\n"confirm.yes" = "n"', "n would be both confirm.yes and confirm.no in view confirm"),
        ('[console.keys]\n"confirm.yes" = "^Q"', "^Q would be both quit and confirm.yes in view confirm"),
        ('[console.keys]\n"replay.editor" = "Esc"', "Esc would be both replay.editor and replay.cancel"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        look(tmp_path, text)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("r", "r"),
        ("R", "R"),
        ("?", "question_mark"),
        ("/", "slash"),
        ("-", "minus"),
        ("+", "plus"),
        ("[", "left_square_bracket"),
        ("^R", "ctrl+r"),
        ("Ctrl+R", "ctrl+r"),
        ("F5", "f5"),
        ("PgDn", "pagedown"),
        ("Shift+Tab", "shift+tab"),
        (" ", "space"),
        ("Esc", "escape"),
        ("\x1b", None),
        ("é", None),
        ("", None),
        ("no such key!", None),
    ],
)
def test_keys_are_written_as_people_write_them(written: str, name: str | None) -> None:
    assert key_name(written) == name


def test_every_key_of_the_table_can_be_written_as_it_is_shown() -> None:
    for action in ACTIONS:
        for key in action.keys:
            shown = key_text(key)
            assert not shown or key_name(shown) == key, (action.id, key, shown)


def test_keys_may_change_places() -> None:
    assert read_keys({"retry": "x", "cancel": ["r", "F9"]}, "here") == {"retry": ("x",), "cancel": ("r", "f9")}
    assert {"interrupt", "quit", "escape"} <= FIXED
    assert read_keys({"confirm.no": "x"}, "here") == {"confirm.no": ("x", "escape")}, "Esc always leaves"


def test_each_theme_of_the_configuration_is_drawn() -> None:
    assert tuple(DRAWN) == THEMES


# On the screen


async def test_own_keys_are_bound_hinted_and_explained(tmp_path: Path) -> None:
    keys = read_keys({"retry": "f5", "cancel": ["%", "X"], "table.down": "n"}, "here")
    async with console(sample_story(), tmp_path, size=(120, 60), look=Look(keys=keys)) as opened:
        assert "F5 retry" in opened.lines()[-1]
        await opened.press("n", "r", "j")
        assert opened.screen.table.cursor_index == 1, "the old ones mean nothing"
        assert not opened.screen.prompt.asking
        await opened.press("f5")
        assert opened.screen.prompt.value == ""
        assert opened.screen.prompt.asking
        await opened.press("escape", "percent_sign")
        assert opened.screen.prompt.asking
        await opened.press("escape", "?")
        await opened.shows("Keys of workflows")
        assert re.search(r"^ +% X +End the workflow", opened.text(), re.MULTILINE)
        assert re.search(r"^ +F5 +Run the step", opened.text(), re.MULTILINE)
    assert str(key_of("retry")) == "F5"
    use_keys({})
    assert keys_of(by_id("retry")) == ("r",)
    assert not actions._CHANGED


async def test_own_keys_hold_in_forms_and_texts_name_them(tmp_path: Path) -> None:
    given = {
        "confirm.yes": "j",
        "confirm.no": "z",
        "confirm.down": "F6",
        "confirm.up": "F7",
        "prompt.done": "F8",
        "prompt.cancel": "F9",
        "prompt.complete": "F10",
        "replay.payload": "o",
        "payload.done": "F8",
        "copy-command": "K",
    }
    keys = read_keys(given, "here")
    async with console(sample_story(), tmp_path, size=(120, 40), look=Look(keys=keys)) as opened:
        await opened.press(":")
        await opened.type("workf")
        await opened.press("f10")
        assert opened.screen.prompt.value == "workflows"
        await opened.press("f9")
        assert not opened.screen.prompt.asking
        await opened.press("4", "G", "r")
        assert opened.lines()[-1].split() == ["F8", "go", "on", "F9", "cancel"]
        await opened.press("f8")
        assert "a reason is needed (F9 cancels)" in opened.text()
        await opened.type("mended")
        await opened.press("enter")
        assert opened.screen.prompt.asking, "the old one means nothing"
        await opened.press("f8")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the question")
        assert "do it? j yes   z no (Esc too)   K copy the command" in opened.text()
        await opened.press("y", "n", "q")
        assert opened.screen.confirm_bar.waiting
        await opened.press("z")
        await opened.shows("retry: nothing was done")
        await opened.press("R")
        await opened.until(lambda: opened.screen.replay_form.asking == "replay", "the form")
        await opened.press("o")
        await opened.until(lambda: opened.screen.replay_form.asking == "payload", "the editor")
        assert "F8 use it" in opened.text()
        await opened.press("f8")
        await opened.until(lambda: opened.screen.replay_form.asking == "replay", "the form again")
        await opened.press("escape", "?")
        await opened.shows("Keys of dead letters")
        assert "Write what y copies" in opened.text()


async def test_the_theme_is_chosen_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("TEXTUAL_THEME", raising=False)
    async with console(sample_story(), tmp_path, look=Look(theme="light")) as opened:
        assert opened.app.theme == "paigeant-light"
        for name, drawn in (
            ("dark", "paigeant-dark"),
            ("high-contrast", "paigeant-high-contrast"),
            ("ansi", "ansi-dark"),
        ):
            await opened.press(":")
            await opened.type(f"theme {name}")
            await opened.press("enter")
            assert opened.app.theme == drawn
        await opened.press(":")
        await opened.type("theme neon")
        await opened.press("enter")
        assert "theme: there are ansi, dark, light, high-contrast" in opened.text()
        await opened.press(":")
        await opened.type("theme")
        await opened.press("enter")
        assert "theme: there are ansi, dark" in opened.text()


@pytest.mark.pty
@pytest.mark.parametrize(
    ("env", "theme", "colours"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "dark", "true"),
        ({"TERM": "tmux-256color"}, "dark", "indexed"),
        ({"TERM": "xterm"}, "dark", "basic"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "ansi", "basic"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "dark", ""),
    ],
)
def test_colours_are_those_that_the_terminal_has(tmp_path: Path, env: dict[str, str], theme: str, colours: str) -> None:
    argv = [sys.executable, "-m", "tests.console.story_console"]
    given = {"XDG_STATE_HOME": str(tmp_path), "PAIGEANT_THEME": theme, "COLORTERM": "", **env}
    with PtyProgram(argv, size=(80, 24), cwd=ROOT, env=given) as pty:
        pty.wait_for_text("onboarding")
        pty.wait_until_quiet(0.5)
        pty.send("\x11")
        assert pty.exit_status() == 0
        raw = pty.raw
    assert kinds_of_colour(raw) == ({colours} if colours else set())


def kinds_of_colour(raw: bytes) -> set[str]:
    found = set()
    for match in SGR.findall(raw):
        parts = iter(match.split(b";"))
        for part in parts:
            if part in (b"38", b"48"):
                kind = {b"2": "true", b"5": "indexed"}[next(parts)]
                found.add(kind)
                for _ in range(3 if kind == "true" else 1):
                    next(parts)
            elif part[:1] in (b"3", b"4", b"9") and len(part) == 2 and part[1:] in b"01234567":
                found.add("basic")
    return found


def test_the_documentation_names_every_action_that_a_key_can_be_given_to() -> None:
    told = (Path(ROOT) / "docs" / "operator.md").read_text(encoding="utf-8")
    for action in ACTIONS:
        if action.keys and action.id not in FIXED:
            assert f"`{action.id}`" in told
