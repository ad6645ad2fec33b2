"""Rows in groups: by state, by the activity where they stand, or by the cause of their failure.

A group of one is its row; one of several has a head with its count, and can be closed, so
that four hundred failures with three causes are three lines.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Final, Literal, TypeAlias, get_args

from paigeant_console.model.looks import URGENT, look
from paigeant_console.model.ordering import Rank
from paigeant_console.model.row import Row
from paigeant_console.model.text import Span, plural, shown
from paigeant_console.model.times import MINUTE, age
from paigeant_console.safe_text import SafeText, joined, literal
from paigeant_core.journal import PARKED, State

__all__ = ["GROUPINGS", "NO_FACE", "Grouping", "Groups", "Member", "face_of", "group_of", "is_head"]

Grouping: TypeAlias = Literal["none", "state", "activity", "cause"]
GROUPINGS: Final[tuple[Grouping, ...]] = get_args(Grouping)
Face: TypeAlias = tuple[str, str, int]
"""What a head tells of a row: its state, its step (empty: none), and the minute since which it stands there."""
NO_FACE: Final[Face] = "", "", 0
Member: TypeAlias = tuple[str, Rank, Face]
"""A row's group, its rank within it, and its face."""

_HEAD: Final = "\udc80"
"""What the key of a head begins with: half of a surrogate pair, which no text off the wire can hold."""
_TEXT: Final = 200
_STEP: Final = 32
_GAP: Final = literal("  ")
_OWN_WORDS: Final = "|".join(
    f"{status.value}[ :]+{re.escape(status.phrase)}" for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST
)
_UNIT: Final = r"\s*(?:m?s|sec|seconds|bytes|[kMG]i?B)\b"
_STATUS: Final = rf"""
(?: \bHTTP (?:/[\d.]+)? (?:[ ]error|[ ]status)? [ :=]+ | \bstatus (?:[ _-]?code)? [ "':=]+ (?:is[ ]|of[ ])?
  | \berror[ ]code:[ ] | \b(?:answered|responded|replied)[ :](?:with[ ])? ) [45]\d\d (?![\w%]|\.\d|{_UNIT})
| (?<![\w.:]) (?: [45]\d\d (?:[ ](?:client|server)[ ]error\b|,[ ]message=) | (?:{_OWN_WORDS})\b )
"""
"""An HTTP status, called so or with its own words: 503 and 429 are two causes. No port, and no other number."""
_CHANCE: Final = re.compile(rf"({_STATUS})|\b(?=[a-f-]*\d)[0-9a-f-]{{8,}}\b|\d+", re.IGNORECASE | re.VERBOSE)
"""Numbers and IDs, which differ between failures of one cause; the first group is what stays."""
_SINGLE: Final = -(1 << 30)
_NONE: Final = -(1 << 31)
_URGENCY: Final = {str(state): place for place, state in enumerate(URGENT)}


def group_of(row: Row, grouping: Grouping) -> str:
    """The name of the group that a row belongs to; empty: it has no cause, or no step."""
    if grouping == "state":
        return str(row.state)
    if grouping == "activity":
        return "" if row.state == State.COMPLETED else row.headers.activity
    if grouping == "none" or (row.state not in PARKED and row.error is None):
        return ""
    if row.error is not None:
        message = row.error["message"]
        text = f"{row.error['type']}: {message}" if message else row.error["type"]
    else:
        text = f"{row.state}: {row.reason or row.held_by}".removesuffix(": ")
    return _CHANCE.sub(lambda found: found[1] or "#", text[:_TEXT])


