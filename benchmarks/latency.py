"""Latency: from the call that dispatches a workflow to the start of its handler, beside bare round trips."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from redis.asyncio import Redis

from benchmarks import handoff
from benchmarks.chain import Brokers
from benchmarks.peers import floor_rabbitmq, floor_redis
from benchmarks.report import Noise, Options, Section, Table, Target
from paigeant_core import ActivityContext, Worker, WorkflowDispatcher, get_transport
from paigeant_core import transition as moves
from paigeant_core.dispatcher import new_workflow
from paigeant_core.transition import Span
from paigeant_core.transports.redis.encoding import Move, move, waiting_read
from paigeant_core.transports.redis.keys import GROUP, Keys
from paigeant_core.transports.redis.scripts import Command, text_of

TOPIC = "bench"
RATE = 1000.0
"""Workflows a second that arrive in the loaded run."""
PAUSE = 0.003
"""Seconds after which all is quiet again, and nothing is in the processor's caches any more."""
WARM_UP = 30
UNLOADED, WITHOUT_PAUSE = "unloaded", "without a pause"

DRIVER = "bare, by redis-py"

Send = Callable[[int], Awaitable[None]]
"""Sends the message of that number; the time of its arrival is noted elsewhere."""


DISPATCH = """
redis.call('XADD', KEYS[1], '*', 'm', ARGV[2], 'n', ARGV[1])
redis.call('XADD', KEYS[2], '*', 'r', ARGV[3], 'm', ARGV[2])
redis.call('HSET', KEYS[3], 'epoch', 1, 'run', 1, 'hop', 1, 'attempt', 1, 'message', ARGV[1])
"""


class Clockwork:
    """When each message was sent, and when its handler began."""

    def __init__(self) -> None:
        self.sent: dict[int, float] = {}
        self.came: dict[int, float] = {}
        self._arrived = asyncio.Event()

    def arrived(self, number: int, at: float) -> None:
        """The handler of the message of that number began at ``at``, by ``time.perf_counter``."""
        self.came.setdefault(number, at)
        self._arrived.set()

    async def _send(self, send: Send, number: int) -> None:
        self.sent[number] = time.perf_counter()
        await send(number)

    async def one_by_one(self, send: Send, count: int, pause: float = PAUSE) -> list[float]:
        """Seconds that each of ``count`` messages took, each sent when the one before has come, and after a pause."""
        for number in range(count + WARM_UP):
            await self._send(send, number)
            while number not in self.came:
                self._arrived.clear()
                await asyncio.wait_for(self._arrived.wait(), 30.0)
            if pause:
                await asyncio.sleep(pause)
        return self._took(WARM_UP)

    async def at_a_rate(self, send: Send, seconds: float) -> list[float]:
        """Seconds that each message took while :data:`RATE` of them arrive every second."""
        count, begun = int(seconds * RATE), time.perf_counter()
        sending: set[asyncio.Task[None]] = set()
        number = 0
        while number < count:
            due = min(count, int((time.perf_counter() - begun) * RATE) + 1)
            while number < due:
                task = asyncio.create_task(self._send(send, number))
                sending.add(task)
                task.add_done_callback(sending.discard)
                number += 1
            await asyncio.sleep(0.001)
        async with asyncio.timeout(60.0):
            while len(self.came) < count:
                self._arrived.clear()
                await self._arrived.wait()
            # A step may begin before whoever dispatched it has his answer.
            await asyncio.gather(*sending)
        return self._took(int(RATE / 2))

    def _took(self, skip: int) -> list[float]:
        return [self.came[number] - sent for number, sent in self.sent.items() if number >= skip]


Measure = Callable[[Clockwork, Send], Awaitable[list[float]]]


