"""What the journal and the parked streams hold of each workflow: offsets and the last word.

RabbitMQ has no look-up by key, so whoever asks for one workflow reads the stream once
and remembers where its records are. Their bodies are fetched when they are asked for,
but for the newest, which are kept: they are what operators look at.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

from paigeant_core.erasure import is_marker, stripped
from paigeant_core.errors import ConnectError
from paigeant_core.handoff import wish_of
from paigeant_core.journal import Kind, Record
from paigeant_core.names import is_name
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.connection import Line, Message, Missing, Turn
from paigeant_core.transports.rabbitmq.streams import Dropped, Origin, Reading, fetch, up_to_now

_IDLE = 10.0
"""Seconds without a question after which the stream is no longer followed."""


_RECENT_BYTES = 8 * 1024 * 1024
"""Bytes of the newest messages that are kept."""


class Known:
    """One workflow in a stream.

    Attributes:
        offsets: where its records are.
        stands: the ID of the last record that named a state, by epoch and then by position.
        id: the same, or that of what was asked since of the step that it stands at.
        epoch: of that record.
        state: of that record.
        last: where it stands.
        asked: where what was asked since stands; -1: nothing was.
        at: when.
        erased: the ID of the record that says that it was erased; empty: it was not.
    """

    __slots__ = ("asked", "at", "epoch", "erased", "id", "last", "offsets", "stands", "state")

    def __init__(self) -> None:
        self.offsets: array[int] = array("Q")
        self.stands = ""
        self.id = ""
        self.epoch = 0
        self.state = ""
        self.last = -1
        self.asked = -1
        self.at = 0.0
        self.erased = ""

    @property
    def order(self) -> tuple[int, float]:
        """What is greater came later, also between streams."""
        return self.epoch, self.at


class Index:
    """An index of one stream, as far as it was asked for.

    Args:
        line: over which.
        queue: the stream's.
    """

    def __init__(self, line: Line, queue: str) -> None:
        self._line = line
        self._queue = queue
        self._lock = Turn()
        self._reading: Reading | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._next = 0
        self._origin: Origin | None = None
        self._dropped = Dropped(line, queue)
        self._recent: OrderedDict[int, Message] = OrderedDict()
        self._recent_bytes = 0
        self.workflows: dict[str, Known] = {}
        """By ID, in the order of their last records."""
        self.activities: set[str] = set()

    async def catch_up(self) -> None:
        """Read what is new; return when nothing more was there.

        Raises:
            ConnectError: the broker cannot be asked, or gives nothing where there was something.
        """
        async with self._lock:
            if self._idle is not None:
                self._idle.cancel()
            try:
                if not await self._read_on():
                    await self._read_anew()
                await self._dropped.forget(self.workflows, lambda known: known.offsets[-1], self._next)
            finally:
                self._idle = asyncio.get_running_loop().call_later(_IDLE, self._rest)

    async def records(self, offsets: Sequence[int], positions: Mapping[int, str] | None = None) -> list[Record]:
        """The records at these offsets, as far as the stream still holds them, in order.

        Args:
            offsets: rising.
            positions: what to say where they stand; else their offsets.

        Raises:
            ConnectError: the broker cannot be asked.
        """
        messages = {offset: self._recent[offset] for offset in offsets if offset in self._recent}
        if missing := [offset for offset in offsets if offset not in messages]:
            try:
                fetched = await fetch(self._line, self._queue, missing)
            except Missing:
                fetched = []
            messages.update((wire.offset_of(message), message) for message in fetched)
        found = []
        for offset in sorted(messages):
            record = wire.record_of(messages[offset], (positions or {}).get(offset))
            if record is not None:
                known = self.workflows.get(record.headers.correlation_id)
                hidden = known is not None and known.erased not in ("", record.id)
                found.append(stripped(record) if hidden else record)
        return found

    async def close(self) -> None:
        """No longer follow the stream."""
        if self._idle is not None:
            self._idle.cancel()
        reading, self._reading = self._reading, None
        if reading is not None:
            await reading.close()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _read_on(self) -> bool:
        """Over the consumer that is still attached; False: there is none, or it is gone."""
        reading = self._reading
        if reading is None:
            return False
        try:
            while not await reading.quiet():
                self._note_all(await reading.batch(0))
        except (Missing, ConnectError):
            self._reading = None
            return False
        except BaseException:
            self._reading = None
            await reading.close()
            raise
        return True

    async def _read_anew(self) -> None:
        kept: list[Reading] = []
        origin = self._origin
        try:
            if origin is not None and await origin.is_gone(self._line, self._queue):
                self._forget()
            # Silence does not mean that the topic was deleted: what was known would be denied.
            sure = origin is not None
            async for batch in up_to_now(self._line, self._queue, self._next, keep=kept, sure=sure):
                self._note_all(batch)
        except Missing:
            self._forget()
            return
        if kept:
            self._reading = kept[0]

    def _forget(self) -> None:
        self._next = 0
        self._origin = None
        self._recent.clear()
        self._recent_bytes = 0
        self.workflows.clear()
        self.activities.clear()

    def _rest(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            task = asyncio.get_running_loop().create_task(reading.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _note_all(self, batch: list[Message]) -> None:
        for message in batch:
            offset = wire.offset_of(message)
            if offset < self._next:
                continue
            if not self._next:
                self._origin = Origin.of(message)
            self._next = offset + 1
            if (record := wire.record_of(message)) is not None:
                self._note(record, offset)
                self._recent[offset] = message
                self._recent_bytes += len(message.body)
                while self._recent_bytes > _RECENT_BYTES:
                    self._recent_bytes -= len(self._recent.popitem(last=False)[1].body)

    def _note(self, record: Record, offset: int) -> None:
        headers = record.headers
        if headers.activity not in self.activities and is_name(headers.activity):
            self.activities.add(headers.activity)
        if record.kind == Kind.WORKER:
            # It declared their queues, whether a message ever came to them or not.
            served = record.detail.get("activities")
            if isinstance(served, list):
                self.activities.update(name for name in served if isinstance(name, str) and is_name(name))
        if not headers.correlation_id:
            return
        known = self.workflows.pop(headers.correlation_id, None)
        if known is None:
            known = Known()
        self.workflows[headers.correlation_id] = known
        known.offsets.append(offset)
        # A record of an older epoch came past the fence: it is history, not where the workflow stands.
        if record.state and headers.epoch >= known.epoch:
            known.id = known.stands = record.id
            known.epoch, known.state = headers.epoch, record.state
            known.last, known.asked, known.at = offset, -1, record.at
            if is_marker(record):
                known.erased = record.id
        elif not record.state and headers.message_id == known.stands and wish_of(record):
            # Of two operators the second has to look again, whatever the first one did.
            known.id, known.asked = record.id, offset

    def count(self, correlation_id: str) -> int:
        """How many records there were of a workflow, as far as it was asked for."""
        known = self.workflows.get(correlation_id)
        return 0 if known is None else len(known.offsets)

    def newest_first(self) -> Iterator[tuple[str, Known]]:
        """The workflows, the one whose last word came last first."""
        return iter(sorted(self.workflows.items(), key=lambda item: -item[1].last))
