"""Finds the Wycheproof vectors that stand beside the checkout (`../shared/data/wycheproof`, from C2SP, Apache-2.0)."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[4] / "shared" / "data" / "wycheproof"


@functools.cache
def groups(name: str) -> list[dict[str, Any]]:
    """The groups of a file of vectors. Skips the calling test where it is absent; with CI=true that is a failure."""
    path = FOLDER / f"{name}_test.json"
    if not path.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"the vectors ../shared/data/wycheproof/{path.name} are absent", pytrace=False)
        pytest.skip("the Wycheproof vectors are not here; they stand beside the checkout")
    document = json.loads(path.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = document["testGroups"]
    assert sum(len(group["tests"]) for group in found) == document["numberOfTests"]
    return found


def vectors(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each vector of a file, with its group."""
    for group in groups(name):
        for vector in group["tests"]:
            yield group, vector
