"""Why a workflow does not move: the sentence of every reason. Real situations are in test_stuck_situations."""

from __future__ import annotations

from typing import Any

import pytest

from paigeant_console.model.fold import Fold
from paigeant_console.model.row import Row
from paigeant_console.model.slip_track import track_of
from paigeant_console.model.stuck import Explanation, explain, keys_line
from paigeant_console.model.times import spoken
from paigeant_console.model.workflow_list import one_line
from paigeant_console.model.workflow_list import why as short
from paigeant_console.model.workflow_page import WorkflowPage
from paigeant_core import transition as moves
from paigeant_core.delegation import Delegation
from paigeant_core.errors import TokenExpired, TokenSealed, UnsupportedVersion
from paigeant_core.journal import Kind, Record, State
from paigeant_core.message import Headers
from paigeant_core.pauses import Pause
from paigeant_core.permission import withheld
from paigeant_core.transition import Outcome
from paigeant_core.transports.types import WorkerInfo, WorkerStatus, worker_record
from tests.console.test_fold import NOW, Story, worker

TEN_TO_TEN = NOW - NOW % 86400 + 9 * 3600 + 50 * 60


def why(fold: Fold, row: Row, now: float) -> Explanation:
    found = explain(fold, row, now)
    assert found is not None
    return found


def sentence(fold: Fold, row: Row, now: float) -> str:
    return str(why(fold, row, now).sentence)


def serves(name: str, *activities: str) -> WorkerInfo:
    return WorkerInfo(worker=name, activities=activities)


def test_nothing_is_said_of_what_moves_or_is_done() -> None:
    story = Story("a")
    fold, row = story.fold()
    fold.observe([worker("a")], NOW)
    assert explain(fold, row, NOW + 3600) is None, "somebody serves it"
    fold.observe([worker("a", running=story.message, since=NOW)], NOW)
    assert explain(fold, row, NOW + 3600) is None, "how long it usually takes is not known"
    story.done()
    assert explain(*story.fold(), NOW) is None


def test_no_worker_tells_who_was_seen_last() -> None:
    story = Story("a", at=TEN_TO_TEN)
    fold, row = story.fold()
    fold.observe([], TEN_TO_TEN)
    now = TEN_TO_TEN + 14 * 60
    assert sentence(fold, row, now) == (
        "waiting 14 min: no worker serves a (none ever did, as far as the journal goes back)"
    )
    assert fold.needs_others(row, now)
    for event, last in (
        ("started", "last seen 09:51 on w-3"),
        ("stopped", "w-3 was the last; stopped at 09:51"),
        ("lost", "w-3 was the last; lost at 09:51"),
    ):
        fold.learn([worker_record(serves("w-3", "a", "b"), "t", event, TEN_TO_TEN + 60)])
        assert sentence(fold, row, now) == f"waiting 14 min: no worker serves a ({last})"
    assert keys_line(why(fold, row, now)).startswith("start a worker for it")
    assert "d parks it" in keys_line(why(fold, row, now))
    assert keys_line(why(fold, row, now), read_only=True) == "start a worker for it"


def test_who_did_the_step_for_others_or_reported_for_it_was_seen_too() -> None:
    other, story = Story("a", at=TEN_TO_TEN), Story("a", at=TEN_TO_TEN)
    other.fails()
    fold, row = story.fold()
    fold.learn(other.journal)
    fold.observe([], TEN_TO_TEN)
    assert sentence(fold, row, TEN_TO_TEN + 60).endswith("(last seen 09:50 on w-1)")
    fold.observe([WorkerStatus(info=serves("w-9", "a"), last_seen_s=1.0)], TEN_TO_TEN + 300)
    fold.observe([], TEN_TO_TEN + 600)
    assert sentence(fold, row, TEN_TO_TEN + 700) == "waiting 11 min: no worker serves a (last seen 09:54 on w-9)"


def test_a_worker_that_names_no_activity_serves_all() -> None:
    fold, row = Story("a").fold()
    fold.observe([WorkerStatus(info=serves("debugger"))], NOW)
    assert fold.stuck(row, NOW + 3600) is None


