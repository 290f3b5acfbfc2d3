"""A quantity under the plan's bound holds the robot; an implausible one is a fault of the input."""

from hil.rig import Rig
from hil.suite.conftest import run
from tests.waiting import block_until


def test_too_close_holds_under_power_and_ends_by_itself(rig: Rig) -> None:
    run(rig)
    rig.vary("front_range", 0.3)
    block_until(lambda: not rig.moving())
    assert rig.relay("a").closed
    assert rig.relay("b").closed
    rig.vary("front_range", 2.0)
    block_until(rig.moving)  # the plan says so of this cause: clear = "auto"


def test_an_implausible_value_is_a_fault_and_not_a_great_distance(rig: Rig) -> None:
    run(rig)
    rig.vary("front_range", 31.0)
    block_until(lambda: not rig.relay("a").closed and not rig.moving())
    assert any("input_fault" in fault for fault in rig.faults())
