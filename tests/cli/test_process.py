"""What only a process shows: what it imports, how it ends by a signal or a closed pipe, and its last words."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paigeant_core import __version__
from tests.cli.conftest import Cli

Start = Callable[..., subprocess.Popen[str]]

LOADED = """
import sys
from paigeant_console.cli import main
for arguments in {commands!r}:
    main(arguments)
print(*(name for name in {names!r}.split() if name in sys.modules), file=sys.stderr)
"""


@pytest.fixture
def cli(fresh: Cli) -> Cli:
    """Here each command starts as a user's does."""
    return fresh


HEAVY = "textual rich pydantic redis aio_pika httpx"


def loaded(environment: dict[str, str], commands: list[list[str]], names: str = HEAVY) -> list[str]:
    """Which of the heavy packages a process has imported after these commands."""
    code = LOADED.format(commands=commands, names=names)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=40)
    return done.stderr.splitlines()[-1].split()


def test_what_the_commands_import(environment: dict[str, str], tmp_path: Path) -> None:
    url = ["--url", "memory://x"]
    commands = [
        *(["--help"], ["list", "-h"], ["--version"], ["nonsense"]),
        *(["dispatch", "a", "--id", "w", *url], ["list", "--json", *url], ["list", "state:dead", *url], ["list", *url]),
        *(["show", "w", *url], ["show", "w", "--json", *url], ["tail", "--no-follow", *url]),
        *(["queues", *url], ["workers", *url], ["audit", *url], ["info", *url]),
        *(["retry", "w", "--reason", "x", "--yes", *url], ["replay", "w", "--reason", "x", "--dry-run", *url]),
        ["dead-letter", "--where", "*", "--reason", "x", "--yes", "--json", *url],
    ]
    assert loaded(environment, [["--help"], ["list", "-h"], ["nonsense"]], "paigeant_core asyncio") == []
    # Rich alone, for the width of a character outside ASCII.
    assert set(loaded(environment, commands)) <= {"rich"}
    assert loaded(environment, [["list", "--json", "--url", "redis://127.0.0.1:1"]]) == ["redis"]
    assert set(loaded(environment, [["list", "--json", "--url", "amqp://127.0.0.1:1"]])) <= {
        "aio_pika",
        "httpx",
        "rich",
    }


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version").ended(0).out == f"paigeant-console {__version__}\n"
    for arguments in (["-h"], ["--help"]):
        done = cli(*arguments).ended(0)
        assert done.out.startswith("Usage: paigeant-console [OPTIONS] COMMAND")
        assert done.err == ""
    for command in ("list", "dispatch", "retry", "worker"):
        text = cli(command, "-h").ended(0).out
        assert f"Usage: paigeant-console {command}" in text
        assert "--json" in text
        assert "\x1b" not in text


def test_the_console_needs_a_terminal_and_says_so(cli: Cli) -> None:
    for arguments in (["--url", "memory://x"], ["demo"]):
        cli(*arguments).ended(2).said("The console needs a terminal")


