"""The slip track: a workflow's steps on one line, however narrow, with the current one always in sight.

✓ validate → ▶ charge 00:12 ×2 → · notify        all of it
✓2 → ▶ charge 00:12 ×2 → ·4                      what is far from the current step becomes a number
▶ char… 00:12                                    and if need be only the current step is left
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from paigeant_console.model.looks import ARROW, DONE, FAILED, TO_COME, UNDONE, Look, look, times_glyph
from paigeant_console.model.row import Row
from paigeant_console.model.text import Span, shown, spans_width, width_of
from paigeant_console.model.times import countdown, countdown_tick, parsed, stopwatch, stopwatch_tick
from paigeant_console.safe_text import SafeText, cells, joined, literal
from paigeant_core.journal import State

__all__ = ["StepMark", "Track", "draw_track", "failed_hop", "track_of", "track_tick", "wrap_track"]

NAME_LIMIT: Final = 64
_LEAST_NAME: Final = 8
"""Cells of the current step's name for which the numbers beside it give way."""
_SPACE: Final = literal(" ")


@dataclass(frozen=True, slots=True)
class StepMark:
    """One step: its name and how it is drawn."""

    name: SafeText
    look: Look


@dataclass(frozen=True, slots=True)
class Track:
    """A slip as it is to be drawn.

    Attributes:
        steps: in order; those that are not known by name are counted beside them.
        current: index of the step that the workflow stands at; None: it is finished.
        notes: what follows the current step's name: how long, which try; most important last.
        before: steps done ahead of the known ones.
        after: steps to do behind the known ones.
    """

    steps: tuple[StepMark, ...]
    current: int | None
    notes: tuple[Span, ...] = ()
    before: int = 0
    after: int = 0


def track_of(row: Row, now: float, *, ascii_only: bool = False) -> Track:
    """The track of a workflow.

    Args:
        row: which.
        now: seconds since the Unix epoch.
        ascii_only: write ASCII only.
    """
    headers = row.headers
    state = row.state
    here = look(state)
    names = row.names
    done = headers.steps_done
    finished = not headers.activity or state == State.COMPLETED
    at = None if finished or state == State.COMPENSATED else headers.hop - 1
    notes = () if at is None else _notes(row, state, now, ascii_only)
    failed = failed_hop(row)
    if at is not None and not (0 <= at < len(names) and names[at] == headers.activity):
        # The slip could not be read, or is of another message: what the headers say is all there is.
        after = max(0, headers.steps_total - done - 1)
        step = StepMark(shown(headers.activity, NAME_LIMIT, ascii_only=ascii_only), here)
        return Track((step,), 0, notes, before=max(0, done), after=after)
    marks = []
    for index, name in enumerate(names):
        if index == at:
            mark = here
        elif row.unwound and index < done:
            mark = DONE if at is not None and index < at else UNDONE
        elif index + 1 == failed:
            mark = FAILED
        else:
            mark = DONE if index < done else TO_COME
        marks.append(StepMark(shown(name, NAME_LIMIT, ascii_only=ascii_only), mark))
    if not marks and finished:
        return Track((), None, (), before=max(0, done))
    return Track(tuple(marks), at if at is not None or failed is None else failed - 1, notes)


def failed_hop(row: Row) -> int | None:
    """The hop whose failure made a workflow be undone, where one did; it was never done, so it is not undone."""
    cause = row.undone_for
    return row.steps_done + 1 if row.unwound and cause is not None and cause.error is not None else None


def track_tick(row: Row, now: float) -> int:
    """Changes when the notes of :func:`track_of` do, the row being the same."""
    if (since := _running_since(row)) is not None:
        return stopwatch_tick(now - since)
    if row.state == State.RETRYING and (due := parsed(row.due_at)) is not None:
        return countdown_tick(due - now)
    return 0


def _running_since(row: Row) -> float | None:
    """When its step began; a worker's report may be older than what the journal says since."""
    if row.running is not None and row.state in (State.RUNNING, State.COMPENSATING):
        return row.running.since
    return None


def _notes(row: Row, state: str, now: float, ascii_only: bool) -> tuple[Span, ...]:
    notes: list[Span] = []
    if (since := _running_since(row)) is not None:
        notes.append((stopwatch(now - since), look(state).style))
    elif state == State.RETRYING and (due := parsed(row.due_at)) is not None:
        notes.append((countdown(due - now), "warn"))
    if row.headers.attempt > 1:
        notes.append((times_glyph(row.headers.attempt, ascii_only), "strong"))
    return tuple(notes)


def draw_track(track: Track, width: int, *, ascii_only: bool = False) -> list[Span]:
    """Draw a track on at most ``width`` cells.

    Args:
        track: what.
        width: cells there are.
        ascii_only: draw with ASCII only.
    """
    if width <= 0:
        return []
    if not track.steps:
        return _fitting(_count(track.before, DONE, ascii_only), width) if track.before else []
    anchor = track.current if track.current is not None else len(track.steps) - 1
    first = last = anchor
    drawn = _window(track, first, last, ascii_only)
    if spans_width(drawn) > width:
        return _current_alone(track, anchor, width, ascii_only)
    # Grow the window by what comes next, then by what was before, in turn, while it fits.
    ahead = behind = True
    while ahead or behind:
        if ahead:
            ahead = last + 1 < len(track.steps)
            if ahead:
                wider = _window(track, first, last + 1, ascii_only)
                if spans_width(wider) <= width:
                    drawn, last = wider, last + 1
                else:
                    ahead = False
        if behind:
            behind = first > 0
            if behind:
                wider = _window(track, first - 1, last, ascii_only)
                if spans_width(wider) <= width:
                    drawn, first = wider, first - 1
                else:
                    behind = False
    return drawn


