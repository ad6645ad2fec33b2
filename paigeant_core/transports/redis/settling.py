"""Settles on their way: together in few calls, each answered for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from redis.exceptions import ResponseError

from paigeant_core.errors import TransportError
from paigeant_core.handoff import heed
from paigeant_core.journal import Record
from paigeant_core.transition import Transition, superseded
from paigeant_core.transports.redis.encoding import Move, Token, late, move
from paigeant_core.transports.redis.endpoint import Endpoint, is_transient
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.scripts import Command
from paigeant_core.transports.types import Delivery, Settled

BATCH = 128
"""Moves in one call of the script: the server does nothing else meanwhile, for about 4 ms."""
BATCH_BYTES = 1024 * 1024

Answer: TypeAlias = Callable[[Any], None]


class Settling:
    """A settle or deferral that waits to be carried out."""

    __slots__ = ("alone", "delivery", "future", "move", "plain", "size", "transition", "unheeded")

    def __init__(
        self,
        delivery: Delivery,
        transition: Transition,
        item: Move,
        future: asyncio.Future[Settled],
        *,
        plain: bool,
    ) -> None:
        self.delivery = delivery
        self.transition = transition
        self.move = item
        self.future = future
        self.size = len(transition.record.body or b"")
        self.plain = plain
        """Nothing is to be remembered of it once it is done; so with nearly every hop."""
        self.alone = False
        """It is not sent together with others: one of them was refused."""
        self.unheeded: tuple[Transition, Move] | None = None
        """Transition and move as they were before a request was heeded."""


class Settler:
    """What waits to be settled, what is under way, and what came of it.

    The pump sends what is ready with its own round trips.

    Args:
        endpoint: where to.
        keys: the topic's.
        held: what the worker holds; what is settled is taken out.
        done: told of each transition that was carried out and is not plain.
        kick: wakes the pump.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        keys: Keys,
        held: dict[Token, Delivery],
        done: Callable[[Transition], None],
        kick: Callable[[], None],
    ) -> None:
        self._endpoint = endpoint
        self._keys = keys
        self._held = held
        self._done = done
        self._kick = kick
        self._queue: list[Settling] = []
        self._lates: list[Settling] = []
        self._flying: dict[int, Settling] = {}

    @property
    def ready(self) -> bool:
        """Whether there is something to send."""
        return bool(self._queue or self._lates)

    @property
    def idle(self) -> bool:
        """Whether everything is settled."""
        return not (self._queue or self._lates or self._flying)

    def add(self, item: Settling) -> None:
        """Carry out ``item`` as soon as can be."""
        self._queue.append(item)
        self._kick()

    def take(self, commands: list[Command], answers: list[Answer]) -> list[Settling]:
        """Put all that is ready into ``commands``, and who reads their answers into ``answers``."""
        queue, self._queue = self._queue, []
        lates, self._lates = self._lates, []
        for part in chunks(queue):
            commands.append(move(self._keys, [item.move for item in part]))
            answers.append(partial(self._settled, part))
        for item in lates:
            commands.append(late(self._keys, superseded(item.transition), item.delivery.token))
            answers.append(partial(self._was_late, item))
        taken = queue + lates
        for item in taken:
            self._flying[id(item)] = item
        return taken

    def restore(self, taken: list[Settling]) -> None:
        """The line broke: what was taken is to be sent again."""
        # A late one is found late again, so one queue will do.
        for item in taken:
            self._flying.pop(id(item), None)
        self._queue = taken + self._queue

    def give_up(self, error: TransportError) -> bool:
        """Tell whoever waits for a settle; False: nobody did."""
        asked = [*self._queue, *self._lates, *self._flying.values()]
        self._queue, self._lates = [], []
        waiting = [item for item in asked if not item.future.done()]
        for item in asked:
            self._refused(item, error)
        return bool(waiting)

    # -- answers ------------------------------------------------------------------------

    def _settled(self, part: list[Settling], answer: Any) -> None:
        if isinstance(answer, ResponseError):
            if is_transient(answer):
                self.restore(part)
                self._endpoint.check(answer)
            elif len(part) > 1:
                # Nothing of it was done, or a part: each move is known by its ID, so all are sent again.
                for item in part:
                    item.alone = True
                self.restore(part)
            else:
                self._refused(part[0], self._endpoint.refused(answer))
            return
        problem: ResponseError | None = None
        for item, result in zip(part, answer, strict=True):
            if result == 0:
                self._finished(item, Settled.DONE)
            elif result == 1:
                self._finished(item, Settled.ALREADY)
            elif result == 2 and item.unheeded is not None:
                # Another request may have taken the place of the one it heeds: sent as at first, it is told
                # which, and nothing of the one that was taken back stays.
                (item.transition, item.move), item.unheeded = item.unheeded, None
                self.restore([item])
            elif result == 2:
                self._flying.pop(id(item), None)
                self._lates.append(item)
            elif isinstance(result, bytes):
                self._asked(item, result)
            elif is_transient(result):
                self.restore([item])
                problem = result
            else:
                self._refused(item, self._endpoint.refused(result))
        self._endpoint.check(problem)

    def _asked(self, item: Settling, meta: bytes) -> None:
        """An operator asked for something while the step ran: settle, or defer, it so that it is heeded."""
        asked = Record.decode(meta, None, position="")
        item.unheeded = item.transition, item.move
        item.transition = heed(item.transition, asked)
        item.move = Move(
            self._keys, "settle", item.transition, expect=asked.id, claimed=item.delivery.token, fresh=True
        )
        item.plain = False
        self.restore([item])

    def _was_late(self, item: Settling, answer: Any) -> None:
        if not isinstance(answer, ResponseError):
            self._finished(item, Settled.SUPERSEDED)
        elif is_transient(answer):
            self.restore([item])
            self._endpoint.check(answer)
        else:
            self._refused(item, self._endpoint.refused(answer))

    def _finished(self, item: Settling, settled: Settled) -> None:
        self._flying.pop(id(item), None)
        self._held.pop(item.delivery.token, None)
        item.delivery.settled = True
        if settled is Settled.DONE and not item.plain:
            self._done(item.transition)
        if not item.future.done():
            item.future.set_result(settled)

    def _refused(self, item: Settling, error: TransportError) -> None:
        self._flying.pop(id(item), None)
        # No longer renewed: it comes again when its lease is over, as after a death.
        self._held.pop(item.delivery.token, None)
        if not item.future.done():
            item.future.set_exception(error)


def chunks(settles: list[Settling]) -> list[list[Settling]]:
    """``settles`` in parts that one call of the script may hold."""
    if len(settles) <= 1:
        return [settles] if settles else []
    together = [item for item in settles if not item.alone]
    parts = [[item] for item in settles if item.alone]
    if len(together) <= BATCH and sum([item.size for item in together]) <= BATCH_BYTES:
        return [together, *parts] if together else parts
    size = BATCH_BYTES + 1
    for item in together:
        if size + item.size > BATCH_BYTES or len(parts[-1]) >= BATCH:
            parts.append([])
            size = 0
        parts[-1].append(item)
        size += item.size
    return parts