async def ours(url: str, measure: Measure, most: int) -> list[float]:
    """Paigeant: dispatcher and worker with a connection each."""
    clockwork = Clockwork()
    worker = Worker(topic=TOPIC, concurrency=64)

    @worker.activity("one")
    async def one(ctx: ActivityContext) -> None:
        at = time.perf_counter()  # before the payload is decoded to know which one it is
        clockwork.arrived(ctx.payload["number"], at)

    async with get_transport(url) as producing, get_transport(url) as working:
        dispatcher = WorkflowDispatcher(producing)

        async def send(number: int) -> None:
            payload = {"number": number, "pad": "x" * 980}
            await dispatcher.dispatch_workflow(["one"], payload, topic=TOPIC)

        serving = asyncio.create_task(worker.run(working))
        try:
            return await measure(clockwork, send)
        finally:
            worker.stop()
            await serving


class Ready(NamedTuple):
    """One workflow's commands, made beforehand: what dispatches it, and what settles its step."""

    dispatch: Command
    settle: Move


def _ready(count: int) -> dict[bytes, tuple[int, Ready]]:
    """So many workflows, by the message that will be read."""
    keys, found = Keys(TOPIC), {}
    payload = b'{"pad":"%s"}' % (b"x" * 1000)
    for number in range(count):
        message = new_workflow(["one"], payload, topic=TOPIC, at=time.time())
        start = moves.dispatch(message, time.time())
        span = Span(worker="worker-1", started_at=time.time(), completed_at=time.time())
        end = Move(
            keys,
            "settle",
            moves.done(message, None, span),
            expect=message.headers.message_id,
            claimed=("one", ""),
        )
        item = Ready(move(keys, [Move(keys, "dispatch", start, fresh=number == 0)]), end)
        found[start.record.body or b""] = (number, item)
    return found


async def bare_redis(url: str, measure: Measure, most: int) -> list[float]:
    """The same commands: our dispatch, the read that waits, our settle, by hiredis on bare asyncio streams.

    What the library adds is all in the difference; what the broker has to do for a journal and a fence is in both.
    """
    clockwork, keys, ready = Clockwork(), Keys(TOPIC), _ready(most)
    commands = [item.dispatch for _, item in ready.values()]
    writing, reading = await floor_redis.Bare(url).open(), await floor_redis.Bare(url).open()
    await writing.call(("XGROUP", "CREATE", keys.work("one"), GROUP, "0", "MKSTREAM"))
    await writing.call(("SCRIPT", "LOAD", text_of(commands[0])))
    turn = asyncio.Lock()

    async def send(number: int) -> None:
        async with turn:
            await writing.call(commands[number])

    async def read() -> None:
        wanted = waiting_read(keys, "bench", ["one"], 64, 1000)
        done: list[Move] = []
        while True:
            answers = await reading.call(*[move(keys, done)] if done else (), wanted)
            done = []
            at = time.perf_counter()
            for _, entries in answers[-1] or ():
                for entry, fields in entries:
                    number, item = ready[fields[1]]
                    clockwork.arrived(number, at)
                    item.settle.arguments[3] = entry
                    done.append(item.settle)

    return await _while_reading(read, [writing, reading], measure, clockwork, send)


async def driver_redis(url: str, measure: Measure, most: int) -> list[float]:
    """The same commands as :func:`bare_redis`, by redis-py, as aio-pika stands for RabbitMQ."""
    clockwork, keys, ready = Clockwork(), Keys(TOPIC), _ready(most)
    commands = [item.dispatch for _, item in ready.values()]
    over = asyncio.Event()  # redis-py takes a cancellation for a broken line, and its reader would go on
    connect: Any = Redis.from_url  # its types do not say what `execute_command` takes
    writing, reading = (connect(url, protocol=2, single_connection_client=True) for _ in range(2))
    async with writing, reading:
        await writing.xgroup_create(keys.work("one"), GROUP, "0", mkstream=True)
        for known in (commands[0], move(keys, [])):
            await writing.script_load(text_of(known) or "")

        async def send(number: int) -> None:
            await writing.execute_command(*commands[number])

        async def read() -> None:
            wanted = waiting_read(keys, "bench", ["one"], 64, 500)
            done: list[Move] = []
            while not over.is_set():
                both = reading.pipeline(transaction=False)
                if done:
                    both.execute_command(*move(keys, done))
                both.execute_command(*wanted)
                answers = await both.execute()
                done = []
                at = time.perf_counter()
                for _, entries in answers[-1] or ():
                    for entry, fields in entries:
                        number, item = ready[fields[b"m"]]
                        clockwork.arrived(number, at)
                        item.settle.arguments[3] = entry
                        done.append(item.settle)

        reader = asyncio.create_task(read())
        try:
            return await measure(clockwork, send)
        finally:
            over.set()
            await reader


