"""The routing slip: what is to do, what is done, and the moves between them.

Pure: nothing here knows a broker, a clock or a worker. The step being done is the
head of the itinerary, and its hop is the number of executed steps plus one, so two
steps can never be current at once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import msgspec

from paigeant_core.delegation import Delegation
from paigeant_core.errors import ConfigError, IllegalTransition, InvalidMessage, SlipExhausted
from paigeant_core.json_values import encode_object
from paigeant_core.limits import MAX_STEPS
from paigeant_core.names import check_activity
from paigeant_core.retry import RetryPolicy

OnFailure: TypeAlias = Literal["dead_letter", "compensate"]


class Step(str):
    """An activity's place in an itinerary: its name, with arguments and options.

    It compares and hashes as its name; which of two equal ones is meant is told by
    the hop.

    Attributes:
        arguments: what this step alone is given, beside the payload.
        retry: settings of :class:`RetryPolicy` that differ for this step.
        timeout: seconds this step may take; None: what the activity says.
        scopes: permissions this step needs.
    """

    __slots__ = ("arguments", "retry", "scopes", "timeout")

    arguments: Mapping[str, Any]
    retry: Mapping[str, Any]
    timeout: float | None
    scopes: tuple[str, ...]

    def __new__(
        cls,
        name: str,
        *,
        arguments: Mapping[str, Any] | None = None,
        retry: Mapping[str, Any] | RetryPolicy | None = None,
        timeout: float | None = None,
        scopes: Sequence[str] = (),
    ) -> Step:
        """Make a step.

        Raises:
            InvalidMessage: the name, an option or an argument is outside the rules.
        """
        step = super().__new__(cls, check_activity(name))
        plain = _object(arguments, f"arguments of step {name}")
        # A copy as JSON has it: what cannot be sent is refused where it was written, not where it is sent.
        step.arguments = msgspec.json.decode(encode_object(plain, f"an argument of step {name}")) if plain else plain
        if isinstance(retry, RetryPolicy):
            document = retry.to_document(whole=True)
        else:
            document = _object(retry, f"retry of step {name}")
        if document:
            try:
                RetryPolicy.from_document(document)
            except ConfigError as error:
                raise InvalidMessage(f"step {name}: {error}") from None
        step.retry = document
        if timeout is not None and (
            isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < 1e9
        ):
            raise InvalidMessage(f"step {name}: timeout is {ascii(timeout)[:40]}, it must be seconds above 0")
        step.timeout = timeout
        listed = isinstance(scopes, Collection) and not isinstance(scopes, str)
        if not listed or not all(isinstance(scope, str) for scope in scopes):
            raise InvalidMessage(f"step {name}: scopes must be a list of names")
        step.scopes = tuple(scopes)
        return step

    def __repr__(self) -> str:
        return f"Step({str(self)!r})"

    def to_document(self) -> str | dict[str, Any]:
        """A bare name where there is nothing else to say, else an object."""
        if not (self.arguments or self.retry or self.timeout is not None or self.scopes):
            return str(self)
        document: dict[str, Any] = {"name": str(self)}
        if self.arguments:
            document["arguments"] = dict(self.arguments)
        if self.retry:
            document["retry"] = dict(self.retry)
        if self.timeout is not None:
            document["timeout"] = self.timeout
        if self.scopes:
            document["scopes"] = list(self.scopes)
        return document

    @classmethod
    def from_document(cls, document: object, *, decoded: bool = False) -> Step:
        """The step that ``document`` (a name or an object) describes.

        Args:
            document: the name or the object.
            decoded: it came out of JSON, so its arguments can go back as they are.

        Raises:
            InvalidMessage: it describes none.
        """
        if isinstance(document, Step):
            return document
        if isinstance(document, str):
            return cls(document)
        if not isinstance(document, Mapping):
            raise InvalidMessage("a step must be a name or an object with a name")
        unknown = set(document) - {"name", "arguments", "retry", "timeout", "scopes"}
        if unknown:
            raise InvalidMessage(f"a step has an unknown field {ascii(min(map(str, unknown)))[:60]}")
        scopes = document.get("scopes", ())
        if not isinstance(scopes, list | tuple):
            raise InvalidMessage("scopes of a step must be a list of names")
        step = cls(
            document.get("name"),  # type: ignore[arg-type]  # checked by __new__
            arguments=None if decoded else document.get("arguments"),
            retry=document.get("retry"),
            timeout=document.get("timeout"),
            scopes=scopes,
        )
        if decoded:
            step.arguments = _object(document.get("arguments"), f"arguments of step {step}")
        return step


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivitySpec:
    """One step of a workflow as it is written down for a dispatch.

    Attributes:
        name: the activity.
        arguments: what this step alone is given, as ``ctx.arguments``.
        retry: its own retry policy, in place of the activity's; of a mapping, only the
            settings that it names.
        timeout: seconds it may take.
        scopes: permissions it needs.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    retry: RetryPolicy | Mapping[str, Any] | None = None
    timeout: float | None = None
    scopes: list[str] = field(default_factory=list)

    def to_step(self) -> Step:
        """The same as a :class:`Step`."""
        return Step(self.name, arguments=self.arguments, retry=self.retry, timeout=self.timeout, scopes=self.scopes)


