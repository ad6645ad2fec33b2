"""The list of workflows: which rows, in which order, and what stands in their cells.

It is a row source for a line table. Changes come in as IDs and cost by their number, not
by how many workflows there are; a new filter is applied in slices, so that a key is never
kept waiting.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import RLock
from typing import Final, Literal, Protocol, TypeAlias, get_args

from paigeant_console.model.fold import Fold
from paigeant_console.model.grouping import NO_FACE, Grouping, Groups, Member, face_of, group_of, is_head
from paigeant_console.model.judging import Judge
from paigeant_console.model.looks import STUCK, URGENT, look
from paigeant_console.model.ordering import Rank, SortedKeys
from paigeant_console.model.query import Query
from paigeant_console.model.row import Row
from paigeant_console.model.slip_track import Track, draw_track, track_of, track_tick
from paigeant_console.model.text import EMPTY, Span, clip, short_id, shown, spans_width
from paigeant_console.model.times import age, age_tick, day_and_time, parsed
from paigeant_console.model.views import RowView
from paigeant_console.safe_text import SafeText, joined, literal
from paigeant_core.journal import State

__all__ = ["ORDERS", "Cells", "Order", "Rows", "WorkflowList", "cause", "why"]

Order: TypeAlias = Literal["created", "updated", "state", "name", "activity", "attempts"]
ORDERS: Final[tuple[Order, ...]] = get_args(Order)
Cells: TypeAlias = Sequence[Span | Sequence[Span]]

SLICE: Final = 64
"""Rows that are tried between two looks at the clock, and for which the feed is kept waiting."""
SCAN_FOR: Final = 0.005
"""Seconds of looking at rows in one go: what is typed meanwhile waits no longer."""
RECHECK: Final = 500
"""Rows that a query about time is asked anew for, at each look."""

_URGENCY: Final = {str(state): place for place, state in enumerate(URGENT)}
_PREFIX: Final = 40
"""Characters of a text that it is ordered by."""
_GAP: Final = literal("  ")
_COLON: Final = literal(": ")
_LEFT: Final = literal("no longer in memory")


class Rows(Protocol):
    """Where the rows are; the feed."""

    @property
    def fold(self) -> Fold:
        """All workflows."""
        ...

    @property
    def lock(self) -> RLock:
        """Held while they are read."""
        ...

    def now(self) -> float:
        """Seconds since the Unix epoch."""
        ...


class WorkflowList:
    """Rows of workflows, for a line table.

    Args:
        rows: where they are.
        base: which of them belong here at all; None: all.
        order: by what they are ordered: the newest, most urgent or most tried first, texts as in a dictionary.
        grouping: by what they are grouped.
        ascii_only: write ASCII only.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        base: Callable[[Row], bool] | None = None,
        order: Order = "created",
        grouping: Grouping = "none",
        ascii_only: bool = False,
    ) -> None:
        self._rows = rows
        self._base = base
        self._keys = SortedKeys()
        self._groups = Groups()
        self._groups.choose(grouping)
        self._query: Query | None = None
        self._timed = False
        self._asks_payload = False
        self._by_creation = False
        self._todo: list[str] = []
        self._found: dict[str, Member] | None = None
        self._late: set[str] = set()
        self._recheck_at = 0
        self._undecided: set[str] = set()
        self.order: Order = order
        self.backwards = False
        """Whether the order is turned round."""
        self.absolute = False
        """Whether times are told by the clock, in place of how long ago they were."""
        self.ascii_only = ascii_only
        self.columns: tuple[str, ...] = ("state", "slip")
        """Names of the columns, as :meth:`cells` fills them."""
        self.room: Mapping[str, int] = {}
        """Cells that each column has."""
        self.body: Callable[[str], bytes | None] | None = None
        """Gives the last message of a workflow, for queries that ask for its payload."""
        self.judge: Judge | None = None
        """Verifies signatures, for queries that ask what they are worth; None: nobody can here."""

    # -- rows, for the table ------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        """The correlation ID at ``index``."""
        return self._keys.key(index)

    def index_of(self, key: str) -> int | None:
        """Where a workflow is, or None."""
        return self._keys.index_of(key)

    def revision(self, key: str) -> int:
        """Changes when what its cells say does."""
        if is_head(key):
            return hash(self._head(key)) & 0x7FFF_FFFF_FFFF_FFFF
        with self._rows.lock:
            fold, now = self._rows.fold, self._rows.now()
            row = fold.rows.get(key)
            if row is None:
                return 0
            said = (row.revision, age_tick(now - row.at), track_tick(row, now), fold.stuck(row, now))
            return hash((*said, age_tick(now - _created(row)))) & 0x7FFF_FFFF_FFFF_FFFF

    def cells(self, index: int) -> Cells:
        """What stands in the columns; the head of a group is one cell."""
        key = self._keys.key(index)
        if is_head(key):
            return (self._head(key),)
        with self._rows.lock:
            fold, now = self._rows.fold, self._rows.now()
            row = fold.rows.get(key)
            if row is None:
                return [self._left(name, key) for name in self.columns]
            stuck = fold.stuck(row, now)
            return [self._cell(name, row, stuck, now) for name in self.columns]

    def _left(self, name: str, key: str) -> Span:
        """A cell of a workflow that has left memory, and whose row stands here until the next look."""
        if name == "id":
            return short_id(key, self.room.get(name, 80), ascii_only=self.ascii_only), "dim"
        return (_LEFT if name in ("slip", "why") else EMPTY), "dim"

    def _head(self, key: str) -> tuple[Span, ...]:
        return self._groups.line(key, self._rows.now(), ascii_only=self.ascii_only)

    def _cell(self, name: str, row: Row, stuck: str | None, now: float) -> Span | Sequence[Span]:
        headers = row.headers
        room = self.room.get(name, 80)
        if name == "state":
            return state_spans(row, stuck, self.ascii_only)
        if name == "id":
            return short_id(headers.correlation_id, room, ascii_only=self.ascii_only), ""
        if name == "name":
            return shown(headers.name, max(room, 1) + 1, ascii_only=self.ascii_only), ""
        if name == "step":
            return shown(headers.activity, max(room, 1) + 1, ascii_only=self.ascii_only), ""
        if name == "age":
            created = _created(row)
            return (day_and_time(created, now) if self.absolute else age(now - created)), "dim"
        if name == "updated":
            return (day_and_time(row.at, now) if self.absolute else age(now - row.at)), "dim"
        if name == "hop":
            return literal(f"{headers.steps_done}/{headers.steps_total}"), "dim"
        if name == "try":
            return (literal(str(headers.attempt)) if headers.attempt > 1 else EMPTY), "strong"
        if name == "worker":
            return shown(row.runner or row.worker, max(room, 1) + 1, ascii_only=self.ascii_only), "dim"
        if name == "why":
            return why(row, stuck, room, ascii_only=self.ascii_only)
        return self._slip(row, stuck, now, room, alone="why" in self.columns)

    def _slip(self, row: Row, stuck: str | None, now: float, room: int, *, alone: bool) -> Sequence[Span]:
        track = track_of(row, now, ascii_only=self.ascii_only)
        reason = [] if alone else why(row, stuck, room, ascii_only=self.ascii_only)
        if not reason:
            return draw_track(track, room, ascii_only=self.ascii_only)
        # The reason gets half of the line, or what the track leaves of it.
        least = max(room - 2 - spans_width(reason), room // 2)
        spans = draw_track(track, least, ascii_only=self.ascii_only)
        if track.current is not None and not any(text == track.steps[track.current].name for text, _ in spans):
            # Where it stands and why matter more than how far it came.
            alone_here = Track((track.steps[track.current],), 0, track.notes)
            spans = draw_track(alone_here, max(least, room - 12), ascii_only=self.ascii_only)
        left = room - spans_width(spans) - len(_GAP)
        if left < 8:
            return spans
        return [*spans, (_GAP, ""), *clip(reason, left, ascii_only=self.ascii_only)]

    # -- changes ------------------------------------------------------------------------

    def absorb(self, changed: Iterable[str]) -> bool:
        """Take up workflows that changed.

        Returns:
            Whether any came, went or moved.
        """
        changed = set(changed)
        if self._found is not None:
            self._late |= changed
            return False
        changed |= self._due_again()
        if not changed:
            return False
        with self._rows.lock:
            now = self._rows.now()
            found = {key: self._ranked(key, now) for key in changed}
        if self.verifying and self.judge is not None:
            # Until it is known they stay as they were.
            found = {key: member for key, member in found.items() if key not in self.judge}
        if self.grouping == "none":
            return self._keys.update({key: None if member is None else member[1] for key, member in found.items()})
        return self._keys.update(self._groups.update(found))

    def _due_again(self) -> set[str]:
        """Rows that time alone may have made match, so many at a time."""
        if not self._timed:
            return set()
        with self._rows.lock:
            keys = list(self._rows.fold.rows)
        start = self._recheck_at if self._recheck_at < len(keys) else 0
        self._recheck_at = start + RECHECK
        return set(keys[start : start + RECHECK])

    def _ranked(self, key: str, now: float) -> Member | None:
        fold = self._rows.fold
        row = fold.rows.get(key)
        if row is None or (self._base is not None and not self._base(row)):
            if row is None and self.judge is not None:
                self.judge.forget(key)
            self._undecided.discard(key)
            return None
        if self._query is not None and not self._selects(self._query, row, now):
            return None
        rank = self._rank(row)
        grouping = self._groups.grouping
        face = NO_FACE if grouping == "none" else face_of(row)
        return group_of(row, grouping), _turned(rank) if self.backwards else rank, face

    def _selects(self, query: Query, row: Row, now: float) -> bool:
        """Whether a row matches; where that depends on signatures that are still to be verified, not yet."""
        key, fold = row.correlation_id, self._rows.fold
        body = self.body(key) if self.body is not None and self._asks_payload else None
        if self.judge is None or not query.needs_trust:
            return query.matches(RowView(fold, row, now, body))
        self._undecided.discard(key)
        known = self.judge.known(row)
        if known is not None:
            return query.matches(RowView(fold, row, now, body, lambda _: known))
        decided = query.decided_without_trust(RowView(fold, row, now, body))
        if decided is None and not self.judge.ask(row):
            self._undecided.add(key)
        return bool(decided)

    def _rank(self, row: Row) -> Rank:
        if self.order == "updated":
            return row.at, row.correlation_id
        if self.order == "created" and self._by_creation:
            # It was created once, and reading the time again takes as long as matching the row.
            known = self._keys.rank_of(row.correlation_id)
            if known is not None:
                return known
        # What is no time goes to the end, wherever its text would sort.
        created = parsed(row.created_at) or 0.0
        if self.order == "created":
            return created, row.correlation_id
        if self.order == "name":
            return _backwards(row.name), created, row.correlation_id
        if self.order == "activity":
            return _backwards(row.activity), created, row.correlation_id
        if self.order == "attempts":
            return row.attempt, created, row.correlation_id
        return -_URGENCY.get(str(row.state), 0), created, row.correlation_id

    # -- groups -------------------------------------------------------------------------

    @property
    def matched(self) -> int:
        """How many workflows there are, those in closed groups too."""
        return len(self._keys) if self.grouping == "none" else len(self._groups)

    @property
    def grouping(self) -> Grouping:
        """By what they are grouped."""
        return self._groups.grouping

    def set_grouping(self, grouping: Grouping) -> None:
        """Group by something else, once :meth:`scan` is through; the groups are closed then."""
        self._groups.choose(grouping)
        self.rescan()

    def toggle(self, head: str) -> None:
        """Close the group of a head, or open it; while another order or grouping is applied, nothing."""
        if self._found is None:
            self._keys.update(self._groups.toggle(head))

    def members(self, key: str) -> list[str]:
        """The workflows that a row stands for: itself, or those of the group that it is the head of."""
        return self._groups.members(key) if is_head(key) else [key]

    def size(self, key: str) -> int:
        """How many :meth:`members` there are."""
        return self._groups.size(key) if is_head(key) else 1

    # -- order and filter ---------------------------------------------------------------

    @property
    def query(self) -> Query | None:
        """The filter; None: there is none."""
        return self._query

    @property
    def filtering(self) -> float | None:
        """How much of a new filter or order has been applied, from 0 to 1; None: all of it."""
        if self._found is None:
            return None
        with self._rows.lock:
            total = max(1, len(self._rows.fold.rows))
        # Of those to do some may have left since.
        return max(0.0, 1 - len(self._todo) / total)

    @property
    def verifying(self) -> int:
        """How many workflows have signatures that are still to be verified, for the filter: :meth:`scan` does it."""
        return 0 if self.judge is None else len(self.judge)

    @property
    def undecided(self) -> int:
        """How many the filter passed over, as their signatures cannot be verified: their messages are not kept."""
        return len(self._undecided)

    def set_query(self, query: Query | None) -> None:
        """Show the workflows that ``query`` selects, once :meth:`scan` is through."""
        before = None if self._found is not None or self.grouping != "none" or self._timed else self._query
        self._query = None if query is None or query.selects_all else query
        self._timed = self._query is not None and self._query.comes_with_time
        self._asks_payload = self._query is not None and self._query.needs_payload
        self.rescan()
        if before is None or before.needs_trust:
            return  # whom that one passed over this one may select
        if self._query is not None and self._query.narrows(before):
            # One letter more: what did not match the letters before does not match now.
            self._todo = list(self._keys)

    def set_order(self, order: Order, *, backwards: bool = False) -> None:
        """Order by something else, once :meth:`scan` is through."""
        self.order, self.backwards = order, backwards
        self.rescan()

    def rescan(self) -> None:
        """Look at every workflow again."""
        with self._rows.lock:
            self._todo = list(self._rows.fold.rows)
        self._found = {}
        self._late = set()
        self._undecided = set()
        if self.judge is not None:
            self.judge.start_anew()

    def scan(self, budget_s: float = SCAN_FOR) -> bool:
        """Go on looking, for so long at most.

        Returns:
            Whether it is through, so that the rows are the new ones.
        """
        found = self._found
        until = time.perf_counter() + budget_s
        if found is None:
            if self.verifying and self.judge is not None:
                self.absorb(self.judge.verify(until))
            return not self.verifying
        while self._todo or self.verifying:
            if self.verifying and self.judge is not None:
                # Without the lock, so that the feed does not wait for it.
                self._todo += self.judge.verify(until)
                if time.perf_counter() >= until:
                    return False
            some = self._todo[-SLICE:]
            del self._todo[-SLICE:]
            with self._rows.lock:
                now = self._rows.now()
                # From the end on: what is in order already is sorted at once.
                for key in reversed(some):
                    if (member := self._ranked(key, now)) is not None:
                        found[key] = member
            if self._todo and time.perf_counter() >= until:
                return False
        if self.grouping == "none":
            self._keys.replace({key: rank for key, (_, rank, _) in found.items()})
        else:
            self._keys.replace(self._groups.replace(found))
        self._by_creation = self.order == "created" and self.grouping == "none" and not self.backwards
        late, self._late, self._found = self._late, set(), None
        self.absorb(late)
        return True


def state_spans(row: Row, stuck: str | None, ascii_only: bool) -> Sequence[Span]:
    """The state's glyph and word; one that is stuck says so by a sign and its style."""
    here = look(row.state)
    style = (
        "warn" if stuck in ("no_worker", "slow", "worker_lost", "lost", "version") and not here.style else here.style
    )
    spans: list[Span] = [(here.mark(ascii_only), style), (joined((literal(" "), here.word)), style)]
    if stuck and stuck != "backoff":
        spans.append((literal("!"), "error"))
    return spans


def why(row: Row, stuck: str | None, limit: int, *, ascii_only: bool = False) -> Sequence[Span]:
    """Why a workflow stands where it stands, and what is still to come; nothing where there is nothing to say."""
    spans = cause(row, stuck, limit, ascii_only=ascii_only)
    if (asked := row.asked) is None:
        return spans
    wish = (shown(asked.wish, limit, ascii_only=ascii_only), "warn")
    who = (shown(asked.operator or "somebody", limit, ascii_only=ascii_only), "")
    to_come: list[Span] = [wish, (literal(" asked for by "), "dim"), who]
    return [*spans, (literal("; "), "dim"), *to_come] if spans else to_come


def cause(row: Row, stuck: str | None, limit: int, *, ascii_only: bool = False) -> Sequence[Span]:
    """Why a workflow stands where it stands, in one line; nothing where there is nothing to say."""
    if stuck is not None and stuck != "backoff" and stuck in STUCK:
        return [(STUCK[stuck], "warn")]
    if row.erased_at:
        by = [(literal(" by "), "dim"), (shown(row.held_by, limit, ascii_only=ascii_only), "")] if row.held_by else []
        return [(literal("erased"), "warn"), *by]
    style = look(row.state).style
    if (cause := row.undone_for) is not None and row.state in (State.COMPENSATING, State.COMPENSATED):
        # Who asked for it outweighs what the step came to.
        error = None if cause.operator else cause.error
        return _said(error, cause.operator, cause.reason, style, limit, ascii_only)
    if row.state in (State.COMPLETED, State.RUNNING, State.QUEUED, State.COMPENSATING):
        return []
    return _said(row.error, row.held_by, row.reason, style, limit, ascii_only)


def _said(
    error: Mapping[str, str] | None, operator: str, reason: str, style: str, limit: int, ascii_only: bool
) -> Sequence[Span]:
    """The error that a step came to; else by whom and why; else only why."""
    if error is not None:
        kind = shown(error["type"], limit, ascii_only=ascii_only)
        message = shown(error["message"], limit, ascii_only=ascii_only)
        return [(joined((kind, _COLON)) if message else kind, style), (message, "")]
    if operator:
        words = shown(reason, limit, ascii_only=ascii_only)
        spans: list[Span] = [(literal("by "), "dim"), (shown(operator, limit, ascii_only=ascii_only), style)]
        return [*spans, (_COLON, "dim"), (words, "")] if words else spans
    word = shown(reason.replace("_", " "), limit, ascii_only=ascii_only)
    return [(word, style)] if word else []


def _backwards(text: str) -> tuple[int, ...]:
    """Ranks a text so that the highest rank, which comes first, is the first of a dictionary; the empty one is last."""
    return (*(-ord(character) for character in text[:_PREFIX].lower()), 1) if text else (-sys.maxunicode - 1,)


def _turned(rank: Rank) -> Rank:
    """A rank for the order turned round; of the ID, which decides where nothing else does, it is none."""
    *parts, key = rank
    return (*(tuple(-one for one in part) if isinstance(part, tuple) else -part for part in parts), key)


def _created(row: Row) -> float:
    created = parsed(row.created_at)
    return row.at if created is None else created


def one_line(spans: Iterable[Span]) -> SafeText:
    """The text of spans, without their styles."""
    return joined(text for text, _ in spans)
