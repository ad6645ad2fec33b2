"""What becomes of an operation, kept on the broker: any console sees it, and can go on with it.

Entries are only ever added. An operation is what they say together: who started it with
which workflows, how far it came, who paused or aborted it, and how it ended.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

import msgspec

from paigeant_core.clock import parse_rfc3339, rfc3339
from paigeant_core.errors import ConfigError, InvalidMessage, PaigeantError
from paigeant_core.operations.action import Action
from paigeant_core.operations.again import Replay, Retry
from paigeant_core.operations.aside import Cancel, DeadLetter, Hold, Release, Restore, Undo
from paigeant_core.operations.plan import Plan
from paigeant_core.operations.slip import Compensate, Insert, Skip
from paigeant_core.routing import Step, to_step

HEARTBEAT = 2.0
"""Seconds between two entries of whoever carries an operation out."""

RESTING = 4.0
"""The same while it is armed or paused, which can take a day: twice at least within SILENCE, a lost one is no death."""

SILENCE = 10.0
"""Seconds without one after which nobody carries it out any more."""

MAX_DELAY = 86_400.0
"""Seconds for which an operation can be armed."""

CHUNK = 2_000
"""Workflows in one entry."""

_UNREADABLE = (
    msgspec.MsgspecError,
    ValueError,
    KeyError,
    TypeError,
    OverflowError,  # a whole number beyond every float
    RecursionError,
    PaigeantError,
)
"""What reading an entry raises that nobody of ours wrote."""

_ACTIONS: Mapping[str, type[Action]] = {
    kind.name: kind
    for kind in (Retry, Replay, DeadLetter, Hold, Release, Skip, Cancel, Compensate, Restore, Insert, Undo)
}


class OperationState(StrEnum):
    """How an operation stands."""

    ARMED = "armed"
    """It begins when its delay is over; until then it can be called off, and nothing was done."""
    WAITING = "waiting"
    """For a second person's approval; nothing was done."""
    RUNNING = "running"
    PAUSED = "paused"
    BRAKED = "braked"
    ABORTED = "aborted"
    FINISHED = "finished"


OVER = frozenset({OperationState.ABORTED, OperationState.FINISHED})
"""States that nothing leads out of."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast an operation goes through its workflows, and when it stops by itself.

    Attributes:
        rate: workflows a second; None: as fast as can be.
        ramp: begin with 1, 5, 20, … and go on only when it is known what became of them.
        brake: percent of the workflows acted on that may fail again; None: any.
        delay: seconds in which it can be called off before anything is done.
    """

    rate: float | None = None
    ramp: bool = False
    brake: float | None = None
    delay: float = 0.0

    def __post_init__(self) -> None:
        if self.rate is not None and not (math.isfinite(self.rate) and self.rate > 0):
            raise ConfigError(f"rate {self.rate!r}: it must be more than 0 workflows a second")
        if self.brake is not None and not 0 <= self.brake <= 100:
            raise ConfigError(f"brake {self.brake!r}: it must be from 0 to 100 percent")
        if not 0 <= self.delay <= MAX_DELAY:
            raise ConfigError(f"delay {self.delay!r}: it must be from 0 to {MAX_DELAY:g} seconds")

    def __bool__(self) -> bool:
        return self.rate is not None or self.ramp or self.brake is not None or self.delay > 0