def wrap_track(track: Track, width: int, most: int, *, ascii_only: bool = False) -> list[list[Span]]:
    """Draw all steps on several lines, broken behind arrows; none where they do not fit.

    Args:
        track: what.
        width: cells there are.
        most: lines there are.
        ascii_only: draw with ASCII only.
    """
    arrow = (ARROW[ascii_only], "dim")
    groups = _counts(_hidden((), track.before, DONE), ascii_only)
    groups += [_step(track, index, ascii_only) for index in range(len(track.steps))]
    groups += _counts(_hidden((), track.after, TO_COME), ascii_only)
    lines: list[list[Span]] = [[]]
    for index, group in enumerate(groups):
        piece = group if index == len(groups) - 1 else [*group, arrow]
        if lines[-1] and spans_width(lines[-1]) + spans_width(piece) > width:
            lines.append([])
        lines[-1].extend(piece)
    return lines if len(lines) <= most and all(spans_width(line) <= width for line in lines) else []


def _window(track: Track, first: int, last: int, ascii_only: bool) -> list[Span]:
    """Steps ``first`` to ``last`` by name, the others as numbers."""
    groups = _counts(_hidden(track.steps[:first], track.before, DONE), ascii_only)
    groups += [_step(track, index, ascii_only) for index in range(first, last + 1)]
    groups += _counts(_hidden(track.steps[last + 1 :], track.after, TO_COME), ascii_only)
    arrow = (ARROW[ascii_only], "dim")
    spans: list[Span] = []
    for group in groups:
        if spans:
            spans.append(arrow)
        spans.extend(group)
    return spans


def _hidden(steps: Sequence[StepMark], more: int, kind: Look) -> list[tuple[Look, int]]:
    """How many of which kind are not shown by name, in order."""
    runs: list[tuple[Look, int]] = []
    for step in steps:
        if runs and runs[-1][0] is step.look:
            runs[-1] = (step.look, runs[-1][1] + 1)
        else:
            runs.append((step.look, 1))
    if more:
        runs.append((kind, more))
    return runs


def _count(number: int, mark: Look, ascii_only: bool) -> list[Span]:
    return [(literal(f"{mark.mark(ascii_only)}{number}"), mark.style)]


def _step(track: Track, index: int, ascii_only: bool) -> list[Span]:
    step = track.steps[index]
    current = index == track.current
    spans: list[Span] = [(joined((step.look.mark(ascii_only), _SPACE)), step.look.style)]
    spans.append((step.name, (step.look.style or "strong") if current else "dim"))
    if current:
        for note, style in track.notes:
            spans.append((joined((_SPACE, note)), style))
    return spans


def _current_alone(track: Track, index: int, width: int, ascii_only: bool) -> list[Span]:
    """The current step when its name and the numbers do not fit: both give way by turns, its glyph never does."""
    step = track.steps[index]
    arrow = (ARROW[ascii_only], "dim")
    glyph: Span = (joined((step.look.mark(ascii_only), _SPACE)), step.look.style)
    notes = [(joined((_SPACE, note)), style) for note, style in track.notes] if index == track.current else []
    name_style = (step.look.style or "strong") if index == track.current else "dim"
    before = _counts(_hidden(track.steps[:index], track.before, DONE), ascii_only)
    after = _counts(_hidden(track.steps[index + 1 :], track.after, TO_COME), ascii_only)
    left = [span for group in before for span in (*group, arrow)]
    right = [span for group in after for span in (arrow, *group)]
    for ahead, behind, beside in ((left, right, notes), (left, [], notes), ([], [], notes), ([], [], notes[-1:])):
        room = width - spans_width([*ahead, glyph, *beside, *behind])
        if room >= min(_LEAST_NAME, width_of(step.name)):
            return [*ahead, glyph, (_cut(step.name, room, ascii_only), name_style), *beside, *behind]
    room = width - spans_width([glyph])
    if room > 0:
        return [glyph, (_cut(step.name, room, ascii_only), name_style)]
    return _fitting([(step.look.mark(ascii_only), step.look.style)], width)


def _counts(hidden: Sequence[tuple[Look, int]], ascii_only: bool) -> list[list[Span]]:
    return [_count(number, mark, ascii_only) for mark, number in hidden]


def _cut(text: SafeText, room: int, ascii_only: bool) -> SafeText:
    return text if width_of(text) <= room else cells(text, room, ellipsis="~" if ascii_only else "…")


def _fitting(spans: list[Span], width: int) -> list[Span]:
    """One span, cut without a word where even that is too long."""
    text, style = spans[0]
    return spans if width_of(text) <= width else [(cells(text, width, ellipsis=""), style)]