def test_an_unforeseen_error_is_one_line_and_a_hint(environment: dict[str, str]) -> None:
    code = (
        "import sys\n"
        "from paigeant_console import cli\n"
        "from paigeant_console.commands import info\n"
        "def broken(call): raise ZeroDivisionError('payload: 4111 1111 1111 1111')\n"
        "info._document = broken\n"
        "sys.exit(cli.main(['info']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=40)
    assert done.returncode == 1
    assert (
        done.stderr
        == "paigeant-console: internal error: ZeroDivisionError; PAIGEANT_DEBUG=1 shows where, please report it\n"
    )
    debug = environment | {"PAIGEANT_DEBUG": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=debug, capture_output=True, text=True, timeout=40)
    assert "Traceback" in done.stderr
    assert "4111" in done.stderr


def test_a_traceback_for_debugging_has_no_password(cli: Cli) -> None:
    env = {"PAIGEANT_DEBUG": "1", "PAIGEANT_URL": "redis://ops:s3cr3t-word@127.0.0.1:1/0"}
    done = cli("list", env=env)
    assert done.code == 4
    assert "Traceback" in done.err
    assert "s3cr3t" not in done.err


@pytest.mark.parametrize("pause", [0.0, 0.05, 1.0])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_what_follows(start: Start, number: signal.Signals, code: int, pause: float) -> None:
    process = start("tail", "--url", "memory://x", "--json", env={"PAIGEANT_CONTEXT": ""})
    # The program has a handler for SIGTERM from its first moments on, and the loop's own for both a little later.
    deadline = time.monotonic() + 20
    while not _handles(process.pid, signal.SIGTERM) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(pause)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert (out, err) == ("", "")


_SWALLOWED = """
import os, signal, sys
from paigeant_console import cli, leaving, runner
from paigeant_console.commands import program

class Dies:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

def first(does):
    def done(*given, **named):
        Dies()
        return does(*given, **named)
    return done

runner.run, leaving.leaving_in_order = first(runner.run), first(leaving.leaving_in_order)
sys.exit(cli.main())
"""


@pytest.mark.parametrize("words", [("tail", "--url", "memory://x"), ("worker", "crew.py", "--url", "memory://x")])
def test_a_signal_whose_exception_python_swallows_ends_the_command_too(
    environment: dict[str, str], target: str, tmp_path: Path, words: tuple[str, ...]
) -> None:
    words = tuple(target if word == "crew.py" else word for word in words)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _SWALLOWED, *words],
        env={**os.environ, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 143


@pytest.mark.parametrize("target", ["slow.py", "slow"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_the_import_of_a_target(
    start: Start, tmp_path: Path, number: signal.Signals, code: int, target: str
) -> None:
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\npathlib.Path('begun').touch()\ntime.sleep(60)\n", encoding="utf-8"
    )
    process = start("worker", target, "--url", "memory://x")
    deadline = time.monotonic() + 20
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    assert process.communicate(timeout=10) == ("", "")
    assert process.returncode == code


def _handles(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal, as Linux tells it."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "SigCgt":
            return bool(int(value, 16) >> (number - 1) & 1)
    return False


DISPATCHES = """
import sys
from paigeant_console.cli import main
for number in range(20):
    main(["dispatch", "a", "--id", f"w{{number}}", "--url", "memory://x"])
sys.stdout.flush()
{before}
sys.exit(main(["list", "--json", "--url", "memory://x"]))
"""


def test_a_closed_pipe_is_quiet(environment: dict[str, str]) -> None:
    code = DISPATCHES.format(before="import os; r, w = os.pipe(); os.dup2(w, 1); os.close(r); os.close(w)")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=40)
    assert (done.returncode, done.stderr) == (141, "")


FOLLOWS = """
import sys
from paigeant_console.cli import main
main(["dispatch", "a", "--id", "w", "--url", "memory://x"])
sys.stdout.flush()
sys.exit(main([*sys.argv[1:], "--url", "memory://x"]))
"""


@pytest.mark.parametrize("connected", [os.pipe, socket.socketpair])
@pytest.mark.parametrize("arguments", [["tail", "--since", "start"], ["show", "w", "--wait"]])
def test_what_follows_ends_when_its_reader_does(
    environment: dict[str, str], arguments: list[str], connected: Callable[[], tuple[Any, Any]]
) -> None:
    # Nothing more comes to be written, so no write can fail.
    ours, theirs = connected()
    process = subprocess.Popen(
        [sys.executable, "-c", FOLLOWS, *arguments], env=environment, stdout=theirs, stderr=subprocess.PIPE, text=True
    )
    read, close = (os.read, os.close) if connected is os.pipe else (socket.socket.recv, socket.socket.close)
    try:
        close(theirs)
        assert read(ours, 2) == b"w\n"
        if arguments[0] == "tail":
            assert b"dispatched" in read(ours, 4096)
        close(ours)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (141, "")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_a_sentence(environment: dict[str, str]) -> None:
    code = DISPATCHES.format(before="import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=40)
    assert done.returncode == 1
    assert done.stderr == "paigeant-console: No space left on device\n"


def test_streams_that_are_closed(environment: dict[str, str]) -> None:
    program = f"{sys.executable} -m paigeant_console"
    for redirection, code in ((">&-", 2), ("2>&-", 0), ("<&-", 0)):
        command = f"{program} info --json {redirection}"
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=40)
        assert done.returncode == code, (redirection, done)
        assert "Traceback" not in done.stderr


def test_nothing_is_done_where_standard_output_is_closed(
    cli: Cli, environment: dict[str, str], redis_url: str, topic: str
) -> None:
    environment |= {"PAIGEANT_URL": redis_url, "PAIGEANT_TOPIC": topic}
    for number in (1, 2):
        cli("dispatch", "a", "--id", f"w{number}").ended(0)
    for words in ("dispatch a --id w3", "hold --where '*' --reason x --yes --json", "list", "worker none.py --json"):
        command = f"{sys.executable} -m paigeant_console {words} >&-"
        done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=40)
        assert done.returncode == 2
        assert done.stderr.startswith("paigeant-console: standard output is closed; give it a file"), done.stderr
        assert done.stderr.count("\n") == 1
    found = cli("list", "--json").ended(0).documents
    assert {item["correlation_id"]: item["state"] for item in found} == {"w1": "queued", "w2": "queued"}
    assert cli("audit", "--json").ended(0).documents == []


def test_a_worker_that_says_nothing_on_standard_output_needs_none(environment: dict[str, str]) -> None:
    command = f"{sys.executable} -m paigeant_console worker none.py --url memory://x >&-"
    done = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, timeout=40)
    assert (done.returncode, "there is no such file" in done.stderr) == (2, True), done.stderr