def test_a_lost_worker_is_named_with_when_it_was_heard_last() -> None:
    story = Story("a")
    fold, row = story.fold()
    held = worker("a", running=story.message)
    fold.observe([WorkerStatus(info=held.info, running=held.running, last_seen_s=4.0)], NOW + 10)
    fold.observe([], NOW + 20)
    assert sentence(fold, row, NOW + 46) == "its worker w-1 stopped renewing 40 s ago; no other serves a"
    fold.observe([WorkerStatus(info=serves("w-2", "a"))], NOW + 47)
    assert sentence(fold, row, NOW + 46 + 60) == "its worker w-1 stopped renewing 1 min ago; another will take it over"
    assert keys_line(why(fold, row, NOW + 46)).startswith("r gives it to another worker at once")
    fold.observe([], NOW + 48)
    assert keys_line(why(fold, row, NOW + 49)) == "start a worker for it; d parks it among the dead letters"


def test_who_died_before_anybody_looked_is_named_too_and_who_stopped_is_not() -> None:
    story = Story("a")
    held = worker("a", running=story.message)
    dead = WorkerStatus(info=held.info, running=held.running, last_seen_s=30.0)
    fold, row = story.fold()
    changed = fold.observe([], NOW + 40, [dead])
    assert changed == {row.correlation_id}
    assert sentence(fold, row, NOW + 50) == "its worker w-1 stopped renewing 40 s ago; no other serves a"
    fold.apply([worker_record(held.info, "t", "stopped", NOW + 41)])
    assert fold.stuck(row, NOW + 60) == "no_worker", "what it gave back is not lost with it"
    other = WorkerStatus(info=serves("w-2", "a"), running=held.running)
    assert fold.observe([other], NOW + 61, [dead]) == {row.correlation_id}
    assert (row.state, row.runner) == (State.RUNNING, "w-2"), "it was taken over"


def test_what_a_worker_that_stopped_had_begun_waits_since_it_was_handed_back() -> None:
    story = Story("a", at=TEN_TO_TEN)
    fold, row = story.fold()
    fold.observe([worker("a", running=story.message, since=TEN_TO_TEN)], TEN_TO_TEN)
    back = TEN_TO_TEN + 17 * 60
    assert fold.apply([worker_record(serves("w-1", "a"), "t", "stopped", back, [row.correlation_id])])
    fold.observe([], back)
    assert (row.since, fold.stuck(row, back + 20)) == (back, None)
    assert sentence(fold, row, back + 40) == "waiting 40 s: no worker serves a (w-1 was the last; stopped at 10:07)"
    story.fails()
    assert story.fold()[1].queued_since == story.at - 1 + 5
    # The journal's order counts: what moved on since is not at that step any more.
    fold.apply(story.journal[1:])
    fold.learn([worker_record(serves("w-1", "a"), "t", "stopped", TEN_TO_TEN + 0.5, [row.correlation_id])])
    assert row.queued_since == story.at - 1 + 5


def test_an_attempt_that_is_due_waits_for_a_worker_as_the_first_did() -> None:
    story = Story("a")
    story.add(moves.retry(story.message, TimeoutError("no"), 60.0, story.span(), most=3))
    due = story.at - 1 + 60
    fold, row = story.fold()
    fold.observe([], NOW)
    assert fold.stuck(row, due + 29) == "backoff"
    assert (
        sentence(fold, row, due + 31) == "waiting 30 s for attempt 2 of 3: no worker serves a (last seen 22:13 on w-1)"
    )
    fold.paused = {"a": Pause(activity="a", at=NOW, operator="ann", reason="audit")}
    assert fold.stuck(row, due - 1) == "backoff"
    assert sentence(fold, row, due + 31) == "waiting 30 s for a: ann paused it at 22:13: audit"
    paused = why(fold, row, due + 31)
    assert keys_line(paused).startswith("P in view 3 lets its workers go on; s skips this step")
    assert keys_line(paused, commands=True).startswith("`activity resume` lets its workers go on; `skip` skips")