class Executed(str):
    """A step that is done: its name and the attempt that did it; ``skipped`` if nobody ran it."""

    __slots__ = ("attempt", "skipped")

    attempt: int
    skipped: bool

    def __new__(cls, name: str, attempt: int = 1, *, skipped: bool = False) -> Executed:
        """Make an entry."""
        entry = super().__new__(cls, name)
        entry.attempt = attempt
        entry.skipped = skipped
        return entry

    def __repr__(self) -> str:
        return f"Executed({str(self)!r}, {self.attempt})"


class RoutingSlip:
    """What is to do and what is done.

    Args:
        itinerary: steps to do, the current one first.
        executed: steps done, in order.
        on_failure: what a step that finally failed leads to.
        undoing: while compensating, the hop being undone; else 0.

    Raises:
        InvalidMessage: more than 100 steps, or an entry that is no step.
    """

    __slots__ = ("executed", "itinerary", "on_failure", "undoing")

    def __init__(
        self,
        itinerary: Iterable[object] = (),
        executed: Iterable[Executed] = (),
        *,
        on_failure: OnFailure = "dead_letter",
        undoing: int = 0,
    ) -> None:
        self.itinerary: list[Step] = [to_step(item) for item in itinerary]
        self.executed: list[Executed] = list(executed)
        self.on_failure: OnFailure = on_failure
        self.undoing = undoing
        self._check_length()

    def __repr__(self) -> str:
        return f"RoutingSlip(itinerary={self.itinerary!r}, executed={self.executed!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RoutingSlip) and self.to_document() == other.to_document()

    __hash__ = None  # type: ignore[assignment]  # it changes

    @property
    def hop(self) -> int:
        """The number of the step being done, 1…; past the end when finished."""
        return self.undoing or len(self.executed) + 1

    @property
    def reached(self) -> int:
        """The hop that headers tell of: that of the step being done, when finished of the last one; at least 1."""
        return self.hop if self.itinerary or self.undoing else max(1, len(self.executed))

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return not self.itinerary

    def next_step(self) -> Step | None:
        """The step to be done now, or None when nothing is left."""
        return self.itinerary[0] if self.itinerary else None

    def previous_step(self) -> Executed | None:
        """The step done last, or None."""
        return self.executed[-1] if self.executed else None

    def names(self) -> tuple[str, ...]:
        """All steps in order, done and to do, by name."""
        return (*map(str, self.executed), *map(str, self.itinerary))

    def mark_complete(self, name: str, attempt: int = 1) -> None:
        """Move the head of the itinerary to the executed steps.

        Local until the message is handed on.

        Args:
            name: the head's name, or the head.
            attempt: the attempt that did it.

        Raises:
            SlipExhausted: nothing is left to do.
            IllegalTransition: ``name`` is not the head, or the workflow is being compensated.
        """
        self._check_head(name)
        self.executed.append(_executed(str(self.itinerary.pop(0)), attempt, False))

    def skip(self) -> None:
        """Leave the head out: it counts as done, by nobody.

        Raises:
            SlipExhausted: nothing is left to do.
        """
        if not self.itinerary:
            raise SlipExhausted("nothing is left to skip in this itinerary")
        self.executed.append(_executed(str(self.itinerary.pop(0)), 0, True))

    def insert_next(self, *steps: object) -> None:
        """Put ``steps`` behind the head.

        Raises:
            InvalidMessage: more than 100 steps would be in the slip.
        """
        added = [to_step(step) for step in steps]
        if len(self.executed) + len(self.itinerary) + len(added) > MAX_STEPS:
            raise InvalidMessage(f"{len(added)} more steps: a slip holds at most {MAX_STEPS}")
        self.itinerary[1:1] = added

    def discard_rest(self) -> list[Step]:
        """Drop every step but the head; return what was dropped."""
        dropped = self.itinerary[1:]
        del self.itinerary[1:]
        return dropped

    def start_undoing(self) -> bool:
        """Begin compensation at the last executed step; False: nothing to undo."""
        self.undoing = len(self.executed) + 1
        return self.undo_next()

    def undo_next(self) -> bool:
        """Go on to the executed step before; False: the chain is through."""
        if self.undoing <= 0:
            raise IllegalTransition("this workflow is not being compensated")
        hop = self.undoing - 1
        while hop > 0 and self.executed[hop - 1].skipped:
            hop -= 1
        self.undoing = hop
        return hop > 0

    def current_name(self) -> str:
        """The activity whose queue this slip belongs in; empty when finished."""
        if self.undoing:
            return str(self.executed[self.undoing - 1])
        return str(self.itinerary[0]) if self.itinerary else ""

    def copy(self) -> RoutingSlip:
        """A copy that can be changed by itself."""
        return self._of(self.itinerary.copy(), self.executed.copy(), self.on_failure, self.undoing)

    def to_document(self) -> dict[str, Any]:
        """The slip as JSON values."""
        document: dict[str, Any] = {
            "itinerary": [step.to_document() for step in self.itinerary],
            "executed": [
                {"name": str(step), "attempt": step.attempt, "skipped": True}
                if step.skipped
                else {"name": str(step), "attempt": step.attempt}
                for step in self.executed
            ],
        }
        if self.on_failure != "dead_letter":
            document["on_failure"] = self.on_failure
        if self.undoing:
            document["undoing"] = self.undoing
        return document

    @classmethod
    def from_document(cls, document: object) -> RoutingSlip:
        """The slip that ``document`` describes.

        Raises:
            InvalidMessage: it describes none.
        """
        try:
            return cls.from_wire(msgspec.convert(document, SlipWire))
        except msgspec.ValidationError as error:
            raise InvalidMessage(f"routing slip: {error}") from None

    @classmethod
    def from_wire(cls, wire: SlipWire) -> RoutingSlip:
        """The slip that decoded JSON describes; same errors as the constructor."""
        undoing = wire.undoing
        if not 0 <= undoing <= len(wire.executed):
            raise InvalidMessage("routing slip: undoing names a hop that is not executed")
        itinerary = [
            _plain_step(item) if isinstance(item, str) else Step.from_document(item, decoded=True)
            for item in wire.itinerary
        ]
        executed = [_executed(item.name, item.attempt, item.skipped) for item in wire.executed]
        slip = cls._of(itinerary, executed, wire.on_failure, undoing)
        slip._check_length()
        return slip

    @classmethod
    def _of(cls, itinerary: list[Step], executed: list[Executed], on_failure: OnFailure, undoing: int) -> RoutingSlip:
        # Entries that are steps already are not looked at again: at every hop a slip is decoded and copied.
        slip = cls.__new__(cls)
        slip.itinerary = itinerary
        slip.executed = executed
        slip.on_failure = on_failure
        slip.undoing = undoing
        return slip

    def _check_head(self, name: str) -> None:
        if self.undoing:
            raise IllegalTransition(
                f"step {ascii(name)[:80]} cannot be completed: this workflow is being compensated, and goes back only"
            )
        if not self.itinerary:
            raise SlipExhausted(f"step {ascii(name)[:80]} cannot be completed: nothing is left in this itinerary")
        if name != self.itinerary[0]:
            raise IllegalTransition(
                f"step {ascii(name)[:80]} cannot be completed: the step to be done now is {str(self.itinerary[0])!r}"
            )

    def _check_length(self) -> None:
        total = len(self.itinerary) + len(self.executed)
        if total > MAX_STEPS:
            raise InvalidMessage(f"{total} steps: a slip holds at most {MAX_STEPS}")


