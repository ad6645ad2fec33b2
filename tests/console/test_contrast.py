"""Contrast as it is drawn, in every theme that brings colours: WCAG 2's ratio of each text to its background."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.color import Color, ColorSystem
from rich.terminal_theme import TerminalTheme
from textual.color import Color as Drawn
from textual.filter import DimFilter

from paigeant_console.config import Look
from tests.console.appkit import Console, ask_for, console
from tests.console.story import sample_story
from tests.console.test_snapshots import operations

LEAST = {"dark": 4.5, "light": 4.5, "high-contrast": 7.0}
Pairs = dict[tuple[str, str], str]


def luminance(colour: Color) -> float:
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4
        for part in (channel / 255 for channel in colour.get_truecolor())
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(text: Color, background: Color) -> float:
    lighter, darker = sorted((luminance(text), luminance(background)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def pairs_of(opened: Console, into: Pairs) -> None:
    """The colours of all that is on the screen, by what is written in them, as the terminal gets them."""
    screen = opened.app.screen
    for strip in screen._compositor.render_strips(screen.size):
        for segment in strip.apply_filter(DimFilter(), Drawn.parse("#000000")):
            style = segment.style
            if not segment.text.strip() or style is None or style.color is None or style.bgcolor is None:
                continue
            text, background = (style.bgcolor, style.color) if style.reverse else (style.color, style.bgcolor)
            into.setdefault((text.get_truecolor().hex, background.get_truecolor().hex), segment.text.strip())


def test_the_ratio_is_that_of_the_definition() -> None:
    assert contrast(Color.parse("#000000"), Color.parse("#ffffff")) == pytest.approx(21)
    assert contrast(Color.parse("#777777"), Color.parse("#ffffff")) == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", LEAST)
async def test_every_text_can_be_read(tmp_path: Path, theme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "TEXTUAL_THEME"):
        monkeypatch.delenv(name, raising=False)
    found: Pairs = {}
    story = sample_story()
    operations(story)
    look = Look(theme=theme)
    async with console(story, tmp_path, size=(160, 50), look=look, context="prod", production=True) as opened:
        for keys in (" j", "2", "3", "4b", "5", "1?", "q"):
            await opened.press(*keys)
            await opened.again()
            pairs_of(opened, found)
        await opened.press("/")
        await opened.type("state:dead")
        pairs_of(opened, found)
        await opened.press("enter", "enter")
        await opened.again()
        pairs_of(opened, found)
        await opened.press("ctrl+p")
        pairs_of(opened, found)
        await opened.press("escape")
        await ask_for(opened, "r", "mended")
        pairs_of(opened, found)
        await opened.press("escape", "R")
        await opened.until(lambda: opened.screen.replay_form.asking == "replay", "the form")
        await opened.press("p")
        await opened.until(lambda: opened.screen.replay_form.asking == "payload", "the editor")
        pairs_of(opened, found)
    assert len(found) > 8
    ratios = {(text, under): contrast(Color.parse(text), Color.parse(under)) for text, under in found}
    weak = {pair: (round(ratio, 2), found[pair]) for pair, ratio in ratios.items() if ratio < LEAST[theme]}
    assert not weak, weak


XTERM = TerminalTheme(
    (0, 0, 0),
    (229, 229, 229),
    [(0, 0, 0), (205, 0, 0), (0, 205, 0), (205, 205, 0), (0, 0, 238), (205, 0, 205), (0, 205, 205), (229, 229, 229)],
    [(127, 127, 127), (255, 0, 0), (0, 255, 0), (255, 255, 0), (92, 92, 255), (255, 0, 255), (0, 255, 255), (255,) * 3],
)


@pytest.mark.parametrize("theme", LEAST)
async def test_sixteen_colours_can_be_read_and_told_apart(
    tmp_path: Path, theme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "TEXTUAL_THEME", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    found: dict[str, list[Color]] = {}
    async with console(sample_story(), tmp_path, look=Look(theme=theme)) as opened:
        screen = opened.app.screen
        for strip in screen._compositor.render_strips(screen.size):
            for segment in strip:
                style = segment.style
                if segment.text.strip() and style is not None and not style.reverse:
                    drawn = [colour for colour in (style.color, style.bgcolor) if colour is not None]
                    found[segment.text.strip()] = [colour.downgrade(ColorSystem.STANDARD) for colour in drawn]
    for text, colours in found.items():
        shades = [Color.from_triplet(colour.get_truecolor(XTERM)) for colour in colours]
        assert contrast(*shades) >= 4.5, (text, colours)
    said = [found[text][0].number for text in ("✗ dead", "‖ held", "▶ running", "memory://story")]
    assert len(set(said)) == 4
    assert said[0] in (1, 9), "what is dead is red"