@dataclass(slots=True)
class OperationStatus:
    """An operation as its entries tell it.

    Attributes:
        operation_id: its ID.
        operator: who started it.
        action: what is done.
        reason: why.
        pace: how fast.
        at: when it began, seconds since the Unix epoch.
        updated_at: when its last entry was made.
        state: how it stands.
        targets: the workflows, frozen when it began.
        done: how many were done so far.
        skipped: how many were not eligible.
        failed: how many moved meanwhile, or could not be done.
        again: how many of those done failed again, as far as whoever carried it out saw.
        open: of how many of those done it was not seen what became of them.
        handled: how many of its targets it came to, the first ones: whoever goes on passes over them, but for missed.
        missed: of those it came to, the places in targets of such as were not done: they are tried again.
        told_at: when it was last said how far it came, seconds since the Unix epoch.
        by: who carries it out; changes when somebody goes on with it.
        said: why it stands so, for people.
        selection: by what the workflows were selected, as it was written.
        approvals: what the operator who asks for a second person signed, by workflow.
        number: how many workflows there are, as its beginning or the audit says; 0: neither does.
    """

    operation_id: str
    operator: str = ""
    action: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    pace: Pace = field(default_factory=Pace)
    at: float = 0.0
    updated_at: float = 0.0
    state: OperationState = OperationState.RUNNING
    targets: list[str] = field(default_factory=list)
    done: int = 0
    skipped: int = 0
    failed: int = 0
    again: int = 0
    open: int = 0
    handled: int = 0
    missed: set[int] = field(default_factory=set)
    told_at: float = 0.0
    by: str = ""
    said: str = ""
    selection: str = ""
    approvals: dict[str, str] = field(default_factory=dict)
    number: int = 0

    @property
    def whole(self) -> bool:
        """Whether its beginning was among the entries, with all its workflows."""
        return bool(self.action) and len(self.targets) >= self.number

    @property
    def total(self) -> int:
        """How many workflows there are, as far as is known."""
        return self.number or len(self.targets)

    @property
    def begins_at(self) -> float:
        """When anything is done, seconds since the Unix epoch."""
        return self.at + self.pace.delay

    def plan(self) -> Plan:
        """What was planned, without its workflows, for the audit.

        Raises:
            InvalidMessage: its action is of another version.
        """
        return Plan(self.operation_id, from_document(self.action), self.reason, (), self.selection)

    def silent(self, now: float) -> bool:
        """Whether nobody carries it out any more, though it is not over."""
        alive = self.state in OVER or self.state is OperationState.WAITING
        return not alive and now - self.updated_at > SILENCE

    def to_document(self, now: float) -> dict[str, Any]:
        """As ``operations --json`` shows it."""
        return {
            "operation_id": self.operation_id,
            "at": rfc3339(self.at),
            "updated_at": rfc3339(self.updated_at),
            "operator": self.operator,
            "action": self.action.get("name", ""),
            "reason": self.reason,
            "state": self.state.value,
            "alone": self.silent(now),
            "targets": self.total,
            "done": self.done,
            "skipped": self.skipped,
            "failed": self.failed,
            "again": self.again,
            "open": self.open,
            "said": self.said or None,
            "begins_at": rfc3339(self.begins_at),
            "selection": self.selection or None,
        }


def entry(operation_id: str, event: str, at: float, **more: Any) -> bytes:
    """One entry."""
    return msgspec.json.encode({"operation_id": operation_id, "event": event, "at": rfc3339(at), **more})


def opening(status: OperationStatus) -> Iterable[bytes]:
    """The entries that an operation begins with."""
    for start in range(0, len(status.targets), CHUNK):
        yield entry(status.operation_id, "targets", status.at, ids=status.targets[start : start + CHUNK])
    pace = {item.name: getattr(status.pace, item.name) for item in fields(status.pace)}
    yield entry(
        status.operation_id,
        "started",
        status.at,
        operator=status.operator,
        action=status.action,
        reason=status.reason,
        pace=pace,
        by=status.by,
        selection=status.selection,
        number=len(status.targets),
    )


def proposed(status: OperationStatus) -> Iterable[bytes]:
    """The entries of an operation that waits for a second person."""
    for start in range(0, len(status.targets), CHUNK):
        part = status.targets[start : start + CHUNK]
        yield entry(
            status.operation_id,
            "proposed",
            status.at,
            operator=status.operator,
            action=status.action,
            reason=status.reason,
            selection=status.selection,
            number=len(status.targets),
            signed={item: status.approvals[item] for item in part},
        )


def take(known: dict[str, OperationStatus], entries: Iterable[bytes]) -> None:
    """Add what these entries tell to what is known; what cannot be read is passed over.

    Args:
        known: operations by ID, the oldest first; one without an action is one whose beginning is not known.
        entries: what comes next, the oldest first.
    """
    for data in entries:
        try:
            document = msgspec.json.decode(data, type=dict[str, Any])
            if "action" in document:
                document["action"] = _action(data)
            operation_id = str(document["operation_id"])
            _take(known.setdefault(operation_id, OperationStatus(operation_id)), document)
        except _UNREADABLE:
            continue  # anybody may write into the broker


def _action(data: bytes) -> dict[str, Any]:
    """The action of an entry; a value for the payload that was written in another way than ours stays so."""
    action: dict[str, Any] = {}
    for name, raw in _decode_fields(_decode_fields(data)["action"]).items():
        if name in _GIVEN:
            action[name] = {key: _given(value) for key, value in _decode_fields(raw).items()}
        else:
            action[name] = msgspec.json.decode(raw)
    return action


def _given(raw: msgspec.Raw) -> Any:
    value = msgspec.json.decode(raw)
    return value if msgspec.json.encode(value) == bytes(raw) else raw


_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_GIVEN = frozenset({"changes", "values"})
"""What actions call the fields that they put into a payload."""


