"""What the modules answered: checked row by row against the table of metrics, merged, put into families.

`remote` faces the network, so its answer may be hostile: a metric that is not its own, a series that speaks
for another channel or module, and whatever has the wrong shape is dropped and counted, and bounded in number.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from agent.metrics import BY_NAME, MAX_LABEL_CHARS, MAX_SERIES, METRICS, Metric, Snapshot

PREFIX = "warden_"


@dataclass(frozen=True, slots=True)
class Buckets:
    """One histogram series: sum in seconds, and counts per bucket, the last one beyond all bounds."""

    total: float
    counts: tuple[int, ...]


Value = float | Buckets
Table = dict[str, dict[tuple[str, ...], Value]]
"""Metric name -> label values -> value."""


@dataclass(frozen=True, slots=True)
class Report:
    """One module's last answer, and whether it is up now."""

    up: bool
    table: Table


def read_answer(module: str, message: Mapping[str, object]) -> tuple[Table, int]:
    """The believable part of `{"type": "metrics", "data": ...}`, and how much was dropped."""
    answered = message.get("data")
    if not isinstance(answered, dict):
        return {}, 1
    table: Table = {}
    dropped = 0
    for name, series in answered.items():
        metric = BY_NAME.get(name)
        if metric is None or module not in metric.by or not isinstance(series, list):
            dropped += 1
            continue
        rows = [_row(metric, module, row) for row in series[: MAX_SERIES + 1]]
        table[name] = dict(row for row in rows if row is not None)
        dropped += max(0, len(series) - len(rows)) + rows.count(None)
    return table, dropped


def read_own(snapshot: Snapshot) -> Table:
    """This process's own counts; presets among them stand for every channel and module."""
    table: Table = {}
    for name, series in snapshot.items():
        rows = (_row(BY_NAME[name], None, row) for row in series)
        table[name] = dict(row for row in rows if row is not None)
    return table


def _row(metric: Metric, module: str | None, row: object) -> tuple[tuple[str, ...], Value] | None:
    if not (isinstance(row, list) and len(row) == 2):
        return None
    labels = _labels(metric, module, row[0])
    value = _buckets(metric, row[1]) if metric.kind == "histogram" else _number(metric, row[1])
    return None if labels is None or value is None else (labels, value)


def _labels(metric: Metric, module: str | None, labels: object) -> tuple[str, ...] | None:
    """A `module` speaks for its own channel and itself alone; None speaks for all."""
    if not (isinstance(labels, list) and len(labels) == len(metric.labels)):
        return None
    for name, value in zip(metric.labels, labels, strict=True):
        if not isinstance(value, str) or len(value) > MAX_LABEL_CHARS:
            return None
        if module is not None and name in {"channel", "module"} and value != module:
            return None
    return tuple(labels)


def _number(metric: Metric, value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    wrong = not math.isfinite(value) or (metric.kind == "counter" and value < 0)
    return None if wrong else value


def _buckets(metric: Metric, value: object) -> Buckets | None:
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[1], list)):
        return None
    total, counts = value
    if isinstance(total, bool) or not isinstance(total, int | float) or not 0 <= total < math.inf:
        return None
    right = len(counts) == len(metric.buckets) + 1 and all(type(one) is int and one >= 0 for one in counts)
    return Buckets(total, tuple(counts)) if right else None


def merge(own: Table, reports: Iterable[Report]) -> Table:
    """One table of all: counters and histograms add up, a gauge is taken from the report that has it.

    A module that is down keeps its last values, but for the gauges whose row says what its silence means:
    its permit has run out by then.
    """
    merged: Table = {name: dict(series) for name, series in own.items()}
    for report in reports:
        for name, series in report.table.items():
            _add(BY_NAME[name], merged.setdefault(name, {}), series, up=report.up)
    return merged


def _add(
    metric: Metric, merged: dict[tuple[str, ...], Value], series: Mapping[tuple[str, ...], Value], *, up: bool
) -> None:
    for labels, value in series.items():
        if metric.kind == "gauge":
            merged[labels] = value if up or metric.when_down is None else metric.when_down
        else:
            merged[labels] = _sum(merged.get(labels), value)


def _sum(first: Value | None, second: Value) -> Value:
    if isinstance(first, Buckets) and isinstance(second, Buckets):
        counts = tuple(a + b for a, b in zip(first.counts, second.counts, strict=True))
        return Buckets(first.total + second.total, counts)
    if isinstance(first, Buckets) or isinstance(second, Buckets) or first is None:
        return second
    return first + second


def families(table: Table) -> Iterator[Family]:
    """The table as Prometheus' client library wants it, in the order of `METRICS`."""
    for metric in METRICS:
        series = table.get(metric.name)
        if series:
            yield _family(metric, series)


def _family(metric: Metric, series: Mapping[tuple[str, ...], Value]) -> Family:
    name, text, labels = PREFIX + metric.name, metric.help, metric.labels
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(name, text, labels=labels)
        for row, value in series.items():
            if isinstance(value, Buckets):
                histogram.add_metric(row, _cumulative(metric, value), value.total)
        return histogram
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(name, text, labels=labels)
    for row, value in series.items():
        if not isinstance(value, Buckets):
            family.add_metric(row, value)
    return family


def _cumulative(metric: Metric, value: Buckets) -> list[tuple[str, float]]:
    """Prometheus counts a bucket with all below it; the last bound is +Inf."""
    bounds = (*(str(bound) for bound in metric.buckets), "+Inf")
    return list(zip(bounds, accumulate(value.counts), strict=True))