def test_output_in_another_encoding(environment: dict[str, str]) -> None:
    code = (
        "import sys\n"
        "from paigeant_console.cli import main\n"
        "main(['dispatch', 'a', 'b', '--id', 'w', '--name', 'caf\\u00e9 \\u2603', '--url', 'memory://x'])\n"
        "main(['show', 'w', '--url', 'memory://x'])\n"
        "sys.exit(main(['list', '--url', 'memory://x', 'name:caf']))\n"
    )
    env = environment | {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, timeout=40)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert b"[.] a > [ ] b" in done.stdout
    assert b"caf<U+00E9> <U+2603>" in done.stdout


def test_payload_from_stdin(environment: dict[str, str]) -> None:
    code = (
        "import sys\n"
        "from paigeant_console.cli import main\n"
        "assert main(['dispatch', 'a', '--payload', '-', '--id', 'w', '--url', 'memory://x']) == int(sys.argv[1])\n"
        "sys.exit(main(['show', 'w', '--json', '--url', 'memory://x']))\n"
    )
    run = [sys.executable, "-c", code]
    done = subprocess.run([*run, "0"], env=environment, input=b'{"n": 1.50}\n', capture_output=True, timeout=40)
    assert b'"payload":{"n": 1.50}' in done.stdout
    for data in (b"", b"[]", b"\xff\xfe", b"{" * 100_000):
        done = subprocess.run([*run, "2"], env=environment, input=data, capture_output=True, timeout=40)
        assert done.returncode == 3, (data[:10], done.stderr)
        assert b"the payload must be a JSON object" in done.stderr


def test_completion_knows_the_commands(environment: dict[str, str]) -> None:
    env = environment | {
        "_PAIGEANT_CONSOLE_COMPLETE": "complete_bash",
        "COMP_WORDS": "paigeant-console re",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "paigeant_console"], env=env, capture_output=True, text=True, timeout=40
    )
    assert set(done.stdout.split()) == {"retry", "replay", "release", "restore"}, done


def test_nothing_is_left_in_the_home(cli: Cli, environment: dict[str, str]) -> None:
    cli("list", "--json", "--url", "memory://x").ended(0)
    assert not os.path.lexists(environment["HOME"])
