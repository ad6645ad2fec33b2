"""Attach: how soon a console shows the newest of a long journal, and all of it, beside a bare read of the stream."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import subprocess
import sys
from typing import Any
from urllib.parse import urlsplit

import aio_pika

from benchmarks.chain import Brokers
from benchmarks.environments import CannotInstall, python_of
from benchmarks.fold import ask
from benchmarks.journal_data import Entry, journal
from benchmarks.peers.floor_redis import Bare
from benchmarks.peers.paigeant import TOPIC
from benchmarks.report import Noise, Options, Section, Table, Target, spread
from paigeant_core import WorkflowDispatcher, get_transport
from paigeant_core.transports.rabbitmq import wire
from paigeant_core.transports.rabbitmq.topology import Names
from tests.servers.private import free_port

STEPS = 5
PAYS = 2.0
"""So many times as fast a second protocol has to be to be worth having."""


def _entries(count: int) -> itertools.islice[Entry]:
    return itertools.islice(journal(count // (STEPS + 1) + 1, STEPS), count)


async def fill_redis(url: str, count: int) -> None:
    """So many records into the journal, as our scripts write them."""
    line, source = await Bare(url).open(), _entries(count)
    key, before = f"{{paigeant:{TOPIC}}}:journal", "1790000000000-0"
    while batch := list(itertools.islice(source, 500)):
        before = (await line.call(*[("XADD", key, "*", "r", meta, "m", body, "b", before) for meta, body in batch]))[0]
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
        stream_port = free_port() if broker == "rabbitmq" else 0
        brokers = Brokers(broker, stream_port=stream_port)
        try:
            with brokers.one() as (url, _):
                print(f"  filling {title}", file=sys.stderr)
                asyncio.run({"redis": fill_redis, "rabbitmq": fill_rabbitmq}[broker](url, counts[broker]))
                _measure(section, broker, title, bare_name, url, counts[broker], noise, rounds)
                if stream_port:
                    _stream_protocol(section, url, stream_port, counts[broker], noise, rounds)
        finally:
            brokers.close()
    section.noise = str(noise)
    return section


def _stream_protocol(section: Section, url: str, port: int, count: int, noise: Noise, rounds: int) -> None:
    """The same journal by RabbitMQ's stream protocol, beside what `list` reads over AMQP."""
    vhost, stream = urlsplit(url).path[1:], Names(TOPIC).journal
    found: dict[str, list[float]] = {"bare": [], "fold": [], "list": []}
    try:
        python = python_of("rstream")
        for _ in range(rounds):
            noise.sample()
            for what in ("bare", "fold"):
                given = (str(port), vhost, stream, str(count), what)
                said = ask("benchmarks.peers.rstream_read", *given, python=python)
                found[what].append(said["records"] / said["s"])
            said = ask("benchmarks.probe", "rows", url)
            found["list"].append(said["records"] / said["s"])
    except (CannotInstall, subprocess.CalledProcessError) as error:
        section.notes.append(f"The stream protocol was not measured: {type(error).__name__}.")
        return
    rows = [
        ["rstream, read alone", spread(found["bare"])],
        ["rstream, folded", spread(found["fold"])],
        ["`list` over AMQP, folded", spread(found["list"])],
    ]
    section.tables.append(Table("RabbitMQ's stream protocol (plugin rabbitmq_stream)", ["", "records/s"], rows))
    times = statistics.median(found["fold"]) / statistics.median(found["list"])
    pays = "it would pay here" if times >= PAYS else "it does not pay"
    section.notes.append(
        f"By the stream protocol all of it is folded {times:.1f} times as fast as over AMQP, with a decoder that does"
        f" less than one that is fit for use; asked for were {PAYS:g} times, so {pays}. It is not used: it costs one"
        " more package, a plugin that is off by default, another port with its own TLS and login, addresses that the"
        " broker advertises and clients have to reach, a decoder of AMQP 1.0, and a second way to read for every"
        " outage. What somebody waits for, the newest screenful, comes within a second without it."
    )


def _measure(
    section: Section, broker: str, title: str, bare_name: str, url: str, count: int, noise: Noise, rounds: int
) -> None:
    bare_role = ("xread", url) if broker == "redis" else ("stream", url, str(count))
    roles: dict[str, tuple[str, ...]] = {
        "bare": bare_role,
        "list": ("rows", url),
        "console": ("console", url, str(count)),
    }
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
