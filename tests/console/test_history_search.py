"""What is looked for in the history is found there, as it is in the list, however its bytes are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from paigeant_console.history import History
from paigeant_console.model.fold import Fold
from paigeant_console.model.query import parse
from paigeant_console.model.views import RowView
from tests.console.story import DEAD, RETRYING, sample_story
from tests.console.test_fold import NOW
from tests.console.test_history import journal_of, kept, record


def found(history: History, query: str) -> list[str]:
    fold, wanted = Fold(), parse(query)
    hits = []
    for item in history.candidates(wanted):
        fold.apply((item,))
        row = fold.rows[item.headers.correlation_id]
        if wanted.matches(RowView(fold, row, NOW, item.body)):
            hits.append(row.correlation_id)
    return hits


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("payload.email:ANN", ["wf-00001"]),
        ("ann@example.com", ["wf-00001"]),
        ("payload.email:ann OR payload.note:h\u00e9llo", ["wf-00002", "wf-00001"]),
        ("payload.note:he_llo", []),
        ("payload.word:back*escaped", ["wf-00003"]),
        ("payload.word:escaped", ["wf-00003"]),
        ("payload.amount:1000", ["wf-00003"]),
        ("!payload.email:ann name:kept", ["wf-00003", "wf-00002"]),
        ("state:queued step:a", ["wf-00003", "wf-00002", "wf-00001"]),
        ("id:00002", ["wf-00002"]),
        ("nothing-like-it", []),
    ],
)
def test_it_is_searched_by_query(tmp_path: Path, query: str, expected: list[str]) -> None:
    records = [
        record(1, {"email": "Ann@Example.com"}),
        record(2, {"note": "h\u00e9llo", "under": "he_llo"}),
        record(3, {"word": "back\\slash \u0007escaped", "amount": 1e3}),
    ]
    history = kept(tmp_path, records)
    assert found(history, query) == expected
    history.close()


def test_a_word_written_in_escapes_is_found(tmp_path: Path) -> None:
    plain = record(1, {"word": "needle"})
    assert plain.body is not None
    plain.body = plain.body.replace(b"needle", b"n\\u0065edle")
    history = kept(tmp_path, [plain, record(2)])
    assert found(history, "payload.word:needle") == ["wf-00001"]
    history.close()


@pytest.mark.parametrize("query", ["strasse", "STRASSE 5", "payload.street:strasse", "payload.street:muster*5"])
def test_letters_that_fold_to_others_are_found(tmp_path: Path, query: str) -> None:
    history = kept(tmp_path, [record(1, {"street": "Musterstra\u00dfe 5"}), record(2, {"street": "Mainzer Weg 5"})])
    assert found(history, query) == ["wf-00001"]
    history.close()


def test_why_a_workflow_is_stuck_is_found_though_it_is_written_nowhere(tmp_path: Path) -> None:
    history = kept(tmp_path, [item for item in journal_of(sample_story()) if item.headers.correlation_id])
    for query in ("stuck:backoff", "backoff", "BACK", "back*off", "backoff state:retrying"):
        assert RETRYING in found(history, query), query
        assert DEAD not in found(history, query), query
    history.close()
