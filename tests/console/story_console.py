"""A program for `test_pty_console.py`: the console on the sample story, which goes on by signals.

SIGUSR1: one workflow in sight moves on. SIGUSR2: a hundred workflows start at once.
"""

from __future__ import annotations

import signal
import sys
from itertools import count

from paigeant_console.app import run
from paigeant_console.config import load_look
from paigeant_console.demo import SUPPORT
from tests.console.story import RUNNING, sample_story

if __name__ == "__main__":
    story = sample_story()
    story.start(RUNNING + "-moving", SUPPORT * 10, name="support")
    serial = count()

    def one(*_: object) -> None:
        story.done(RUNNING + "-moving", took=0.0)

    def many(*_: object) -> None:
        for _number in range(100):
            story.start(f"burst-{next(serial):05}", ("charge",), name="burst")

    signal.signal(signal.SIGUSR1, one)
    signal.signal(signal.SIGUSR2, many)
    sys.exit(run("memory://story", story.topic, context="test", look=load_look(), connect=story.transport))
