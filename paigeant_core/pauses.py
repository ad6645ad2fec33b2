"""Activities that an operator paused for all their workers, and what is journalled of it.

A paused activity's messages stay in its queue: no worker claims one, so no attempt is
spent on a provider that is down. A step that runs is finished, and retries that come due
wait in the queue with the others. The pause is kept on the broker until somebody resumes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paigeant_core.clock import rfc3339
from paigeant_core.journal import Kind, Record
from paigeant_core.message import Headers
from paigeant_core.names import new_id

PAUSE = "pause activity"
RESUME = "resume activity"


@dataclass(frozen=True, slots=True)
class Pause:
    """Why workers leave an activity alone.

    Attributes:
        activity: which.
        operator: who paused it.
        reason: why.
        at: when, seconds since the Unix epoch.
    """

    activity: str
    operator: str
    reason: str
    at: float

    @property
    def said(self) -> str:
        """Who, when and why, for people."""
        return f"{self.operator} paused it at {rfc3339(self.at)}: {self.reason}"

    def to_document(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        return {"operator": self.operator, "reason": self.reason, "at": rfc3339(self.at)}


def switched(topic: str, activity: str, action: str, at: float, detail: dict[str, Any]) -> Record:
    """The journal's record that an activity was paused or resumed; it is of no workflow.

    Args:
        topic: the topic.
        activity: which.
        action: :data:`PAUSE` or :data:`RESUME`.
        at: now.
        detail: who, why, which operation.
    """
    headers = Headers(message_id=new_id(), topic=topic, activity=activity)
    return Record(Kind.OPERATED, headers, detail={"action": action, **detail}, at=at)


def switch_in(record: Record) -> str:
    """:data:`PAUSE` or :data:`RESUME`, where ``record`` says one of them; else empty."""
    if record.kind != Kind.OPERATED or record.headers.correlation_id:
        return ""
    action = record.detail.get("action")
    return action if action in (PAUSE, RESUME) else ""


def pause_of(record: Record) -> Pause:
    """The pause that ``record`` begins."""
    detail = record.detail
    return Pause(
        activity=record.headers.activity,
        operator=str(detail.get("operator", "")),
        reason=str(detail.get("reason", "")),
        at=record.at,
    )
