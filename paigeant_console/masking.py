"""Passwords out of whatever is said."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["mask_text"]

# Up to the last @ before a slash: a password may hold one that was not encoded.
_USER_IN_URL: Final = re.compile(r"(?<=://)([^\s/?#:@]*):[^\s/?#]*(?=@)")


def mask_text(text: str, url: str = "") -> str:
    """Text in which no password of a URL is left.

    Args:
        text: Any text.
        url: A URL whose password must not be in it, in whatever form.
    """
    if "://" in text:
        text = _USER_IN_URL.sub(r"\1:***", text)
    if "@" in url:
        from urllib.parse import unquote

        from paigeant_core.urls import password_in

        password = password_in(url)
        for form in {password, unquote(password)}:
            # Not a short one: it would make stars of ordinary words.
            if len(form) > 3:
                text = text.replace(form, "***")
    return text
