"""Logs, numbers and spans: what they say, what they never say, and in which form they leave."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import random
import sys
import threading
from collections.abc import Iterator
from statistics import quantiles
from typing import Any

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared import telemetry
from shared.core.errors import Unavailable
from shared.telemetry import metrics, tracing
from shared.telemetry.emf import lines
from shared.telemetry.metrics import BOUNDS, CATALOGUE, Histogram, Registry
from shared.telemetry.prometheus import render
from tests.support.otlp import Collector, attributes, collecting

SECRET = "what the document says"


# Logs.


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    telemetry.configure("INFO")
    yield stream
    telemetry.configure("WARNING")


def entries(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_an_exceptions_kind_and_place_are_logged_but_not_what_others_put_into_it(log: io.StringIO) -> None:
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as error:
            raise Unavailable("database", "the database cannot be reached") from error
    except Unavailable as error:
        telemetry.get_logger("test").error("it_failed", exc_info=error)
    (entry,) = entries(log)
    ours, theirs = entry["exception"]
    assert (ours["type"], ours["message"]) == ("Unavailable", "the database cannot be reached")
    assert theirs["type"] == "ValueError"
    assert "test_telemetry.py" in theirs["frames"][-1]
    assert SECRET not in log.getvalue()


async def test_what_a_task_or_a_thread_finds_out_stands_in_every_later_line_of_the_request(
    log: io.StringIO,
) -> None:
    logger = telemetry.get_logger("test")

    async def authenticate() -> None:
        telemetry.bind(tenant="t1")
        await asyncio.to_thread(telemetry.bind, key="k1")

    async def request() -> None:
        telemetry.begin("request-1")
        await asyncio.create_task(authenticate())
        logger.info("inside")

    await asyncio.create_task(request())
    logger.info("outside")
    inside, outside = entries(log)
    assert {"request_id": "request-1", "tenant": "t1", "key": "k1"}.items() <= inside.items()
    assert "request_id" not in outside


def test_ids_outside_of_a_request_go_nowhere(log: io.StringIO) -> None:
    telemetry.bind(tenant="t1")
    telemetry.get_logger("test").info("line")
    assert "tenant" not in entries(log)[0]


def test_lines_below_the_level_are_not_written(log: io.StringIO) -> None:
    telemetry.configure("WARNING")
    telemetry.write({"event": "request"})
    telemetry.get_logger("test").info("line")
    assert log.getvalue() == ""


async def test_stages_are_told_to_the_caller_the_request_and_the_metrics() -> None:
    metrics.configure("prometheus", "test")
    request, timings = telemetry.begin("request-1"), telemetry.Timings()
    for _ in range(2):
        with timings.stage("embed"):
            pass
    with pytest.raises(ZeroDivisionError), timings.stage("retrieve"):
        raise ZeroDivisionError
    assert list(timings.as_ms()) == ["embed", "retrieve", "total"]
    assert list(request.stages) == ["embed", "retrieve"]
    counted = metrics.recent().histograms[("stage_seconds", (("stage", "embed"),))]
    assert counted.count >= 2


# Numbers.


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def registry(clock: Clock) -> Registry:
    made = Registry(clock)
    made.configure("prometheus", "test")
    return made


HIT = ("cache_lookups", (("result", "exact"),))


def test_the_last_minutes_are_forgotten_the_sums_are_not(registry: Registry, clock: Clock) -> None:
    for minute in range(12):
        clock.now = minute * 60 + 1
        registry.count("cache_lookups", result="exact")
        registry.observe("stage_seconds", 0.01, stage="embed")
    assert registry.recent().counters[HIT] == metrics.WINDOW_MINUTES
    assert registry.totals()[0].counters[HIT] == 12
    assert registry.totals()[0].histograms[("stage_seconds", (("stage", "embed"),))].count == 12
    clock.now += 3600
    assert registry.recent().counters == {}
    assert registry.totals()[0].counters[HIT] == 12


@pytest.mark.parametrize(
    "wrong",
    [
        lambda r: r.count("cache_lookups", result="exact", tenant="t1"),
        lambda r: r.count("cache_lookups"),
        lambda r: r.observe("cache_lookups", 1, result="exact"),
        lambda r: r.gauge("requests", 1, route="/", method="GET", status=200),
    ],
)
def test_a_label_or_kind_nobody_declared_is_refused(registry: Registry, wrong: Any) -> None:
    with pytest.raises(ValueError, match="with the labels"):
        wrong(registry)
    with pytest.raises(KeyError):
        registry.count("no_such_metric")


def test_no_label_could_carry_a_tenant_a_key_or_text() -> None:
    known = {label for metric in CATALOGUE.values() for label in metric.labels}
    assert known <= {"route", "method", "status", "stage", "result", "outcome", "kind", "dependency", "state"}


def test_series_without_end_are_counted_together(registry: Registry) -> None:
    for number in range(3_000):
        registry.count("cache_lookups", result=number)
    counters = registry.totals()[0].counters
    assert len(counters) <= 1_001
    assert sum(counters.values()) == 3_000


def test_the_order_of_labels_makes_no_difference(registry: Registry) -> None:
    registry.count("requests", route="/", method="GET", status=200)
    registry.count("requests", status=200, method="GET", route="/")
    assert list(registry.totals()[0].counters.values()) == [2]


def test_off_means_off(registry: Registry) -> None:
    registry.configure("off", "test")
    registry.count("no_such_metric")
    registry.observe("no_such_metric", 1)
    registry.gauge("no_such_metric", 1)
    assert registry.totals()[0].counters == {}


@pytest.mark.parametrize("seed", range(5))
def test_a_quantile_is_off_by_a_fifth_at_most(seed: int) -> None:
    draw = random.Random(seed)
    values = [draw.lognormvariate(-4, 1.5) for _ in range(2_000)]
    registry = Registry()
    registry.configure("prometheus", "test")
    for value in values:
        registry.observe("stage_seconds", value, stage="x")
    (histogram,) = registry.totals()[0].histograms.values()
    exact = quantiles(values, n=100)
    for share in (0.5, 0.95, 0.99):
        expected = exact[round(share * 100) - 1]
        if BOUNDS[0] < expected < BOUNDS[-1]:
            assert histogram.quantile(share) == pytest.approx(expected, rel=0.2)
    assert Histogram().quantile(0.5) == 0


def test_threads_lose_no_count(registry: Registry) -> None:
    def work() -> None:
        for _ in range(5_000):
            registry.count("cache_lookups", result="exact")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.totals()[0].counters[HIT] == 20_000


def test_prometheus_reads_the_text(registry: Registry) -> None:
    registry.count("cache_lookups", 3, result='odd "value"\n')
    registry.gauge("breaker_open", 1, dependency="redis")
    for seconds in (0.0001, 0.02, 500):
        registry.observe("request_seconds", seconds, route="/v1/query")
    content, media_type = render(*registry.totals())
    samples = {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }
    assert media_type.startswith("text/plain; version=0.0.4")
    assert samples["ragzero_cache_lookups_total", (("result", 'odd "value"\n'),)] == 3
    assert samples["ragzero_breaker_open", (("dependency", "redis"),)] == 1
    assert samples["ragzero_request_seconds_count", (("route", "/v1/query"),)] == 3
    buckets = [value for (name, _), value in samples.items() if name == "ragzero_request_seconds_bucket"]
    assert buckets == sorted(buckets)
    assert (buckets[0], buckets[-2], buckets[-1]) == (1, 2, 3)


# The embedded metric format, as AWS specifies it.

_NAME = {"type": "string", "minLength": 1, "maxLength": 1024}
_METRIC = {
    "type": "object",
    "required": ["Name"],
    "properties": {"Name": _NAME, "Unit": {"enum": ["Count", "Seconds", "None"]}},
}
_DIRECTIVE = {
    "type": "object",
    "required": ["Namespace", "Dimensions", "Metrics"],
    "properties": {
        "Namespace": _NAME,
        "Dimensions": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "array",
                "minItems": 1,
                "maxItems": 30,
                "items": {"type": "string", "minLength": 1, "maxLength": 250},
            },
        },
        "Metrics": {"type": "array", "minItems": 1, "maxItems": 100, "items": _METRIC},
    },
}
EMF = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer"},
                "CloudWatchMetrics": {"type": "array", "minItems": 1, "items": _DIRECTIVE},
            },
        }
    },
}


def checked(line: str) -> dict[str, Any]:
    """An EMF line that holds what its directive names: dimensions are texts, metrics numbers or up to 100 of them."""
    document: dict[str, Any] = json.loads(line)
    jsonschema.validate(document, EMF)
    assert "\n" not in line
    (directive,) = document["_aws"]["CloudWatchMetrics"]
    for name in directive["Dimensions"][0]:
        assert isinstance(document[name], str)
        assert 0 < len(document[name]) <= 1024
    for metric in directive["Metrics"]:
        values = document[metric["Name"]]
        values = values if isinstance(values, list) else [values]
        assert 0 < len(values) <= 100
        assert all(isinstance(value, int | float) for value in values)
    return document


@pytest.fixture
def emf(registry: Registry) -> Registry:
    registry.configure("emf", "query")
    return registry


def test_emf_lines_are_valid_and_hold_everything_once(emf: Registry) -> None:
    emf.count("requests", route="/v1/query", method="POST", status=200)
    emf.observe("stage_seconds", 0.25, stage="embed")
    emf.gauge("breaker_open", 0, dependency="redis")
    emf.count("requests_limited")
    emf.count("flights_joined", 2)
    found = [checked(line) for line in lines(emf.drain(), "query", 1_795_000_000_000)]
    assert len(found) == 4, "metrics with the same labels share a line"
    assert {"service": "query", "route": "/v1/query", "status": "200", "requests": 1}.items() <= found[
        0
    ].items()
    together = next(document for document in found if "flights_joined" in document)
    assert together["requests_limited"] == 1
    assert lines(emf.drain(), "query", 0) == []


def test_emf_lines_take_a_hundred_values_and_a_hundred_metrics(
    emf: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(250):
        emf.observe("stage_seconds", number, stage="embed")
        monkeypatch.setitem(CATALOGUE, f"made_up_{number}", metrics.Metric("counter", ""))
        emf.count(f"made_up_{number}")
    found = [checked(line) for line in lines(emf.drain(), "query", 0)]
    seconds = [value for document in found for value in document.get("stage_seconds", [])]
    assert seconds == list(range(250))
    assert sum(len(document["_aws"]["CloudWatchMetrics"][0]["Metrics"]) for document in found) == 250 + 3


def test_emf_tells_a_gauge_when_it_changes(emf: Registry) -> None:
    told = []
    for value in (0, 0, 1, 1):
        emf.gauge("breaker_open", value, dependency="redis")
        told.append(len(lines(emf.drain(), "query", 0)))
    assert told == [1, 0, 1, 0]


def test_flush_writes_lines_to_stdout_where_emf_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    metrics.configure("emf", "query")
    metrics.count("requests_limited")
    metrics.flush()
    metrics.flush()
    metrics.configure("prometheus", "query")
    metrics.count("requests_limited")
    metrics.flush()
    written = [checked(line) for line in capsys.readouterr().out.splitlines()]
    assert len([document for document in written if "requests_limited" in document]) == 1


# Spans.


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Waited for longer than any request would wait for one."""
    monkeypatch.setattr(tracing, "_EXPORT_S", 60.0)
    with collecting() as server:
        tracing.configure(server.url, "test")
        yield server
        tracing.configure(None, "test")


