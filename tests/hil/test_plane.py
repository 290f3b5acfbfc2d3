"""The simulated robot's body: bounded in every change, exactly still at rest."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.plane import Body, Drive, Limits, Patrol

CYCLE_S = 0.02
LIMITS = Limits()
TARGET = (10.0, 2.0)

cycles = st.lists(
    st.tuples(
        st.floats(0.001, 0.1),
        st.sampled_from(Drive),
        st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
        st.integers(0, 1000),
    ),
    max_size=60,
)


def at_speed(speed_mps: float = LIMITS.max_speed_mps) -> Body:
    return Body(x_m=5.0, vx_mps=speed_mps)


def cycles_until_still(body: Body, drive: Drive) -> int:
    for n in range(1000):
        if body.speed_mps == 0:
            return n
        body.step(CYCLE_S, drive, TARGET, 1000)
    raise AssertionError("never still")


@given(cycles)
def test_no_change_is_faster_than_the_drives_allow(
    script: list[tuple[float, Drive, tuple[float, float], int]],
) -> None:
    body = Body()
    for dt_s, drive, target, permille in script:
        x_m, y_m, before = body.x_m, body.y_m, (body.vx_mps, body.vy_mps)
        body.step(dt_s, drive, target, permille)
        change_mps = math.hypot(body.vx_mps - before[0], body.vy_mps - before[1])
        rate_mps2 = LIMITS.brake_mps2 if drive is Drive.BRAKE else LIMITS.deceleration_mps2
        assert change_mps <= rate_mps2 * dt_s + 1e-9
        assert body.speed_mps <= LIMITS.max_speed_mps + 1e-9
        assert math.hypot(body.x_m - x_m, body.y_m - y_m) <= LIMITS.max_speed_mps * dt_s + 1e-9


@given(cycles)
def test_stopping_never_speeds_up_and_stillness_stays(
    script: list[tuple[float, Drive, tuple[float, float], int]],
) -> None:
    body = at_speed()
    for dt_s, drive, target, permille in script:
        before = body.speed_mps
        body.step(dt_s, Drive.BRAKE if drive is Drive.BRAKE else Drive.HALT, target, permille)
        assert body.speed_mps < before or body.speed_mps == before == 0


def test_it_starts_still_and_runs_up_to_its_speed() -> None:
    body = Body()
    speeds = [body.speed_mps]
    for _ in range(60):
        body.step(CYCLE_S, Drive.RUN, TARGET, 1000)
        speeds.append(body.speed_mps)
    assert speeds[0] == 0
    assert speeds == sorted(speeds)
    assert speeds[-1] == pytest.approx(LIMITS.max_speed_mps)
    assert body.x_m > 2.0
    assert body.y_m == 2.0


def test_a_controlled_stop_ends_within_ss1_at_exactly_zero() -> None:
    body = at_speed()
    cycles = cycles_until_still(body, Drive.HALT)
    ss1_s = 0.8
    assert LIMITS.max_speed_mps / LIMITS.deceleration_mps2 <= cycles * CYCLE_S <= ss1_s
    assert (body.vx_mps, body.vy_mps) == (0.0, 0.0)


@pytest.mark.parametrize("speed_mps", [0.001, 0.8, 1.6])
def test_brakes_stop_within_two_cycles(speed_mps: float) -> None:
    assert cycles_until_still(at_speed(speed_mps), Drive.BRAKE) <= 2


def test_a_lower_limit_is_reached_by_decelerating() -> None:
    body = at_speed()
    for _ in range(60):
        body.step(CYCLE_S, Drive.RUN, (1000.0, 2.0), 300)
    assert body.speed_mps == pytest.approx(0.3 * LIMITS.max_speed_mps)


def test_on_the_target_itself_it_rests() -> None:
    body = Body(x_m=1.0, y_m=1.0)
    body.step(CYCLE_S, Drive.RUN, (1.0, 1.0), 1000)
    assert body.speed_mps == 0


def test_a_patrol_passes_every_point_and_stays_near_its_ground() -> None:
    body, patrol = Body(), Patrol()
    legs = [patrol.leg]
    for _ in range(60 * 50):
        body.step(CYCLE_S, Drive.RUN, patrol.target(body.x_m, body.y_m), 1000)
        legs.append(patrol.leg)
        assert 1.5 <= body.x_m <= 10.5
        assert 1.5 <= body.y_m <= 6.5
    turns = [after for before, after in pairwise(legs) if before != after]
    assert turns[:5] == [1, 2, 3, 0, 1]
