"""The floor under a hop on Redis: the broker's own commands, without the library.

One hop is one script that acknowledges and deletes the old entry, puts a message into the next queue and a record into
the journal, and notes both in the workflow's hash; messages and records are of the size that ours have. The scripts of
all that was read and the next read go out together, in one round trip. Nothing is decoded, checked or repeated, and the
protocol is spoken by hiredis on bare asyncio streams, so that what the library adds is all in the difference.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from typing import Any
from urllib.parse import unquote, urlsplit

import hiredis

from benchmarks.peers import _peer

GROUP = "workers"
PREFIX = "{floor}:"
STREAMS = [f"{PREFIX}work:{name}" for name in _peer.STEPS]
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
                data = await self._reader.read(65536)
                if not data:
                    raise ConnectionError("the server closed it")
                self._parser.feed(data)
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


async def fill(url: str, count: int, size: int) -> None:
    line, body = await Bare(url).open(), body_of(size)
    await line.call(*[("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM") for stream in STREAMS])
    for start in range(0, count, 500):
        await line.call(*[("XADD", STREAMS[0], "*", "m", body) for _ in range(min(500, count - start))])
    await line.close()


async def work(url: str, concurrency: int) -> None:
    line = await Bare(url).open()
    await line.call(("SCRIPT", "LOAD", SETTLE))
    # Shared evenly, as ours does: what is in one queue alone comes in smaller batches.
    options = ("GROUP", GROUP, f"bench-{os.getpid()}", "COUNT", max(1, concurrency // len(STREAMS)))
    read = ("XREADGROUP", *options, "STREAMS", *STREAMS, *[">"] * len(STREAMS))
    numbers = {stream.encode(): number for number, stream in enumerate(STREAMS)}
    held: list[tuple[int, bytes, bytes]] = []
    while True:
        answers = await line.call(*[_settle(*item) for item in held], read)
        for _ in held:
            _peer.hop()
        held = [(numbers[stream], entry, fields[1]) for stream, found in answers[-1] or () for entry, fields in found]


def _settle(number: int, entry: bytes, body: bytes) -> tuple[Any, ...]:
    # What is put behind the last step is not claimed again, as a finished workflow is not.
    following = STREAMS[number + 1] if number + 1 < len(STREAMS) else f"{PREFIX}done"
    keys = (STREAMS[number], following, f"{PREFIX}journal", f"{PREFIX}wf:{entry.decode()}")
    return ("EVALSHA", SHA, 4, *keys, entry, body, META)


if __name__ == "__main__":
    _peer.main(fill=fill, work=work)
