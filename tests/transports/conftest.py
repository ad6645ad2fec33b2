"""Brokers of the transports' own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import RabbitServer


@pytest.fixture(scope="session")
def _mortal() -> Iterator[RabbitServer]:
    with RabbitServer(conf={"max_message_size": "100000"}) as server:
        yield server


@pytest.fixture
def own_server(_mortal: RabbitServer) -> RabbitServer:
    """A node to kill and to start again: one for all tests that do, as each start takes ten seconds of work.

    It takes no message beyond 100,000 bytes.
    """
    if not _mortal.running:  # the test before failed in between
        _mortal.start()
    return _mortal
