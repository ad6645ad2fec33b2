"""What is said of the feed: what it does, and what it has read so far."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from paigeant_console.feed.gap import Gap
from paigeant_core.errors import PaigeantError

logger = logging.getLogger("paigeant.console")


class Phase(StrEnum):
    """What the feed is doing."""

    CONNECTING = "connecting"
    CATCHING_UP = "catching_up"
    LIVE = "live"
    RECONNECTING = "reconnecting"
    STALE = "stale"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """The feed at one moment.

    Attributes:
        met: the broker has answered once.
        phase: what it does.
        reason: why it is not live, in the transport's words; not yet safe to show.
        records: read so far.
        last_at: when the newest record was journalled; None: none yet.
        retry_in: seconds to the next try to connect; None: none is due.
        quiet_s: seconds without a word from the transport.
        rate: records a second, lately.
        workflows: how many there are in memory.
        counts: the same, by state.
        left: how many ended and have left memory since, by state.
        gap: what nobody saw, before this console was started or while its line was down, while it is to be said; None:
            nothing.
        refusal: why the broker takes no writes, in the transport's words; empty: it does, or nobody knows.
        policy: why the trust policy, or a set of keys that it names, is not the newest; not yet safe to show.
    """

    phase: Phase
    reason: str = ""
    records: int = 0
    last_at: float | None = None
    retry_in: float | None = None
    quiet_s: float = 0.0
    rate: float = 0.0
    workflows: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)
    gap: Gap | None = None
    refusal: str = ""
    policy: str = ""
    met: bool = True

    @property
    def connected(self) -> bool:
        """Whether the broker answers."""
        return self.phase in (Phase.LIVE, Phase.CATCHING_UP)


def reason_of(result: object) -> str:
    """Why reading ended, in words; not yet safe to show.

    Args:
        result: what it ended with.
    """
    if isinstance(result, PaigeantError):
        return str(result)
    if isinstance(result, BaseException):
        # A driver's error that the transport did not map: its text may quote anything, its class does not.
        logger.warning("the feed lost its line: %s", type(result).__name__)
        return f"the line broke ({type(result).__name__})"
    return "the line broke"
