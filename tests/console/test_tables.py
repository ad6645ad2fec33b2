"""The tables of queues and workers: what is wrong with a queue, and what nobody can tell."""

from __future__ import annotations

import pytest

from paigeant_console.model.fold import Fold
from paigeant_console.model.rates import Rates
from paigeant_console.model.tables import problem_of, queue_rows
from paigeant_core.pauses import Pause
from paigeant_core.transports.types import QueueStatus
from tests.console.test_fold import NOW, Story, worker

PAUSE = Pause(activity="a", at=NOW, operator="ann", reason="audit")


@pytest.mark.parametrize(
    ("queue", "said"),
    [
        (QueueStatus(activity="a", ready=1, consumers=0), "no worker"),
        (QueueStatus(activity="a", ready=0, in_flight=1, consumers=0), "no worker"),
        (QueueStatus(activity="a", ready=0, delayed=3, consumers=0), "no worker"),
        (QueueStatus(activity="a", ready=1, consumers=0, paused=PAUSE), "no worker, paused"),
        (QueueStatus(activity="a", ready=1, consumers=1, paused=PAUSE), "paused"),
        (QueueStatus(activity="a", ready=0, in_flight=0, delayed=0, consumers=0), ""),
        (QueueStatus(activity="a", ready=1, consumers=None), ""),
    ],
)
def test_what_is_wrong_with_a_queue(queue: QueueStatus, said: str) -> None:
    assert str(problem_of(queue)[0]) == said


def test_what_a_broker_cannot_tell_is_told_by_workers_or_is_unknown() -> None:
    fold = Fold()
    fold.observe([worker("a", running=Story("a").message)], NOW)

    def cells(queue: QueueStatus) -> tuple[str, str]:
        ((_, row),) = queue_rows([queue], fold, Rates(), NOW, ascii_only=False)
        return str(row[2][0]), str(row[5][0])

    assert cells(QueueStatus(activity="a", ready=2, in_flight=0)) == ("0", "?")
    assert cells(QueueStatus(activity="a", ready=2, in_flight=7, exact=False)) == ("~1", "?")
    assert cells(QueueStatus(activity="a", ready=0)) == ("~1", ""), "of an empty queue nothing is oldest"
    fold.observe([], NOW)
    assert cells(QueueStatus(activity="a")) == ("?", "?")
    assert cells(QueueStatus(activity="a", in_flight=7, exact=False)) == ("~7", "?")
