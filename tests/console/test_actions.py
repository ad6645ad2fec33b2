"""The table of actions, and what is confirmed before one is done."""

from __future__ import annotations

import shlex

import pytest

from paigeant_console.actions import ACTIONS, VIEWS, Situation, by_id, commands, help_of, hints, of_view, refusal
from paigeant_console.model.confirmation import (
    Target,
    action_words,
    command_line,
    confirmation_of,
    dispatch_confirmation,
)
from paigeant_console.model.help_text import help_lines
from paigeant_console.safe_text import literal
from paigeant_core.operations import DeadLetter, Insert, Operations, Release, Retry, Undo
from paigeant_core.routing import Step
from tests.console import story as told
from tests.console.story import sample_story
from tests.console.story_rows import plain


def test_no_key_means_two_things_in_one_place() -> None:
    for view in {place for action in ACTIONS for place in action.where}:
        keys = [key for action in of_view(view) for key in action.keys]
        assert len(keys) == len(set(keys)), view


def test_ids_and_commands_are_unique() -> None:
    assert len({action.id for action in ACTIONS}) == len(ACTIONS)
    words = [word for action in ACTIONS for word in action.command]
    assert len(words) == len(set(words)) == len(commands())


def test_every_key_is_explained() -> None:
    for view in (*VIEWS, "workflow", "older", "entry"):
        text = "\n".join(plain(line) for line in help_lines(Situation(view), literal(view), 120, ascii_only=False))
        for action in of_view(view):
            assert help_of(action) in text, (view, action.id)


def test_what_cannot_be_done_says_why() -> None:
    read_only = Situation("workflows", read_only=True)
    for action in ACTIONS:
        if action.writes and action.owner == "app":
            assert "read-only" in (refusal(action, read_only) or "")
    assert "no row" in (refusal(by_id("retry"), Situation("workflows", has_row=False)) or "")
    assert "not in this view" in (refusal(by_id("retry"), Situation("traffic")) or "")
    assert "(but in: 3 queues, 5 audit)" in (refusal(by_id("operation.pause"), Situation("workflows")) or "")
    assert refusal(by_id("retry"), Situation("workflows")) is None
    dimmed = {key for key, _, usable in hints(read_only) if not usable}
    assert dimmed == {"r", "R", "d", "h", "l", "s", "x", "U"}
    text = "\n".join(plain(line) for line in help_lines(read_only, literal("workflows"), 60, ascii_only=True))
    assert "not now: this console is read-only" in text


def test_a_plan_says_what_will_happen_and_what_not() -> None:
    story = sample_story()
    plan = story._do(
        Operations(story.transport()).plan(Retry(), [told.DEAD, told.DONE, "nowhere"], reason="it's fixed")
    )
    asked = confirmation_of(plan, Target("redis://h:6379/0", "workflows"))
    assert plain(asked.title) == "retry 1 workflow of 3; 2 not eligible, left alone"
    rows = list(map(plain, asked.rows))
    assert "replay it from a step instead" in rows[1]
    assert "there is no such workflow" in rows[2]
    assert rows[0].endswith("order dead at process-payment try 2 → queued at process-payment")
    assert asked.typed == ()
    assert asked.command == (
        f"paigeant-console --url redis://h:6379/0 retry {told.DEAD} {told.DONE} nowhere --reason 'it'\"'\"'s fixed'"
    )


def test_of_many_targets_the_reasons_are_counted_and_what_will_be_done_comes_first() -> None:
    story = sample_story()
    gone = [f"nowhere-{number}" for number in range(7)]
    plan = story._do(Operations(story.transport()).plan(Retry(), [told.DONE, *gone, told.DEAD], reason="r"))
    asked = confirmation_of(plan, Target("redis://h", "workflows"))
    assert told.DEAD[:8] in plain(asked.rows[0])
    assert plain(asked.facts[0]) == (
        "left    there is no such workflow (7); it is completed: replay it from a step instead (1)"
    )


def test_production_and_many_have_to_be_typed() -> None:
    story = sample_story()
    for number in range(11):
        story.start(f"w{number}", ("charge",))
    operations = Operations(story.transport())
    one = story._do(operations.plan(DeadLetter(), [told.QUEUED], reason="r"))
    assert confirmation_of(one, Target("redis://h", "workflows", "prod", production=True)).typed == ("prod", "1")
    many = story._do(operations.plan(DeadLetter(), [f"w{number}" for number in range(11)], reason="r"))
    assert confirmation_of(many, Target("redis://h", "workflows")).typed == ("11",)


@pytest.mark.parametrize(
    ("target", "flags"),
    [
        (Target("redis://:secret@h:6379/0", "workflows"), ""),
        (Target("redis://h:6379/0", "other"), " --url redis://h:6379/0 --topic other"),
        (Target("redis://h:6379/0", "workflows", "prod"), " --context prod"),
        (Target("memory://demo", "workflows", "demo"), ""),
    ],
)
def test_a_command_line_never_holds_a_password(target: Target, flags: str) -> None:
    assert command_line(target, ["list"]) == f"paigeant-console{flags} list"
    assert target.left_out == ""


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("redis://:***@h:6379/0", "redis://h:6379/0"),
        ("redis://ann:***@one:6379,two:6379/0", "redis://ann@one:6379,two:6379/0"),
        ("amqp://ann:***@h/prod?heartbeat=5", "amqp://ann@h/prod?heartbeat=5"),
    ],
)
def test_the_broker_of_a_given_url_stays_on_the_command_line_without_its_password(url: str, named: str) -> None:
    # A context that was named, too, is not where the URL leads.
    for target in (Target(url, "workflows", given=True), Target(url, "workflows", "prod", given=True)):
        assert shlex.split(command_line(target, ["list"])) == ["paigeant-console", "--url", named, "list"]
        facts = dispatch_confirmation(["check"], {}, target).facts
        assert plain(facts[1]).startswith("same as (password left out) paigeant-console --url ")
    assert command_line(Target("redis://:***@other", "workflows", "prod"), []) == "paigeant-console --context prod"
    plainly = Target("redis://h", "workflows", "prod", given=True)
    assert (plainly.flags(), plainly.left_out) == (["--url", "redis://h"], "")


def test_an_id_that_looks_like_a_flag_stays_an_id() -> None:
    assert action_words(Retry(), ["--yes"], "r") == ["retry", "--reason", "r", "--", "--yes"]
    given = Release({"approved": True, "by": "Ann B"})
    assert action_words(given, ["a"], "r") == [
        "release",
        "a",
        "--var=approved=true",
        '--var=by="Ann B"',
        "--reason",
        "r",
    ]
    assert action_words(Undo("0a1"), ["-b", "c"], "r") == ["undo", "0a1", "--reason", "r", "--", "-b", "c"]
    added = Insert((Step("check"), Step("pay", arguments={"n": 1})))
    assert action_words(added, ["a", "-b"], "r") == [
        *("insert", "check", '{"name":"pay","arguments":{"n":1}}', "--id=a", "--id=-b", "--reason", "r"),
    ]
