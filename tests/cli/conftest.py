"""The command line as a user has it: a process of its own, or, where a process adds nothing, a call of `main`."""

from __future__ import annotations

import json
import os
import pwd
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from paigeant_console.cli import main
from tests.cli.forked import ForkServer

ROOT = Path(__file__).parents[2]

TARGET = """
import asyncio
from pathlib import Path

from paigeant_core import RetryPolicy, Worker

worker = Worker()


@worker.activity("validate")
async def validate(ctx):
    print("a handler prints this")
    return {"valid": True}


@worker.activity("charge", retry=RetryPolicy(max_attempts=1))
async def charge(ctx):
    await asyncio.sleep(float(ctx.payload.get("seconds", 0)))
    while (gate := ctx.payload.get("gate")) and not Path(gate).exists():
        await asyncio.sleep(0.02)
    if ctx.payload.get("fail"):
        raise ValueError("no funds")
    return {"charged": ctx.idempotency_key}


@worker.activity("notify")
def notify(ctx):
    return None
"""


@dataclass(frozen=True)
class Done:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        """The JSON Lines, which must be pure."""
        assert self.out.isascii()
        assert "\x1b" not in self.out
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON line."""
        (document,) = self.documents
        return document

    def ended(self, code: int) -> Done:
        """This, if it ended so, and without a traceback."""
        assert "Traceback" not in self.err, self.err
        assert self.code == code, (self.code, self.out, self.err)
        return self

    def said(self, *words: str) -> Done:
        """This, if the last line on stderr is a sentence of this program with these words, and stdout is empty."""
        *_, last = self.err.splitlines()
        assert last.startswith("paigeant-console: "), self.err
        for word in words:
            assert word in last, self.err
        assert not self.out
        return self


Cli = Callable[..., Done]
Rights = Callable[..., None]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment without settings of whoever runs the tests."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PAIGEANT_", "XDG_"))}
    return kept | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path / "home"), "COLUMNS": "200", "TERM": "xterm-256color"}


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """What forks commands."""
    server = ForkServer(ROOT)
    yield server
    server.close()


_COMMAND = re.compile(r"[a-z]+(-[a-z]+)*")
_started: set[str] = set()
"""Commands that were started as a user starts them, by this process of the tests."""


@pytest.fixture
def fresh(environment: dict[str, str], tmp_path: Path) -> Cli:
    """Run a command as a process that starts as a user's does."""

    def run(*arguments: str, env: dict[str, str] | None = None, stdin: str | bytes = b"", timeout: float = 40) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "paigeant_console", *arguments],
            env=environment | (env or {}),
            input=_bytes(stdin),
            capture_output=True,
            timeout=timeout,
            cwd=tmp_path,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def cli(environment: dict[str, str], tmp_path: Path, fork_server: ForkServer, fresh: Cli) -> Cli:
    """Run a command as a process, see `tests/cli/forked.py`."""

    def run(*arguments: str, env: dict[str, str] | None = None, stdin: str | bytes = b"", timeout: float = 40) -> Done:
        name = next(filter(_COMMAND.fullmatch, arguments), "")
        if name not in _started or any(key.startswith(("PYTHON", "LANG", "LC_")) for key in env or ()):
            _started.add(name)
            return fresh(*arguments, env=env, stdin=stdin, timeout=timeout)
        code, out, err = fork_server.run(
            list(arguments), env=environment | (env or {}), cwd=tmp_path, stdin=_bytes(stdin), timeout=timeout
        )
        return Done(code, out.decode(), err.decode())

    return run


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command as a process that goes on."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "paigeant_console", *arguments],
            env=environment | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def target(tmp_path: Path) -> str:
    """A TARGET with the activities validate, charge and notify."""
    path = tmp_path / "activities.py"
    path.write_text(TARGET, encoding="utf-8")
    return str(path)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This process without settings of whoever runs the tests."""
    for name in os.environ:
        if name.startswith(("PAIGEANT_", "XDG_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def here(clean: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command in this process, on an in-memory broker that lives as long as the test."""
    monkeypatch.setenv("PAIGEANT_URL", f"memory://{secrets.token_hex(4)}")

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        code = main(arguments)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom no list knows and who has no HOME, as in many a container."""

    def unknown(uid: int) -> NoReturn:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.fixture
def rights(here: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rights:
    """Let ann, whose key is used from now on, do these operations and no others."""
    public = here("keygen", "ann.json", "--name", "ann", "--audience", "test", "--json").ended(0).document["trust"]

    def give(*operations: str) -> None:
        policy = tmp_path / "trust.toml"
        policy.write_text(
            f'audience = "test"\n[[principal]]\nname = "ann"\nroles = ["operator"]\n'
            f"operations = {json.dumps(operations)}\n{public}\n"
        )
        policy.chmod(0o644)
        monkeypatch.setenv("PAIGEANT_TRUST", str(policy))
        monkeypatch.setenv("PAIGEANT_KEY", "ann.json")

    return give