async def least_redis(url: str, measure: Measure, most: int) -> list[float]:
    """A script with two streams and a hash, that checks nothing, and a read that waits; it is acknowledged, no more."""
    clockwork = Clockwork()
    body, stream, group = floor_redis.body_of(1024), floor_redis.STREAMS[0], floor_redis.GROUP
    writing, reading = await floor_redis.Bare(url).open(), await floor_redis.Bare(url).open()
    await writing.call(("XGROUP", "CREATE", stream, group, "0", "MKSTREAM"))
    (sha,) = await writing.call(("SCRIPT", "LOAD", DISPATCH))
    turn = asyncio.Lock()

    async def send(number: int) -> None:
        keys = (stream, f"{floor_redis.PREFIX}journal", f"{floor_redis.PREFIX}wf:{number}")
        async with turn:
            await writing.call(("EVALSHA", sha, 3, *keys, number, body, floor_redis.META))

    async def read() -> None:
        wanted = ("XREADGROUP", "GROUP", group, "bench", "COUNT", 64, "BLOCK", 1000, "STREAMS", stream, ">")
        done: list[bytes] = []
        while True:
            answers = await reading.call(*[("XACK", stream, group, *done)] if done else (), wanted)
            done = []
            at = time.perf_counter()
            for _, entries in answers[-1] or ():
                for entry, fields in entries:
                    clockwork.arrived(int(fields[3]), at)
                    done.append(entry)

    return await _while_reading(read, [writing, reading], measure, clockwork, send)


async def _while_reading(
    read: Callable[[], Coroutine[Any, Any, None]],
    lines: Sequence[floor_redis.Bare],
    measure: Measure,
    clockwork: Clockwork,
    send: Send,
) -> list[float]:
    reader = asyncio.create_task(read())
    try:
        return await measure(clockwork, send)
    finally:
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        for line in lines:
            await line.close()


async def bare_rabbitmq(url: str, measure: Measure, most: int) -> list[float]:
    """A confirmed publish into a quorum queue and a stream, and a consumer."""
    clockwork = Clockwork()
    async with await aio_pika.connect(url) as writing, await aio_pika.connect(url) as reading:
        exchange, _ = await floor_rabbitmq.topology(await writing.channel())
        channel = await reading.channel()
        await channel.set_qos(prefetch_count=64)
        body = b"x" * 1440

        async def took(message: AbstractIncomingMessage) -> None:
            clockwork.arrived(int(message.correlation_id or 0), time.perf_counter())
            await message.ack()

        await (await channel.get_queue(f"{floor_rabbitmq.NAME}.work.0")).consume(took)

        async def send(number: int) -> None:
            message = aio_pika.Message(
                body,
                headers={"r": floor_rabbitmq.RECORD},
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                correlation_id=str(number),
            )
            await exchange.publish(message, routing_key="work.0", mandatory=False)

        return await measure(clockwork, send)


CONTENDERS = {
    "redis": {
        "paigeant": ours,
        "bare": bare_redis,
        DRIVER: driver_redis,
        "bare, three plain writes": least_redis,
    },
    "rabbitmq": {"paigeant": ours, "bare": bare_rabbitmq},
}


