"""Filters by what signatures are worth: verified between two keys, once, and by the policy as it is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from paigeant_console.model import judging
from paigeant_console.model.bodies import BodyCache
from paigeant_console.model.judging import Judge
from paigeant_console.model.query import parse
from paigeant_console.model.trust import Finding, examine
from paigeant_console.model.workflow_list import WorkflowList
from paigeant_core import WorkflowDispatcher
from paigeant_core.security import trust
from paigeant_core.security.keys import SigningKey
from paigeant_core.security.trust import Trust
from tests.console.appkit import console
from tests.console.story import Story
from tests.console.story_rows import StoryRows
from tests.console.test_policy import REVOKED, SHOP, write

STRANGER = SigningKey.generate("shop")
GOOD = {"good-0", "good-1", "good-2"}


def dispatched(story: Story, workflow: str, signer: SigningKey | None) -> None:
    dispatcher = WorkflowDispatcher(story.transport(), signer=signer)
    story._do(dispatcher.dispatch_workflow(["charge", "notify"], topic=story.topic, correlation_id=workflow))


@pytest.fixture
def story() -> Story:
    made = Story()
    for workflow in sorted(GOOD):
        dispatched(made, workflow, SHOP)
    dispatched(made, "stranger", STRANGER)
    dispatched(made, "bare", None)
    return made


def listed(story: Story, folder: Path, bodies: BodyCache) -> tuple[WorkflowList, StoryRows, Trust]:
    rows, policy = StoryRows(story), Trust.load(write(folder))
    rows.read()
    made = WorkflowList(rows)
    made.judge = Judge(policy, bodies.get, rows.now)
    return made, rows, policy


def kept(story: Story, size: int = 1 << 20) -> BodyCache:
    bodies = BodyCache(size)
    with story.broker.topic(story.topic) as state:
        bodies.take(state.journal)
    return bodies


def selected(rows: WorkflowList, query: str) -> set[str]:
    rows.set_query(parse(query, "workflow"))
    while not rows.scan(0.0):
        pass
    return {rows.key(index) for index in range(len(rows))}


def test_a_filter_selects_by_what_signatures_are_worth(story: Story, tmp_path: Path) -> None:
    made, _, _ = listed(story, tmp_path, kept(story))
    assert selected(made, "trust:valid") == GOOD
    assert selected(made, "!trust:valid") == {"stranger", "bare"}
    assert selected(made, "trust:unknown_key") == {"stranger"}
    assert selected(made, "trust:unsigned OR id:good-1") == {"bare", "good-1"}
    assert made.undecided == 0


def test_of_what_was_quarantined_it_is_what_the_worker_found(story: Story, tmp_path: Path) -> None:
    aside = story.quarantine(b"\x00")
    made, _, _ = listed(story, tmp_path, kept(story))
    assert selected(made, "trust:malformed") == {aside}
    assert aside in selected(made, "!trust:valid")


def test_what_other_terms_decide_is_not_verified(story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[object] = []

    def counted(*case: Any) -> Finding:
        verified.append(case)
        return examine(*case)

    monkeypatch.setattr(judging, "examine", counted)
    made, _, _ = listed(story, tmp_path, kept(story))
    assert selected(made, "trust:valid id:good-1") == {"good-1"}
    assert selected(made, "trust:valid OR name:x OR id:good-1 !trust:revoked id:none") == GOOD
    assert len(verified) == 4, "each once, and only where it matters"


def test_what_is_not_kept_any_more_is_passed_over_either_way(story: Story, tmp_path: Path) -> None:
    bodies = kept(story)
    bodies.forget(["good-1"])
    made, _, _ = listed(story, tmp_path, bodies)
    assert selected(made, "trust:valid") == GOOD - {"good-1"}
    assert made.undecided == 1
    assert selected(made, "!trust:valid") == {"stranger", "bare"}
    assert made.undecided == 1
    assert selected(made, "trust:valid OR id:good-1") == GOOD, "here it does not matter"
    assert made.undecided == 0


def test_a_workflow_that_moved_stays_until_it_is_verified_anew(story: Story, tmp_path: Path) -> None:
    bodies = kept(story)
    made, rows, _ = listed(story, tmp_path, bodies)
    assert selected(made, "trust:valid") == GOOD
    story.done("good-1")  # by a worker that signed nothing
    with story.broker.topic(story.topic) as state:
        bodies.take(list(state.journal)[-1:])
    assert not made.absorb(rows.read())
    assert made.verifying == 1
    assert len(made) == 3
    assert made.scan()
    assert len(made) == 2
    assert selected(made, "!trust:valid") == {"stranger", "bare", "good-1"}


def test_however_many_there_are_a_key_is_not_kept_waiting(story: Story, tmp_path: Path) -> None:
    for number in range(300):
        dispatched(story, f"more-{number}", SHOP)
    made, _, _ = listed(story, tmp_path, kept(story))
    made.set_query(parse("trust:valid", "workflow"))
    longest, slices = 0.0, 0
    while True:
        started = time.thread_time()
        through = made.scan()
        longest, slices = max(longest, time.thread_time() - started), slices + 1
        if through:
            break
    assert len(made) == 303
    assert slices > 3
    assert longest < 0.05


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "RENEW_EVERY", 0.01)


@pytest.mark.usefixtures("often")
async def test_the_console_selects_by_it_and_asks_anew_when_the_policy_changes(story: Story, tmp_path: Path) -> None:
    policy = Trust.load(write(tmp_path))
    async with console(story, tmp_path, trust=policy) as opened:
        await opened.press("/", *"!trust:valid", "enter")
        await opened.shows("2 of 5")
        await opened.press("escape", "/", *"trust:valid", "enter")
        await opened.shows("3 of 5")
        write(tmp_path, REVOKED)
        await opened.shows("0 of 5")


async def test_a_console_that_verifies_nothing_refuses_to_select_by_it(story: Story, tmp_path: Path) -> None:
    async with console(story, tmp_path) as opened:
        await opened.press("/", *"!trust:valid")
        await opened.shows("signatures are not verified here")
