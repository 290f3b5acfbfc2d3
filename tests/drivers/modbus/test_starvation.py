"""Units that are silent or slow on a Modbus line, beside others that are not."""

from pathlib import Path

import pytest

from agent.core.readings import Quality
from tests.drivers.hosts import MS
from tests.drivers.modbus import frames
from tests.drivers.modbus.rig import CONTACT, RANGE, ModbusRig


@pytest.fixture(params=["serial", "tcp"])
def network(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "tcp")


@pytest.mark.parametrize("silent", [1, 6])
def test_silent_units_never_starve_the_others(tmp_path: Path, network: bool, silent: int) -> None:
    units = range(20, 20 + silent)
    inputs = {"estop": CONTACT, "range": RANGE, **{f"r{unit}": {**RANGE, "unit": unit} for unit in units}}
    rig = ModbusRig(tmp_path, network=network, inputs=inputs)
    rig.units.silent = set(units)
    rig.device.open()
    rig.serve_for(1_500)
    for _ in range(300):
        rig.serve_tick()
        assert rig.reading("estop").quality is Quality.GOOD
        assert rig.reading("range").quality is Quality.GOOD
    assert {rig.reading(f"r{unit}").quality for unit in units} == {Quality.STALE}
    rig.units.silent = set()
    rig.serve_for(3_000)
    assert {rig.reading(f"r{unit}").quality for unit in units} == {Quality.GOOD}
    rig.release()


def test_the_silent_one_is_asked_ever_more_rarely(tmp_path: Path, network: bool) -> None:
    rig = ModbusRig(tmp_path, network=network, inputs={"range": RANGE})
    rig.start()
    rig.units.silent = {3}
    before = rig.asked
    rig.serve_for(6_000)
    assert rig.asked - before <= 12
    rig.units.silent = set()
    rig.serve_for(2_000)
    assert rig.reading("range").quality is Quality.GOOD
    rig.release()


def test_the_read_follows_the_probe_at_once(tmp_path: Path) -> None:
    rig = ModbusRig(tmp_path, network=False)
    rig.start()
    rig.read_question()
    rig.time_out()
    probe = rig.question()
    assert probe.is_probe
    asked_ns = rig.host.time_ns
    rig.reply(probe)
    assert not rig.question().is_probe
    assert rig.host.time_ns - asked_ns == 10 * MS
    rig.release()


def test_a_slow_unit_is_stale_and_costs_the_others_nothing(tmp_path: Path, network: bool) -> None:
    """It answers every question rightly, and 80 ms too late."""
    rig = ModbusRig(tmp_path, network=network, inputs={"estop": CONTACT, "slow": {**RANGE, "unit": 9}})
    rig.units.silent = {9}
    rig.device.open()
    rig.serve_for(1_000)
    late: list[tuple[int, bytes]] = []
    for _ in range(300):
        for asked in rig.serve_tick():
            if asked.unit == 9:
                pdu = asked.pdu if asked.is_probe else frames.registers(3, [7])
                late.append((rig.host.time_ns + 80 * MS, rig.far.frame(asked, pdu)))
        if late and rig.host.time_ns >= late[0][0]:
            rig.far.say(late.pop(0)[1])
            rig.host.turn()
        assert rig.reading("estop").quality is Quality.GOOD
        assert rig.reading("slow").value is None
    assert rig.reading("slow").quality is Quality.STALE
    rig.release()
