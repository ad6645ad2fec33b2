"""The judge of the chaos runs: a file outside the library, and what can be read from it.

Handlers, workers and whoever kills them append one line each, so it is known what really ran, where and when, whatever
the library says of itself. All processes of a machine share the monotonic clock, so the lines can be compared. What was
handed on, and how often, is asked of the journal: there a hop is one record.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec

from paigeant_core.activity import ActivityContext
from paigeant_core.journal import Kind, Record

DISPATCHED = "dispatched"
"""The dispatcher was told that the workflow is stored."""
UNKNOWN = "unknown"
"""The dispatcher was told that nobody knows whether it is."""
BORN = "born"
STARTED = "started"
FINISHED = "finished"
KILLED = "killed"
ASKED = "asked"
"""A worker was asked to stop (SIGTERM)."""
DOWN = "down"
"""Broker or line went down; the note says which."""
UP = "up"

BROKER = "broker"
LINE = "line"

SLACK = 3.0
"""Seconds after a handler's end in which its hop may still be in the worker's hands, where nothing is down."""

NOTED = 0.05
"""Seconds by which a death is noted before it strikes: a handler may still start in them."""

RECOVERING = 40.0
"""Seconds after the broker is back in which workers may still start a hop anew, one epoch up, because of it."""

AFTERMATH = 15.0
"""Seconds after a line is back in which clients may still find out that it was gone."""


class Event(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """One line."""

    what: str
    at: float
    workflow: str = ""
    activity: str = ""
    hop: int = 0
    run: int = 0
    attempt: int = 0
    epoch: int = 0
    key: str = ""
    worker: str = ""
    pid: int = 0
    note: str = ""


_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Event).decode


class Ledger:
    """A file that any number of processes append to.

    Args:
        path: the file; made when it is not there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def close(self) -> None:
        os.close(self._fd)

    def note(self, what: str, *, at: float | None = None, **fields: str | int) -> None:
        """Append one event, in one write: who is killed right behind it has it in the file."""
        event = Event(what=what, at=time.monotonic() if at is None else at, **fields)  # type: ignore[arg-type]
        # A newline on both sides: a line torn by a SIGKILL takes no other with it.
        os.write(self._fd, b"\n" + _encode(event) + b"\n")

    def step(self, what: str, ctx: ActivityContext) -> None:
        """Append an event of a handler's."""
        self.note(
            what,
            workflow=ctx.correlation_id,
            activity=ctx.activity,
            hop=ctx.hop,
            run=ctx.run,
            attempt=ctx.attempt,
            epoch=ctx.epoch,
            key=ctx.idempotency_key,
            worker=ctx.worker,
            pid=os.getpid(),
        )

    def read(self) -> list[Event]:
        """All events, by time, each with the worker's name where only its process ID was known."""
        return _named(sorted(self.since(0)[0], key=lambda event: event.at))

    def since(self, offset: int) -> tuple[list[Event], int]:
        """The events behind an offset in the file, and the offset to go on from."""
        with self.path.open("rb") as file:
            file.seek(offset)
            data = file.read()
        end = data.rfind(b"\n") + 1
        events = []
        for line in data[:end].split(b"\n"):
            try:
                if line:
                    events.append(_decode(line))
            except msgspec.MsgspecError:
                continue  # torn
        return events, offset + end


# -- what is lost ---------------------------------------------------------------------------


def confirmed(events: Iterable[Event]) -> dict[str, float]:
    """The workflows that the dispatcher was told are stored, and when."""
    return {event.workflow: event.at for event in events if event.what == DISPATCHED}


def unsure(events: Sequence[Event]) -> set[str]:
    """The workflows of which the dispatcher was told in the end that nobody knows."""
    return {event.workflow for event in events if event.what == UNKNOWN} - confirmed(events).keys()


