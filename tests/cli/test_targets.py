"""TARGET: found, or a sentence about why not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from paigeant_console.targets import load_target
from paigeant_core.errors import ConfigError

ONE = "from paigeant_core import Worker\nworker = Worker()\nalias = worker\n"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: str, text: str = ONE) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text, encoding="utf-8")


def test_a_file_a_name_in_it_and_a_module(tmp_path: Path) -> None:
    write("one.py")
    found = load_target("one.py")
    assert load_target("one.py:worker") is not found  # a file is run anew
    assert load_target(str(tmp_path / "one.py")).topic == "workflows"
    write("package/__init__.py", "")
    write(
        "package/inner.py",
        "from paigeant_core import Worker\nclass Box:\n    worker = Worker('boxed')\nother = Worker()\n",
    )
    assert load_target("package.inner") is load_target("package.inner:other")
    assert load_target("package.inner:Box.worker").topic == "boxed"


def test_what_lies_beside_a_file_can_be_imported_by_it() -> None:
    write("deep/helper_of_target.py", "NAME = 'deep'\n")
    write(
        "deep/main_target.py",
        "import helper_of_target\nfrom paigeant_core import Worker\nworker = Worker(helper_of_target.NAME)\n",
    )
    assert load_target("deep/main_target.py").topic == "deep"


def test_a_file_called_like_a_module_that_is_loaded() -> None:
    write("json.py", f"import dataclasses\n@dataclasses.dataclass\nclass X:\n    a: int\n{ONE}")
    assert load_target("json.py").topic == "workflows"
    import json

    assert json.loads("1") == 1


@pytest.mark.parametrize(
    ("target", "text", "words"),
    [
        ("none.py", None, "there is no such file"),
        ("none.py:worker", None, "there is no such file"),
        ("no_such_module", None, "for a file write no_such_module.py"),
        ("no_such.module:worker", None, "there is no module no_such"),
        ("not a module", None, "neither a file.py nor the name of a module"),
        (":worker", None, "write file.py, file.py:name or pkg.module:worker"),
        ("t.py:", ONE, "write file.py, file.py:name"),
        ("t.py", "x = 1\n", "has no Worker"),
        (
            "t.py",
            "from paigeant_core import Worker\na = Worker()\nb = Worker()\n",
            "2 workers (a, b); name one: t.py:a",
        ),
        ("t.py:wroker", ONE, "has no wroker; workers in it: worker"),
        ("t.py:x", "x = 1\n", "is a int, not a Worker"),
        ("t.py", "def f():\n    return 1 / 0\n\nf()\n", "ZeroDivisionError: division by zero (t.py:2)"),
        ("t.py", "x = (\n", "SyntaxError: '(' was never closed (t.py:1)"),
        ("t.py", "import no_such_dependency\n", "No module named 'no_such_dependency' (t.py:1)"),
        ("t.py", "raise SystemExit(3)\n", "SystemExit: 3 (t.py:1)"),
        (
            "t.py",
            "class E(Exception):\n    def __str__(self):\n        raise ValueError\nraise E\n",
            "cannot be imported: E (t.py:4)",
        ),
        ("t", "import no_such_dependency\n", "No module named 'no_such_dependency'"),
        ("t.py", "raise ValueError('\\x1b[2J')\n", "ValueError"),
        ("t.py", "\xff".encode("latin-1").decode("utf-8", "replace") + "\n", "SyntaxError"),
        (
            "t.py",
            "from paigeant_core import Worker\nWorker('two words')\n",
            "topic 'two words': use 1 to 64 letters, digits, '_', '.' or '-' (t.py:2)",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(target: str, text: str | None, words: str) -> None:
    if text is not None:
        write("t.py", text)
    with pytest.raises(ConfigError) as caught:
        load_target(target)
    said = str(caught.value)
    assert words in said
    assert said.startswith("TARGET ")
    assert "Traceback" not in said
    assert caught.value.__cause__ is None
