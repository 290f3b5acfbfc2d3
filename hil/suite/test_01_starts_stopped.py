"""First of all: nothing has been resumed, nothing may move, both relays are open."""

from hil.rig import Rig
from tests.waiting import block_until


def test_the_robot_stands_and_both_relays_are_open(rig: Rig) -> None:
    block_until(lambda: not rig.faults())
    assert not rig.moving()
    assert not rig.relay("a").closed
    assert not rig.relay("b").closed


def test_a_resume_closes_both_relays(rig: Rig) -> None:
    assert rig.guardian.resume("hil", retries=5)[-1].stage == "actuated"
    block_until(rig.moving)
    block_until(lambda: rig.relay("a").closed and rig.relay("b").closed)
