"""What a record says of a workflow that does not just move on: its error, whose word holds it, why it is undone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from paigeant_console.model.row import Asked, Row, Trouble, Undoing
from paigeant_console.model.times import parsed
from paigeant_core.clock import rfc3339
from paigeant_core.handoff import GO_ON, holder_of, wish_of
from paigeant_core.journal import ENDED, MAX_TIME, Kind, Record, State

__all__ = ["UNDOING", "ask", "settle", "tell", "tell_undoing"]

UNDOING: Final = frozenset({Kind.COMPENSATING, Kind.COMPENSATED})
"""What tells why a workflow is undone."""

# Looked up once, not with every record: a member of an enumeration is found by its class's __getattr__.
_ADVANCED, _FINISHED, _DISPATCHED, _RETRYING = Kind.ADVANCED, Kind.FINISHED, Kind.DISPATCHED, Kind.RETRYING
_WITH_TOKEN: Final = frozenset({Kind.RETRYING, Kind.HELD})
"""What tells until when a token is good."""
_GIVEN_UP: Final = frozenset({State.DEAD, State.COMPENSATION_FAILED})


def settle(row: Row, kind: str) -> None:
    """The workflow moved: what was to be said of where it stood does not hold any more."""
    trouble = row.trouble
    trouble.lost = trouble.quarantined = ""
    trouble.asked = None
    trouble.back_at = 0.0
    if trouble.running is None:
        trouble.ran_since, trouble.taken_from = 0.0, ""
    if kind in (_ADVANCED, _FINISHED):
        row.calm()
        return
    if kind == _DISPATCHED:
        trouble.reason = trouble.due_at = ""
    if kind != _RETRYING:
        trouble.most = None
        trouble.token_until = ""
    if not row.unwound:
        trouble.undoing = None


def ask(row: Row, record: Record) -> bool:
    """Keep what a record asks of the step at which the workflow stands; return whether anything is another now."""
    wish = wish_of(record)
    if not wish or record.headers.message_id != row.token:
        return False
    asked = None if wish == GO_ON else Asked(wish, _text(record.detail.get("operator")), record.at)
    if asked == row.asked:
        return False
    row.own_trouble().asked = asked
    row.revision += 1
    return True


def tell(row: Row, record: Record) -> None:
    """Keep what a record says beside where the workflow stands now."""
    detail, trouble = record.detail, row.own_trouble()
    error = detail.get("error")
    if isinstance(error, dict):
        trouble.error = _plain_error(error)
    elif record.kind == Kind.OPERATED or record.state in ENDED or (record.kind == Kind.HELD and "step" in detail):
        # Somebody acted, or the step was done: what failed before is not what it stands at now.
        trouble.error = None
    due_at, delay = detail.get("due_at") or detail.get("until"), detail.get("delay_s")
    if due_at is None and isinstance(delay, int | float) and 0 <= delay < MAX_TIME - record.at:
        due_at = rfc3339(record.at + delay)
    trouble.due_at = due_at if isinstance(due_at, str) else ""
    trouble.on_deadline = str(detail.get("on_deadline", ""))
    most = detail.get("max_attempts")
    trouble.most = most if isinstance(most, int) and record.kind == _RETRYING else None
    until = detail.get("token_expires_at")
    trouble.token_until = until if isinstance(until, str) and record.kind in _WITH_TOKEN else ""
    _tell_who(trouble, record)
    if record.kind in UNDOING:
        tell_undoing(row, record)


def _tell_who(trouble: Trouble, record: Record) -> None:
    """Who put it there, and in which words: not who brought it back there, or changed what lies ahead of it."""
    detail = record.detail
    stays = detail.get("action") in ("skip", "insert")
    if record.kind == Kind.OPERATED and record.state in _GIVEN_UP:
        if not stays:
            trouble.reason = trouble.held_by = ""
        return
    # Of a dead letter that an operator made, `reason` is the word for that, and `why` what they gave.
    trouble.reason = _text(detail.get("why")) or _text(detail.get("reason"))
    if record.kind != Kind.HELD:
        trouble.held_by = _text(detail.get("operator"))
        return
    holder = holder_of(record)
    if holder or not stays:
        trouble.held_by, trouble.held_on = _text(holder.get("operator")), _text(holder.get("worker"))
        trouble.held_since = parsed(_text(holder.get("since"))) or 0.0
    # Else what is known of the hold still holds; whoever wrote the record knew less.
    trouble.held_since = trouble.held_since or record.at


def tell_undoing(row: Row, record: Record) -> None:
    """Why it is undone: the record with which that began tells, and those of what was undone do not."""
    detail, trouble = record.detail, row.own_trouble()
    if trouble.erased_at:
        return
    if trouble.undoing is None and "undo" not in detail and detail.get("action", "compensate") == "compensate":
        error = detail.get("error")
        trouble.undoing = Undoing(
            error=_plain_error(error) if isinstance(error, dict) else None,
            operator=_text(detail.get("operator")),
            reason=_text(detail.get("reason")),
        )


def _plain_error(error: Mapping[str, Any]) -> dict[str, str]:
    return {"type": str(error.get("type", "")), "message": str(error.get("message", ""))}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
