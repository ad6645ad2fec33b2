"""The whole way as people go it, in short; `python -m tests.story` tells it in full."""

from __future__ import annotations

import pytest

from tests.story import tell


@pytest.mark.timeout(180)
@pytest.mark.parametrize("broker", ["redis_url", "rabbit_url"])
def test_the_story_is_told(broker: str, topic: str, request: pytest.FixtureRequest) -> None:
    tell(request.getfixturevalue(broker), topic, 9)
