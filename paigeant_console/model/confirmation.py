"""What an operator is shown before something is done, and the command line that does the same."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import msgspec

from paigeant_console.actions import key_of
from paigeant_console.model.looks import ARROW, DONE, look
from paigeant_console.model.text import EMPTY, Span, brief_id, plural, shown, width_of
from paigeant_console.safe_text import SafeText, joined, literal, safe
from paigeant_core.handoff import GO_ON
from paigeant_core.operations import Action, Insert, Line, OperationStatus, Pace, Plan, Release, Replay, Undo
from paigeant_core.routing import Step
from paigeant_core.urls import has_password, without_password

__all__ = [
    "PACE_LOST",
    "Confirmation",
    "Fact",
    "Target",
    "action_words",
    "approval_confirmation",
    "command_line",
    "command_said",
    "confirmation_of",
    "dispatch_confirmation",
    "effect_of",
    "pace_of",
    "pace_words",
    "pause_confirmation",
    "reject_confirmation",
    "stop_confirmation",
]

PROGRAM: Final = "paigeant-console"
TYPE_FROM: Final = 11
"""From so many workflows on their number has to be typed."""
PACE_LOST: Final = literal("is not kept: whoever approves it carries it out as fast as can be")
CHANGES: Final = 4
"""Lines for what was changed in a payload."""
FEW: Final = 6
"""Targets that are all in sight."""
ID_CELLS: Final = 12
NAME_CELLS: Final = 16


Fact: TypeAlias = tuple[Span, Span]
"""A word for it and a text."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where commands go: what has to stand on their line to reach the same broker and topic.

    Attributes:
        url: the broker's, without its password.
        topic: the topic.
        context: its name in the configuration; may be empty.
        production: a mistake there is dear.
        given: the URL came by ``--url``: nothing else leads there, so command lines have to name it, too.
    """

    url: str
    topic: str
    context: str = ""
    production: bool = False
    given: bool = False

    def flags(self) -> list[str]:
        """The words for it; never a password."""
        if self.url.startswith("memory:"):
            words = []  # that broker is in this process alone
        elif self.given:
            # Without its password a login is refused; without the flag the line would go to another broker.
            words = ["--url", without_password(self.url)]
        elif self.context:
            words = ["--context", self.context]
        elif self.url and not has_password(self.url):
            words = ["--url", self.url]
        else:
            words = []
        return [*words, "--topic", self.topic] if self.topic != "workflows" else words

    @property
    def left_out(self) -> SafeText:
        """What its command lines lack; empty: nothing, or what leads there knows it."""
        return literal("(password left out)") if self.given and has_password(self.url) else EMPTY


def command_line(target: Target, words: Sequence[str]) -> str:
    """The command line that does or shows the same, quoted for a shell."""
    return shlex.join([PROGRAM, *target.flags(), *words])


def command_said(command: str, target: Target, limit: int = 600, *, ascii_only: bool = False) -> SafeText:
    """A command line in at most ``limit`` cells, behind what it lacks."""
    line = shown(command, limit, ascii_only=ascii_only)
    return joined((target.left_out, literal(" "), line)) if target.left_out else line


def _fact(label: str, text: SafeText, style: str = "") -> Fact:
    return (literal(label), "dim"), (text, style)


def _same_as(command: str, target: Target, ascii_only: bool, label: str = "same as ") -> Fact:
    return _fact(label, command_said(command, target, ascii_only=ascii_only), "dim")


def action_words(
    action: Action,
    ids: Sequence[str],
    reason: str,
    pace: Pace | None = None,
    token_file: str = "",
    payload_file: str = "payload.json",
    limit: int | None = None,
) -> list[str]:
    """The words of an operation's command; the files are where its token was read, and its payload can be.

    Without IDs an undo is of all that the operation was done to.
    """
    # What begins like a flag has to stand behind the end of the flags.
    behind = any(item.startswith("-") for item in ids)
    most = [] if limit is None else ["--limit", str(limit)]
    if isinstance(action, Insert):
        # Its own words are the steps.
        steps = [_step_word(step) for step in action.steps]
        return [action.name, *steps, *(f"--id={item}" for item in ids), *most, "--reason", reason]
    words = [action.name, *([action.operation_id] if isinstance(action, Undo) else ()), *(() if behind else ids)]
    if isinstance(action, Replay):
        if action.from_step is not None:
            words += ["--from-step", str(action.from_step)]
        if action.payload is not None:
            words += ["--payload", payload_file]
    if isinstance(action, Release):
        words += [f"--var={key}={_json(value)}" for key, value in action.values.items()]
        words += ["--token-file", token_file] if token_file else []
    return [*words, *pace_words(pace), *most, "--reason", reason, *(("--", *ids) if behind else ())]


def pace_words(pace: Pace | None) -> list[str]:
    """The flags that say how fast an operation goes."""
    if pace is None:
        return []
    words = ["--ramp"] if pace.ramp else []
    words += ["--rate", f"{pace.rate:g}"] if pace.rate is not None else []
    words += ["--brake", f"{pace.brake:g}"] if pace.brake is not None else []
    return words + (["--delay", f"{pace.delay:g}s"] if pace.delay else [])


def pace_of(pace: Pace) -> SafeText:
    """How fast an operation goes, in a sentence; empty: as fast as can be."""
    words = ["begins with 1, 5, 20, and goes on when these came through"] if pace.ramp else []
    words += [f"at most {pace.rate:g} a second"] if pace.rate is not None else []
    words += [f"stops when {pace.brake:g} % fail again"] if pace.brake is not None else []
    if pace.delay:
        abort, view = key_of("operation.abort"), key_of("view.audit")
        words.append(f"nothing is done for {pace.delay:g} s, in which {abort} in view {view} calls it off")
    return literal("; ".join(words))


def _step_word(step: Step) -> str:
    document = step.to_document()
    return document if isinstance(document, str) else _json(document)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


@dataclass(frozen=True, slots=True)
class Edited:
    """A payload that was edited, and the command line that reads it from a file of that name."""

    payload: bytes
    command: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What the confirm bar shows.

    Attributes:
        title: what will be done, and to how many.
        effect: what that means.
        rows: each target: eligible or why not, and what else will happen.
        facts: reason, command line and the like, each a word for it and a text.
        eligible: how many it will be tried on.
        typed: texts of which one has to be typed; empty: `y` is enough.
        command: the command line that does the same.
        why: why nothing can be done, where there is one target alone; it is shown in full.
        edited: the payload that the command line needs a file for; None: it needs none.
    """

    title: Sequence[Span]
    effect: SafeText
    rows: Sequence[Sequence[Span]]
    facts: Sequence[Fact]
    eligible: int
    typed: tuple[str, ...]
    command: str
    why: SafeText | None = None
    edited: Edited | None = None


