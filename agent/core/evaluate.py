"""What is true now: readings, telemetry and the robot's own beats → the keys of the causes they demand.

Pure. Not knowing is never a reason to run: an unknown reading leaves each of its conditions as it was and
raises `input_stale` or `input_fault` beside it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from agent.core.contact import FRESH_CONTACT, Contact, ContactMemory, watch_contact
from agent.core.envelope import Telemetry, WallTime, fresh_number, outside, unseen
from agent.core.machine import Demand
from agent.core.plan import Condition, Plan
from agent.core.quantity import FRESH_QUANTITY, Quantity, QuantityMemory, watch_quantity
from agent.core.readings import NEVER_READ, Quality, Reading

STILL_MPS = 0.01
"""Standstill is below this speed: a hundredth of a walking pace, about the noise of wheel odometry."""


View: TypeAlias = Contact | Quantity
"""What is made of one input's readings."""


@dataclass(frozen=True, slots=True)
class Observations:
    """Everything one turn of `reflex` saw. Times are CLOCK_MONOTONIC nanoseconds.

    `robot_since_ns`: since when the robot's software is connected (0: it is not); `last_beat_ns`: its last
    beat, or its connecting; `stopped_ns`: since when the channel stands stopped (0: it runs).
    """

    readings: Mapping[str, Reading]
    telemetry: Telemetry
    robot_since_ns: int
    last_beat_ns: int
    stopped_ns: int
    powered: bool = True
    """False once the stop has taken power away: there is nothing left to escalate to."""
    wall: WallTime | None = None


@dataclass(frozen=True, slots=True)
class Timed:
    """One condition between turns: since when its test has been true, and whether it demands."""

    since_ns: int | None = None
    active: bool = False


@dataclass(frozen=True, slots=True)
class Memory:
    """What one turn hands to the next."""

    started_ns: int
    contacts: Mapping[str, ContactMemory]
    quantities: Mapping[str, QuantityMemory]
    timed: tuple[Timed, ...]
    ever_read: frozenset[str] = frozenset()
    robot_seen: bool = False
    doubted_ns: int = 0
    """The stop (its `stopped_ns`) that was escalated because the robot never says whether it stands."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`active`, `unknown`, `unreset`: see `agent.core.machine.Inputs`.

    `still`: standstill (silence) is observed now. `closed`: per contact True, False or None (unknown).
    """

    active: dict[str, Demand] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    unreset: frozenset[str] = frozenset()
    still: bool = False
    closed: Mapping[str, bool | None] = field(default_factory=dict)
    qualities: Mapping[str, Quality] = field(default_factory=dict)


def remember(plan: Plan, latched: frozenset[str], now_ns: int) -> Memory:
    """The first memory.

    `latched`: keys latched before the restart: a discrepancy found then still wants its proof cycle now,
    and a condition nothing is known about yet is still true.
    """
    contacts = {
        name: replace(FRESH_CONTACT, needs_cycle=spec.proof_cycle and f"input_fault:{name}" in latched)
        for name, spec in plan.inputs.items()
        if spec.contact
    }
    quantities = {name: FRESH_QUANTITY for name, spec in plan.inputs.items() if not spec.contact}
    timed = tuple(Timed(active=c.cause in latched) for c in plan.conditions)
    return Memory(now_ns, contacts, quantities, timed)


def evaluate(plan: Plan, memory: Memory, seen: Observations, now_ns: int) -> tuple[Memory, Verdict]:
    """One turn. Costs a few microseconds per input and condition."""
    contacts, quantities, views = _watch(plan, memory, seen.readings, now_ns)
    timed, unknown = _conditions(plan, memory, seen, views, now_ns)
    after = Memory(
        memory.started_ns,
        contacts,
        quantities,
        timed,
        _ever_read(memory, seen.readings),
        memory.robot_seen or seen.robot_since_ns > 0,
        memory.doubted_ns,
    )
    still = is_still(plan, seen, now_ns)
    active = dict(_demands(plan, after, seen, views, now_ns))
    if _standstill_due(plan, seen, now_ns) and not still:
        if _tells_motion(seen):
            active["not_still"] = Demand()
        elif seen.powered and memory.doubted_ns != seen.stopped_ns:
            # It cannot say. Power goes, once; but a cause that stood as long as it stays silent about
            # motion could never be cleared.
            active["not_still"] = Demand(detail="the robot tells neither still nor speed_mps")
            after = replace(after, doubted_ns=seen.stopped_ns)
    unreset = frozenset(f"input_fault:{n}" for n, m in contacts.items() if m.needs_cycle)
    closed = {name: view.closed for name, view in views.items() if isinstance(view, Contact)}
    qualities = {name: view.quality for name, view in views.items()}
    unknown |= frozenset(unseen(plan, seen.telemetry, seen.wall, now_ns))
    return after, Verdict(active, unknown, unreset, still, closed, qualities)


def _demands(
    plan: Plan,
    memory: Memory,
    seen: Observations,
    views: Mapping[str, View],
    now_ns: int,
) -> Iterator[tuple[str, Demand]]:
    """Inputs first, then the plan's conditions, the robot, the envelope.

    What has not spoken yet right after the start is `starting`, not a fault; the grace ends with its
    first word.
    """
    starting = now_ns - memory.started_ns < plan.times.start_grace_ns
    waiting = [name for name in views if starting and name not in memory.ever_read]
    for name, view in views.items():
        if view.quality is not Quality.GOOD and name not in waiting:
            yield _quality_key(view.quality, name), Demand(detail=view.detail)
    for condition, timed in zip(plan.conditions, memory.timed, strict=True):
        if timed.active:
            yield condition.cause, Demand()
    if starting and not memory.robot_seen:
        waiting.append("robot")
    else:
        yield from _robot(plan, seen, now_ns)
    for cause in outside(plan, seen.telemetry, seen.wall, now_ns):
        if cause != "telemetry_stale" or _telemetry_due(plan, seen, now_ns):
            yield cause, Demand()
    if waiting:
        yield "starting", Demand(detail="waiting for " + ", ".join(waiting))


