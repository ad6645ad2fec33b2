"""`tail`: the journal as it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from paigeant_console.commands._call import Call, command
from paigeant_console.exit_codes import ExitCode

if TYPE_CHECKING:
    from paigeant_console.safe_text import SafeText

__all__ = ["tail"]


@command
def tail(
    call: Call,
    query: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY", help="What to select, e.g. 'kind:dead_lettered'.", show_default=False),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="WHEN", help="From 10m, 2h or 1d ago, from the start, or from a time (RFC 3339)."
        ),
    ] = None,
    no_follow: Annotated[
        bool, typer.Option("--no-follow", help="Leave when all is read; without --since: from the start.")
    ] = False,
) -> int:
    """Print what the journal gets, from now on or from a moment in the past; nothing is taken from any queue."""
    from paigeant_console.commands._following import Following
    from paigeant_console.model.query import parse
    from paigeant_console.model.views import RecordView
    from paigeant_console.output import note
    from paigeant_console.runner import run
    from paigeant_core.transports.following import Missed

    topic = call.settings.topic
    said = {
        Missed.TRIMMED: "records were missed here: the journal was trimmed before they could be read",
        Missed.ANEW: "the topic was deleted, or its broker lost the journal; from here on it is a new one's",
    }
    wanted = parse(" ".join(query or ()), "record")

    async def main() -> int:
        async with call.broker() as transport:
            start = _start(since, no_follow, transport.clock.now())
            batches = (
                transport.records(topic, start=start)
                if no_follow
                else Following(transport, topic).records(start, lambda missed: note(said[missed]))
            )
            async for batch in batches:
                now = transport.clock.now()
                for record in batch:
                    document = record.to_document()
                    if not wanted.selects_all and not wanted.matches(RecordView(record, now, document)):
                        continue
                    if call.out.as_json:
                        call.out.document(document)
                    else:
                        call.out.line(_line(document))
                # At each batch, so that whoever reads the pipe sees a record when it comes.
                call.out.flush()
        return ExitCode.OK

    return run(main(), while_read=not no_follow)


def _start(since: str | None, no_follow: bool, now: float) -> str | float:
    from paigeant_console.model.time_span import duration
    from paigeant_core.clock import parse_rfc3339
    from paigeant_core.errors import ConfigError
    from paigeant_core.transports.types import END, START

    if since is None:
        return START if no_follow else END
    if since == START:
        return START
    if (span := duration(since)) is not None:
        return now - span
    try:
        return parse_rfc3339(since)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--since {ascii(since)[:60]}: write 10m, 2h, 1d, start or a time such as 2026-01-31T09:05:00Z"
        ) from None


def _line(document: dict[str, Any]) -> SafeText:
    from paigeant_console.human import detail_text, moment
    from paigeant_console.safe_text import cells, joined, literal, safe

    parts = [moment(document["at"]), cells(safe(document["kind"]), 13)]
    if document["correlation_id"]:
        parts += [safe(document["correlation_id"][:12]), safe(document["activity"] or "-")]
        parts.append(literal(f"hop {document['hop']}") if isinstance(document["hop"], int) else literal("hop ?"))
        if isinstance(document["attempt"], int) and document["attempt"] > 1:
            parts.append(literal(f"try {document['attempt']}"))
    if document["worker"]:
        parts.append(safe(document["worker"]))
    if document["detail"]:
        parts.append(detail_text(document["detail"]))
    return joined(parts, literal("  "))