def effect_of(action: Action, *, own: bool = True) -> SafeText:
    """What an operation means, in a sentence; ``own``: whoever reads it made it."""
    if isinstance(action, Replay):
        start = literal("where it stands") if action.from_step is None else safe(f"step {action.from_step}", 80)
        edited = " with the payload you edited" if own else " with an edited payload"
        payload = literal(" with its payload as it was" if action.payload is None else edited)
        again = literal("; a new run: steps are done again, under new idempotency keys")
        return joined((literal("work is done again from "), start, payload, again))
    if isinstance(action, Insert):
        names = safe(", ".join(action.steps), 200)
        return joined((literal("behind the step where it stands come: "), names))
    if isinstance(action, Release):
        given = [literal("; given: "), safe(", ".join(action.values), 200)] if action.values else []
        token = [literal("; with its user's new token")] if action.token is not None else []
        return joined((_EFFECTS[action.name], *token, *given))
    return _EFFECTS[action.name]


_EFFECTS: Final = {
    "retry": literal("the step runs again now, attempts start anew; same idempotency key"),
    "dead-letter": literal("the message is parked among the dead letters; retry, restore or replay brings it back"),
    "hold": literal("it is parked until it is released; a step that runs is finished first"),
    "release": literal("it goes on from where it is held"),
    "skip": literal("the step counts as done, by nobody; the next one follows"),
    "cancel": literal("it ends here, and nothing is undone; a step that runs is finished first"),
    "compensate": literal("the steps that were done are undone, last first; a step that runs is finished before"),
    "restore": literal("it goes back to where it was, at the same attempt"),
    "undo": literal("what that operation took out of the way goes back to where it was; nothing else is undone"),
}


