"""The one table of what keys do. Bindings, hints, help and `:` commands are all made from it.

A key that cannot be used now stays where it is, dimmed, and says why when it is pressed:
hands learn places, and a key that vanishes teaches nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from paigeant_console.safe_text import SafeText, joined, literal

__all__ = [
    "ACTIONS",
    "VIEWS",
    "Action",
    "Situation",
    "by_id",
    "commands",
    "help_of",
    "hints",
    "key_of",
    "key_text",
    "keys_of",
    "of_view",
    "refusal",
    "use_keys",
]

LISTS: Final = frozenset({"workflows", "dead"})
"""Views whose rows are workflows."""
WORKFLOWS: Final = LISTS | {"workflow"}
"""Views in which there is a workflow to act on."""
TABLES: Final = frozenset({"workflows", "older", "workflow", "traffic", "queues", "dead", "audit"})
"""Views with rows."""
EVERY: Final = TABLES | {"entry"}
TELLING: Final = EVERY - {"queues"}
"""Views that have something to copy."""
FORMS: Final = frozenset({"prompt", "confirm", "replay", "payload"})
"""What takes the keys while it is open."""

VIEWS: Final[dict[str, SafeText]] = {
    "workflows": literal("workflows"),
    "traffic": literal("traffic"),
    "queues": literal("queues"),
    "dead": literal("dead letters"),
    "audit": literal("audit"),
}
"""The views with a number, in order, and their titles."""


@dataclass(frozen=True, slots=True)
class Action:
    """What a key does.

    Attributes:
        id: its name, as a keymap would know it.
        keys: Textual's names for its keys.
        label: one or two words, for the hints.
        help: a sentence; ``{copy}`` in it stands for the key of that action. See :func:`help_of`.
        where: views and forms in which it does something.
        command: words that do the same after `:`; the first is the one that is shown.
        writes: it changes something on the broker.
        needs_row: it acts on a row, so there must be one.
        hint: rank among the hints at the foot, from 1; 0: not among them, but in a form; -1: not even there.
        owner: who has the binding: the app, or a widget that is focused.
    """

    id: str
    keys: tuple[str, ...]
    label: SafeText
    help: SafeText
    where: frozenset[str] = EVERY
    command: tuple[str, ...] = ()
    writes: bool = False
    needs_row: bool = False
    hint: int = 0
    owner: str = "app"


def _action(
    id: str,
    keys: str,
    label: str,
    help: str,
    *,
    where: Iterable[str] = EVERY,
    command: str = "",
    writes: bool = False,
    needs_row: bool = False,
    hint: int = 0,
    owner: str = "app",
) -> Action:
    return Action(
        id,
        tuple(keys.split()),
        literal(label),
        literal(help),
        frozenset(where),
        tuple(command.split()),
        writes,
        needs_row,
        hint,
        owner,
    )


ACTIONS: Final[Sequence[Action]] = (
    # Where to look.
    _action("view.workflows", "1", "workflows", "Show all workflows.", command="workflows wf"),
    _action("view.traffic", "2", "traffic", "Show the journal as it is written.", command="traffic tail"),
    _action("view.queues", "3", "queues", "Show queues and workers.", command="queues workers"),
    _action("view.dead", "4", "dead letters", "Show what is dead, held or quarantined.", command="dead parked"),
    _action(
        "view.audit", "5", "audit", "Show operations in progress and past, and who did what, and why.",
        command="audit operations",
    ),
    _action(
        "table.open", "enter", "open", "Open what is under the cursor: workflow, operation, or entry of the audit.",
        where=("workflows", "older", "dead", "traffic", "audit"), needs_row=True, hint=1, owner="table",
    ),
    _action("open", "", "open", "Open the workflow whose ID begins so: `open 3f2`.", command="open"),
    _action(
        "filter", "slash", "filter", "Show only what a query selects: state:dead step:charge age:>10m",
        where=("workflows", "dead", "traffic"), command="filter", hint=2,
    ),
    _action(
        "older", "H", "older", "Look for older workflows in the history of this machine: of the filter, else all.",
        where=("workflows",), command="older", hint=14,
    ),
    _action(
        "order", "o", "order", "Order by creation, last change, urgency, name, activity or attempts.", where=LISTS,
        command="order sort", hint=13,
    ),
    _action(
        "order.backwards", "O", "turn round", "Turn the order round.", where=LISTS, command="order-backwards",
    ),
    _action(
        "wide", "W", "wide", "Show all columns, of which some may be out of sight, or those that fit.", where=TABLES,
        command="wide",
    ),
    _action(
        "wide.left", "less_than_sign", "left", "Move wide rows to the columns on the left.", where=TABLES,
    ),
    _action(
        "wide.right", "greater_than_sign", "right", "Move wide rows to the columns on the right.", where=TABLES,
    ),
    _action(
        "times", "t", "times", "Tell times by the clock, or how long ago they were.", where=LISTS, command="times",
    ),
    _action(
        "group", "b", "group by", "Group by state, by activity, by cause of failure, or not at all.", where=LISTS,
        command="group", hint=12,
    ),
    _action(
        "panes", "tab shift+tab", "pane", "Go to the next part of the screen.",
        where=("workflow", "queues", "audit"), hint=3,
    ),
    _action(
        "hop.earlier", "left left_square_bracket", "hop before",
        "Go back through the hops, slip and payload as they were.",
        where=("workflow",), hint=14,
    ),
    _action(
        "hop.later", "right right_square_bracket", "next hop", "Go forth through the hops, up to where it stands now.",
        where=("workflow",), hint=15,
    ),
    _action(
        "form", "v", "view", "Show the payload laid out, as what changed since the hop before, raw, or in hex.",
        where=("workflow",), command="view", hint=4,
    ),
    _action(
        "compare", "c", "compare", "Tell what changed since the hop under the cursor; again: since the one before.",
        where=("workflow",), command="compare", hint=16,
    ),
    _action("pause", "p", "pause", "Freeze this view, or let it go on; nothing is missed.", command="pause", hint=9),
    # What to act on.
    _action(
        "table.mark", "space", "mark", "Mark the row, or unmark it. What you do is done to all marked rows.",
        where=LISTS, needs_row=True, hint=4, owner="table",
    ),
    _action(
        "table.mark_range", "ctrl+@ ctrl+space", "mark to here", "Mark all rows from the one marked last to here.",
        where=LISTS, needs_row=True, owner="table",
    ),
    _action("unmark", "u", "unmark", "Unmark all rows.", where=LISTS, command="unmark"),
    # Acting.
    _action(
        "retry", "r", "retry", "Run the step where the workflow stands again, with attempts starting anew.",
        where=WORKFLOWS, command="retry", writes=True, needs_row=True, hint=5,
    ),
    _action(
        "replay", "R", "replay", "Do the work again from a step, with its payload as it was or mended.",
        where=WORKFLOWS, command="replay", writes=True, needs_row=True, hint=6,
    ),
    _action(
        "dead-letter", "d", "dead-letter", "Take the workflow out of the way: park it among the dead letters.",
        where=WORKFLOWS, command="dead-letter", writes=True, needs_row=True, hint=7,
    ),
    _action(
        "hold", "h", "hold", "Park the workflow until it is released; a step that runs is finished first.",
        where=WORKFLOWS, command="hold", writes=True, needs_row=True, hint=17,
    ),
    _action(
        "release", "l", "release", "Let a held workflow go on; `release approved=true` puts that into the payload.",
        where=WORKFLOWS, command="release", writes=True, needs_row=True, hint=18,
    ),
    _action(
        "skip", "s", "skip", "Leave out the step where the workflow stands; nobody does it.",
        where=WORKFLOWS, command="skip", writes=True, needs_row=True, hint=19,
    ),
    _action(
        "cancel", "x", "cancel", "End the workflow; a step that runs is finished first, and nothing is undone.",
        where=WORKFLOWS, command="cancel", writes=True, needs_row=True, hint=20,
    ),
    _action(
        "compensate", "", "compensate", "Undo the steps that were done, last first, and end the workflow so.",
        where=WORKFLOWS, command="compensate", writes=True, needs_row=True,
    ),
    _action(
        "restore", "", "restore", "Bring the workflow out of the dead letters or quarantine to where it was.",
        where=WORKFLOWS, command="restore", writes=True, needs_row=True,
    ),
    _action(
        "insert", "", "insert", "Put steps behind the one where the workflow stands: `insert check notify`.",
        where=WORKFLOWS, command="insert", writes=True, needs_row=True,
    ),
    _action(
        "dispatch", "", "dispatch", "Start a workflow: `dispatch validate charge customer_email=ann@example.com`.",
        command="dispatch", writes=True,
    ),
    _action(
        "undo", "U", "undo",
        "Undo the hold, cancel or dead-letter done last; in view {view.audit} for all it was done to.",
        where=WORKFLOWS | {"audit", "entry"}, command="undo", writes=True, needs_row=True, hint=21,
    ),
    _action(
        "operation.pause", "P", "pause/go on",
        "Pause the operation, or the activity for all its workers; again: let it go on, here if need be.",
        where=("audit", "entry", "queues"), command="operation-pause activity-pause", writes=True, needs_row=True,
        hint=4,
    ),
    _action(
        "activity", "", "activity", "Pause an activity for all its workers, or let it go on: `activity resume charge`.",
        where=WORKFLOWS | {"queues", "audit", "entry"}, command="activity", writes=True,
    ),
    _action(
        "operation.approve", "a", "approve", "Carry out what another operator asked for, as second person; both sign.",
        where=("audit", "entry"), command="operation-approve", writes=True, needs_row=True, hint=6,
    ),
    _action(
        "operation.abort", "A", "abort",
        "End the operation: what was done stays, the rest is left alone; or reject it.",
        where=("audit", "entry"), command="operation-abort operation-reject", writes=True, needs_row=True, hint=5,
    ),
    # Taking things along.
    _action(
        "copy", "y", "copy", "Copy the ID (or the payload, where it has the focus) by asking the terminal to.",
        where=TELLING, command="copy", needs_row=True, hint=10,
    ),
    _action(
        "copy-command", "Y", "copy command", "Copy the command line that shows or does the same.",
        where=EVERY | {"confirm"}, command="copy-command", hint=12,
    ),
    _action(
        "write", "w", "write", "Write what {copy} copies to a file that only you can read.",
        where=TELLING | {"confirm"}, command="write", needs_row=True, hint=11,
    ),
    # Leaving.
    _action("command", "colon", "command", "Type a command; {prompt.complete} completes it, and its words.", hint=8),
    _action("palette", "ctrl+p", "palette", "Find any action by a part of its name, and do it."),
    _action(
        "context", "", "context", "Go to another context of config.toml: `ctx prod`; alone it lists them.",
        command="ctx context",
    ),
    _action(
        "theme", "", "theme", "Draw in ansi (the terminal's own colours), dark, light or high-contrast.",
        command="theme",
    ),
    _action("help", "question_mark f1", "help", "Explain every key of this view.", command="help", hint=1),
    _action("view.last", "minus", "last view", "Go to the view that was shown before.", command="last"),
    _action("back", "q", "back", "Go back; in a view itself: quit.", where=EVERY | {"help"}, command="back"),
    _action(
        "escape", "escape", "clear", "Clear the filter or the message; else go back, but never quit.",
        where=EVERY | {"help"},
    ),
    _action("interrupt", "ctrl+c", "quit", "Twice: quit.", where=EVERY | {"help"}),
    _action("quit", "ctrl+q", "quit", "Quit.", where=EVERY | {"help"}, command="quit q exit"),
    _action("suspend", "ctrl+z", "suspend", "Put the console into the background; `fg` brings it back."),
    _action("redraw", "ctrl+l", "redraw", "Paint the screen anew.", where=EVERY | {"help"}, command="redraw"),
    # Moving; the tables' own.
    _action("table.down", "down j", "down", "Next row.", where=TABLES | {"help"}, owner="table"),
    _action("table.up", "up k", "up", "Row before.", where=TABLES | {"help"}, owner="table"),
    _action("table.page_down", "pagedown ctrl+d", "page down", "Next page.", where=TABLES | {"help"}, owner="table"),
    _action("table.page_up", "pageup ctrl+u", "page up", "Page before.", where=TABLES | {"help"}, owner="table"),
    _action("table.first", "home g", "first", "First row.", where=TABLES | {"help"}, owner="table"),
    _action(
        "table.last", "G end shift+g", "last", "Last row; in the traffic, follow it again.", where=TABLES | {"help"},
        owner="table",
    ),
    # While something is asked.
    _action("prompt.done", "enter", "go on", "Take what was typed.", where=("prompt",), owner="prompt"),
    _action("prompt.cancel", "escape", "cancel", "Take it back.", where=("prompt",), owner="prompt"),
    _action("prompt.complete", "tab", "complete", "Complete the word.", where=("prompt",), owner="prompt", hint=-1),
    _action(
        "prompt.up", "up", "up", "Up in the list, or what was typed before.", where=("prompt",), owner="prompt",
        hint=-1,
    ),
    _action(
        "prompt.down", "down", "down", "Down in the list, or what was typed after that.", where=("prompt",),
        owner="prompt", hint=-1,
    ),
    _action("confirm.yes", "y", "yes", "Do it.", where=("confirm",), writes=True, needs_row=True, owner="confirm"),
    _action("confirm.no", "n enter escape q", "no", "Leave everything as it is.", where=("confirm",), owner="confirm"),
    _action(
        "confirm.down", "down j", "targets", "See the targets below.", where=("confirm",), owner="confirm", hint=-1,
    ),
    _action("confirm.up", "up k", "targets", "See the targets above.", where=("confirm",), owner="confirm", hint=-1),
    _action("replay.earlier", "left h", "earlier", "Replay from the step before.", where=("replay",), owner="replay"),
    _action("replay.later", "right l", "later", "Replay from the next step.", where=("replay",), owner="replay"),
    _action("replay.payload", "p", "payload", "Edit the payload here.", where=("replay",), owner="replay"),
    _action("replay.editor", "e", "editor", "Edit the payload in $EDITOR.", where=("replay",), owner="replay"),
    _action("replay.done", "enter", "go on", "Go on to the reason.", where=("replay",), owner="replay"),
    _action("replay.cancel", "escape q", "cancel", "Leave everything as it is.", where=("replay",), owner="replay"),
    _action("payload.done", "ctrl+s", "use it", "Use this payload.", where=("payload",), owner="payload"),
    _action("payload.cancel", "escape", "discard", "Forget the changes.", where=("payload",), owner="payload"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Situation:
    """Where the operator is, as far as it decides what keys can do.

    Attributes:
        view: the screen's name.
        read_only: operations are refused.
        has_row: there is something under the cursor or marked.
        paused: the view is frozen.
        marked: how many rows are marked.
        operation: how the operation, or the queue, under the cursor stands; None: there is none.
        past: what is shown is of the history, and may be known to nobody else any more.
    """

    view: str
    read_only: bool = False
    has_row: bool = True
    paused: bool = False
    marked: int = 0
    operation: str | None = None
    past: bool = False


def by_id(id: str) -> Action:
    """The action of that name.

    Raises:
        KeyError: there is none.
    """
    return _BY_ID[id]


_BY_ID: Final = {action.id: action for action in ACTIONS}
_CHANGED: Final[dict[str, tuple[str, ...]]] = {}
_OTHER_KEY: Final = re.compile(r"\{([a-z._-]+)\}")
"""The key of another action, in a help text."""


def use_keys(changed: Mapping[str, Sequence[str]]) -> None:
    """Have the user's own keys in place of the table's, from now on and in the whole process.

    Args:
        changed: Textual's names of keys by the IDs of actions; see :func:`paigeant_console.keymap.read_keys`.
    """
    _CHANGED.clear()
    _CHANGED.update({name: tuple(keys) for name, keys in changed.items()})


def keys_of(action: Action) -> tuple[str, ...]:
    """The keys that an action has now."""
    return _CHANGED.get(action.id, action.keys)


def key_of(id: str) -> SafeText:
    """The first key of an action, as it is written on keyboards."""
    return key_text(keys_of(_BY_ID[id])[0])


def help_of(action: Action) -> SafeText:
    """The sentence that explains an action, with the keys that others have now."""
    return literal(_OTHER_KEY.sub(lambda found: key_of(found[1]), action.help))


def of_view(view: str) -> list[Action]:
    """The actions of a view or form, in the table's order."""
    return [action for action in ACTIONS if view in action.where and action.keys]


