"""A second person on the screen: asking for one, approving and rejecting; and a new token for a held workflow."""

from __future__ import annotations

import asyncio
from pathlib import Path

from paigeant_core import WorkflowDispatcher
from paigeant_core.errors import TokenExpired
from paigeant_core.operations import Operations, OperationStatus, Skip
from paigeant_core.operations.log import OperationState
from paigeant_core.permission import withheld
from paigeant_core.security.keys import SigningKey
from paigeant_core.transition import Span
from tests.console.appkit import Console, ask_for, console
from tests.console.story import Story
from tests.core.security.test_approval import BOB, policy
from tests.core.security.test_intervention import ANN, SHOP
from tests.core.tokens.kit import jwt


async def charged(story: Story, number: int = 2) -> list[str]:
    """Workflows that wait at charge, where nobody acts alone."""
    dispatcher = WorkflowDispatcher(story.transport(), signer=SHOP)
    steps = ["charge", "notify"]
    return [
        await dispatcher.dispatch_workflow(steps, {"amount": 5}, topic=story.topic, correlation_id=f"order-{index}")
        for index in range(number)
    ]


async def proposed(story: Story, by: SigningKey, *ids: str) -> OperationStatus:
    bus = Operations(story.transport(), story.topic, signer=by, trust=policy())
    return await bus.propose(await bus.plan(Skip(), list(ids), reason="paid by hand"))


async def status(opened: Console) -> OperationStatus:
    (found,) = (await asyncio.wrap_future(opened.app.feed.deeds.runs())).values()
    return found


async def test_one_asks_by_key_and_another_approves_by_key(tmp_path: Path) -> None:
    story = Story()
    await charged(story)
    async with console(story, tmp_path, size=(120, 30), signer=ANN, trust=policy()) as opened:
        await opened.press(" ", "j", " ")
        await ask_for(opened, "s", "paid by hand")
        assert "ask for skip of 2 workflows" in opened.text()
        assert "it takes a second person, order-" in opened.text()
        await opened.press("y")
        await opened.shows("skip: nothing is done yet; another operator approves it by a in view 5")
        await opened.press("5")
        await opened.shows("○ waiting")
        assert "A reject" in opened.lines()[-1]
        await opened.press("P")
        assert "it waits for a second person; a approves it, A rejects it" in opened.text()
        await opened.press("a")
        await opened.shows("is your own: it takes a second person")
        assert story.state("order-0") == "queued"
    async with console(story, tmp_path, size=(160, 30), signer=BOB, trust=policy()) as opened:
        await opened.press("5")
        await opened.shows("for a second person (a approves), because: paid by hand")
        await opened.press("a")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the question")
        assert "approve skip of 2 workflows" in opened.text()
        assert "asked by ann" in opened.text()
        waiting = await status(opened)
        command = f"paigeant-console operations approve {waiting.operation_id}"
        assert opened.screen.confirm_bar.confirmation.command == command
        await opened.press("n")
        await opened.shows("it still waits for a second person")
        assert (await status(opened)).state is OperationState.WAITING
        await opened.press("a")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the question")
        await opened.press("y")
        await opened.shows("skip: 2 done")
        await opened.shows("✓ finished")
        assert (await status(opened)).said == "proposed by ann, approved by bob"
        await opened.press("a")
        assert "approve: the operation is finished" in opened.text()
    assert story.last("order-0").headers.activity == "notify"


async def test_a_pace_that_an_approval_does_not_keep_is_said_before_it_is_asked_for(tmp_path: Path) -> None:
    story = Story()
    await charged(story, 1)
    async with console(story, tmp_path, size=(120, 30), signer=ANN, trust=policy()) as opened:
        await opened.press(":")
        await opened.type("skip rate=5")
        await ask_for(opened, "enter", "paid by hand")
        assert "pace    is not kept: whoever approves it" in opened.text()


async def test_production_wants_its_name_typed_for_an_approval_too(tmp_path: Path) -> None:
    story = Story()
    await proposed(story, ANN, *await charged(story, 1))
    async with console(
        story, tmp_path, size=(120, 30), context="prod", production=True, signer=BOB, trust=policy()
    ) as opened:
        await opened.press("5")
        await opened.shows("○ waiting")
        await opened.press("a")
        await opened.until(lambda: opened.screen.prompt.asking, "the name")
        assert "type prod or 1 to do it" in opened.text()
        await opened.type("y")
        await opened.press("enter")
        assert "that is not it, nothing is done yet" in opened.text()
        await opened.press("escape")
        await opened.shows("it still waits for a second person")
        assert story.last("order-0").headers.activity == "charge"


