"""The agent's own modules killed and frozen: the relays fall, by order or by themselves."""

import pytest

from hil.rig import Rig
from hil.suite.conftest import SAMPLES, Meter, opened, run
from tests.waiting import block_until


@pytest.mark.parametrize("_sample", range(SAMPLES // 2))
def test_reflex_killed(rig: Rig, meter: Meter, _sample: int) -> None:
    run(rig)
    killed_ns = rig.kill("reflex")
    meter.add("reflex_killed_to_relay_b", killed_ns, opened(rig, "b"))
    meter.add("reflex_killed_to_relay_a", killed_ns, opened(rig, "a"))
    block_until(lambda: not rig.moving())


@pytest.mark.parametrize("_sample", range(SAMPLES // 2))
def test_remote_frozen(rig: Rig, meter: Meter, _sample: int) -> None:
    run(rig)
    frozen_ns = rig.freeze("remote")
    try:
        meter.add("remote_frozen_to_relay_b", frozen_ns, opened(rig, "b"))
        meter.add("remote_frozen_to_relay_a", frozen_ns, opened(rig, "a"))
        block_until(lambda: not rig.moving())
    finally:
        rig.thaw("remote")


def test_neither_comes_back_running(rig: Rig) -> None:
    block_until(lambda: not rig.faults())
    assert not rig.moving()
    assert not rig.relay("a").closed
