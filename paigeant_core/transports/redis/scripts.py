"""The server's side: Lua scripts, each known to the server by the hash of its text."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TypeAlias

Argument: TypeAlias = str | bytes | int
Command: TypeAlias = tuple[Argument, ...]

_texts: dict[str, str] = {}


class Script:
    """One script; the texts named in ``with_`` are put before its own.

    Args:
        name: of its file, without the ending.
        with_: files that it needs.
    """

    __slots__ = ("name", "sha")

    def __init__(self, name: str, *with_: str) -> None:
        folder = resources.files(__package__) / "lua"
        text = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in (*with_, name))
        self.name = name
        # The server's name for a script, no safeguard.
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        _texts[self.sha] = text

    def __call__(self, keys: list[str], arguments: list[Argument]) -> Command:
        """The command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


def text_of(command: Command) -> str | None:
    """The script that ``command`` runs, or None if it runs none of ours."""
    return _texts.get(command[1]) if command[0] == "EVALSHA" and isinstance(command[1], str) else None


MOVE = Script("move", "_head", "_done")
LATE = Script("late", "_head")
ASK = Script("ask", "_head", "_done")
BACK = Script("back", "_head", "_back")
DUE = Script("due", "_head")
CLAIM = Script("claim")
TAKEOVER = Script("takeover")
RENEW = Script("renew")
JOIN = Script("join")
PRESENT = Script("present", "_head")
LOST = Script("lost", "_head")
FORGET = Script("forget")
LEAVE = Script("leave", "_head", "_back")
HISTORY = Script("history", "_head")
EXTENT = Script("extent")
AUDIT = Script("audit")
WITNESS = Script("witness")
SWITCH = Script("switch", "_head")
ERASE = Script("erase", "_head")
