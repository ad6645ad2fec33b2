"""The message on the wire: exact where it must be, and nothing that arrives can break a reader."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paigeant_core import message as module
from paigeant_core import payload as payload_module
from paigeant_core.dispatcher import new_workflow
from paigeant_core.errors import DecodeError, InvalidMessage, MessageTooLarge, PaigeantError, UnsupportedVersion
from paigeant_core.journal import Record
from paigeant_core.limits import MAX_PAYLOAD
from paigeant_core.message import Headers, PaigeantMessage, decode_headers
from paigeant_core.payload import check_payload, decode_payload, encode_payload, merge_payload
from paigeant_core.routing import Step
from tests.core.strategies import json_objects, json_values, messages, payloads, texts

VALID = new_workflow([Step("a", arguments={"n": 1}), "b"], {"x": 1}, topic="t", at=0.0, labels={"k": "v"}).encode()
LINES = VALID.split(b"\n", 2)


def raw_values(payload: bytes) -> dict[str, bytes]:
    """The bytes of each value at top level."""
    return {key: bytes(value) for key, value in msgspec.json.decode(payload, type=dict[str, msgspec.Raw]).items()}


def message_of(payload: bytes) -> PaigeantMessage:
    return PaigeantMessage.decode(LINES[0] + b"\n" + LINES[1] + b"\n" + payload)


def assert_same(one: PaigeantMessage, other: PaigeantMessage) -> None:
    assert one.headers == other.headers
    assert one.routing_slip == other.routing_slip
    assert one.payload_bytes == other.payload_bytes
    assert one.records == other.records


# -- round trips ------------------------------------------------------------------------


@given(messages())
def test_a_message_survives_the_wire(message: PaigeantMessage) -> None:
    body = message.encode()
    arrived = PaigeantMessage.decode(body)
    assert_same(arrived, message)
    assert arrived.obo_token == message.obo_token
    assert arrived.encode() == body
    assert decode_headers(body) == message.headers


@given(messages())
def test_a_message_survives_its_document_without_its_token(message: PaigeantMessage) -> None:
    text = message.to_json()
    arrived = PaigeantMessage.from_json(text)
    assert_same(arrived, message)
    assert arrived.obo_token is None
    assert json.loads(text)["payload"] == json.loads(message.payload_bytes)
    assert_same(PaigeantMessage.from_json(text.encode()), message)


@given(messages())
def test_on_the_wire_there_are_three_lines_and_flat_strings(message: PaigeantMessage) -> None:
    headers, slip, payload = message.encode().split(b"\n", 2)
    flat = json.loads(headers)
    assert all(isinstance(value, str) for value in flat.values())
    assert isinstance(json.loads(slip), dict)
    assert payload == message.payload_bytes


def test_a_document_does_not_hold_the_token() -> None:
    message = new_workflow(["a"], {}, topic="t", at=0.0, obo_token="s3cret")
    assert "s3cret" not in message.to_json()
    assert "s3cret" not in repr(message)
    assert PaigeantMessage.decode(message.encode()).obo_token == "s3cret"


# -- readers that need only the headers -------------------------------------------------


@given(messages(), st.binary(max_size=50))
def test_headers_are_read_whatever_comes_after_them(message: PaigeantMessage, rest: bytes) -> None:
    line = message.encode().split(b"\n", 1)[0]
    assert decode_headers(line + b"\n" + rest) == message.headers


def test_a_reader_of_headers_decodes_neither_slip_nor_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object) -> None:
        raise AssertionError("it was decoded")

    for owner, name in (
        (module, "_decode_slip"),
        (module, "_decode_fields"),
        (payload_module, "_decode_fields"),
        (payload_module, "_decode_object"),
    ):
        monkeypatch.setattr(owner, name, never)
    assert decode_headers(VALID).activity == "a"
    record = Record.decode(b'{"kind":"dispatched","state":"queued"}', VALID, position="1")
    assert record.headers.steps_total == 2


def test_decoding_does_not_touch_the_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload_module, "_decode_object", None)
    assert PaigeantMessage.decode(VALID).encode() == VALID


def test_labels_that_cannot_be_read_are_none() -> None:
    assert Headers(labels='{"tier":"premium"}').label_map == {"tier": "premium"}
    assert Headers(labels="").label_map == {}
    for text in ("[]", "{", '{"a":1}', "nonsense"):
        assert Headers(labels=text).label_map == {}


# -- whatever arrives -------------------------------------------------------------------


def read(body: bytes) -> None:
    """Bytes are a message, or no message, or one of a newer version; nothing else comes of them."""
    try:
        message = PaigeantMessage.decode(body)
    except (DecodeError, UnsupportedVersion):
        return
    again = PaigeantMessage.decode(message.encode())
    assert_same(again, message)
    try:
        document = message.to_json()
    except DecodeError:  # the payload is read here for the first time
        return
    assert_same(PaigeantMessage.from_json(document), message)


@given(st.binary(max_size=200))
@example(b"")
@example(b"\n\n{}")
@example(b"{}\n{}\n{}")
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000 + b"\n{}\n{}")
def test_any_bytes_are_refused_in_one_way(body: bytes) -> None:
    read(body)


@given(st.data())
def test_a_damaged_message_is_refused_in_one_way(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(VALID)))
    end = data.draw(st.integers(start, min(len(VALID), start + 20)))
    read(VALID[:start] + data.draw(st.binary(max_size=20)) + VALID[end:])


hostile_values = json_values | st.sampled_from(["0", "-1", "9" * 30, "1", "q-1", "\n", "a", "\x1b[31m"])


@given(
    st.dictionaries(st.sampled_from([*Headers.__struct_fields__, "other"]), hostile_values, max_size=6),
    st.dictionaries(
        st.sampled_from(["itinerary", "executed", "on_failure", "undoing", "token", "records"]),
        hostile_values,
        max_size=3,
    ),
)
def test_a_message_of_wrong_values_is_refused_in_one_way(headers: dict[str, Any], slip: dict[str, Any]) -> None:
    first = json.dumps({**json.loads(LINES[0]), **headers}).encode()
    second = json.dumps({**json.loads(LINES[1]), **slip}).encode()
    read(first + b"\n" + second + b"\n{}")


@given(st.binary(max_size=100) | payloads | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_as_a_document_are_refused_in_one_way(data: bytes) -> None:
    try:
        PaigeantMessage.from_json(data)
    except (DecodeError, UnsupportedVersion):
        return
    raise AssertionError("none of these is a message")


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_message_whose_slip_was_moved_survives_its_document(steps: int) -> None:
    message = new_workflow(["a", "b", "c"], {}, topic="t", at=0.0)
    for name in "abc"[:steps]:
        message.routing_slip.mark_complete(name)
    arrived = PaigeantMessage.from_json(message.to_json())
    assert arrived.routing_slip == message.routing_slip
    assert (arrived.headers.steps_done, arrived.headers.activity) == (steps, "abc"[steps : steps + 1])
    assert message.headers.steps_done == 0


@given(st.text())
@example("\ud800")
def test_any_text_as_a_document_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(DecodeError):
        PaigeantMessage.from_json(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"hop":"1"', b'"hop":"0"'),
        (b'"epoch":"1"', b'"epoch":"%d"' % 2**53),
        (b'"hop":"1"', b'"hop":"2"'),
        (b'"epoch":"1"', b'"epoch":"-1"'),
        (b'"attempt":"1"', b'"attempt":"x"'),
        (b'"attempt":"1"', b'"attempt":"%s"' % (b"9" * 5000)),
        (b'"activity":"a"', b'"activity":"b"'),
        (b'"activity":"a"', b'"activity":""'),
        (b'"correlation_id":"', b'"correlation_id":"../'),
        (b'"correlation_id":"', b'"correlation_id":"q-'),
        (b'"correlation_id":"', b'"correlation_id":"\\u001b[2J'),
        (b'"message_id":"', b'"message_id":"","x":"'),
        (b'"itinerary":[', b'"itinerary":[{"name":"a","retry":{"max_attempts":0}},'),
        (b'"itinerary":[', b'"itinerary":[{"name":"a","unknown":0},'),
    ],
)
def test_a_message_that_contradicts_itself_is_refused(old: bytes, new: bytes) -> None:
    assert VALID.count(old) == 1
    with pytest.raises(DecodeError):
        PaigeantMessage.decode(VALID.replace(old, new))


def test_a_newer_version_is_told_apart_from_garbage() -> None:
    newer = VALID.replace(b'"spec_version":"1"', b'"spec_version":"2","new_header":"x"')
    with pytest.raises(UnsupportedVersion, match="spec_version 2"):
        PaigeantMessage.decode(newer)
    assert decode_headers(newer).activity == "a"


@pytest.mark.parametrize(
    "payload",
    [
        b'{"a":NaN}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b"{nonsense}",
        b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    ],
    ids=["nan", "surrogate", "utf-8", "text", "nesting"],
)
def test_a_payload_that_is_no_json_is_carried_and_refused_where_it_is_read(payload: bytes) -> None:
    message = message_of(payload)
    assert message.encode().endswith(payload)
    with pytest.raises(DecodeError):
        _ = message.payload
    with pytest.raises(DecodeError):
        message.to_json()
    with pytest.raises(InvalidMessage):
        check_payload(payload)


def test_a_payload_that_was_read_keeps_the_bytes_of_what_is_nested_too_deep_to_be_written() -> None:
    deep = b"[" * 900 + b" 1" + b"]" * 900
    message = message_of(b'{"a":%b,"b":1}' % deep)
    message.payload["b"] = 2
    assert message.payload_bytes == b'{"a":%b,"b":2}' % deep


@pytest.mark.parametrize("payload", [b'{"a":NaN}', b"{nonsense}", b"{}{}", b'{"a":1,}'])
def test_nothing_is_merged_into_what_is_no_json(payload: bytes) -> None:
    with pytest.raises(InvalidMessage):
        merge_payload(payload, {"b": 1})


@pytest.mark.parametrize("payload", [b"", b"[]", b"1", b"null", b"{", b"}", b'{"a":1} '])
def test_a_payload_that_is_no_object_is_no_message(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        message_of(payload)


def test_of_a_key_that_stands_twice_the_last_counts_and_the_bytes_stay() -> None:
    payload = b'{"a":1, "a":2}'
    message = message_of(payload)
    assert message.payload == {"a": 2}
    assert message.payload_bytes == payload


# -- the payload ------------------------------------------------------------------------


@given(payloads, json_objects)
def test_values_that_nobody_returned_keep_their_bytes(payload: bytes, changes: dict[str, Any]) -> None:
    merged = merge_payload(payload, changes)
    before, after = raw_values(payload), raw_values(merged)
    assert {key: value for key, value in after.items() if key not in changes} == {
        key: value for key, value in before.items() if key not in changes
    }
    assert decode_payload(merged) == {**decode_payload(payload), **changes}
    if not changes:
        assert merged == payload


def test_merging_keeps_numbers_and_texts_as_they_were_written() -> None:
    payload = b'{"price": 1.50, "big":123456789012345678901234567890,"text":"\\u00e4 \xc3\xa4","list":[1,  2]}'
    merged = merge_payload(payload, {"new": "value", "price": None})
    assert raw_values(merged) == {
        "price": b"null",
        "big": b"123456789012345678901234567890",
        "text": b'"\\u00e4 \xc3\xa4"',
        "list": b"[1,  2]",
        "new": b'"value"',
    }


def test_what_is_merged_as_it_was_written_keeps_its_bytes_and_has_to_be_json() -> None:
    merged = merge_payload(b'{"a":1,"b":2}', {"a": msgspec.Raw(b"1.10"), "c": {"d": msgspec.Raw(b"1E5")}})
    assert merged == b'{"a":1.10,"b":2,"c":{"d":1E5}}'
    for wrong in (b"", b'1,"x":2', b"NaN", b"}", b'"\xff"'):
        with pytest.raises(InvalidMessage, match="no JSON"):
            merge_payload(b"{}", {"a": msgspec.Raw(wrong)})
    with pytest.raises(InvalidMessage, match="nested deeper"):
        merge_payload(b"{}", {"a": msgspec.Raw(b"[" * 70 + b"]" * 70)})


@given(json_objects, json_objects, st.sets(texts, max_size=2))
def test_changes_in_place_are_what_is_sent(before: dict[str, Any], changes: dict[str, Any], gone: set[str]) -> None:
    message = message_of(json.dumps(before, indent=1).encode())
    payload = message.payload
    for key in gone:
        payload.pop(key, None)
    payload.update(changes)
    expected = {**{key: value for key, value in before.items() if key not in gone}, **changes}
    sent = PaigeantMessage.decode(message.encode()).payload
    assert encode_payload(sent) == encode_payload(expected) or sent == expected
    assert repr(sorted(sent.items())) == repr(sorted(expected.items()))


def test_a_payload_that_was_only_looked_at_keeps_its_bytes() -> None:
    payload = b'{ "a" : 1.50 }'
    message = message_of(payload)
    assert message.payload == {"a": 1.5}
    assert message.payload_bytes == payload


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"a":1}', {"a": True}),
        (b'{"a":true}', {"a": 1}),
        (b'{"a":1}', {"a": 1.0}),
        (b'{"a":[1,{"b":0}]}', {"a": [1, {"b": False}]}),
        (b'{"a":0.0}', {"a": -0.0}),
        (b'{"a":[]}', {"a": {}}),
        (b'{"a":null}', {}),
        (b"{}", {"a": None}),
    ],
)
def test_what_is_equal_in_python_and_not_in_json_is_a_change(before: bytes, after: dict[str, Any]) -> None:
    message = message_of(before)
    message.payload.clear()
    message.payload.update(after)
    assert message.payload_bytes == json.dumps(after, separators=(",", ":")).encode()


def test_the_payload_may_be_changed_after_its_bytes_were_asked_for() -> None:
    message = message_of(b'{"a":1}')
    payload = message.payload
    payload["b"] = 2
    assert '"b":2' in message.to_json()  # somebody logs it
    payload["c"] = 3
    assert message.payload_bytes == b'{"a":1,"b":2,"c":3}'


def test_the_payload_may_be_replaced() -> None:
    message = message_of(b'{"a":1}')
    message.payload = {"b": 2}
    assert message.payload == {"b": 2}
    assert message.payload_bytes == b'{"b":2}'
    with pytest.raises(InvalidMessage):
        message.payload = [1]  # type: ignore[assignment]


cyclic: dict[str, Any] = {}
cyclic["self"] = cyclic


UNSAYABLE: dict[str, Any] = {
    "nan": {"a": math.nan},
    "infinity": {"a": [{"b": math.inf}]},
    "minus infinity": {"a": -math.inf},
    "surrogate": {"a": "\ud800"},
    "surrogate in a key": {"\udfff": 1},
    "key": {1: 2},
    "inner key": {"a": {1: 2}},
    "set": {"a": {1, 2}},
    "bytes": {"a": b"bytes"},
    "object": {"a": object()},
    "digits": {"a": 10**5000},
    "nesting": {"a": json.loads("[" * 100 + "]" * 100)},
    "cycle": cyclic,
    "list": [],
    "text": "{}",
    "none": None,
    "number": 1,
}


@pytest.mark.parametrize("value", UNSAYABLE.values(), ids=UNSAYABLE.keys())
def test_what_json_cannot_say_is_refused(value: Any) -> None:
    with pytest.raises(InvalidMessage):
        encode_payload(value)
    if isinstance(value, dict):
        with pytest.raises(InvalidMessage):
            merge_payload(b"{}", value)


def test_what_json_can_say_goes_through() -> None:
    arguments = MappingProxyType({"n": 1})
    value = {"big": 2**200, "step": Step("a"), "tuple": (1, 2), "mapping": arguments, "deep": [[[[{}]]]], "": ""}
    expected = {"big": 2**200, "step": "a", "tuple": [1, 2], "mapping": {"n": 1}, "deep": [[[[{}]]]], "": ""}
    assert decode_payload(encode_payload(value)) == expected
    assert decode_payload(encode_payload(MappingProxyType(value))) == expected
    assert decode_payload(merge_payload(b"{}", MappingProxyType(value))) == expected


@given(st.integers(-(10**300), 10**300))
def test_large_numbers_stay_whole(number: int) -> None:
    assert decode_payload(encode_payload({"n": number})) == {"n": number}
    assert raw_values(merge_payload(b'{"n":%d}' % number, {"m": number}))["n"] == b"%d" % number


def test_the_cap_of_a_payload() -> None:
    overhead = len(b'{"a":""}')
    fits = {"a": "x" * (MAX_PAYLOAD - overhead)}
    assert len(encode_payload(fits)) == MAX_PAYLOAD
    over = {"a": "x" * (MAX_PAYLOAD - overhead + 1)}
    with pytest.raises(MessageTooLarge):
        encode_payload(over)
    with pytest.raises(MessageTooLarge):
        merge_payload(b"{}", over)
    with pytest.raises(MessageTooLarge):
        check_payload(json.dumps(over, separators=(",", ":")).encode())


def test_the_cap_of_a_slip() -> None:
    steps = [Step("a", arguments={"text": "x" * 600_000}) for _ in range(2)]
    with pytest.raises(MessageTooLarge, match="routing slip"):
        new_workflow(steps, {}, topic="t", at=0.0).encode()


def test_white_space_around_a_payload_is_dropped_and_that_within_is_not() -> None:
    assert check_payload(b' \n{ "a" : 1 }\n') == b'{ "a" : 1 }'


def test_no_error_quotes_a_payload() -> None:
    calls: list[Callable[[], object]] = [
        lambda: check_payload(b'{"card":"4111'),
        lambda: encode_payload({"card": {"4111"}}),
        lambda: merge_payload(b'{"card":4111,}', {"a": 1}),
        lambda: message_of(b'{"card":4111,}').payload,
        lambda: PaigeantMessage.from_json('{"headers":{},"routing_slip":{},"payload":{"card":4111,}}'),
    ]
    for call in calls:
        with pytest.raises(PaigeantError) as refused:
            call()
        assert "4111" not in str(refused.value)


# -- the next message -------------------------------------------------------------------


@given(messages())
def test_the_next_message_has_headers_that_fit_its_slip(message: PaigeantMessage) -> None:
    slip = message.routing_slip.copy()
    following = message.replaced(slip, timestamp="2026-01-31T09:05:02.000Z", attempt=3, epoch=9)
    old, new = message.headers, following.headers
    assert new.message_id != old.message_id
    assert (new.correlation_id, new.name, new.labels, new.topic) == (
        old.correlation_id,
        old.name,
        old.labels,
        old.topic,
    )
    assert (new.run, new.epoch, new.attempt) == (old.run, 9, 3)
    assert (new.created_at, new.traceparent) == (old.created_at, old.traceparent)
    assert new.activity == slip.current_name()
    assert (new.steps_done, new.steps_total) == (len(slip.executed), len(slip.names()))
    assert following.payload_bytes == message.payload_bytes
    assert (following.obo_token, following.records) == (message.obo_token, message.records)
    assert_same(PaigeantMessage.decode(following.encode()), following)


def test_the_idempotency_key_is_correlation_run_and_hop() -> None:
    assert Headers(correlation_id="c", run=2, hop=3, attempt=4, epoch=5).idempotency_key == "c/2/3"
