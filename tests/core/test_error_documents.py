"""What the journal keeps of an exception."""

from __future__ import annotations

from typing import Any

import pytest

from paigeant_core.transition import MAX_ERROR_TEXT, error_document


class _BadText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "document"),
    [
        (ValueError("no"), {"type": "ValueError", "message": "no"}),
        (ValueError(), {"type": "ValueError", "message": ""}),
        (_BadText(), {"type": "_BadText", "message": "(its text cannot be had)"}),
        (ValueError("\ud800"), {"type": "ValueError", "message": "\\ud800"}),
        (ValueError("x" * 5000), {"type": "ValueError", "message": "x" * MAX_ERROR_TEXT}),
    ],
    ids=["text", "none", "raises", "surrogate", "long"],
)
def test_an_error_is_kept_as_type_and_text(error: Exception, document: dict[str, str]) -> None:
    assert error_document(error) == document


class _BadGroup(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> Any:
        raise RuntimeError("none")


def _nested(depth: int) -> ExceptionGroup[Exception]:
    group: ExceptionGroup[Exception] = ExceptionGroup("g", [ValueError("deep")])
    for _ in range(depth):
        group = ExceptionGroup("g", [group])
    return group


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            ExceptionGroup("of a TaskGroup", [ValueError("no funds"), ExceptionGroup("in it", [KeyError("x")])]),
            "ExceptionGroup",
            "ValueError: no funds; KeyError: 'x' (of a TaskGroup (2 sub-exceptions))",
        ),
        (
            BaseExceptionGroup("g", [_BadText(), SystemExit(3)]),
            "BaseExceptionGroup",
            "_BadText: (its text cannot be had); SystemExit: 3 (g (2 sub-exceptions))",
        ),
        (_BadGroup("g", [ValueError("no")]), "ValueError", "no (g (1 sub-exception))"),
        (ExceptionGroup("g", [ValueError()]), "ValueError", "(g (1 sub-exception))"),
        (_nested(10), "ValueError", "deep (g (1 sub-exception))"),
        (_nested(1_000), "ExceptionGroup", "g (1 sub-exception)"),
    ],
    ids=["flat and nested", "without text", "without exceptions", "nothing said", "deep", "too deep"],
)
def test_a_group_tells_what_is_in_it(error: BaseException, kind: str, message: str) -> None:
    assert error_document(error) == {"type": kind, "message": message}


def test_a_large_group_is_cut() -> None:
    document = error_document(ExceptionGroup("g", [ValueError("x" * 500) for _ in range(100_000)]))
    assert document["type"] == "ExceptionGroup"
    assert document["message"].startswith("ValueError: xxx")
    assert len(document["message"]) == MAX_ERROR_TEXT
