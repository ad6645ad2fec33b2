"""Redis: the answers of one connection, however they come; and a line whose callers go away, or whose server does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import InvalidResponse, ResponseError

from paigeant_core.transports.redis import RedisTransport
from paigeant_core.transports.redis.connection import Line
from paigeant_core.transports.redis.endpoint import LineLost
from paigeant_core.transports.redis.wire import Call, Wire
from tests.servers import free_port
from tests.transports import on_redis

connect = on_redis.connect
transport = on_redis.transport

ANSWERS: dict[bytes, Any] = {
    b"+OK\r\n": b"OK",
    b":42\r\n": 42,
    b"$-1\r\n": None,
    b"$5\r\na\r\nbc\r\n": b"a\r\nbc",
    b"*2\r\n:1\r\n*1\r\n$0\r\n\r\n": [1, [b""]],
    b"-WRONGTYPE no stream\r\n": ResponseError("WRONGTYPE no stream"),
}


class Pipe(asyncio.Transport):
    """Takes what is written, and says when it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        pass


class Spoken:
    """A wire on a pipe, its calls, and what each was told."""

    def __init__(self, *sizes: int) -> None:
        self.pipe = Pipe()
        self.told: list[Any] = []
        self.wire = Wire(Writer(self.pipe), 60.0, lambda call, result: call.answered(result))  # type: ignore[arg-type]
        for size in sizes:
            self.ask(size)

    def ask(self, size: int = 1) -> None:
        place = len(self.told)
        self.told.append(None)

        def answered(result: Any) -> None:
            assert self.told[place] is None, "told twice"
            self.told[place] = result

        self.wire.ask(Call([("GET", "x")] * size, answered))

    def comes(self, data: bytes) -> None:
        while data and not self.pipe.closed:
            buffer = self.wire.get_buffer(-1)
            part, data = data[: len(buffer)], data[len(buffer) :]
            buffer[: len(part)] = part
            self.wire.buffer_updated(len(part))


class Writer:
    def __init__(self, transport: Pipe) -> None:
        self.transport = transport


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, Exception):
        return isinstance(found, ResponseError) and str(found) == str(expected)
    return bool(found == expected)


@given(calls=st.lists(st.lists(st.sampled_from(sorted(ANSWERS)), min_size=1, max_size=3), max_size=6), data=st.data())
def test_every_call_has_its_own_answers_however_they_are_cut(calls: list[list[bytes]], data: st.DataObject) -> None:
    async def run() -> None:
        spoken = Spoken(*map(len, calls))
        sent = b"".join(b"".join(call) for call in calls)
        while sent:
            cut = data.draw(st.integers(1, len(sent)))
            spoken.comes(sent[:cut])
            sent = sent[cut:]
        for told, expected in zip(spoken.told, calls, strict=True):
            assert len(told) == len(expected)
            assert all(same(found, ANSWERS[raw]) for found, raw in zip(told, expected, strict=True))
        assert not spoken.wire.closed
        spoken.wire.close()

    asyncio.run(run())


async def test_an_answer_larger_than_the_buffer_is_one_answer() -> None:
    spoken = Spoken(1)
    spoken.comes(b"$1000000\r\n%b\r\n" % (b"x" * 1_000_000))
    assert spoken.told == [[b"x" * 1_000_000]]
    spoken.wire.close()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "Protocol error"),
        (b"-LOADING Redis is loading the dataset in memory\r\n", "loading"),
        (b"-NOAUTH Authentication required.\r\n", "Authentication required"),
    ],
)
async def test_what_tells_of_the_line_closes_it_and_everybody_is_told(data: bytes, expected: str) -> None:
    spoken = Spoken(1, 2, 1)
    spoken.comes(b"+OK\r\n+OK\r\n" + data + b"+OK\r\n")
    assert spoken.pipe.closed
    assert spoken.told[0] == [b"OK"]
    assert expected in str(spoken.told[1])
    assert "broke while others" in str(spoken.told[2])
    spoken.ask()
    assert "closed" in str(spoken.told[3])


