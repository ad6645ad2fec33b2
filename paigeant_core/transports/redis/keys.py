"""The names of a topic's keys.

All of one topic share the hash tag ``{paigeant:T}``, so that one script may touch them
all on a cluster too.

=================== ============ =======================================================
``:work:A``         stream       messages of activity A; group ``workers``; ``m`` the
                                 message, ``d`` workers that died with it before
``:journal``        stream       ``r`` what happened, ``m`` the message, ``b`` position of
                                 the same workflow's record before
``:delayed``        sorted set   correlation IDs by the ms at which they are due
``:delayed:counts`` hash         how many are delayed, by activity
``:dead`` ``:held`` stream       parked messages: ``r``, ``m``, ``p`` position in the
``:quarantine``                  journal
``:wf:ID``          hash         fence, dedupe and index of one workflow
``:activities``     set          every activity ever seen
``:workers``        sorted set   workers by the ms at which they were last heard of
``:workers:lost``   sorted set   the same, of workers that were found to be silent
``:worker:W``       string       what worker W says of itself
``:audit``          stream       ``i`` what an entry is known by, ``e`` the entry
``:operations``     stream       the same, of operations in progress and past
``:paused``         hash         the record by which an activity was paused, by activity
``:paused:over``    hash         the records by which it was resumed and paused, for a minute
``:schemas``        hash         the JSON Schema of an activity's payloads, by activity
``:trimmed``        string       lives as long as nobody need trim again
``:nothing``        none         never exists: who sets it only where it does finds out whether the server takes writes
=================== ============ =======================================================
"""

from __future__ import annotations

from paigeant_core.transition import Place

GROUP = "workers"


class Keys:
    """The keys of one topic.

    Args:
        topic: its name, checked already.
    """

    __slots__ = (
        "_work",
        "_work_begins",
        "activities",
        "audit",
        "counts",
        "dead",
        "delayed",
        "gone",
        "held",
        "journal",
        "nothing",
        "operations",
        "paused",
        "prefix",
        "quarantine",
        "resumed",
        "schemas",
        "trimmed",
        "workers",
    )

    def __init__(self, topic: str) -> None:
        self.prefix = prefix = f"{{paigeant:{topic}}}:"
        self.journal = f"{prefix}journal"
        self.delayed = f"{prefix}delayed"
        self.counts = f"{prefix}delayed:counts"
        self.dead = f"{prefix}dead"
        self.held = f"{prefix}held"
        self.quarantine = f"{prefix}quarantine"
        self.activities = f"{prefix}activities"
        self.workers = f"{prefix}workers"
        self.gone = f"{prefix}workers:lost"
        self.audit = f"{prefix}audit"
        self.operations = f"{prefix}operations"
        self.paused = f"{prefix}paused"
        self.resumed = f"{prefix}paused:over"
        self.schemas = f"{prefix}schemas"
        self.trimmed = f"{prefix}trimmed"
        self.nothing = f"{prefix}nothing"
        self._work: dict[str, str] = {}
        self._work_begins = len(f"{prefix}work:".encode())

    def work(self, activity: str) -> str:
        """The stream of an activity's messages."""
        key = self._work.get(activity)
        if key is None:
            key = self._work[activity] = f"{self.prefix}work:{activity}"
        return key

    def activity(self, work: bytes) -> str:
        """The activity whose messages are in the stream ``work``."""
        return work[self._work_begins :].decode()

    def workflow(self, correlation_id: str) -> str:
        """The hash of a workflow."""
        return f"{self.prefix}wf:{correlation_id}"

    def worker(self, name: str) -> str:
        """What a worker says of itself."""
        return f"{self.prefix}worker:{name}"

    def parked(self, place: Place) -> str:
        """The stream of what is parked at ``place``."""
        return {Place.DEAD: self.dead, Place.HELD: self.held, Place.QUARANTINE: self.quarantine}[place]

    @property
    def moving(self) -> list[str]:
        """The keys that a move may touch beside those of its workflow, in the script's order."""
        return [self.journal, self.delayed, self.counts, self.dead, self.held, self.quarantine, self.activities]
