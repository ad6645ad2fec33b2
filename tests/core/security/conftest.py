from __future__ import annotations

import pytest

from tests.core.security.kit import People, Story


@pytest.fixture(scope="session", params=["Ed25519", "ES256"])
def people(request: pytest.FixtureRequest) -> People:
    return People(request.param)


@pytest.fixture
def story(people: People) -> Story:
    return Story(people)
