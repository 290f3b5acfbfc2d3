"""The simulated robot's mind, without a process: it obeys the permits and nothing else."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.pilot import NOT_PERMITTED, NS_PER_MS, NS_PER_S, Pilot, StepResult
from hil.plane import Limits
from sdk.python.robot_warden import Verdict

CYCLE_NS = 20 * NS_PER_MS
RUN = Verdict(may_move=True, may_power=True, speed_permille=1000, epoch=7, response=0)
HOLD = Verdict(may_move=False, may_power=True, speed_permille=0, epoch=8, response=3)
STOP = Verdict(may_move=False, may_power=False, speed_permille=0, epoch=8, response=5)
DEAD = Verdict(may_move=False, may_power=False, speed_permille=0, epoch=0, response=5)

verdicts = st.builds(
    Verdict,
    may_move=st.booleans(),
    may_power=st.booleans(),
    speed_permille=st.integers(0, 1000),
    epoch=st.integers(0, 3),
    response=st.integers(0, 7),
)


class Driver:
    """A pilot and the clock that turns it."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401  (whatever a Pilot takes)
        self.pilot = Pilot(**settings)
        self.now_ns = NS_PER_S

    def turn(self, verdict: Verdict, cycles: int = 1) -> "Driver":
        for _ in range(cycles):
            self.now_ns += CYCLE_NS
            self.pilot.cycle(self.now_ns, verdict)
        return self

    @property
    def speed_mps(self) -> float:
        return self.pilot.body.speed_mps

    def step(self, step: str, **fields: object) -> None:
        self.pilot.take_step({"type": "step", "id": "s1", "step": step, "epoch": 8, **fields}, self.now_ns)


@pytest.fixture
def running() -> Driver:
    driver = Driver(auto_work=True).turn(RUN, 60)
    assert driver.speed_mps == pytest.approx(0.8)
    return driver


@given(st.lists(verdicts, max_size=80), st.booleans())
def test_whatever_the_permits_say_they_are_obeyed(script: list[Verdict], auto_work: bool) -> None:
    driver = Driver(auto_work=auto_work)
    for verdict in script:
        before_mps = driver.speed_mps
        driver.turn(verdict)
        if not (verdict.may_move and verdict.may_power):
            assert driver.speed_mps < before_mps or driver.speed_mps == 0
        if not verdict.may_power:
            assert driver.speed_mps == 0
        if driver.speed_mps > before_mps:
            assert driver.pilot.work is not None
            assert driver.pilot.work.epoch == verdict.epoch
        assert (driver.pilot.standstill_ns is None) == (driver.speed_mps > 0)


def test_without_work_it_stays_however_much_it_may_move() -> None:
    assert Driver().turn(RUN, 100).speed_mps == 0


def test_it_works_only_on_orders_of_the_present_epoch() -> None:
    driver = Driver().turn(RUN)
    assert not driver.pilot.order("patrol", 6)
    assert not driver.pilot.order("patrol", 8)
    assert driver.pilot.work is None
    assert driver.pilot.order("patrol", 7)
    assert driver.turn(RUN, 10).speed_mps > 0


def test_a_new_epoch_drops_the_work_for_good() -> None:
    driver = Driver().turn(RUN)
    driver.pilot.order("patrol", 7)
    driver.turn(RUN, 10).turn(HOLD)
    assert driver.pilot.work is None
    assert driver.pilot.dropped == 1
    driver.turn(HOLD, 100)
    assert driver.turn(RUN._replace(epoch=8), 100).speed_mps == 0, "an old order is never taken up again"


def test_a_permit_that_was_unreadable_for_a_moment_drops_nothing(running: Driver) -> None:
    work = running.pilot.work
    assert running.turn(DEAD).speed_mps == 0
    assert running.turn(RUN, 10).speed_mps > 0
    assert running.pilot.work == work
    assert running.pilot.dropped == 0


def test_auto_work_orders_afresh_in_the_new_epoch(running: Driver) -> None:
    running.turn(HOLD, 100)
    assert running.speed_mps == 0
    running.turn(RUN._replace(epoch=8), 60)
    assert running.speed_mps == pytest.approx(0.8)
    assert running.pilot.work is not None
    assert running.pilot.work.epoch == 8


