"""What is true now: from readings, telemetry and beats to the keys of the causes they demand."""

from dataclasses import replace

import pytest

from agent.core.causes import MS
from agent.core.envelope import WallTime
from agent.core.machine import Demand
from agent.core.plan import Envelope
from agent.core.readings import Quality, Reading
from tests.core.evaluating import Turns, keys
from tests.core.factories import (
    BROKEN,
    CLOSED,
    FAR,
    NEAR,
    OPEN,
    SILENT,
    SPLIT,
    TIMES,
    condition,
    contact_spec,
    reading,
    small_plan,
)

LIMITED = small_plan(
    conditions=(condition("hot", telemetry="temp_c", test="above", bound=60.0),),
    inputs={},
    envelope=Envelope(max_speed_mps=1.0),
)


def test_when_all_is_well_nothing_is_demanded() -> None:
    verdict = Turns().settled().turn()
    assert verdict.active == {}
    assert verdict.unknown == verdict.unreset == frozenset()
    assert verdict.closed == {"estop": True}
    assert verdict.qualities == {"estop": Quality.GOOD, "range": Quality.GOOD}


# ---- contacts and quantities


def test_a_pressed_e_stop_is_demanded_at_once_and_until_it_is_released() -> None:
    turns = Turns().settled()
    turns.readings["estop"] = OPEN
    pressed = turns.turn()
    assert keys(pressed) == {"estop_pressed"}
    assert pressed.closed == {"estop": False}
    turns.readings["estop"] = CLOSED
    assert keys(turns.turn(after_ms=19)) == {"estop_pressed"}
    assert keys(turns.turn(after_ms=1)) == {"estop_pressed"}
    assert keys(turns.turn(after_ms=19)) == set()


def test_a_condition_on_a_closed_contact() -> None:
    turns = Turns(small_plan(conditions=(condition("lid_shut", input="estop", test="closed"),)))
    assert keys(turns.turn()) == set()
    assert keys(turns.turn(after_ms=20)) == {"lid_shut"}
    turns.readings["estop"] = OPEN
    assert keys(turns.turn()) == set()


@pytest.mark.parametrize(("value", "near"), [(0.499, True), (0.5, False), (0.501, False)])
def test_below_is_below(value: float, near: bool) -> None:
    turns = Turns().settled()
    turns.readings["range"] = reading(value)
    turns.turn()
    assert keys(turns.turn(after_ms=40)) == ({"too_close"} if near else set())


@pytest.mark.parametrize(("value", "high"), [(0.499, False), (0.5, False), (0.501, True)])
def test_above_is_above(value: float, high: bool) -> None:
    plan = small_plan(conditions=(condition("too_far", input="range", test="above", bound=0.5),))
    turns = Turns(plan)
    turns.readings["range"] = reading(value)
    assert ("too_far" in keys(turns.turn())) == high


def test_a_condition_demands_when_it_has_been_true_for_its_time() -> None:
    turns = Turns().settled()
    turns.readings["range"] = NEAR
    assert keys(turns.turn()) == set()
    assert keys(turns.turn(after_ms=39.999)) == set()
    assert keys(turns.turn(after_ms=0.001)) == {"too_close"}
    turns.readings["range"] = FAR
    assert keys(turns.turn()) == set()
    turns.readings["range"] = NEAR
    assert keys(turns.turn(after_ms=30)) == set()


def test_a_gap_begins_its_time_anew() -> None:
    turns = Turns().settled()
    for value in (NEAR, FAR, NEAR):
        turns.readings["range"] = value
        assert keys(turns.turn(after_ms=39)) == set()


# ---- not knowing


@pytest.mark.parametrize(("bad", "kind"), [(SILENT, "input_stale"), (BROKEN, "input_fault")])
def test_a_signal_that_cannot_be_believed_is_a_cause_of_its_own(bad: Reading, kind: str) -> None:
    turns = Turns().settled()
    turns.readings["estop"] = bad
    verdict = turns.turn()
    assert verdict.active == {f"{kind}:estop": Demand(detail=bad.detail)}
    assert verdict.unknown == {"estop_pressed"}
    assert verdict.closed == {"estop": None}
    assert verdict.qualities["estop"] == bad.quality


