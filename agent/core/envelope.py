"""The operating envelope (clause 5.5(a)): area, speed, hours, tasks.

Leaving it is an abnormal state, and so is no longer being able to tell.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from agent.core.plan import Envelope, Plan

Scalar: TypeAlias = bool | float | str
Telemetry: TypeAlias = Mapping[str, tuple[Scalar, int]]
"""Each key's latest value and the CLOCK_MONOTONIC nanoseconds at which it came."""


@dataclass(frozen=True, slots=True)
class WallTime:
    """Local time in the plan's zone: `weekday` 0 = Monday, `minute` of the day 0 to 1439."""

    weekday: int
    minute: int


def needed_telemetry(plan: Plan) -> frozenset[str]:
    """The telemetry keys that some condition or limit of the plan cannot do without."""
    keys = {c.telemetry for c in plan.conditions if c.telemetry}
    if plan.envelope.area:
        keys |= {"x_m", "y_m"}
    if plan.envelope.max_speed_mps is not None:
        keys.add("speed_mps")
    return frozenset(keys)


def fresh_number(plan: Plan, telemetry: Telemetry, key: str, now_ns: int) -> float | None:
    """A telemetry number young enough to be believed, else None."""
    value, taken_ns = telemetry.get(key, ("", 0))
    if isinstance(value, str) or not math.isfinite(value) or not _fresh(plan, taken_ns, now_ns):
        return None
    return float(value)


def outside(plan: Plan, telemetry: Telemetry, wall: WallTime | None, now_ns: int) -> Iterator[str]:
    """The ids of the envelope's causes that are true now."""
    envelope = plan.envelope
    if any(fresh_number(plan, telemetry, key, now_ns) is None for key in needed_telemetry(plan)):
        yield "telemetry_stale"
    x_m, y_m = (fresh_number(plan, telemetry, key, now_ns) for key in ("x_m", "y_m"))
    if envelope.area and x_m is not None and y_m is not None and not inside(envelope.area, x_m, y_m):
        yield "out_of_area"
    speed_mps = fresh_number(plan, telemetry, "speed_mps", now_ns)
    if (
        envelope.max_speed_mps is not None
        and speed_mps is not None
        and abs(speed_mps) > envelope.max_speed_mps
    ):
        yield "over_speed"
    if wall is not None and not in_hours(envelope, wall):
        yield "out_of_hours"
    task, taken_ns = telemetry.get("task", ("", 0))
    if envelope.tasks and task not in ("", *envelope.tasks) and _fresh(plan, taken_ns, now_ns):
        yield "task_not_authorised"


def unseen(plan: Plan, telemetry: Telemetry, wall: WallTime | None, now_ns: int) -> Iterator[str]:
    """The ids of the envelope's causes about which nothing is known now: they stay as they were."""
    envelope = plan.envelope
    known = {
        key: fresh_number(plan, telemetry, key, now_ns) is not None for key in ("x_m", "y_m", "speed_mps")
    }
    if envelope.area and not (known["x_m"] and known["y_m"]):
        yield "out_of_area"
    if envelope.max_speed_mps is not None and not known["speed_mps"]:
        yield "over_speed"
    if (envelope.hours or envelope.days) and wall is None:
        yield "out_of_hours"
    if envelope.tasks and not ("task" in telemetry and _fresh(plan, telemetry["task"][1], now_ns)):
        yield "task_not_authorised"


def _fresh(plan: Plan, taken_ns: int, now_ns: int) -> bool:
    return now_ns - taken_ns <= plan.times.telemetry_stale_ns


def in_hours(envelope: Envelope, wall: WallTime) -> bool:
    """Whether the wall clock is inside the permitted days and hours.

    A span may cross midnight, and then belongs to the day on which it began.
    """
    if not envelope.hours:
        return not envelope.days or wall.weekday in envelope.days
    return any(_in_span(envelope.days, start, end, wall) for start, end in envelope.hours)


def _in_span(days: Sequence[int], start: int, end: int, wall: WallTime) -> bool:
    if start < end:
        return start <= wall.minute < end and _on(days, wall.weekday)
    if wall.minute >= start:
        return _on(days, wall.weekday)
    return wall.minute < end and _on(days, (wall.weekday - 1) % 7)


def _on(days: Sequence[int], weekday: int) -> bool:
    return not days or weekday in days


def inside(area: Sequence[tuple[float, float]], x_m: float, y_m: float) -> bool:
    """Whether a point is inside a simple polygon (even-odd rule); NaN is outside."""
    within = False
    previous_x, previous_y = area[-1]
    for corner_x, corner_y in area:
        if (corner_y > y_m) != (previous_y > y_m):
            crossing = corner_x + (y_m - corner_y) * (previous_x - corner_x) / (previous_y - corner_y)
            if x_m < crossing:
                within = not within
        previous_x, previous_y = corner_x, corner_y
    return within
