"""The peer of `benchmarks.console`: Textual's own DataTable with the same columns, made to do the same.

    python -m benchmarks.peer_table --rows 100000 [--tail 2000]

It has no broker: its rows come out of memory, which leaves it less to do than the console has. It flushes four times a
second as the console does, has the same knobs, colours and no mouse. `j` and `k` move, `u` changes one row in sight.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import deque
from typing import ClassVar

# isort: split
from textual.app import App, ComposeResult
from textual.widgets import DataTable

RING = 10_000
FLUSH_EVERY = 0.25


class PeerTable(App[None]):
    """A table, and nothing else."""

    BINDINGS: ClassVar = [("j", "down"), ("k", "up"), ("u", "change")]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, rows: int, tail: int) -> None:
        super().__init__()
        self.theme = "ansi-dark"
        self._rows, self._tail = rows, tail
        self._serial = itertools.count()
        self._keys: deque[str] = deque()
        self._done = 0

    def compose(self) -> ComposeResult:
        yield DataTable(cursor_type="row")

    def on_mount(self) -> None:
        table = self.table
        for label, width in (("STATE", 13), ("ID", 8), ("NAME", 10), ("AGE", 4), ("SLIP", 37)):
            table.add_column(label, key=label, width=width)
        self._add(self._rows)
        table.focus()
        self._begun = time.monotonic()
        if self._tail:
            self.set_interval(FLUSH_EVERY, self._take)

    @property
    def table(self) -> DataTable[str]:
        return self.query_one(DataTable)

    def _add(self, number: int) -> None:
        for _ in range(number):
            serial = next(self._serial)
            key = f"{serial:08x}"
            self.table.add_row("○ queued", key, "order", "<1m", "○ validate → · charge → · notify", key=key)
            self._keys.append(key)

    def _take(self) -> None:
        due = int((time.monotonic() - self._begun) * self._tail) - self._done
        self._done += due
        table = self.table
        self._add(due)
        if not self._rows:  # a tail: a bounded one that follows its end
            while len(self._keys) > RING:
                table.remove_row(self._keys.popleft())
            table.move_cursor(row=table.row_count - 1)

    def action_down(self) -> None:
        self.table.action_cursor_down()

    def action_up(self) -> None:
        self.table.action_cursor_up()

    def action_change(self) -> None:
        self._done += 1
        self.table.update_cell(self._keys[3], "STATE", f"✋ held {self._done}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--tail", type=int, default=0)
    options = parser.parse_args()
    PeerTable(options.rows, options.tail).run(mouse=False)


if __name__ == "__main__":
    main()
