"""The node loses its supply: unknown is a stop, and the supply's return starts nothing."""

import pytest

from hil.rig import Node, Rig
from hil.suite.conftest import SAMPLES, Meter, opened, run
from tests.waiting import block_until


@pytest.mark.parametrize("_sample", range(SAMPLES // 2))
def test_node_a_without_power_opens_relay_b(rig: Rig, meter: Meter, _sample: int) -> None:
    run(rig)
    off_ns = rig.power("a", on=False)
    meter.add("node_off_to_relay_b", off_ns, opened(rig, "b"))
    block_until(lambda: not rig.moving())
    rig.power("a", on=True)


@pytest.mark.parametrize("node", ["a", "b"])
def test_its_return_starts_nothing(rig: Rig, node: Node) -> None:
    run(rig)
    rig.power(node, on=False)
    block_until(lambda: not rig.moving())
    rig.power(node, on=True)
    block_until(lambda: not rig.faults())
    assert not rig.moving()
    assert not rig.relay("a").closed
    assert not rig.relay("b").closed
