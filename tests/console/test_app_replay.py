"""Replays from the screen: what is edited, from which step, and in which editor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.console import story as told
from tests.console.appkit import Console, ask_for, console, copied, writes
from tests.console.story import Story, sample_story


def payload_of(command: str) -> Any:
    """What stands in the file that a command reads its payload from."""
    return json.loads(Path(command.partition("--payload ")[2].partition(" --reason")[0]).read_bytes())


async def open_form(opened: Console, *keys: str) -> None:
    """Press ``keys``, then the key of a replay, and wait for its form."""
    await opened.press(*keys, "R")
    await opened.until(lambda: opened.screen.replay_form.asking == "replay", "the form")


async def open_dead(opened: Console) -> None:
    """Open the last of the dead letters."""
    await opened.press("4", "G", "enter")
    await opened.until(lambda: bool(opened.screen.page.names()), "the history")


async def test_a_pace_behind_the_command_goes_through_the_form(tmp_path: Path) -> None:
    async with console(sample_story(), tmp_path, size=(120, 30)) as opened:
        opened.screen.table.move_to_key(told.DEAD)
        await opened.press(":")
        await opened.type("replay delay=300")
        await opened.press("enter")
        await opened.until(lambda: opened.screen.replay_form.asking == "replay", "the form")
        await ask_for(opened, "enter", "at night")
        assert "--delay 300s" in opened.screen.confirm_bar.confirmation.command
        await opened.press("n")
        await opened.press(":")
        await opened.type("replay nonsense")
        await opened.press("enter")
        assert "replay: only ramp, rate=N (a second)" in opened.text()
        assert not opened.screen.replay_form.asking


async def test_replay_with_an_edited_payload(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await open_dead(opened)
        await open_form(opened)
        assert "‹ 3 process-payment ›" in opened.text()
        assert "(where it stands)" in opened.text()
        await opened.press("left", "right", "p")
        await opened.until(lambda: opened.screen.replay_form.asking == "payload", "the editor")
        editor = opened.screen.replay_form.editor
        assert '"expires": "2024-01"' in editor.text
        editor.text = editor.text.replace('"2024-01"', '"2029-08",')
        await opened.pilot.pause()
        assert "Expecting property name" in opened.text() or "line 13" in opened.text()
        await opened.press("ctrl+s")
        assert opened.screen.replay_form.asking == "payload", "what is no JSON is not taken"
        assert editor.cursor_location[0] in (11, 12, 13)
        editor.text = editor.text.replace('"2029-08",', '"2029-08"')
        await opened.pilot.pause()
        assert "a JSON object of" in opened.text()
        await opened.press("ctrl+s")
        assert "with the payload you edited" in opened.text()
        await opened.press("left")
        assert "the payload is edited for this step" in opened.text()
        await ask_for(opened, "enter", "new card")
        assert "with the payload you edited" in opened.text()
        assert "--payload payload.json" in opened.screen.confirm_bar.confirmation.command
        assert 'changes ~ card.expires: "2024-01" → "2029-08"' in opened.text()
        written = writes(opened)
        await opened.press("Y")
        assert payload_of(copied(written))["card"]["expires"] == "2029-08", "the command has its file"
        await opened.press("y")
        await opened.until(lambda: story.state(told.DEAD) == "queued", "the deed")
        message = story.message(told.DEAD)
        assert message.payload["card"] == {"number": "4000 0000 0000 0069", "expires": "2029-08"}
        assert (message.headers.run, message.headers.hop) == (2, 3)
        await opened.shows("replay: 1 done")


@pytest.mark.parametrize("key", ["p", "e"])
async def test_an_edited_payload_that_breaks_the_activitys_model_is_not_taken(tmp_path: Path, key: str) -> None:
    story = sample_story()
    card = b'{"properties":{"card":{"properties":{"expires":{"maxLength":7}}}}}'
    story._do(story.transport().announce(story.topic, {"process-payment": card}))
    records = story.records()
    async with console(story, tmp_path) as opened:
        await open_dead(opened)
        form = opened.screen.replay_form
        form._edit = lambda text: text.replace("2024-01", "August 2029")
        await open_form(opened)
        await opened.press(key)
        if key == "p":
            await opened.until(lambda: form.asking == "payload", "the editor")
            form.editor.text = form.editor.text.replace("2024-01", "August 2029")
            await opened.press("ctrl+s")
        assert "with the payload you edited" in opened.text()
        await ask_for(opened, "enter", "new card")
        assert opened.screen.confirm_bar.confirmation.eligible == 0
        assert "payload.card.expires must have a length of at most 7, by the payload model of" in opened.text()
        await opened.press("y", "escape")
        await opened.shows("replay: nothing was done")
        assert story.records() == records


async def test_replay_of_what_was_undone_names_its_step(tmp_path: Path) -> None:
    story = sample_story()
    workflow = story.start("undone-1", ["charge", "ship"], on_failure="compensate")
    story.done(workflow)
    story.fails(workflow, ValueError("no stock"))
    story.undone(workflow)
    async with console(story, tmp_path, size=(200, 30)) as opened:
        opened.screen.table.move_to_key(workflow)
        await open_form(opened)
        assert "‹ 2 ship ›" in opened.text()
        assert "(where it stands)" not in opened.text()
        await ask_for(opened, "enter", "stock came")
        assert "--from-step 2" in opened.screen.confirm_bar.confirmation.command
        assert "steps before it were undone, and are not done again: charge" in opened.text()
        await opened.press("y")
        await opened.until(lambda: story.state(workflow) == "queued", "the deed")
        assert story.message(workflow).headers.hop == 2


async def test_replay_from_an_earlier_step(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await open_form(opened, "G")
        assert "‹ 4 send-welcome-email ›" in opened.text(), "it is completed, so a step has to be named"
        await opened.press("h", "h", "l", "h")
        await ask_for(opened, "enter", "again")
        assert "--from-step 2" in opened.screen.confirm_bar.confirmation.command
        await opened.press("y")
        await opened.until(lambda: story.state(told.DONE) == "queued", "the deed")
        assert story.message(told.DONE).headers.hop == 2


async def test_replay_of_several_asks_for_no_step(tmp_path: Path) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        await opened.press(" ", "j", " ")
        await ask_for(opened, "R", "both again")
        assert "replay 2 workflows" in opened.text()
        await opened.press("y")
        await opened.until(lambda: story.message(told.QUEUED).headers.run == 2, "the deed")
        assert story.message(told.ALSO_RUNNING).headers.run == 2
        await opened.until(lambda: not opened.screen.table.marks, "the marks go")


async def test_a_replay_can_be_left_at_every_turn(tmp_path: Path) -> None:
    story = sample_story()
    records = story.records()
    async with console(story, tmp_path) as opened:
        await open_form(opened)
        await opened.press("1", "x")
        assert opened.screen.replay_form.asking == "replay", "no key gets through"
        await opened.press("p")
        await opened.type("x")
        await opened.press("escape")
        assert opened.screen.replay_form.asking == "replay"
        assert "with its payload as it was" in opened.text()
        await opened.press("p", "ctrl+s")
        assert "nothing was changed" in opened.text()
        await opened.press("escape")
        assert "nothing was done" in opened.text()
        await opened.press("j")
        assert opened.screen.table.cursor_index == 1
        assert story.records() == records


@pytest.mark.parametrize("edited", ["good", "bad", None])
async def test_a_payload_in_the_editor(tmp_path: Path, edited: str | None) -> None:
    story = sample_story()
    async with console(story, tmp_path) as opened:
        given: list[str] = []

        def edit(text: str) -> str | None:
            given.append(text)
            return {"good": text.replace("A-1011", "A-2022"), "bad": text + "}"}.get(edited or "")

        opened.screen.replay_form._edit = edit
        await open_form(opened)
        await opened.press("e")
        assert json.loads(given[0])["order_id"] == "A-1011"
        if edited == "good":
            assert "with the payload you edited" in opened.text()
        elif edited == "bad":
            assert opened.screen.replay_form.asking == "payload", "it is shown, with the place of the error"
            assert "Extra data" in opened.text()
        else:
            assert "$EDITOR gave nothing back" in opened.text()


async def test_the_editor_gets_the_terminal_and_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "editor.sh"
    script.write_text('#!/bin/sh\nstat -c %a "$1" "$(dirname "$1")" > "$OUT"\nsed -i s/one/two/ "$1"\n')
    script.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(script))
    monkeypatch.setenv("OUT", str(tmp_path / "modes"))
    async with console(Story(), tmp_path) as opened:
        driver: Any = opened.app._driver
        type(driver).can_suspend = property(lambda self: True)
        try:
            assert opened.app.edit_text('{"a": "one"}') == '{"a": "two"}'
        finally:
            del type(driver).can_suspend
        assert (tmp_path / "modes").read_text().split()[1] == "700"
        monkeypatch.setenv("VISUAL", "/nowhere/editor")
        assert opened.app.edit_text("x") is None
