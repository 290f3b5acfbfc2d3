"""What the machine makes of the permit: motion and power in a stop, and what the other channel is told."""

from dataclasses import replace

import pytest

from agent.core.causes import MS, PEER_STOP, Clear
from agent.core.machine import PermitFields, State, own_response, permit_fields, step
from agent.core.responses import Response
from tests.core.factories import BEFORE, NOW_NS, SS1_NS, cause, inputs, small_plan, stopped, take, true

TTL_NS = 100 * MS
RUNNING = State(7, BEFORE)
HOLD, SAFE_MODE, EMERGENCY_STOP = Response.HOLD, Response.SAFE_MODE, Response.EMERGENCY_STOP


def permit(state: State, now_ns: int = NOW_NS) -> PermitFields:
    return permit_fields(state, now_ns, ttl_ns=TTL_NS, ss1_ns=SS1_NS, restricted_speed_permille=300)


# ---- taken up from the latch file


def test_a_state_taken_up_from_the_disk_stops_on_its_first_turn_whatever_else_is_true() -> None:
    recalled = State(7, BEFORE, causes=(cause("guardian_stop"),))
    after, outcome = take(recalled)
    assert (after.response, after.epoch, after.stopped_ns) == (EMERGENCY_STOP, 8, NOW_NS)
    assert outcome.rose
    assert permit(after).motion_until_ns == 0


# ---- power


def test_power_runs_out_once_and_is_not_renewed() -> None:
    state, _ = take(RUNNING, inputs(true("over_speed")))
    assert state.power_limit_ns == NOW_NS + SS1_NS
    later, _ = take(state, inputs(true("over_speed", "telemetry_stale")), now_ns=NOW_NS + 300 * MS)
    assert later.power_limit_ns == NOW_NS + SS1_NS
    assert permit(later, NOW_NS + 10**12).power_until_ns == NOW_NS + SS1_NS


def test_a_hold_keeps_power_and_a_safe_mode_after_it_begins_its_own_run_out() -> None:
    state, _ = take(RUNNING, inputs(true("guardian_hold")))
    assert state.power_limit_ns is None
    state, _ = take(state, inputs(true("over_speed")), now_ns=NOW_NS + 10**9)
    assert state.power_limit_ns == NOW_NS + 10**9 + SS1_NS


def test_an_emergency_stop_takes_power_from_a_run_out() -> None:
    state, _ = take(RUNNING, inputs(true("over_speed")))
    state, _ = take(state, inputs(true("robot_gone")), now_ns=NOW_NS + 1)
    assert state.power_limit_ns == 0


@pytest.mark.parametrize("limit", [0, NOW_NS + 5])
def test_power_does_not_come_back_inside_a_stop(limit: int) -> None:
    state = stopped(
        cause("over_speed", response=SAFE_MODE), cause("too_close", response=HOLD, active=True, gone_ns=0)
    )
    state = replace(state, power_limit_ns=limit)
    after, outcome = take(state, inputs(true("too_close"), granted=True))
    assert outcome.cleared == ("over_speed",)
    assert (after.response, after.power_limit_ns) == (HOLD, limit)


def test_without_an_ss1_time_power_ends_with_the_turn() -> None:
    after, _ = step(small_plan().rows, RUNNING, inputs(true("over_speed")), NOW_NS)
    assert after.power_limit_ns == NOW_NS


# ---- the permit


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        (RUNNING, (NOW_NS + TTL_NS, NOW_NS + TTL_NS + SS1_NS, 7, 1000, 0)),
        (
            State(7, BEFORE, Response.WARN),
            (NOW_NS + TTL_NS, NOW_NS + TTL_NS + SS1_NS, 7, 1000, 1),
        ),
        (
            State(7, BEFORE, Response.RESTRICT),
            (NOW_NS + TTL_NS, NOW_NS + TTL_NS + SS1_NS, 7, 300, 2),
        ),
        (State(7, BEFORE, HOLD), (0, NOW_NS + TTL_NS + SS1_NS, 7, 0, 3)),
        (State(7, BEFORE, SAFE_MODE, power_limit_ns=NOW_NS + 5), (0, NOW_NS + 5, 7, 0, 4)),
        (State(7, BEFORE, EMERGENCY_STOP, power_limit_ns=0), (0, 0, 7, 0, 5)),
        (State(7, BEFORE, Response.SUSPEND, power_limit_ns=0), (0, 0, 7, 0, 6)),
        (State(7, BEFORE, Response.RETIRE, power_limit_ns=0), (0, 0, 7, 0, 7)),
    ],
    ids=lambda value: value.response.label if isinstance(value, State) else "",
)
def test_the_permit_says_what_the_design_s_table_says(
    state: State, fields: tuple[int, int, int, int, int]
) -> None:
    assert permit(state) == PermitFields(*fields)


# ---- what the other channel is told


def test_what_a_channel_only_mirrors_is_not_its_own() -> None:
    state = stopped(
        cause(PEER_STOP, response=Response.RETIRE, clear=Clear.NEVER),
        cause("guardian_hold", response=HOLD, clear=Clear.RESET_AND_RESUME),
        cause("over_speed", response=HOLD),
        cause("suspended", response=Response.WARN, clear=Clear.REEVALUATION),
    )
    assert own_response(state) == HOLD


def test_a_channel_that_demands_nothing_says_so() -> None:
    assert own_response(stopped(cause(PEER_STOP))) == Response.NONE
