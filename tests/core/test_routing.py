"""The routing slip: what is to do, what is done, and the moves between them."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from paigeant_core.errors import IllegalTransition, InvalidMessage, SlipExhausted
from paigeant_core.limits import MAX_STEPS
from paigeant_core.retry import RetryPolicy
from paigeant_core.routing import ActivitySpec, Executed, RoutingSlip, Step, to_step
from tests.core.strategies import activity_names, json_objects, slips, steps

NAMES = ("a", "b", "c")  # few: the same activity stands in an itinerary many times


class SlipMachine(RuleBasedStateMachine):
    """A slip beside two plain lists. Each step has a number of its own, so that none can stand in for another."""

    def __init__(self) -> None:
        super().__init__()
        self.slip = RoutingSlip()
        self.todo: list[tuple[str, int]] = []
        self.done: list[tuple[str, int]] = []
        self.serial = 0
        self.ran: list[int] = []

    def _new(self, names: list[str]) -> list[tuple[str, int]]:
        made = [(name, self.serial + number) for number, name in enumerate(names)]
        self.serial += len(names)
        return made

    @initialize(names=st.lists(st.sampled_from(NAMES), max_size=6))
    def start(self, names: list[str]) -> None:
        self.todo = self._new(names)
        self.slip = RoutingSlip([_step(item) for item in self.todo])

    @precondition(lambda self: self.todo)
    @rule(attempt=st.integers(1, 9))
    def complete(self, attempt: int) -> None:
        step = self.slip.next_step()
        assert step is not None
        self.ran.append(step.arguments["serial"])
        self.slip.mark_complete(step, attempt)
        assert self.slip.executed[-1].attempt == attempt
        self.done.append(self.todo.pop(0))

    @rule(name=st.sampled_from([*NAMES, "z", ""]))
    def complete_another(self, name: str) -> None:
        if self.todo and self.todo[0][0] == name:
            return
        before = self.slip.to_document()
        with pytest.raises(IllegalTransition if self.todo else SlipExhausted):
            self.slip.mark_complete(name)
        assert self.slip.to_document() == before

    @rule()
    def skip(self) -> None:
        if not self.todo:
            with pytest.raises(SlipExhausted):
                self.slip.skip()
            return
        self.slip.skip()
        assert self.slip.executed[-1].skipped
        self.done.append(self.todo.pop(0))

    @rule(names=st.lists(st.sampled_from(NAMES), max_size=40))
    def insert(self, names: list[str]) -> None:
        added = self._new(names)
        if len(self.done) + len(self.todo) + len(added) > MAX_STEPS:
            before = self.slip.to_document()
            with pytest.raises(InvalidMessage, match="at most 100"):
                self.slip.insert_next(*map(_step, added))
            assert self.slip.to_document() == before
            return
        self.slip.insert_next(*map(_step, added))
        self.todo[1:1] = added

    @rule()
    def discard(self) -> None:
        dropped = self.slip.discard_rest()
        assert [step.arguments["serial"] for step in dropped] == [serial for _, serial in self.todo[1:]]
        del self.todo[1:]

    @rule()
    def travel(self) -> None:
        document = msgspec.json.decode(msgspec.json.encode(self.slip.to_document()))
        arrived = RoutingSlip.from_document(document)
        assert arrived == self.slip
        self.slip = arrived

    @rule()
    def undo_a_copy(self) -> None:
        before = self.slip.to_document()
        copy = self.slip.copy()
        hops = []
        more = copy.start_undoing()
        while more:
            hops.append(copy.hop)
            assert copy.current_name() == str(copy.executed[copy.hop - 1])
            more = copy.undo_next()
        expected = [hop for hop, entry in enumerate(self.slip.executed, start=1) if not entry.skipped]
        assert hops == expected[::-1]
        assert (copy.undoing, copy.names()) == (0, self.slip.names())
        assert self.slip.to_document() == before

    @invariant()
    def agrees(self) -> None:
        slip = self.slip
        assert [step.arguments["serial"] for step in slip.itinerary] == [serial for _, serial in self.todo]
        assert slip.names() == tuple(name for name, _ in self.done + self.todo)
        assert slip.hop == len(self.done) + 1
        assert slip.finished is (not self.todo)
        assert slip.next_step() == (self.todo[0][0] if self.todo else None)
        assert slip.current_name() == (self.todo[0][0] if self.todo else "")
        assert slip.previous_step() == (self.done[-1][0] if self.done else None)
        assert len(slip.executed) + len(slip.itinerary) <= MAX_STEPS

    @invariant()
    def nothing_runs_twice_or_out_of_order(self) -> None:
        assert len(self.ran) == len(set(self.ran))
        ran = set(self.ran)
        assert self.ran == [serial for _, serial in self.done if serial in ran]


def _step(item: tuple[str, int]) -> Step:
    return Step(item[0], arguments={"serial": item[1]})


TestSlipMachine = SlipMachine.TestCase
TestSlipMachine.settings = settings(deadline=None, stateful_step_count=30)


@given(slips())
def test_a_slip_survives_its_document(slip: RoutingSlip) -> None:
    arrived = RoutingSlip.from_document(msgspec.json.decode(msgspec.json.encode(slip.to_document())))
    assert arrived == slip
    assert [step.arguments for step in arrived.itinerary] == [step.arguments for step in slip.itinerary]
    assert [step.skipped for step in arrived.executed] == [step.skipped for step in slip.executed]
    assert (arrived.on_failure, arrived.undoing, arrived.hop) == (slip.on_failure, slip.undoing, slip.hop)


@given(steps)
def test_a_step_survives_its_document(step: Step) -> None:
    for decoded in (False, True):
        arrived = Step.from_document(step.to_document(), decoded=decoded)
        assert arrived == step
        assert arrived.arguments == step.arguments
        assert (arrived.retry, arrived.timeout, arrived.scopes) == (step.retry, step.timeout, step.scopes)


@given(activity_names, json_objects)
def test_a_step_is_its_name(name: str, arguments: dict[str, Any]) -> None:
    step, other = Step(name, arguments=arguments), Step(name)
    assert step == name == other
    assert hash(step) == hash(name)
    assert {name: 1}[step] == 1
    assert [name, name].index(step) == 0
    assert f"{step}" == str(step) == name
    assert type(str(step)) is str
    assert isinstance(step, str)


def test_a_bare_step_is_written_as_its_name() -> None:
    assert Step("a").to_document() == "a"
    assert Step("a", arguments={"n": 1}, timeout=2).to_document() == {"name": "a", "arguments": {"n": 1}, "timeout": 2}
    assert RoutingSlip(["a"]).to_document() == {"itinerary": ["a"], "executed": []}


def test_a_spec_becomes_a_step() -> None:
    spec = ActivitySpec(name="a", arguments={"n": 1}, retry={"max_attempts": 5}, timeout=30, scopes=["x:write"])
    step = to_step(spec)
    assert step == "a"
    assert (step.arguments, step.retry, step.timeout, step.scopes) == (
        {"n": 1},
        {"max_attempts": 5},
        30,
        ("x:write",),
    )
    assert to_step(step) is step
    assert to_step({"name": "a", "arguments": {"n": 1}}).arguments == {"n": 1}
    assert RoutingSlip([spec, "b", {"name": "c"}]).names() == ("a", "b", "c")


def test_a_whole_policy_stands_in_place_of_the_activitys() -> None:
    # A policy that happens to have the default of three attempts still says three.
    assert to_step(ActivitySpec(name="a", retry=RetryPolicy())).retry["max_attempts"] == 3
    assert RetryPolicy.from_document(Step("a", retry=RetryPolicy(cap=5)).retry) == RetryPolicy(cap=5)


def test_what_a_step_was_given_can_be_changed_without_changing_the_step() -> None:
    given_arguments = {"list": [1]}
    step = Step("a", arguments=given_arguments)
    given_arguments["list"].append(2)
    assert step.arguments == {"list": [1]}


@pytest.mark.parametrize(
    "document",
    [
        None,
        1,
        ["a"],
        "",
        "a b",
        {},
        {"name": 1},
        {"name": "a", "other": 1},
        {"name": "a", "arguments": [1]},
        {"name": "a", "arguments": {1: 2}},
        {"name": "a", "arguments": {"n": math.nan}},
        {"name": "a", "arguments": {"n": [math.inf]}},
        {"name": "a", "arguments": {"n": {1, 2}}},
        {"name": "a", "arguments": {"n": b"bytes"}},
        {"name": "a", "arguments": {"n": "\ud800"}},
        {"name": "a", "arguments": {"n": ...}},
        {"name": "a", "retry": {"max_attempts": 0}},
        {"name": "a", "retry": {"unknown": 1}},
        {"name": "a", "retry": 3},
        {"name": "a", "timeout": 0},
        {"name": "a", "timeout": -1},
        {"name": "a", "timeout": True},
        {"name": "a", "timeout": "1"},
        {"name": "a", "timeout": math.nan},
        {"name": "a", "timeout": math.inf},
        {"name": "a", "scopes": "x"},
        {"name": "a", "scopes": [1]},
        {"name": "a", "scopes": None},
        ActivitySpec(name="a", scopes="x:write"),  # type: ignore[arg-type]
        ActivitySpec(name="a", scopes=None),  # type: ignore[arg-type]
        ActivitySpec(name="a", scopes=[1]),  # type: ignore[list-item]
    ],
    ids=repr,
)
def test_what_is_no_step_is_refused(document: object) -> None:
    with pytest.raises(InvalidMessage):
        to_step(document)


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {"itinerary": "a"},
        {"itinerary": [1]},
        {"itinerary": ["a b"]},
        {"executed": ["a"]},
        {"executed": [{"name": "a b"}]},
        {"executed": [{"attempt": 1}]},
        {"on_failure": "explode"},
        {"undoing": 1},
        {"undoing": -1, "executed": [{"name": "a"}]},
        {"itinerary": ["a"] * 101},
        {"itinerary": ["a"] * 50, "executed": [{"name": "a"}] * 51},
    ],
    ids=lambda document: repr(document)[:60],
)
def test_what_is_no_slip_is_refused(document: object) -> None:
    with pytest.raises(InvalidMessage):
        RoutingSlip.from_document(document)


def test_a_hundred_steps_and_no_more() -> None:
    assert len(RoutingSlip(["a"] * 100).itinerary) == 100
    with pytest.raises(InvalidMessage, match="101 steps: a slip holds at most 100"):
        RoutingSlip(["a"] * 101)
    with pytest.raises(InvalidMessage):
        RoutingSlip(["a"] * 50, [Executed("a")] * 51)


def test_undoing_goes_from_the_last_to_the_first_past_the_skipped() -> None:
    done = [Executed("a"), Executed("b", 0, skipped=True), Executed("c"), Executed("d", 0, skipped=True)]
    slip = RoutingSlip(["e"], done)
    assert slip.start_undoing()
    assert (slip.hop, slip.current_name()) == (3, "c")
    assert slip.undo_next()
    assert (slip.hop, slip.current_name()) == (1, "a")
    assert not slip.undo_next()
    assert (slip.undoing, slip.hop, slip.current_name()) == (0, 5, "e")
    with pytest.raises(IllegalTransition):
        slip.undo_next()


def test_no_step_is_completed_while_steps_are_undone() -> None:
    slip = RoutingSlip(["b"], [Executed("a")], undoing=1)
    with pytest.raises(IllegalTransition, match="being compensated"):
        slip.mark_complete("b")
    assert slip.names() == ("a", "b")
    assert len(slip.executed) == 1


def test_with_nothing_done_there_is_nothing_to_undo() -> None:
    assert not RoutingSlip(["a"]).start_undoing()
    assert not RoutingSlip(["b"], [Executed("a", 0, skipped=True)]).start_undoing()


def test_a_refusal_names_the_step_that_is_due() -> None:
    with pytest.raises(IllegalTransition, match="'b' cannot be completed: the step to be done now is 'a'"):
        RoutingSlip(["a", "b"]).mark_complete("b")
    with pytest.raises(SlipExhausted, match="nothing is left"):
        RoutingSlip().mark_complete("a")
