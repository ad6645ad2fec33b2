"""What an operation is on the log: read as it was written, whatever others write beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant_core.errors import ConfigError, InvalidMessage
from paigeant_core.operations import (
    Action,
    Cancel,
    Compensate,
    DeadLetter,
    Hold,
    Insert,
    Pace,
    Release,
    Replay,
    Restore,
    Retry,
    Skip,
    Undo,
)
from paigeant_core.operations.log import (
    OperationStatus,
    at_once,
    control,
    from_document,
    opening,
    proposed,
    take,
    to_document,
)
from paigeant_core.routing import to_step


def test_every_action_is_read_as_it_was_written() -> None:
    actions: list[Action] = [
        Retry(),
        Replay(),
        Replay(from_step=2, payload=b'{"a": 1.50}', as_new=True),
        Replay(from_step="charge", changes={"card": {"no": 1}}),
        DeadLetter(),
        Hold(),
        Release({"approved": True}),
        Skip(),
        Cancel(),
        Compensate(),
        Restore(),
        Insert((to_step("a"), to_step({"name": "b", "arguments": {"x": 1}}))),
        Undo("abc"),
    ]
    for action in actions:
        again = from_document(to_document(action))
        assert again == action
        if isinstance(action, Insert):
            assert isinstance(again, Insert)
            assert [step.to_document() for step in again.steps] == [step.to_document() for step in action.steps]


@pytest.mark.parametrize("begins", [opening, proposed])
@pytest.mark.parametrize("verb", [Release, lambda values: Replay(changes=values)])
def test_the_log_keeps_what_is_given_to_a_payload_as_it_was_written(
    begins: Callable[[OperationStatus], Iterable[bytes]], verb: Callable[[dict[str, Any]], Action]
) -> None:
    written = {"amt": b"1.10", "n": b"1E5", "big": b"0.12345678901234567890", "o": b'{"p": 1.50}', "t": b'"\\u00e4"'}
    action = verb({name: msgspec.Raw(value) for name, value in written.items()})
    status = OperationStatus("x", action=to_document(action), targets=["w"], approvals={"w": ""})
    known: dict[str, OperationStatus] = {}
    take(known, begins(status))
    assert from_document(known["x"].action) == action
    assert list(begins(known["x"])) == list(begins(status)), "and so does who goes on with it"


@given(st.lists(st.binary(max_size=60) | st.dictionaries(st.text(max_size=9), st.integers()).map(repr).map(str.encode)))
def test_what_others_wrote_into_the_log_is_passed_over(entries: list[bytes]) -> None:
    known: dict[str, OperationStatus] = {}
    take(known, entries)
    assert not any(status.action for status in known.values())
    assert control(entries, "x") == (None, "", "")


def test_an_action_of_another_version_is_refused() -> None:
    for document in ({"name": "explode"}, {"name": "replay", "to": 1}, {"name": "insert", "steps": [{}]}):
        with pytest.raises(InvalidMessage):
            from_document(document)


@pytest.mark.parametrize("wrong", [{"rate": 0}, {"rate": float("nan")}, {"brake": 101}, {"brake": -1}])
def test_a_pace_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Pace(**wrong)


def test_numbers_beyond_every_float_are_passed_over() -> None:
    number, told = b"1" + b"0" * 400, b'"at":"2026-01-01T00:00:00Z","operator":"","reason":""'
    log = b'{"operation_id":"x","event":"started",%s,"action":{"name":"retry"},"by":"","pace":{"rate":%s}}'
    known: dict[str, OperationStatus] = {}
    take(known, [log % (told, number)])
    assert not known["x"].whole
    audit = b'{"operation_id":"y",%s,"action":"hold","outcome":"1 done",' % told
    assert at_once([audit + b'"targets":1e999}', audit + b'"targets":1}']).keys() == {"y"}
