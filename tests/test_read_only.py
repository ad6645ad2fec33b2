"""Read-only is read-only: every command, every key and every `:` command is tried, and none may write to the broker.

What writes is the transport's to say: each of its methods is named here as one that reads or one that writes, and each
command with words that would do the most it can. What is new has to be added, or this fails.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
from pathlib import Path
from typing import Any

import pytest
from textual import events

from paigeant_console.actions import ACTIONS, commands
from paigeant_console.commands.program import COMMANDS
from paigeant_core.transports import Transport
from paigeant_core.transports.memory import MemoryTransport
from tests.cli.conftest import Cli, clean, here
from tests.console.appkit import NAMES, console
from tests.console.story import Story

__all__ = ["clean", "here"]  # fixtures

READS = frozenset(
    {"connect", "disconnect", "broker_info", "examine", "records", "newest", "find", "history"}
) | frozenset({"queues", "workers", "silent", "refusal", "parked", "pauses", "schemas", "operation_entries", "audit"})
WRITES = frozenset({"dispatch", "consumer", "operate", "request", "switch", "erase", "delete_topic"}) | frozenset(
    {"append_audit", "append_operation", "announce"}
)

OF_OWN_BROKER = frozenset({"demo", "dev", "import"})
"""Commands that open the console on an in-memory broker of their own, whatever is named."""
SERVING = frozenset({"serve"})
"""Commands that do not end by themselves; what they hand out is the console, which gets `--read-only`."""

ACT = ("--reason", "x", "--yes")
WORDS: dict[str, tuple[str, ...]] = {
    "worker": ("nothing.py",),
    "dispatch": ("a",),
    "list": (),
    "show": ("w1",),
    "history": (),
    "tail": ("--no-follow", "--since", "start"),
    "queues": (),
    "workers": (),
    "audit": (),
    "operations": (),
    "activity": ("pause", "a", *ACT),
    "topic": ("delete", *ACT, "--confirm", "workflows"),
    "export": ("w1",),
    "verify": ("w1",),
    "doctor": (),
    "info": (),
    "keygen": ("--name", "ann"),
    **dict.fromkeys(("retry", "replay", "dead-letter", "hold", "release", "skip", "cancel"), ("w1", *ACT)),
    **dict.fromkeys(("compensate", "restore"), ("w1", *ACT)),
    "insert": ("b", "--id", "w1", *ACT),
    "undo": ("0123456789abcdef", *ACT),
    "erase": ("w1", *ACT, "--confirm", "1"),
}
MORE = (
    ("operations", "pause", "0123456789abcdef"),
    ("operations", "resume", "0123456789abcdef"),
    ("operations", "abort", "0123456789abcdef"),
    ("activity", "resume", "a", *ACT),
    ("cancel", "--where", "*", *ACT, "--delay", "1s"),
    ("retry", "w1", *ACT, "--ramp", "--dry-run"),
    ("erase", "--where", "*", "--reason", "x", "--dry-run"),
)


def forbid(monkeypatch: pytest.MonkeyPatch, calls: list[str]) -> None:
    """Let every method that writes fail, and be noted."""
    for name in WRITES:

        def write(*_args: Any, name: str = name, **_options: Any) -> Any:
            calls.append(name)
            raise AssertionError(f"{name} was called")

        monkeypatch.setattr(MemoryTransport, name, write)


def test_every_method_of_a_transport_is_known_to_read_or_to_write() -> None:
    found = {name for name, member in inspect.getmembers(Transport) if getattr(member, "__isabstractmethod__", False)}
    assert found == READS | WRITES
    assert not READS & WRITES


def test_every_command_is_tried() -> None:
    assert set(WORDS) | OF_OWN_BROKER | SERVING & set(COMMANDS) == set(COMMANDS)


@pytest.mark.parametrize("words", [*((name, *more) for name, more in WORDS.items()), *MORE], ids=" ".join)
@pytest.mark.parametrize("how", ["flag", "environment"])
def test_no_command_writes(here: Cli, words: tuple[str, ...], how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here("dispatch", "a", "--id", "w1").ended(0)
    calls: list[str] = []
    forbid(monkeypatch, calls)
    if how == "environment":
        monkeypatch.setenv("PAIGEANT_READ_ONLY", "1")
    done = here(*words, *(("--read-only",) if how == "flag" else ()))
    assert calls == []
    assert "internal error" not in done.err
    assert done.code in (0, 1, 2, 5)
    writes = words[0] in {"worker", "dispatch", "topic", *(word for word in WORDS if "--reason" in WORDS[word])}
    if writes or words in MORE:
        done.ended(5).said("refused", "--read-only was given" if how == "flag" else "PAIGEANT_READ_ONLY is set")


def two_stories() -> Story:
    story = Story()
    story.start("dead-one", ["a", "b"])
    story.start("waiting", ["a", "b"])
    return story


@pytest.mark.timeout(600)
async def test_no_key_and_no_command_of_the_console_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    leaving = {"quit", "interrupt", "suspend"}
    numbers = {"workflows": "1", "traffic": "2", "queues": "3", "dead": "4", "audit": "5", "workflow": "1"}
    async with console(two_stories(), tmp_path, read_only=True, size=(100, 30)) as opened:
        forbid(monkeypatch, calls)

        async def strike(*keys: str) -> None:
            for key in keys:
                opened.app.post_message(events.Key(NAMES.get(key, key), key if len(key) == 1 else None))
                # What it began is under way before the next one ends it.
                for _ in range(20):
                    await asyncio.sleep(0)
            # Not the pilot's pause: it gives up where the machine is busy.
            await asyncio.sleep(0.02)

        tried = set()
        for action in ACTIONS:
            if action.id in leaving or action.owner not in ("app", "table"):
                continue
            # Where there is a workflow, there is more that it could do.
            view = "workflow" if "workflow" in action.where else min(action.where & numbers.keys())
            for key in action.keys:
                opening = ["enter"] if view == "workflow" else []
                # Whatever it opens is answered.
                await strike("escape", numbers[view], *opening, key, "x", "enter", "y", "escape", "escape")
                tried.add(action.id)
        keyed = {action.id for action in ACTIONS if action.keys and action.owner in ("app", "table")}
        assert keyed - leaving <= tried, "a key that was never pressed"
        for word, action in commands().items():
            # Of what only looks the first of several words is enough.
            if action.id not in leaving and (action.writes or word == action.command[0]):
                await strike("escape", "1", ":", *f"{word} x", "enter", "y", "enter", "escape")
        await opened.settled()
        assert calls == []
    gc.collect()  # a coroutine that was never awaited is told of here, and not in the next test
