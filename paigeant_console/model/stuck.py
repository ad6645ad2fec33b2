"""Why does it not move? One sentence with its evidence, and what can be done about it.

The screen and `show` say the same sentence. It is made of the workflow's row, of what
living workers report, and of what the journal tells of workers that do not live any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from paigeant_console.actions import by_id, key_of, keys_of
from paigeant_console.model.fold import Fold, Sign
from paigeant_console.model.looks import STUCK, look
from paigeant_console.model.row import Asked, Row
from paigeant_console.model.slip_track import failed_hop
from paigeant_console.model.text import EMPTY, shown
from paigeant_console.model.times import countdown, day_and_time, parsed, spoken
from paigeant_console.model.workflow_list import cause, one_line
from paigeant_console.safe_text import SafeText, joined, literal, safe
from paigeant_core.journal import State

__all__ = ["Explanation", "Remedy", "explain", "keys_line"]

_NAME: Final = 64
_TEXT: Final = 300
_COLON: Final = literal(": ")
_CLOSE: Final = literal(")")


@dataclass(frozen=True, slots=True)
class Remedy:
    """What can be done about it.

    Attributes:
        act: the action of the table, and the command, that does it; empty: something to be done elsewhere.
        does: what it does, as the rest of a sentence.
        command: the command that does it, where that has another name, or flags; the key asks for what they say.
        view: the action that opens the view in which the key works; empty: it works wherever there is a workflow.
    """

    act: str
    does: SafeText
    command: str = ""
    view: str = ""


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


def _remedy(act: str, does: str, command: str = "", view: str = "") -> Remedy:
    return Remedy(act, literal(does), command, view)


_NOW: Final = _remedy("retry", "runs it now")
_AGAIN: Final = _remedy("retry", "runs the step again")
_MENDED: Final = _remedy("replay", "replays with a mended payload")
_PARK: Final = _remedy("dead-letter", "parks it among the dead letters")
_WORKER: Final = _remedy("", "start a worker for it")
_BACK_HOLD: Final = _remedy("release", "takes the hold back")
_BACK: Final = _remedy("undo", "takes that back", "undo OPERATION")
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
    found = _found(say, fold, row, now)
    if row.asked is None:
        return found
    back = _BACK_HOLD if row.asked.wish == "hold" else _BACK
    if found is None:
        return Explanation(say.asked(row.asked), "warn", (back,))
    sentence = joined((found.sentence, literal("; "), say.asked(row.asked)))
    return replace(found, sentence=sentence, remedies=(*found.remedies, back))


def _found(say: _Words, fold: Fold, row: Row, now: float) -> Explanation | None:
    stuck = fold.stuck(row, now)
    if row.state == State.HELD and row.reason == "token_sealed" and row.error is not None and not row.held_by:
        return Explanation(say.token_expired(), "warn", _REMEDIES["token_sealed"])
    if row.state == State.HELD and stuck != "token_expired":
        return Explanation(say.held(), "warn", _IN_STATE[State.HELD])
    if stuck is not None:
        sentence = _SENTENCES[stuck](say) if stuck in _SENTENCES else STUCK.get(stuck, safe(stuck, _NAME))
        return Explanation(sentence, look(row.state).style or "warn", say.remedies(stuck))
    reason = say.undone() if row.undone_for is not None and row.state in _UNDOING else say.reason()
    if not reason:
        return None
    return Explanation(reason, look(row.state).style or "warn", _IN_STATE.get(row.state, ()))


def keys_line(explanation: Explanation, *, read_only: bool = False, commands: bool = False) -> SafeText:
    """What can be done, by key: ``r runs it now; d parks it``; empty: nothing.

    Args:
        explanation: of what.
        read_only: what writes is refused, so it is left out.
        commands: name commands in place of keys.
    """
    words = []
    for remedy in explanation.remedies:
        act, does = remedy.act, remedy.does
        if not act:
            words.append(does)
        elif not read_only:
            name = literal(f"`{remedy.command or act}`") if commands else _way(act)
            where = joined((literal(" in view "), key_of(remedy.view))) if remedy.view and not commands else EMPTY
            words.append(joined((name, where, literal(" "), does)))
    return joined(words, literal("; "))


def _way(act: str) -> SafeText:
    """The key of an action, or its command in the console where it has none."""
    action = by_id(act)
    return key_of(act) if keys_of(action) else literal(f":{action.command[0]}")


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
        of = f" of {row.most}" if row.most is not None else ""
        what = literal(f" for attempt {row.attempt}{of}") if row.state == State.RETRYING else EMPTY
        waiting = [literal("waiting "), spoken(self._now - row.queued_since), what]
        return joined([*waiting, literal(": no worker serves "), self._step(), literal(" ("), self._last(sign), _CLOSE])

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
        by = joined((literal("; "), self._name(row.worker), literal(" parked it at "), self._at(row.at)))
        return joined((what, literal(" ("), self._step(), by if row.worker else EMPTY, _CLOSE))

    def version(self) -> SafeText:
        """No worker here can read it."""
        due = parsed(self._row.due_at)
        again = EMPTY
        if due is not None:
            when = countdown(due - self._now) if due > self._now else literal("now")
            again = joined((literal("; offered again "), when))
        parts = [literal("its message is newer than "), self._name(self._row.worker), literal(" can read")]
        error = self._row.error
        said = joined((literal(" ("), self._text(error["message"]), _CLOSE)) if error is not None else EMPTY
        return joined([*parts, said, again, self._nobody()])

    def token_expired(self) -> SafeText:
        """Its user's token is over, or cannot be had."""
        row = self._row
        message = row.error["message"] if row.error is not None else ""
        why = self._text(message) if message else STUCK["token_expired"]
        if (until := parsed(row.token_until)) is not None:
            # The time of day as all others here, not as the error has it.
            why = joined((literal("its user's token expired at "), self._at(until)))
        return joined((why, literal("; held at "), self._step(), literal(" since "), self._at(row.held_since)))

    def lost(self) -> SafeText:
        """The broker lost it."""
        lost = [literal("the broker lost its message for "), self._step()]
        again = [literal("; published again from the journal at "), self._at(self._row.at)]
        waits = joined((literal(" and waiting "), spoken(self._now - self._row.at)))
        return joined([*lost, *again, waits, self._nobody()])

    def paused(self) -> SafeText:
        """Somebody paused its activity for all workers."""
        row = self._row
        waits = [literal("waiting "), spoken(self._now - row.queued_since), literal(" for "), self._step()]
        return joined([*waits, _COLON, self._pause()])

    def quarantined(self) -> SafeText:
        """Its message could not be read, or not be trusted."""
        aside = self._fold.rows.get(self._row.quarantined)
        error = None if aside is None else aside.error
        code = joined((literal(" ("), self._wrong(error), _CLOSE)) if error is not None else EMPTY
        waits = [literal("its message for "), self._step(), literal(" was quarantined as ")]
        return joined([*waits, self._name(self._row.quarantined), code])

    def held(self) -> SafeText:
        """Somebody or something parked it."""
        row = self._row
        by = row.held_by or (f"its handler on {row.held_on}" if row.held_on else "")
        parts = [literal("held")]
        if by:
            parts += [literal(" by "), self._name(by)]
        until = parsed(row.due_at)
        if until is not None:
            then = {"release": ", then it goes on", "dead_letter": ", then it is dead-lettered"}
            parts += [literal(" until "), self._at(until), literal(then.get(row.on_deadline, ""))]
        else:
            parts += [literal(" since "), self._at(row.held_since)]
        if row.reason:
            parts += [_COLON, self._text(row.reason)]
        return joined(parts)

    def asked(self, asked: Asked) -> SafeText:
        """Somebody asked for something that is done when the step is handed on."""
        what = literal(_ASKED[asked.wish]) if asked.wish in _ASKED else self._name(asked.wish)
        who = self._name(asked.operator) if asked.operator else literal("somebody")
        when = [literal(" at "), self._at(asked.at), literal(": done when "), self._step(), literal(" is handed on")]
        return joined([who, literal(" asked to "), what, *when])

    def reason(self) -> SafeText:
        """What the journal says of one that is parked or ended."""
        row = self._row
        spans = cause(row, None, 4000, ascii_only=self._ascii)
        if not spans:
            return EMPTY
        said = one_line(spans)
        if row.held_by and row.error is None and (word := _DEEDS.get(row.state)):
            reason = joined((_COLON, self._text(row.reason))) if row.reason else EMPTY
            return joined((literal(word), self._name(row.held_by), literal(" at "), self._at(row.at), reason))
        if row.state == State.DEAD and row.error is not None and row.reason:
            by = joined((literal("by "), self._name(row.held_by), _COLON)) if row.held_by else EMPTY
            reason = self._text(row.reason if row.held_by else row.reason.replace("_", " "))
            return joined((said, literal(" ("), by, reason, _CLOSE))
        return said

    def undone(self) -> SafeText:
        """Why it is being undone, or was; and where that failed, what it failed at."""
        row, begun = self._row, self._row.undone_for
        assert begun is not None
        parts = [literal("undone" if row.state == State.COMPENSATED else "being undone")]
        number = failed_hop(row)
        if begun.operator:
            parts += [literal(" by "), self._name(begun.operator)]
            parts += [_COLON, self._text(begun.reason)] if begun.reason else []
        elif number is not None:
            name = row.names[number - 1] if number <= len(row.names) else f"hop {number}"
            parts += [literal(" because "), self._name(name), literal(" failed: "), self._wrong(begun.error)]
        if row.state != State.COMPENSATION_FAILED:
            return joined(parts) if len(parts) > 1 else EMPTY
        return joined((literal("undoing "), self._step(), literal(" failed: "), self._error(), literal("; "), *parts))

    def remedies(self, stuck: str) -> tuple[Remedy, ...]:
        """What helps, the likeliest first."""
        found = _REMEDIES.get(stuck, (_AGAIN,))
        if stuck in _NEEDS_WORKER:
            # Another copy would just wait too.
            if self._row.activity in self._fold.paused:
                return _REMEDIES["paused"]
            if self._fold.unserved(self._row.activity):
                return (_WORKER, *(remedy for remedy in found if remedy.act != "retry"))
        return found

    # -- parts --------------------------------------------------------------------------

    def _pause(self) -> SafeText:
        pause = self._fold.paused[self._row.activity]
        when = joined((literal(" paused it at "), self._at(pause.at), _COLON))
        return joined((self._name(pause.operator), when, self._text(pause.reason)))

    def _nobody(self) -> SafeText:
        """That no worker would take it."""
        if self._row.activity in self._fold.paused:
            return joined((literal("; "), self._pause()))
        unserved = self._fold.unserved(self._row.activity)
        return joined((literal("; no worker serves "), self._step())) if unserved else EMPTY

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
        return self._wrong(self._row.error)

    def _wrong(self, error: Mapping[str, str] | None) -> SafeText:
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
    "quarantined": _Words.quarantined,
}

