"""QUERY: what it says, what it refuses, and that no text can make it do worse than refuse."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paigeant_console.model.fold import Fold
from paigeant_console.model.query import Not, Query, QueryError, parse
from paigeant_console.model.views import RecordView, RowView
from paigeant_core import ActivitySpec
from paigeant_core import transition as moves
from paigeant_core.dispatcher import new_workflow
from paigeant_core.transition import Span
from paigeant_core.transports.types import WorkerInfo, WorkerStatus, holding

BORN = 1_700_000_000.0
NOW = BORN + 15 * 60
PAYLOAD: dict[str, Any] = {
    "customer_email": "Ann@Example.com",
    "amount": 12.5,
    "vip": True,
    "nothing": None,
    "a.b": "dotted",
    "blank": "",
    "order": {"lines": [{"sku": "AB-1"}, {"sku": "CD-2"}], "no": 77},
}


def message(**more: Any):
    names = [ActivitySpec(name="validate"), "process-payment", "notify"]
    options = {
        "name": "Onboarding",
        "labels": {"tier": "Premium", "size": "12", "empty": ""},
        "correlation_id": "3f2a-order",
        **more,
    }
    return new_workflow(names, PAYLOAD, topic="shop", at=BORN, **options)


def dead(attempt: int = 3):
    """A record of a workflow that died in its first step."""
    first = message()
    tried = first.replaced(first.routing_slip, timestamp="", attempt=attempt)
    span = Span(worker="w1-host", started_at=BORN + 1, completed_at=BORN + 2)
    transition = moves.failed(tried, TimeoutError("gateway took too long"), "attempts_exhausted", span)
    transition.record.at = BORN + 60
    return transition.record


@pytest.fixture
def row() -> RowView:
    record = dead()
    fold = Fold()
    fold.apply([record])
    return RowView(fold, fold.rows["3f2a-order"], NOW, record.body)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "state:dead",
        "STATE:DEAD",
        "state:de",
        "state:=dead",
        "step:validate",
        "step:vali*",
        "step:*date",
        "step:v*d*e",
        "activity:validate",
        "id:3f2",
        "id:F2A",
        "id:3f2*",
        "correlation_id:order",
        "name:onboarding",
        'name:"onboarding"',
        "name:*",
        "label.tier:premium",
        "label.size:>11",
        "label.size:=12",
        "topic:shop",
        "trust:unsigned",
        "age:>10m",
        "age:>=15m",
        "age:15m",
        "age:<1h30m",
        "age:<=15m",
        "age:>600",
        "attempt:3",
        "attempt:>=3",
        "attempt:<4",
        "hop:1",
        "run:1",
        "epoch:=1",
        "error:timeout",
        "error:gateway",
        'error:"took too long"',
        "error:TimeoutError*long",
        "worker:w1",
        "created:2023-11-14",
        "created:>2023-11-01",
        "created:<2023-11-15T00:00:00Z",
        "created:>10m",
        "updated:>13m",
        "updated:14m",
        "payload.customer_email:ann@example.com",
        "payload.customer_email:*@example.com",
        "payload.amount:12.5",
        "payload.amount:>12",
        "payload.amount:<=12.5",
        "payload.vip:true",
        "payload.nothing:null",
        "payload.a.b:dotted",
        "payload.order.no:77",
        "payload.order.lines.sku:ab-1",
        "payload.order.lines.1.sku:cd",
        "payload.order:AB-1",
        "payment",
        "premium",
        "tier",
        "exhausted",
        "ab-1",
        "customer_email",
        "ann@example.com dead",
        "state:dead step:validate attempt:3",
        "state:held OR state:dead",
        "state:dead AND age:>10m",
        "NOT state:held",
        "!state:held",
        "! state:held",
        "!!state:dead",
        "NOT NOT state:dead",
        "!(state:held OR step:notify)",
        "(state:dead (age:>10m OR age:<1m))",
        "state:held OR state:dead step:validate",
        'label."tier":premium',
        '!label.tier:">2"',
        '"NOT"',
        'label.empty:""',
        'payload.blank:""',
        '""',
        '!name:""',
        '""*',
    ],
)
def test_it_selects(row: RowView, text: str) -> None:
    assert parse(text).matches(row)


@pytest.mark.parametrize(
    "text",
    [
        "state:queued",
        "name:=board",
        "step:ali*",
        "step:*vali",
        "step:notify",
        "id:*order-",
        "stuck:*",
        "name:on*x",
        'name:"on*"',
        'name:""',
        'label.tier:""',
        'payload.customer_email:""',
        'payload.none:""',
        "label.tier:gold",
        "label.none:*",
        "label.Tier:premium",
        "age:<10m",
        "age:14m",
        "attempt:2",
        "attempt:>3",
        "hop:>1",
        "error:refused",
        "error:gateway*x",
        "worker:w2",
        "created:<2023-11-01",
        "created:<10m",
        "updated:>14m5s",
        "payload.amount:>12.5",
        "payload.customer_email:bob",
        "payload.none:*",
        "payload.order.lines.7.sku:*",
        "kind:dead_lettered",
        "nowhere",
        "state:dead step:notify",
        "!state:dead",
        "!(state:dead)",
        "NOT (state:dead OR nowhere)",
        "state:held state:dead OR step:notify",
    ],
)
def test_it_leaves_out(row: RowView, text: str) -> None:
    assert not parse(text).matches(row)


def test_empty_quotes_are_no_word_that_is_everywhere() -> None:
    record = moves.dispatch(new_workflow(["a"], {"x": 1}, topic="shop", name="full", at=BORN), BORN).record
    fold = Fold()
    fold.apply([record])
    (row,) = fold.rows.values()
    view = RowView(fold, row, NOW, record.body)
    assert not parse('""').matches(view)
    assert parse('full !""').matches(view)


def test_a_row_that_runs_is_running_and_names_its_worker() -> None:
    transition = moves.dispatch(message(), BORN)
    transition.record.at = BORN
    fold = Fold()
    fold.apply([transition.record])
    held = holding(transition.record.headers, BORN + 1)
    fold.observe([WorkerStatus(info=WorkerInfo(worker="busy", activities=("validate",)), running=(held,))], NOW)
    view = RowView(fold, fold.rows["3f2a-order"], NOW)
    assert parse("state:running worker:busy !error:*").matches(view)


def test_a_row_that_nobody_serves_is_stuck() -> None:
    transition = moves.dispatch(message(), BORN)
    transition.record.at = BORN
    fold = Fold()
    fold.apply([transition.record])
    fold.observe([], NOW)
    assert parse("state:queued stuck:no_worker").matches(RowView(fold, fold.rows["3f2a-order"], NOW))


def test_a_record_is_matched_as_it_is_told() -> None:
    view = RecordView(dead(), NOW)
    for text in (
        "kind:dead",
        "kind:dead_lettered",
        "step:validate",
        "error:timeout",
        "worker:w1",
        "attempt:3",
        "exhausted",
    ):
        assert parse(text).matches(view), text
    for text in ("kind:advanced", "step:notify", "attempt:1", "stuck:slow"):
        assert not parse(text).matches(view), text
    worker = RecordView(moves.operated(message(), NOW, {"action": "retry"}), NOW)
    assert parse("retry !state:*").matches(worker)


def test_the_payload_is_looked_into_only_where_it_is_asked_for() -> None:
    for text in ("", "state:dead age:>1m", "label.x:1", "*"):
        assert not parse(text).needs_payload, text
    for text in (
        "payload.x:1",
        "payload.x:>1",
        "word",
        "state:dead OR !word",
        '""',
        "!(a:b OR c)".replace("a:b", "id:b"),
    ):
        assert parse(text).needs_payload, text


def test_no_pattern_is_slow(row: RowView) -> None:
    long = "a" * 200_000
    pattern = parse(f"name:{'*a' * 900}*b").node
    started = time.perf_counter()
    assert not pattern.pattern.matches(long)  # type: ignore[union-attr]
    assert time.perf_counter() - started < 1


# -- properties --------------------------------------------------------------------------------------------------------

_SNIPPETS = st.sampled_from(
    [
        '"',
        "(",
        ")",
        "!",
        "*",
        ":",
        "\\",
        " ",
        "OR",
        "NOT",
        "AND",
        ">",
        ">=",
        "=",
        "state:",
        "age:",
        "label.",
        "payload.x",
        "10m",
    ]
)
_WORDS = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)
_TERMS = st.one_of(
    _WORDS,
    st.builds("name:{}".format, _WORDS),
    st.builds("label.{}:{}*".format, _WORDS, _WORDS),
    st.builds("attempt:>={}".format, st.integers(0, 9)),
    st.builds("age:<{}m".format, st.integers(0, 90)),
    st.builds("payload.{}:{}".format, _WORDS, _WORDS),
    st.builds('"{}"'.format, st.text(max_size=8).map(lambda text: text.replace("\\", "").replace('"', ""))),
)


def _joined(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.lists(children, min_size=1, max_size=3).map(lambda terms: f"({' '.join(terms)})"),
        st.lists(children, min_size=1, max_size=3).map(lambda terms: f"({' OR '.join(terms)})"),
        children.map("!{}".format),
        children.map("NOT {}".format),
    )


_QUERIES = st.recursive(_TERMS, _joined, max_leaves=8)


@given(st.one_of(st.text(), st.lists(st.one_of(_SNIPPETS, st.text(max_size=3)), max_size=20).map("".join)))
@example('label."":')
@example("label.\x1b:")
@example("updated:=")
@example("age:" + "9" * 39 + "d")
@example("id:\x00*\ud800")
def test_any_text_is_a_query_or_a_query_error(text: str) -> None:
    try:
        query = parse(text)
    except QueryError as error:
        _check_refusal(error, text)
        return
    record = dead()
    fold = Fold()
    fold.apply([record])
    assert query.matches(RowView(fold, fold.rows["3f2a-order"], NOW, record.body)) in (True, False)
    assert query.matches(RecordView(record, NOW)) in (True, False)


def _check_refusal(error: QueryError, text: str) -> None:
    assert 0 <= error.position <= len(text)
    assert str(error).isprintable()


@given(_QUERIES)
def test_not_not_is_nothing(text: str) -> None:
    query = parse(text)
    assert parse(f"NOT NOT {text}") == query
    assert parse(f"!!({text})") == query
    assert parse(f"({text})") == query
    assert hash(parse(f"(({text}))")) == hash(query)


@given(_QUERIES, _QUERIES)
def test_the_operators_are_those_of_logic(one: str, other: str) -> None:
    record = dead()
    fold = Fold()
    fold.apply([record])
    view = RowView(fold, fold.rows["3f2a-order"], NOW, record.body)
    first, second = parse(one).matches(view), parse(other).matches(view)
    assert parse(f"{one} {other}").matches(view) == (first and second)
    assert parse(f"{one} AND {other}") == parse(f"{one} {other}")
    assert parse(f"{one} OR {other}").matches(view) == (first or second)
    assert parse(f"!({one} OR {other})").matches(view) == (not first and not second)
    assert parse(f"NOT ({one})").matches(view) != first


def test_equal_queries_are_equal() -> None:
    assert parse(" state:dead   OR x ") == parse("state:dead OR x")
    assert parse("a") != parse("b")
    assert parse("a") != "a"
    assert isinstance(parse("!a").node, Not)
    assert Query(parse("a").node, "whatever") == parse("a")
    assert "state:dead" in repr(parse("state:dead"))


# Letters that fold to others, that JSON writes in several ways, and that numbers are made of.
_TRICKY = st.text(st.sampled_from('aAsS019.eE+-"\\/\x00\u017f\u212a\xdf\ufb01nul_wok'), max_size=4)
_VALUES = st.recursive(
    st.one_of(_TRICKY, st.integers(-1000, 1000), st.floats(allow_nan=False, allow_infinity=False), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(_TRICKY, inner, max_size=2)),
    max_leaves=4,
)


@given(_VALUES, _TRICKY, _TRICKY, st.booleans())
@example({"a": 1e3}, "000.0", "", False)
@example({"a": "\u212a"}, "k", "", False)
@example({"a": "k"}, "k", "", True)
def test_the_quick_way_to_look_everywhere_finds_what_the_slow_one_does(
    value: object, needle: str, name: str, escaped: bool
) -> None:
    payload = json.dumps({"value": value}, ensure_ascii=escaped).encode()
    started = new_workflow(
        ["validate", "K"], payload, topic="shop", name=name, labels={"l": name} if name else {}, at=1
    )
    record = moves.dispatch(started, 1).record
    fold = Fold()
    fold.apply([record])
    (row,) = fold.rows.values()
    view = RowView(fold, row, NOW, record.body)
    folded = needle.casefold()
    assert view.holds(folded) == any(folded in text.casefold() for text in view.everything())


def _of_payload(payload: bytes) -> RowView:
    record = moves.dispatch(new_workflow(["validate"], payload, topic="shop", at=BORN), BORN).record
    fold = Fold()
    fold.apply([record])
    (row,) = fold.rows.values()
    return RowView(fold, row, NOW, record.body)


@pytest.mark.parametrize(
    "text",
    [
        *("payload.amt:1.10", "payload.amt:1.1", "payload.amt:=1.10", "payload.amt:>1.09", "payload.amt:1.10*", "1.10"),
        *("payload.n:1E5", "payload.n:1e5", "payload.n:100000", "payload.n:=100000", "1e5", "100000.0"),
        *("payload.long:0.12345678901234567890", "payload.long:0.12345678901234568", "payload.list:2.50", "2.5"),
    ],
)
def test_a_number_is_found_as_it_was_written_and_as_its_value(text: str) -> None:
    payload = b'{"amt":1.10,"n":1E5,"long":0.12345678901234567890,"list":[{"x":2.50}]}'
    view = _of_payload(payload)
    assert parse(text).matches(view)
    assert not parse(f"!{text}").matches(view)
    record = moves.dispatch(new_workflow(["validate"], payload, topic="shop", at=BORN), BORN).record
    assert parse(text).matches(RecordView(record, NOW))


_FIGURES = st.from_regex(r"-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?", fullmatch=True)


@given(_FIGURES, st.text(st.sampled_from("0123456789.eE+-"), max_size=4))
@example("1.10", "1.10")
@example("1E5", "00.0")
@example("1E5", "1e5")
def test_the_quick_way_finds_a_number_however_it_was_written(written: str, needle: str) -> None:
    view = _of_payload(b'{"value":%b}' % written.encode())
    folded = needle.casefold()
    assert view.holds(folded) == any(folded in text.casefold() for text in view.everything())


@given(_QUERIES, _QUERIES, st.text(max_size=2))
@example("name:on", "name:onb", "")
@example("ann", "anna", "")
@example("state:dead ann", "anna state:dead", "")
def test_a_query_that_narrows_another_selects_nothing_more(one: str, other: str, more: str) -> None:
    record = dead()
    fold = Fold()
    fold.apply([record])
    view = RowView(fold, fold.rows["3f2a-order"], NOW, record.body)
    try:
        pairs = [(parse(other), parse(one)), (parse(one + more), parse(one))]
    except QueryError:
        return
    for narrow, wide in pairs:
        if narrow.narrows(wide) and narrow.matches(view):
            assert wide.matches(view)


def test_what_is_typed_on_narrows_and_what_time_may_make_true_does_not() -> None:
    def narrows(one: str, other: str) -> bool:
        return parse(one).narrows(parse(other))

    assert narrows("anna", "ann")
    assert narrows("name:onboard", "name:onb")
    assert narrows("state:dead anna", "anna")
    assert not narrows("ann", "anna")
    assert not narrows("name:ann", "ann")
    assert not narrows("!anna", "!ann")
    assert not narrows("an*", "an")
    assert not narrows("ann OR bo", "ann")
    # A row that is not stuck now may be so in a minute.
    assert not narrows("work", "wor")
    assert not narrows("stuck:no_worker", "stuck:no_w*")
