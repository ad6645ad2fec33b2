"""PAIGEANT_DEBUG: where a handler failed, as whoever wrote it finds it."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.console.ptyrun import ENTER, PtyProgram

TARGET = """
import asyncio
import os

from paigeant_core import RetryPolicy, Worker, WorkflowDispatcher, get_transport

worker = Worker()
TOKEN = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.c2lnbmVk"


@worker.activity("charge", retry=RetryPolicy(max_attempts=1))
async def charge(ctx):
    worker.stop()  # and finish this
    return the_one_to_blame(ctx.payload)


def the_one_to_blame(payload):
    raise ValueError(f"no funds, {TOKEN}")


if "DISPATCH" in os.environ:

    async def main():
        async with get_transport("memory://x") as transport:
            await WorkflowDispatcher(transport).dispatch_workflow(["charge"], correlation_id="c-1")

    asyncio.run(main())
"""


@pytest.fixture
def target(tmp_path: Path) -> str:
    path = tmp_path / "shop.py"
    path.write_text(TARGET, encoding="utf-8")
    return str(path)


def test_a_worker_tells_where_a_handler_failed(cli: Cli, target: str) -> None:
    command = ("worker", target, "--url", "memory://x")
    done = cli(*command, env={"DISPATCH": "1"}).ended(0)
    assert "the_one_to_blame" not in done.err
    done = cli(*command, env={"DISPATCH": "1", "PAIGEANT_DEBUG": "1"})
    assert done.code == 0
    assert "debug: c-1: step charge failed" in done.err
    assert "shop.py" in done.err
    assert ", in the_one_to_blame" in done.err
    assert "ValueError: no funds, ***" in done.err


@pytest.mark.pty
def test_a_console_with_workers_keeps_their_log_in_a_file(
    environment: dict[str, str], tmp_path: Path, target: str
) -> None:
    env: dict[str, str | None] = {**environment, "PAIGEANT_DEBUG": "1"}
    argv = [sys.executable, "-m", "paigeant_console", "dev", target]
    with PtyProgram(argv, size=(200, 24), cwd=tmp_path, env=env) as pty:
        pty.wait_for_text("no workflows yet")
        pty.send(":dispatch charge", ENTER)
        said = pty.raw.partition(b"the log is kept in ")[2].partition(b"\r\n")[0].decode()
        log = Path(said)
        assert log.is_relative_to(tmp_path)
        pty.wait(lambda _: "ValueError" in log.read_text(encoding="utf-8"), "the failure")
        pty.send("\x11")
        assert pty.exit_status() == 0
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    text = log.read_text(encoding="utf-8")
    assert ": step charge failed" in text
    assert ", in the_one_to_blame" in text
    assert "ValueError: no funds, ***" in text
