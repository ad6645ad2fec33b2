"""Loads the corpus of hostile text that stands beside the checkout (`../shared/data`)."""

from __future__ import annotations

import functools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT.parent / "shared" / "data" / "hostile-text.json"


@dataclass(frozen=True)
class Case:
    """One text that a message may carry."""

    name: str
    text: str
    forbidden: tuple[bytes, ...]
    """Bytes that must not reach a terminal."""
    why: str


@functools.cache
def hostile_cases() -> tuple[Case, ...]:
    """All cases. Skips the calling test (or module) where the corpus is absent; with CI=true that is a failure."""
    if not PATH.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("the corpus of hostile text (../shared/data/hostile-text.json) is absent", pytrace=False)
        pytest.skip("the corpus of hostile text is not here; it stands beside the checkout", allow_module_level=True)
    document = json.loads(PATH.read_text(encoding="utf-8"))
    return tuple(
        Case(case["name"], case["text"], tuple(map(bytes.fromhex, case["forbidden_hex"])), case["why"])
        for case in document["cases"]
    )


def leaks(output: bytes, cases: tuple[Case, ...] | None = None) -> list[str]:
    """Names of the cases of which forbidden bytes are in an output."""
    return [
        case.name
        for case in (hostile_cases() if cases is None else cases)
        if any(forbidden in output for forbidden in case.forbidden)
    ]


MARK_PILE = re.compile("[\u0300-\u036f]{3,}")
"""More marks than one cell may have."""