def refusal(action: Action, situation: Situation) -> SafeText | None:
    """Why an action cannot be done now; None: it can."""
    if action.writes and situation.past:
        return literal(f"{action.label}: this is of the history; :open asks the broker for it")
    if action.writes and situation.read_only and situation.view not in FORMS:
        return literal(f"{action.label}: this console is read-only")
    if situation.view not in action.where:
        titles = [f"{key_of(f'view.{view}')} {title}" for view, title in VIEWS.items() if view in action.where]
        titles += ["a workflow's page"] if "workflow" in action.where else []
        but = f" (but in: {', '.join(titles)})" if titles else ""
        return literal(f"{action.label}: not in this view{but}")
    if action.writes and situation.read_only:
        return literal(f"{action.label}: this console is read-only")
    if action.needs_row and not situation.has_row:
        if situation.view == "confirm":
            return literal(f"{action.label}: nothing can be done here")
        return literal(f"{action.label}: there is no row under the cursor")
    if action.id.startswith("operation."):
        if situation.operation is None:
            if situation.view == "entry":
                return literal(f"{action.label}: this entry is of no operation that takes its time")
            what = "queue" if situation.view == "queues" else "operation"
            return literal(f"{action.label}: there is no {what} under the cursor; {key_of('panes')} goes to them")
        if situation.operation in ("finished", "aborted"):
            return literal(f"{action.label}: the operation is {situation.operation}")
        if situation.operation == "waiting" and action.id == "operation.pause":
            approve, reject = key_of("operation.approve"), key_of("operation.abort")
            return literal(f"{action.label}: it waits for a second person; {approve} approves it, {reject} rejects it")
        if situation.operation != "waiting" and action.id == "operation.approve":
            return literal(f"{action.label}: the operation is {situation.operation}, and waits for nobody")
    return None


