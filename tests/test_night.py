"""An operator's night in tmux, in short; `python -m tests.night` plays it with more and keeps its pictures."""

from __future__ import annotations

import pytest

from tests.night import Night, as_html


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_night_in_tmux(redis_url: str, topic: str) -> None:
    """On one broker: on RabbitMQ the outage and the story are played, and `make night` plays it on both."""
    screens: dict[str, str] = {}
    Night(redis_url, topic, keep=screens.__setitem__).play()
    assert len(screens) == 19
    # Colours come through tmux, and nothing but colours.
    assert all("\x1b[" in screen and "<script" not in as_html(screen) for screen in screens.values())
