"""What transports, workers and consoles hand each other: deliveries, figures, a consumer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from paigeant_core.journal import Kind, Record
from paigeant_core.message import Headers, PaigeantMessage
from paigeant_core.pauses import Pause
from paigeant_core.transition import Transition

START = "start"
"""Read the journal from its oldest record."""
END = "end"
"""Read only what is journalled from now on."""


class Settled(StrEnum):
    """How a settle or an operation ended."""

    DONE = "done"
    ALREADY = "already"
    """A repeated settle of the same transition: nothing was done again."""
    SUPERSEDED = "superseded"
    """The fence has moved on: nothing was published; a settle was journalled so."""
    CLAIMED = "claimed"
    """A worker has the message, and it was asked to be left alone then: nothing was published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What a broker did to erase a workflow, and what it could not.

    Attributes:
        settled: whether it was done, see :class:`Settled`.
        records: journal records that are gone, or shown without their contents from now on.
        parked: dead, held and quarantined messages of it, likewise.
        remains: where its bytes still are, in words; empty: nowhere.
        until: when the last of them are due to go, seconds since the Unix epoch; None: there are none.
    """

    settled: Settled
    records: int = 0
    parked: int = 0
    remains: tuple[str, ...] = ()
    until: float | None = None


@dataclass(slots=True, kw_only=True)
class Delivery:
    """One copy of a message that a worker holds.

    Attributes:
        body: the bytes as they came.
        activity: whose queue it came from.
        deaths: workers that died while they ran it.
        token: what the broker knows the copy by; the transport's own.
        message: the decoded message, once it was admitted.
        settled: whether it was handed on, parked or given back.
    """

    body: bytes
    activity: str
    deaths: int = 0
    token: Any = None
    message: PaigeantMessage | None = None
    settled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A step that a worker runs now."""

    correlation_id: str
    activity: str
    hop: int
    run: int
    attempt: int
    epoch: int
    since: float
    """When it started, seconds since the Unix epoch."""


