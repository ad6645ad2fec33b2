"""What the tests of the core share."""

from __future__ import annotations

import pytest

from tests.core.bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
