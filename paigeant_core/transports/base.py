"""What every broker must do: the contract that memory, Redis and RabbitMQ fulfil.

A transport is used from one event loop. It dispatches, hands out a
:class:`Consumer` to workers, lets anybody read the journal without taking anything,
and carries out operators' transitions by compare-and-set. Driver errors become ours at
one seam in each transport.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import ClassVar, Self

from paigeant_core.clock import Clock, SystemClock
from paigeant_core.journal import Record
from paigeant_core.pauses import Pause
from paigeant_core.transition import Place, Transition
from paigeant_core.transports.following import Follower
from paigeant_core.transports.lowlevel import LowLevel
from paigeant_core.transports.types import (
    START,
    BrokerInfo,
    Capabilities,
    Consumer,
    Erased,
    Finding,
    QueueStatus,
    Settled,
    WorkerInfo,
    WorkerStatus,
)


class Transport(LowLevel):
    """A way to one broker. Use as ``async with transport:`` or connect and disconnect.

    Args:
        url: with its password masked, for people.
        clock: where the time comes from.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()
    scheme: ClassVar[str] = ""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        super().__init__(clock or SystemClock())
        self.url = url

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.disconnect()

    # -- connection ---------------------------------------------------------------------

    @abstractmethod
    async def connect(self) -> None:
        """Connect now; without it the first call does.

        Raises:
            ConnectError: nothing answers there.
            AuthenticationError: user or password were refused.
        """

    @abstractmethod
    async def disconnect(self) -> None:
        """Close every consumer, as :meth:`Consumer.close` does, and every connection; safe to repeat."""

    @abstractmethod
    async def broker_info(self) -> BrokerInfo:
        """Which broker this is."""

    @abstractmethod
    async def examine(self, topic: str) -> list[Finding]:
        """What of this broker's state and settings could lose work or keep it waiting; nothing is changed.

        Args:
            topic: whose queues are meant.

        Raises:
            TransportError: the broker does not answer.
        """

    def check_timeouts(self, timeouts: Mapping[str, float | None]) -> None:
        """Refuse activities whose steps the broker would give to another worker while they run.

        Args:
            timeouts: by activity, in seconds; None: its steps may take any time.

        Raises:
            ConfigError: one may take longer than the broker allows.
        """

    async def check_settings(self, topic: str, activities: Iterable[str]) -> None:
        """Refuse to serve activities where the broker is set to throw away what waits for them, as far as it tells.

        Args:
            topic: whose.
            activities: which.

        Raises:
            ConfigError: what is set, and what to do.
        """

    # -- producing and consuming --------------------------------------------------------

    @abstractmethod
    async def dispatch(self, topic: str, transition: Transition, *, chosen_id: bool = True) -> None:
        """Start a workflow.

        Args:
            topic: where.
            transition: made by :func:`paigeant_core.transition.dispatch`.
            chosen_id: its correlation ID was chosen by the caller, so it may exist.

        Raises:
            DuplicateWorkflow: the correlation ID exists.
            PublishUnknown: the broker did not answer; it may run.
        """

    @abstractmethod
    def consumer(self, topic: str, info: WorkerInfo, *, lease: float) -> Consumer:
        """A consumer for ``info.activities``; with none, for every activity known to the topic.

        Args:
            topic: where.
            info: whose.
            lease: seconds after which a worker that renewed nothing has lost its steps.
        """

    # -- observing ----------------------------------------------------------------------

    @abstractmethod
    def records(
        self, topic: str, *, start: str | float = START, follow: bool = False, follower: Follower | None = None
    ) -> AsyncIterator[list[Record]]:
        """Read the journal in order, in batches, without taking anything.

        An empty batch means: caught up. Without ``follow`` the iteration ends there; with
        it, it goes on when more comes, with an empty batch at least once a second.

        Who follows is told where he missed something: the journal was trimmed past the place
        where he was (his line was down, or he slept), or it is gone. He is told within two seconds
        of being on the line, before the next batch.

        Args:
            topic: where.
            start: :data:`START`, :data:`END`, a position to read on after, or a time in
                seconds since the Unix epoch.
            follow: go on for ever.
            follower: who follows; the same one each time that he reads on where he was.
        """

    @abstractmethod
    async def newest(self, topic: str, limit: int) -> list[Record]:
        """The last records of the journal, oldest of them first: what a screen shows while the rest is read.

        Args:
            topic: where.
            limit: at most so many; fewer where they are large, so that they come soon over a slow line too.
        """

    async def ahead(self, topic: str, start: str | float) -> int | None:
        """How many records :meth:`records` will read up to now, about; None: this broker does not tell that at once.

        Args:
            topic: where.
            start: as for :meth:`records`.
        """
        return None

    @abstractmethod
    async def find(self, topic: str, prefix: str, limit: int = 5) -> list[str]:
        """Correlation IDs that begin with ``prefix`` (an exact one alone), at most ``limit``."""

    @abstractmethod
    async def history(self, topic: str, correlation_id: str) -> list[Record]:
        """The records of one workflow, oldest first, as far as the journal holds them.

        The last record that names a state is always among them while the workflow is
        not ended, whatever was trimmed.
        """

    @abstractmethod
    async def queues(self, topic: str) -> list[QueueStatus]:
        """Figures of every activity's queue, by name."""

    @abstractmethod
    async def workers(self, topic: str) -> list[WorkerStatus]:
        """Workers that live, by name."""

    @abstractmethod
    async def silent(self, topic: str) -> list[WorkerStatus]:
        """Workers that fell silent without a word that they stop, by name, and what they held then.

        As far as the broker remembers: an hour on Redis, some minutes at least on RabbitMQ.
        """

    @abstractmethod
    async def refusal(self, topic: str) -> str:
        """Why the broker takes no writes just now, in words; empty: it does, as far as this user can tell.

        While it takes none, no workflow moves, and workers cannot say that they live. Nothing is written to find out.

        Args:
            topic: which one a write would be for.

        Raises:
            TransportError: the broker does not answer.
        """

    @abstractmethod
    async def parked(self, topic: str, place: Place, limit: int = 1000) -> list[Record]:
        """Dead, held or quarantined messages, newest first, the still valid ones only."""

    async def parked_batches(self, topic: str, place: Place, limit: int = 1000) -> AsyncIterator[list[Record]]:
        """The same in batches, as they come: there may be many, and the line may be slow."""
        yield await self.parked(topic, place, limit)

    # -- acting -------------------------------------------------------------------------

    @abstractmethod
    async def operate(
        self, topic: str, transition: Transition, *, expect: str, unless_claimed: bool = False
    ) -> Settled:
        """Carry out an operator's transition, if the workflow is still at ``expect``.

        The old copy, wherever it is, dies at the fence (where the broker can, it is
        deleted in the same stroke).

        Args:
            topic: where.
            transition: its message has a higher epoch than the workflow.
            expect: :attr:`Record.id` of the last record that named a state, or of what was
                asked since.
            unless_claimed: leave the workflow alone if a worker has its message. Brokers
                that cannot tell go by ``expect`` alone.
        """

    @abstractmethod
    async def request(self, topic: str, asked: Record, *, expect: str) -> Settled:
        """Ask for something at the hand-off of a step, if the workflow is still at ``expect``.

        The message stays where it is; whoever settles it heeds the request, see
        :func:`paigeant_core.handoff.heed`. Another request takes the place of this one,
        and any other move of the workflow makes an end of it. Where the fence is eventual
        a settle may come before the request is known, and does not heed it.

        Args:
            topic: where.
            asked: made by :func:`paigeant_core.handoff.request`.
            expect: as for :meth:`operate`.
        """

    @abstractmethod
    async def switch(self, topic: str, record: Record) -> Pause | None:
        """Pause or resume an activity for all its workers, and journal it.

        Workers hear of it within a second or two; what they claimed before runs on. It
        stands until it is taken back, whatever is restarted.

        Args:
            topic: where.
            record: made by :func:`paigeant_core.pauses.switched`.

        Returns:
            The pause that stood there before. One that pauses then changes nothing; one
            that resumes ended it, and where there was none changes nothing.
        """

    @abstractmethod
    async def pauses(self, topic: str) -> dict[str, Pause]:
        """The activities that are paused, by name."""

    @abstractmethod
    async def announce(self, topic: str, schemas: Mapping[str, bytes]) -> None:
        """Let operators know the payloads that activities take; it is kept, whatever is restarted.

        Args:
            topic: where.
            schemas: a JSON Schema by activity, in place of the one before; empty: any payload.
        """

    @abstractmethod
    async def schemas(self, topic: str) -> dict[str, bytes]:
        """What was announced last, by activity; without those that take any payload."""

    @abstractmethod
    async def delete_topic(self, topic: str) -> None:
        """Take away all that a topic has: queues, journal, parked messages, audit, everything.

        Nobody should work on it: a worker or a dispatcher begins it anew.
        """

    @abstractmethod
    async def erase(self, topic: str, marker: Record, *, expect: str) -> Erased:
        """Take away what the topic has of a workflow that waits for no worker: its messages, and what was said of it.

        ``marker`` stays, and fences: a late result is refused and not kept, and the ID stays taken. What cannot
        be taken away is shown to nobody any more, and told in the answer. The audit and the log of operations
        are left as they are.

        Args:
            topic: where.
            marker: made by :func:`paigeant_core.erasure.marker`.
            expect: as for :meth:`operate`.

        Returns:
            With ``SUPERSEDED`` where it moved meanwhile, or waits for a worker; nothing was done then.
        """

    @abstractmethod
    async def append_audit(self, topic: str, entry: bytes, *, follows: bytes | None = None) -> bool:
        """Keep one audit entry (JSON) in the topic's audit store.

        Args:
            topic: whose.
            entry: what.
            follows: the newest entry that it was made to follow, empty where there was none;
                None: whichever there is.

        Returns:
            False: another entry came first, and nothing was kept.
        """

    @abstractmethod
    async def append_operation(self, topic: str, entry: bytes) -> None:
        """Keep one entry (JSON) of what becomes of an operation, in a store beside the audit's."""

    @abstractmethod
    async def operation_entries(self, topic: str, limit: int = 1000) -> list[bytes]:
        """The newest entries of operations, oldest of them first."""

    @abstractmethod
    async def audit(self, topic: str, limit: int = 1000) -> list[bytes]:
        """The newest audit entries, oldest of them first."""