def through(events: Iterable[Event], steps: int) -> set[str]:
    """The workflows whose handlers came to an end in every hop from the first to the last."""
    done: dict[str, set[int]] = defaultdict(set)
    for event in events:
        if event.what == FINISHED:
            done[event.workflow].add(event.hop)
    return {workflow for workflow, hops in done.items() if hops >= set(range(1, steps + 1))}


def lost(events: Sequence[Event], steps: int) -> set[str]:
    """The workflows that were confirmed, and whose handlers did not all come to an end."""
    return confirmed(events).keys() - through(events, steps)


# -- what is twice --------------------------------------------------------------------------

_HANDED_ON = frozenset({Kind.ADVANCED, Kind.FINISHED})

Hop = tuple[str, int, int, int]
"""Workflow, run, hop, epoch."""


def handed_on_twice(records: Iterable[Record]) -> dict[Hop, int]:
    """The hops that more than one record of the journal hands on, and how many do."""
    counts: dict[Hop, int] = defaultdict(int)
    for record in records:
        if record.kind in _HANDED_ON:
            headers = record.headers
            counts[headers.correlation_id, headers.run, int(record.detail["hop"]), headers.epoch] += 1
    return {hop: count for hop, count in counts.items() if count > 1}


def crossed(events: Sequence[Event]) -> set[tuple[str, int, int]]:
    """The hops (workflow, run, hop) that workers were handing on as the broker went down, or was down."""
    broker = outages(events, BROKER)
    return {
        (event.workflow, event.run, event.hop)
        for event in events
        if event.what == FINISHED and any(down - SLACK <= event.at <= up + SLACK for down, up in broker)
    }


def forks(events: Sequence[Event]) -> dict[tuple[str, int], int]:
    """By workflow and run: the first hop that a crash of the broker crossed and that came to its end more than once.

    Two copies of what follows may be under way from there on, and no later crash is needed for any hop of theirs.
    """
    across = crossed(events)
    found: dict[tuple[str, int], int] = {}
    for _, ends in _by_hop(events):
        if len(ends) > 1 and (hop := (ends[0].workflow, ends[0].run, ends[0].hop)) in across:
            found[hop[:2]] = min(hop[2], found.get(hop[:2], hop[2]))
    return found


@dataclass(frozen=True, slots=True)
class Again:
    """A handler that was started again for the same hop and attempt.

    Attributes:
        key: the idempotency key.
        first: the start before.
        second: this start.
        cause: ``worker``, ``asked``, ``broker`` or ``line``, whichever was lost; empty: none was.
    """

    key: str
    first: Event
    second: Event
    cause: str


def started_again(events: Sequence[Event]) -> list[Again]:
    """Every start of a handler but the first of its hop and attempt, and what was lost in between."""
    deaths = {event.worker: event for event in events if event.what in (KILLED, ASKED) and event.worker}
    broker, line = outages(events, BROKER), outages(events, LINE)
    found = []
    for starts, ends in _by_hop(events):
        for first, second in pairwise(starts):
            end = min((e.at for e in ends if e.worker == first.worker and e.at >= first.at), default=second.at)
            found.append(Again(first.key, first, second, _cause(first, second, end, deaths, broker, line)))
    return found


def _cause(
    first: Event,
    second: Event,
    end: float,
    deaths: dict[str, Event],
    broker: Sequence[tuple[float, float]],
    line: Sequence[tuple[float, float]],
) -> str:
    # What was down kept the settle waiting: it was in the worker's hands for as long.
    held_until = end + SLACK
    for _ in range(3):
        for down, up in (*broker, *line):
            if first.at <= up and down <= held_until:
                held_until = max(held_until, up + SLACK)
    death = deaths.get(first.worker)
    if death is not None and first.at - NOTED <= death.at <= min(second.at, held_until):
        return "worker" if death.what == KILLED else "asked"
    for cause, spans, aftermath in ((BROKER, broker, SLACK), (LINE, line, AFTERMATH)):
        for down, up in spans:
            if down <= second.at and down <= held_until and up + aftermath >= first.at:
                return cause
    if second.epoch > first.epoch and any(up <= second.at <= up + RECOVERING for _, up in broker):
        return BROKER
    return ""


