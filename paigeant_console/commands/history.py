"""`history`: what consoles of this machine saw, also of what the broker's journal holds no more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from paigeant_console.commands._call import Call, command
from paigeant_console.commands.look import print_rows
from paigeant_console.exit_codes import ExitCode
from paigeant_console.output import note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paigeant_console.history import History
    from paigeant_console.model.fold import Fold
    from paigeant_console.model.query import Query
    from paigeant_console.model.row import Row

__all__ = ["history"]


@command
def history(
    call: Call,
    query: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY", help="What to select, e.g. 'state:dead age:>10d'.", show_default=False),
    ] = None,
    limit: Annotated[str | None, typer.Option("--limit", metavar="N", help="At most so many.")] = None,
) -> int:
    """List workflows as consoles of this machine saw them last, without asking the broker.

    QUERY is that of list, payload text included. A console keeps what it sees of a topic in a file of its user, without
    tokens and secrets, until it is 90 days old or the file has 512 MB; PAIGEANT_HISTORY=0 turns that off.
    """
    from paigeant_console.commands._values import count
    from paigeant_console.history import History, history_path
    from paigeant_console.model.fold import Fold
    from paigeant_console.model.query import parse

    most = count(limit, "--limit")
    path = history_path(call.settings.url, call.settings.topic)
    # What looks like a secret is not kept, so what was signed may not be what is here.
    wanted = parse(" ".join(query or ()), "workflow", unverified="list selects by it")
    if path is None or not path.exists():
        off = "it is turned off, or there is no home directory to keep it in"
        why = off if path is None else "no console of this user has looked at it"
        note(f"there is no history of topic {call.settings.topic} here: {why}")
        return ExitCode.OK
    fold, now = Fold(), time.time()
    rows: list[Row] = []
    for row in _selected(History(path), wanted, fold, now):
        if most is not None and len(rows) >= most:
            break
        rows.append(row)
        if call.out.as_json:
            call.out.document(fold.document(row, now))
    if not call.out.as_json and rows:
        print_rows(call, fold, rows, now)
    elif not rows:
        note(f"no workflow {'is selected' if query else 'was seen'} in topic {call.settings.topic}")
    return ExitCode.OK


def _selected(kept: History, wanted: Query, fold: Fold, now: float) -> Iterator[Row]:
    from paigeant_console.model.views import RowView

    for record in kept.candidates(wanted):
        fold.apply((record,))
        row = fold.rows.get(record.headers.correlation_id)
        if row is not None and wanted.matches(RowView(fold, row, now, record.body)):
            yield row
