"""All that there is to know of one operation, or of one entry of the audit, as text that scrolls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from paigeant_console.model.confirmation import Target, action_words, command_line, command_said, pace_of
from paigeant_console.model.deeds import look_of
from paigeant_console.model.looks import ARROW, DONE, look
from paigeant_console.model.text import Span, plural, shown, wrap_words
from paigeant_console.model.times import countdown, moment, parsed, spoken
from paigeant_console.safe_text import SafeText, cells, joined, literal
from paigeant_core.errors import PaigeantError
from paigeant_core.limits import BULK_LIMIT
from paigeant_core.operations import OperationState, OperationStatus
from paigeant_core.operations.log import from_document

__all__ = ["Outcome", "audit_document", "audit_lines", "entry_command", "operation_command", "operation_lines"]

LABEL: Final = 12
TEXT: Final = 2000
"""Cells of the longest text; what is longer is cut."""
_NO_ARGUMENTS: Final = frozenset({"retry", "dead-letter", "hold", "skip", "cancel", "compensate", "restore", "erase"})
"""Verbs of which the audit keeps all that their command needs."""
_ORDERS: Final = frozenset({"pause", "resume", "abort", "approve", "reject"})

Outcome = Mapping[str, Any]
"""What an entry of the audit says of one workflow: its ID, before, after, outcome."""
Lines = list[Sequence[Span]]


def audit_document(entry: bytes) -> dict[str, Any]:
    """What an entry says; empty where it cannot be read: anybody may write into the broker."""
    try:
        document = msgspec.json.decode(entry)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _outcomes(document: Mapping[str, Any]) -> list[Outcome]:
    found = document.get("workflows")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


class _Page:
    """Lines with a label before each, as wide as the screen.

    Args:
        width: cells there are.
        ascii_only: write ASCII only.
    """

    def __init__(self, width: int, *, ascii_only: bool) -> None:
        self.lines: Lines = []
        self._room = max(20, width - LABEL - 3)
        self._ascii = ascii_only

    def text(self, value: object, limit: int = TEXT) -> SafeText:
        """Something off the wire."""
        return shown("" if value is None else str(value), limit, ascii_only=self._ascii)

    def command(self, line: str, target: Target) -> SafeText:
        """A command line, behind what it lacks."""
        return command_said(line, target, TEXT, ascii_only=self._ascii)

    def say(self, label: str, text: SafeText, style: str = "") -> None:
        """A fact, on as many lines as it needs; none where there is nothing to say."""
        for index, line in enumerate(wrap_words(text, self._room) if text else ()):
            word = literal(label if index == 0 else "")
            self.lines.append([(joined((literal("  "), cells(word, LABEL), literal(" "))), "dim"), (line, style)])

    def head(self, *spans: Span) -> None:
        """A heading, with an empty line before it."""
        if self.lines:
            self.lines.append([])
        self.lines.append(spans)

    def workflow(self, which: object, what: Outcome | None, *, waiting: str) -> None:
        """One workflow, and what it came to."""
        name = self.text(which, 130)
        if what is None:
            self.lines.append(
                [(literal("  "), ""), (name, "strong"), (literal(f"  {waiting}" if waiting else ""), "dim")]
            )
            return
        done = what.get("outcome") == "done"
        mark = DONE if done else look("dead")
        spans: list[Span] = [
            (joined((literal("  "), mark.mark(self._ascii), literal(" "))), mark.style),
            (name, "strong"),
            (joined((literal("  "), self.text(what.get("outcome"), 20))), mark.style),
        ]
        before, after = self.text(what.get("before"), 30), self.text(what.get("after"), 30)
        if before:
            spans.append((joined((literal("  it was "), before)), ""))
        if after:
            spans += [(ARROW[self._ascii], "dim"), (after, "")]
        self.lines.append(spans)


# -- operations -----------------------------------------------------------------------------


def operation_command(status: OperationStatus, target: Target) -> str:
    """The command line that asks for the same; of one that waits for a second person, the one that approves it."""
    if status.state is OperationState.WAITING:
        return command_line(target, ["operations", "approve", status.operation_id])
    try:
        action = from_document(status.action)
    except PaigeantError:
        return command_line(target, ["operations"])
    most = len(status.targets) if len(status.targets) > BULK_LIMIT else None
    words = action_words(action, status.targets, status.reason, status.pace, limit=most)
    if status.selection and action.name != "undo":
        given = action_words(action, [], status.reason, status.pace, limit=most)
        words = [given[0], "--where", status.selection, *given[1:]]
    return command_line(target, words)


def operation_lines(
    status: OperationStatus, entries: Iterable[bytes], target: Target, now: float, width: int, *, ascii_only: bool
) -> Lines:
    """An operation: who, when, what, why, how far, and what each workflow came to.

    Args:
        status: it.
        entries: the audit, where what came of each workflow is told.
        target: where.
        now: seconds since the Unix epoch.
        width: cells there are.
        ascii_only: write ASCII only.
    """
    page = _Page(width, ascii_only=ascii_only)
    here = look_of(status, now)
    name = page.text(status.action.get("name"), 30)
    page.head(
        (joined((literal("operation "), page.text(status.operation_id, 60))), "strong"),
        (literal("  "), ""),
        *here.spans(ascii_only),
    )
    page.say("who", page.text(status.operator), "strong")
    page.say("when", _when(status.at, now))
    page.say("what", name, "info")
    for label, text in _arguments(status.action, page):
        page.say(label, text)
    page.say("because", page.text(status.reason))
    page.say("selected by", page.text(status.selection))
    page.say("pace", pace_of(status.pace))
    if status.state is OperationState.ARMED:
        page.say("begins", countdown(status.begins_at - now))
    through, total = status.done + status.skipped + status.failed, len(status.targets)
    counts = [f"{through:,} of {total:,}", f"{status.done:,} done", f"{status.skipped:,} skipped"]
    counts += [f"{status.failed:,} failed"] + ([f"{status.again:,} failed again"] if status.again else [])
    counts += [f"of {status.open:,} it was not seen what became of them"] if status.open else []
    if through or status.state not in (OperationState.WAITING, OperationState.ARMED):
        page.say("came to", literal("; ".join((counts[0], ", ".join(counts[1:])))), "error" if status.failed else "")
    page.say("last word", page.text(status.said), "" if status.state is OperationState.FINISHED else "warn")
    page.say("same as", page.command(operation_command(status, target), target), "dim")
    results = _results(status.operation_id, entries)
    page.head((plural(total, "workflow"), "strong"))
    waiting = "" if results else "waits" if status.state is OperationState.WAITING else "the audit does not tell yet"
    for item in status.targets:
        page.workflow(item, results.get(item), waiting="not named in the audit" if results else waiting)
    return page.lines


def _arguments(action: Mapping[str, Any], page: _Page) -> list[tuple[str, SafeText]]:
    """What was given with an action, beside its name."""
    found = []
    for name, value in action.items():
        if name == "name" or value in (None, {}, [], False, ""):
            continue
        if name == "payload" and isinstance(value, dict):
            text = _decoded(value)
        else:
            text = value if isinstance(value, str) else _json(value)
        found.append((name.replace("_", " ")[:LABEL], page.text(text)))
    return found


def _decoded(value: Mapping[str, Any]) -> str:
    import base64
    import binascii

    try:
        return base64.b64decode(str(value.get("base64", "")), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return _json(value)


def _json(value: object) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        return str(value)


def _results(operation_id: str, entries: Iterable[bytes]) -> dict[str, Outcome]:
    """What the audit tells of each workflow of an operation."""
    found: dict[str, Outcome] = {}
    needle = operation_id.encode()
    for entry in entries:
        if needle not in entry:
            continue
        document = audit_document(entry)
        if document.get("operation_id") == operation_id:
            found |= {str(item.get("correlation_id")): item for item in _outcomes(document)}
    return found


# -- entries of the audit -------------------------------------------------------------------


def entry_command(document: Mapping[str, Any], target: Target, status: OperationStatus | None = None) -> str | None:
    """The command line that does the same as an entry tells; None: the audit does not keep enough of it.

    Args:
        document: the entry.
        target: where.
        status: its operation, which knows more, where there is one.
    """
    action, reason = str(document.get("action") or ""), str(document.get("reason") or "")
    operation_id = str(document.get("operation_id") or "")
    word, _, rest = action.partition(" ")
    if rest.startswith("activity ") and word in ("pause", "resume"):
        return command_line(target, ["activity", word, rest.partition(" ")[2], "--reason", reason])
    if rest and word in _ORDERS:
        why = ["--reason", reason] if word == "reject" else []
        return command_line(target, ["operations", word, operation_id, *why])
    if status is not None and status.state is not OperationState.WAITING:
        return operation_command(status, target)
    if action not in _NO_ARGUMENTS:
        return None
    selection, named = document.get("selection"), _outcomes(document)
    if isinstance(selection, str) and selection:
        return command_line(target, [action, "--where", selection, "--reason", reason])
    if not named or len(named) != document.get("targets"):
        return None
    return command_line(
        target, [action, "--reason", reason, "--", *(str(item.get("correlation_id")) for item in named)]
    )


def audit_lines(
    entry: bytes, status: OperationStatus | None, target: Target, now: float, width: int, *, ascii_only: bool
) -> Lines:
    """An entry of the audit: who, when, from where, what, why, and what each workflow came to.

    Args:
        entry: it.
        status: its operation, where that is known.
        target: where.
        now: seconds since the Unix epoch.
        width: cells there are.
        ascii_only: write ASCII only.
    """
    page = _Page(width, ascii_only=ascii_only)
    document = audit_document(entry)
    if not document:
        page.head((literal("an entry that cannot be read"), "error"))
        page.say("its bytes", page.text(entry.decode("utf-8", "backslashreplace")))
        return page.lines
    allowed = document.get("allowed") is not False
    refused: list[Span] = [] if allowed else [(literal("  "), ""), (literal("refused"), "error")]
    page.head((joined((literal("audit entry "), page.text(document.get("n"), 20))), "strong"), *refused)
    at = parsed(document.get("at"))
    page.say("who", page.text(document.get("operator")), "strong")
    page.say("when", page.text(document.get("at")) if at is None else _when(at, now))
    page.say("from", page.text(_words(document.get("from"))))
    page.say("what", page.text(document.get("action")), "info")
    if status is not None:
        for label, text in _arguments(status.action, page):
            page.say(label, text)
    page.say("because", page.text(document.get("reason")))
    page.say("selected by", page.text(document.get("selection")))
    page.say("workflows", page.text(document.get("targets")))
    page.say("came to", page.text(document.get("outcome")), "" if allowed else "error")
    page.say("before", page.text(_words(document.get("before"))))
    page.say("after", page.text(_words(document.get("after"))))
    page.say("operation", page.text(document.get("operation_id")))
    key, verify = page.text(document.get("key"), 100), literal("; `audit --verify` tells whether that counts")
    page.say(
        "signed", joined((literal("by key "), key, verify)) if key else literal("by nobody: who did it is a claim")
    )
    command = entry_command(document, target, status)
    gone = literal("the audit does not keep all that its command had")
    page.say("same as", page.command(command, target) if command else gone, "dim")
    if named := _outcomes(document):
        page.head((plural(len(named), "workflow"), "strong"))
        for item in named:
            page.workflow(item.get("correlation_id"), item, waiting="")
        total = document.get("targets")
        if isinstance(total, int) and total > len(named):
            page.lines.append([(literal(f"  and {total - len(named):,} more, which the audit does not name"), "dim")])
    return page.lines


def _when(at: float, now: float) -> SafeText:
    return joined((moment(at), literal(", "), spoken(now - at), literal(" ago")))


def _words(value: object) -> str:
    """What a field holds, in words: `dead 12, held 1`."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return "" if value is None else str(value)
