"""What an import may bring with it, seen in an interpreter of its own.

The import contracts in pyproject.toml read the source; this looks at what is loaded. `--json` commands and workers pay
for every module on their way: Textual alone costs about a quarter of a second.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

EXTRAS = ("pydantic_ai", "textual_serve", "prometheus_client", "opentelemetry")


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_by(module: str) -> set[str]:
    """The top-level names of all that is loaded once `module` is."""
    # A directory without __init__.py imports as well, as a namespace, and would pass for anything: it has no file.
    code = f"import sys, {module} as m; assert m.__file__; print(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(run(code).split())


def test_the_library_brings_no_terminal_with_it() -> None:
    assert not loaded_by("paigeant_core") & {"textual", "rich", "typer", "paigeant_console"}


def test_the_command_line_starts_without_textual() -> None:
    assert "textual" not in loaded_by("paigeant_console.cli")


@pytest.mark.parametrize("module", ["paigeant_core", "paigeant_console.cli"])
def test_the_extras_are_optional(module: str) -> None:
    absent = "".join(f"sys.modules[{name!r}] = None; " for name in EXTRAS)
    run(f"import sys; {absent}import {module} as m; assert m.__file__")


def test_all_names_at_once_need_no_extra() -> None:
    absent = "".join(f"sys.modules[{name!r}] = None; " for name in EXTRAS)
    run(f"import sys; {absent}exec('from paigeant_core import *'); assert Worker")