def _by_hop(events: Iterable[Event]) -> Iterator[tuple[list[Event], list[Event]]]:
    starts: dict[tuple[str, int], list[Event]] = defaultdict(list)
    ends: dict[tuple[str, int], list[Event]] = defaultdict(list)
    for event in events:
        if event.what == STARTED:
            starts[event.key, event.attempt].append(event)
        elif event.what == FINISHED:
            ends[event.key, event.attempt].append(event)
    for hop, found in starts.items():
        yield found, ends[hop]


def together(events: Sequence[Event]) -> list[tuple[Event, Event]]:
    """Starts of a hop's handler while the one before was still running in a worker that was alive."""
    died = {event.worker: event.at for event in events if event.what == KILLED}
    found = []
    for starts, ends in _by_hop(events):
        for first, second in pairwise(starts):
            if first.worker == second.worker and first.worker not in died:
                continue  # one worker, twice: told by its own end
            end = min((e.at for e in ends if e.worker == first.worker and e.at >= first.at), default=1e18)
            if min(end, died.get(first.worker, 1e18)) > second.at:
                found.append((first, second))
    return found


# -- how long -------------------------------------------------------------------------------


def outages(events: Iterable[Event], what: str) -> list[tuple[float, float]]:
    """From when to when the broker or the line was down."""
    spans: list[tuple[float, float]] = []
    since: float | None = None
    for event in events:
        if event.note.partition(" ")[0] != what:
            continue
        if event.what == DOWN and since is None:
            since = event.at
        elif event.what == UP and since is not None:
            spans.append((since, event.at))
            since = None
    if since is not None:
        spans.append((since, 1e18))
    return spans


def takeovers(events: Sequence[Event]) -> list[float]:
    """Seconds from each worker's death to the next start of what it ran.

    Not where the broker was down meanwhile, nor where it had just come back and the step was published anew, one epoch
    up: that one stands at the end of its queue, and waits for its turn.
    """
    deaths = {event.worker: event.at for event in events if event.what == KILLED and event.worker}
    down = outages(events, BROKER)
    found = []
    for starts, ends in _by_hop(events):
        for first, second in pairwise(starts):
            died = deaths.get(first.worker)
            if died is None or not first.at <= died <= second.at:
                continue
            if any(first.at <= e.at <= died for e in ends if e.worker == first.worker):
                continue  # it had run to its end
            anew = RECOVERING if second.epoch > first.epoch else 0.0
            if not any(since <= second.at and died <= until + anew for since, until in down):
                found.append(second.at - died)
    return found


def recoveries(events: Sequence[Event], what: str = BROKER) -> list[float]:
    """Seconds from each return of the broker to the next start of a handler."""
    starts = [event.at for event in events if event.what == STARTED]
    found = []
    for _, up in outages(events, what):
        index = bisect_left(starts, up)
        if index < len(starts):
            found.append(starts[index] - up)
    return found


def pauses(events: Sequence[Event], what: str = BROKER, after: float = 30.0) -> list[float]:
    """The longest time without a start of a handler, from each outage's begin until `after` seconds behind its end."""
    starts = [event.at for event in events if event.what == STARTED]
    found = []
    for down, up in outages(events, what):
        near = [at for at in starts if down - 1 <= at <= up + after]
        found.append(max((second - first for first, second in pairwise(near)), default=0.0))
    return found


def rate(events: Iterable[Event], since: float, until: float) -> float:
    """Steps that came to an end per second between two times."""
    if until <= since:
        return 0.0
    return sum(event.what == FINISHED and since <= event.at < until for event in events) / (until - since)


def _named(events: Iterable[Event]) -> list[Event]:
    names: dict[int, str] = {}
    done = []
    for event in events:
        if event.what == BORN:
            names[event.pid] = event.worker
        elif not event.worker and event.pid in names:
            event = msgspec.structs.replace(event, worker=names[event.pid])
        done.append(event)
    return done
