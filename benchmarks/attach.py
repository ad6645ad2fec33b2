"""Attach: how soon a console shows the newest of a long journal, and all of it, beside a bare read of the stream."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
from typing import Any

import aio_pika

from benchmarks.chain import Brokers
from benchmarks.fold import ask
from benchmarks.journal_data import Entry, journal
from benchmarks.peers.floor_redis import Bare
from benchmarks.peers.paigeant import TOPIC
from benchmarks.report import Noise, Options, Section, Table, Target, spread
from paigeant_core import WorkflowDispatcher, get_transport
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.topology import Names

STEPS = 5


def _entries(count: int) -> itertools.islice[Entry]:
    return itertools.islice(journal(count // (STEPS + 1) + 1, STEPS), count)


async def fill_redis(url: str, count: int) -> None:
    """So many records into the journal, as our scripts write them."""
    line, source = await Bare(url).open(), _entries(count)
    key = f"{{paigeant:{TOPIC}}}:journal"
    while batch := list(itertools.islice(source, 500)):
        await line.call(*[("XADD", key, "*", "r", meta, "m", body) for meta, body in batch])
    await line.close()


async def fill_rabbitmq(url: str, count: int) -> None:
    """So many records into the stream, as our transport writes them."""
    async with get_transport(url) as transport:
        # It declares what there is to a topic.
        await WorkflowDispatcher(transport).dispatch_workflow(["activity-0"], {}, topic=TOPIC)
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue, source = Names(TOPIC).journal, _entries(count)
        while batch := list(itertools.islice(source, 200)):
            await asyncio.gather(
                *(
                    channel.default_exchange.publish(
                        aio_pika.Message(
                            body,
                            headers={wire.RECORD: meta.decode()},
                            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                        ),
                        routing_key=queue,
                        mandatory=False,
                    )
                    for meta, body in batch
                )
            )


def run(options: Options) -> Section:
    """See the module."""
    section = Section("attach", "Attach")
    rounds = options.rounds or (1 if options.quick else 3)
    counts = {"redis": 60_000, "rabbitmq": 6_000} if options.quick else {"redis": 1_000_000, "rabbitmq": 60_000}
    section.how = (
        f"A journal of {counts['redis']:,} records on Redis and {counts['rabbitmq']:,} on RabbitMQ, 1 KB each, read"
        f" {rounds} times in turns, each time by a fresh process: bare (redis-py's XREAD by the thousand; aio-pika with"
        " a prefetch of 500), by `list`, which folds all of it, and by the console's feed, which shows the newest at"
        " once."
    )
    noise = Noise()
    for broker, title, bare_name in (("redis", "Redis", "XREAD"), ("rabbitmq", "RabbitMQ", "aio-pika")):
        brokers = Brokers(broker)
        try:
            with brokers.one() as (url, _):
                print(f"  filling {title}", file=sys.stderr)
                asyncio.run({"redis": fill_redis, "rabbitmq": fill_rabbitmq}[broker](url, counts[broker]))
                _measure(section, broker, title, bare_name, url, counts[broker], noise, rounds)
        finally:
            brokers.close()
    section.noise = str(noise)
    return section


def _measure(
    section: Section, broker: str, title: str, bare_name: str, url: str, count: int, noise: Noise, rounds: int
) -> None:
    bare_role = ("xread", url) if broker == "redis" else ("stream", url, str(count))
    roles: dict[str, tuple[str, ...]] = {"bare": bare_role, "list": ("rows", url), "console": ("console", url)}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in roles}
    for _ in range(rounds):
        for name, role in roles.items():
            noise.sample()
            found[name].append(ask("benchmarks.probe", *role))
    rates = {name: [item["records"] / item["s"] for item in items] for name, items in found.items()}
    first = [item["first_s"] for item in found["console"]]
    middle = {name: statistics.median(values) for name, values in rates.items()}
    rows = [[f"bare {bare_name}", spread(rates["bare"]), ""]]
    for name, words in (("list", "`list`: all folded"), ("console", "console: all folded")):
        rows.append([words, spread(rates[name]), f"{middle[name] / middle['bare']:.0%}"])
    rows.append(["console: newest screenful", spread(first, " s"), ""])
    section.tables.append(Table(title, ["", "records/s", "of bare"], rows))
    section.targets.append(
        Target(f"{title}: newest screenful within 1 s", spread(first, " s"), statistics.median(first) <= 1.0)
    )
    for name, words in (("list", "`list`"), ("console", "the console")):
        ratios = [own / bare for own, bare in zip(rates[name], rates["bare"], strict=True)]
        section.targets.append(
            Target(
                f"{title}: all of it folded by {words} at 50 % or more of bare {bare_name}",
                f"{middle[name] / middle['bare']:.0%} ({min(ratios):.0%}–{max(ratios):.0%})",
                middle[name] >= middle["bare"] / 2,
            )
        )