def confirmation_of(
    plan: Plan,
    target: Target,
    *,
    pace: Pace | None = None,
    whole: bool = False,
    limit: int | None = None,
    second: str = "",
    token_file: str = "",
    changes: Sequence[Span] = (),
    ascii_only: bool = False,
) -> Confirmation:
    """What is to be confirmed of a plan.

    Args:
        plan: it.
        target: where.
        pace: how fast.
        whole: it is of all workflows of an operation, so that none has to be named.
        limit: how many workflows it may touch, where that was given.
        second: why it takes a second person, who is asked when it is confirmed; empty: it takes none.
        token_file: where the token that it hands over was read.
        changes: what was changed in the payload that it gives.
        ascii_only: write ASCII only.
    """
    action, ids = plan.action, [line.correlation_id for line in plan.lines]
    if isinstance(action, Undo):
        # A workflow that the operation was not done to is an error on a command line.
        ids = [] if whole else [line.correlation_id for line in plan.lines if line.eligible] or ids

    def command_with(payload_file: str) -> str:
        words = action_words(action, ids, plan.reason, pace, token_file, payload_file, limit)
        return command_line(target, words)

    command = command_with("payload.json")
    facts: list[Fact] = [
        _fact("reason  ", shown(plan.reason, 300, ascii_only=ascii_only)),
        _same_as(command, target, ascii_only),
    ]
    facts[:0] = _change_facts(changes)
    effect = effect_of(action)
    if second:
        asks = joined((literal("it takes a second person, "), shown(second, 200, ascii_only=ascii_only)))
        facts.insert(0, _fact("asks    ", asks, "warn"))
        if pace:
            facts.insert(1, _fact("pace    ", PACE_LOST, "warn"))
        effect = joined((literal("nothing is done until another operator approves it; then "), effect))
    elif pace:
        facts.insert(0, _fact("pace    ", pace_of(pace)))
    word = f"ask for {action.name} of " if second else f"{action.name} "
    asked = _asked(plan, target, word, effect, facts, command, ascii_only=ascii_only)
    if isinstance(action, Replay) and action.payload is not None:
        return replace(asked, edited=Edited(action.payload, command_with))
    return asked


def _change_facts(changes: Sequence[Span]) -> list[Fact]:
    """The first changes, one a line, and how many more there are."""
    if len(changes) > CHANGES:
        more = plural(len(changes) - CHANGES + 1, "more change")
        changes = [*changes[: CHANGES - 1], (joined((literal("and "), more)), "dim")]
    words = [literal("changes "), *[literal(" " * 8)] * (CHANGES - 1)]
    return [((word, "dim"), change) for word, change in zip(words, changes, strict=False)]


def approval_confirmation(
    plan: Plan, status: OperationStatus, target: Target, *, ascii_only: bool = False
) -> Confirmation:
    """What is to be confirmed before what another operator asked for is carried out.

    Args:
        plan: as it would be done now.
        status: what was asked for.
        target: where.
        ascii_only: write ASCII only.
    """
    command = command_line(target, ["operations", "approve", status.operation_id])
    facts: list[Fact] = [
        _fact("asked by ", shown(status.operator, 80, ascii_only=ascii_only), "strong"),
        _fact("because  ", shown(status.reason, 300, ascii_only=ascii_only)),
        _same_as(command, target, ascii_only, "same as  "),
    ]
    effect = joined((literal("you are the second person, and sign it too: "), effect_of(plan.action, own=False)))
    return _asked(plan, target, f"approve {plan.action.name} of ", effect, facts, command, ascii_only=ascii_only)


