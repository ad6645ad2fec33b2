"""Why does it not move? One sentence with its evidence, and what can be done about it.

The screen and `show` say the same sentence. It is made of the workflow's row, of what
living workers report, and of what the journal tells of workers that do not live any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from paigeant_console.actions import by_id, key_of, keys_of
from paigeant_console.model.fold import Fold, Sign
from paigeant_console.model.looks import STUCK, look
from paigeant_console.model.row import Row
from paigeant_console.model.text import EMPTY, shown
from paigeant_console.model.times import countdown, day_and_time, parsed, spoken
from paigeant_console.model.workflow_list import one_line, why
from paigeant_console.safe_text import SafeText, joined, literal, safe
from paigeant_core.journal import State

__all__ = ["Explanation", "Remedy", "explain", "keys_line"]

_NAME: Final = 64
_TEXT: Final = 300
_COLON: Final = literal(": ")


@dataclass(frozen=True, slots=True)
class Remedy:
    """What can be done about it.

    Attributes:
        act: the action of the table, and the command, that does it; empty: something to be done elsewhere.
        does: what it does, as the rest of a sentence.
        flags: what stands behind the command; the key asks for it.
    """

    act: str
    does: SafeText
    flags: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a workflow stands where it stands.

    Attributes:
        sentence: with its evidence.
        style: of the line table.
        remedies: what can be done, the likeliest first.
    """

    sentence: SafeText
    style: str
    remedies: tuple[Remedy, ...] = ()


def _remedy(act: str, does: str) -> Remedy:
    return Remedy(act, literal(does))


_NOW: Final = _remedy("retry", "runs it now")
_AGAIN: Final = _remedy("retry", "runs the step again")
_MENDED: Final = _remedy("replay", "replays with a mended payload")
_PARK: Final = _remedy("dead-letter", "parks it among the dead letters")
_SKIP: Final = _remedy("skip", "skips this step")


def explain(fold: Fold, row: Row, now: float, *, ascii_only: bool = False) -> Explanation | None:
    """Why a workflow does not move; None where there is nothing to say: it moves, or it is done.

    Args:
        fold: that knows the row.
        row: which workflow.
        now: seconds since the Unix epoch.
        ascii_only: write ASCII only.
    """
    say = _Words(fold, row, now, ascii_only)
    stuck = fold.stuck(row, now)
    if row.state == State.HELD and row.reason == "token_sealed":
        return Explanation(say.token_expired(), "warn", _REMEDIES["token_sealed"])
    if row.state == State.HELD and stuck != "token_expired":
        return Explanation(say.held(), "warn", _REMEDIES[State.HELD])
    if stuck is not None:
        sentence = _SENTENCES[stuck](say) if stuck in _SENTENCES else STUCK.get(stuck, safe(stuck, _NAME))
        return Explanation(sentence, look(row.state).style or "warn", _REMEDIES.get(stuck, (_AGAIN,)))
    reason = say.reason()
    if not reason:
        return None
    return Explanation(reason, look(row.state).style or "warn", _REMEDIES.get(row.state, ()))


def keys_line(explanation: Explanation, *, read_only: bool = False, commands: bool = False) -> SafeText:
    """What can be done, by key: ``r runs it now; d parks it``; empty: nothing.

    Args:
        explanation: of what.
        read_only: what writes is refused, so it is left out.
        commands: name commands in place of keys.
    """
    words = []
    for remedy in explanation.remedies:
        if not remedy.act:
            words.append(remedy.does)
        elif keys_of(by_id(remedy.act)) and not read_only:
            command = literal(f"`{remedy.act}{remedy.flags}`")
            words.append(joined((command if commands else key_of(remedy.act), literal(" "), remedy.does)))
    return joined(words, literal("; "))


