"""When a worker looks for steps that nobody renewed, and for what it holds without knowing it."""

from __future__ import annotations

import re

_UPTIME = re.compile(rb"^uptime_in_seconds:(\d+)", re.MULTILINE)


class Takeovers:
    """When the next claim is a takeover, and of what.

    Args:
        lease: seconds after which a worker that renewed nothing has lost its steps.
    """

    def __init__(self, lease: float) -> None:
        self.limbo = False
        """The answer to a claim was lost with the line: this worker may hold what it does not know of."""
        self.at = 0.0
        """The loop's time from which on the next claim takes over what the others did not renew."""
        self._lease = lease

    @property
    def idle(self) -> float:
        """Seconds for which nobody must have renewed what is taken over now; 0: what is in limbo, at once."""
        # It comes first: its lease is this worker's own.
        return 0.0 if self.limbo else self._lease

    def due(self, now: float) -> bool:
        """Whether the next claim takes over first."""
        return self.limbo or now >= self.at

    def joined(self, info: object, now: float) -> None:
        """This worker is new at a server that answered ``info`` to ``INFO server``; not every user may ask that.

        Where it was down for longer than a lease, those who run a step are still on their way back to it.
        """
        found = _UPTIME.search(info) if isinstance(info, bytes) else None
        if found is not None:
            self.at = max(self.at, now + self._lease - int(found[1]))

    def cut_off(self, until: float) -> None:
        """The line was lost, and is tried again at ``until``.

        While it was, the others may have been unable to renew as well, and be slower to come back: theirs is no sign
        of death until they had a whole lease for it.
        """
        self.at = until + self._lease

    def took(self, found: int, slots: int, now: float) -> None:
        """A takeover brought so many."""
        if self.limbo:
            self.limbo = found > 0
        elif found < slots:
            # Else there may be more, and they have waited for their lease already.
            self.at = now + self._lease / 3