def _asked(
    plan: Plan,
    target: Target,
    word: str,
    effect: SafeText,
    facts: Sequence[Fact],
    command: str,
    *,
    ascii_only: bool,
) -> Confirmation:
    """The question whether to do it: title, what has to be typed, and each target."""
    action = plan.action
    total, eligible = len(plan.lines), plan.eligible
    title: list[Span] = [(safe(word, 60), "write"), (plural(eligible, "workflow"), "write")]
    if eligible < total:
        title.append((literal(f" of {total:,}; {total - eligible:,} not eligible, left alone"), "warn"))
    if target.production:
        title.append((joined((literal("  in PRODUCTION "), safe(target.context, 40))), "danger"))
    typed: tuple[str, ...] = ()
    if eligible and target.production:
        typed = tuple(filter(None, (target.context, str(eligible))))
    elif eligible >= TYPE_FROM:
        typed = (str(eligible),)
    if total > FEW and eligible < total:
        facts = [_left_alone(plan, width_of(facts[0][0][0]), ascii_only), *facts]
    rows = [_row(line, action, ascii_only) for line in sorted(plan.lines, key=lambda line: not line.eligible)]
    why = shown(plan.lines[0].why, 400, ascii_only=ascii_only) if not eligible and len(plan.lines) == 1 else None
    return Confirmation(title, effect, rows, facts, eligible, typed, command, why)


def _left_alone(plan: Plan, width: int, ascii_only: bool) -> Fact:
    """Why some will be left alone, and how many for each reason: of many targets few are in sight."""
    whys = Counter(line.why for line in plan.lines if not line.eligible)
    said = "; ".join(f"{why} ({number:,})" for why, number in whys.most_common())
    return _fact("left".ljust(width), shown(said, 600, ascii_only=ascii_only), "warn")


def _row(line: Line, action: Action, ascii_only: bool) -> Sequence[Span]:
    mark = DONE if line.eligible else look("dead")
    spans: list[Span] = [
        (joined((mark.mark(ascii_only), literal(" "))), mark.style),
        (joined((brief_id(line.correlation_id, ID_CELLS, ascii_only=ascii_only), literal(" "))), "strong"),
    ]
    if line.standing is not None:
        headers = line.standing.headers
        name = shown(headers.name, NAME_CELLS, ascii_only=ascii_only)
        state = look(str(line.standing.state)).word
        step = shown(headers.activity, 40, ascii_only=ascii_only)
        tries = literal(f" try {headers.attempt}" if headers.attempt > 1 else "")
        spans.append((joined((name, literal(" ") if name else name, state)), ""))
        if step:
            spans.append((joined((literal(" at "), step, tries)), ""))
        if line.eligible:
            spans += [(ARROW[ascii_only], "dim"), _becomes(action, line, step)]
    if line.why:
        spans.append((literal("  "), ""))
        spans.append((shown(line.why, 300, ascii_only=ascii_only), "warn" if line.eligible else "error"))
    return spans


def _becomes(action: Action, line: Line, step: SafeText) -> Span:
    if (standing := line.standing) is not None and standing.wish and action.asks(standing) == GO_ON:
        return literal("goes on running" if standing.beside is not None else "goes on as it is"), ""
    if action.name in _BECOMES:
        return _BECOMES[action.name], ""
    if isinstance(action, Replay) and action.from_step is not None:
        return safe(f"queued at step {action.from_step}", 60), ""
    return joined((literal("queued at "), step)) if step else literal("queued"), ""


_BECOMES: Final = {
    "dead-letter": literal("dead"),
    "hold": literal("held"),
    "skip": literal("at the next step"),
    "cancel": literal("cancelled"),
    "compensate": literal("compensating"),
    "restore": literal("where it was"),
    "undo": literal("where it was before"),
    "insert": literal("with more steps"),
}