def test_slow_says_how_long_others_took() -> None:
    others = Story("a", "a")
    others.done(seconds=2.0)
    story = Story("a")
    fold, row = story.fold()
    fold.observe([worker("a", running=story.message, since=NOW)], NOW)
    assert fold.needs_others(row, NOW + 61)
    fold.learn(others.journal)
    assert sentence(fold, row, NOW + 12 * 60) == "running for 12 min on w-1; half of its kind took no more than 2.0 s"
    assert keys_line(why(fold, row, NOW + 720)) == "r starts a second copy, and the first is refused"
    for _ in range(2):
        story.add(moves.done(story.message, {}, story.span(90)), follow=False)
    fold.learn(story.journal)
    assert "half of its kind took no more than 1 min" in sentence(fold, row, NOW + 12 * 60)


def test_backoff_counts_attempts_and_the_time_until_the_next() -> None:
    story = Story("a")
    for number in range(2, 5):
        story.add(moves.retry(story.message, TimeoutError("took longer than 5 s"), 38.0, story.span(), most=5))
        assert story.message.headers.attempt == number
    fold, row = story.fold()
    due = story.at - 1 + 38
    assert sentence(fold, row, due - 38) == "attempt 4 of 5 in 40s after TimeoutError: took longer than 5 s"
    assert sentence(fold, row, due) == "attempt 4 of 5 due after TimeoutError: took longer than 5 s"
    assert keys_line(why(fold, row, due)).startswith("r runs it now")
    assert keys_line(why(fold, row, due), commands=True).startswith("`retry` runs it now")
    # A worker of an older version says not how many there are.
    story.fails(5.0)
    assert sentence(*story.fold(), story.at + 3).startswith("attempt 5 in 10s after ValueError")


def test_poison_is_said_of_the_dead_letter() -> None:
    story = Story("a")
    story.add(
        moves.failed(story.message, RuntimeError("5 workers died while they ran this step"), "poison", story.span())
    )
    fold, row = story.fold()
    assert (row.state, fold.stuck(row, NOW)) == (State.DEAD, "poison")
    assert sentence(fold, row, NOW) == "5 workers died while they ran this step (a; w-1 parked it at 22:13)"
    assert keys_line(why(fold, row, NOW)).startswith("mend the handler first; r runs the step again")


def test_version_says_when_it_is_offered_again() -> None:
    story = Story("a")
    error = moves.error_document(UnsupportedVersion("spec version 2; this code reads up to 1"))
    detail = {"reason": "version", "error": error, "delay_s": 30.0}
    record = Record(
        Kind.RETRYING, story.message.headers, state=State.RETRYING, worker="w-1", detail=detail, body=b"?", at=NOW
    )
    fold = Fold()
    fold.apply([record])
    row = fold.rows[story.message.correlation_id]
    assert fold.stuck(row, NOW) == "version"
    assert sentence(fold, row, NOW + 10) == (
        "its message is newer than w-1 can read (spec version 2; this code reads up to 1); offered again in 20s"
    )
    assert keys_line(why(fold, row, NOW)) == "roll the workers forward"
    fold.observe([], NOW)
    assert sentence(fold, row, NOW + 40).endswith("offered again now; no worker serves a")


def test_a_token_that_is_over_says_since_when_and_what_helps() -> None:
    story = Story("charge", at=TEN_TO_TEN)
    story.message.delegation = Delegation(exp=int(TEN_TO_TEN) - 60)
    expired = TokenExpired("its token expired at 2026-11-28T09:49:00.000Z")
    story.add(withheld(story.message, expired, story.span()))
    fold, row = story.fold()
    assert (row.state, fold.stuck(row, NOW)) == (State.HELD, "token_expired")
    assert sentence(fold, row, TEN_TO_TEN + 60) == "its user's token expired at 09:49; held at charge since 09:50"
    assert keys_line(why(fold, row, NOW)) == (
        "let its user sign in again; l takes the new token's file; d parks it among the dead letters"
    )
    assert "`release --token-file FILE` takes" in keys_line(why(fold, row, NOW), commands=True)