def _quality_key(quality: Quality, name: str) -> str:
    return f"input_stale:{name}" if quality is Quality.STALE else f"input_fault:{name}"


def _watch(
    plan: Plan, memory: Memory, readings: Mapping[str, Reading], now_ns: int
) -> tuple[dict[str, ContactMemory], dict[str, QuantityMemory], dict[str, View]]:
    contacts: dict[str, ContactMemory] = {}
    quantities: dict[str, QuantityMemory] = {}
    views: dict[str, View] = {}
    for name, spec in plan.inputs.items():
        reading = readings.get(name, NEVER_READ)
        if spec.contact:
            contacts[name], views[name] = watch_contact(spec, memory.contacts[name], reading, now_ns)
        else:
            before = memory.quantities[name]
            quantities[name], views[name] = watch_quantity(spec.limits, before, reading, now_ns)
    return contacts, quantities, views


def _ever_read(memory: Memory, readings: Mapping[str, Reading]) -> frozenset[str]:
    new = {name for name, reading in readings.items() if reading.value is not None} - memory.ever_read
    return memory.ever_read | new if new else memory.ever_read


def _conditions(
    plan: Plan,
    memory: Memory,
    seen: Observations,
    views: Mapping[str, View],
    now_ns: int,
) -> tuple[tuple[Timed, ...], frozenset[str]]:
    after: list[Timed] = []
    unknown: set[str] = set()
    for condition, before in zip(plan.conditions, memory.timed, strict=True):
        truth = _truth(plan, condition, seen, views, now_ns)
        after.append(_time(condition, before, truth, now_ns))
        if truth is None:
            unknown.add(condition.cause)
    return tuple(after), frozenset(unknown)


def _time(condition: Condition, timed: Timed, truth: bool | None, now_ns: int) -> Timed:
    """A condition demands once its test has been true for `for_ms`; unknown leaves it as it was."""
    if truth is None:
        return timed
    if not truth:
        return _IDLE
    since = now_ns if timed.since_ns is None else timed.since_ns
    active = timed.active or now_ns - since >= condition.for_ns
    return timed if (since, active) == (timed.since_ns, timed.active) else Timed(since, active)


_IDLE = Timed()


def _truth(
    plan: Plan,
    condition: Condition,
    seen: Observations,
    views: Mapping[str, View],
    now_ns: int,
) -> bool | None:
    if condition.telemetry:
        return _compare(condition, fresh_number(plan, seen.telemetry, condition.telemetry, now_ns))
    view = views[condition.input]
    if condition.test in _QUALITY_TESTS:
        return view.quality is _QUALITY_TESTS[condition.test]
    if isinstance(view, Quantity):
        return _compare(condition, view.value)
    return None if view.closed is None else view.closed == (condition.test == "closed")


_QUALITY_TESTS = {"stale": Quality.STALE, "fault": Quality.FAULT}


def _compare(condition: Condition, value: float | None) -> bool | None:
    if value is None:
        return None
    return value > condition.bound if condition.test == "above" else value < condition.bound


def _robot(plan: Plan, seen: Observations, now_ns: int) -> Iterator[tuple[str, Demand]]:
    if not seen.robot_since_ns:
        yield "robot_gone", Demand()
    elif now_ns - seen.last_beat_ns > plan.times.beat_timeout_ns:
        yield "robot_hung", Demand()


def _telemetry_due(plan: Plan, seen: Observations, now_ns: int) -> bool:
    """Telemetry is missed only from a robot that is connected and has had the time to send it."""
    return bool(seen.robot_since_ns) and now_ns - seen.robot_since_ns > plan.times.telemetry_stale_ns


def is_still(plan: Plan, seen: Observations, now_ns: int) -> bool:
    """Whether standstill (silence, for a virtual robot) is observed.

    The robot's beats say so, they are fresh, and they came after the stop began. Where both `still` and
    `speed_mps` are told, both must agree.
    """
    if not seen.robot_since_ns or not seen.stopped_ns:
        # Of a robot that may move nothing is observed: what it said would outlast the beginning of a stop.
        return False
    said = [
        value is True if key == "still" else not isinstance(value, str) and abs(value) <= STILL_MPS
        for key in ("still", "speed_mps")
        for value, taken_ns in _recent(plan, seen, key, now_ns)
    ]
    return bool(said) and all(said)


def _recent(
    plan: Plan, seen: Observations, key: str, now_ns: int
) -> Iterator[tuple[bool | float | str, int]]:
    value, taken_ns = seen.telemetry.get(key, (False, -1))
    if taken_ns > seen.stopped_ns and now_ns - taken_ns <= plan.times.beat_timeout_ns:
        yield value, taken_ns


def _standstill_due(plan: Plan, seen: Observations, now_ns: int) -> bool:
    """Standstill must be seen by now. A robot that is gone is `robot_gone`, and nothing is due of it."""
    if not seen.stopped_ns or not seen.robot_since_ns:
        return False
    return now_ns - max(seen.stopped_ns, seen.robot_since_ns) > plan.times.still_ns


def _tells_motion(seen: Observations) -> bool:
    return "still" in seen.telemetry or "speed_mps" in seen.telemetry
