"""What must hold on Redis and RabbitMQ alike when workers, lines and operators break; inherited by both.

A subclass gives the fixture `url` of a broker that stays up.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from paigeant_core import transition as moves
from paigeant_core.dispatcher import WorkflowDispatcher, new_workflow
from paigeant_core.errors import DuplicateWorkflow, PublishUnknown, TransportError
from paigeant_core.journal import Kind, Record
from paigeant_core.names import new_id
from paigeant_core.transports import Transport, get_transport
from paigeant_core.transports.types import Delivery
from tests.chaos import ledger
from tests.chaos.crew import ROOT, Processes
from tests.chaos.grounds import Shared
from tests.chaos.proxy import Proxy, port_of
from tests.chaos.storm import Plan, Verdict, complaints, ride
from tests.transports.hands import Hands

PATIENCE = 60.0
"""How long a test waits before it says that something never happened; never a measure."""


async def until(check: Callable[[], Awaitable[Any]], what: str, within: float = PATIENCE) -> Any:
    """Wait until `check()` gives something true and return it."""
    try:
        async with asyncio.timeout(within):
            while True:
                if value := await check():
                    return value
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(what) from None


def hold(verdict: Verdict, folder: Path) -> None:
    """Fail where a run came to what is not promised, with all that is known of it."""
    if wrong := complaints(verdict):
        logs = "\n".join(
            f"-- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:])
            for path in sorted(folder.glob("worker-*.log"))
        )
        pytest.fail("\n".join([*wrong, str(verdict), logs]), pytrace=False)


class Scene:
    """A topic with a ledger and worker processes.

    Args:
        url: of the broker.
        topic: the topic.
        folder: for the ledger and the logs.
        transport: connected.
    """

    def __init__(self, url: str, topic: str, folder: Path, transport: Transport) -> None:
        self.url = url
        self.topic = topic
        self.transport = transport
        self.book = ledger.Ledger(folder / "ledger.jsonl")
        self.crew = Processes(self.book, {"CHAOS_TOPIC": topic}, folder)

    async def dispatch(self, *steps: str, count: int = 1) -> list[str]:
        """Start so many workflows."""
        dispatcher = WorkflowDispatcher(self.transport)
        return [await dispatcher.dispatch_workflow(steps, {"n": n}, topic=self.topic) for n in range(count)]

    def of(self, what: str) -> list[ledger.Event]:
        """The events of one kind so far."""
        return [event for event in self.book.read() if event.what == what]

    async def come_to(self, what: str, count: int) -> None:
        """Wait for so many events of a kind."""

        async def there() -> bool:
            self.crew.living()
            return len(self.of(what)) >= count

        try:
            await until(there, f"never {count} times {what}")
        except AssertionError as error:
            raise AssertionError(f"{error}, but {len(self.of(what))}\n{self.crew.logs()}") from None

    async def records(self) -> list[Record]:
        """The whole journal."""
        return [record async for batch in self.transport.records(self.topic) for record in batch]

    async def kinds(self) -> Counter[str]:
        """The kinds of its records, without those of workers."""
        return Counter(str(record.kind) for record in await self.records() if record.kind != Kind.WORKER)

    async def reach(self, kind: str, count: int) -> None:
        """Wait for so many records of a kind."""

        async def there() -> bool:
            return (await self.kinds())[kind] >= count

        await until(there, f"never {count} records {kind}")


class ChaosContract:
    """Faults that the broker survives."""

    @pytest.fixture
    def url(self) -> str:
        raise RuntimeError("a subclass gives this")

    @pytest.fixture
    async def scene(self, url: str, topic: str, tmp_path: Path) -> AsyncIterator[Scene]:
        async with get_transport(url) as transport:
            made = Scene(url, topic, tmp_path, transport)
            yield made
            await asyncio.to_thread(made.crew.close)
            made.book.close()

    @pytest.fixture
    def proxy(self, url: str) -> Iterator[Proxy]:
        with Proxy(port_of(url)) as made:
            yield made

    # -- workers ------------------------------------------------------------------------

    @pytest.mark.slow
    @pytest.mark.timeout(180)
    async def test_a_worker_that_dies_at_any_point_of_the_hand_off_loses_nothing_and_hands_on_once(
        self, url: str, tmp_path: Path
    ) -> None:
        plan = Plan(fault="points", workflows=40, kills=5, restarts=0, workers=2, every=0.8)
        verdict = await ride(Shared(url), plan, tmp_path)
        hold(verdict, tmp_path)
        assert verdict.kills == 5
        assert set(verdict.again) <= {"worker"}

    @pytest.mark.slow
    @pytest.mark.timeout(180)
    async def test_lines_that_are_cut_stalled_and_slowed_lose_nothing_and_hand_on_once(
        self, url: str, tmp_path: Path
    ) -> None:
        plan = Plan(fault="line", workflows=40, kills=1, restarts=0, every=1.0)
        verdict = await ride(Shared(url), plan, tmp_path)
        hold(verdict, tmp_path)
        assert set(verdict.again) <= {"line"}

    async def test_of_two_workers_that_race_for_a_takeover_one_gets_each_step(self, url: str, topic: str) -> None:
        async with get_transport(url) as one, get_transport(url) as two, get_transport(url) as three:
            dispatcher = WorkflowDispatcher(one)
            workflows = {await dispatcher.dispatch_workflow(["a"], {}, topic=topic) for _ in range(8)}
            dying, left, right = (Hands(transport, topic, "a", lease=0.5) for transport in (one, two, three))
            held: list[Delivery] = []
            while len(held) < len(workflows):
                held += await dying.take(8)
            taken: list[tuple[str, int]] = []

            async def take_over(heir: Hands) -> None:
                while len(taken) < len(workflows):
                    for delivery in await heir.consumer.claim(1):
                        assert await heir._admit(delivery) is not None
                        assert delivery.message is not None
                        taken.append((delivery.message.correlation_id, delivery.deaths))
                        await heir.finish(delivery)

            racing = [asyncio.create_task(take_over(heir)) for heir in (left, right)]
            await dying.consumer._crash()  # type: ignore[attr-defined]
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
            for task in racing:
                task.cancel()
            await asyncio.gather(*racing, return_exceptions=True)
            assert sorted(taken) == sorted((workflow, 1) for workflow in workflows)
            await left.nothing()
            for heir in (left, right):
                await heir.consumer.close()
            for workflow in workflows:
                kinds = [record.kind for record in await two.history(topic, workflow)]
                assert kinds == [Kind.DISPATCHED, Kind.FINISHED]

    async def test_a_handler_that_blocks_the_loop_for_longer_than_its_lease_keeps_its_step(self, scene: Scene) -> None:
        scene.crew.settings |= {"CHAOS_LEASE": "1", "CHAOS_BLOCK_MS": "4000"}
        for _ in range(2):
            scene.crew.start(scene.url)
        await scene.come_to(ledger.BORN, 2)
        (workflow,) = await scene.dispatch("block")
        await scene.come_to(ledger.FINISHED, 1)
        await scene.reach(Kind.FINISHED, 1)
        assert await asyncio.to_thread(scene.crew.dismiss) == [0, 0]
        (started,), (finished,) = scene.of(ledger.STARTED), scene.of(ledger.FINISHED)
        assert started.worker == finished.worker
        assert finished.at - started.at > 3.5
        assert [record.kind for record in await scene.transport.history(scene.topic, workflow)] == [
            Kind.DISPATCHED,
            Kind.FINISHED,
        ]
        events = [record.detail["event"] for record in await scene.records() if record.kind == Kind.WORKER]
        assert "lost" not in events

    @pytest.mark.parametrize("in_time", [True, False], ids=["in-time", "handed-back"])
    async def test_a_worker_that_is_asked_to_stop_drains_and_exits_with_0(
        self, scene: Scene, tmp_path: Path, in_time: bool
    ) -> None:
        gate = tmp_path / "gate"
        scene.crew.settings |= {"CHAOS_GATE": str(gate), "CHAOS_DRAIN": "30" if in_time else "0.2"}
        scene.crew.start(scene.url, command=True)
        await scene.dispatch("one", "two", count=8)
        await scene.come_to(ledger.STARTED, 8)
        dismissing = asyncio.create_task(asyncio.to_thread(scene.crew.dismiss))
        if in_time:
            await until(partial(asyncio.to_thread, scene.of, ledger.ASKED), "it was not asked")
            gate.touch()
        assert await dismissing == [0]
        stopped = len(scene.of(ledger.FINISHED))
        running = len(scene.of(ledger.STARTED))
        gate.touch()
        scene.crew.start(scene.url)
        await scene.reach(Kind.FINISHED, 8)
        again = ledger.started_again(scene.book.read())
        if in_time:
            assert again == []
            assert running == stopped >= 8
        else:
            # What could not finish in time went back at once, and no attempt counts.
            assert [item.cause for item in again] == ["asked"] * 8
            assert (running, stopped) == (8, 0)
        assert ledger.handed_on_twice(await scene.records()) == {}
        assert await asyncio.to_thread(scene.crew.dismiss) == [0]

    # -- operators ----------------------------------------------------------------------

    @pytest.mark.timeout(240)
    async def test_an_operator_killed_in_the_middle_of_a_bulk_retry_leaves_each_workflow_whole(
        self, scene: Scene, tmp_path: Path
    ) -> None:
        mended = tmp_path / "mended"
        scene.crew.settings |= {"CHAOS_MENDED": str(mended), "CHAOS_STEP_MS": "1"}
        scene.crew.start(scene.url)
        workflows = await scene.dispatch("one", "fragile", "two", count=60)
        await scene.reach(Kind.DEAD_LETTERED, 60)
        mended.touch()
        first = await self._operate(scene, workflows, kill_after=15)
        assert 15 <= len(first) < 60
        done = len(first)

        # The one under way when it was killed was done or not; what was said to be done was.
        async def retried() -> set[str]:
            return {r.headers.correlation_id for r in await scene.records() if r.kind == Kind.OPERATED}

        touched = await retried()
        assert set(first) <= touched
        assert len(touched) <= done + 1
        await scene.reach(Kind.FINISHED, len(touched))
        second = await self._operate(scene, workflows)
        assert sorted(second) == sorted(set(workflows) - touched)
        await scene.reach(Kind.FINISHED, 60)
        records = await scene.records()
        kinds = Counter((r.headers.correlation_id, r.kind) for r in records if r.headers.correlation_id)
        for workflow in workflows:
            assert kinds[workflow, Kind.OPERATED] == kinds[workflow, Kind.FINISHED] == 1
        assert ledger.handed_on_twice(records) == {}
        ends = Counter(event.workflow for event in scene.of(ledger.FINISHED) if event.activity == "fragile")
        assert ends == Counter(dict.fromkeys(workflows, 1))
        assert await asyncio.to_thread(scene.crew.dismiss) == [0]

    async def _operate(self, scene: Scene, workflows: list[str], kill_after: int = 0) -> list[str]:
        """Retry them in a process; those it said were done. With `kill_after` it dies soon after it said so many."""
        environment = {**os.environ, "PAIGEANT_URL": scene.url, "CHAOS_TOPIC": scene.topic}
        if kill_after:
            environment["CHAOS_KILL_AFTER"] = str(kill_after)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.chaos.operator_program"),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(" ".join(workflows).encode())
        process.stdin.close()
        done = []
        async with asyncio.timeout(PATIENCE):
            async for line in process.stdout:
                workflow, outcome, *_ = line.decode().split()
                if outcome == "done":
                    done.append(workflow)
            code = await process.wait()
        assert code == (-signal.SIGKILL if kill_after else 0)
        return done

    # -- dispatchers --------------------------------------------------------------------

    @asynccontextmanager
    async def _behind(self, proxy: Proxy, url: str) -> AsyncIterator[Transport]:
        async with get_transport(proxy.through(url)) as transport:
            yield transport
            await asyncio.to_thread(proxy.mend)

    async def test_a_dispatch_while_no_broker_can_be_reached_is_refused_and_not_stored(
        self, scene: Scene, proxy: Proxy
    ) -> None:
        async with self._behind(proxy, scene.url) as transport:
            dispatcher = WorkflowDispatcher(transport)
            await dispatcher.dispatch_workflow(["one"], {}, topic=scene.topic)
            await asyncio.to_thread(proxy.cut)
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(TransportError):
                    await dispatcher.dispatch_workflow(["one"], {}, topic=scene.topic)
            await asyncio.to_thread(proxy.mend)
            await dispatcher.dispatch_workflow(["one"], {}, topic=scene.topic)
        assert await scene.kinds() == {Kind.DISPATCHED: 2}

    @pytest.mark.parametrize("way", ["drop", "cut", "stall", "back"])
    async def test_who_follows_the_journal_over_a_line_that_breaks_goes_on_where_it_was(
        self, scene: Scene, proxy: Proxy, way: str
    ) -> None:
        read: list[Record] = []
        caught_up = asyncio.Event()

        async def follow(transport: Transport) -> None:
            async for batch in transport.records(scene.topic, follow=True):
                read.extend(batch)
                if not batch:
                    caught_up.set()

        async def come() -> bool:
            return len(read) >= count

        async with self._behind(proxy, scene.url) as transport:
            count = 3
            await scene.dispatch("one", count=count)
            following = asyncio.create_task(follow(transport))
            async with asyncio.timeout(PATIENCE):
                await caught_up.wait()
            for _ in range(2):
                if way == "back":
                    await asyncio.to_thread(proxy.stall, "back")
                else:
                    await asyncio.to_thread(getattr(proxy, way))
                await scene.dispatch("one", count=4)
                count += 4
                if way in ("stall", "back"):
                    # Half-open for a while, and then gone.
                    await asyncio.sleep(1.0)
                    await asyncio.to_thread(proxy.drop)
                await asyncio.to_thread(proxy.mend)
                await until(come, f"only {len(read)} of {count} records came")
            following.cancel()
            await asyncio.wait([following])
        assert [record.id for record in read] == [record.id for record in await scene.records()]

    async def _dispatch_unanswered(
        self, scene: Scene, proxy: Proxy, transport: Transport, *, chosen: bool
    ) -> tuple[moves.Transition, BaseException | None]:
        """Dispatch one; the broker stores it, and the line breaks before it can say so. What the caller was told."""
        message = new_workflow(["one"], {}, topic=scene.topic, at=transport.clock.now(), correlation_id=new_id())
        transition = moves.dispatch(message, transport.clock.now())
        self.stall_at_the_publish(transport, proxy)
        task = asyncio.create_task(transport.dispatch(scene.topic, transition, chosen_id=chosen))
        await scene.reach(Kind.DISPATCHED, 1)
        await asyncio.to_thread(proxy.drop)
        await asyncio.to_thread(proxy.mend)
        async with asyncio.timeout(PATIENCE):
            (told,) = await asyncio.gather(task, return_exceptions=True)
        return transition, told

    def stall_at_the_publish(self, transport: Transport, proxy: Proxy) -> None:
        """Let the answer to the next publish be held up, and nothing before it."""
        raise RuntimeError("a subclass gives this")

    async def _runs_once(self, scene: Scene) -> None:
        scene.crew.start(scene.url)
        await scene.reach(Kind.FINISHED, 1)
        assert await asyncio.to_thread(scene.crew.dismiss) == [0]
        assert len(scene.of(ledger.STARTED)) == 1
        assert await scene.kinds() == {Kind.DISPATCHED: 1, Kind.FINISHED: 1}


__all__ = ["ChaosContract", "DuplicateWorkflow", "PublishUnknown", "Scene", "hold", "until"]
