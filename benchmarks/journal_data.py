"""Journals to measure with: the records of many workflows, as our own transitions write them.

They are made once a process and varied by byte replacement, so that making them costs little beside reading them.
"""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Iterator
from typing import NamedTuple

from paigeant_core import transition as moves
from paigeant_core.dispatcher import new_workflow
from paigeant_core.journal import Record
from paigeant_core.message import PaigeantMessage
from paigeant_core.transition import Span

START = 1_790_000_000.0
"""When the first record was journalled, seconds since the Unix epoch."""


class Entry(NamedTuple):
    """One record as it lies on a broker."""

    meta: bytes
    body: bytes


def payload_of(size: int) -> bytes:
    """A payload of ``size`` bytes."""
    head = {"customer_email": "ann@example.com", "pad": ""}
    return json.dumps({**head, "pad": "x" * (size - len(json.dumps(head)))}).encode()


def story(steps: list[str], payload: int = 1024, *, name: str = "onboarding") -> list[Entry]:
    """The records of one workflow from dispatch to its end: one more than it has steps."""
    message = new_workflow(steps, payload_of(payload), topic="bench", at=START, name=name, labels={"tier": "premium"})
    written = [moves.dispatch(message, START).record]
    for number in range(len(steps)):
        message = PaigeantMessage.decode(written[-1].body or b"")
        at = START + number + 1
        written.append(moves.done(message, None, Span(worker="worker-1", started_at=at - 0.5, completed_at=at)).record)
    return [Entry(record.encode_meta(), record.body or b"") for record in written]


def journal(workflows: int, steps: int = 5, *, activities: int = 10, payload: int = 1024) -> Iterator[Entry]:
    """The records of so many workflows, a thousand of them under way at a time.

    Args:
        workflows: how many; each has ``steps`` + 1 records.
        steps: of each.
        activities: names that the steps are taken from.
        payload: bytes of each message's payload.
    """
    chance = random.Random(7)
    # Few kinds are made, but all activities are in them.
    firsts = range(activities) if activities <= 20 else range(0, activities, max(1, min(steps, activities // 20)))
    kinds = [
        story([f"activity-{(first + step) % activities}" for step in range(steps)], payload, name=f"kind-{first}")
        for first in firsts
    ]
    marks = [_ids(kind) for kind in kinds]
    under_way: list[tuple[int, int, list[bytes]]] = []
    begun = 0
    while begun < workflows or under_way:
        if begun < workflows and len(under_way) < 1000:
            number = begun % len(kinds)
            fresh = [secrets.token_hex(16).encode() for _ in marks[number]]
            under_way.append((number, 0, fresh))
            begun += 1
        slot = chance.randrange(len(under_way))
        number, at, fresh = under_way[slot]
        meta, body = kinds[number][at]
        for old, new in zip(marks[number], fresh, strict=True):
            meta, body = meta.replace(old, new), body.replace(old, new, 1)
        yield Entry(meta, body)
        if at + 1 < len(kinds[number]):
            under_way[slot] = (number, at + 1, fresh)
        else:
            under_way[slot] = under_way[-1]
            del under_way[-1]


def _ids(entries: list[Entry]) -> list[bytes]:
    """What differs from workflow to workflow: its correlation ID and its messages' IDs."""
    records = [Record.decode(entry.meta, entry.body, position="1") for entry in entries]
    return [records[0].headers.correlation_id.encode(), *(record.headers.message_id.encode() for record in records)]
