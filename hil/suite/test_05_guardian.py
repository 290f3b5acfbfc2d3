"""The guardian's stop, from the person's own machine to the relay's contacts."""

import time

import pytest

from hil.rig import Rig
from hil.suite.conftest import SAMPLES, Meter, opened, run


@pytest.mark.parametrize("_sample", range(SAMPLES))
def test_a_stop_over_mqtt_opens_relay_b(rig: Rig, meter: Meter, _sample: int) -> None:
    run(rig)
    begun_ns = time.monotonic_ns()
    stages = rig.guardian.stop(reason="hil")
    assert stages[-1].stage == "verified"
    if rig.name.startswith("virtual"):  # one clock for both ends
        meter.add("guardian_to_relay_b", begun_ns, opened(rig, "b"))
    assert not rig.relay("b").closed
    assert not rig.moving()
