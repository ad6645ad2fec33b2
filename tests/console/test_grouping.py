"""Workflows in groups: their heads, counts and order, however rows come, go and change."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paigeant_console.model.fold import Fold
from paigeant_console.model.grouping import GROUPINGS, Groups, Member, group_of, is_head
from paigeant_console.model.ordering import SortedKeys
from paigeant_console.model.query import parse
from paigeant_console.model.workflow_list import Order, WorkflowList
from tests.console import story as told
from tests.console.appkit import ask_for, console
from tests.console.story import Failure, Story, sample_story
from tests.console.story_rows import StoryRows, plain


def failing_story() -> Story:
    """Five dead of two causes, one held, one that moves."""
    story = Story()
    for number in range(5):
        story.start(f"w{number}", ("charge", "notify"), name="order")
        error: Exception = Failure(f"card {number}00 of 3f2a9b1c{number} declined") if number < 3 else OSError("broken")
        story.fails(f"w{number}", error)
    story.start("held", ("review", "notify"), name="audit")
    story.done("held", hold="look")
    story.start("moves", ("charge",), name="")
    return story


def shown(made: WorkflowList) -> list[str]:
    """Heads as they read, rows by their ID."""
    keys = [made.key(index) for index in range(len(made))]
    return [plain(made.cells(index)[0]) if is_head(key) else key for index, key in enumerate(keys)]


def made_of(story: Story, grouping: str) -> tuple[StoryRows, WorkflowList]:
    rows = StoryRows(story)
    rows.read()
    made = WorkflowList(rows, ascii_only=True)
    made.set_grouping(grouping)  # type: ignore[arg-type]
    while not made.scan():
        pass
    return rows, made


def test_a_cause_is_an_error_without_its_numbers() -> None:
    rows, _ = made_of(failing_story(), "none")
    causes = {key: group_of(row, "cause") for key, row in rows.fold.rows.items()}
    assert causes["w0"] == causes["w2"] == "Failure: card # of # declined"
    assert causes["w3"] == "OSError: broken"
    assert causes["held"] == "held: look"
    assert causes["moves"] == ""
    assert group_of(rows.fold.rows["held"], "activity") == "notify"


def test_groups_are_closed_at_first_and_one_alone_is_its_row() -> None:
    _, made = made_of(failing_story(), "cause")
    assert shown(made) == [
        "+ 3 workflows  Failure: card # of # declined  [!]  charge  <1m",
        "+ 2 workflows  OSError: broken  [!]  charge  <1m",
        "held",
        "moves",
    ]
    assert made.matched == 7
    head = made.key(0)
    assert made.members(head) == ["w2", "w1", "w0"]
    assert (made.size(head), made.size("held"), made.members("held")) == (3, 1, ["held"])
    before = made.revision(head)
    made.toggle(head)
    assert shown(made)[0] == "- 3 workflows  Failure: card # of # declined  [!]  charge  <1m"
    assert shown(made)[1:4] == ["w2", "w1", "w0"]
    assert made.revision(head) != before
    made.toggle(head)
    assert len(made) == 4


def test_the_head_of_a_group_that_is_gone_does_nothing() -> None:
    _, made = made_of(failing_story(), "state")
    head = made.key(0)
    made.set_grouping("cause")
    made.toggle(head)
    while not made.scan():
        pass
    made.toggle(head)
    assert (len(made), made.members(head), made.size(head)) == (4, [], 0)
    made.set_grouping("none")
    while not made.scan():
        pass
    made.toggle(head)
    assert len(made) == made.matched == 7


def test_groups_by_state_stand_in_the_order_of_urgency() -> None:
    _, made = made_of(failing_story(), "state")
    assert shown(made) == ["+ 5 workflows  [!] dead  charge  <1m", "held", "moves"]
    _, made = made_of(failing_story(), "activity")
    assert shown(made) == ["+ 6 workflows  charge  [!] 5 [.] 1  <1m", "held"]


def test_what_changes_goes_to_its_group() -> None:
    story = failing_story()
    rows, made = made_of(story, "cause")
    story.fails("moves", OSError("broken"))
    story.start("new", ("charge",))
    made.absorb(rows.read())
    assert shown(made) == [
        "+ 3 workflows  Failure: card # of # declined  [!]  charge  <1m",
        "+ 3 workflows  OSError: broken  [!]  charge  <1m",
        "held",
        "new",
    ]
    story.fails("new", ValueError("another"))
    made.absorb(rows.read())
    assert shown(made)[2:] == ["new", "held"], "causes of one are in order"


def test_a_filter_counts_what_is_in_closed_groups() -> None:
    _, made = made_of(failing_story(), "cause")
    made.set_query(parse("error:declined"))
    while not made.scan():
        pass
    assert (made.matched, len(made)) == (3, 1)
    made.set_query(None)
    while not made.scan():
        pass
    assert shown(made)[0].startswith("+ 3"), "what was closed stays closed"


@pytest.mark.parametrize(
    ("order", "ids"),
    [
        ("name", ["held", "w4", "w0", "z", "moves"]),
        ("activity", ["moves", "w4", "w0", "held", "z"]),
        ("attempts", ["moves", "z", "held", "w4", "w0"]),
    ],
)
def test_more_orders(order: Order, ids: list[str]) -> None:
    story = failing_story()
    story.start("z", ("zeta",), name="zeta")
    story.fails("moves", OSError("no"), delay=1)
    _, made = made_of(story, "none")
    made.set_order(order)
    while not made.scan():
        pass
    assert [key for key in shown(made) if key in ids] == ids


MOVES = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["a", "b", "c", None]), st.integers(0, 9)), max_size=40)


K9: Member = ("a", (1, "k9"), ("a", "1", 1))


@given(MOVES, st.booleans(), st.lists(st.sampled_from("abc"), max_size=6))
def test_changes_one_by_one_come_to_the_same_as_all_at_once(moves, several: bool, toggles: list[str]) -> None:
    groups, keys = Groups(), SortedKeys()
    groups.choose("cause")
    now: dict[str, Member] = {}
    for number, group, rank in moves:
        key = f"k{number}"
        change = None if group is None else (group, (rank, key), (group, str(rank), rank))
        keys.update(groups.update({key: change} if not several else {key: change, "k9": K9}))
        if change is None:
            now.pop(key, None)
        else:
            now[key] = change
        if several:
            now["k9"] = K9
        if toggles and any(group == toggles[0] for group, _, _ in now.values()):
            keys.update(groups.toggle(groups.head(toggles.pop(0))))
    assert len(groups) == len(now)
    seen = [keys.key(index) for index in range(len(keys))]
    for group in "abc":
        members = sorted((rank, key) for key, (where, rank, _) in now.items() if where == group)
        assert groups._faces.get(group, {}) == Counter(face for where, _, face in now.values() if where == group)
        head = groups.head(group)
        assert (head in seen) == (len(members) > 1)
        inside = [key for _, key in reversed(members)]
        visible = [key for key in seen if key in inside]
        assert visible in ([], inside)
        if len(members) == 1:
            assert visible == inside
        if visible and len(members) > 1:
            start = seen.index(head)
            assert seen[start + 1 : start + 1 + len(inside)] == inside


async def test_a_group_is_opened_marked_and_retried_as_a_whole(tmp_path: Path) -> None:
    story = failing_story()
    async with console(story, tmp_path, size=(80, 24)) as opened:
        await opened.press("4")
        await opened.shows("▸ 3 workflows  Failure: card # of # declined  ✗  charge  <1m")
        table = opened.screen.table
        assert is_head(table.cursor_key)
        assert opened.screen.targets() == ["w2", "w1", "w0"]
        await opened.press("enter")
        assert "▾ 3 workflows" in opened.text()
        assert opened.screen.rows.key(1) == "w2"
        await opened.press("j", " ", "k", " ")
        assert opened.screen.targets() == ["w2", "w1", "w0"], "what is marked twice is acted on once"
        await ask_for(opened, "r", "the bank is back")
        assert "retry 3 workflows" in opened.text()
        await opened.press("y")
        await opened.until(lambda: all(story.state(f"w{number}") == "queued" for number in range(3)), "the deed")
        await opened.settled()
        assert story.state("w3") == "dead"


def two_customers() -> Story:
    """Three and four dead of one cause."""
    story = Story()
    for name, number in (("acme", 3), ("other", 4)):
        for index in range(number):
            story.start(f"{name}{index}", ("charge",), name=name)
            story.fails(f"{name}{index}", ValueError("card declined"))
    return story


async def test_what_a_marked_group_stands_for_is_what_was_looked_at(tmp_path: Path) -> None:
    story = two_customers()
    for index in range(2):
        story.start(f"done{index}", ("charge",))
        story.done(f"done{index}")
    async with console(story, tmp_path, size=(100, 24)) as opened:
        for _ in range(2):
            await opened.press("b")
        await opened.press("G", " ")
        assert opened.screen.targets() == ["done1", "done0"], "the group that is at no activity any more"
        await opened.press("b")
        await opened.shows("grouped by the cause")
        assert opened.screen.table.marks == (), "the group without a cause is another one"
        # Nor is a group the same with another filter.
        await opened.press("/")
        await opened.type("name:acme")
        await opened.press("enter")
        await opened.settled()
        await opened.press("g", " ")
        assert sorted(opened.screen.targets()) == ["acme0", "acme1", "acme2"]
        assert "3 marked" in opened.text()
        await opened.press("escape")
        await opened.settled()
        assert "7 workflows" in opened.text()
        assert opened.screen.table.marks == ()
        assert "marked;" not in opened.text()


async def test_how_many_are_marked_is_told_as_a_group_grows(tmp_path: Path) -> None:
    story = two_customers()
    async with console(story, tmp_path, size=(100, 24)) as opened:
        await opened.press("4", " ")
        assert "7 marked" in opened.text()
        story.start("late", ("charge",))
        story.fails("late", ValueError("card declined"))
        await opened.settled()
        assert "8 marked" in opened.text()
        assert len(opened.screen.targets()) == 8


async def test_the_key_goes_through_the_groupings(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path) as opened:
        for words in ("grouped by state", "grouped by the activity", "grouped by the cause", "not grouped"):
            await opened.press("b")
            assert words in opened.text()
        assert opened.screen.rows.grouping == GROUPINGS[0]
        await opened.press("b")
        assert "▸ 2 workflows  ▶ running" in opened.text()
        assert told.DEAD[:7] in opened.text(), "one alone is its row"


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        ("provider answered 503 (request 17)", "provider answered 503 (request #)"),
        ("HTTP 429", "HTTP 429"),
        ("HTTP/1.1 503: no", "HTTP/1.1 503: no"),
        ("HTTP Error 503: Service Unavailable", "HTTP Error 503: Service Unavailable"),
        ("status 429.", "status 429."),
        ("status_code: 503, model: m-4", "status_code: 503, model: m-#"),
        ('{"status": 503}', '{"status": 503}'),
        ("Error code: 429 - slow down", "Error code: 429 - slow down"),
        ("503 Service Unavailable", "503 Service Unavailable"),
        (
            "Client error '404 Not Found' for url 'https://h:443/500'",
            "Client error '404 Not Found' for url 'https://h:#/#'",
        ),
        ("503 Server Error: no for url: https://h:443/", "503 Server Error: no for url: https://h:#/"),
        ("503, message='no', url='http://h:500'", "503, message='no', url='http://h:#'"),
        ("connect to db:443 refused", "connect to db:# refused"),
        ("cannot connect to host pay port 443", "cannot connect to host pay port #"),
        ("Connect call failed ('127.0.0.1', 443)", "Connect call failed ('#.#.#.#', #)"),
        ("row 404 of 500", "row # of #"),
        ("answered 503 ms late", "answered # ms late"),
        ("500 Service Unavailable", "# Service Unavailable"),
        ("statuses 503", "statuses #"),
        ("took 512 ms", "took # ms"),
        ("took 512ms", "took #ms"),
        ("order 1503", "order #"),
        ("no route to 10.0.0.503", "no route to #.#.#.#"),
    ],
)
def test_a_status_is_part_of_a_cause_and_other_numbers_are_not(message: str, cause: str) -> None:
    story = Story()
    story.start("w", ("charge",))
    story.fails("w", Failure(message))
    with story.broker.topic(story.topic) as state:
        fold = Fold()
        fold.apply(list(state.journal))
    assert group_of(fold.rows["w"], "cause") == f"Failure: {cause}"
