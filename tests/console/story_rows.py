"""A story as the models of the console see it: its rows, its workers, and their text."""

from __future__ import annotations

import threading

from paigeant_console.model.fold import Fold
from paigeant_core.transports.types import WorkerStatus
from tests.console.story import Story


def plain(line: object) -> str:
    return "".join(text for text, _ in line)  # type: ignore[attr-defined]


class StoryRows:
    """The rows of a story, as a feed would hold them."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.fold = Fold(no_worker_after=30)
        self.lock = threading.RLock()
        self._read = 0

    def now(self) -> float:
        return self.story.clock.now()

    def read(self) -> set[str]:
        """Take up what happened since."""
        with self.story.broker.topic(self.story.topic) as state:
            records = list(state.journal)[self._read :]
            self._read += len(records)
        return self.fold.apply(records)


def workers_of(story: Story) -> list[WorkerStatus]:
    found: list[WorkerStatus] = story._do(story.transport().workers(story.topic))
    return found
