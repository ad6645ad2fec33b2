"""Who began and did not say that he stopped: a roll of a topic's workers, called now and then.

A worker that dies writes nothing, and no other one is told. The worker that looks for what
the broker lost therefore keeps a roll, by the journal and by what the workers report: who
is on it and is silent at two calls in a row was lost, and is journalled as such. Who then
speaks again had only been cut off, and is journalled as started.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import NamedTuple

import msgspec

from paigeant_core.journal import Record
from paigeant_core.transports.types import WorkerInfo, WorkerStatus

REMEMBERED = 3600.0
"""Seconds for which it is known of a worker that it stopped, or was lost."""

AT_ONCE = 100
"""Workers that one call journals at most; the rest are there at the next."""


class _Told(msgspec.Struct):
    """What the journal's records of workers say, see :func:`worker_record`."""

    event: str
    activities: tuple[str, ...] = ()
    concurrency: int = 1
    host: str = ""
    pid: int = 0


class _Left(NamedTuple):
    lost: bool
    since: float


class Called(NamedTuple):
    """What a call of the roll found, as events of the journal.

    Attributes:
        lost: were silent at the last call too.
        started: had been journalled as lost, and speak again.
    """

    lost: list[WorkerInfo]
    started: list[WorkerInfo]


class Roll:
    """See the module."""

    def __init__(self) -> None:
        self._present: dict[str, WorkerInfo] = {}
        self._left: dict[str, _Left] = {}
        self._silent: set[str] = set()
        """Those that were on the roll and silent at the last call."""

    def forget(self) -> None:
        """The journal may be another one."""
        self._present.clear()
        self._left.clear()
        self._silent.clear()

    def take(self, record: Record) -> None:
        """Note what the journal says of a worker."""
        worker = record.worker
        try:
            told = msgspec.convert(record.detail, _Told)
        except msgspec.ValidationError:
            return  # anybody can have written it
        if told.event == "started":
            self._left.pop(worker, None)
            self._silent.discard(worker)
            self._present[worker] = WorkerInfo(
                worker=worker,
                activities=told.activities,
                concurrency=told.concurrency,
                host=told.host,
                pid=told.pid,
            )
        elif told.event in ("stopped", "lost"):
            self._present.pop(worker, None)
            self._left[worker] = _Left(told.event == "lost", time.monotonic())

    def call(self, heard: Collection[WorkerStatus]) -> Called:
        """Compare the roll with those that were heard of late, all that speak among them."""
        now = time.monotonic()
        self._left = {worker: left for worker, left in self._left.items() if now - left.since < REMEMBERED}
        started: list[WorkerInfo] = []
        for info in (status.info for status in heard):
            left = self._left.get(info.worker)
            if left is None:
                # Its start may have been trimmed from the journal; or it comes with what is read next.
                self._present.setdefault(info.worker, info)
            elif left.lost:
                started.append(info)
        silent = self._present.keys() - {status.info.worker for status in heard}
        lost = [self._present[worker] for worker in sorted(silent & self._silent)]
        self._silent = silent
        return Called(lost[:AT_ONCE], started[:AT_ONCE])

    def stands(self, called: Called) -> Called:
        """What is left of ``called``, now that more of the journal was read."""
        return Called(
            [info for info in called.lost if info.worker in self._present],
            [info for info in called.started if info.worker not in self._present],
        )