def test_a_stop_too_short_to_be_seen_still_drops_the_old_work(running: Driver) -> None:
    running.turn(RUN._replace(epoch=9))
    assert running.pilot.dropped == 1
    assert running.pilot.work is not None
    assert running.pilot.work.epoch == 9


def test_hold_is_a_controlled_stop_and_power_gone_is_not(running: Driver) -> None:
    limits = Limits()
    before_mps = running.speed_mps
    running.turn(HOLD)
    assert before_mps - running.speed_mps == pytest.approx(limits.deceleration_mps2 * 0.02)
    running.turn(STOP)
    assert running.speed_mps == 0
    assert running.pilot.standstill_ns == running.now_ns


def test_standstill_is_dated_once(running: Driver) -> None:
    running.turn(STOP)
    since_ns = running.now_ns
    running.turn(STOP, 50)
    assert running.pilot.standstill_ns == since_ns


def test_a_restriction_limits_the_speed(running: Driver) -> None:
    assert running.turn(RUN._replace(speed_permille=300, response=2), 60).speed_mps == pytest.approx(0.24)


def test_disobedience_outruns_every_permit(running: Driver) -> None:
    running.pilot.disobedient = True
    assert running.turn(STOP, 50).speed_mps > 0.5
    running.pilot.disobedient = False
    assert running.turn(STOP).speed_mps == 0


def test_a_stop_step_is_answered_when_it_stands(running: Driver) -> None:
    running.step("stop_motion", deadline_ms=1500)
    running.turn(HOLD)
    assert running.pilot.results == []
    running.turn(HOLD, 40)
    assert running.pilot.results == [StepResult("s1", True, "standstill")]


def test_a_stop_step_stops_even_what_is_permitted(running: Driver) -> None:
    running.step("stop_motion")
    running.turn(RUN, 60)
    assert running.speed_mps == 0
    assert running.pilot.results == [StepResult("s1", True, "standstill")]


def test_a_stop_step_that_is_not_obeyed_fails_at_its_deadline(running: Driver) -> None:
    running.pilot.disobedient = True
    running.step("stop_motion", deadline_ms=200)
    running.turn(STOP, 9)
    assert running.pilot.results == []
    running.turn(STOP)
    assert [(result.ok, result.detail[:12]) for result in running.pilot.results] == [(False, "still moving")]
    running.turn(STOP, 50)
    assert len(running.pilot.results) == 1


@pytest.mark.parametrize("deadline", [{}, {"deadline_ms": None}, {"deadline_ms": "soon"}])
def test_a_step_without_a_deadline_has_one_second(running: Driver, deadline: dict[str, object]) -> None:
    running.pilot.disobedient = True
    running.step("stop_motion", **deadline)
    running.turn(STOP, 49)
    assert running.pilot.results == []
    running.turn(STOP)
    assert len(running.pilot.results) == 1


@pytest.mark.parametrize(("step", "ok"), [("stop_generation", True), ("announce", True), ("dance", False)])
def test_other_steps_are_answered_at_once(step: str, ok: bool) -> None:
    driver = Driver()
    driver.step(step)
    assert [(result.id, result.ok) for result in driver.pilot.results] == [("s1", ok)]


def test_telemetry_tells_the_truth_unless_overridden(running: Driver) -> None:
    body = running.pilot.body
    battery_pct = running.pilot.telemetry().pop("battery_pct")
    assert 99 < battery_pct < 100
    truth = {
        "speed_mps": body.speed_mps,
        "x_m": body.x_m,
        "y_m": body.y_m,
        "task": "patrol",
        "battery_pct": battery_pct,
        "still": False,
    }
    assert running.pilot.telemetry() == truth
    running.pilot.overrides = {"speed_mps": 9.0, "x_m": None, "extra": True}
    told = running.pilot.telemetry()
    assert (told["speed_mps"], told["extra"]) == (9.0, True)
    assert "x_m" not in told
    assert running.pilot.account()["speed_mps"] == body.speed_mps, "its own account is not overridden"


def test_before_any_welcome_nothing_is_permitted() -> None:
    assert (NOT_PERMITTED.may_move, NOT_PERMITTED.may_power) == (False, False)
    assert Pilot().account()["may_move"] is False