def test_a_token_that_was_refused_before_its_time_is_told_in_the_words_of_who_did() -> None:
    story = Story("charge", at=TEN_TO_TEN)
    story.add(withheld(story.message, TokenExpired("the provider answered 401"), story.span()))
    assert sentence(*story.fold(), TEN_TO_TEN + 60) == "the provider answered 401; held at charge since 09:50"


def test_a_token_that_nobody_could_open_says_so() -> None:
    story = Story("charge", at=TEN_TO_TEN)
    story.add(withheld(story.message, TokenSealed("no key here opens its token"), story.span()))
    fold, row = story.fold()
    assert fold.stuck(row, NOW) is None
    assert sentence(fold, row, TEN_TO_TEN + 60) == "no key here opens its token; held at charge since 09:50"
    assert keys_line(why(fold, row, NOW)) == "give its workers the topic key, then; l lets it go on"


@pytest.mark.parametrize(
    ("lives", "said"),
    [
        (60, ""),
        (8, "; its token expires before the next attempt"),
        (3, "; its token is over, and it will be held"),
    ],
)
def test_a_token_that_will_not_last_until_the_next_attempt_is_told_of(lives: int, said: str) -> None:
    story = Story("charge", at=TEN_TO_TEN)
    story.message.delegation = Delegation(exp=int(TEN_TO_TEN) + lives)
    story.fails(delay=10)
    fold, row = story.fold()
    assert sentence(fold, row, TEN_TO_TEN + 4) == f"attempt 2 in 10s after ValueError: no{said}"
    story.done()
    assert story.fold()[1].token_until == ""


def test_what_the_broker_lost_says_so() -> None:
    story = Story("a", at=TEN_TO_TEN)
    record = moves.operated(story.message, TEN_TO_TEN, {"reason": "lost"}, state=State.QUEUED, body=True)
    record.at = TEN_TO_TEN
    fold = Fold()
    fold.apply([record])
    row = fold.rows[story.message.correlation_id]
    assert fold.stuck(row, TEN_TO_TEN) == "lost"
    assert sentence(fold, row, TEN_TO_TEN) == (
        "the broker lost its message for a; published again from the journal at 09:50 and waiting a moment"
    )


def test_a_token_that_is_over_for_a_reason_nobody_gave_says_that_much() -> None:
    story = Story("charge", at=TEN_TO_TEN)
    story.add(withheld(story.message, TokenExpired(""), story.span()))
    assert sentence(*story.fold(), TEN_TO_TEN + 60) == "token expired; held at charge since 09:50"


@pytest.mark.parametrize("word", ["lost", "version", "poison", "token_expired", "token_sealed"])
def test_a_hold_for_a_reason_that_is_a_word_of_ours_is_a_hold_all_the_same(word: str) -> None:
    story = Story("a", "b", at=TEN_TO_TEN)
    story.fails()
    story.done(outcome=Outcome(hold=word))
    fold, row = story.fold()
    assert (row.state, fold.stuck(row, story.at), row.error) == (State.HELD, None, None)
    assert sentence(fold, row, story.at) == f"held by its handler on w-1 since 09:50: {word}"
    assert one_line(short(row, None, 80)) == word.replace("_", " ")


def test_a_step_that_died_with_its_workers_and_is_undone_now_is_not_stuck() -> None:
    story = Story("a", "b")
    story.done()
    story.message.routing_slip.on_failure = "compensate"
    story.dies("poison")
    fold, row = story.fold()
    assert (row.state, fold.stuck(row, NOW)) == (State.COMPENSATING, None)
    failed = moves.failed(story.message, RuntimeError("5 workers died"), "poison", story.span())
    story.add(failed)
    fold, row = story.fold()
    assert (row.state, fold.stuck(row, NOW)) == (State.COMPENSATION_FAILED, "poison")


