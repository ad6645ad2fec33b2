"""When a failed step is tried again: pure functions of policy and attempt."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from paigeant_core.error_group import leaves
from paigeant_core.errors import ConfigError, NonRetryable, RetryAfter


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how long after a failure a step is tried again.

    Raises:
        ConfigError: a value that cannot be.
    """

    max_attempts: int = 3
    """Tries of one hop, the first included."""
    backoff: Literal["exponential", "constant"] = "exponential"
    """Whether the wait grows by ``factor`` with each attempt."""
    initial: float = 1.0
    """Wait after the first failure, in seconds."""
    factor: float = 2.0
    """What an exponential wait is multiplied by."""
    cap: float = 60.0
    """The longest wait before its jitter, in seconds."""
    jitter: float = 0.1
    """Share of the wait that is random, spread evenly to both sides."""
    retry_on: tuple[type[BaseException], ...] = field(default=(Exception,), compare=False)
    """Exceptions that are tried again; any other dead-letters at once."""
    never_on: tuple[type[BaseException], ...] = field(default=(), compare=False)
    """Exceptions that are not, though ``retry_on`` names a parent."""

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise ConfigError(f"retry policy: max_attempts is {self.max_attempts!r}, it must be 1 or more")
        if self.backoff not in ("exponential", "constant"):
            raise ConfigError(f"retry policy: backoff is {self.backoff!r}; use 'exponential' or 'constant'")
        for name in ("initial", "factor", "cap"):
            if not _is_number(getattr(self, name)) or not 0 <= getattr(self, name) <= 30 * 86400:
                raise ConfigError(f"retry policy: {name} is {getattr(self, name)!r}, it must be 0 to 30 days")
        if not _is_number(self.jitter) or not 0 <= self.jitter <= 1:
            raise ConfigError(f"retry policy: jitter is {self.jitter!r}, it must be from 0 to 1")

    def delay(self, attempt: int, chance: float | None = None) -> float:
        """Seconds to wait after ``attempt`` (1…) failed.

        Args:
            attempt: the attempt that failed.
            chance: 0 to 1 in place of a random number.
        """
        wait = float(self.initial)
        if self.backoff == "exponential":
            try:
                wait *= float(self.factor) ** max(0, attempt - 1)
            except OverflowError:
                wait = self.cap if wait else 0.0
        wait = min(wait, self.cap)
        if chance is None:
            chance = random.random()  # noqa: S311 - spreads load, protects nothing
        return max(0.0, wait * (1 + self.jitter * (2 * chance - 1)))

    def next_delay(self, error: BaseException, attempt: int, chance: float | None = None) -> float | None:
        """Seconds until the next try after ``error`` ended ``attempt``; None: dead-letter.

        What is in an exception group decides: one that is not tried again is enough, and of several that say when the
        latest counts.

        Args:
            error: what the handler raised.
            attempt: the attempt that failed (1…).
            chance: 0 to 1 in place of a random number.
        """
        parts = tuple(leaves(error)) or (error,)
        if attempt >= self.max_attempts or any(isinstance(part, NonRetryable) for part in parts):
            return None
        waits = [part.seconds for part in parts if isinstance(part, RetryAfter)]
        others = [part for part in parts if not isinstance(part, RetryAfter)]
        if not self._tries_again(error, others):
            return None
        return max(waits) if waits else self.delay(attempt, chance)

    def _tries_again(self, error: BaseException, parts: list[BaseException]) -> bool:
        """Whether it is tried again: each of a group's ``parts``, or the group where its class is one that is named."""
        group = isinstance(error, BaseExceptionGroup)
        if any(isinstance(part, self.never_on) for part in parts) or (group and isinstance(error, self.never_on)):
            return False
        groups = tuple(kind for kind in self.retry_on if issubclass(kind, BaseExceptionGroup))
        return isinstance(error, groups) or all(isinstance(part, self.retry_on) for part in parts)

    def to_document(self, *, whole: bool = False) -> dict[str, Any]:
        """What differs from the defaults, as it rides in a step; exceptions stay with the code.

        Args:
            whole: with what does not differ too, so that it stands in place of another policy.
        """
        default = RetryPolicy()
        names = [item.name for item in fields(self) if item.name not in ("retry_on", "never_on")]
        return {name: getattr(self, name) for name in names if whole or getattr(self, name) != getattr(default, name)}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> RetryPolicy:
        """The policy that rides in a step.

        Raises:
            ConfigError: an unknown name or a value that cannot be.
        """
        known = {item.name for item in fields(cls)} - {"retry_on", "never_on"}
        for name in document:
            if name not in known:
                raise ConfigError(f"retry policy: unknown setting {name!a}; known: {', '.join(sorted(known))}")
        return cls(**document)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
