"""The operating envelope (clause 5.5(a)): leaving it is abnormal, and so is not being able to tell."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.causes import MS
from agent.core.envelope import (
    Telemetry,
    WallTime,
    fresh_number,
    in_hours,
    inside,
    needed_telemetry,
    outside,
    unseen,
)
from agent.core.plan import Envelope, Plan
from tests.core.factories import NOW_NS, TIMES, but, condition, small_plan

HALL = ((0.0, 0.0), (40.0, 0.0), (40.0, 25.0), (0.0, 25.0))
STALE_NS = TIMES.telemetry_stale_ns
NOON = 12 * 60
MONDAY, FRIDAY, SATURDAY, SUNDAY = 0, 4, 5, 6


def plan(**limits: object) -> Plan:
    return small_plan(conditions=(), envelope=but(Envelope(), limits))


def told(*, age_ns: int = 0, **values: bool | float | str) -> Telemetry:
    return {key: (value, NOW_NS - age_ns) for key, value in values.items()}


def causes(of: Plan, telemetry: Telemetry, wall: WallTime | None = None) -> list[str]:
    return list(outside(of, telemetry, wall, NOW_NS))


def unknown(of: Plan, telemetry: Telemetry, wall: WallTime | None = None) -> set[str]:
    return set(unseen(of, telemetry, wall, NOW_NS))


def test_without_limits_nothing_is_outside_and_nothing_is_needed() -> None:
    assert needed_telemetry(plan()) == frozenset()
    assert causes(plan(), {}, WallTime(SUNDAY, 0)) == []
    assert causes(plan(), told(x_m=1e9, y_m=-1e9, speed_mps=1e9), WallTime(SUNDAY, 0)) == []
    assert unknown(plan(), {}) == set()


# ---- telemetry young enough to be believed


def test_a_number_is_believed_for_its_time() -> None:
    assert fresh_number(plan(), told(age_ns=STALE_NS, x_m=3.5), "x_m", NOW_NS) == 3.5
    assert fresh_number(plan(), told(age_ns=STALE_NS + 1, x_m=3.5), "x_m", NOW_NS) is None


@pytest.mark.parametrize("value", ["3.5", "", math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_believed(value: float | str) -> None:
    assert fresh_number(plan(), told(x_m=value), "x_m", NOW_NS) is None


def test_a_key_nobody_told_is_not_known() -> None:
    assert fresh_number(plan(), {}, "x_m", NOW_NS) is None
    assert fresh_number(plan(), {}, "x_m", 0) is None


def test_what_limits_and_conditions_need_must_be_told() -> None:
    limited = replace(
        plan(area=HALL, max_speed_mps=1.0),
        conditions=(condition("hot", telemetry="temp_c", test="above"), condition("e", input="estop")),
    )
    assert needed_telemetry(limited) == {"x_m", "y_m", "speed_mps", "temp_c"}
    whole = told(x_m=1, y_m=1, speed_mps=0.0, temp_c=20)
    assert causes(limited, whole) == []
    for key in whole:
        assert causes(limited, {k: v for k, v in whole.items() if k != key}) == ["telemetry_stale"]
        assert causes(limited, {**whole, key: (1.0, NOW_NS - STALE_NS - 1)}) == ["telemetry_stale"]


# ---- area, speed


def test_outside_the_area() -> None:
    limited = plan(area=HALL)
    assert causes(limited, told(x_m=20.0, y_m=10.0)) == []
    assert causes(limited, told(x_m=-0.1, y_m=10.0)) == ["out_of_area"]


def test_over_speed_in_either_direction_and_not_at_the_limit() -> None:
    limited = plan(max_speed_mps=1.0)
    assert causes(limited, told(speed_mps=1.0)) == []
    assert causes(limited, told(speed_mps=1.001)) == ["over_speed"]
    assert causes(limited, told(speed_mps=-1.001)) == ["over_speed"]


def test_what_is_not_known_is_neither_inside_nor_outside() -> None:
    limited = plan(area=HALL, max_speed_mps=1.0)
    old = told(age_ns=STALE_NS + 1, x_m=99.0, y_m=0.0, speed_mps=9.0)
    assert causes(limited, old) == ["telemetry_stale"]
    assert unknown(limited, old) == {"out_of_area", "over_speed"}
    assert unknown(limited, told(x_m=1.0, y_m=1.0, speed_mps=0.0)) == set()
    assert unknown(limited, told(x_m=1.0, speed_mps=0.0)) == {"out_of_area"}
    assert unknown(limited, told(y_m=1.0, speed_mps=0.0)) == {"out_of_area"}


U_SHAPE = ((0.0, 0.0), (9.0, 0.0), (9.0, 9.0), (6.0, 9.0), (6.0, 3.0), (3.0, 3.0), (3.0, 9.0), (0.0, 9.0))


@pytest.mark.parametrize(
    ("x_m", "y_m", "expected"),
    [
        (1.5, 6.0, True),
        (7.5, 6.0, True),
        (4.5, 1.5, True),
        (4.5, 6.0, False),
        (-1.0, 1.0, False),
        (10.0, 1.0, False),
        (4.5, 10.0, False),
        (4.5, -1.0, False),
        (math.nan, 1.0, False),
        (1.0, math.nan, False),
        (math.inf, 1.0, False),
    ],
)
def test_an_area_may_have_corners_inwards(x_m: float, y_m: float, expected: bool) -> None:
    assert inside(U_SHAPE, x_m, y_m) == expected
    assert inside(U_SHAPE[::-1], x_m, y_m) == expected


@given(st.floats(-50, 50), st.floats(-50, 50))
@settings(derandomize=True, max_examples=300)
def test_a_rectangle_is_what_its_sides_say(x_m: float, y_m: float) -> None:
    strictly_in = 0 < x_m < 40 and 0 < y_m < 25
    strictly_out = x_m < 0 or x_m > 40 or y_m < 0 or y_m > 25
    if strictly_in or strictly_out:
        assert inside(HALL, x_m, y_m) == strictly_in


TRIANGLE = ((1.0, 1.0), (21.0, 5.0), (3.0, 17.0))


@given(st.floats(-5, 25), st.floats(-5, 25))
@settings(derandomize=True, max_examples=500)
def test_a_triangle_is_what_its_slanting_sides_say(x_m: float, y_m: float) -> None:
    ahead = [
        (bx - ax) * (y_m - ay) - (by - ay) * (x_m - ax)
        for (ax, ay), (bx, by) in zip(TRIANGLE, (*TRIANGLE[1:], TRIANGLE[0]), strict=True)
    ]
    if min(abs(side) for side in ahead) > 1e-6:
        assert inside(TRIANGLE, x_m, y_m) == (min(ahead) > 0)


# ---- hours


def day(hours: tuple[tuple[int, int], ...], days: tuple[int, ...] = ()) -> Envelope:
    return Envelope(hours=hours, days=days)


@pytest.mark.parametrize(
    ("minute", "expected"),
    [(8 * 60 + 29, False), (8 * 60 + 30, True), (17 * 60 + 59, True), (18 * 60, False), (0, False)],
)
def test_a_span_begins_with_its_first_minute_and_ends_before_its_last(minute: int, expected: bool) -> None:
    assert in_hours(day(((8 * 60 + 30, 18 * 60),)), WallTime(MONDAY, minute)) == expected


def test_the_whole_day() -> None:
    whole = day(((0, 24 * 60),))
    assert all(in_hours(whole, WallTime(MONDAY, minute)) for minute in (0, NOON, 1439))


def test_a_span_that_ends_as_it_begins_is_the_whole_day() -> None:
    """No plan has one; what it would mean should not hang on which way it is compared."""
    assert in_hours(day(((NOON, NOON),)), WallTime(MONDAY, 0))
    assert in_hours(day(((NOON, NOON),)), WallTime(MONDAY, NOON))


def test_several_spans() -> None:
    envelope = day(((8 * 60, 12 * 60), (14 * 60, 18 * 60)))
    open_hours = [hour for hour in range(24) if in_hours(envelope, WallTime(MONDAY, hour * 60))]
    assert open_hours == [8, 9, 10, 11, 14, 15, 16, 17]


def test_days_alone() -> None:
    workdays = day((), (0, 1, 2, 3, 4))
    assert [in_hours(workdays, WallTime(weekday, NOON)) for weekday in range(7)] == [True] * 5 + [False] * 2


def test_days_with_hours() -> None:
    envelope = day(((8 * 60, 18 * 60),), (FRIDAY,))
    assert in_hours(envelope, WallTime(FRIDAY, NOON))
    assert not in_hours(envelope, WallTime(FRIDAY, 19 * 60))
    assert not in_hours(envelope, WallTime(SATURDAY, NOON))


def test_a_span_over_midnight_belongs_to_the_day_on_which_it_began() -> None:
    friday_night = day(((22 * 60, 6 * 60),), (FRIDAY,))
    assert in_hours(friday_night, WallTime(FRIDAY, 22 * 60))
    assert in_hours(friday_night, WallTime(FRIDAY, 1439))
    assert in_hours(friday_night, WallTime(SATURDAY, 0))
    assert in_hours(friday_night, WallTime(SATURDAY, 6 * 60 - 1))
    assert not in_hours(friday_night, WallTime(SATURDAY, 6 * 60))
    assert not in_hours(friday_night, WallTime(FRIDAY, 5 * 60))
    assert not in_hours(friday_night, WallTime(SATURDAY, 23 * 60))
    sunday_night = day(((22 * 60, 6 * 60),), (SUNDAY,))
    assert in_hours(sunday_night, WallTime(MONDAY, 60))


def test_out_of_hours_is_told_when_the_wall_clock_is_known() -> None:
    limited = plan(hours=((8 * 60, 18 * 60),))
    assert causes(limited, {}, WallTime(MONDAY, NOON)) == []
    assert causes(limited, {}, WallTime(MONDAY, 0)) == ["out_of_hours"]
    assert causes(limited, {}, None) == []
    assert unknown(limited, {}, None) == {"out_of_hours"}
    assert unknown(limited, {}, WallTime(MONDAY, 0)) == set()
    assert unknown(plan(days=(MONDAY,)), {}, None) == {"out_of_hours"}


# ---- tasks


def test_tasks_are_denied_by_default() -> None:
    limited = plan(tasks=("guide", "charge"))
    assert causes(limited, told(task="guide")) == []
    assert causes(limited, told(task="")) == []
    assert causes(limited, told(task="dance")) == ["task_not_authorised"]
    assert causes(limited, told(task=True)) == ["task_not_authorised"]
    assert causes(limited, told(task=0)) == ["task_not_authorised"]


def test_a_task_told_long_ago_says_nothing_about_now() -> None:
    limited = plan(tasks=("guide",))
    assert causes(limited, told(age_ns=STALE_NS, task="dance")) == ["task_not_authorised"]
    assert causes(limited, told(age_ns=STALE_NS + 1, task="dance")) == []
    assert unknown(limited, told(age_ns=STALE_NS, task="dance")) == set()
    assert unknown(limited, told(age_ns=STALE_NS + 1, task="dance")) == {"task_not_authorised"}
    assert unknown(limited, {}) == {"task_not_authorised"}


def test_without_a_list_every_task_may_be_done() -> None:
    assert causes(plan(), told(task="dance")) == []


def test_everything_at_once_is_told_at_once() -> None:
    limited = plan(area=HALL, max_speed_mps=1.0, hours=((0, 1),), tasks=("guide",))
    telemetry = told(x_m=99.0, y_m=0.0, speed_mps=5.0, task="dance")
    wall = WallTime(MONDAY, NOON)
    assert causes(limited, telemetry, wall) == [
        "out_of_area",
        "over_speed",
        "out_of_hours",
        "task_not_authorised",
    ]


def test_a_moment_is_a_matter_of_the_plan_s_time() -> None:
    quick = replace(plan(max_speed_mps=1.0), times=replace(TIMES, telemetry_stale_ns=50 * MS))
    assert causes(quick, told(age_ns=50 * MS, speed_mps=2.0)) == ["over_speed"]
    assert causes(quick, told(age_ns=51 * MS, speed_mps=2.0)) == ["telemetry_stale"]