class _Words:
    """The sentences about one workflow."""

    def __init__(self, fold: Fold, row: Row, now: float, ascii_only: bool) -> None:
        self._fold = fold
        self._row = row
        self._now = now
        self._ascii = ascii_only

    def no_worker(self) -> SafeText:
        """Nobody serves its step."""
        row, sign = self._row, self._fold.signs.get(self._row.headers.activity)
        waiting = [literal("waiting "), spoken(self._now - row.at), literal(": no worker serves "), self._step()]
        return joined([*waiting, literal(" ("), self._last(sign), literal(")")])

    def worker_lost(self) -> SafeText:
        """Who ran it reports no more."""
        row = self._row
        ago = joined((literal(" "), spoken(self._now - row.lost_at), literal(" ago"))) if row.lost_at else EMPTY
        served = self._fold.serves(row.headers.activity)
        then = (
            literal("; another will take it over") if served else joined((literal("; no other serves "), self._step()))
        )
        return joined((literal("its worker "), self._name(row.lost), literal(" stopped renewing"), ago, then))

    def slow(self) -> SafeText:
        """It runs for longer than others."""
        row = self._row
        parts = [literal("running for "), spoken(self._now - row.since), literal(" on "), self._name(row.runner)]
        median = self._fold.median(row.headers.activity)
        if median is not None:
            usual = literal(f"{median:.1f} s") if median < 60 else spoken(median)
            parts += [literal("; half of its kind took no more than "), usual]
        return joined(parts)

    def backoff(self) -> SafeText:
        """It failed, and waits for its next attempt."""
        row = self._row
        of = f" of {row.most}" if row.most is not None else ""
        due = parsed(row.due_at)
        when = joined((literal(" "), countdown(due - self._now))) if due is not None else EMPTY
        error = self._error()
        after = joined((literal(" after "), error)) if error else EMPTY
        until = parsed(row.token_until)
        over = EMPTY
        if until is not None and until <= self._now:
            over = literal("; its token is over, and it will be held")
        elif until is not None and due is not None and until <= due:
            over = literal("; its token expires before the next attempt")
        return joined((literal(f"attempt {row.headers.attempt}{of}"), when, after, over))

    def poison(self) -> SafeText:
        """Its workers died."""
        row = self._row
        message = row.error["message"] if row.error is not None else ""
        what = self._text(message) if message else STUCK["poison"]
        found = joined((literal(", found by "), self._name(row.worker))) if row.worker else EMPTY
        return joined((what, literal(" ("), self._step(), found, literal(")")))

    def version(self) -> SafeText:
        """No worker here can read it."""
        due = parsed(self._row.due_at)
        again = joined((literal("; offered again "), countdown(due - self._now))) if due is not None else EMPTY
        parts = [literal("its message is newer than "), self._name(self._row.worker), literal(" can read")]
        error = self._row.error
        said = joined((literal(" ("), self._text(error["message"]), literal(")"))) if error is not None else EMPTY
        return joined([*parts, said, again])

    def token_expired(self) -> SafeText:
        """Its user's token is over, or cannot be had."""
        row = self._row
        message = row.error["message"] if row.error is not None else ""
        why = self._text(message) if message else STUCK["token_expired"]
        if row.state != State.HELD:
            return why
        return joined((why, literal("; held at "), self._step(), literal(" since "), self._at(row.at)))

    def lost(self) -> SafeText:
        """The broker lost it."""
        at = joined((literal(" at "), self._at(self._row.at)))
        return joined((literal("the broker lost its message for "), self._step(), at, literal("; the journal has it")))

    def paused(self) -> SafeText:
        """Somebody paused its activity for all workers."""
        pause = self._fold.paused[self._row.headers.activity]
        by = [
            self._name(pause.operator),
            literal(" paused it at "),
            self._at(pause.at),
            _COLON,
            self._text(pause.reason),
        ]
        return joined(
            (literal("waiting "), spoken(self._now - self._row.at), literal(" for "), self._step(), _COLON, *by)
        )

    def held(self) -> SafeText:
        """Somebody or something parked it."""
        row = self._row
        by = row.held_by or (f"its handler on {row.worker}" if row.worker else "")
        parts = [literal("held")]
        if by:
            parts += [literal(" by "), self._name(by)]
        until = parsed(row.due_at)
        if until is not None:
            then = {"release": ", then it goes on", "dead_letter": ", then it is dead-lettered"}
            parts += [literal(" until "), self._at(until), literal(then.get(row.on_deadline, ""))]
        else:
            parts += [literal(" since "), self._at(row.at)]
        if row.reason:
            parts += [_COLON, self._text(row.reason)]
        return joined(parts)

    def reason(self) -> SafeText:
        """What the journal says of one that is parked or ended."""
        row = self._row
        spans = why(row, None, 4000, ascii_only=self._ascii)
        if not spans:
            return EMPTY
        word = EMPTY
        if row.state == State.DEAD and row.error is not None and row.reason:
            word = joined((literal(" ("), self._text(row.reason.replace("_", " ")), literal(")")))
        return joined((one_line(spans), word))

    # -- parts --------------------------------------------------------------------------

    def _step(self) -> SafeText:
        return self._name(self._row.headers.activity)

    def _last(self, sign: Sign | None) -> SafeText:
        """What was seen last of a worker for the step."""
        if sign is None:
            return literal("none ever did, as far as the journal goes back")
        at = self._at(sign.at)
        if sign.event in ("stopped", "lost"):
            return joined((self._name(sign.worker), literal(f" was the last; {sign.event} at "), at))
        return joined((literal("last seen "), at, literal(" on "), self._name(sign.worker)))

    def _error(self) -> SafeText:
        error = self._row.error
        if error is None:
            return EMPTY
        kind, message = self._name(error["type"]), self._text(error["message"])
        return joined((kind, _COLON, message)) if message else kind

    def _at(self, at: float) -> SafeText:
        """A time to the minute, with the day where it is another one."""
        text = day_and_time(at, self._now)
        return literal(text[:-3]) if len(text) == len("14:03:09") else text

    def _name(self, text: str) -> SafeText:
        return shown(text, _NAME, ascii_only=self._ascii)

    def _text(self, text: str) -> SafeText:
        return shown(text, _TEXT, ascii_only=self._ascii)