async def test_what_nobody_asked_for_closes_the_line() -> None:
    spoken = Spoken(1)
    spoken.comes(b"+OK\r\n+OK\r\n")
    assert spoken.told == [[b"OK"]]
    assert spoken.pipe.closed


async def test_a_line_that_ends_in_the_middle_of_an_answer_tells_everybody() -> None:
    spoken = Spoken(2, 1)
    spoken.comes(b"+OK\r\n$5\r\nab")
    spoken.wire.connection_lost(None)
    assert all(isinstance(told, Exception) and not isinstance(told, InvalidResponse) for told in spoken.told)


async def test_whoever_closes_the_line_when_told_stops_what_was_read_with_it() -> None:
    spoken = Spoken()
    spoken.wire.ask(Call([("GET", "x")], lambda result: spoken.wire.close()))
    spoken.ask()
    spoken.comes(b"+OK\r\n+late\r\n")
    assert spoken.told == [None]


async def test_a_cancelled_caller_closes_the_line_under_all_who_wait(transport: RedisTransport) -> None:
    line = Line(transport._endpoint)
    await line.one(("PING",))
    waiting = asyncio.create_task(line.call(("BLPOP", "nothing-comes", "1"), wait=1))
    behind = asyncio.create_task(line.call(("PING",)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(LineLost) as raised:
        await behind
    assert raised.value.sent
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await line.one(("ECHO", "after")) == b"after"
    assert line._opened == 2
    line.close()


async def test_a_caller_that_is_cancelled_while_the_line_opens_leaves_it_to_the_others(
    transport: RedisTransport,
) -> None:
    line = Line(transport._endpoint)
    for kept in (1, 0):
        calls = [asyncio.create_task(line.one(("ECHO", str(number)))) for number in range(kept + 1)]
        await asyncio.sleep(0)
        calls[0].cancel()
        assert [await call for call in calls[1:]] == [b"1"][:kept]
        line.close()
    assert line._opening is None
    assert await line.one(("ECHO", "after")) == b"after"
    line.close()


async def test_a_line_that_is_closed_while_it_opens_tells_all_who_wait(transport: RedisTransport) -> None:
    line = Line(transport._endpoint)
    calls = [asyncio.create_task(line.one(("PING",))) for _ in range(2)]
    await asyncio.sleep(0)
    line.close()
    for told in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(told, LineLost)
        assert not told.sent


async def test_where_another_server_leads_those_under_way_are_answered_first(transport: RedisTransport) -> None:
    line = Line(transport._endpoint)
    await line.one(("PING",))
    before = [asyncio.create_task(line.one(("ECHO", str(number)))) for number in range(3)]
    await asyncio.sleep(0)
    transport._endpoint.serial += 1
    assert await line.one(("ECHO", "new")) == b"new"
    assert [call.result() for call in before] == [b"0", b"1", b"2"]
    assert line._opened == 2
    line.close()


async def test_a_server_that_hangs_up_is_told_as_a_broken_line() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    port = free_port()
    server = await asyncio.start_server(hang_up, "127.0.0.1", port)
    line = Line(RedisTransport(f"redis://127.0.0.1:{port}")._endpoint)
    for _ in range(2):
        with pytest.raises(LineLost, match="the line broke") as raised:
            await line.call(("PING",))
        assert raised.value.sent
    line.close()
    server.close()
    await server.wait_closed()


async def test_an_answer_that_comes_slowly_is_no_silence() -> None:
    spoken = Spoken(1)
    (call,) = spoken.wire._calls
    before = call.deadline = spoken.wire._loop.time() + 0.001
    spoken.comes(b"$10\r\n01234")
    assert call.deadline > before + 1.0, "the time-out counts from the last that came"
    spoken.comes(b"56789\r\n")
    assert spoken.told == [[b"0123456789"]]
    spoken.wire.close()
