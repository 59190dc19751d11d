"""Metrics in the Prometheus text format."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from shared.telemetry.metrics import BOUNDS, CATALOGUE, Histogram, Key, Series

_Value = TypeVar("_Value")
_PREFIX = "ragzero_"
_EVERY = 4  # a Prometheus bucket per doubling


def render(series: Series, gauges: dict[Key, float]) -> tuple[bytes, str]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(series, gauges))
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


class _Collected(Collector):
    def __init__(self, series: Series, gauges: dict[Key, float]) -> None:
        self._series = series
        self._gauges = gauges

    def collect(self) -> Iterable[Family]:
        for name in CATALOGUE:
            yield from self._family(name)

    def _family(self, name: str) -> Iterator[Family]:
        metric, full = CATALOGUE[name], _PREFIX + name
        family: CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
        match metric.kind:
            case "counter":
                family = CounterMetricFamily(full, metric.help, labels=metric.labels)
                for values, value in _of(name, self._series.counters):
                    family.add_metric(values, value)
            case "gauge":
                family = GaugeMetricFamily(full, metric.help, labels=metric.labels)
                for values, value in _of(name, self._gauges):
                    family.add_metric(values, value)
            case "histogram":
                family = HistogramMetricFamily(full, metric.help, labels=metric.labels)
                for values, histogram in _of(name, self._series.histograms):
                    family.add_metric(values, _buckets(histogram), histogram.sum)
        yield family


def _of(name: str, numbers: dict[Key, _Value]) -> Iterator[tuple[list[str], _Value]]:
    for (each, labels), value in numbers.items():
        if each == name:
            yield [str(label) for _, label in labels], value


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    upto = list(accumulate(histogram.counts))
    shown = [(f"{BOUNDS[at]:.4g}", float(upto[at])) for at in range(0, len(BOUNDS), _EVERY)]
    return [*shown, ("+Inf", float(upto[-1]))]
