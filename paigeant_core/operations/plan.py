"""An operation before and after it is done: the selection with its preflight, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from paigeant_core.operations.action import Action
from paigeant_core.operations.standing import Standing

BEFORE = "done by this operation before"
"""The reason of a result where an operation that is gone on with had come to the workflow already."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a plan says of one workflow.

    Attributes:
        correlation_id: which.
        standing: where it stands; None: there is no such workflow.
        eligible: whether the operation will be tried on it.
        why: why not; or what else will happen; may be empty.
    """

    correlation_id: str
    standing: Standing | None
    eligible: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """An operation before it is done: the selection, frozen, each with its preflight.

    Attributes:
        operation_id: its ID.
        action: what is done.
        reason: why.
        lines: the workflows.
        selection: by what they were selected, as it was written; for the audit.
        approvals: what another operator signed of it, by workflow; None: nobody did.
    """

    operation_id: str
    action: Action
    reason: str
    lines: tuple[Line, ...]
    selection: str = ""
    approvals: Mapping[str, str] | None = None

    @property
    def eligible(self) -> int:
        """How many it will be tried on."""
        return sum(line.eligible for line in self.lines)


@dataclass(frozen=True, slots=True)
class Result:
    """How the operation ended for one workflow.

    Attributes:
        correlation_id: which.
        outcome: how.
        reason: why so; may be empty.
        new_correlation_id: of the workflow that was started.
        before: the state it stood at; empty: it is not known.
        after: the state that it was brought to; empty: nothing was done.
    """

    correlation_id: str
    outcome: Literal["done", "skipped", "failed"]
    reason: str = ""
    new_correlation_id: str = ""
    before: str = ""
    after: str = ""

    def to_document(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        document = {"correlation_id": self.correlation_id, "outcome": self.outcome, "reason": self.reason or None}
        if self.new_correlation_id:
            document["new_correlation_id"] = self.new_correlation_id
        return document


@dataclass(frozen=True, slots=True)
class Report:
    """How an operation ended.

    Attributes:
        operation_id: its ID.
        results: what came of each workflow that it came to.
        matched: how many were selected; None: it came to all of them.
    """

    operation_id: str
    results: tuple[Result, ...]
    matched: int | None = None

    def count(self, outcome: str) -> int:
        """How many ended so."""
        return sum(result.outcome == outcome for result in self.results)

    def to_document(self) -> dict[str, Any]:
        """The summary as ``--json`` shows it."""
        return {
            "summary": True,
            "operation_id": self.operation_id,
            "matched": len(self.results) if self.matched is None else self.matched,
            "done": self.count("done"),
            "skipped": self.count("skipped"),
            "failed": self.count("failed"),
        }
