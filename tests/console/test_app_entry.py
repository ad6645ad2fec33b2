"""Enter in view 5: an operation, or an entry of the audit, in full."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from paigeant_console.model.confirmation import Target
from paigeant_console.model.deeds import operation_rows
from paigeant_console.model.entry_details import (
    audit_document,
    audit_lines,
    entry_command,
    operation_command,
    operation_lines,
)
from paigeant_console.screens.audit import AuditScreen
from paigeant_console.screens.entry import EntryScreen
from paigeant_console.screens.workflows import WorkflowsScreen
from paigeant_core.operations import DeadLetter, Hold, Operations, OperationState, OperationStatus, Retry
from paigeant_core.operations.log import to_document
from tests.console import story as told
from tests.console.appkit import Console, console, copied, writes
from tests.console.corpus import hostile_cases
from tests.console.story import Story, sample_story
from tests.console.story_rows import plain

HERE = Target("redis://broker/0", "workflows")


async def act(opened: Console, action: object, *ids: str) -> None:
    operations = Operations(opened.story.transport(), opened.story.topic, operator="ann@desk")
    await operations.execute(await operations.plan(action, list(ids), reason="the bank is down"))  # type: ignore[arg-type]


async def test_an_entry_of_the_audit_tells_everything(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(120, 40)) as opened:
        await act(opened, Hold(), told.QUEUED, told.DEAD)
        await opened.press("5")
        await opened.shows("the bank is down")
        await opened.press("enter")
        assert isinstance(opened.screen, EntryScreen)
        text = opened.text()
        for said in ("ann@desk", "2026-01-01 ", "because      the bank is down", "2 workflows", "by nobody"):
            assert said in text, said
        assert f"✓ {told.QUEUED}  done  it was queued → held" in text
        assert f"✗ {told.DEAD}  skipped  it was dead" in text
        assert "same as      paigeant-console hold --reason 'the bank is down' -- " in text
        written = writes(opened)
        await opened.press("Y")
        assert copied(written).startswith("paigeant-console hold --reason 'the bank is down' -- ")
        written.clear()
        await opened.press("y")
        assert audit_document(copied(written).encode())["operator"] == "ann@desk"
        await opened.press("a")
        assert "approve: this entry is of no operation that takes its time" in opened.text()
        await opened.press("q")
        assert isinstance(opened.screen, AuditScreen)
        await opened.press("q")
        assert opened.app.return_value == 0


def test_failed_again_is_no_last_word_where_some_were_not_seen_to_end() -> None:
    status = OperationStatus("0badc0de", "ann", to_document(Retry()), "so", state=OperationState.FINISHED, done=30)
    for again, unseen, figure in ((17, 13, " +17?"), (0, 30, " +?"), (17, 0, " +17")):
        status.again, status.open = again, unseen
        ((_, cells),) = operation_rows([status], 0.0)
        assert plain(cells[6]) == f"0{figure}"
        page = "\n".join(map(plain, operation_lines(status, [], HERE, 0.0, 120, ascii_only=False)))
        assert (f"of {unseen} it was not seen what became of them" in page) == bool(unseen)
        assert ("17 failed again" in page) == bool(again)


async def test_an_operation_is_told_as_it_goes_on_and_scrolls(tmp_path: Path) -> None:
    story = Story()
    ids = [story.start(f"order-{index:03d}", ("charge",), name="order") for index in range(60)]
    async with console(story, tmp_path, size=(80, 24)) as opened:
        operations = Operations(story.transport(), story.topic, operator="bo@desk")
        plan = await operations.plan(DeadLetter(), ids, reason="night shift", selection="name:order")
        running = await operations.start(plan)
        await opened.press("5")
        await opened.shows("▶ running")
        await opened.press("enter")
        await opened.shows("0 of 60; 0 done")
        assert "dead-letter --where name:order --reason 'night shift'" in " ".join(opened.text().split())
        assert "order-050" not in opened.text()
        assert " more lines below" in opened.text()
        await opened.press("G")
        assert "order-059" in opened.text()
        await opened.press("g", "P")
        await opened.shows("paused as soon as")
        await opened.shows("‖ paused")
        await opened.press("P")
        await opened.shows("▶ running")
        await running.go()
        await opened.shows("✓ finished")
        await opened.shows("✓ order-000  done  it was queued → dead")
        await opened.press("1")
        assert isinstance(opened.screen, WorkflowsScreen)
        assert (await asyncio.wrap_future(opened.app.feed.deeds.runs()))[plan.operation_id].done == 60


def test_the_equal_command_of_an_entry() -> None:
    def command(**fields: object) -> str | None:
        return entry_command({"reason": "so", "operation_id": "0badc0de", **fields}, HERE)

    named = [{"correlation_id": "-a"}, {"correlation_id": "b"}]
    at = "paigeant-console --url redis://broker/0 "
    assert command(action="retry", targets=2, workflows=named) == at + "retry --reason so -- -a b"
    assert command(action="retry", targets=900, workflows=named) is None, "the audit names a hundred"
    assert command(action="retry", targets=900, selection="state:dead") == at + "retry --where state:dead --reason so"
    assert command(action="replay", targets=2, workflows=named) is None, "with which payload, it does not say"
    assert command(action="abort retry") == at + "operations abort 0badc0de"
    assert command(action="reject retry") == at + "operations reject 0badc0de --reason so"
    assert command(action="pause activity charge card") == at + "activity pause 'charge card' --reason so"
    status = OperationStatus("0badc0de", "ann", to_document(Retry()), "so", targets=["b"])
    assert entry_command({"action": "replay", "operation_id": "0badc0de"}, HERE, status) == at + "retry b --reason so"
    assert operation_command(OperationStatus("1", action={"name": "of another version"}), HERE) == at + "operations"


def test_nothing_in_an_entry_can_hurt() -> None:
    for text in [case.text.encode("utf-8", "replace").decode() for case in hostile_cases()]:
        workflows = [{"correlation_id": text, "before": text, "after": {"x": text}, "outcome": 5}, text, None]
        fields = dict.fromkeys(("at", "operator", "action", "reason", "operation_id", "outcome", "selection"), text)
        documents: list[object] = [text, [text], {**fields, "n": text, "key": text, "workflows": text}]
        documents.append({**fields, "from": {text: text}, "before": {text: 1}, "after": text, "workflows": workflows})
        for entry in [msgspec.json.encode(item) for item in documents] + [text.encode(), b"{\xff"]:
            for line in audit_lines(entry, None, HERE, 0.0, 80, ascii_only=True):
                for part, _ in line:
                    assert part.isprintable(), (entry, part)
