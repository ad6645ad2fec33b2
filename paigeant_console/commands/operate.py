"""The verbs that act on workflows, each an action of `paigeant_core.operations`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from paigeant_console.commands._operation import verb

if TYPE_CHECKING:
    from paigeant_core.operations import Action

__all__ = [
    "cancel",
    "compensate",
    "dead_letter",
    "hold",
    "insert",
    "release",
    "replay",
    "restore",
    "retry",
    "skip",
    "undo",
]

Var = Annotated[
    list[str] | None,
    typer.Option("--var", metavar="K=V", help="Change a field of the payload; V is JSON if it reads as JSON."),
]


@verb("retry")
def retry() -> Action:
    """Run the step where workflows stand again, now, with attempts starting anew and the same idempotency key."""
    from paigeant_core.operations import Retry

    return Retry()


@verb("replay")
def replay(
    from_step: Annotated[
        str | None,
        typer.Option("--from-step", metavar="N|NAME", help="A hop (1...), or a step: its last occurrence so far."),
    ] = None,
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="FILE|-", help="A JSON object in place of the payload.")
    ] = None,
    var: Var = None,
    step: Annotated[
        list[str] | None,
        typer.Option("--step", metavar="STEP", help="A step to do from there, in place of those that were left."),
    ] = None,
    as_new: Annotated[
        bool, typer.Option("--as-new", help="Start another workflow there; leave this one alone.")
    ] = False,
) -> Action:
    """Do the work again from a step, in a new run: as it was there, or with a mended payload or itinerary."""
    from paigeant_console.commands import _values
    from paigeant_core.operations import Replay
    from paigeant_core.routing import to_step

    return Replay(
        from_step=int(from_step) if from_step is not None and _is_hop(from_step) else from_step,
        payload=_values.read_payload(payload),
        changes=_values.variables(var),
        as_new=as_new,
        itinerary=tuple(to_step(_values.step(text)) for text in step) if step else None,
    )


@verb("dead-letter")
def dead_letter() -> Action:
    """Take workflows out of the way: park their messages among the dead letters, from where they can be retried."""
    from paigeant_core.operations import DeadLetter

    return DeadLetter()


@verb("hold")
def hold() -> Action:
    """Park workflows where they stand until they are released; a step that runs is finished first."""
    from paigeant_core.operations import Hold

    return Hold()


@verb("release")
def release(
    var: Var = None,
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file",
            metavar="FILE|-",
            help="The user's new token, in a file of mode 600, where the old one is over.",
        ),
    ] = None,
) -> Action:
    """Let held workflows go on, with values where a person was asked; take back a hold that is still to come."""
    from paigeant_console.commands import _values
    from paigeant_console.commands._signing import read_token, tokens_of_environment
    from paigeant_core.operations import Release

    token = read_token(token_file)
    return Release(_values.variables(var), token, None if token is None else tokens_of_environment())


@verb("skip")
def skip() -> Action:
    """Leave out the step where workflows stand: it counts as done, by nobody."""
    from paigeant_core.operations import Skip

    return Skip()


@verb("cancel")
def cancel() -> Action:
    """End workflows where they stand; a step that runs is finished first, and nothing is undone."""
    from paigeant_core.operations import Cancel

    return Cancel()


@verb("compensate")
def compensate() -> Action:
    """Undo the steps that were done, last first, and end workflows so; a step that runs is finished first."""
    from paigeant_core.operations import Compensate

    return Compensate()


@verb("restore")
def restore() -> Action:
    """Bring workflows out of the dead letters, or their messages out of quarantine, to where they were."""
    from paigeant_core.operations import Restore

    return Restore()


@verb("insert", by="option")
def insert(
    steps: Annotated[
        list[str] | None,
        typer.Argument(metavar="STEP", help="Activities in order, or JSON objects with name and arguments."),
    ] = None,
) -> Action:
    """Put steps right behind the one where workflows stand."""
    from paigeant_console.commands import _values
    from paigeant_core.errors import ConfigError
    from paigeant_core.operations import Insert
    from paigeant_core.routing import to_step

    if not steps:
        raise ConfigError("name the steps to insert")
    return Insert(tuple(to_step(_values.step(text)) for text in steps))


@verb("undo", by="action")
def undo(
    operation: Annotated[
        str | None, typer.Argument(metavar="OPERATION", help="The ID that the operation reported, or its beginning.")
    ] = None,
) -> Action:
    """Undo a hold, a cancel or a dead-letter, where nothing else happened to the workflow since.

    Of all workflows that the operation was done to, or of those that are named.
    """
    from paigeant_core.errors import ConfigError
    from paigeant_core.operations import Undo

    if not operation:
        raise ConfigError("name the operation by the ID that it reported; audit shows it too")
    return Undo(operation)


def _is_hop(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10
