"""Journal records: each alone is enough for a row, and no bytes of a broker break a reader."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paigeant_core import transition as moves
from paigeant_core.clock import ManualClock, SystemClock, parse_rfc3339, rfc3339
from paigeant_core.dispatcher import new_workflow
from paigeant_core.errors import DecodeError
from paigeant_core.journal import ENDED, PARKED, Kind, Record, State
from paigeant_core.message import Headers, PaigeantMessage
from paigeant_core.transition import Outcome, Span
from tests.core.strategies import json_objects, json_values, messages, texts

FIELDS = [
    "schema",
    "position",
    "at",
    "kind",
    "correlation_id",
    "activity",
    "hop",
    "run",
    "attempt",
    "epoch",
    "worker",
    "detail",
]
"""Of `tail --json`, as the design names them, in its order."""

kinds = st.sampled_from([kind for kind in Kind if kind is not Kind.QUARANTINED])
states = st.sampled_from(["", *State])
times = st.floats(0, 4e9)


def message() -> PaigeantMessage:
    return new_workflow(["a", "b"], {"x": 1}, topic="t", at=1_700_000_000.0, correlation_id="c-1")


def span() -> Span:
    return Span(worker="w-1", started_at=1_700_000_010.0, completed_at=1_700_000_012.5)


def travel(record: Record, **given_there: Any) -> Record:
    """The record as a broker gives it back."""
    return Record.decode(record.encode_meta(), record.body, position="7-1", **given_there)


@given(kinds, states, texts, json_objects, messages(), times, st.none() | texts, st.booleans())
def test_a_record_survives_a_broker(
    kind: Kind,
    state: str,
    worker: str,
    detail: dict[str, Any],
    message: PaigeantMessage,
    at: float,
    own_id: str | None,
    with_body: bool,
) -> None:
    body = message.encode() if with_body else None
    record = Record(kind, message.headers, state=state, worker=worker, detail=detail, body=body, id=own_id or "", at=at)
    arrived = travel(record)
    assert (arrived.kind, arrived.state, arrived.worker, arrived.at) == (kind, state, worker, at)
    assert (arrived.id, arrived.position) == (own_id or message.headers.message_id, "7-1")
    assert (arrived.headers, arrived.body, arrived.detail) == (message.headers, body, detail)
    assert (arrived.message is None) is not with_body
    assert {**arrived.to_document(), "position": ""} == record.to_document()
    assert travel(arrived).to_document() == arrived.to_document()


@given(st.binary(max_size=100))
def test_quarantined_bytes_stay_as_they_are(body: bytes) -> None:
    parked = moves.quarantine(
        body, code="malformed", reason="no message", activity="a", topic="t", at=5.0, worker="w"
    ).record
    arrived = travel(parked)
    assert arrived.body == body
    assert arrived.headers == parked.headers
    assert arrived.headers.correlation_id.startswith("q-")
    assert arrived.state == State.QUARANTINED
    assert arrived.detail["bytes"] == len(body)


def test_headers_stand_in_the_meta_only_where_no_body_has_them() -> None:
    with_body = Record(Kind.DISPATCHED, message().headers, body=message().encode())
    assert b"correlation_id" not in with_body.encode_meta()
    assert b"correlation_id" in Record(Kind.CANCELLED, message().headers).encode_meta()


def test_the_brokers_time_goes_before_the_writers() -> None:
    record = Record(Kind.DISPATCHED, message().headers, at=5.0)
    assert travel(record).at == 5.0
    assert travel(record, at=9.0).at == 9.0


def test_the_document_has_the_fields_of_tail() -> None:
    start = moves.dispatch(message(), 1_700_000_000.25).record
    start.position = "12"
    document = start.to_document()
    assert list(document) == FIELDS
    assert document == {
        "schema": 1,
        "position": "12",
        "at": "2023-11-14T22:13:20.250Z",
        "kind": "dispatched",
        "correlation_id": "c-1",
        "activity": "a",
        "hop": 1,
        "run": 1,
        "attempt": 1,
        "epoch": 1,
        "worker": None,
        "detail": {},
    }
    assert json.loads(json.dumps(document)) == document


def test_a_hop_is_one_document_of_the_step_that_was_done() -> None:
    document = moves.done(message(), {"y": 2}, span()).record.to_document()
    assert list(document) == FIELDS
    assert (document["kind"], document["activity"], document["hop"], document["worker"]) == ("advanced", "a", 1, "w-1")
    assert document["detail"] == {
        "started_at": "2023-11-14T22:13:30.000Z",
        "completed_at": "2023-11-14T22:13:32.500Z",
        "duration_s": 2.5,
        "next": {"activity": "b", "hop": 2},
    }


def test_at_the_end_there_is_no_next() -> None:
    document = moves.done(message(), None, span(), Outcome(finish=True)).record.to_document()
    assert (document["kind"], document["activity"], document["hop"]) == ("finished", "a", 1)
    assert document["detail"]["next"] is None
    assert document["detail"]["discarded"] == ["b"]


def test_a_document_does_not_change_its_record() -> None:
    record = moves.done(message(), None, span()).record
    assert record.to_document() == record.to_document()
    assert record.detail["step"] == "a"


@given(st.binary(max_size=80))
@example(b"")
@example(b"[" * 100_000)
@example(b'{"kind":"advanced"}')
@example(b'{"kind":"advanced","headers":{"hop":"x"}}')
@example(b'{"kind":"advanced","at":1e300,"headers":{}}')
@example(b'{"kind":"advanced","at":-1e300,"headers":{}}')
@example(b'{"kind":"advanced","headers":{},"detail":{"a":"\xff"}}')
@example(b'{"kind":"advanced","headers":{},"detail":[1]}')
def test_any_meta_is_a_record_or_refused(meta: bytes) -> None:
    for body in (None, b"", b"x\n", message().encode()):
        try:
            record = Record.decode(meta, body, position="1")
        except DecodeError:
            continue
        assert list(record.to_document()) == FIELDS


@given(
    st.dictionaries(
        st.sampled_from(["kind", "id", "state", "worker", "at", "detail", "headers"]),
        json_values
        | st.dictionaries(st.sampled_from(["step", "hop", "attempt", "correlation_id"]), json_values | texts),
        max_size=7,
    )
)
def test_any_object_as_meta_is_a_record_or_refused(meta: dict[str, Any]) -> None:
    try:
        record = Record.decode(json.dumps(meta).encode(), None, position="1")
    except DecodeError:
        return
    assert list(record.to_document()) == FIELDS
    assert isinstance(record.detail, dict)


@pytest.mark.parametrize(
    ("detail", "step", "duration", "inserted"),
    [
        ({"step": "a", "duration_s": 0.5, "inserted": ["b"]}, "a", 0.5, True),
        ({"step": "a", "duration_s": 2, "reason": "x"}, "a", 2.0, False),
        ({}, "", None, False),
        ({"step": 1, "inserted": ["b"]}, "", None, True),
    ],
)
@pytest.mark.parametrize("from_broker", [False, True])
def test_what_a_fold_wants_of_a_detail_is_told_alike_by_all_brokers(
    detail: dict[str, Any], step: str, duration: float | None, inserted: bool, from_broker: bool
) -> None:
    record = Record(Kind.ADVANCED, message().headers, detail=detail)
    told = (travel(record) if from_broker else record).told()
    assert (told.step, told.duration_s, len(told.inserted) > 0) == (step, duration, inserted)


def test_a_body_that_is_no_message_is_told_when_it_is_asked_for() -> None:
    record = Record(Kind.QUARANTINED, Headers(), body=b"nonsense")
    with pytest.raises(DecodeError):
        _ = record.message


def test_no_state_is_both_ended_and_parked() -> None:
    assert not ENDED & PARKED
    assert {State.QUEUED, State.RUNNING, State.RETRYING, State.COMPENSATING} == set(State) - ENDED - PARKED


# -- times ------------------------------------------------------------------------------


@given(times)
def test_times_are_rfc3339_utc_with_milliseconds(at: float) -> None:
    text = rfc3339(at)
    assert len(text) == len("2026-01-31T09:05:00.123Z")
    assert text.endswith("Z")
    assert abs(parse_rfc3339(text) - at) <= 0.0006


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (0.9999, "1970-01-01T00:00:01.000Z"),
        (1_769_850_300.123, "2026-01-31T09:05:00.123Z"),
    ],
)
def test_times_by_hand(at: float, text: str) -> None:
    assert rfc3339(at) == text


def test_a_time_without_a_zone_is_utc() -> None:
    assert parse_rfc3339("2026-01-31T09:05:00") == parse_rfc3339("2026-01-31T09:05:00Z")
    assert parse_rfc3339("2026-01-31T10:05:00+01:00") == parse_rfc3339("2026-01-31T09:05:00Z")
    with pytest.raises(ValueError, match="isoformat"):
        parse_rfc3339("yesterday")


def test_a_held_clock_stands_until_it_is_moved_and_says_so() -> None:
    clock = ManualClock(100.0)
    seen: list[float] = []
    clock.on_change(lambda: seen.append(clock.now()))
    assert clock.now() == clock.now() == 100.0
    clock.advance(2.5)
    assert seen == [102.5]
    assert SystemClock().now() > 1_700_000_000
