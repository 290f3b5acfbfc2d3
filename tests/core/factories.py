"""Small plans, readings and machine states for tests. Every maker takes what a test wants otherwise."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from agent.core.causes import MS, CauseRow, Clear, built_in_rows
from agent.core.evaluate import Observations
from agent.core.machine import Cause, Demand, Inputs, Outcome, State, step
from agent.core.plan import (
    Condition,
    DeviceSpec,
    Envelope,
    Identity,
    InputSpec,
    Monitor,
    OutputSpec,
    Plan,
    Recorder,
    Times,
)
from agent.core.readings import Quality, Reading
from agent.core.responses import Response

NOW_NS = 5_000_000_000_000
"""Some moment on CLOCK_MONOTONIC."""
SS1_NS = 800 * MS
TIMES = Times(
    ttl_ns=100 * MS,
    ss1_ns=SS1_NS,
    still_ns=1500 * MS,
    beat_timeout_ns=200 * MS,
    peer_timeout_ns=100 * MS,
    telemetry_stale_ns=1000 * MS,
    start_grace_ns=3000 * MS,
    recorder_lost_ns=10_000 * MS,
)
BEFORE, FRESH = b"_before_", b"_fresh__"
"""Halves of a challenge: the one a state carries, and the next."""


Made = TypeVar("Made")


def but(made: Made, changes: Mapping[str, object]) -> Made:
    """The same with other fields."""
    loose: Any = made
    return cast("Made", replace(loose, **changes))


def row(
    key: str,
    response: Response = Response.EMERGENCY_STOP,
    clear: Clear = Clear.RESUME,
    hold_off_ms: int = 0,
) -> CauseRow:
    return CauseRow(key, response, clear, hold_off_ms * MS, f"{key} 中文", f"{key} in English")


def rows(*more: CauseRow, risk: str = "high") -> dict[str, CauseRow]:
    return built_in_rows(risk) | {r.id: r for r in more}


def contact_spec(**changes: object) -> InputSpec:
    spec = InputSpec(
        device=DeviceSpec("serial_node", {"port": "/dev/ttyUSB0", "bit": 0}),
        contact=True,
        discrepancy_ns=50 * MS,
        debounce_ns=20 * MS,
        proof_cycle=True,
    )
    return but(spec, changes)


def quantity_spec() -> InputSpec:
    device = DeviceSpec("modbus", {"port": "/dev/ttyUSB1", "quantity": "range_m"})
    return contact_spec(device=device, contact=False)


def output_spec(channel: str = "reflex", readback_ms: int = 300) -> OutputSpec:
    return OutputSpec(DeviceSpec("serial_node", {"port": "/dev/ttyUSB0"}), channel, readback_ms * MS)


def condition(cause: str, **changes: object) -> Condition:
    base = Condition(cause=cause, input="", telemetry="", test="open", bound=0.0, for_ns=0)
    return but(base, changes)


def small_plan(**changes: object) -> Plan:
    """An e-stop and a range sensor; nothing in the envelope is limited."""
    plan = Plan(
        digest="d" * 64,
        agent_version="1.0.0",
        agent_digest="a" * 64,
        robot=Identity("FT-1", "福小安", "embodied", "high"),
        run_dir="/run/warden",
        state_dir="/var/lib/warden",
        link_uids=(),
        times=TIMES,
        rows=rows(
            row("estop_pressed", Response.EMERGENCY_STOP, Clear.RESET_AND_RESUME),
            row("too_close", Response.HOLD, Clear.AUTO, hold_off_ms=100),
        ),
        conditions=(
            condition("estop_pressed", input="estop"),
            condition("too_close", input="range", test="below", bound=0.5, for_ns=40 * MS),
        ),
        inputs={"estop": contact_spec(), "range": quantity_spec()},
        outputs={},
        recorder=Recorder("/var/lib/warden/log", (), 190),
        monitor=Monitor("127.0.0.1:9477", "", "", ""),
        envelope=Envelope(),
    )
    return but(plan, changes)


def reading(value: bool | float | None, second: bool | None = None, **changes: object) -> Reading:
    return but(Reading(value=value, taken_ns=NOW_NS, quality=Quality.GOOD, second=second), changes)


CLOSED = reading(True, True)
OPEN = reading(False, False)
SPLIT = reading(False, True)
"""The first contact open, the second closed: a cut wire or a weld."""
FAR = reading(2.0)
NEAR = reading(0.2)
SILENT = reading(None, quality=Quality.STALE, detail="no frame for 60 ms")
BROKEN = reading(True, True, quality=Quality.FAULT, detail="the node reports a fault")


def seen(now_ns: int = NOW_NS, **changes: object) -> Observations:
    """All is well: contacts closed, nothing near, a robot that beats and runs."""
    base = Observations(
        readings={"estop": CLOSED, "range": FAR},
        telemetry={},
        robot_since_ns=now_ns - 60_000 * MS,
        last_beat_ns=now_ns,
        stopped_ns=0,
    )
    return but(base, changes)


def cause(key: str = "guardian_stop", **changes: object) -> Cause:
    """An emergency stop that a resume ends; its condition is gone."""
    base = Cause(key, Response.EMERGENCY_STOP, Clear.RESUME, active=False, since_ns=NOW_NS, gone_ns=NOW_NS)
    return but(base, changes)


def stopped(*causes: Cause, **changes: object) -> State:
    """A state that has these causes, as `step` would leave it."""
    response = max((c.response for c in causes), default=Response.NONE)
    power = {Response.SAFE_MODE: NOW_NS + SS1_NS}.get(response, 0 if response > Response.HOLD else None)
    stopped_ns = NOW_NS if response.stops else 0
    return but(State(7, BEFORE, response, causes, stopped_ns, power), changes)


def inputs(active: Mapping[str, Demand] | None = None, /, **changes: object) -> Inputs:
    """Nothing is true, everything is known, everything is on the disk."""
    return but(Inputs(active=active or {}, fresh=FRESH, durable_epoch=1 << 31), changes)


def true(*keys: str) -> dict[str, Demand]:
    return dict.fromkeys(keys, Demand())


def take(
    state: State,
    given: Inputs | None = None,
    *,
    now_ns: int = NOW_NS,
    table: Mapping[str, CauseRow] | None = None,
) -> tuple[State, Outcome]:
    """One step with the small plan's rows."""
    return step(table or small_plan().rows, state, given or inputs(), now_ns, SS1_NS)
