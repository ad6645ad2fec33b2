"""The caps and spans that hold where nobody chose others; seconds and bytes."""

from __future__ import annotations

SPEC_VERSION = 1
"""The newest message format this code reads; it writes the same."""

MAX_STEPS = 100
"""Steps in one slip, done and to do."""

MAX_PAYLOAD = 1024 * 1024
"""Bytes of a payload."""

MAX_SLIP = 1024 * 1024
"""Bytes of a routing slip with its arguments and security records."""

MAX_COUNT = 2**53 - 1
"""The largest hop, run, epoch and attempt: what every reader of JSON holds exactly (RFC 8259, section 6)."""

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of a message that a worker looks at; what is larger is quarantined unread."""

LEASE = 10.0
"""A worker that renewed nothing for so long has lost its steps (Redis, memory)."""

RENEW_EVERY = 3.0
"""How often a worker renews its leases and says that it lives."""

PRESENCE_EVERY = 0.25
"""The shortest time between two reports of what a worker holds."""

POISON_DEATHS = 5
"""Workers that died in one step before it is dead-lettered as poison."""

NO_WORKER_AFTER = 30.0
"""A queued step that nobody serves is called stuck after this."""

SLOW_FACTOR = 5.0
"""Running so many times longer than the activity's median is slow…"""

SLOW_AT_LEAST = 60.0
"""…but never before this."""

JOURNAL_AGE = 7 * 86400.0
"""How long the journal, and the tombstones of ended workflows, are kept."""

JOURNAL_BYTES = 1024**3
"""How large the journal may grow."""

PARKED_AGE = 90 * 86400.0
"""How long dead letters, held and quarantined messages and the audit are kept."""

DRAIN = 30.0
"""How long a worker that was told to stop lets running steps finish."""

VERSION_DELAY = 30.0
"""How long a message of a newer spec_version waits before it is offered again."""

BULK_LIMIT = 1000
"""Workflows that one operation may touch unless a limit is given."""
