"""A program for `test_pty_console.py`: the whole console on a broker in which every text is hostile.

python -m tests.console.hostile_console [--ascii]
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Sequence

from paigeant_console.app import run
from paigeant_console.config import load_look
from paigeant_core.journal import Kind, Record
from paigeant_core.message import Headers
from paigeant_core.routing import ActivitySpec
from paigeant_core.transports.memory.broker import Entry
from tests.console.corpus import Case, hostile_cases
from tests.console.story import START, Failure, Story

ALL = "all-of-it"


def hostile_story(cases: Sequence[Case]) -> Story:
    """Each text as name, label, payload value, argument, error, reason, worker, activity, ID, queue, operator."""
    story = Story()
    for number, case in enumerate(cases):
        _one(story, f"c{number:02}", case)
    everything = {case.name: case.text[:4000] for case in cases}
    texts = _sayable("".join(everything.values()))[:2000]
    story.start(ALL, [ActivitySpec(name="charge", arguments={"texts": texts})], _json(everything))
    story.fails(ALL, Failure(" ".join(everything.values())), delay=1)
    story.fails(ALL, Failure(" ".join(reversed(everything.values()))))
    return story


def _one(story: Story, correlation_id: str, case: Case) -> None:
    text = case.text[:2000]
    said = _sayable(text)
    labels = {said[:64]: said[:200]} if said else {}
    steps = [
        ActivitySpec(name="validate", arguments={"text": said}),
        ActivitySpec(name="charge", arguments={said[:60]: said}),
    ]
    story.worker = said
    story.start(correlation_id, steps, _json({"text": text, text: [text]}), name=said[:200], labels=labels)
    story.done(correlation_id, {said[:60] or "x": said})
    story.fails(correlation_id, Failure(text), delay=5)
    story.fails(correlation_id, Failure(text))
    story.start(f"{correlation_id}-held", steps, name=said[:200])
    story.done(f"{correlation_id}-held", hold=said or "x")
    story.start(f"{correlation_id}-runs", steps, name=said[:200])
    story.runs(said or "w", f"{correlation_id}-runs", activities=[said])
    entry = {"at": text, "operator": text, "action": text, "reason": text, "targets": text, "outcome": text}
    story._do(story.transport().append_audit(story.topic, json.dumps(entry).encode()))
    story._do(story.transport().append_audit(story.topic, text.encode("utf-8", "surrogatepass")))
    began = {"operator": text, "action": {"name": text}, "reason": text, "pace": {"rate": 5}, "by": text}
    for event in ({"event": "started", **began}, {"event": "paused", "said": text}):
        told = {"operation_id": text or "x", "at": "2026-01-01T10:00:00.000Z", **event}
        story._do(story.transport().append_operation(story.topic, json.dumps(told).encode()))
    # What no worker of ours would write, but whoever can reach the broker can.
    headers = Headers(correlation_id=said or "x", name=said, activity=said, labels=said, created_at=said, hop=1)
    detail = {"step": said, "error": {"type": said, "message": said}, "reason": said, "due_at": said, "action": said}
    with story.broker.topic(story.topic) as state:
        for kind, status in ((Kind.RETRYING, "retrying"), (said, said), (Kind.OPERATED, "dead"), (Kind.WORKER, "")):
            state.append(
                Record(
                    kind,
                    headers,
                    state=status,
                    worker=said,
                    detail=dict(detail),
                    body=text.encode("utf-8", "surrogatepass"),
                )
            )
        state.work.setdefault(said, deque()).append(Entry(b"", said, START))


def _sayable(text: str) -> str:
    """The text without lone surrogates, which nothing but an escape in JSON can carry."""
    return text.encode("utf-8", "ignore").decode()


def _json(value: object) -> bytes:
    """A payload with its texts raw where JSON allows it, as a hostile publisher would write it."""
    return _sayable(json.dumps(value, ensure_ascii=False)).encode()


if __name__ == "__main__":
    told = hostile_story(hostile_cases())
    sys.exit(
        run(
            "memory://story",
            told.topic,
            context="test",
            look=load_look({}, ascii="--ascii" in sys.argv),
            connect=told.transport,
        )
    )
