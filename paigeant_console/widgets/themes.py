"""The console's themes, by the names that the configuration and `:theme` know.

`ansi` leaves every colour to the terminal: it fits its background, and costs half the bytes of 24-bit colours. The
others bring their own: contrast of all texts that say something is 7:1 or more in `high-contrast`, 4.5:1 in the rest.

On a terminal that has 16 colours alone, the nearest of them to a colour of ours may be white or one that cannot be
read, so there each theme has a twin that names colours out of the sixteen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from textual.theme import BUILTIN_THEMES, Theme

__all__ = ["DEFAULT", "THEMES", "all_themes", "textual_name"]

DEFAULT: Final = "ansi"

_DARK: Final = Theme(
    name="paigeant-dark",
    primary="#7aa8f0",
    secondary="#62c4d8",
    success="#8fc96a",
    warning="#e6b455",
    error="#f08080",
    accent="#b79cf0",
    foreground="#dcdcdc",
    background="#16181d",
    surface="#16181d",
    panel="#22262e",
    dark=True,
)
_LIGHT: Final = Theme(
    name="paigeant-light",
    primary="#1f4fb5",
    secondary="#00647a",
    success="#23661f",
    warning="#7d5200",
    error="#b01020",
    accent="#6a35b0",
    foreground="#1c1c1c",
    background="#fafaf7",
    surface="#fafaf7",
    panel="#e6e6e0",
    dark=False,
)
_HIGH_CONTRAST: Final = Theme(
    name="paigeant-high-contrast",
    primary="#9ecbff",
    secondary="#7ff0ff",
    success="#9dff8a",
    warning="#ffe14d",
    error="#ff9a9a",
    accent="#e0b8ff",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#000000",
    dark=True,
    text_alpha=1.0,
    variables={"text-muted": "#d8d8d8", "foreground-muted": "#d8d8d8"},
)


def _of_sixteen(theme: Theme, *, under: str, text: str, error: str, warning: str, success: str, info: str) -> Theme:
    """The twin of a theme, of the terminal's colours by their names."""
    like = BUILTIN_THEMES["ansi-dark" if theme.dark else "ansi-light"]
    return replace(
        like,
        name=f"{theme.name}-16",
        primary=info,
        secondary=info,
        success=success,
        warning=warning,
        error=error,
        accent=info,
        foreground=text,
        background=under,
        surface=under,
        panel=under,
        variables={**like.variables, "text-muted": text, "foreground-muted": text},
    )


# Beside white its yellow, cyan and green cannot be read.
_LIGHT_16: Final = _of_sixteen(
    _LIGHT,
    under="ansi_bright_white",
    text="ansi_black",
    error="ansi_red",
    warning="ansi_magenta",
    success="ansi_black",
    info="ansi_blue",
)
_DARK_16, _HIGH_CONTRAST_16 = (
    _of_sixteen(
        theme,
        under="ansi_black",
        text=text,
        error="ansi_bright_red",
        warning="ansi_bright_yellow",
        success="ansi_bright_green",
        info="ansi_bright_cyan",
    )
    for theme, text in ((_DARK, "ansi_white"), (_HIGH_CONTRAST, "ansi_bright_white"))
)
_SIXTEEN: Final = {_DARK.name: _DARK_16, _LIGHT.name: _LIGHT_16, _HIGH_CONTRAST.name: _HIGH_CONTRAST_16}

THEMES: Final[Mapping[str, Theme | None]] = {
    "ansi": None,
    "dark": _DARK,
    "light": _LIGHT,
    "high-contrast": _HIGH_CONTRAST,
}
"""By name; None: one that Textual brings."""


def all_themes() -> list[Theme]:
    """What Textual has to be told of: the themes that it does not bring, and their twins."""
    return [theme for theme in (*THEMES.values(), *_SIXTEEN.values()) if theme is not None]


def textual_name(name: str, *, sixteen: bool = False) -> str:
    """What Textual knows a theme by.

    Args:
        name: one of :data:`THEMES`.
        sixteen: the terminal has no more colours than that.
    """
    theme = THEMES[name]
    if theme is None:
        return "ansi-dark"
    return _SIXTEEN[theme.name].name if sixteen else theme.name
