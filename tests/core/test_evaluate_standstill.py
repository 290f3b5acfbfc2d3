"""A stop is done when standstill (silence) has been observed; if it is not, the response escalates."""

from collections.abc import Mapping

import pytest

from agent.core.causes import MS
from agent.core.evaluate import STILL_MPS, Verdict, is_still
from agent.core.machine import Demand
from tests.core.evaluating import Turns, keys
from tests.core.factories import NOW_NS, TIMES, seen, small_plan

Told = Mapping[str, tuple[bool | float | str, int]]


def still(told: Told, *, stopped_ns: int = NOW_NS - 10, robot_since_ns: int = 1) -> bool:
    observed = seen(telemetry=told, stopped_ns=stopped_ns, robot_since_ns=robot_since_ns)
    return is_still(small_plan(), observed, NOW_NS)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"still": True}, True),
        ({"still": False}, False),
        ({"still": "yes"}, False),
        ({"still": 1.0}, False),
        ({"speed_mps": 0.0}, True),
        ({"speed_mps": STILL_MPS}, True),
        ({"speed_mps": -STILL_MPS}, True),
        ({"speed_mps": STILL_MPS * 1.01}, False),
        ({"speed_mps": -1.0}, False),
        ({"speed_mps": float("nan")}, False),
        ({"speed_mps": "0"}, False),
        ({"still": True, "speed_mps": 0.5}, False),
        ({"still": False, "speed_mps": 0.0}, False),
        ({"still": True, "speed_mps": 0.0}, True),
        ({}, False),
        ({"x_m": 0.0}, False),
    ],
    ids=str,
)
def test_standstill_is_what_the_robot_says_and_all_it_says(
    said: dict[str, bool | float | str], expected: bool
) -> None:
    assert still({key: (value, NOW_NS) for key, value in said.items()}) == expected


def test_standstill_is_observed_after_the_stop_began() -> None:
    told: Told = {"still": (True, NOW_NS - 5)}
    assert still(told, stopped_ns=NOW_NS - 6)
    assert not still(told, stopped_ns=NOW_NS - 5)


def test_of_a_robot_that_may_move_no_standstill_is_observed() -> None:
    """It stood a moment ago, and may have begun to move in the very moment in which a stop begins."""
    assert not still({"still": (True, NOW_NS)}, stopped_ns=0)


def test_standstill_is_observed_now() -> None:
    fresh_ns = NOW_NS - TIMES.beat_timeout_ns
    assert still({"still": (True, fresh_ns)}, stopped_ns=1)
    assert not still({"still": (True, fresh_ns - 1)}, stopped_ns=1)


def test_what_was_said_too_long_ago_contradicts_nothing() -> None:
    assert still(
        {"still": (False, NOW_NS - TIMES.beat_timeout_ns - 1), "speed_mps": (0.0, NOW_NS)}, stopped_ns=1
    )


def test_of_a_robot_that_is_gone_nothing_is_observed() -> None:
    assert not still({"still": (True, NOW_NS)}, robot_since_ns=0)


def stop_ago(turns: Turns, ms: float, **changes: object) -> Verdict:
    stopped_ns = turns.now_ns - round(ms * MS)
    fields = {"readings": turns.readings, "stopped_ns": stopped_ns, **changes}
    return turns.see(seen(turns.now_ns, **fields))


def test_a_robot_still_moving_when_standstill_is_due_is_a_cause() -> None:
    turns = Turns().settled()
    moving = {"still": (False, turns.now_ns)}
    assert keys(stop_ago(turns, 1500, telemetry=moving)) == set()
    verdict = stop_ago(turns, 1500.001, telemetry=moving)
    assert verdict.active == {"not_still": Demand()}
    assert not verdict.still
    standing = {"still": (True, turns.now_ns)}
    verdict = stop_ago(turns, 1500.001, telemetry=standing)
    assert verdict.active == {}
    assert verdict.still


def test_no_standstill_is_due_while_the_robot_may_run() -> None:
    turns = Turns().settled()
    assert keys(turns.turn(stopped_ns=0, telemetry={"still": (False, turns.now_ns)})) == set()


def test_a_robot_that_connects_in_a_long_stop_is_given_its_time_to_say_that_it_stands() -> None:
    turns = Turns().settled()
    since_ns = turns.now_ns - 1500 * MS
    moving = {"still": (False, turns.now_ns)}
    assert keys(stop_ago(turns, 50_000, robot_since_ns=since_ns, telemetry=moving)) == set()
    late = stop_ago(turns, 50_000, robot_since_ns=since_ns - 1, telemetry=moving)
    assert keys(late) == {"not_still"}


def test_of_a_robot_that_is_gone_no_standstill_is_due() -> None:
    turns = Turns().settled()
    assert keys(stop_ago(turns, 50_000, robot_since_ns=0)) == {"robot_gone"}


def test_a_robot_that_never_says_whether_it_stands_loses_power_once_in_each_stop() -> None:
    """A cause that stood for as long as it says nothing could never be cleared."""
    turns = Turns().settled()
    stop_ns = turns.now_ns - 1501 * MS
    silent = Demand(detail="the robot tells neither still nor speed_mps")
    assert turns.turn(stopped_ns=stop_ns).active == {"not_still": silent}
    assert turns.turn(stopped_ns=stop_ns).active == {}
    assert turns.turn(stopped_ns=stop_ns - 1).active == {"not_still": silent}


def test_there_is_no_power_to_take_from_a_robot_that_has_none() -> None:
    turns = Turns().settled()
    assert stop_ago(turns, 50_000, powered=False).active == {}
    moving = {"speed_mps": (0.5, turns.now_ns)}
    assert keys(stop_ago(turns, 50_000, powered=False, telemetry=moving)) == {"not_still"}
