"""A journal on RabbitMQ read by its stream protocol, with rstream: seconds for so many records.

python -m benchmarks.peers.rstream_read PORT VHOST STREAM COUNT bare     read, and do nothing
python -m benchmarks.peers.rstream_read PORT VHOST STREAM COUNT fold     read, decode and fold, as `list` does

What is in a message is found by the bytes before it, as only a benchmark may: no decoder that could be adopted does
less, so what this gains is the most that there is to gain.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from urllib.parse import unquote

from rstream import Consumer, ConsumerOffsetSpecification, MessageContext, OffsetType

from paigeant_console.model.fold import Fold
from paigeant_core.journal import Record

META_SHORT, META_LONG = b"\xa1\x01r\xa1", b"\xa1\x01r\xb1"
"""Before a record's meta in a message's application properties: the key ``r`` and a string of at most 255 bytes, or
of more."""
BODY_SHORT, BODY_LONG = b"\x00\x53\x75\xa0", b"\x00\x53\x75\xb0"
CREDIT = 50
"""Chunks that may be on their way."""


def _after(data: bytes, short: bytes, long: bytes) -> bytes:
    at = data.find(long)
    if at >= 0:
        start = at + len(long) + 4
        return data[start : start + int.from_bytes(data[start - 4 : start], "big")]
    at = data.index(short) + len(short)
    return data[at + 1 : at + 1 + data[at]]


async def read(port: int, vhost: str, stream: str, count: int, take: Callable[[bytes, MessageContext], None]) -> float:
    """Seconds until ``count`` messages were given to ``take``."""
    number, all_of_it = 0, asyncio.Event()

    def took(message: bytes, context: MessageContext) -> None:
        nonlocal number
        number += 1
        take(message, context)
        if number >= count:
            all_of_it.set()

    consumer = Consumer("127.0.0.1", port, vhost=vhost, username="guest", password="guest")
    await consumer.start()
    begun = time.perf_counter()
    await consumer.subscribe(
        stream,
        took,
        offset_specification=ConsumerOffsetSpecification(OffsetType.FIRST, None),
        initial_credit=CREDIT,
        subscriber_name="bench",
    )
    await asyncio.wait_for(all_of_it.wait(), 300)
    seconds = time.perf_counter() - begun
    await consumer.close()
    return seconds


def main() -> None:
    port, vhost, stream, count, what = sys.argv[1:]
    logging.basicConfig(level=logging.ERROR)
    fold, waiting = Fold(), list[Record]()

    def folded(message: bytes, context: MessageContext) -> None:
        meta, body = _after(message, META_SHORT, META_LONG), _after(message, BODY_SHORT, BODY_LONG)
        waiting.append(Record.decode(meta, body, position=str(context.offset), at=context.timestamp / 1000))
        if len(waiting) >= 200:
            fold.apply(waiting)
            waiting.clear()

    take = folded if what == "fold" else lambda message, context: None
    seconds = asyncio.run(read(int(port), unquote(vhost), stream, int(count), take))
    fold.apply(waiting)
    print(json.dumps({"records": int(count), "s": seconds, "folded": fold.records, "workflows": len(fold.rows)}))


if __name__ == "__main__":
    main()
