"""What README and docs show is run, as it stands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from paigeant_console.actions import VIEWS
from tests.console.ptyrun import ENTER, PtyProgram

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    """Every code block of ``language``, with where it stands."""
    found = []
    for document in DOCUMENTS:
        for number, (name, code) in enumerate(_BLOCK.findall(document.read_text()), start=1):
            if name == language:
                found.append((f"{document.name}-{number}", code))
    return found


def environment(**more: str) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("PAIGEANT_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{own.get('PATH', '')}"
    return {**own, "PATH": path, "PYTHONPATH": str(ROOT), "PAIGEANT_CONFIG": os.devnull, **more}


@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in blocks("python")])
def test_python_runs(code: str, tmp_path: Path) -> None:
    program = tmp_path / "shown.py"
    program.write_text(code)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)], env=environment(), capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr


def test_the_scripts_story_ends_as_it_says(redis_url: str, topic: str) -> None:
    (story,) = [code for name, code in blocks("sh") if name.startswith("README") and "PAIGEANT_URL" in code]
    story = re.sub(r"^export PAIGEANT_URL=.*$", "", story, flags=re.MULTILINE)
    done = subprocess.run(
        ["bash", "-eu", "-c", f"{story}\nkill %1\nwait"],
        cwd=ROOT,
        env=environment(PAIGEANT_URL=redis_url, PAIGEANT_TOPIC=topic),
        capture_output=True,
        text=True,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    dead = next(line for line in lines if line.get("state") == "dead")
    assert dead["correlation_id"] == "order-1001"
    assert dead["error"]["message"] == "card declined: expired 2024-01"
    assert {"schema": 1, "outcome": "done", "reason": None, "correlation_id": "order-1001"} in lines
    assert lines[-1]["state"] == "completed"
    assert lines[-1]["payload"]["paid"] is True
    assert lines[-1]["payload"]["amount_eur"] == 120.50


def shown_in_readme(language: str, word: str) -> str:
    (found,) = [code for name, code in blocks(language) if name.startswith("README") and word in code]
    return found


@pytest.mark.pty
def test_the_developers_way_as_it_is_typed(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    (tmp_path / "shop.py").write_text(shown_in_readme("python", "# shop.py"))
    command, typed = re.findall(r"`(paigeant-console dev shop\.py|:dispatch [^`]+)`", text)
    argv = [sys.executable, "-m", "paigeant_console", *command.split()[1:]]
    env: dict[str, str | None] = {"PYTHONPATH": str(ROOT), "PAIGEANT_CONFIG": os.devnull, "HOME": str(tmp_path)}
    with PtyProgram(argv, env=env, cwd=tmp_path) as console:
        console.wait_for_text("no workflows yet")
        console.send(typed, ENTER)
        console.wait_for_text("completed")
        console.send("q")
        assert console.exit_status() == 0


@pytest.mark.pty
def test_the_operators_command_opens_the_console(rabbit_url: str, topic: str, tmp_path: Path) -> None:
    (command,) = shown_in_readme("sh", "--read-only").splitlines()
    name, *arguments = command.replace("amqp://rabbit.example.com", rabbit_url).split()
    assert name == "paigeant-console"
    env: dict[str, str | None] = {"PYTHONPATH": str(ROOT), "PAIGEANT_CONFIG": os.devnull, "PAIGEANT_TOPIC": topic}
    with PtyProgram([sys.executable, "-m", "paigeant_console", *arguments], env=env) as console:
        console.wait_for_text("READ-ONLY")
        console.wait_for_text("no workflows yet")
        console.send("q")
        assert console.exit_status() == 0


def test_the_pictures_are_those_that_one_command_draws_and_all_are_shown() -> None:
    folder = ROOT / "screenshots"
    drawn = {path.stem for path in folder.glob("*.svg")}
    made = re.findall(r'^    "(\w+)": ', (folder / "make.py").read_text(), re.MULTILINE)
    assert drawn == set(made)
    shown = {
        Path(link).stem for document in DOCUMENTS for link in re.findall(r"!\[[^]]+\]\(([^)]+)\)", document.read_text())
    }
    assert drawn == shown
    for name in drawn:
        picture = re.sub(r"<[^>]+>", " ", (folder / f"{name}.svg").read_text()).replace("&#160;", " ")
        # The tabs of every view, as this code names them.
        assert [view for view in VIEWS if view != "help" and view not in picture] == [], name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []
