"""A private ssh-agent for tests."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def ssh_agent(folder: Path) -> Iterator[tuple[str, Path]]:
    """The socket of an agent with two keys, one of them RSA's, and the public half of the other."""
    path = str(folder / "s")
    running = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 10
        while not Path(path).exists():
            assert time.monotonic() < until, "the ssh-agent never came up"
            time.sleep(0.01)
        for kind in ("ed25519", "rsa"):
            file = str(folder / kind)
            subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "ann@desk", "-f", file], check=True)
            environment = {"SSH_AUTH_SOCK": path, "PATH": "/usr/bin:/bin"}
            subprocess.run(["ssh-add", "-q", file], env=environment, check=True, capture_output=True)
        yield path, folder / "ed25519.pub"
    finally:
        running.terminate()
        running.wait(timeout=10)