def run(options: Options) -> Section:
    """See the module."""
    section = Section("latency", "Latency")
    rounds = options.rounds or (1 if options.quick else 3)
    count, seconds = (60, 1.5) if options.quick else (400, 5.0)
    section.how = (
        "From the call of `dispatch_workflow` to the first line of the handler, 1 KB. Bare is what the broker itself"
        " needs for it: on Redis the very commands that we send, made beforehand (the dispatch with its fence and its"
        " record, a read that waits, and the settle), by hiredis on bare asyncio streams, and once more by redis-py,"
        " which is to Redis what aio-pika is to RabbitMQ; on RabbitMQ a publish to the quorum queue and the stream,"
        " and a consumer, by aio-pika. The three plain writes check nothing and settle nothing: what is"
        f" between them and bare is what a fence and a journal cost the broker. {rounds} rounds in turns; unloaded:"
        f" {count} messages, each alone, with a pause of 3 ms behind each, and without; loaded: {RATE:,.0f} a second"
        f" for {seconds:g} s. The peers: one workflow alone goes round four queues that one worker process serves, for"
        f" {seconds:g} s, and each step notes when it begins; in ours every fourth hand-off is a dispatch. On RabbitMQ"
        " celery does not wait for a confirm, and it and dramatiq use classic queues, which one node alone holds."
    )
    noise = Noise()
    for broker, title in (("redis", "Redis"), ("rabbitmq", "RabbitMQ")):
        brokers = Brokers(broker)
        try:
            _measure(section, brokers, title, noise, rounds, count, seconds)
            handoff.measure(section, brokers, noise, rounds, seconds)
        finally:
            brokers.close()
    section.noise = str(noise)
    return section


def _measure(
    section: Section, brokers: Brokers, title: str, noise: Noise, rounds: int, count: int, seconds: float
) -> None:
    rows: list[list[str]] = []
    contenders = CONTENDERS[brokers.kind]
    for load, most, measure in (
        (UNLOADED, count + WARM_UP, lambda clockwork, send: clockwork.one_by_one(send, count)),
        (WITHOUT_PAUSE, count + WARM_UP, lambda clockwork, send: clockwork.one_by_one(send, count, 0.0)),
        (f"{RATE:,.0f}/s", int(seconds * RATE), lambda clockwork, send: clockwork.at_a_rate(send, seconds)),
    ):
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, contender in contenders.items():
                noise.sample()
                with brokers.one() as (url, _pid):
                    took = sorted(asyncio.run(contender(url, measure, most)))
                found[name].append((statistics.median(took), took[int(len(took) * 0.99)]))
        middle, late = ({name: statistics.median(item[at] for item in found[name]) for name in found} for at in (0, 1))
        rows += [
            [
                f"{name}, {load}",
                f"{middle[name] * 1000:.2f} ms",
                f"{late[name] * 1000:.2f} ms",
                "" if name == "bare" else f"{middle[name] / middle['bare']:.2f} ×",
            ]
            for name in found
        ]
        if load == WITHOUT_PAUSE:
            continue  # easier than what was asked for: all is in the processor's caches
        # redis-py is to Redis what aio-pika is to RabbitMQ; what lies beneath it is the stricter measure.
        floors = {"bare": ", by hiredis alone", DRIVER: ", by redis-py"} if DRIVER in found else {"bare": ""}
        for floor, by in floors.items():
            ratios = [own[0] / bare[0] for own, bare in zip(found["paigeant"], found[floor], strict=True)]
            ratio = middle["paigeant"] / middle[floor]
            section.targets.append(
                Target(
                    f"{title}, {load}: p50 at most 1.5 times the broker's own round trips{by}",
                    f"{ratio:.2f} × ({min(ratios):.2f}–{max(ratios):.2f}); p99 {late['paigeant'] * 1000:.1f} ms,"
                    f" bare {late[floor] * 1000:.1f} ms",
                    ratio <= 1.5,
                )
            )
    section.tables.append(Table(title, ["", "p50", "p99", "to bare"], rows))
