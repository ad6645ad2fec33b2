"""What is typed after `:dispatch`: steps and fields."""

from __future__ import annotations

import shlex
from typing import Any

import msgspec

from paigeant_core.errors import InvalidMessage


def parse_dispatch(typed: str) -> tuple[list[str], dict[str, Any]]:
    """The steps, and the payload's fields: words with an equals sign.

    A value that is JSON is meant as JSON; any other is text. Quotes as in a shell.

    Raises:
        InvalidMessage: no step, an open quote, or a field without a name.
    """
    try:
        words = shlex.split(typed)
    except ValueError:
        raise InvalidMessage("dispatch: a quote is not closed") from None
    steps: list[str] = []
    variables: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            steps.append(word)
        elif not name:
            raise InvalidMessage(f"dispatch: {ascii(word)[:80]} has no name before the equals sign")
        else:
            try:
                variables[name] = msgspec.json.decode(value)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                variables[name] = value
    if not steps:
        raise InvalidMessage("dispatch: name the steps, e.g. dispatch validate charge customer_email=ann@example.com")
    return steps, variables
