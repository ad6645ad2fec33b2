"""An environment of its own for each peer: pinned, made when first asked for, kept in the user's cache directory."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import platformdirs

PINNED = {
    "faststream": ("faststream[rabbit,redis]==0.7.8", "redis==8.1.0", "aio-pika==10.2.1", "hiredis==3.5.0"),
    "taskiq": ("taskiq==0.13.0", "taskiq-redis==1.2.4", "taskiq-aio-pika==0.6.1", "redis==8.1.0", "hiredis==3.5.0"),
    "saq": ("saq[redis]==0.26.4", "typing-extensions", "redis==7.4.1", "hiredis==3.5.0"),
    "dramatiq": ("dramatiq[rabbitmq,redis]==2.2.1", "redis==8.1.0", "pika==1.4.4", "hiredis==3.5.0"),
    "celery": ("celery[redis]==5.7.0", "kombu==5.7.0", "redis==8.1.0", "hiredis==3.5.0"),
    "arq": ("arq==0.28.0", "redis==5.3.1", "hiredis==3.5.0"),
    "rq": ("rq==3.0.0", "redis==8.1.0", "hiredis==3.5.0"),
    "rstream": ("rstream==1.1.1", "msgspec==0.22.0"),
    "plot": ("matplotlib==3.11.2",),
}
"""What is installed, by environment. A peer's figure in RESULTS.md is that of these versions."""


class CannotInstall(Exception):
    """An environment could not be made; the message says why in one line."""


def python_of(name: str) -> str:
    """The interpreter of an environment; it is made now if it is not there.

    Raises:
        CannotInstall: pip failed.
    """
    pinned = PINNED[name]
    mark = hashlib.sha256("\n".join((sys.version, *pinned)).encode()).hexdigest()[:12]
    directory = platformdirs.user_cache_path("paigeant-bench") / f"{name}-{mark}"
    python = directory / "bin" / "python"
    ready = directory / "ready"
    if not ready.exists():
        print(f"  installing {', '.join(pinned)}", file=sys.stderr)
        shutil.rmtree(directory, ignore_errors=True)
        venv.create(directory, with_pip=True)
        command = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", *pinned]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
            raise CannotInstall(f"{name}: {lines[-1][:200]}")
        ready.touch()
    return str(python)


def root() -> Path:
    """Where this repository is."""
    return Path(__file__).resolve().parent.parent
