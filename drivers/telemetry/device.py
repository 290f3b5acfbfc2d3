"""The robot's telemetry as a device: what its own software tells over the robot link (PROTOCOL 2).

The link receives; this only judges what it holds. A robot that tells nothing, or not any more, is an input of
which nothing is known, as with any sensor.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, cast

from agent.core.readings import NEVER_READ, Quality, Reading
from drivers.base import DriverError, Host, TelemetryHost
from drivers.registry import Wanted

MS: Final = 1_000_000

KIND: Final = "robot_link"

Told: TypeAlias = tuple[bool | float | str, int] | None
"""As `TelemetryHost.telemetry`: value and time."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What an input wants to hear. `contact`: a boolean, true = closed (safe); otherwise a number."""

    key: str
    contact: bool
    stale_ns: int

    def judge(self, told: Told, now_ns: int) -> Reading:
        """What `told` is worth at `now_ns`."""
        if told is None:
            return _unknown(f"the robot does not tell {self.key!r}")
        value, taken_ns = told
        wrong = self._wrong(value)
        if wrong:
            # Silence mends nothing: what was last told wrong stays so until it is told right.
            return Reading(None, taken_ns, Quality.FAULT, detail=f"{self.key!r} is {wrong}")
        believed = cast("bool", value) if self.contact else float(value)
        fresh = now_ns - taken_ns < self.stale_ns
        quality, detail = (Quality.GOOD, "") if fresh else (Quality.STALE, f"{self.key!r} not told since")
        return Reading(believed, taken_ns, quality, detail=detail)

    def shown(self, reading: Reading) -> tuple[object, ...]:
        """What a module would see change; see `Telemetry.tick` for why a number is not part of it."""
        return (reading.quality, reading.value if self.contact else reading.value is None)

    def _wrong(self, value: float | str) -> str:
        if self.contact:
            return "" if isinstance(value, bool) else "neither true nor false"
        if isinstance(value, (bool, str)):
            return "not a number"
        try:
            return "" if math.isfinite(value) else "no finite number"
        except OverflowError:  # a whole number of hundreds of digits
            return "no finite number"


class Telemetry:
    """The robot's telemetry, every key that the plan reads."""

    name: Final = KIND

    def __init__(self, wishes: Mapping[str, Wish], host: TelemetryHost) -> None:
        """`wishes`: by name of the input."""
        self.counters = dict.fromkeys(("told", "told_wrong"), 0)
        self._wishes = wishes
        self._host = host
        self._state = "not opened yet"
        self._seen: dict[str, Told] = dict.fromkeys(wishes)

    def open(self) -> None:
        if self._state != "closed":
            self._state = ""

    def tick(self, now_ns: int) -> None:
        """What a beat told is looked at here, right before the module's own turn."""
        if self._state:
            return
        changed = [self._look(name, wish, now_ns) for name, wish in self._wishes.items()]
        if any(changed):
            self._host.changed()

    def reading(self, input_name: str, now_ns: int) -> Reading:
        wish = self._wishes[input_name]
        if self._state:
            return _unknown(self._state)
        return wish.judge(self._host.telemetry(wish.key), now_ns)

    def order(self, output_name: str, energise: bool, now_ns: int) -> None:
        """There are no outputs."""
        raise KeyError(output_name)

    def readback(self, output_name: str, now_ns: int) -> bool | None:
        """There are no outputs."""
        raise KeyError(output_name)

    def close(self) -> None:
        self._state = "closed"

    def _look(self, name: str, wish: Wish, now_ns: int) -> bool:
        """True when the input shows something else than what it was last seen to tell would show now.

        A quantity is new with every beat; the module takes its turn after the tick anyway.
        """
        told, before = self._host.telemetry(wish.key), self._seen[name]
        if told == before:
            return False
        self._seen[name] = told
        after = wish.judge(told, now_ns)
        if after.quality is Quality.FAULT:
            self.counters["told_wrong"] += 1
            self._host.bad_input(self.name, after.detail)
        elif told is not None:
            self.counters["told"] += 1
        return wish.shown(after) != wish.shown(wish.judge(before, now_ns))


def build(inputs: Sequence[Wanted], host: Host) -> Telemetry:
    """The one device of the robot link. Raises DriverError in a module that has none."""
    if not isinstance(host, TelemetryHost):
        raise DriverError(KIND, "", "needs the robot link, which this module does not have")
    return Telemetry({wanted.name: _wish(wanted) for wanted in inputs}, host)


def _wish(wanted: Wanted) -> Wish:
    settings = wanted.settings
    return Wish(
        key=str(settings["key"]),
        contact="quantity" not in settings,
        stale_ns=cast("int", settings["stale_ms"]) * MS,
    )


def _unknown(detail: str) -> Reading:
    return replace(NEVER_READ, detail=detail)
