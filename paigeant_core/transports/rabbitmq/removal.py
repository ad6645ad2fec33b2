"""Taking away all that a topic has on RabbitMQ.

``queue.delete`` and ``exchange.delete`` of what is not there succeed (RabbitMQ, from 3.0),
so everything that may be there is deleted. Work queues are those of the activities that the
topic's streams name, and, where the management API can be asked, all that begin like ours.
"""

from __future__ import annotations

from collections.abc import Iterable

from paigeant_core.transports.rabbitmq.connection import Line
from paigeant_core.transports.rabbitmq.management import Management
from paigeant_core.transports.rabbitmq.topology import RUNGS, STREAMS, Names


async def remove(line: Line, names: Names, activities: Iterable[str], marks: Iterable[str]) -> None:
    """Delete queues, streams and exchanges of a topic.

    Args:
        line: over which.
        names: of the topic.
        activities: that its streams name.
        marks: queues of it that tell of a node's death.

    Raises:
        TransportError: the broker cannot be asked, or does not let this user do it.
    """
    queues = {*marks, *(names.work(activity) for activity in activities)}
    async with Management(line.url) as api:
        listed = await api.rows("queues", line.vhost)
    # Between dots `work` and `boot` name no topic, so none of another one begins like that.
    ours = (names.work(""), f"{names.boot}.")
    queues |= {str(row.get("name")) for row in listed or () if str(row.get("name")).startswith(ours)}
    queues |= {names.rung(millis) for millis in RUNGS}
    streams = [names.stream(name) for name in STREAMS]
    # The exchanges first: whoever publishes now is told so, and nothing comes behind.
    for exchange in (names.exchange, names.delay, names.due, names.boot):
        async with line.borrowed() as channel:
            await channel.exchange_delete(exchange)
    for queue in [*sorted(queues), *streams]:
        async with line.borrowed() as channel:
            await channel.queue_delete(queue)
