"""What a worker tells of its steps: spans for OpenTelemetry, counts and times for Prometheus (extra ``metrics``).

Spans need nothing but a process that traces: where it has set a tracer provider, each step runs in a span of its own,
a child of the span in which its workflow was dispatched. Metrics are asked for::

    worker = Worker(metrics=Metrics())
    prometheus_client.start_http_server(9464)

or, with ``paigeant-console worker``, by PAIGEANT_METRICS. Neither says anything of a payload, an error's text or a
workflow's name: they go where fewer people are trusted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from paigeant_core.errors import ConfigError

if TYPE_CHECKING:
    from paigeant_core.message import Headers
    from paigeant_core.transition import Span

BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0)
"""Seconds: a step is a look into a table, or an agent that works for an hour."""
_NEEDS_EXTRA: Final = 'metrics need prometheus-client, which is an extra: pip install "paigeant-console[metrics]"'


class Metrics:
    """Counts and times of steps that were run, of all workers that are given it.

    ``paigeant_steps_total`` by topic, activity and outcome (the kind of its journal record: advanced, finished,
    retrying, dead_lettered, held, …), ``paigeant_step_duration_seconds`` by topic and activity,
    ``paigeant_steps_running`` by topic.

    Args:
        registry: of ``prometheus_client``; None: the process's own.

    Raises:
        ConfigError: prometheus-client is not installed, or the registry has metrics of these names.
    """

    def __init__(self, registry: Any = None) -> None:
        try:
            import prometheus_client
        except ImportError as error:
            raise ConfigError(_NEEDS_EXTRA) from error
        where = prometheus_client.REGISTRY if registry is None else registry
        try:
            self._steps = prometheus_client.Counter(
                "paigeant_steps",
                "Steps that were run, by what became of them.",
                ["topic", "activity", "outcome"],
                registry=where,
            )
            self._took = prometheus_client.Histogram(
                "paigeant_step_duration_seconds",
                "From the start of a step's handler to its end.",
                ["topic", "activity"],
                buckets=BUCKETS,
                registry=where,
            )
            self._running = prometheus_client.Gauge(
                "paigeant_steps_running", "Steps that run now.", ["topic"], registry=where
            )
        except ValueError as error:
            raise ConfigError("this registry counts steps already; give its Metrics to all workers") from error

    def begun(self, headers: Headers) -> None:
        """A step's handler is about to be called."""
        self._running.labels(headers.topic).inc()

    def ended(self, headers: Headers) -> None:
        """It is over, in whatever way."""
        self._running.labels(headers.topic).dec()

    def became(self, headers: Headers, span: Span, outcome: str) -> None:
        """It was run, and its workflow goes on as ``outcome`` says."""
        self._steps.labels(headers.topic, headers.activity, outcome).inc()
        self._took.labels(headers.topic, headers.activity).observe(span.duration_s)


def serve_metrics(address: str) -> tuple[str, Callable[[], None]]:
    """Answer Prometheus over HTTP, in a thread.

    Args:
        address: ``[HOST:]PORT``; without a host this machine alone may ask.

    Returns:
        Where it listens, and what ends it.

    Raises:
        ConfigError: prometheus-client is not installed, that is no address, or it is taken.
    """
    host, colon, digits = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (digits.isascii() and digits.isdecimal()) or not 0 <= int(digits) <= 65535 or (colon and not host):
        raise ConfigError(f"metrics: {ascii(address)[:80]} is no address; write HOST:PORT, or PORT alone")
    try:
        from prometheus_client import start_http_server
    except ImportError as error:
        raise ConfigError(_NEEDS_EXTRA) from error
    try:
        server, _ = start_http_server(int(digits), addr=host or "127.0.0.1")
    except OSError as error:
        raise ConfigError(f"metrics: cannot listen at {ascii(address)[1:-1][:80]}: {error.strerror or error}") from None

    def end() -> None:
        server.shutdown()
        server.server_close()

    return f"{host or '127.0.0.1'}:{server.server_port}", end


def current_traceparent() -> str:
    """The span that this code runs in, as W3C Trace Context writes it; empty: it runs in none.

    Source: https://www.w3.org/TR/trace-context/#traceparent-header
    """
    tracing: Any = sys.modules.get("opentelemetry.trace")  # a process that traces has imported it
    if tracing is None:
        return ""
    context = tracing.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


class Spans:
    """Spans of steps.

    Args:
        tracing: the module ``opentelemetry.trace``.
    """

    def __init__(self, tracing: Any) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracing = tracing
        self._tracer = tracing.get_tracer("paigeant")
        self._extract = TraceContextTextMapPropagator().extract

    @contextmanager
    def step(self, headers: Headers, worker: str) -> Iterator[None]:
        """Run a step within a span of its own.

        Named and described as OpenTelemetry's semantic conventions for messaging have it:
        https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
        """
        parent = self._extract({"traceparent": headers.traceparent}) if headers.traceparent else None
        with self._tracer.start_as_current_span(
            f"process {headers.activity}",
            context=parent,
            kind=self._tracing.SpanKind.CONSUMER,
            attributes={
                "messaging.system": "paigeant",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.destination.name": headers.activity,
                "messaging.message.id": headers.message_id,
                "messaging.message.conversation_id": headers.correlation_id,
                "messaging.client.id": worker,
                "paigeant.topic": headers.topic,
                "paigeant.run": headers.run,
                "paigeant.hop": headers.hop,
                "paigeant.attempt": headers.attempt,
            },
            record_exception=False,  # its text may quote the payload
            set_status_on_exception=False,
        ) as span:
            try:
                yield
            except BaseException as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(self._tracing.StatusCode.ERROR)
                raise


def spans() -> Spans | None:
    """Spans of steps, where this process traces; None: it does not."""
    tracing: Any = sys.modules.get("opentelemetry.trace")
    if tracing is None:
        return None
    untraced = (tracing.ProxyTracerProvider, tracing.NoOpTracerProvider)
    return None if isinstance(tracing.get_tracer_provider(), untraced) else Spans(tracing)
