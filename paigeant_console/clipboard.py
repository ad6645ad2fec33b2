"""What is copied, on its way to the terminal's clipboard."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

from paigeant_console.safe_text import scrub

__all__ = ["CLIPBOARD_LIMIT", "ClipboardTooLarge", "clipboard_text"]

CLIPBOARD_LIMIT: Final = 74_994
"""Bytes of base64 that terminals take in one OSC 52 sequence; the limit of xterm and hterm, which others copied."""


class ClipboardTooLarge(ValueError):
    """The text does not fit into one OSC 52 sequence; offer to write a file."""


def clipboard_text(value: str | bytes, *, environ: Mapping[str, str], multiline: bool = False) -> str:
    r"""Build the sequence that asks the terminal to put text on the clipboard (OSC 52).

    What is copied is made safe too: it will be pasted, perhaps into a shell, so by default newlines are not kept.

    Inside tmux the sequence goes out twice, plain (which tmux takes with `set-clipboard on`) and wrapped for its
    passthrough (which needs `allow-passthrough on`), because neither is on by default; inside GNU screen it is wrapped
    in pieces, as screen bounds the length of a string.

    Args:
        value: What to copy.
        environ: The environment, to see whether tmux or screen is between.
        multiline: Keep newlines, for payloads.

    Returns:
        Bytes for the terminal, as text: unlike safe text, with control characters.

    Raises:
        ClipboardTooLarge: If the encoded text is longer than `CLIPBOARD_LIMIT`.
    """
    data = ""
    too_large = len(value) > CLIPBOARD_LIMIT  # then it is not even scrubbed
    if not too_large:
        text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
        text = "\n".join(map(scrub, text.split("\n"))) if multiline else scrub(text)
        data = base64.b64encode(text.encode("utf-8")).decode("ascii")
        too_large = len(data) > CLIPBOARD_LIMIT
    if too_large:
        raise ClipboardTooLarge(f"more than {CLIPBOARD_LIMIT:,} bytes of base64: too large for the clipboard")
    plain = f"\x1b]52;c;{data}\x07"
    if environ.get("TMUX"):
        escaped = plain.replace("\x1b", "\x1b\x1b")
        return f"{plain}\x1bPtmux;{escaped}\x1b\\"
    if environ.get("STY"):
        pieces = (plain[start : start + 76] for start in range(0, len(plain), 76))
        return "".join(f"\x1bP{piece}\x1b\\" for piece in pieces)
    return plain