@pytest.mark.parametrize("bad", [SILENT, BROKEN, reading(None)], ids=["silent", "broken", "nothing"])
@pytest.mark.parametrize("pressed", [True, False])
def test_an_unknown_signal_leaves_its_condition_as_it_was(bad: Reading, pressed: bool) -> None:
    turns = Turns().settled()
    turns.readings["estop"] = OPEN if pressed else CLOSED
    turns.turn()
    turns.readings["estop"] = bad
    for _ in range(3):
        assert ("estop_pressed" in turns.turn(after_ms=1000).active) == pressed


def test_an_input_that_no_device_answers_for_is_silent() -> None:
    turns = Turns().settled()
    del turns.readings["range"]
    assert keys(turns.turn()) == {"input_stale:range"}


@pytest.mark.parametrize(
    "value", [None, True, False, float("nan"), float("inf")], ids=["nothing", "yes", "no", "nan", "inf"]
)
def test_a_good_reading_that_is_no_number_is_a_fault_and_no_distance(value: float | None) -> None:
    turns = Turns().settled()
    turns.readings["range"] = NEAR
    turns.turn()
    turns.turn(after_ms=40)
    turns.readings["range"] = reading(value)
    verdict = turns.turn()
    assert keys(verdict) == {"input_fault:range", "too_close"}
    assert verdict.unknown == {"too_close"}


def test_the_time_of_a_condition_runs_on_while_nothing_is_known() -> None:
    turns = Turns().settled()
    turns.readings["range"] = NEAR
    turns.turn()
    turns.readings["range"] = SILENT
    turns.turn(after_ms=39)
    turns.readings["range"] = NEAR
    assert keys(turns.turn(after_ms=1)) == {"too_close"}


@pytest.mark.parametrize(
    ("test", "value", "true"),
    [
        ("stale", SILENT, True),
        ("stale", BROKEN, False),
        ("stale", CLOSED, False),
        ("fault", BROKEN, True),
        ("fault", SILENT, False),
        ("fault", CLOSED, False),
    ],
)
def test_conditions_on_the_quality_itself_are_always_known(test: str, value: Reading, true: bool) -> None:
    turns = Turns(small_plan(conditions=(condition("watched", input="estop", test=test),)))
    turns.turn(after_ms=60_000)
    turns.readings["estop"] = value
    verdict = turns.turn()
    assert ("watched" in verdict.active) == true
    assert verdict.unknown == frozenset()


def test_two_channels_that_disagree_are_a_fault_a_press_and_a_proof_that_is_due() -> None:
    turns = Turns().settled()
    turns.readings["estop"] = SPLIT
    turns.turn()
    verdict = turns.turn(after_ms=50)
    assert verdict.active == {
        "input_fault:estop": Demand(detail="the two channels disagree"),
        "estop_pressed": Demand(),
    }
    assert verdict.unreset == {"input_fault:estop"}
    turns.readings["estop"] = CLOSED
    turns.turn(after_ms=10)
    healthy = turns.turn(after_ms=20)
    assert healthy.active == {}
    assert healthy.unreset == {"input_fault:estop"}


# ---- after a restart


def test_a_proof_that_was_due_is_due_after_a_restart() -> None:
    turns = Turns(latched=frozenset({"input_fault:estop"}))
    assert turns.turn(after_ms=100).unreset == {"input_fault:estop"}


@pytest.mark.parametrize("latched", [frozenset({"input_fault:range"}), frozenset({"input_stale:estop"})])
def test_no_proof_is_due_of_what_was_not_at_fault(latched: frozenset[str]) -> None:
    assert Turns(latched=latched).turn().unreset == frozenset()


def test_no_proof_is_due_where_the_plan_wants_none() -> None:
    plan = small_plan(inputs={"estop": contact_spec(proof_cycle=False)}, conditions=())
    assert Turns(plan, latched=frozenset({"input_fault:estop"})).turn().unreset == frozenset()


def test_a_latched_condition_nothing_is_known_about_yet_is_still_true() -> None:
    turns = Turns(latched=frozenset({"estop_pressed"}))
    turns.readings = {}
    assert "estop_pressed" in turns.turn().active
    turns.readings = {"estop": CLOSED, "range": FAR}
    turns.turn()
    assert keys(turns.turn(after_ms=20)) == set()


def test_a_latched_condition_that_is_still_true_does_not_wait_for_its_time_again() -> None:
    turns = Turns(latched=frozenset({"too_close"}))
    turns.readings["range"] = NEAR
    assert keys(turns.turn()) == {"too_close"}


