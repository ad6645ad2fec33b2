"""Commands that follow the journal, while the broker is away for longer than a transport waits by itself."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from paigeant_console.commands import _following
from paigeant_console.commands._following import Following
from paigeant_core.errors import ConnectError
from paigeant_core.journal import Record
from paigeant_core.transports import get_transport
from paigeant_core.transports.types import END
from tests.chaos.proxy import Proxy, port_of
from tests.cli.conftest import Cli
from tests.cli.test_brokers import Start

AWAY = 4.0
"""Seconds: the transport on Redis gives up after two."""


@pytest.fixture(params=["redis", "rabbitmq"])
def url(request: pytest.FixtureRequest, environment: dict[str, str], topic: str) -> str:
    name = {"redis": "redis_url", "rabbitmq": "rabbit_url"}[request.param]
    found: str = request.getfixturevalue(name)
    environment |= {"PAIGEANT_URL": found, "PAIGEANT_TOPIC": topic}
    return found


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with Proxy(port_of(url)) as running:
        yield running


def away(proxy: Proxy, meanwhile: Callable[[], object]) -> None:
    proxy.cut()
    meanwhile()
    time.sleep(AWAY)
    proxy.mend()


def said_once(stderr: str) -> None:
    assert stderr.count("the broker is away; waiting for it, 60 s at most") == 1, stderr
    assert stderr.count("the broker is back; going on") == 1, stderr


@pytest.mark.parametrize("begun", [True, False])
def test_tail_reads_on_where_it_was(cli: Cli, start: Start, url: str, proxy: Proxy, begun: bool) -> None:
    cli("dispatch", "a", "--id", "before").ended(0)
    # From the end, too: it is where it was when the command began.
    process = start(
        "tail", "--json", *(["--since", "start"] if begun else []), env={"PAIGEANT_URL": proxy.through(url)}
    )
    assert process.stdout is not None
    assert process.stderr is not None
    if begun:
        assert json.loads(process.stdout.readline())["correlation_id"] == "before"
    else:
        time.sleep(3)  # nothing tells that it follows
    away(proxy, lambda: cli("dispatch", "a", "--id", "meanwhile").ended(0))
    assert json.loads(process.stdout.readline())["correlation_id"] == "meanwhile"
    cli("dispatch", "a", "--id", "behind").ended(0)
    assert json.loads(process.stdout.readline())["correlation_id"] == "behind"
    process.terminate()
    assert process.wait(10) == 143
    assert process.stdout.read() == ""
    said_once(process.stderr.read())


@pytest.mark.parametrize("command", ["dispatch", "show"])
def test_wait_outlives_an_outage(cli: Cli, start: Start, url: str, proxy: Proxy, command: str) -> None:
    env = {"PAIGEANT_URL": proxy.through(url)}
    if command == "dispatch":
        process = start("dispatch", "a", "--id", "one", "--wait", env=env)
        assert process.stdout is not None
        assert process.stdout.readline() == "one\n"
    else:
        cli("dispatch", "a", "--id", "one").ended(0)
        process = start("show", "one", "--wait", env=env)
    time.sleep(3)
    away(proxy, lambda: cli("cancel", "one", "--reason", "x", "--yes").ended(0))
    assert process.wait(30) == 1
    assert process.stderr is not None
    said_once(process.stderr.read())


async def test_a_broker_that_stays_away_is_waited_for_so_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, topic: str, proxy: Proxy
) -> None:
    monkeypatch.setattr(_following, "PATIENCE", 4.0)
    async with get_transport(proxy.through(url)) as transport:
        following = Following(transport, topic)
        batches = following.records(END)
        await anext(batches)
        begun = time.monotonic()
        proxy.cut()
        with pytest.raises(ConnectError):
            await _exhaust(batches)
        assert 4.0 <= time.monotonic() - begun < 20.0
    assert capsys.readouterr().err.count("the broker is away") == 1


async def _exhaust(batches: AsyncIterator[list[Record]]) -> None:
    async for _ in batches:
        pass
