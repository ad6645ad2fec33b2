"""An operator's night in tmux, in short; `python -m tests.night` plays it with more and keeps its pictures."""

from __future__ import annotations

import pytest

from tests.night import Night, as_html


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("broker", ["redis_url", "rabbit_url"])
def test_a_night_in_tmux(broker: str, topic: str, request: pytest.FixtureRequest) -> None:
    screens: dict[str, str] = {}
    Night(request.getfixturevalue(broker), topic, keep=screens.__setitem__).play()
    assert len(screens) == 19
    # Colours come through tmux, and nothing but colours.
    assert all("\x1b[" in screen and "<script" not in as_html(screen) for screen in screens.values())
