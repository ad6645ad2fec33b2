"""The outage of `tests.outage`, small: brake, resume, abort and the death of consoles, judged by a ledger outside."""

from __future__ import annotations

import pytest

from tests.outage import tell


@pytest.mark.rabbitmq
@pytest.mark.timeout(180)
def test_an_outage_on_rabbitmq(rabbit_url: str, topic: str) -> None:
    """On one broker: on Redis the night and the story are played, and `make outage` plays it on both."""
    assert len(tell(rabbit_url, topic, 120)) == 4
