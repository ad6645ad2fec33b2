"""How states and steps look: a glyph, its ASCII twin, a word and the name of a style; colour never says it alone.

Every glyph is one cell wide and of the basic plane, so that terminals agree on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from paigeant_console.model.text import Span
from paigeant_console.safe_text import SafeText, literal, safe
from paigeant_core.journal import Kind, State

__all__ = [
    "ARROW",
    "DONE",
    "FAILED",
    "KINDS",
    "SKIPPED",
    "STATES",
    "STUCK",
    "TO_COME",
    "UNDONE",
    "URGENT",
    "Look",
    "kind_look",
    "look",
    "times_glyph",
]


@dataclass(frozen=True, slots=True)
class Look:
    """How one state is drawn.

    Attributes:
        glyph: one cell.
        twin: the same in ASCII.
        style: a style of the line table.
        word: what people call it.
    """

    glyph: SafeText
    twin: SafeText
    style: str
    word: SafeText

    def mark(self, ascii_only: bool) -> SafeText:
        """The glyph, or its twin."""
        return self.twin if ascii_only else self.glyph

    def spans(self, ascii_only: bool) -> tuple[Span, Span]:
        """Glyph and word."""
        return (self.mark(ascii_only), self.style), (literal(f" {self.word}"), self.style)


def _look(glyph: str, twin: str, style: str, word: str) -> Look:
    return Look(literal(glyph), literal(twin), style, literal(word))


STATES: Final[Mapping[str, Look]] = {
    State.QUEUED: _look("○", "[.]", "", "queued"),
    State.RUNNING: _look("▶", "[>]", "info", "running"),
    State.RETRYING: _look("↻", "[~]", "warn", "retrying"),
    State.HELD: _look("‖", "[=]", "warn", "held"),
    State.COMPENSATING: _look("↶", "[<]", "warn", "compensating"),
    State.COMPENSATION_FAILED: _look("⊗", "[#]", "error", "undo failed"),
    State.DEAD: _look("✗", "[!]", "error", "dead"),
    State.QUARANTINED: _look("⊘", "[?]", "error", "quarantined"),
    State.COMPLETED: _look("✓", "[x]", "ok", "completed"),
    State.COMPENSATED: _look("⇤", "[u]", "dim", "compensated"),
    State.CANCELLED: _look("⊖", "[-]", "dim", "cancelled"),
}
"""How a workflow in a state, and its current step, are drawn; urgent ones are told apart by shape."""

DONE: Final = _look("✓", "[x]", "ok", "done")
TO_COME: Final = _look("·", "[ ]", "dim", "to do")
UNDONE: Final = _look("↶", "[<]", "dim", "undone")
FAILED: Final = _look("✗", "[!]", "error", "failed")
SKIPPED: Final = _look("–", "[-]", "dim", "skipped")
UNKNOWN: Final = _look("?", "[?]", "warn", "unknown")

URGENT: Final = (
    State.DEAD,
    State.COMPENSATION_FAILED,
    State.QUARANTINED,
    State.HELD,
    State.RETRYING,
    State.COMPENSATING,
    State.RUNNING,
    State.QUEUED,
    State.CANCELLED,
    State.COMPENSATED,
    State.COMPLETED,
)
"""States by how much they want somebody's eye; the order of counts and of sorting by state."""

STUCK: Final[Mapping[str, SafeText]] = {
    "no_worker": literal("no worker serves it"),
    "worker_lost": literal("its worker was lost"),
    "slow": literal("slower than usual"),
    "backoff": literal("waits for its next try"),
    "poison": literal("its workers died"),
    "token_expired": literal("token expired"),
    "version": literal("needs a newer worker"),
    "lost": literal("lost by the broker"),
    "paused": literal("its activity is paused"),
    "quarantined": literal("its message was quarantined"),
}
"""The contract's words for why a workflow does not move, in people's."""

KINDS: Final[Mapping[str, str]] = {
    Kind.DISPATCHED: "",
    Kind.ADVANCED: "ok",
    Kind.FINISHED: "ok",
    Kind.RETRYING: "warn",
    Kind.FAILED: "error",
    Kind.HELD: "warn",
    Kind.RELEASED: "info",
    Kind.DEAD_LETTERED: "error",
    Kind.COMPENSATING: "warn",
    Kind.COMPENSATED: "dim",
    Kind.COMPENSATION_FAILED: "error",
    Kind.CANCELLED: "dim",
    Kind.SUPERSEDED: "dim",
    Kind.QUARANTINED: "error",
    Kind.OPERATED: "info",
    Kind.WORKER: "dim",
}
"""Styles of the journal's kinds."""

ARROW: Final[Mapping[bool, SafeText]] = {False: literal(" → "), True: literal(" > ")}
"""Between two steps; in ASCII with True."""


def look(state: str) -> Look:
    """How a state is drawn; one that this console does not know as itself."""
    known = STATES.get(state)
    return known if known is not None else Look(UNKNOWN.glyph, UNKNOWN.twin, UNKNOWN.style, safe(state, 20))


def kind_look(kind: str) -> Span:
    """A journal kind and its style."""
    return safe(kind.replace("_", " "), 24), KINDS.get(kind, "")


def times_glyph(number: int, ascii_only: bool) -> SafeText:
    """``×2``."""
    return literal(f"x{number}" if ascii_only else f"×{number}")