def _take(status: OperationStatus, document: Mapping[str, Any]) -> None:
    event = document["event"]
    status.updated_at = max(status.updated_at, parse_rfc3339(document["at"]))
    if event == "targets":
        status.targets += [str(item) for item in document["ids"]]
    elif event == "started":
        pace = Pace(**document["pace"])  # first: of what cannot be, nothing is taken
        status.at = status.updated_at
        status.operator, status.reason = str(document["operator"]), str(document["reason"])
        status.action, status.by = dict(document["action"]), str(document["by"])
        status.pace = pace
        status.number = int(document.get("number", 0))
        status.selection = str(document.get("selection", ""))
        if status.pace.delay:
            status.state = OperationState.ARMED
    elif event == "proposed":
        status.at = status.at or status.updated_at
        status.operator, status.reason = str(document["operator"]), str(document["reason"])
        status.action, status.selection = dict(document["action"]), str(document.get("selection", ""))
        approvals = {str(key): str(value) for key, value in dict(document["signed"]).items()}
        status.approvals |= approvals
        status.targets += approvals
        status.number = int(document.get("number", 0))
        if not status.said:
            status.state = OperationState.WAITING
    elif event == "approved":
        # One whose approver died is approved again.
        if status.approvals and status.state not in OVER:
            status.state, status.said = OperationState.RUNNING, str(document.get("said", ""))
            status.by = str(document.get("by", ""))
    elif event == "progress":
        if status.by == document["by"]:
            for name in ("done", "skipped", "failed", "again"):
                setattr(status, name, int(document[name]))
            status.open = int(document.get("open", 0))
            status.told_at = status.updated_at
            undone = status.skipped + status.failed
            if not undone or "missed" in document:  # an older version did not say which
                status.missed |= {int(place) for place in document.get("missed", ())}
                status.handled = max(status.handled, status.done + undone)
    elif status.state not in OVER:
        status.state = _ORDERS.get(event) or OperationState(event)
        status.said = str(document.get("said", ""))
        if event == "resumed" and "by" in document:
            status.by = str(document["by"])


def at_once(entries: Iterable[bytes]) -> dict[str, OperationStatus]:
    """Operations by ID as the audit has them: of those that were done at once the log has nothing.

    Args:
        entries: of the audit, the oldest first; what cannot be read is passed over.
    """
    found: dict[str, OperationStatus] = {}
    for data in entries:
        with suppress(*_UNREADABLE):
            document = msgspec.json.decode(data, type=dict[str, Any])
            if operation_id := str(document["operation_id"]):
                at = parse_rfc3339(document["at"])
                status = OperationStatus(
                    operation_id,
                    operator=str(document["operator"]),
                    action={"name": str(document["action"])},
                    reason=str(document["reason"]),
                    at=at,
                    updated_at=at,
                    state=OperationState.FINISHED,
                    number=int(document["targets"]),
                    selection=str(document.get("selection") or ""),
                )
                for number, outcome in _COUNTED.findall(str(document["outcome"])):
                    setattr(status, outcome, int(number))
                found[operation_id] = status
    return found


_COUNTED = re.compile(r"\b(\d{1,9}) (done|skipped|failed)\b", re.ASCII)


def control(entries: Sequence[bytes], operation_id: str) -> tuple[OperationState | None, str, str]:
    """What was last ordered of an operation, what was said with it, and who went on with it last.

    Args:
        entries: the newest of the log.
        operation_id: which.
    """
    state, said, by = None, "", ""
    for data in entries:
        if operation_id.encode() not in data:
            continue
        with suppress(*_UNREADABLE):
            document = msgspec.json.decode(data, type=dict[str, Any])
            if document["operation_id"] == operation_id and (event := document["event"]) in _ORDERS:
                state, said = _ORDERS[event], str(document.get("said", ""))
                by = str(document.get("by", "")) or by
    return state, said, by


_ORDERS = {
    "approved": OperationState.RUNNING,
    "paused": OperationState.PAUSED,
    "resumed": OperationState.RUNNING,
    "aborted": OperationState.ABORTED,
}


def to_document(action: Action) -> dict[str, Any]:
    """An action as its operation's log keeps it."""
    document: dict[str, Any] = {"name": action.name}
    for item in fields(action):  # type: ignore[arg-type]  # every action is a dataclass
        if not item.repr:
            continue  # a secret, and what belongs to it, is on no record
        value = getattr(action, item.name)
        if isinstance(value, bytes):
            value = {"base64": base64.b64encode(value).decode()}
        elif isinstance(value, tuple):
            value = [step.to_document() for step in value if isinstance(step, Step)]
        document[item.name] = value
    return document


def from_document(document: Mapping[str, Any]) -> Action:
    """The action that :func:`to_document` wrote.

    Raises:
        InvalidMessage: it describes none that this version knows.
    """
    given = dict(document)
    kind = _ACTIONS.get(given.pop("name", ""))
    try:
        if kind is None:
            raise KeyError
        payload = given.get("payload")
        if isinstance(payload, dict):
            given["payload"] = base64.b64decode(payload["base64"], validate=True)
        for name in ("steps", "itinerary"):
            if given.get(name) is not None:
                given[name] = tuple(to_step(item) for item in given[name])
        return kind(**given)
    except (KeyError, TypeError, ValueError):
        raise InvalidMessage("this operation is of another version: its action cannot be read") from None
