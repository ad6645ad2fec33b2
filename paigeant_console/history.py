"""The history: what a console saw of a topic, on this machine's disk, for longer than the broker's journal and memory.

One SQLite file for each broker and topic, for this user alone to read, written by a thread of its own. Of each journal
record it keeps what the journal has, but no token and nothing that looks like a secret (see
:func:`paigeant_core.capsule.scrubbed`). It is bounded by size and by age, says up to which position of the journal it
has come, so that a console which is started again goes on from there, and is searched by QUERY.

One process writes; a second console on the same topic only reads. Whatever goes wrong with the file is said once in the
log, and the console goes on without it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from paigeant_console.config import said_in_environment
from paigeant_console.history_search import narrowed
from paigeant_console.user_directories import NoHome, user_directory
from paigeant_core.capsule import scrubbed
from paigeant_core.erasure import is_marker
from paigeant_core.errors import ConfigError, DecodeError
from paigeant_core.journal import ENDED, Record
from paigeant_core.urls import mask_url

if TYPE_CHECKING:
    from paigeant_console.model.query import Query

__all__ = ["MOST_AGE", "MOST_BYTES", "History", "Progress", "history_of", "history_path", "order"]

logger = logging.getLogger("paigeant.console")

MOST_BYTES: Final = 512 * 1024 * 1024
"""Bytes of the file; what was seen first goes first."""
MOST_AGE: Final = 90 * 86400.0
"""Seconds that a record is kept, as long as parked messages are."""
MOST_WAITING: Final = 20_000
"""Records that may wait for the disk before a reader should wait for it too."""
MOST_WAITING_BYTES: Final = 32 * 1024 * 1024
"""The same, by the bytes of their messages."""
_BATCH: Final = 1000
_PRUNE_EVERY: Final = 60.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS record (
    serial INTEGER PRIMARY KEY, workflow TEXT NOT NULL, position TEXT NOT NULL, at REAL NOT NULL, meta BLOB, body BLOB);
CREATE INDEX IF NOT EXISTS record_of_workflow ON record (workflow, serial);
CREATE TABLE IF NOT EXISTS workflow (
    id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, serial INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS workflow_by_serial ON workflow (serial);
CREATE TABLE IF NOT EXISTS lapse (one INTEGER PRIMARY KEY CHECK (one = 1), serial INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS progress (one INTEGER PRIMARY KEY CHECK (one = 1), position TEXT NOT NULL, at REAL NOT NULL);
PRAGMA user_version = 1;
"""


class Progress(NamedTuple):
    """How far the history has come: a position in the journal, and when its record was journalled."""

    position: str
    at: float


def history_path(url: str, topic: str, environ: Mapping[str, str] | None = None) -> Path | None:
    """Where the history of a topic is; None: there is to be none.

    The in-memory broker has none, nor has a user without a home directory, and ``PAIGEANT_HISTORY=0`` turns it off.

    Args:
        url: of the broker.
        topic: the topic.
        environ: the environment; by default this process's.

    Raises:
        ConfigError: PAIGEANT_HISTORY is neither yes nor no.
    """
    environ = os.environ if environ is None else environ
    if url.startswith("memory:") or said_in_environment(environ, "PAIGEANT_HISTORY") is False:
        return None
    # A new password is not another broker.
    name = hashlib.sha256(f"{mask_url(url)}\n{topic}".encode()).hexdigest()[:16]
    try:
        return user_directory("state") / "history" / f"{name}.sqlite3"
    except NoHome:
        return None


def history_of(url: str, topic: str) -> History | None:
    """The history of a topic, not yet open; None: there is to be none. See :func:`history_path`."""
    path = history_path(url, topic)
    return None if path is None else History(path)


