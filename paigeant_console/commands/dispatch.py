"""`dispatch`: start a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast
from urllib.parse import urlsplit

import typer

from paigeant_console.commands._call import Call, command
from paigeant_console.exit_codes import ExitCode
from paigeant_console.output import note

if TYPE_CHECKING:
    from paigeant_core.routing import OnFailure

__all__ = ["dispatch"]


@command
def dispatch(
    call: Call,
    steps: Annotated[
        list[str] | None,
        typer.Argument(metavar="STEP", help='Steps in order: names, or {"name":"charge","arguments":{"amount":5}}.'),
    ] = None,
    var: Annotated[
        list[str] | None,
        typer.Option("--var", metavar="K=V", help="A field of the payload; V is JSON if it reads as JSON, else text."),
    ] = None,
    payload: Annotated[
        str | None, typer.Option("--payload", metavar="FILE|-", help="The payload, a JSON object.")
    ] = None,
    correlation_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="A correlation ID of your own; the same twice is refused.")
    ] = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What kind of workflow it is.")] = "",
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="K=V", help="For `list` to select by; may be repeated.")
    ] = None,
    on_failure: Annotated[
        str,
        typer.Option(
            "--on-failure", metavar="WHAT", help="dead_letter, or compensate: undo the executed steps when one fails."
        ),
    ] = "dead_letter",
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file",
            metavar="FILE|-",
            help="The token of the user on whose behalf it runs, in a file of mode 600.",
        ),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", metavar="S", help="What the token permits, where it does not tell; may be repeated."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow it until it ended: exit 0 if it completed, else 1.")
    ] = False,
) -> int:
    """Start a workflow and print its correlation ID."""
    call.refuse_if_read_only("dispatch")
    from paigeant_console.commands import _values
    from paigeant_console.commands._signing import dispatchers_key, read_token, tokens_of_environment
    from paigeant_console.commands._wait import outcome, wait_until_over
    from paigeant_console.human import text
    from paigeant_console.runner import run
    from paigeant_core.dispatcher import WorkflowDispatcher, new_workflow

    topic = call.settings.topic
    itinerary = [_values.step(item) for item in steps or ()]
    variables = _values.payload_with(_values.read_payload(payload), _values.variables(var))
    labels = _values.pairs(label, "--label")
    then = cast("OnFailure", on_failure.replace("-", "_"))
    signer, tokens, token = dispatchers_key(), tokens_of_environment(), read_token(token_file)
    if token is not None and tokens is None:
        _refuse_in_clear(call.settings.url)
    # Looked at here, so that what cannot be is said even when no broker answers.
    new_workflow(
        itinerary,
        variables,
        topic=topic,
        at=0.0,
        obo_token=token,
        obo_scopes=scope or None,
        correlation_id=correlation_id,
        name=name,
        labels=labels,
        on_failure=then,
    )

    async def main() -> int:
        async with call.broker() as transport:
            started = await WorkflowDispatcher(transport, signer=signer, tokens=tokens).dispatch_workflow(
                itinerary,
                variables,
                obo_token=token,
                obo_scopes=scope or None,
                topic=topic,
                correlation_id=correlation_id,
                name=name,
                labels=labels,
                on_failure=then,
            )
            if call.out.as_json:
                call.out.document({"correlation_id": started})
            else:
                call.out.line(text(started))
            call.out.flush()
            if not wait:
                return ExitCode.OK
            state = await wait_until_over(transport, topic, started)
            note(f"{started} is {state}")
            return outcome(state)

    return run(main())


def _refuse_in_clear(url: str) -> None:
    """Say that a token cannot ride there before anybody asks whether the broker is up.

    Raises:
        ConfigError: The broker stores messages.
    """
    if urlsplit(url).scheme != "memory":
        from paigeant_core.dispatcher import NEEDS_KEY
        from paigeant_core.errors import ConfigError

        raise ConfigError(NEEDS_KEY)
