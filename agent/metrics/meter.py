"""The meter that a module counts with: an observation is a bisection and two additions.

Standard library only, since `reflex` counts on its stop path.
"""

import math
from bisect import bisect_left
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from agent.metrics.table import BY_NAME, Kind

MAX_SERIES: Final = 512
"""Series of one metric; what a flood of new labels would add is counted under `OTHER` instead."""
MAX_LABEL_CHARS: Final = 128
OTHER: Final = "other"

Snapshot = dict[str, list[list[object]]]
"""JSON-able: metric name -> series `[labels, number]`, a histogram's number being `[sum, [count per bucket,
the last one beyond all bounds]]` (not cumulative)."""


class _Histogram:
    """One histogram series: counts per bucket, not cumulative, the last one beyond all bounds."""

    __slots__ = ("counts", "total")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * (buckets + 1)
        self.total = 0.0


class Meter:
    """One module's counts; for one thread.

    Wrong use raises at once, since it is a mistake of ours: KeyError for an unknown name, ValueError for a
    wrong kind, number of labels or value.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, dict[tuple[str, ...], float]] = {}
        self._histograms: dict[str, dict[tuple[str, ...], _Histogram]] = {}

    def inc(self, name: str, *labels: str, by: float = 1) -> None:
        """A counter grows by `by`, at least 0."""
        if not 0 <= by < math.inf:
            raise ValueError(f"{name}: a counter cannot grow by {by}")
        series, labels = self._number(name, labels, "counter")
        series[labels] += by

    def set(self, name: str, value: float, *labels: str) -> None:
        """A gauge becomes `value`, a finite number."""
        if not math.isfinite(value):
            raise ValueError(f"{name}: a gauge cannot be {value}")
        series, labels = self._number(name, labels, "gauge")
        series[labels] = value

    def observe(self, name: str, seconds: float, *labels: str) -> None:
        """A histogram takes in one duration, at least 0."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"{name}: a duration cannot be {seconds} s")
        series = self._histograms.get(name, _NOTHING).get(labels)
        if series is None:
            series = self._histogram(name, labels)
        series.counts[bisect_left(BY_NAME[name].buckets, seconds)] += 1
        series.total += seconds

    def preset(self, name: str, *labels: str) -> None:
        """The series exists from now on: at `when_down` or 0 where nothing was counted yet."""
        if BY_NAME[name].kind == "histogram":
            self._histogram(name, labels)
        else:
            self._number(name, labels, BY_NAME[name].kind)

    def snapshot(self) -> Snapshot:
        """All series now, for the answer to `{"type": "metrics"}`."""
        numbers: Snapshot = {
            name: [[list(labels), value] for labels, value in series.items()]
            for name, series in self._numbers.items()
        }
        for name, series in self._histograms.items():
            numbers[name] = [[list(labels), [one.total, list(one.counts)]] for labels, one in series.items()]
        return numbers

    def answer(self) -> dict[str, object]:
        """The whole packet that answers `{"type": "metrics"}` on a module link."""
        return {"type": "metrics", "data": self.snapshot()}

    def _number(
        self, name: str, labels: tuple[str, ...], kind: Kind
    ) -> tuple[dict[tuple[str, ...], float], tuple[str, ...]]:
        series = self._numbers.get(name)
        if series is None or labels not in series or BY_NAME[name].kind != kind:
            labels = _checked(name, labels, kind, series or {})
            series = self._numbers.setdefault(name, {})
            series.setdefault(labels, BY_NAME[name].when_down or 0)
        return series, labels

    def _histogram(self, name: str, labels: tuple[str, ...]) -> _Histogram:
        labels = _checked(name, labels, "histogram", self._histograms.get(name, _NOTHING))
        series = self._histograms.setdefault(name, {})
        return series.setdefault(labels, _Histogram(len(BY_NAME[name].buckets)))


_NOTHING: Mapping[tuple[str, ...], _Histogram] = MappingProxyType({})


def _checked(
    name: str, labels: tuple[str, ...], kind: Kind, series: Mapping[tuple[str, ...], object]
) -> tuple[str, ...]:
    """The labels under which a series that may not exist yet is counted."""
    metric = BY_NAME[name]
    if metric.kind != kind:
        raise ValueError(f"{name} is a {metric.kind}, not a {kind}")
    if len(labels) != len(metric.labels):
        raise ValueError(f"{name} takes the labels {metric.labels}, not {labels}")
    labels = tuple(label[:MAX_LABEL_CHARS] for label in labels)
    full = len(series) >= MAX_SERIES and labels not in series
    return (OTHER,) * len(labels) if full and labels else labels
