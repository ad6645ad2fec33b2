"""The console's themes, by the names that the configuration and `:theme` know.

`ansi` leaves every colour to the terminal: it fits its background, and costs half the bytes of 24-bit colours. The
others bring their own: contrast of all texts that say something is 7:1 or more in `high-contrast`, 4.5:1 in the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from textual.theme import Theme

__all__ = ["DEFAULT", "THEMES", "textual_name"]

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

THEMES: Final[Mapping[str, Theme | None]] = {
    "ansi": None,
    "dark": _DARK,
    "light": _LIGHT,
    "high-contrast": _HIGH_CONTRAST,
}
"""By name; None: one that Textual brings."""


def textual_name(name: str) -> str:
    """What Textual knows a theme by.

    Args:
        name: one of :data:`THEMES`.
    """
    theme = THEMES[name]
    return "ansi-dark" if theme is None else theme.name
