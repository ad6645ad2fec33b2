"""The floor under a hop on Redis: the broker's own commands, without the library.

One hop is one script that acknowledges and deletes the old entry, puts a message into the next queue and a record into
the journal, and notes both in the workflow's hash; messages and records are of the size that ours have. Nothing is
decoded, checked or repeated, and the protocol is spoken by hiredis on bare asyncio streams, so that what the library
adds is all in the difference.

    python -m benchmarks.floor_redis redis://127.0.0.1:6379/0
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sys
import time
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis

STEPS = 4
GROUP = "workers"
SETTLE = """
redis.call('XADD', KEYS[2], '*', 'm', ARGV[2])
local position = redis.call('XADD', KEYS[3], '*', 'r', ARGV[3], 'm', ARGV[2])
redis.call('XACK', KEYS[1], 'workers', ARGV[1])
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[4], 'epoch', 1, 'run', 1, 'hop', 1, 'attempt', 1, 'message', ARGV[1], 'position', position,
  'place', 'work', 'activity', 'step', 'entry', ARGV[1], 'state', 'queued')
return 0
"""
SHA = hashlib.sha1(SETTLE.encode(), usedforsecurity=False).hexdigest()
META = (
    b'{"kind":"advanced","state":"queued","worker":"bench-12345-abcd","at":1790000000.123456,"detail":{"step":"step-1"'
)
META += b',"hop":1,"attempt":1,"started_at":"2026-11-22T18:00:00.123Z","completed_at":"2026-11-22T18:00:00.124Z"'
META += b',"duration_s":0.001}}'

pack: Any = hiredis.pack_command


class Bare:
    """One connection; answers come back in order."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 6379
        self._password = unquote(parts.password) if parts.password else None
        self._database = parts.path.strip("/") or "0"
        self._parser = hiredis.Reader()

    async def open(self) -> Bare:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        if self._password:
            await self.call(("AUTH", self._password))
        await self.call(("SELECT", self._database))
        return self

    async def call(self, *commands: tuple[Any, ...]) -> list[Any]:
        self._writer.write(b"".join([pack(command) for command in commands]))
        answers: list[Any] = []
        while len(answers) < len(commands):
            answer = self._parser.gets()
            if answer is False:
                self._parser.feed(await self._reader.read(65536))
            elif isinstance(answer, Exception):
                raise answer
            else:
                answers.append(answer)
        return answers

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def body_of(payload_bytes: int) -> bytes:
    """A message as ours are: headers and slip of usual size, and so much payload."""
    headers = (
        b'{"spec_version":"1","message_id":"%s","correlation_id":"%s","topic":"bench","hop":"1","run":"1","epoch":"1"'
    )
    headers += b',"attempt":"1","steps_done":"1","steps_total":"4","created_at":"2026-11-22T18:00:00.000Z"'
    headers += b',"timestamp":"2026-11-22T18:00:00.000Z","activity":"step-1"}\n'
    slip = b'{"itinerary":["step-1","step-2","step-3"],"executed":[{"name":"step-0","attempt":1}]}\n'
    payload = b'{"text":"%s"}' % (b"x" * (payload_bytes - 11))
    return headers % (secrets.token_hex(16).encode(), secrets.token_hex(16).encode()) + slip + payload


async def run(
    url: str, *, batch: bool, seconds: float = 5.0, concurrency: int = 64, payload_bytes: int = 1024
) -> float:
    """Hops a second of chains of four.

    Args:
        url: of the server; only keys of a prefix of its own are touched, and deleted at the end.
        batch: the hops of ``concurrency`` messages and the next read in one round trip; else a round trip for each
            hop, ``concurrency`` of them at a time, each on a connection of its own.
        seconds: how long.
        concurrency: see there.
        payload_bytes: of each message.
    """
    prefix = f"{{floor:{secrets.token_hex(4)}}}:"
    streams = [f"{prefix}work:{number}" for number in range(STEPS)]
    journal = f"{prefix}journal"
    body = body_of(payload_bytes)
    main = await Bare(url).open()
    try:
        await main.call(("SCRIPT", "LOAD", SETTLE))
        await main.call(*[("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM") for stream in streams])
        # More than any machine works off in that time, so that the queues are never empty.
        workflows = int(seconds * 60_000 / STEPS)
        for start in range(0, workflows, 500):
            await main.call(*[("XADD", streams[0], "*", "m", body) for _ in range(min(500, workflows - start))])
        measure = _batch if batch else _single
        started = time.perf_counter()
        done = await measure(url, main, prefix, streams, journal, started + seconds, concurrency)
        return done / (time.perf_counter() - started)
    finally:
        await _delete(main, prefix)
        await main.close()