def face_of(row: Row) -> Face:
    """What the head of its group tells of a row."""
    return str(row.state), row.step or "", int(row.since // MINUTE)


def is_head(key: str) -> bool:
    """Whether a row's key is that of a group's head."""
    return key.startswith(_HEAD)


class Groups:
    """Who is in which group, in which order the groups stand, and which are closed."""

    def __init__(self) -> None:
        self.grouping: Grouping = "none"
        self._members: dict[str, dict[str, Rank]] = {}
        self._group: dict[str, tuple[str, Face]] = {}
        self._faces: dict[str, Counter[Face]] = {}
        self._places: dict[str, int] = {}
        self._closed: set[str] = set()
        self._fresh = False

    def __len__(self) -> int:
        return len(self._group)

    def choose(self, grouping: Grouping) -> None:
        """Group by something else, at the next :meth:`replace`; groups are closed then, and until then empty."""
        self.grouping = grouping
        self._members, self._group, self._faces, self._places, self._closed = {}, {}, {}, {}, set()
        self._fresh = True

    def replace(self, found: Mapping[str, Member]) -> dict[str, Rank]:
        """Hold these rows and no others.

        Returns:
            What is to be seen, heads too, and its rank.
        """
        self._group, self._members, self._faces = {}, {}, {}
        for key, (group, rank, face) in found.items():
            self._members.setdefault(group, {})[key] = rank
            self._show(key, group, face)
        self._places = {group: place for place, group in enumerate(sorted(self._members, key=self._order))}
        if self._fresh and found:
            self._fresh = False
            self._closed = {group for group, members in self._members.items() if len(members) > 1}
        return {key: rank for group in self._members for key, rank in self._seen(group).items() if rank is not None}

    def update(self, changes: Mapping[str, Member | None]) -> dict[str, Rank | None]:
        """Put rows in, move them, or take them out (None).

        Returns:
            Ranks of what is to be seen elsewhere now, heads too; None: not to be seen any more.
        """
        touched: dict[str, None] = {}
        before: dict[str, int] = {}
        for key, found in changes.items():
            old, face = self._group.pop(key, (None, NO_FACE))
            for group in (old, found[0] if found is not None else None):
                if group is not None:
                    touched[group] = None
                    before.setdefault(group, len(self._members.get(group, ())))
            if old is not None:
                del self._members[old][key]
                faces = self._faces[old]
                faces[face] -= 1
                if not faces[face]:
                    del faces[face]
            if found is not None:
                self._members.setdefault(found[0], {})[key] = found[1]
                self._show(key, found[0], found[2])
                self._places.setdefault(found[0], len(self._places))
        result: dict[str, Rank | None] = dict.fromkeys(changes)
        for group in touched:
            members = self._members[group]
            # Where a head comes or goes its few members have to be looked at too.
            crossed = (before[group] > 1) != (len(members) > 1)
            result.update(self._seen(group, members if crossed else [key for key in changes if key in members]))
        return result

    def _show(self, key: str, group: str, face: Face) -> None:
        faces = self._faces.setdefault(group, Counter())
        faces[face] += 1
        self._group[key] = group, face

    def head(self, group: str) -> str:
        """The key of the head of a group: the same group of another grouping has another one."""
        return f"{_HEAD}{self.grouping} {group}"

    def _led(self, head: str) -> str | None:
        """The group that a head leads; None: it is of another grouping."""
        start = self.head("")
        return head[len(start) :] if head.startswith(start) else None

    def _of(self, head: str) -> Mapping[str, Rank]:
        """The rows of the group that a head leads."""
        group = self._led(head)
        return {} if group is None else self._members.get(group, {})

    def toggle(self, head: str) -> dict[str, Rank | None]:
        """Close a group, or open it; see :meth:`update` for what is returned."""
        group = self._led(head)
        if group is None or group not in self._members:
            return {}  # Enter was pressed on it before something else was grouped by
        self._closed ^= {group}
        return self._seen(group)

    def members(self, head: str) -> list[str]:
        """The rows of the group that a head is the head of, the first first."""
        members = self._of(head)
        return sorted(members, key=lambda key: members[key], reverse=True)

    def size(self, head: str) -> int:
        """How many rows are in the group of a head."""
        return len(self._of(head))

    def line(self, head: str, now: float, *, ascii_only: bool) -> tuple[Span, ...]:
        """What stands in the line of a head: how many, in which states, at which step, since when, and what they share.

        Args:
            head: its key.
            now: seconds since the Unix epoch.
            ascii_only: write ASCII only.
        """
        group = self._led(head)
        if group is None:
            # Rows are grouped by something else before those of the old heads are gone.
            return ((literal("..." if ascii_only else "…"), "dim"),)
        mark = literal(("+ " if ascii_only else "▸ ") if group in self._closed else ("- " if ascii_only else "▾ "))
        states: Counter[str] = Counter()
        steps, minutes = set(), set()
        for (state, step, minute), number in self._faces.get(group, {}).items():
            states[state] += number
            steps.add(step)
            minutes.add(minute)
        title = [self._title(group, ascii_only)]
        looks = [] if self.grouping == "state" else [_looks(states, ascii_only)]
        there = steps - {""}
        step = shown(next(iter(there)), _STEP, ascii_only=ascii_only) if len(there) == 1 else plural(len(there), "step")
        at: list[Sequence[Span]] = [((step, "strong"),)] if there and self.grouping != "activity" else []
        since: list[Sequence[Span]] = [((_since(minutes, now), "dim"),)] if minutes else []
        # What they share comes first: it is what people look for, and what is narrow has room for.
        said = [*title, *looks, *at, *since]
        many = plural(self.size(head), "workflow")
        return (mark, "dim"), (many, "strong"), *(span for part in said for span in ((_GAP, ""), *part))

    def _title(self, group: str, ascii_only: bool) -> tuple[Span, ...]:
        if self.grouping == "state":
            return look(group).spans(ascii_only)
        if group:
            return ((shown(group, _TEXT, ascii_only=ascii_only), "error" if self.grouping == "cause" else ""),)
        return ((literal("without a failure" if self.grouping == "cause" else "at no step any more"), "dim"),)

    def _seen(self, group: str, keys: Iterable[str] | None = None) -> dict[str, Rank | None]:
        """Where head and members of a group are to be seen, if at all."""
        members = self._members[group]
        several = len(members) > 1
        place = -self._places[group]
        if self.grouping == "cause" and not (several and group):
            # A cause of one has no place of its own: they stand below the others as if there were no groups.
            place = _SINGLE if group else _NONE
        hidden = several and group in self._closed
        head = self.head(group)
        led: dict[str, Rank | None] = {head: (place, 1, head) if several else None}
        return led | {key: None if hidden else (place, 0, *members[key]) for key in (members if keys is None else keys)}

    def _order(self, group: str) -> tuple[object, ...]:
        """States by urgency, activities by name, causes by how many they are; what has none last."""
        if self.grouping == "state":
            return _URGENCY.get(group, len(_URGENCY)), group
        if self.grouping == "cause":
            return not group, -len(self._members[group]), group
        return not group, group


def _looks(states: Mapping[str, int], ascii_only: bool) -> tuple[Span, ...]:
    """The glyphs of states, the most urgent first, with how many are in each where there are several."""
    spans: list[Span] = []
    for state in sorted(states, key=lambda state: _URGENCY.get(state, len(_URGENCY))):
        here = look(state)
        number = f" {states[state]:,}" if len(states) > 1 else ""
        gap = " " if spans else ""
        spans.append((joined((literal(gap), here.mark(ascii_only), literal(number))), here.style))
    return tuple(spans)


def _since(minutes: Iterable[int], now: float) -> SafeText:
    """``3m``, or from the newest to the oldest ``3m-2h``."""
    newest, oldest = (age(now - MINUTE * minute) for minute in (max(minutes), min(minutes)))
    return newest if newest == oldest else joined((newest, literal("-"), oldest))
