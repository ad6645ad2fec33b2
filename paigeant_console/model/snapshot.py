"""Where all workflows of a topic stand at one moment, for the commands.

Today this reads the whole journal, so it costs what the journal is long. `read_rows` is the seam at which a reader that
begins at the newest record, or an index of the broker's, can take its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from paigeant_console.model.fold import WAITING, Fold
from paigeant_console.model.row import Row, trust_of
from paigeant_console.model.trust import examine
from paigeant_core.journal import Record
from paigeant_core.transition import Place
from paigeant_core.transports import Transport

if TYPE_CHECKING:
    # Most lists ask for all, and do not need the language.
    from paigeant_console.model.query import Query
    from paigeant_core.security.trust import Trust

__all__ = ["PARKED_LIMIT", "PARKED_PLACES", "Snapshot", "parked", "read_rows"]

PARKED_LIMIT: Final = 100_000
"""Parked messages of each kind that are looked at."""
PARKED_PLACES: Final = (Place.DEAD, Place.HELD, Place.QUARANTINE)


class Snapshot:
    """All workflows of a topic.

    Attributes:
        fold: Their rows.
        now: When, by the transport's clock.
        bodies: Their last messages by ID, where they were asked for.
        policy: Whose signatures count; None: nobody can tell here.
        refusal: Why the broker takes no writes, where that is to be known; empty: it does.
    """

    __slots__ = ("_found", "bodies", "fold", "now", "policy", "refusal")

    def __init__(self) -> None:
        self.fold = Fold()
        self.now = 0.0
        self.bodies: dict[str, bytes] = {}
        self.policy: Trust | None = None
        self.refusal = ""
        self._found: dict[str, str] = {}

    def select(self, query: Query | None) -> Iterator[Row]:
        """The rows that a query selects, the one that moved last first.

        Args:
            query: What to look for; None: all.
        """
        # Of two that moved in the same millisecond the one that appeared later goes first.
        rows = sorted(self.fold.rows.values(), key=lambda row: row.at)
        rows.reverse()
        if query is None or query.selects_all:
            yield from rows
            return
        from paigeant_console.model.views import RowView

        for row in rows:
            if query.matches(RowView(self.fold, row, self.now, self.bodies.get(row.correlation_id), self.trust)):
                yield row

    def document(self, row: Row) -> dict[str, Any]:
        """A row as `list --json` shows it.

        Args:
            row: Which.
        """
        return {**self.fold.document(row, self.now), "trust": self.trust(row)}

    def trust(self, row: Row) -> str:
        """What a row's signatures are worth; verified once, when it is first asked for.

        Args:
            row: Which.
        """
        correlation_id = row.correlation_id
        found = self._found.get(correlation_id)
        if found is None:
            body = self.bodies.get(correlation_id)
            if self.policy is None or body is None:
                found = trust_of(row)
            else:
                found = examine(body, self.policy, self.now, row.at).status
            self._found[correlation_id] = found
        return found


async def parked(transport: Transport, topic: str) -> list[Record]:
    """What is parked, dead letters first; of each kind as many as are looked at."""
    found: list[Record] = []
    for place in PARKED_PLACES:
        found += await transport.parked(topic, place, PARKED_LIMIT)
    return found


async def read_rows(
    transport: Transport, topic: str, *, payloads: bool = False, policy: Trust | None = None
) -> Snapshot:
    """Read where all workflows of a topic stand, and what their workers say.

    Args:
        transport: Where.
        topic: Which.
        payloads: Keep each workflow's last message, for queries that ask for the payload.
        policy: Whose signatures count, for who asks what they are worth; None: nobody can tell here, or asks.
    """
    snapshot = Snapshot()
    snapshot.policy = policy
    payloads = payloads or policy is not None
    async for batch in transport.records(topic):
        _take(snapshot, batch, payloads)
    # They outlive the journal, so the ones that it has forgotten are here alone.
    found = await parked(transport, topic)
    _take(snapshot, [record for record in found if record.headers.correlation_id not in snapshot.fold.rows], payloads)
    workers = await transport.workers(topic)
    # Those that died matter to what waits alone.
    waits = any(row.base in WAITING for row in snapshot.fold.rows.values())
    silent = await transport.silent(topic) if waits else ()
    snapshot.fold.paused = await transport.pauses(topic)
    snapshot.now = transport.clock.now()
    if waits:
        snapshot.refusal = await transport.refusal(topic)
    if not snapshot.refusal:
        # While nobody can write, nobody can say that he lives.
        snapshot.fold.observe(workers, snapshot.now, silent)
    return snapshot


def _take(snapshot: Snapshot, records: list[Record], payloads: bool) -> None:
    rows = snapshot.fold.rows
    if not payloads:
        snapshot.fold.apply(records)
        return
    for record in records:
        snapshot.fold.apply((record,))
        correlation_id = record.headers.correlation_id
        # Only of the record that the row now stands at: a copy that came late does not count.
        if record.body is not None and correlation_id in rows and rows[correlation_id].token == record.id:
            snapshot.bodies[correlation_id] = record.body
