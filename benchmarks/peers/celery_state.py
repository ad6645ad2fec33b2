"""celery.events.state.State, which Celery's monitors fold events into: seconds and bytes for so many tasks.

python -m benchmarks.peers.celery_state TASKS
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from celery.events.state import State

TOLD: tuple[tuple[str, dict[str, Any]], ...] = (
    ("sent", {"name": "tasks.one", "args": "()", "kwargs": "{}", "parent_id": None, "retries": 0, "queue": "q"}),
    ("received", {"name": "tasks.one", "args": "()", "kwargs": "{}", "parent_id": None, "retries": 0, "eta": None}),
    ("started", {}),
    ("succeeded", {"result": "None", "runtime": 0.1}),
)


def events(tasks: int) -> Iterator[str]:
    """Four events of each task, as JSON."""
    for number in range(tasks):
        task = f"{os.urandom(4).hex()}-{os.urandom(12).hex()}"
        common = {"uuid": task, "hostname": "w1@host", "timestamp": 1.79e9, "clock": number, "pid": 1, "utcoffset": 0}
        for kind, more in TOLD:
            yield json.dumps({**common, "local_received": 1.79e9, "root_id": task, "type": f"task-{kind}", **more})


def memory() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    tasks = int(sys.argv[1])
    state = State(max_tasks_in_memory=tasks + 1)
    before, folding, decoding, number = memory(), 0.0, 0.0, 0
    batch: list[str] = []
    source = events(tasks)
    while batch := [event for event, _ in zip(source, range(1000), strict=False)]:
        begun = time.perf_counter()
        decoded = [json.loads(event) for event in batch]
        between = time.perf_counter()
        for event in decoded:
            state.event(event)
        folding += time.perf_counter() - between
        decoding += between - begun
        number += len(batch)
    del batch
    result = {"records": number, "fold_s": folding, "decode_s": decoding, "bytes": (memory() - before) / tasks}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