@pytest.mark.parametrize("reported", [True, False])
def test_who_ran_what_is_parked_by_now_is_not_lost_with_it(reported: bool) -> None:
    story = Story("charge", at=TEN_TO_TEN)
    fold, row = story.fold()
    ran = worker("charge", running=story.message)
    fold.observe([ran], TEN_TO_TEN)
    # Its report lives on for a while; another one has taken the step over and parked it as it was.
    story.add(moves.dead_letter(story.message, story.at, reason="poison", error=RuntimeError("5 died"), worker="w-2"))
    fold.apply(story.journal[-1:])
    assert (row.running, row.runner) == (None, "")
    if reported:
        fold.observe([ran], TEN_TO_TEN + 1)
        assert (row.running, row.runner) == (None, "")
    fold.observe([], TEN_TO_TEN + 2)
    assert (row.state, row.lost, fold.stuck(row, TEN_TO_TEN + 60)) == (State.DEAD, "", "poison")
    assert sentence(fold, row, TEN_TO_TEN + 60) == "5 died (charge; w-2 parked it at 09:50)"


def set_aside(story: Story, body: bytes, activity: str = "a") -> Record:
    parked = moves.quarantine(
        body, code="decode_error", reason="no JSON", activity=activity, topic="t", at=story.at, worker="w-1"
    )
    return story.add(parked, follow=False)


def test_a_workflow_whose_message_was_quarantined_names_it_until_it_moves_again() -> None:
    story = Story("a", "b")
    body = story.journal[0].body
    assert body is not None
    aside = set_aside(story, body[:-2] + b"?}")
    fold, row = story.fold()
    fold.observe([worker("a", "b")], NOW)
    assert fold.stuck(row, NOW + 3600) == "quarantined"
    named = aside.headers.correlation_id
    assert sentence(fold, row, NOW) == f"its message for a was quarantined as {named} (decode_error: no JSON)"
    assert str(keys_line(why(fold, row, NOW))).endswith("; R replays it from the journal")
    story.operated(2)
    assert fold.apply(story.journal[-1:]) == {row.correlation_id}
    assert fold.stuck(row, NOW + 3600) is None


@pytest.mark.parametrize("shape", ["an older message", "of nobody", "no message at all", "a copy in another queue"])
def test_what_is_quarantined_beside_the_current_message_makes_nothing_stuck(shape: str) -> None:
    story = Story("a", "b")
    body = story.journal[0].body
    assert body is not None
    if shape == "an older message":
        story.done()
    elif shape == "of nobody":
        body = body.replace(story.message.correlation_id.encode(), b"nobody")
    elif shape == "no message at all":
        body = b"\xff"
    set_aside(story, body, "b" if shape == "a copy in another queue" else "a")
    fold = Fold()
    fold.apply(story.journal)
    fold.observe([worker("a", "b")], NOW)
    assert fold.stuck(fold.rows[story.message.correlation_id], NOW + 3600) is None


@pytest.mark.parametrize(
    ("detail", "worker_name", "until", "then", "said"),
    [
        ({"operator": "ann", "reason": "audit"}, "", 8 * 3600 + 600, "release",
         "held by ann until 18:00, then it goes on: audit"),
        ({"operator": "ann"}, "", 60, "dead_letter", "held by ann until 09:51, then it is dead-lettered"),
        ({"operator": "ann", "reason": "audit"}, "", None, "release", "held by ann since 09:50: audit"),
        ({"reason": "look"}, "w-1", None, "release", "held by its handler on w-1 since 09:50: look"),
        ({}, "", None, "release", "held since 09:50"),
    ],
)  # fmt: skip
def test_held_says_by_whom_and_until_when(
    detail: dict[str, Any], worker_name: str, until: float | None, then: Any, said: str
) -> None:
    story = Story("a", at=TEN_TO_TEN)
    story.add(moves.hold(story.message, TEN_TO_TEN, detail, worker_name, until, then))
    fold, row = story.fold()
    assert sentence(fold, row, TEN_TO_TEN + 5) == said


def test_what_is_parked_keeps_its_error_and_its_reason() -> None:
    story = Story("a")
    story.dies()
    found = why(*story.fold(), NOW)
    assert str(found.sentence) == "ValueError: dead (attempts exhausted)"
    assert found.style == "error"
    assert keys_line(found) == "r runs the step again; R replays with a mended payload"