def _settle(prefix: str, streams: list[str], journal: str, number: int, entry: bytes, body: bytes) -> tuple[Any, ...]:
    # What is put behind the last step is not claimed again, as a finished workflow is not.
    following = streams[number + 1] if number + 1 < STEPS else f"{prefix}done"
    return ("EVALSHA", SHA, 4, streams[number], following, journal, f"{prefix}wf:{entry.decode()}", entry, body, META)


def _read(streams: list[str], count: int) -> tuple[Any, ...]:
    each = max(1, count // len(streams))
    return ("XREADGROUP", "GROUP", GROUP, "bench", "COUNT", each, "STREAMS", *streams, *[">"] * len(streams))


def _found(answer: Any, streams: list[str]) -> list[tuple[int, bytes, bytes]]:
    numbers = {stream.encode(): number for number, stream in enumerate(streams)}
    return [(numbers[stream], entry, fields[1]) for stream, entries in answer or () for entry, fields in entries]


async def _batch(
    url: str, main: Bare, prefix: str, streams: list[str], journal: str, until: float, concurrency: int
) -> int:
    done = 0
    held: list[tuple[int, bytes, bytes]] = []
    while time.perf_counter() < until:
        settles = [_settle(prefix, streams, journal, *item) for item in held]
        answers = await main.call(*settles, _read(streams, concurrency))
        done += len(held)
        held = _found(answers[-1], streams)
    return done


async def _single(
    url: str, main: Bare, prefix: str, streams: list[str], journal: str, until: float, concurrency: int
) -> int:
    queue: asyncio.Queue[tuple[int, bytes, bytes]] = asyncio.Queue()
    idle = asyncio.Semaphore(concurrency)
    done = 0

    async def lane() -> None:
        nonlocal done
        line = await Bare(url).open()
        try:
            while True:
                item = await queue.get()
                await line.call(_settle(prefix, streams, journal, *item))
                idle.release()
                done += 1
        finally:
            await line.close()

    lanes = [asyncio.create_task(lane()) for _ in range(concurrency)]
    while time.perf_counter() < until:
        await idle.acquire()
        slots = 1
        while slots < concurrency and not idle.locked():
            await idle.acquire()
            slots += 1
        (answer,) = await main.call(_read(streams, slots))
        found = _found(answer, streams)
        # Where there is one slot and four streams, up to three more are queued; the lanes bound what runs.
        for item in found:
            queue.put_nowait(item)
        for _ in range(slots - len(found)):
            idle.release()
    for task in lanes:
        task.cancel()
    await asyncio.gather(*lanes, return_exceptions=True)
    return done


async def _delete(main: Bare, prefix: str) -> None:
    cursor: Any = "0"
    pattern = prefix.replace("{", "\\{").replace("}", "\\}") + "*"
    while True:
        ((cursor, names),) = await main.call(("SCAN", cursor, "MATCH", pattern, "COUNT", 1000))
        if names:
            await main.call(("UNLINK", *names))
        if cursor in (b"0", "0"):
            return


if __name__ == "__main__":
    target = sys.argv[1] if len(sys.argv) > 1 else "redis://127.0.0.1:6379/0"
    for coalesced in (False, True):
        for lanes in (1, 16, 64, 128):
            figure = asyncio.run(run(target, batch=coalesced, seconds=2.0, concurrency=lanes))
            print(f"{'coalesced' if coalesced else 'one each':9} C={lanes:<4} {figure:9,.0f} hops/s")
