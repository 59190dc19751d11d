"""Metrics as CloudWatch embedded metric format: log lines that CloudWatch reads numbers out of.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Any

from shared.telemetry.metrics import CATALOGUE, Pending

NAMESPACE = "ragzero"
_MOST_METRICS = 100
_MOST_VALUES = 100
_UNITS = {"counter": "Count", "histogram": "Seconds", "gauge": "None"}

Labels = tuple[tuple[str, Any], ...]
Numbers = dict[str, list[float]]


def lines(pending: Pending, service: str, now_ms: int) -> list[str]:
    """A line per set of labels: every metric of a line has the line's labels as its dimensions."""
    return [
        json.dumps(_document(labels, part, service, now_ms), separators=(",", ":"))
        for labels, numbers in _by_labels(pending).items()
        for part in _parts(numbers)
    ]


def _by_labels(pending: Pending) -> dict[Labels, Numbers]:
    found: dict[Labels, Numbers] = defaultdict(dict)
    for (name, labels), value in (*pending.counters.items(), *pending.gauges.items()):
        found[labels][name] = [value]
    for (name, labels), values in pending.observations.items():
        found[labels][name] = [round(value, 6) for value in values]
    return found


def _parts(numbers: Numbers) -> Iterator[Numbers]:
    """As much as one line takes, again and again."""
    while numbers:
        part = {name: values[:_MOST_VALUES] for name, values in islice(numbers.items(), _MOST_METRICS)}
        yield part
        numbers = {
            name: left for name, values in numbers.items() if (left := values[len(part.get(name, ())) :])
        }


def _document(labels: Labels, numbers: Numbers, service: str, now_ms: int) -> dict[str, Any]:
    dimensions = {"service": service, **{name: str(value)[:1024] or "none" for name, value in labels}}
    declared = [{"Name": name, "Unit": _UNITS[CATALOGUE[name].kind]} for name in numbers]
    directive = {"Namespace": NAMESPACE, "Dimensions": [list(dimensions)], "Metrics": declared}
    values = {name: values[0] if len(values) == 1 else values for name, values in numbers.items()}
    return {"_aws": {"Timestamp": now_ms, "CloudWatchMetrics": [directive]}, **dimensions, **values}
