"""`dev TARGET`: the console, the in-memory broker and a worker of one's own in one process."""

from __future__ import annotations

from paigeant_console.background import Background
from paigeant_console.config import Look
from paigeant_core.capsule import Capsule, adopt
from paigeant_core.transports.memory import MemoryTransport
from paigeant_core.worker import Worker

BROKER = "dev"


def run_dev(
    worker: Worker,
    *,
    topic: str | None = None,
    capsule: Capsule | None = None,
    read_only: bool = False,
    look: Look | None = None,
) -> int:
    """Open the console on a new in-memory broker that ``worker`` serves.

    Args:
        worker: the worker of TARGET.
        topic: in place of the worker's own.
        capsule: a workflow to go on with; its topic wins.
        read_only: refuse every operation.
        look: how the console looks.

    Returns:
        The exit code.
    """
    from paigeant_console.app import run

    transport = MemoryTransport(BROKER)
    if capsule is not None:
        adopt(transport, capsule)
        worker.topic = capsule.topic
    elif topic is not None:
        worker.topic = topic
    with Background(lambda: worker.run(transport), name="dev worker"):
        return run(transport.url, worker.topic, read_only=read_only, look=look or Look(), context="dev")