_SENTENCES: Final[dict[str, Callable[[_Words], SafeText]]] = {
    "no_worker": _Words.no_worker,
    "worker_lost": _Words.worker_lost,
    "slow": _Words.slow,
    "backoff": _Words.backoff,
    "poison": _Words.poison,
    "version": _Words.version,
    "lost": _Words.lost,
    "token_expired": _Words.token_expired,
    "paused": _Words.paused,
}

_REMEDIES: Final[dict[str, tuple[Remedy, ...]]] = {
    # By why it is stuck, and where it is not, by its state.
    "no_worker": (_remedy("", "start a worker for it"), _SKIP, _PARK),
    "worker_lost": (_remedy("retry", "gives it to another worker"), _PARK),
    "slow": (_remedy("retry", "starts a second copy, and the first is refused"),),
    "backoff": (_NOW, _MENDED),
    "poison": (_remedy("", "mend the handler first"), _AGAIN),
    "version": (_remedy("", "roll the workers forward"),),
    "lost": (_remedy("retry", "publishes it again"),),
    "token_sealed": (_remedy("", "give its workers the topic key, then"), _remedy("release", "lets it go on")),
    "token_expired": (
        _remedy("", "let its user sign in again"),
        Remedy("release", literal("takes the new token's file"), " --token-file FILE"),
        _PARK,
    ),
    "paused": (_remedy("", "`activity resume` lets its workers go on"), _SKIP, _PARK),
    State.HELD: (_remedy("release", "lets it go on"), _remedy("cancel", "ends it")),
    State.DEAD: (_AGAIN, _MENDED),
    State.COMPENSATION_FAILED: (_remedy("retry", "resumes the undoing"),),
}
