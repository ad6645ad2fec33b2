"""Whoever may write to the broker can put any JSON into a record's detail: what reads it stands."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from paigeant_console.commands import look, tail
from paigeant_console.model.documents import workflow_document
from paigeant_console.model.fold import Fold
from paigeant_console.model.query import parse
from paigeant_console.model.record_line import record_summary
from paigeant_console.model.stuck import explain
from paigeant_console.model.views import RecordView
from paigeant_console.model.workflow_page import WorkflowPage
from paigeant_core import transition as moves
from paigeant_core.dispatcher import new_workflow
from paigeant_core.journal import Kind, Record, State
from tests.console.test_fold import NOW

WORDS = (
    *("step", "hop", "attempt", "duration_s", "started_at", "completed_at", "deaths", "inserted", "undo", "next"),
    *("delay_s", "due_at", "until", "on_deadline", "max_attempts", "token_expires_at", "error", "reason", "why"),
    *("action", "operator", "operation_id", "origin", "code", "bytes", "event", "activities", "gave_back"),
)
NUMBERS = st.integers(-(2**63), 2**63) | st.sampled_from([1e20, -1e20, 1e308, 10**400, 0.5, 1, 2, True])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | NUMBERS | st.sampled_from(["one", "2", "", "\x1b[2J", "2026-01-31T09:05:00.123Z", "99999-99"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "message", "x"]), inner),
    max_leaves=4,
)
DETAILS = st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=5)
MESSAGE = new_workflow(["one", "two"], {}, topic="t", at=NOW, correlation_id="w")


def record(kind: str, state: str, detail: dict[str, Any], number: int) -> Record:
    made = Record(kind, MESSAGE.headers, state=state, worker="w-1", detail=detail, body=MESSAGE.encode(), at=NOW)
    return Record.decode(made.encode_meta(), made.body, position=str(number), at=NOW + number)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(Kind), st.sampled_from(["", *State]), DETAILS), min_size=1, max_size=3))
def test_whatever_stands_in_a_detail_is_shown_and_stops_nothing(told: list[tuple[str, str, dict[str, Any]]]) -> None:
    history = [moves.dispatch(MESSAGE, NOW).record]
    history += [record(kind, state, detail, number) for number, (kind, state, detail) in enumerate(told, start=2)]
    fold = Fold()
    fold.apply(history)
    row = fold.rows["w"]
    document = workflow_document(fold, history, NOW + 60, None)
    msgspec.json.encode(document)
    explain(fold, row, NOW + 60)
    assert look._hops(document) is not None
    assert len(look._history(document)) == len(history)
    for item in history:
        record_summary(item)
        tail._line(item.to_document())
        assert not parse("step:nosuch hop:>99999 attempt:>1 nosuch").matches(RecordView(item, NOW))
    page = WorkflowPage(history, fold, "w")
    assert page.hops(NOW + 60) is not None
    assert len(page.records(NOW + 60)) == len(history)