async def test_who_may_not_approve_can_read_it_all_and_reject_it_with_a_reason(tmp_path: Path) -> None:
    story = Story()
    asked = await proposed(story, ANN, *await charged(story))
    async with console(story, tmp_path, size=(120, 40), signer=BOB, trust=policy()) as opened:
        await opened.press("5")
        await opened.shows("○ waiting")
        await opened.press("enter")
        await opened.shows(f"operation {asked.operation_id}")
        assert "order-0  waits" in opened.text()
        await opened.press("A", "enter")
        assert "reject skip of 2 workflows, a reason is needed" in opened.text()
        await opened.type("not paid at all")
        await opened.press("enter")
        await opened.until(lambda: opened.screen.confirm_bar.waiting, "the question")
        assert "operations reject" in opened.screen.confirm_bar.confirmation.command
        await opened.press("y")
        await opened.shows("rejected; nothing of it was done")
        await opened.shows("rejected by bob: not paid at all")
    assert story.last("order-0").headers.activity == "charge"


async def test_what_waits_for_a_second_person_is_told_on_the_page_of_its_workflow(tmp_path: Path) -> None:
    story = Story()
    await proposed(story, ANN, *await charged(story, 1))
    async with console(story, tmp_path, size=(120, 30), signer=BOB, trust=policy()) as opened:
        await opened.press("enter")
        await opened.shows("  skip by ann (paid by hand) waits for a second person; a in view 5 approves it")


async def test_read_only_approves_nothing(tmp_path: Path) -> None:
    story = Story()
    await proposed(story, ANN, *await charged(story, 1))
    async with console(story, tmp_path, size=(120, 30), signer=BOB, trust=policy(), read_only=True) as opened:
        await opened.press("5")
        await opened.shows("○ waiting")
        await opened.press("a")
        assert "approve: this console is read-only" in opened.text()


async def held_by_its_token(story: Story) -> str:
    token = jwt(exp=story.clock.now() + 30)
    dispatcher = WorkflowDispatcher(story.transport())
    workflow = await dispatcher.dispatch_workflow(
        ["pay", "notify"], {}, topic=story.topic, obo_token=token, correlation_id="order-1"
    )
    story.wait(31)
    message = story.message(workflow)
    span = Span(worker="w1", started_at=story.clock.now(), completed_at=story.clock.now())
    story._settle(message, withheld(message, TokenExpired("its token is over"), span))
    return workflow


async def test_a_held_workflow_is_released_with_the_token_in_a_file(tmp_path: Path) -> None:
    story = Story()
    workflow = await held_by_its_token(story)
    renewed = jwt(exp=story.clock.now() + 600)
    file = tmp_path / "new.token"
    file.write_text(renewed + "\n")
    file.chmod(0o644)
    async with console(story, tmp_path, size=(120, 30)) as opened:
        await opened.press("l")
        await opened.type(renewed)
        await opened.press("enter")
        await opened.shows("write the name of a file, not the token")
        await opened.press("l")
        await opened.type(str(file))
        await opened.press("enter")
        await opened.shows("new.token: ")
        assert not opened.screen.prompt.asking, "others can read it"
        file.chmod(0o600)
        await opened.press("l")
        assert "file with its user's new token" in opened.text()
        await opened.press("enter")
        assert "a file is needed" in opened.text(), "the old token is kept by a word alone"
        await opened.type("same")
        await opened.press("enter")
        await opened.until(lambda: "because" in opened.text(), "the reason")
        await opened.press("escape", "l")
        await opened.type(str(file))
        await opened.press("enter")
        await opened.until(lambda: opened.screen.prompt.asking and "because" in opened.text(), "the reason")
        await opened.type("signed in again")
        await opened.press("enter")
        await opened.until(lambda: opened.screen.confirm_bar.confirmation is not None, "the question")
        asked = opened.screen.confirm_bar.confirmation
        assert f"release order-1 --token-file {file} --reason 'signed in again'" in asked.command
        assert "with its user's new token" in opened.text()
        assert renewed[:20] not in opened.text()
        await opened.press("y")
        await opened.shows("release: 1 done")
    assert story.state(workflow) == "queued"
    assert story.message(workflow).obo_token == renewed
