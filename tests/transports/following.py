"""Following a journal over broken lines, trimming and deletion, on every transport: what was missed is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from paigeant_core.journal import Record
from paigeant_core.transports import Transport
from paigeant_core.transports.following import Follower, Missed
from paigeant_core.transports.types import START
from tests.transports.contract import Connect, TransportContract
from tests.transports.hands import PATIENCE, until


class Reader:
    """Follows a topic, and notes in their order the workflows that he is given records of, and what he is told."""

    def __init__(self, transport: Transport, topic: str) -> None:
        self.seen: list[str] = []
        self.ends = 0
        """How often he had all there was."""
        self._transport = transport
        self._topic = topic
        self._follower = Follower(self.seen.append)
        self._position: str | float = START
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Read on where he was, and come to the end."""
        ends = self.ends
        self._task = asyncio.create_task(self._follow())

        async def there() -> bool:
            assert self._task is not None
            return self.ends > ends or self._task.done()

        await until(there, "he never came to the end")

    async def end(self) -> None:
        """Hang up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def given(self, *workflows: str) -> None:
        """Wait until all of them were seen."""

        async def has() -> bool:
            return set(workflows) <= set(self.seen)

        await until(has, f"{workflows} never came: {self.seen}")

    async def quiet(self) -> None:
        """Wait until he has been at the end again and again: had he been told something, it would be here."""
        ends = self.ends

        async def again() -> bool:
            return self.ends > ends + 1

        await until(again, "he never came to the end again")

    async def _follow(self) -> None:
        records = self._transport.records(self._topic, start=self._position, follow=True, follower=self._follower)
        async for batch in records:
            self.seen += [record.headers.correlation_id for record in batch]
            if batch:
                self._position = batch[-1].position
            self.ends += not batch


class FollowingContract(TransportContract):
    """What a follower is told."""

    @pytest.fixture
    def small(self) -> None:
        """Where a journal is made so small that :meth:`overflow` need not write much."""

    async def trim(self, transport: Transport, topic: str) -> None:
        """Leave the journal's last two records; nothing where it trims itself once enough is written."""

    async def overflow(self, transport: Transport, topic: str) -> list[Record]:
        """Write on until the journal has nothing of what it had, nor all that came since; return what it has then."""
        written: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while True:
                written += [await self.dispatch(transport, topic, "a") for _ in range(5)]
                await self.trim(transport, topic)
                left = await self.journal(transport, topic)
                if written[0] != left[0].headers.correlation_id in written:
                    return left

    @asynccontextmanager
    async def reader(self, transport: Transport, topic: str) -> AsyncIterator[Reader]:
        reader = Reader(transport, topic)
        await reader.begin()
        try:
            yield reader
        finally:
            await reader.end()

    async def test_who_comes_back_to_a_journal_that_leads_on_misses_nothing(self, connect: Connect, topic: str) -> None:
        transport, other = await connect(), await connect()
        workflows = [await self.dispatch(other, topic, "a") for _ in range(3)]
        async with self.reader(transport, topic) as reader:
            for _ in range(2):
                await reader.end()
                workflows.append(await self.dispatch(other, topic, "a"))
                await reader.begin()
            workflows.append(await self.dispatch(other, topic, "a"))
            await reader.given(workflows[-1])
            await reader.quiet()
            assert reader.seen == workflows

    async def test_who_comes_back_to_a_journal_that_was_trimmed_past_him_is_told_before_what_comes_behind(
        self, small: None, connect: Connect, topic: str
    ) -> None:
        transport, other = await connect(), await connect()
        workflows = [await self.dispatch(other, topic, "a") for _ in range(3)]
        async with self.reader(transport, topic) as reader:
            assert reader.seen == workflows
            await reader.end()
            left = [record.headers.correlation_id for record in await self.overflow(other, topic)]
            await reader.begin()
            await reader.given(left[-1])
            assert reader.seen == [*workflows, Missed.TRIMMED, *left]
            # It is told once.
            await reader.quiet()
            later = await self.dispatch(other, topic, "a")
            await reader.given(later)
            assert reader.seen == [*workflows, Missed.TRIMMED, *left, later]

    async def test_who_follows_a_topic_that_is_deleted_is_told_so_and_given_the_next_one_from_its_start(
        self, connect: Connect, topic: str
    ) -> None:
        transport, other = await connect(), await connect()
        old = [await self.dispatch(other, topic, "a") for _ in range(3)]
        async with self.reader(transport, topic) as reader:
            await other.delete_topic(topic)
            await reader.given(Missed.ANEW)
            await reader.quiet()
            assert reader.seen == [*old, Missed.ANEW]
            new = [await self.dispatch(other, topic, "a") for _ in range(2)]
            await reader.given(*new)
            await reader.quiet()
            assert reader.seen == [*old, Missed.ANEW, *new]

    @pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
    @pytest.mark.parametrize("count", [1, 8])
    async def test_who_follows_a_topic_that_is_deleted_and_used_again_at_once_is_told_so(
        self, connect: Connect, topic: str, count: int, away: bool
    ) -> None:
        transport, other = await connect(), await connect()
        old = [await self.dispatch(other, topic, "a") for _ in range(3)]
        async with self.reader(transport, topic) as reader:
            if away:
                await reader.end()
            await other.delete_topic(topic)
            new = [await self.dispatch(other, topic, "a") for _ in range(count)]
            if away:
                await reader.begin()
            await reader.given(*new, Missed.ANEW)
            await reader.quiet()
            told = reader.seen.index(Missed.ANEW)
            # Where it is found out by a look once a second, some of the new ones may have been given before.
            assert reader.seen[:told] == [*old, *new][:told]
            assert reader.seen[told + 1 :] == new