def test_a_requests_stages_are_children_of_its_span_and_that_of_its_callers(collector: Collector) -> None:
    trace, caller = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    span = tracing.RequestSpan("POST", {"traceparent": f"00-{trace}-{caller}-01"}, {"request_id": "r1"})
    timings = telemetry.Timings()
    with timings.stage("embed"):
        sent_on = tracing.headers()
    with pytest.raises(ValueError, match="document"), timings.stage("retrieve"):
        raise ValueError(SECRET)
    span.end("/v1/query", 503, {"tenant": "t1"})
    tracing.flush()
    spans = collector.spans
    request = spans["POST /v1/query"]
    assert request.trace_id.hex() == trace
    assert request.parent_span_id.hex() == caller
    assert spans["embed"].parent_span_id == spans["retrieve"].parent_span_id == request.span_id
    assert sent_on["traceparent"] == f"00-{trace}-{request.span_id.hex()}-01"
    known = attributes(request)
    assert known["http.route"] == "/v1/query"
    assert known["http.response.status_code"] == 503
    assert (known["request_id"], known["tenant"]) == ("r1", "t1")
    assert request.status.code == spans["retrieve"].status.code == 2
    assert spans["embed"].status.code == 0
    assert SECRET not in str(collector.received)


def test_spans_of_requests_at_the_same_time_stay_apart(collector: Collector) -> None:
    async def request(name: str) -> None:
        span = tracing.RequestSpan("GET", {}, {})
        with telemetry.Timings().stage(f"stage-{name}"):
            await asyncio.sleep(0.01)
        span.end(f"/{name}", 200, {})

    async def both() -> None:
        await asyncio.gather(*(asyncio.create_task(request(name)) for name in "ab"))

    asyncio.run(both())
    tracing.flush()
    for name in "ab":
        stage, span = collector.spans[f"stage-{name}"], collector.spans[f"GET /{name}"]
        assert stage.parent_span_id == span.span_id
        assert not span.parent_span_id


def test_a_malformed_traceparent_begins_a_trace_of_its_own(collector: Collector) -> None:
    tracing.RequestSpan("GET", {"traceparent": "00-zz-zz-01"}, {}).end("/", 200, {})
    tracing.flush()
    assert collector.spans["GET /"].trace_id.hex() != "0" * 32


def test_a_collector_that_does_not_answer_holds_nobody_up_for_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "_EXPORT_S", 0.1)
    caplog.set_level(logging.CRITICAL, "opentelemetry")
    tracing.configure("http://127.0.0.1:9", "test")
    tracing.RequestSpan("GET", {}, {}).end("/", 200, {})
    tracing.flush()
    tracing.configure(None, "test")
    assert tracing.start("nothing") is None
    assert tracing.headers() == {}