class ExecutedWire(msgspec.Struct):
    """An executed step as it stands in JSON."""

    name: str
    attempt: int = 1
    skipped: bool = False


class SlipWire(msgspec.Struct):
    """The second line of a message as it stands in JSON: slip and security records."""

    itinerary: list[str | dict[str, Any]] = []
    executed: list[ExecutedWire] = []
    on_failure: OnFailure = "dead_letter"
    undoing: int = 0
    token: str = ""
    delegation: Delegation | None = None
    records: list[str] = []


@lru_cache(maxsize=4096)
def _plain_step(name: str) -> Step:
    # Slips are made and decoded all the time, and the same few names come again: checked once.
    return Step(name)


@lru_cache(maxsize=4096)
def _executed(name: str, attempt: int, skipped: bool) -> Executed:
    return Executed(check_activity(name), attempt, skipped=skipped)


def to_step(item: object) -> Step:
    """``item``, a :class:`Step`, :class:`ActivitySpec`, name or object, as a step.

    Raises:
        InvalidMessage: it is none of these.
    """
    if type(item) is str:
        return _plain_step(item)
    if isinstance(item, Step):
        return item
    if isinstance(item, ActivitySpec):
        return item.to_step()
    return Step.from_document(item)


def _object(value: object, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidMessage(f"{what[:80]} must be a JSON object")
    return dict(value)