def test_what_an_operator_parked_or_ended_says_by_whom_and_why() -> None:
    story = Story("a", at=TEN_TO_TEN)
    detail = {"operator": "ann", "action": "dead-letter", "why": "no provider"}
    story.add(moves.dead_letter(story.message, TEN_TO_TEN, reason="operator", detail=detail))
    fold, row = story.fold()
    assert sentence(fold, row, TEN_TO_TEN) == "parked by ann at 09:50: no provider"
    assert one_line(short(row, None, 80)) == "by ann: no provider"
    story = Story("a", at=TEN_TO_TEN)
    story.add(moves.cancel(story.message, TEN_TO_TEN, {"operator": "ann", "reason": "lost"}))
    fold, row = story.fold()
    assert fold.stuck(row, TEN_TO_TEN) is None, "that is their word, and not the broker's"
    assert sentence(fold, row, TEN_TO_TEN) == "cancelled by ann at 09:50: lost"
    story = Story("a", at=TEN_TO_TEN)
    story.fails()
    story.add(moves.dead_letter(story.message, TEN_TO_TEN, reason="operator", detail=detail))
    assert sentence(*story.fold(), TEN_TO_TEN) == "ValueError: no (by ann: no provider)"


def test_what_an_operator_had_undone_says_by_whom_and_why() -> None:
    story = Story("a", "b", at=TEN_TO_TEN)
    story.done()
    detail = {"operator": "ann", "action": "compensate", "reason": "customer asked"}
    story.add(moves.compensate(story.message, TEN_TO_TEN, detail))
    assert sentence(*story.fold(), TEN_TO_TEN) == "being undone by ann: customer asked"
    story.add(moves.undone(story.message, story.span(), had_compensator=True))
    fold, row = story.fold()
    assert sentence(fold, row, TEN_TO_TEN) == "undone by ann: customer asked"
    assert one_line(short(row, None, 80)) == "by ann: customer asked"
    assert [step.look.word for step in track_of(row, TEN_TO_TEN).steps] == ["undone", "to do"]
    story.operated(3, run=2)
    assert story.fold()[1].undone_for is None


def test_text_off_the_wire_is_made_safe() -> None:
    story = Story("a")
    story.add(moves.hold(story.message, NOW, {"operator": "\x1b[2Jann", "reason": "\x9b31m\u202e"}, "", None))
    text = sentence(*story.fold(), NOW)
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "\u202e" not in text
    fold, row = story.fold()
    found = explain(fold, row, NOW, ascii_only=True)
    assert found is not None
    assert found.sentence.isascii()


def test_a_stray_record_of_a_worker_teaches_nothing() -> None:
    fold = Fold()
    fold.learn([Record(Kind.WORKER, Headers(topic="t"), worker="w", detail={"activities": [1, None], "event": "lost"})])
    fold.apply([Record(Kind.WORKER, Headers(topic="t"), worker="w", detail={"activities": "a", "event": "lost"})])
    assert fold.signs == {}


def test_spans_are_said_in_steps_that_change_seldom() -> None:
    said = [str(spoken(seconds)) for seconds in (-3, 9, 10, 47, 60, 14 * 60 + 59, 3 * 3600, 47 * 3600, 50 * 3600)]
    assert said == ["a moment", "a moment", "10 s", "40 s", "1 min", "14 min", "3 h", "47 h", "2 days"]


def test_no_key_is_cut_off_at_eighty_columns() -> None:
    story = Story("charge", at=TEN_TO_TEN)
    story.add(withheld(story.message, TokenExpired("the provider answered 401"), story.span()))
    fold, row = story.fold()
    lines = WorkflowPage((), fold, row.correlation_id).reason(80, NOW, 3)
    texts = ["".join(text for text, _ in line) for line in lines]
    assert texts[1:] == [
        "  let its user sign in again; l takes the new token's file; d parks it among the",
        "  dead letters",
    ]
    assert len(WorkflowPage((), fold, row.correlation_id).reason(80, NOW, 2)) == 2, "on a low screen there is no room"
