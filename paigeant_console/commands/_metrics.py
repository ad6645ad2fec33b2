"""What a worker's process tells Prometheus: where PAIGEANT_METRICS says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paigeant_core.worker import Worker

__all__ = ["answering_prometheus"]


@contextmanager
def answering_prometheus(served: Worker) -> Iterator[None]:
    """Count the worker's steps and answer Prometheus meanwhile, where PAIGEANT_METRICS names an address.

    Raises:
        ConfigError: The extra is not installed, that is no address, or it is taken.
    """
    address = os.environ.get("PAIGEANT_METRICS", "")
    if not address:
        yield
        return
    from paigeant_console.output import note
    from paigeant_core.telemetry import Metrics, serve_metrics

    served.metrics = served.metrics or Metrics()
    where, end = serve_metrics(address)
    note(f"metrics at http://{where}/metrics")
    try:
        yield
    finally:
        end()
