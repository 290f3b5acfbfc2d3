"""What a channel remembers: the epoch that never goes back, the stops that stay."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import latch
from agent.core.causes import MS, Clear
from agent.core.commands import Code
from agent.core.machine import Demand
from agent.core.plan import Plan
from agent.core.responses import Response
from tests.channel_lives import blocked
from tests.channels import Life, disks
from tests.core.factories import NOW_NS, row, rows, small_plan

HOLD, EMERGENCY_STOP = Response.HOLD, Response.EMERGENCY_STOP
PLAN = small_plan(rows=rows(row("too_close", HOLD, Clear.AUTO)))


# ---- the epoch over restarts


@dataclass
class Robot:
    """One robot over the lives of one channel; `epoch` is the highest a robot ever read in the permit."""

    folder: Path
    epoch: int = 0

    @property
    def permit(self) -> Path:
        return self.folder / "reflex.permit"

    @property
    def latch(self) -> Path:
        return self.folder / "reflex.latch"

    def start(self) -> Life:
        """A new life: its first turn is a stop with a number of its own."""
        life = Life("reflex", PLAN, self.folder)
        assert life.read().epoch >= (self.epoch if life.permit.found else 0)
        life.turn()
        assert life.read().epoch > self.epoch
        self.look(life)
        return life

    def look(self, life: Life) -> None:
        epoch = life.read().epoch
        assert epoch >= self.epoch
        assert life.read().motion_until_ns == 0 or life.channel.state.response is Response.NONE
        self.epoch = epoch


Act = Callable[[Robot, Life], None]


def resume(robot: Robot, life: Life) -> None:
    life.turn()
    life.channel.grant(NOW_NS)
    life.disk.write()
    robot.look(life)


def stop(response: Response) -> Act:
    def act(robot: Robot, life: Life) -> None:
        life.turn(NOW_NS, something_new=Demand(response, Clear.RESUME))
        robot.look(life)

    act.__name__ = response.label
    return act


def disk_hangs(robot: Robot, life: Life) -> None:
    life.disk.works = False


def disk_works(robot: Robot, life: Life) -> None:
    life.disk.works = True


ACTS: tuple[Act, ...] = (resume, disk_hangs, disk_works, *(stop(r) for r in Response if r.stops))


def ordered_end(robot: Robot, life: Life) -> None:
    life.channel.close()
    robot.look(life)


def kill_9(robot: Robot, life: Life) -> None:
    life.kill()


def power_loss(robot: Robot, life: Life) -> None:
    """The run folder is memory."""
    life.kill()
    robot.permit.unlink()


def torn_permit(robot: Robot, life: Life) -> None:
    life.kill()
    robot.permit.write_bytes(b"WPERMIT1" + bytes(56))


def damaged_latch(robot: Robot, life: Life) -> None:
    life.kill()
    robot.latch.write_bytes(b"\x00" * 100)


ENDS: tuple[Act, ...] = (ordered_end, kill_9, power_loss, torn_permit, damaged_latch)
LIVES = st.lists(st.tuples(st.lists(st.sampled_from(ACTS), max_size=8), st.sampled_from(ENDS)), max_size=6)


@given(LIVES)
@settings(derandomize=True, max_examples=60, deadline=None)
def test_the_epoch_never_goes_back(
    tmp_path_factory: pytest.TempPathFactory, lives: list[tuple[list[Act], Act]]
) -> None:
    robot = Robot(tmp_path_factory.mktemp("robot"))
    with disks():
        for acts, end in lives:
            life = robot.start()
            for act in acts:
                act(robot, life)
            end(robot, life)
        kill_9(robot, robot.start())


@pytest.fixture
def robot(tmp_path: Path) -> Iterator[Robot]:
    with disks():
        yield Robot(tmp_path)


def test_stops_that_never_reached_the_disk_keep_their_numbers_over_a_power_loss(robot: Robot) -> None:
    """A disk that hangs while one stop after another grows worse, and then the power goes."""
    life = robot.start()
    resume(robot, life)
    disk_hangs(robot, life)
    for response in Response:
        if response.stops:
            stop(response)(robot, life)
    assert robot.epoch == 1 + len([r for r in Response if r.stops])
    power_loss(robot, life)
    robot.start().kill()


def test_with_the_permit_no_number_is_left_out(robot: Robot) -> None:
    robot.start().kill()
    robot.start().kill()
    assert robot.epoch == 2


def test_the_permit_counts_where_it_is_newer_than_the_latch(robot: Robot) -> None:
    life = robot.start()
    resume(robot, life)
    disk_hangs(robot, life)
    stop(EMERGENCY_STOP)(robot, life)
    life.kill()
    found = latch.load(robot.latch)
    assert found is not None
    assert found.epoch == robot.epoch - 1
    robot.start().kill()
    assert robot.epoch == 3


def test_a_damaged_latch_is_a_stop_the_department_must_look_at(robot: Robot) -> None:
    """What was latched is not known any more, and may have been a suspension; nor is the count of stops."""
    power_loss(robot, robot.start())
    robot.latch.write_bytes(b"{}")
    before = robot.epoch
    life = robot.start()
    (cause,) = (c for c in life.channel.state.causes if c.key == "tampered")
    assert cause.detail.startswith(str(robot.latch)[:100])
    assert (cause.response, cause.clear) == (EMERGENCY_STOP, Clear.RESUME)
    assert life.read().epoch > before + 1_000_000
    life.kill()
    again = robot.start()
    assert {"tampered", "suspended"} <= again.channel.latched_keys
    assert Code.REEVALUATION_NEEDED in again.channel.blockers
    again.channel.lift("suspended", NOW_NS)
    again.turn()
    resume(robot, again)
    assert again.channel.state.causes == ()
    again.kill()


def test_a_latch_file_that_is_gone_while_the_permit_is_there_was_taken_away(robot: Robot) -> None:
    robot.start().kill()
    robot.latch.unlink()
    again = robot.start()
    assert "tampered" in again.channel.latched_keys
    again.kill()


def test_power_that_a_stop_took_away_does_not_come_back_with_a_restart(robot: Robot) -> None:
    robot.start().kill()
    again = Life("reflex", PLAN, robot.folder)
    again.turn()
    assert again.read().power_until_ns == 0
    again.kill()


# ---- what stays


def test_a_stop_and_its_words_survive_a_power_loss(robot: Robot) -> None:
    life = robot.start()
    resume(robot, life)
    life.turn(NOW_NS, **{"input_fault:estop": Demand(detail="stuck")})
    life.turn(NOW_NS, guardian_hold=Demand(detail="看"))
    power_loss(robot, life)
    again = Life("reflex", PLAN, robot.folder)
    assert again.channel.latched_keys == {"input_fault:estop", "guardian_hold"}
    again.turn()
    stuck, hold, starting = again.channel.state.causes
    assert (stuck.detail, hold.detail, starting.key) == ("stuck", "看", "starting")
    assert (stuck.active, hold.active) == (False, False)
    assert again.read().response == EMERGENCY_STOP
    again.kill()


def test_since_when_a_cause_is_there_survives_a_restart(robot: Robot) -> None:
    life = robot.start()
    resume(robot, life)
    life.turn(NOW_NS, guardian_hold=Demand())
    since = next(c["since"] for c in life.channel.causes_view(NOW_NS) if c["id"] == "guardian_hold")
    life.kill()
    # CLOCK_MONOTONIC begins anew with a boot.
    again = Life("reflex", PLAN, robot.folder, now_ns=17 * MS)
    (shown,) = (c for c in again.channel.causes_view(17 * MS) if c["id"] == "guardian_hold")
    assert isinstance(shown["since"], float)
    assert shown["since"] == pytest.approx(since, abs=60)
    again.kill()


def test_maintenance_and_the_newest_trust_version_survive(robot: Robot) -> None:
    life = Life("reflex", PLAN, robot.folder)
    life.channel.trust_version = 7
    life.turn()
    life.channel.stand("maintenance", "电机", NOW_NS)
    life.disk.write()
    life.kill()
    again = Life("reflex", PLAN, robot.folder)
    assert (again.channel.trust_version, again.channel.standing) == (7, {"maintenance": "电机"})
    assert again.channel.last_wall_ns > 0
    again.turn()
    assert blocked(again)[:1] == [Code.IN_MAINTENANCE]
    again.kill()


def test_retired_is_for_ever(robot: Robot) -> None:
    life = robot.start()
    life.turn(NOW_NS, retired=Demand())
    for end in (kill_9, power_loss, ordered_end):
        end(robot, life)
        life = robot.start()
        life.channel.grant(NOW_NS)
        life.channel.lift("retired", NOW_NS)
        assert blocked(life) == [Code.RETIRED]
        assert life.read().response == Response.RETIRE
    life.kill()


def test_starting_is_raised_anew_and_not_remembered(robot: Robot) -> None:
    robot.start().kill()
    again = Life("reflex", PLAN, robot.folder)
    assert again.channel.latched_keys == frozenset()
    assert again.turn().raised == ("starting",)
    again.kill()


def plan_of(name: str) -> Plan:
    return small_plan(rows=rows(row(name)))


def test_a_cause_whose_row_is_gone_from_the_plan_is_still_a_stop(robot: Robot) -> None:
    """The plan was changed while the robot stood: what it stood for is not forgotten with the row."""
    life = Life("reflex", plan_of("leaving"), robot.folder)
    life.turn()
    life.turn(NOW_NS, leaving=Demand())
    life.kill()
    again = Life("reflex", plan_of("other"), robot.folder)
    again.turn()
    assert again.channel.latched_keys == {"leaving", "starting"}
    assert again.read().response == EMERGENCY_STOP
    again.kill()
