"""What is typed after `:dispatch`, `:insert`, `:release` and the other acts: steps, fields, and how fast."""

from __future__ import annotations

import shlex
from typing import Any, Final

import msgspec

from paigeant_console.model.time_span import duration
from paigeant_core.errors import InvalidMessage
from paigeant_core.json_values import json_or_text
from paigeant_core.operations import Pace


def parse_dispatch(typed: str) -> tuple[list[str], dict[str, msgspec.Raw]]:
    """The steps of a new workflow, and its payload's fields; see :func:`parse_words`.

    Raises:
        InvalidMessage: no step, or what :func:`parse_words` refuses.
    """
    steps, variables = parse_words("dispatch", typed)
    if not steps:
        raise InvalidMessage("dispatch: name the steps, e.g. dispatch validate charge customer_email=ann@example.com")
    return steps, variables


def parse_words(command: str, typed: str) -> tuple[list[str], dict[str, msgspec.Raw]]:
    """The plain words, and the fields: words with an equals sign.

    A value that is JSON is meant as JSON, as it was written; any other is text. Quotes as in a shell.

    Raises:
        InvalidMessage: an open quote, a field without a name, or an option as a shell's command line has them.
    """
    words, values = _words(command, typed)
    if any(word.startswith("--") for word in (*words, *values)):
        # A step may be called so, but who types it means the option: the workflow would run with --var as an activity.
        can = {"insert": "the steps", "release": "field=value"}.get(command, "the steps, then field=value")
        raise InvalidMessage(f"{command}: options are for the shell; here write {can}")
    return words, values


def _words(command: str, typed: str) -> tuple[list[str], dict[str, msgspec.Raw]]:
    try:
        words = shlex.split(typed)
    except ValueError:
        raise InvalidMessage(f"{command}: a quote is not closed") from None
    steps: list[str] = []
    variables: dict[str, msgspec.Raw] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            steps.append(word)
        elif not name:
            raise InvalidMessage(f"{command}: {ascii(word)[:80]} has no name before the equals sign")
        else:
            variables[name] = json_or_text(value)
    return steps, variables


def parse_pace(command: str, typed: str) -> Pace:
    """When an operation begins and how fast it goes, as it stands behind its command: ``ramp rate=50 delay=90s``.

    Raises:
        InvalidMessage: something else stands there.
        ConfigError: a figure that cannot be.
    """
    words, written = _words(command, typed)
    values: dict[str, Any] = {name: msgspec.json.decode(value) for name, value in written.items()}
    if isinstance(delay := values.get("delay"), str):
        values["delay"] = duration(delay)
    wrong = [word for word in words if word != "ramp"] + [name for name in values if name not in _PACE]
    figures = {name: value for name, value in values.items() if _is_number(value)}
    if wrong or len(figures) < len(values):
        can = "only ramp, rate=N (a second), brake=PERCENT, delay=TIME (90s) and limit=N can stand behind it"
        raise InvalidMessage(f"{command}: {can}")
    return Pace(rate=figures.get("rate"), ramp=bool(words), brake=figures.get("brake"), delay=figures.get("delay", 0.0))


def parse_limit(command: str, typed: str) -> int | None:
    """How many workflows it may act on at most, as it stands behind a command: ``limit=5000``; None: it does not.

    Raises:
        InvalidMessage: it is no number from 1 on.
    """
    written = _words(command, typed)[1].get("limit")
    if written is None:
        return None
    most = msgspec.json.decode(written)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise InvalidMessage(f"{command}: limit={ascii(most)[:40]}: write a number from 1")
    return most


def parse_undo(typed: str) -> int | None:
    """What stands behind ``undo``, see :func:`parse_limit`.

    Raises:
        InvalidMessage: something else does, or it is no number from 1 on.
    """
    words, written = _words("undo", typed)
    if words or written.keys() - {"limit"}:
        raise InvalidMessage("undo: only limit=N can stand behind it, nothing was done; see `operations undo`")
    return parse_limit("undo", typed)


_PACE: Final = frozenset({"rate", "brake", "delay", "limit"})


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
