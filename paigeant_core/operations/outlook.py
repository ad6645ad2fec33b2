"""What lies ahead of a message that an operation is about to queue: will anybody run it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from paigeant_core.message import PaigeantMessage
from paigeant_core.pauses import Pause
from paigeant_core.transports import Transport
from paigeant_core.transports.types import WorkerStatus


@dataclass(frozen=True, slots=True)
class Outlook:
    """Who serves what in a topic, at one moment.

    Attributes:
        workers: those that live.
        paused: the activities that are paused.
    """

    workers: tuple[WorkerStatus, ...]
    paused: Mapping[str, Pause]

    @classmethod
    async def of(cls, transport: Transport, topic: str) -> Outlook:
        """Ask a broker."""
        return cls(tuple(await transport.workers(topic)), await transport.pauses(topic))

    def look(self, message: PaigeantMessage) -> str:
        """What is to be said of queueing ``message``; empty: nothing, a worker will run it."""
        activity = message.headers.activity
        if not activity:
            return ""
        if (pause := self.paused.get(activity)) is not None:
            return f"{activity} is paused, so it will wait: {pause.said}"
        if not any(not status.info.activities or activity in status.info.activities for status in self.workers):
            return f"no worker serves {activity} now, so it will wait for one"
        return ""
