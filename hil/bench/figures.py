"""Samples and what is said of them: percentiles, ratios, and the figure to reach."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

PERCENTILES: Mapping[str, float] = MappingProxyType({"p50": 0.5, "p99": 0.99, "p99.9": 0.999})
WORST = "worst"
COLUMNS = (*PERCENTILES, WORST)


def percentile(ordered: Sequence[int], share: float) -> int | None:
    """By nearest rank; None where so few samples leave none beyond it: it would be the worst."""
    rank = math.ceil(share * len(ordered))
    if not ordered or len(ordered) * (1 - share) < 1 - 1e-9:
        return None
    return ordered[rank - 1]


def summary(samples: Sequence[int]) -> dict[str, int | None]:
    """Nanoseconds for each of `COLUMNS`, None for what the number of samples does not carry."""
    ordered = sorted(samples)
    found = {name: percentile(ordered, share) for name, share in PERCENTILES.items()}
    return {**found, WORST: ordered[-1] if ordered else None}


def ratios(ours: Mapping[str, int | None], reference: Mapping[str, int | None]) -> dict[str, float | None]:
    """Ours to the reference's, None where either is missing."""
    return {name: _ratio(ours.get(name), reference.get(name)) for name in COLUMNS}


def _ratio(ours: int | None, reference: int | None) -> float | None:
    return None if ours is None or not reference else ours / reference


@dataclass(frozen=True, slots=True)
class Figure:
    """What DESIGN asks for. `ratio`: at most so many times the reference; `at_most_ns`: at most so long."""

    ratio: Mapping[str, float] = field(default_factory=dict)
    at_most_ns: Mapping[str, int] = field(default_factory=dict)

    def __or__(self, other: "Figure") -> "Figure":
        return Figure({**self.ratio, **other.ratio}, {**self.at_most_ns, **other.at_most_ns})

    def reached(
        self, ours: Mapping[str, int | None], times: Mapping[str, float | None]
    ) -> dict[str, bool | None]:
        """For each column with a bound, whether it is kept; None where it was not measured."""
        return {
            **{name: _kept(times.get(name), bound) for name, bound in self.ratio.items()},
            **{name: _kept(ours.get(name), bound) for name, bound in self.at_most_ns.items()},
        }


NO_FIGURE = Figure()


def _kept(found: float | None, bound: float) -> bool | None:
    return None if found is None else found <= bound