def holding(headers: Headers, since: float) -> Holding:
    """The step that ``headers`` ask for, run since ``since``."""
    return Holding(
        correlation_id=headers.correlation_id,
        activity=headers.activity,
        hop=headers.hop,
        run=headers.run,
        attempt=headers.attempt,
        epoch=headers.epoch,
        since=since,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """Who a consumer belongs to."""

    worker: str
    activities: tuple[str, ...] = ()
    concurrency: int = 1
    host: str = ""
    pid: int = 0
    started_at: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """A worker that lives, by its own report.

    Attributes:
        info: who it is.
        running: what it holds.
        last_seen_s: seconds since its last report.
    """

    info: WorkerInfo
    running: tuple[Holding, ...] = ()
    last_seen_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """Figures of one activity's queue; None: this broker cannot tell.

    Attributes:
        activity: whose.
        ready: waiting for a worker.
        in_flight: held by workers.
        delayed: waiting for their time.
        consumers: workers that serve it.
        oldest_s: age of the oldest waiting message, in seconds.
        paused: why workers leave it alone; None: they do not.
        exact: ``in_flight`` is of this moment; else of some seconds ago.
    """

    activity: str
    ready: int | None = None
    in_flight: int | None = None
    delayed: int | None = None
    consumers: int | None = None
    oldest_s: float | None = None
    paused: Pause | None = None
    exact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerInfo:
    """What a broker says of itself: name, version and anything else for `info`."""

    broker: str
    version: str
    facts: dict[str, str] = field(default_factory=dict)


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    """Work can be lost, or stands still."""
    UNKNOWN = "unknown"
    """It could not be looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What an examination of a broker found.

    Attributes:
        check: what was looked at, one word.
        level: how bad it is.
        said: one sentence.
        remedy: what to do about it; empty where nothing is to be done.
    """

    check: str
    level: Level
    said: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What this broker can tell or do exactly.

    Attributes:
        exact_fence: an old copy can never be handed on; else only eventually.
        backwards: the journal can be read newest first.
        durable: it survives the process.
    """

    exact_fence: bool = True
    backwards: bool = True
    durable: bool = True


def worker_record(info: WorkerInfo, topic: str, event: str, at: float, gave_back: Sequence[str] = ()) -> Record:
    """The journal's word that a worker started, stopped or was lost.

    Args:
        info: which worker.
        topic: where.
        event: what.
        at: when, seconds since the Unix epoch.
        gave_back: the workflows whose steps it had begun, and handed back when it stopped.
    """
    detail: dict[str, Any] = {
        "event": event,
        "activities": list(info.activities),
        "concurrency": info.concurrency,
        "host": info.host,
        "pid": info.pid,
    }
    if gave_back:
        detail["gave_back"] = list(gave_back)
    return Record(Kind.WORKER, Headers(topic=topic), worker=info.worker, detail=detail, at=at)


class Copy(StrEnum):
    """What a claimed copy of a message is to the fence."""

    CURRENT = "current"
    """The one that its workflow stands at."""
    OTHER = "other"
    """Another one: no transport put it there."""
    GONE = "gone"
    """It was the current one when it was claimed, and somebody moved the workflow since."""
    UNKNOWN = "unknown"
    """This broker cannot tell."""


@dataclass(frozen=True, slots=True)
class Witness:
    """What the fence knows of a workflow whose message was claimed.

    Attributes:
        copy: what the claimed copy is to it.
        mark: :attr:`Transition.mark` of where the workflow stands; empty: none was signed.
    """

    copy: Copy
    mark: str = ""


Take: TypeAlias = Callable[[list[Delivery]], None]
"""Begins with the work on what was claimed."""


class Consumer(ABC):
    """One worker's claim on the queues of some activities.

    From the first :meth:`claim` to :meth:`close` it keeps the leases of what it handed
    out, reports presence, moves what comes due and takes over from the dead.
    """

    @abstractmethod
    async def claim(self, slots: int) -> list[Delivery]:
        """Wait for work; return 1 to ``slots`` deliveries.

        May be cancelled at any time: what was claimed and not returned is handed back.

        Raises:
            TransportError: the broker refuses for good, or this consumer was closed; a lost line is waited out.
        """

    async def deliver(self, slots: int, take: Take) -> None:
        """As :meth:`claim`, for whoever begins with the work at once.

        Args:
            slots: the most deliveries that ``take`` is given.
            take: called once with what was claimed; where it can be, within the very turn of the loop that brings it.
                What it raises is raised, and then nothing was taken.
        """
        take(await self.claim(slots))

    @abstractmethod
    async def witness(self, delivery: Delivery, headers: Headers) -> Witness:
        """What the fence knows of the workflow of a claimed message; asked before a signed one is run.

        Args:
            delivery: the copy.
            headers: its headers.

        Raises:
            TransportError: the broker refuses for good; a lost line is waited out.
        """

    believes = True
    """Whether the headers of what is claimed count as they come; a worker with a policy believes none unverified."""

    def admitted(self, headers: Headers) -> None:  # noqa: B027 - nothing to be done where claims are exact
        """A message of these headers was verified and is about to run; told by a worker that does not believe."""

    @abstractmethod
    async def settle(self, delivery: Delivery, transition: Transition) -> Settled:
        """Carry out ``transition`` and take the delivery out of its queue, in one stroke.

        Waits out a lost line. When the fence has moved on, nothing is published and the
        result is journalled as ``superseded``.
        """

    @abstractmethod
    async def defer(self, delivery: Delivery, delay: float, record: Record) -> None:
        """Put the same bytes back to come again after ``delay`` seconds; journal ``record``.

        What was asked of the step meanwhile is heeded, as by a settle: then it is held, say, and does not come again.
        """

    @abstractmethod
    async def hand_back(self, delivery: Delivery) -> None:
        """Put the same bytes back for any worker, at once; no attempt and no death counts."""

    @abstractmethod
    def let_go(self, delivery: Delivery) -> None:
        """Nobody works on it any more, and nobody could settle it: it comes again after a while, as after a death.

        So what keeps it from being settled is not asked for without a pause, nor for ever. What was settled or handed
        back is left alone.
        """

    @abstractmethod
    def report(self, running: Sequence[Holding]) -> None:
        """Say what this worker holds now; told to the broker at most four times a second."""

    @abstractmethod
    async def close(self) -> None:
        """Stop claiming, hand back what is unsettled, and say that this worker stopped."""
