"""A worker's free slots, and the messages that are claimed for them.

A claim asks for half of the slots at most. While every claim is answered in full, a
second one is under way behind the first: the worker runs one half while the server
hands the other on. A slot is free as soon as its step is being settled. What a claim
brings before the worker asks again is kept as spare: there are slots for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from paigeant_core.errors import TransportError
from paigeant_core.transports.redis.encoding import Token
from paigeant_core.transports.types import Delivery, Take

STALE = 1.0
"""Seconds after which spare that the worker does not ask for goes back: it is ending, or stuck."""


class Waiter:
    """A claim that waits for work.

    Args:
        slots: the most that it takes.
        future: has what was claimed, or nothing where ``take`` had it.
        take: is given it at once.
    """

    __slots__ = ("_take", "error", "future", "slots")

    def __init__(self, slots: int, future: asyncio.Future[list[Delivery]], take: Take | None = None) -> None:
        self.slots = slots
        self.future = future
        self._take = take
        self.error: Exception | None = None

    def answer(self, deliveries: list[Delivery]) -> None:
        """Here they are."""
        if self._take is None:
            self.future.set_result(deliveries)
            return
        # Of much work whoever waits wakes before it begins, and asks for more; work that comes alone begins at once.
        alone = len(deliveries) == 1
        if not alone:
            self.future.set_result([])
        try:
            self._take(deliveries)
        except Exception as error:  # noqa: BLE001 - raised to whoever waits
            self.error = error
        if alone:
            self.future.set_result([])

    def refuse(self, error: TransportError) -> bool:
        """There is none, and will not be; False: it has an answer already."""
        if self.future.done():
            return False
        self.future.set_exception(error)
        return True


class Slots:
    """See the module.

    Args:
        concurrency: how many there are.
        held: what the worker holds; what is claimed is put in.
        give_back: puts a claimed message back into its queue.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        concurrency: int,
        held: dict[Token, Delivery],
        give_back: Callable[[Token], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.waiter: Waiter | None = None
        self.asked = 0
        """Messages that the claims under way ask for."""
        self.paused: frozenset[str] = frozenset()
        """Activities whose messages go back."""
        self.plenty = False
        """The last claim was answered in full."""
        self._concurrency = concurrency
        self._half = -(-concurrency // 2)
        self._held = held
        self._give_back = give_back
        self._clock = clock
        self._free = 0
        """As the worker told last, less what it was given since, and with what it settled since."""
        self._spare: list[Delivery] = []
        self._spared_at = 0.0

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for work."""
        return self.waiter is not None and not self.waiter.future.done()

    @property
    def claimable(self) -> int:
        """How many messages the next claim may ask for."""
        if self.waiter is None or not self.wanted:
            return 0
        # A broker that does not answer must not let settles pile up: twice the slots are the most.
        most = max(self.waiter.slots - len(self._spare), 2 * self._concurrency - len(self._held))
        room = min(self._free - len(self._spare), most) - self.asked
        if self.asked or self._spare:
            # Behind a claim that is under way only a whole half is worth one more.
            return self._half if self.plenty and room >= self._half else 0
        return max(0, min(room, self._half))

    @property
    def ready(self) -> bool:
        """Whether there is spare for whoever waits."""
        return bool(self._spare) and self.wanted

    def wait(self, waiter: Waiter) -> None:
        """Find work for ``waiter``."""
        self.waiter = waiter
        self._free = waiter.slots

    def freed(self) -> None:
        """A step is being settled."""
        self._free = min(self._free + 1, self._concurrency)

    def withdraw(self) -> None:
        """Nobody waits any more."""
        self._free = 0
        self.hand_out()

    def offer(self, deliveries: list[Delivery]) -> None:
        """Take in what was claimed; whoever waits has it at once."""
        for delivery in deliveries:
            self._held[delivery.token] = delivery
        self._spare += deliveries
        self.hand_out()
        if self._spare:
            self._spared_at = self._clock()

    def refuse(self, error: TransportError) -> bool:
        """Tell whoever waits that there is no work and will not be; False: nobody does."""
        return self.waiter is not None and self.waiter.refuse(error)

    def look(self) -> None:
        """Give back what nobody came for."""
        if self._spare and self._clock() - self._spared_at > STALE:
            self.withdraw()

    def hand_out(self) -> None:
        """Give the spare to whoever waits; what is paused by now, or has no free slot, goes back."""
        spare, self._spare = self._spare, []
        if self.paused:
            for delivery in spare:
                if delivery.activity in self.paused:
                    self._give_back(delivery.token)
            spare = [delivery for delivery in spare if delivery.activity not in self.paused]
        if spare and self.waiter is not None and not self.waiter.future.done():
            slots = self.waiter.slots
            taken, spare = spare[:slots], spare[slots:]
            self._free -= len(taken)
            self.waiter.answer(taken)
        self._spare = spare[: self._free]
        for delivery in spare[self._free :]:
            self._give_back(delivery.token)