def hints(situation: Situation) -> list[tuple[SafeText, SafeText, bool]]:
    """Key, label and whether it can be used, for the foot of a view, most useful first."""
    least = 0 if situation.view in FORMS else 1
    wanted = [action for action in of_view(situation.view) if action.hint >= least]
    found = []
    for action in sorted(wanted, key=lambda action: action.hint):
        label = literal("go on") if action.id == "pause" and situation.paused else action.label
        if action.id == "operation.abort" and situation.operation == "waiting":
            label = literal("reject")
        found.append((key_text(keys_of(action)[0]), label, refusal(action, situation) is None))
    return found


def commands() -> dict[str, Action]:
    """Every word that can follow `:`."""
    return {word: action for action in ACTIONS for word in action.command}


_FUNCTION: Final = re.compile(r"f[0-9]{1,2}")
_KEY_TEXTS: Final = {
    "minus": "-",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "plus": "+",
    "at": "@",
    "underscore": "_",
    "backslash": "\\",
    "question_mark": "?",
    "slash": "/",
    "colon": ":",
    "enter": "Enter",
    "escape": "Esc",
    "space": "Space",
    "tab": "Tab",
    "shift+tab": "Shift+Tab",
    "pagedown": "PgDn",
    "pageup": "PgUp",
    "home": "Home",
    "end": "End",
    "up": "Up",
    "down": "Down",
    "left": "Left",
    "right": "Right",
    "shift+g": "",
    "ctrl+@": "",
    "f1": "F1",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
}


def key_text(key: str) -> SafeText:
    """A key as it is written on keyboards; empty for a second name of the same key."""
    if key in _KEY_TEXTS:
        return literal(_KEY_TEXTS[key])
    if len(key) > 1 and not key.startswith("ctrl+"):
        with suppress(KeyError):
            return literal(unicodedata.lookup(key.replace("_", " ")))
    return literal(key.replace("ctrl+", "^").upper() if key.startswith("ctrl+") or _FUNCTION.fullmatch(key) else key)


def keys_text(action: Action) -> SafeText:
    """All keys of an action: ``j Down``."""
    return joined([text for text in map(key_text, keys_of(action)) if text], literal(" "))
