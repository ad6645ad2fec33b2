"""How transitions and deliveries are written for the scripts, and read from the streams."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from paigeant_core.errors import DecodeError
from paigeant_core.journal import Record
from paigeant_core.limits import JOURNAL_AGE, PARKED_AGE
from paigeant_core.transition import Place, Transition
from paigeant_core.transports.redis.keys import GROUP, Keys
from paigeant_core.transports.redis.scripts import (
    ASK,
    BACK,
    CLAIM,
    ERASE,
    JOIN,
    LATE,
    LEAVE,
    MOVE,
    TAKEOVER,
    WITNESS,
    Argument,
    Command,
)
from paigeant_core.transports.types import Delivery

Mode: TypeAlias = Literal["settle", "operate", "unclaimed", "dispatch", "defer"]
Token: TypeAlias = tuple[str, str]
"""Activity and stream entry of a claimed message."""
Found: TypeAlias = tuple[str, int, Sequence[Any]]
"""Activity, workers that died with it in this group, and the entry: its ID and its fields."""

_PARKED = frozenset({Place.DEAD, Place.HELD, Place.QUARANTINE})


class Move:
    """One transition, written for the ``move`` script.

    Args:
        keys: the topic's.
        mode: who asks.
        transition: what is to be done.
        expect: what the workflow's fence must stand at.
        claimed: activity and entry of the copy it was made from.
        fresh: the activity may be unknown to the topic.
    """

    __slots__ = ("arguments", "keys")

    def __init__(
        self,
        keys: Keys,
        mode: Mode,
        transition: Transition,
        *,
        expect: str = "",
        claimed: Token | None = None,
        fresh: bool = False,
    ) -> None:
        record = transition.record
        headers = record.headers
        place = transition.place
        target = keys.journal
        delay, kept = transition.delay, 0
        deadline = transition.deadline
        if place is Place.WORK or place is Place.DELAYED:
            target = keys.work(headers.activity)
        else:
            if place in _PARKED:
                target = keys.parked(place)
            if deadline is not None:
                delay = deadline.delay
            kept = _keep(place, delay)
        self.keys = [
            keys.workflow(headers.correlation_id),
            target,
            keys.journal if claimed is None else keys.work(claimed[0]),
        ]
        # Words that cannot hold a space go in one argument: each costs on both sides. IDs may hold anything.
        control = (
            f"{mode} {place} {headers.activity} {record.state} {headers.epoch} {headers.run} {headers.hop}"
            f" {headers.attempt} {kept} {1 if fresh else 0} {round(delay * 1000)}"
            f" {len(transition.before)} {0 if deadline is None else 1} {transition.mark or '-'}"
        )
        self.arguments: list[Argument] = [
            control,
            headers.correlation_id,
            expect,
            "" if claimed is None else claimed[1],
            record.id,
            record.encode_meta(),
            record.body or b"",
        ]
        if transition.before:
            self.arguments += [note.encode_meta() for note in transition.before]
        if deadline is not None:
            self.arguments += [
                deadline.record.encode_meta(),
                deadline.record.body or b"",
                deadline.place.value,
                deadline.record.headers.activity,
                deadline.record.state,
                deadline.record.id,
                _keep(deadline.place, 0.0),
            ]


def move(keys: Keys, moves: list[Move]) -> Command:
    """The command that does all ``moves``."""
    names = keys.moving
    arguments: list[Argument] = [len(moves)]
    for item in moves:
        names += item.keys
        arguments += item.arguments
    return MOVE(names, arguments)


def late(keys: Keys, record: Record, token: Token) -> Command:
    """Journal a result that came too late, and take its copy out of the queue."""
    activity, entry = token
    return LATE(
        [keys.journal, keys.workflow(record.headers.correlation_id), keys.work(activity)],
        [record.id, entry, record.encode_meta(), record.body or b""],
    )


def ask(keys: Keys, asked: Record, expect: str) -> Command:
    """Ask for something at the hand-off of a step."""
    headers = asked.headers
    return ASK(
        [keys.journal, keys.workflow(headers.correlation_id)],
        [asked.id, expect, headers.message_id, asked.encode_meta()],
    )


def erase(keys: Keys, marker: Record, expect: str) -> Command:
    """Erase a workflow."""
    headers = marker.headers
    return ERASE(
        [keys.journal, keys.delayed, keys.workflow(headers.correlation_id), keys.dead, keys.held, keys.quarantine],
        [
            headers.correlation_id,
            expect,
            marker.id,
            marker.encode_meta(),
            marker.state,
            headers.epoch,
            round(PARKED_AGE * 1000),
        ],
    )


def witness(keys: Keys, correlation_id: str, token: Token) -> Command:
    """What the fence knows of the workflow of a claimed message."""
    activity, entry = token
    return WITNESS([keys.workflow(correlation_id), keys.work(activity)], [entry])


def back(keys: Keys, worker: str, tokens: Sequence[Token]) -> Command:
    """Give copies back to their queues."""
    streams = [keys.work(activity) for activity, _ in tokens]
    return BACK([keys.journal, *streams], [worker, *(entry for _, entry in tokens)])


def claim(keys: Keys, worker: str, names: Sequence[str], slots: int) -> Command:
    """Take what waits for the activities ``names``, and do not wait for it."""
    return CLAIM([keys.work(name) for name in names], [worker, slots])


def takeover(keys: Keys, worker: str, names: Sequence[str], lease: float, slots: int, held: Iterable[Token]) -> Command:
    """Take over what nobody renewed for ``lease`` seconds, or for its holder's own lease where that is longer.

    0: what this worker does not know it holds.
    """
    number = {name: index for index, name in enumerate(names, start=1)}
    known = [f"{number[activity]}:{entry}" for activity, entry in held if activity in number]
    arguments: list[Argument] = [worker, round(lease * 1000), slots, keys.worker(""), *known]
    return TAKEOVER([keys.work(name) for name in names], arguments)


def waiting_read(keys: Keys, worker: str, names: Sequence[str], slots: int, millis: int) -> Command:
    """Wait for work; from several queues at once it may be more than the slots."""
    count = max(1, slots // len(names))
    options = ("GROUP", GROUP, worker, "COUNT", count, "BLOCK", millis, "STREAMS")
    return ("XREADGROUP", *options, *[keys.work(name) for name in names], *[">"] * len(names))


def join(keys: Keys, names: Sequence[str]) -> Command:
    """Make the activities known, and their queues ready to be read."""
    return JOIN([keys.activities, *map(keys.work, names)], [*names])


def leave(keys: Keys, worker: str, names: Sequence[str], record: Record) -> Command:
    """Give back everything that this worker holds, and journal that it stopped."""
    own = [keys.journal, keys.workers, keys.worker(worker)]
    return LEAVE(own + [keys.work(name) for name in names], [worker, record.encode_meta()])


def _keep(place: Place, delay: float) -> int:
    """Milliseconds for which a workflow's hash is kept; 0: as long as it lives."""
    if place is Place.NOWHERE:
        return round(JOURNAL_AGE * 1000)
    if place in _PARKED:
        return round((PARKED_AGE + delay) * 1000)
    return 0


