"""What could make a topic lose work or stand still: found by looking, with nothing changed.

    for finding in await examine(transport, "workflows"): ...

Each transport looks at its own broker (:meth:`Transport.examine`); what is the same for
all of them is looked at here.
"""

from __future__ import annotations

from paigeant_core.errors import ConnectError, TransportError
from paigeant_core.transports import Transport
from paigeant_core.transports.types import Finding, Level

__all__ = ["Finding", "Level", "examine"]


async def examine(transport: Transport, topic: str) -> list[Finding]:
    """All findings, the good ones too.

    Args:
        transport: connected.
        topic: which.

    Raises:
        TransportError: the broker does not answer, or refuses to be looked at.
    """
    info = await transport.broker_info()
    found = [Finding("connection", Level.OK, f"{info.broker} {info.version} answers at {transport.url}")]
    found += await transport.examine(topic)
    try:
        return found + await _workers(transport, topic)
    except ConnectError:
        raise
    except TransportError as error:
        # What is forbidden to this user takes nothing away from the rest.
        remedy = "give this user what else is found to be missing, and look again"
        return [*found, Finding("workers", Level.UNKNOWN, f"they cannot be looked at: {error}", remedy)]


async def _workers(transport: Transport, topic: str) -> list[Finding]:
    workers = await transport.workers(topic)
    served = {activity for status in workers for activity in status.info.activities}
    everything = any(not status.info.activities for status in workers)
    found: list[Finding] = []
    for queue in await transport.queues(topic):
        waiting = (queue.ready or 0) + (queue.delayed or 0)
        if waiting and not everything and queue.activity not in served:
            found.append(
                Finding(
                    "workers",
                    Level.PROBLEM,
                    f"{waiting:,} wait for {queue.activity}, and no worker serves it",
                    f"start one: paigeant-console worker TARGET --activity {queue.activity}",
                )
            )
    if not workers:
        found.append(Finding("workers", Level.WARNING, f"no worker serves topic {topic}", "start one"))
    elif not found:
        found.append(Finding("workers", Level.OK, f"{len(workers):,} live, and serve all that waits"))
    return found