# ---- the start


def test_what_has_not_spoken_yet_is_waited_for_and_is_no_fault() -> None:
    turns = Turns()
    turns.readings = {}
    verdict = turns.turn(robot_since_ns=0)
    assert verdict.active == {"starting": Demand(detail="waiting for estop, range, robot")}
    turns.readings = {"estop": CLOSED}
    verdict = turns.turn(after_ms=2999.999, robot_since_ns=0)
    assert verdict.active == {"starting": Demand(detail="waiting for range, robot")}
    verdict = turns.turn(after_ms=0.001, robot_since_ns=0)
    assert keys(verdict) == {"input_stale:range", "robot_gone"}


def test_the_grace_ends_with_the_first_word() -> None:
    turns = Turns()
    assert keys(turns.turn()) == set()
    turns.readings = {"estop": SILENT, "range": FAR}
    assert keys(turns.turn(robot_since_ns=0)) == {"input_stale:estop", "robot_gone"}


def test_a_device_that_spoke_before_it_went_silent_has_spoken() -> None:
    """A stale reading with a value: the first frame came and no other."""
    turns = Turns()
    turns.readings["estop"] = replace(CLOSED, quality=Quality.STALE)
    assert "input_stale:estop" in turns.turn().active


def test_without_a_grace_everything_is_due_at_once() -> None:
    turns = Turns(small_plan(times=replace(TIMES, start_grace_ns=0)))
    turns.readings = {}
    assert keys(turns.turn(robot_since_ns=0)) == {"input_stale:estop", "input_stale:range", "robot_gone"}


def test_hours_do_not_wait_for_a_robot_that_has_just_connected() -> None:
    turns = Turns(replace(LIMITED, envelope=Envelope(hours=((0, 60),)), conditions=()))
    turns.readings = {}
    assert keys(turns.turn(wall=WallTime(0, 61), robot_since_ns=turns.now_ns)) == {"out_of_hours"}


# ---- the robot


def test_a_robot_whose_connection_ended_is_gone() -> None:
    assert keys(Turns().settled().turn(robot_since_ns=0)) == {"robot_gone"}


def test_a_robot_that_misses_its_beat_hangs() -> None:
    turns = Turns().settled()
    assert keys(turns.turn(last_beat_ns=turns.now_ns - TIMES.beat_timeout_ns)) == set()
    assert keys(turns.turn(last_beat_ns=turns.now_ns - TIMES.beat_timeout_ns - 1)) == {"robot_hung"}


def test_telemetry_is_missed_only_from_a_robot_that_had_the_time_to_send_it() -> None:
    turns = Turns(LIMITED)
    turns.readings = {}
    turns.now_ns += 60_000 * MS
    stale_ns = TIMES.telemetry_stale_ns
    assert keys(turns.turn(robot_since_ns=0)) == {"robot_gone"}
    assert keys(turns.turn(robot_since_ns=turns.now_ns - stale_ns)) == set()
    assert keys(turns.turn(robot_since_ns=turns.now_ns - stale_ns - 1)) == {"telemetry_stale"}


def test_conditions_on_telemetry() -> None:
    turns = Turns(LIMITED)
    turns.readings = {}
    hot = {"temp_c": (61.0, turns.now_ns), "speed_mps": (0.5, turns.now_ns)}
    assert keys(turns.turn(telemetry=hot)) == {"hot"}
    old = {key: (value, turns.now_ns - TIMES.telemetry_stale_ns - 1) for key, (value, _) in hot.items()}
    verdict = turns.turn(telemetry=old)
    assert keys(verdict) == {"hot", "telemetry_stale"}
    assert verdict.unknown == {"hot", "over_speed"}
    cool = {**hot, "temp_c": (60.0, turns.now_ns)}
    assert keys(turns.turn(telemetry=cool)) == set()


def test_the_envelope_is_watched() -> None:
    turns = Turns(replace(LIMITED, envelope=Envelope(hours=((0, 60),), tasks=("guide",)), conditions=()))
    turns.readings = {}
    verdict = turns.turn(wall=WallTime(0, 61), telemetry={"task": ("dance", turns.now_ns)})
    assert keys(verdict) == {"out_of_hours", "task_not_authorised"}
    verdict = turns.turn()
    assert keys(verdict) == set()
    assert verdict.unknown == {"out_of_hours", "task_not_authorised"}
