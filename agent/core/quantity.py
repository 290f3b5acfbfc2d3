"""One quantity (a range, a pressure, a speed) from its readings, and whether it may be believed.

A number that arrives in time can still be wrong. Three signs of that are data of the plan: limits outside of
which the sensor cannot truly be, a rate at which the world cannot change, and a last digit that never moves
(a live sensor's does). Each is a fault of the input, never a value to act on.
"""

import math
from dataclasses import dataclass, replace

from agent.core.plan import Plausibility
from agent.core.readings import Quality, Reading

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class QuantityMemory:
    """One quantity between turns: its last value, when it was taken, and since when it has been the same."""

    value: float | None = None
    taken_ns: int = 0
    same_since_ns: int = 0
    jumped: bool = False
    """The last value came from the one before faster than the world moves."""


FRESH_QUANTITY = QuantityMemory()


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is known now. `value`: None when it is not to be believed."""

    value: float | None
    quality: Quality
    detail: str = ""


def watch_quantity(
    limits: Plausibility, memory: QuantityMemory, reading: Reading, now_ns: int
) -> tuple[QuantityMemory, Quantity]:
    """One turn of one quantity."""
    if reading.quality is not Quality.GOOD:
        return FRESH_QUANTITY, Quantity(None, reading.quality, reading.detail)
    if reading.value is None or isinstance(reading.value, bool) or not math.isfinite(reading.value):
        return FRESH_QUANTITY, Quantity(None, Quality.FAULT, "not a number")
    memory = _follow(limits, memory, reading.value, reading.taken_ns)
    fault = _fault(limits, memory, reading.value, now_ns)
    if fault:
        return memory, Quantity(None, Quality.FAULT, fault)
    return memory, Quantity(reading.value, Quality.GOOD, reading.detail)


def _follow(limits: Plausibility, memory: QuantityMemory, value: float, taken_ns: int) -> QuantityMemory:
    if memory.value is None:
        return QuantityMemory(value, taken_ns, taken_ns)
    if taken_ns <= memory.taken_ns:  # the same reading, looked at again
        return memory
    if value == memory.value:
        return replace(memory, taken_ns=taken_ns, jumped=False)
    rate = abs(value - memory.value) * NS_PER_S / (taken_ns - memory.taken_ns)
    jumped = limits.max_rate_per_s is not None and rate > limits.max_rate_per_s
    return QuantityMemory(value, taken_ns, taken_ns, jumped=jumped)


def _fault(limits: Plausibility, memory: QuantityMemory, value: float, now_ns: int) -> str:
    if limits.lowest is not None and value < limits.lowest:
        return f"implausible: {value:g} is below {limits.lowest:g}"
    if limits.highest is not None and value > limits.highest:
        return f"implausible: {value:g} is above {limits.highest:g}"
    if memory.jumped:
        return f"changed faster than {limits.max_rate_per_s:g} per second"
    if limits.stuck_ns and now_ns - memory.same_since_ns >= limits.stuck_ns:
        return f"stuck at {value:g} for {limits.stuck_ns / NS_PER_S:g} s"
    return ""
