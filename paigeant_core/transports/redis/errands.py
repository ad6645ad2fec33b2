"""What rides along beside settles and claims: copies that are given back, and questions to the fence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from redis.exceptions import ResponseError

from paigeant_core.errors import TransportError
from paigeant_core.transports.redis.encoding import Token, back, witness
from paigeant_core.transports.redis.endpoint import Endpoint, is_transient
from paigeant_core.transports.redis.keys import Keys
from paigeant_core.transports.redis.scripts import Command
from paigeant_core.transports.redis.settling import Answer
from paigeant_core.transports.types import Copy, Witness

_Back: TypeAlias = "tuple[Token, asyncio.Future[None] | None]"
_Ask: TypeAlias = "tuple[Token, str, asyncio.Future[Witness]]"
Taken: TypeAlias = "tuple[list[_Back], list[_Ask]]"


class Errands:
    """What waits to be given back or asked, and who waits for it.

    The pump sends what is ready with its own round trips.

    Args:
        endpoint: where to.
        keys: the topic's.
        worker: whose.
        kick: wakes the pump.
    """

    def __init__(self, endpoint: Endpoint, keys: Keys, worker: str, kick: Callable[[], None]) -> None:
        self.backs: list[_Back] = []
        self.asks: list[_Ask] = []
        self.leaving: set[Token] = set()
        """Copies on their way back, until the server answered for good: this worker still has them there."""
        self._endpoint = endpoint
        self._keys = keys
        self._worker = worker
        self._kick = kick

    def give_back(self, token: Token, future: asyncio.Future[None] | None = None) -> None:
        """Put a claimed message back; ``future`` is told when that is done."""
        self.backs.append((token, future))
        self.leaving.add(token)
        self._kick()

    async def witness(self, token: Token, correlation_id: str) -> Witness:
        """Ask what the fence knows."""
        future: asyncio.Future[Witness] = asyncio.get_running_loop().create_future()
        self.asks.append((token, correlation_id, future))
        self._kick()
        return await future

    def take(self, commands: list[Command], answers: list[Answer]) -> Taken:
        """Put all that is ready into ``commands``, and who reads their answers into ``answers``."""
        backs, self.backs = self.backs, []
        if backs:
            commands.append(back(self._keys, self._worker, [token for token, _ in backs]))
            answers.append(partial(self._gave_back, backs))
        asks, self.asks = self.asks, []
        for ask in asks:
            commands.append(witness(self._keys, ask[1], ask[0]))
            answers.append(partial(self._witnessed, ask))
        return backs, asks

    def restore(self, taken: Taken) -> None:
        """The line broke: what was taken is to be sent again."""
        backs, asks = taken
        self.backs = backs + self.backs
        self.asks = asks + self.asks

    def give_up(self, error: TransportError) -> bool:
        """Tell whoever waits for an answer; False: nobody did."""
        asked: list[asyncio.Future[Any]] = [
            *(future for _, future in self.backs if future is not None),
            *(future for _, _, future in self.asks),
        ]
        self.leaving.difference_update(token for token, _ in self.backs)
        self.backs, self.asks = [], []
        waiting = [future for future in asked if not future.done()]
        for future in waiting:
            future.set_exception(error)
        return bool(waiting)

    # -- answers ------------------------------------------------------------------------

    def _gave_back(self, backs: list[_Back], answer: Any) -> None:
        if isinstance(answer, ResponseError) and is_transient(answer):
            self.backs += backs
            self._endpoint.check(answer)
        self.leaving.difference_update(token for token, _ in backs)
        for future in [future for _, future in backs if future is not None and not future.done()]:
            if isinstance(answer, ResponseError):
                future.set_exception(self._endpoint.refused(answer))
            else:
                future.set_result(None)

    def _witnessed(self, ask: _Ask, answer: Any) -> None:
        future = ask[2]
        if isinstance(answer, ResponseError) and is_transient(answer):
            self.asks.append(ask)
            self._endpoint.check(answer)
        if future.done():
            return
        if isinstance(answer, ResponseError):
            future.set_exception(self._endpoint.refused(answer))
        else:
            future.set_result(Witness(Copy(answer[0].decode()), answer[1].decode("ascii", "replace")))
