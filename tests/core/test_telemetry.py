"""What a worker tells of its steps: spans and metrics, and what is in neither."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from paigeant_core import ActivityContext, ConfigError, Metrics, RetryPolicy, State
from paigeant_core.telemetry import Spans, current_traceparent, serve_metrics, spans
from paigeant_core.worker import Worker
from tests.core.bench import Bench


@pytest.fixture(scope="module")
def provider() -> TracerProvider:
    return TracerProvider()


@pytest.fixture
def recorded(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans of this test; OpenTelemetry lets a process set its provider once, so ours is put in beneath it."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield exporter
    exporter.shutdown()


def _serve_charge(worker: Worker) -> None:
    @worker.activity("charge", retry=RetryPolicy(initial=0.0, jitter=0.0))
    async def charge(ctx: ActivityContext) -> dict[str, str]:
        if ctx.attempt == 1:
            raise ValueError("4111 1111 was declined")
        return {"within": current_traceparent()}

    @worker.activity("notify")
    def notify(ctx: ActivityContext) -> dict[str, str]:
        return {"in_thread": current_traceparent()}


async def _run(bench: Bench, worker: Worker, workflow: str) -> None:
    async with bench.serving(worker):
        await bench.reaches(workflow, State.COMPLETED)


def _id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-{int(span.context.trace_flags):02x}"


async def test_steps_are_children_of_the_span_that_dispatched_their_workflow(
    bench: Bench, recorded: InMemorySpanExporter
) -> None:
    worker = bench.worker()
    _serve_charge(worker)
    with trace.get_tracer("shop").start_as_current_span("order") as order:
        workflow = await bench.dispatch("charge", "notify")
    await _run(bench, worker, workflow)
    first, second, third = (span for span in recorded.get_finished_spans() if span.name.startswith("process "))
    assert [span.name for span in (first, second, third)] == ["process charge", "process charge", "process notify"]
    root = order.get_span_context()
    for span in (first, second, third):
        assert span.parent is not None
        assert (span.parent.trace_id, span.parent.span_id) == (root.trace_id, root.span_id)
        assert span.kind is trace.SpanKind.CONSUMER
        assert span.attributes is not None
        assert span.attributes["messaging.message.conversation_id"] == workflow
    message = (await bench.last(workflow)).message
    assert message is not None
    # Whatever a handler does hangs beneath its step, in a thread too.
    assert message.payload == {"within": _id(second), "in_thread": _id(third)}


async def test_a_failed_step_is_an_error_without_its_text(bench: Bench, recorded: InMemorySpanExporter) -> None:
    worker = bench.worker()
    _serve_charge(worker)
    workflow = await bench.dispatch("charge")
    await _run(bench, worker, workflow)
    failed, done = recorded.get_finished_spans()
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "ValueError"
    assert "4111" not in failed.to_json()
    assert done.status.status_code is trace.StatusCode.UNSET


async def test_a_traceparent_of_ones_own_wins(bench: Bench, recorded: InMemorySpanExporter) -> None:
    own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with trace.get_tracer("shop").start_as_current_span("order"):
        workflow = await bench.dispatch("charge", traceparent=own)
    assert (await bench.last(workflow)).headers.traceparent == own


async def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(
    bench: Bench, recorded: InMemorySpanExporter
) -> None:
    worker = bench.worker()
    _serve_charge(worker)
    workflow = await bench.dispatch("charge", traceparent="no trace at all")
    await _run(bench, worker, workflow)
    assert [span.parent for span in recorded.get_finished_spans()] == [None, None]


async def test_a_process_that_does_not_trace_has_no_spans(bench: Bench) -> None:
    assert spans() is None
    workflow = await bench.dispatch("charge")
    assert (await bench.last(workflow)).headers.traceparent == ""


def test_a_process_that_traces_has(recorded: InMemorySpanExporter) -> None:
    assert isinstance(spans(), Spans)


async def test_steps_are_counted_by_what_became_of_them(bench: Bench) -> None:
    registry = CollectorRegistry()
    worker = bench.worker(metrics=Metrics(registry))
    _serve_charge(worker)
    running: list[float | None] = []

    @worker.activity("look")
    async def look(ctx: ActivityContext) -> None:
        running.append(registry.get_sample_value("paigeant_steps_running", {"topic": "t"}))

    workflow = await bench.dispatch("charge", "look")
    await _run(bench, worker, workflow)

    def steps(activity: str, outcome: str) -> float | None:
        labels = {"topic": "t", "activity": activity, "outcome": outcome}
        return registry.get_sample_value("paigeant_steps_total", labels)

    assert (steps("charge", "retrying"), steps("charge", "advanced"), steps("look", "finished")) == (1, 1, 1)
    assert running == [1]
    assert registry.get_sample_value("paigeant_steps_running", {"topic": "t"}) == 0
    took = {"topic": "t", "activity": "charge"}
    assert registry.get_sample_value("paigeant_step_duration_seconds_count", took) == 2


def test_a_registry_counts_steps_once() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    with pytest.raises(ConfigError, match="counts steps already"):
        Metrics(registry)


def test_metrics_are_told_over_http_until_it_is_ended() -> None:
    where, end = serve_metrics("0")
    try:
        with urllib.request.urlopen(f"http://{where}/metrics", timeout=10) as answer:
            assert b"python_info" in answer.read()
        with pytest.raises(ConfigError, match="cannot listen"):
            serve_metrics(where)
    finally:
        end()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://{where}/metrics", timeout=10)


@pytest.mark.parametrize("address", ["", "x", ":9464", "localhost:", "127.0.0.1:70000", "1.5"])
def test_what_is_no_address_is_a_sentence(address: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        serve_metrics(address)