def delivery_of(found: Found) -> Delivery:
    """What was claimed, as it is handed out."""
    activity, deaths, (entry, fields) = found
    if len(fields) == 2 and fields[0] == b"m":
        body = fields[1]
    else:
        body, before = body_of(fields)
        deaths += before
    return Delivery(body=body, activity=activity, deaths=deaths, token=(activity, entry.decode()))


def body_of(fields: list[bytes]) -> tuple[bytes, int]:
    """The message in a work entry, and how many workers had died with it when it was put there."""
    named = dict(zip(fields[::2], fields[1::2], strict=False))
    body = named.get(b"m")
    if body is not None:
        deaths = named.get(b"d", b"0")
        return body, int(deaths) if deaths.isdigit() and len(deaths) < 6 else 0
    # Nobody's message: what it holds is kept as text, and admission quarantines it.
    shown = [[_text(name), _text(value)] for name, value in zip(fields[::2], fields[1::2], strict=False)]
    return msgspec.json.encode(shown), 0


def records_of(entries: list[Any]) -> list[Record]:
    """The records in entries of the journal, without the entries that are none."""
    found: list[Record] = []
    decode = Record.decode
    for entry in entries:
        fields: list[bytes] = entry[1]
        whole = len(fields) == 4 or (len(fields) == 6 and fields[4] == b"b")
        if whole and fields[0] == b"r" and fields[2] == b"m":
            # As our scripts write it, which is nearly always; done here, as a long journal has millions of them.
            position: str = entry[0].decode()
            try:
                found.append(decode(fields[1], fields[3], position, int(position[: position.index("-")]) / 1000))
            except DecodeError:
                continue
        elif (record := record_of(entry)) is not None:
            found.append(record)
    return found


def record_of(entry: list[Any], *, parked: bool = False) -> Record | None:
    """The record in an entry of the journal (or of a parked stream); None: it is none."""
    position: str = entry[0].decode()
    fields: list[bytes] = entry[1]
    at = at_of(position)
    try:
        named = dict(zip(fields[::2], fields[1::2], strict=False))
        if parked:
            position = named.get(b"p", b"").decode("ascii", "replace")
        return Record.decode(named[b"r"], named.get(b"m"), position, at)
    except (KeyError, DecodeError):
        return None


def at_of(position: str) -> float:
    """The server's time in a stream ID, in seconds."""
    return int(position.partition("-")[0]) / 1000


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