class History:
    """See the module. Safe to use from any thread.

    Args:
        path: of the file; it and its directory are made.
        most_bytes: see :data:`MOST_BYTES`.
        most_age: see :data:`MOST_AGE`.
    """

    def __init__(self, path: Path, *, most_bytes: int = MOST_BYTES, most_age: float = MOST_AGE) -> None:
        self.path = path
        self.problem = ""
        """Why nothing is written (any more); empty: it is."""
        self._most_bytes = most_bytes
        self._most_age = most_age
        self._lock: IO[bytes] | None = None
        self._waiting: list[Record] = []
        self._waiting_bytes = 0
        self._came = threading.Condition()
        self._busy = False
        self._stopping = False
        self._thread: threading.Thread | None = None

    # -- life ---------------------------------------------------------------------------

    def open(self) -> bool:
        """Make the file ready, and start the thread that writes.

        Returns:
            Whether this process writes; False: another one does, or :attr:`problem` says why it cannot be.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = self.path.with_suffix(".lock").open("ab")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.problem = "another console writes it"
                return False
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            self._gave_up(error)
            if self._lock is not None:
                self._lock.close()  # another console may fare better
            return False
        self._thread = threading.Thread(target=self._write, name="paigeant-history", daemon=True)
        self._thread.start()
        return True

    def close(self, patience: float = 3.0) -> None:
        """Write what waits, and end the thread.

        Args:
            patience: seconds to wait for it.
        """
        with self._came:
            self._stopping = True
            self._came.notify_all()
        if self._thread is not None:
            self._thread.join(patience)
        if self._lock is not None:
            self._lock.close()

    def _prepare(self) -> None:
        # Made with its mode, and not given it later; SQLite gives its other files the same one.
        os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        self.path.chmod(0o600)
        try:
            with self._connect() as database:
                database.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            # It is no database, or broken: what was seen can be seen again, as far as the journal reaches.
            logger.warning("the history %s cannot be read and is begun anew (%s)", self.path, type(error).__name__)
            for path in self._files():
                path.unlink(missing_ok=True)
            self._prepare()

    def _files(self) -> list[Path]:
        return [self.path, *(self.path.with_name(self.path.name + end) for end in ("-wal", "-shm"))]

    @contextlib.contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = NORMAL")
            # What is erased is overwritten, not only let go.
            database.execute("PRAGMA secure_delete = ON")
            yield database
        finally:
            database.close()

    def _gave_up(self, error: Exception) -> None:
        self.problem = f"{type(error).__name__}: {error}"
        logger.warning("no history is kept in %s: %s", self.path, self.problem)

    # -- writing ------------------------------------------------------------------------

    @property
    def writes(self) -> bool:
        """Whether this process keeps what it sees."""
        return self._thread is not None and not self.problem

    @property
    def full(self) -> bool:
        """Whether so much waits for the disk that a reader should wait too."""
        return self.writes and (len(self._waiting) > MOST_WAITING or self._waiting_bytes > MOST_WAITING_BYTES)

    def put(self, records: Sequence[Record]) -> None:
        """Keep ``records``, which come next in the journal; they are written soon."""
        if self.writes and records:
            with self._came:
                self._waiting.extend(records)
                self._waiting_bytes += _bytes_of(records)
                self._came.notify_all()

    def flush(self, patience: float = 10.0) -> bool:
        """Wait until all that was put is written; False: it was not in time."""
        with self._came:
            return self._came.wait_for(lambda: bool(self.problem) or not (self._waiting or self._busy), patience)

    def _write(self) -> None:
        pruned = 0.0
        try:
            with self._connect() as database:
                while True:
                    with self._came:
                        self._busy = False
                        self._came.notify_all()
                        self._came.wait_for(lambda: self._waiting or self._stopping)
                        batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                        self._waiting_bytes -= _bytes_of(batch)
                        self._busy = bool(batch)
                    if not batch:
                        return
                    self._insert(database, batch)
                    if time.monotonic() - pruned > _PRUNE_EVERY or self._size(database) > self._most_bytes:
                        pruned = time.monotonic()
                        self._prune(database)
        except (sqlite3.Error, OSError) as error:
            # A full disk, most often. What waits is let go, or it would fill the memory.
            self._gave_up(error)
            with self._came:
                self._waiting.clear()
                self._waiting_bytes = 0
                self._busy = False
                self._came.notify_all()

    def _insert(self, database: sqlite3.Connection, records: Sequence[Record]) -> None:
        found = database.execute("SELECT position FROM progress").fetchone()
        last, start = order(found[0]) if found else (), 0
        for number, record in enumerate(records):
            before, last = last, order(record.position)
            if before and last <= before:
                # The topic was deleted and is used again: its journal counts from the start, and is another one.
                self._insert_run(database, records[start:number])
                database.execute("BEGIN IMMEDIATE")
                self._lapse(database)
                database.execute("COMMIT")
                start = number
        self._insert_run(database, records[start:])

    def _insert_run(self, database: sqlite3.Connection, records: Sequence[Record]) -> None:
        if not records:
            return
        rows: list[tuple[Any, ...]] = []
        standing: dict[str, tuple[int, int]] = {}
        erased: dict[str, int] = {}
        (serial,) = database.execute(_LAST).fetchone()
        first = database.execute("SELECT 1 FROM lapse WHERE serial = ?", (serial,)).fetchone() is not None
        for record in records:
            workflow = record.headers.correlation_id
            if not workflow:
                continue  # of a worker
            serial += 1
            kept = scrubbed(record)
            rows.append((serial, workflow, record.position, record.at, kept.encode_meta(), kept.body))
            if is_marker(record):
                erased[workflow] = serial
            if record.state and record.headers.epoch >= standing.get(workflow, (0, 0))[0]:
                standing[workflow] = (min(record.headers.epoch, 1 << 62), serial)  # SQLite's numbers have 64 bits
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)", rows)
        database.executemany(
            "INSERT INTO workflow VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE"
            " SET epoch = excluded.epoch, serial = excluded.serial WHERE excluded.epoch >= epoch",
            [(workflow, *at) for workflow, at in standing.items()],
        )
        # Whoever erased a workflow meant what is here too, wherever that was.
        database.executemany("DELETE FROM record WHERE workflow = ? AND serial < ?", list(erased.items()))
        # The latest time of all: on some brokers times are the writers', and their clocks differ.
        latest = max(record.at for record in records)
        database.execute(
            "INSERT INTO progress VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE"
            # Of another journal the times begin anew.
            " SET position = excluded.position, at = CASE WHEN ? THEN excluded.at ELSE max(at, excluded.at) END",
            (records[-1].position, latest, first),
        )
        database.execute("COMMIT")
        if erased:
            # The log beside the file holds copies of its pages.
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def lapse(self) -> None:
        """Note that something was not seen since the last record: see :meth:`standing`."""
        try:
            with self._connect() as database:
                database.execute("BEGIN IMMEDIATE")
                self._lapse(database)
                database.execute("COMMIT")
        except sqlite3.Error as error:
            # Without the note, what is put from now on would hide that there was a lapse.
            self._gave_up(error)

    @staticmethod
    def _lapse(database: sqlite3.Connection) -> None:
        database.execute("INSERT OR REPLACE INTO lapse VALUES (1, ?)", database.execute(_LAST).fetchone())
        # The journal may be another one, where epochs begin anew.
        database.execute("UPDATE workflow SET epoch = 0")

    @staticmethod
    def _size(database: sqlite3.Connection) -> int:
        pages, free, size = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _prune(self, database: sqlite3.Connection) -> None:
        """Let go of what is too old, and of the oldest while there is too much."""
        database.execute("BEGIN IMMEDIATE")
        database.execute(
            "DELETE FROM record WHERE serial <= (SELECT coalesce(max(serial), 0) FROM record WHERE at < ?"
            " AND serial <= (SELECT coalesce(min(serial), 0) + 100000 FROM record))",
            (time.time() - self._most_age,),
        )
        while self._size(database) > self._most_bytes:
            first, last = database.execute("SELECT min(serial), max(serial) FROM record").fetchone()
            if first is None:
                break
            database.execute("DELETE FROM record WHERE serial <= ?", (first + (last - first) // 8,))
        database.execute("DELETE FROM workflow WHERE serial < (SELECT coalesce(min(serial), 0) FROM record)")
        database.execute("COMMIT")

    def erase(self, correlation_id: str) -> int:
        """Forget a workflow: its records are overwritten in the file.

        Args:
            correlation_id: its whole ID.

        Returns:
            How many records there were.

        Raises:
            OSError: the file is not this user's.
            sqlite3.Error: the file cannot be written now.
        """
        if not self.path.exists():
            return 0
        self.flush()
        with self._connect() as database:
            database.execute("BEGIN IMMEDIATE")
            found = database.execute("DELETE FROM record WHERE workflow = ?", (correlation_id,)).rowcount
            database.execute("DELETE FROM workflow WHERE id = ?", (correlation_id,))
            database.execute("COMMIT")
            # The log beside the file holds copies of its pages.
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return int(found)

    # -- reading ------------------------------------------------------------------------

    @contextlib.contextmanager
    def _read(self, *, silently: bool = True) -> Iterator[sqlite3.Connection | None]:
        """The file for reading; None where there is none, or ``silently`` none that can be read."""
        database = None
        try:
            if self.path.exists():
                database = sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True, timeout=5.0)
        except (sqlite3.Error, OSError) as error:
            self._cannot_read(error, silently=silently)
        if database is None:
            yield None
            return
        try:
            with contextlib.closing(database):
                yield database
        except sqlite3.Error as error:
            self._cannot_read(error, silently=silently)

    def _cannot_read(self, error: Exception, *, silently: bool) -> None:
        why = f"the history {self.path} cannot be read: {type(error).__name__}: {error}"
        if not silently:
            raise ConfigError(why) from None
        logger.warning("%s", why)

    def oldest(self) -> str | None:
        """The position of the first record that it still has; None: it is empty."""
        found = None
        with self._read() as database:
            if database is not None:
                found = database.execute("SELECT position FROM record ORDER BY serial LIMIT 1").fetchone()
        return found[0] if found else None

    def progress(self) -> Progress | None:
        """How far it has come; None: it is empty."""
        found = None
        with self._read() as database:
            if database is not None:
                found = database.execute("SELECT position, at FROM progress").fetchone()
        return Progress(*found) if found else None

    def standing(self, limit: int) -> list[Record]:
        """Where workflows stood when they were seen last, one record each, the newest first.

        Of those that were not seen since a lapse, the ones that had ended: what became of the others nobody saw.

        Args:
            limit: at most so many.
        """
        lapse = 0
        with self._read() as database:
            # A file that an older console made has no such table until it is opened for writing.
            if database is not None and database.execute("SELECT 1 FROM sqlite_master WHERE name = 'lapse'").fetchone():
                (lapse,) = database.execute("SELECT coalesce(max(serial), 0) FROM lapse").fetchone()
        since = list(self._select(f"{_STANDING} AND w.serial > ? ORDER BY w.serial DESC LIMIT ?", (lapse, limit)))
        rest = limit - len(since)
        before = self._select(f"{_STANDING} AND w.serial <= ? ORDER BY w.serial DESC LIMIT ?", (lapse, rest))
        return since + [record for record in before if record.state in ENDED]

    def of(self, correlation_id: str) -> list[Record]:
        """The records of one workflow, oldest first."""
        return list(
            self._select(
                "SELECT meta, body, position, at FROM record WHERE workflow = ? ORDER BY serial", (correlation_id,)
            )
        )

    def candidates(self, query: Query) -> Iterator[Record]:
        """The standing records among which are all that a query selects, the newest first.

        Args:
            query: what to look for; it has still to be asked of each.

        Raises:
            ConfigError: the file cannot be read.
        """
        where, values = narrowed(query)
        yield from self._select(f"{_STANDING}{where} ORDER BY w.serial DESC", tuple(values), silently=False)

    def _select(self, statement: str, values: tuple[Any, ...], *, silently: bool = True) -> Iterator[Record]:
        with self._read(silently=silently) as database:
            if database is None:
                return
            for meta, body, position, at in database.execute(statement, values):
                with contextlib.suppress(DecodeError):
                    yield Record.decode(meta, body, position=position, at=at)


# All records may have been erased since the lapse.
_LAST: Final = "SELECT max(coalesce((SELECT max(serial) FROM record), 0), coalesce((SELECT serial FROM lapse), 0))"
_STANDING: Final = (
    "SELECT r.meta, r.body, r.position, r.at FROM workflow w JOIN record r ON r.serial = w.serial WHERE 1"
)


def order(position: str) -> tuple[int, ...]:
    """By what positions of one journal are ordered: they are numbers, or numbers with a dash between."""
    return tuple(int(part) if part.isdecimal() else 0 for part in position.split("-"))


def _bytes_of(records: Sequence[Record]) -> int:
    return sum(len(record.body) for record in records if record.body is not None)