def reject_confirmation(
    status: OperationStatus, reason: str, target: Target, *, ascii_only: bool = False
) -> Confirmation:
    """What is to be confirmed before what another operator asked for is rejected."""
    name = shown(str(status.action.get("name", "")), 20, ascii_only=ascii_only)
    which = joined((literal("reject "), name, literal(" of "), plural(len(status.targets), "workflow")))
    title: list[Span] = [(which, "write")]
    if target.production:
        title.append((joined((literal("  in PRODUCTION "), safe(target.context, 40))), "danger"))
    command = command_line(target, ["operations", "reject", status.operation_id, "--reason", reason])
    facts: list[Fact] = [
        _fact("asked by ", shown(status.operator, 80, ascii_only=ascii_only), "strong"),
        _fact("because  ", shown(status.reason, 300, ascii_only=ascii_only)),
        _fact("your why ", shown(reason, 300, ascii_only=ascii_only)),
        _same_as(command, target, ascii_only, "same as  "),
    ]
    effect = literal("nothing of it is done, and nobody can approve it any more")
    typed = tuple(filter(None, (target.context, str(len(status.targets))))) if target.production else ()
    return Confirmation(title, effect, (), facts, 1, typed, command)


def stop_confirmation(status: OperationStatus, target: Target, *, ascii_only: bool = False) -> Confirmation:
    """What is to be confirmed before an operation is aborted."""
    through, total = status.done + status.skipped + status.failed, len(status.targets)
    name = shown(str(status.action.get("name", "")), 20, ascii_only=ascii_only)
    which = joined((literal("abort "), name, literal(" of "), plural(total, "workflow")))
    title: list[Span] = [(which, "write"), (literal(f"  {through:,} are through"), "")]
    if target.production:
        title.append((joined((literal("  in PRODUCTION "), safe(target.context, 40))), "danger"))
    command = command_line(target, ["operations", "abort", status.operation_id])
    facts: list[Fact] = [
        _fact("begun by ", shown(status.operator, 80, ascii_only=ascii_only)),
        _fact("because  ", shown(status.reason, 300, ascii_only=ascii_only)),
        _same_as(command, target, ascii_only, "same as  "),
    ]
    effect = literal("what was done stays done, the rest is left alone, and nobody can go on with it")
    typed = tuple(filter(None, (target.context, str(total)))) if target.production else ()
    return Confirmation(title, effect, (), facts, 1, typed, command)


def pause_confirmation(
    activity: str, reason: str, target: Target, *, resume: bool, ascii_only: bool = False
) -> Confirmation:
    """What is to be confirmed before an activity is paused for all its workers, or goes on."""
    word = "resume" if resume else "pause"
    name = shown(activity, 64, ascii_only=ascii_only)
    title: list[Span] = [(joined((literal(f"{word} activity "), name)), "write")]
    if target.production:
        title.append((joined((literal("  in PRODUCTION "), safe(target.context, 40))), "danger"))
    effect = literal(
        "its workers begin its steps again, within a second or two"
        if resume
        else "no worker begins a step of it until it is resumed; what runs is finished, and no attempt is spent"
    )
    command = command_line(target, ["activity", word, activity, "--reason", reason])
    facts: list[Fact] = [
        _fact("reason  ", shown(reason, 300, ascii_only=ascii_only)),
        _same_as(command, target, ascii_only),
    ]
    typed = tuple(filter(None, (target.context, activity))) if target.production else ()
    return Confirmation(title, effect, (), facts, 1, typed, command)


def dispatch_confirmation(
    steps: Sequence[str], variables: Mapping[str, object], target: Target, *, ascii_only: bool = False
) -> Confirmation:
    """What is to be confirmed before a workflow is started."""
    title: list[Span] = [(literal("dispatch 1 workflow"), "write")]
    if target.production:
        title.append((joined((literal("  in PRODUCTION "), safe(target.context, 40))), "danger"))
    effect = joined((literal("a new workflow begins, of the steps "), shown(", ".join(steps), 200)))
    fields = [f"--var={name}={_json(value)}" for name, value in variables.items()]
    command = command_line(target, ["dispatch", *steps, *fields])
    facts: list[Fact] = [
        _fact("payload ", shown(_json(variables), 600, ascii_only=ascii_only)),
        _same_as(command, target, ascii_only),
    ]
    typed = tuple(filter(None, (target.context, "1"))) if target.production else ()
    return Confirmation(title, effect, (), facts, 1, typed, command)