_UNDOING: Final = frozenset({State.COMPENSATING, State.COMPENSATED, State.COMPENSATION_FAILED})
_DEEDS: Final[dict[str, str]] = {State.DEAD: "parked by ", State.CANCELLED: "cancelled by "}
"""What an operator did to those that are so."""
_ASKED: Final = {
    "hold": "hold it",
    "cancel": "cancel it",
    "compensate": "compensate it",
    "insert": "insert steps",
}
_NEEDS_WORKER: Final = frozenset({"worker_lost", "lost"})
_REMEDIES: Final[dict[str, tuple[Remedy, ...]]] = {
    # By why it is stuck.
    "no_worker": (_WORKER, _SKIP, _PARK),
    "worker_lost": (_remedy("retry", "gives it to another worker at once"), _PARK),
    "slow": (_remedy("retry", "starts a second copy, and the first is refused"),),
    "backoff": (_NOW, _MENDED),
    "poison": (_remedy("", "mend the handler first"), _AGAIN),
    "version": (_remedy("", "roll the workers forward"),),
    "lost": (_remedy("retry", "publishes it once more"), _remedy("", "`doctor` looks for what took it")),
    "token_sealed": (_remedy("", "give its workers the topic key, then"), _remedy("release", "lets it go on")),
    "token_expired": (
        _remedy("", "let its user sign in again"),
        _remedy("release", "takes the new token's file", "release --token-file FILE"),
        _PARK,
    ),
    "paused": (_remedy("operation.pause", "lets its workers go on", "activity resume", "view.queues"), _SKIP, _PARK),
    "quarantined": (
        _remedy("", "`restore` of that brings it back, where it can be read by now"),
        _remedy("replay", "replays it from the journal"),
    ),
}
_IN_STATE: Final[dict[str, tuple[Remedy, ...]]] = {
    # Of one that is not stuck; what lies in quarantine itself has a state of that name.
    State.HELD: (_remedy("release", "lets it go on"), _remedy("cancel", "ends it")),
    State.DEAD: (_AGAIN, _MENDED),
    State.QUARANTINED: (
        _remedy("", "mend what sent it"),
        _remedy("restore", "brings it back, where it can be read by now"),
    ),
    State.COMPENSATION_FAILED: (_remedy("retry", "resumes the undoing"),),
}
