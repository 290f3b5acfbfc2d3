"""What a measurement is given and what it gives: legs, bounds, samples."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hil.bench.figures import NO_FIGURE, Figure
from hil.bench.program import Program, ProgramError

OURS, REFERENCE = "warden", "C"
SEED = 20240501
TICK_S = 0.01
"""A module's own beat: samples are spread over its phases."""
SEEN_S = 8.0
"""The watcher itself gives up after 5 s."""


@dataclass(frozen=True, slots=True)
class Leg:
    """From the path's beginning to one effect. `figure` counts always, `loaded` only with busy cores."""

    name: str
    zh: str
    en: str
    figure: Figure = NO_FIGURE
    loaded: Figure = NO_FIGURE

    def wanted(self, *, loaded: bool) -> Figure:
        """All that counts in one condition."""
        return self.figure | self.loaded if loaded else self.figure


@dataclass(slots=True)
class Samples:
    """What one path gave in one condition: (leg, who) -> nanoseconds; and what did not go as planned."""

    on_sample: Callable[[], None] = lambda: None
    legs: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    incidents: Counter[str] = field(default_factory=Counter)

    def add(self, leg: str, who: str, nanoseconds: int) -> None:
        """One number."""
        self.legs[leg, who].append(nanoseconds)

    def add_seen(self, leg: str, who: str, begun_ns: int, seen_ns: int | None) -> None:
        """The time between; an incident when nothing was seen."""
        if seen_ns is None:
            self.incidents[f"late: {who}"] += 1
        else:
            self.add(leg, who, seen_ns - begun_ns)


@dataclass(frozen=True, slots=True)
class Bound:
    """When a measurement ends: after `count` samples of each, or at `until_s` (time.monotonic)."""

    count: int
    until_s: float

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self.until_s

    def turns(self) -> Iterator[int]:
        """Numbers the samples; always at least one."""
        for number in range(self.count):
            if number and self.over:
                return
            yield number


class Watch:
    """The program `watch`: armed first, asked afterwards."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def arm(self, *permits: int, look_us: int) -> None:
        """Looks from now on at these permits; at none: at what all permit together, by the robot's reader.

        `look_us`: microseconds between two looks, by so much the answer is late at most.
        """
        words = [("withdrawn" if permits else "stopped"), look_us, *permits]
        self._program.say(" ".join(map(str, words)))
        self._program.expect("armed", SEEN_S)

    def seen_ns(self) -> int | None:
        """When the first, then the next of them was withdrawn (CLOCK_MONOTONIC); None: not in 5 s."""
        words = self._program.hear(SEEN_S)
        if words[:1] not in (["seen"], ["late"]):
            raise ProgramError("watch", f"said {' '.join(words) or 'nothing'!r}")
        return int(words[2]) if words[0] == "seen" else None
