"""The robot's telemetry as an input: the rules of all drivers, and which values are believed."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.plan import DeviceSpec
from agent.core.readings import NEVER_READ, Quality
from drivers.base import DriverError, TelemetryHost
from drivers.registry import build_devices, check_settings
from drivers.telemetry.device import Told, Wish
from tests.drivers.hosts import MS, FakeHost
from tests.drivers.rules import InputRig, InputRules, Traits
from tests.drivers.telemetry.rig import LinkedHost, RobotRig, Scalar

NOW_NS = 1_000_000 * MS
NUMBER = Wish("battery_pct", contact=False, stale_ns=200 * MS)
CONTACT = Wish("estop_ok", contact=True, stale_ns=200 * MS)


@pytest.fixture
def rig() -> RobotRig:
    """A contact and a quantity."""
    return RobotRig(
        {
            "estop": {"key": "estop_ok"},
            "battery": {"key": "battery_pct", "quantity": "battery_pct", "stale_ms": 1000},
        }
    )


class TestAsInput(InputRules):
    """Told by the module's robot link: it has no descriptor of its own."""

    traits = Traits(descriptor=False)

    @pytest.fixture
    def rig(self, tmp_path: Path) -> InputRig:
        return RobotRig({"estop": {"key": "estop_ok"}})


def test_a_closed_device_hears_no_beat(rig: RobotRig) -> None:
    rig.start()
    rig.device.close()
    rig.device.close()
    rig.device.open()
    changes = rig.host.changes
    rig.show(closed=False)
    assert rig.reading().detail == "closed"
    assert rig.host.changes == changes


# ------------------------------------------------------------------------------------------- what is believed


@pytest.mark.parametrize("value", [0, 71, -3, 71.5, 10**300])
def test_a_number_is_a_quantity(value: float) -> None:
    reading = NUMBER.judge((value, NOW_NS), NOW_NS)
    assert (reading.value, reading.quality, reading.taken_ns) == (float(value), Quality.GOOD, NOW_NS)
    assert isinstance(reading.value, float)


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (True, "'battery_pct' is not a number"),
        ("71", "'battery_pct' is not a number"),
        (math.nan, "'battery_pct' is no finite number"),
        (-math.inf, "'battery_pct' is no finite number"),
        (10**400, "'battery_pct' is no finite number"),
    ],
)
def test_anything_else_is_a_fault(value: Scalar, detail: str) -> None:
    reading = NUMBER.judge((value, NOW_NS), NOW_NS)
    assert (reading.value, reading.quality, reading.detail) == (None, Quality.FAULT, detail)
    assert NUMBER.judge((value, NOW_NS), NOW_NS + 10_000 * MS).quality is Quality.FAULT


@pytest.mark.parametrize("value", [1, 0, 1.0, "true", ""])
def test_a_contact_is_true_or_false_and_nothing_like_it(value: Scalar) -> None:
    reading = CONTACT.judge((value, NOW_NS), NOW_NS)
    assert (reading.value, reading.quality) == (None, Quality.FAULT)
    assert reading.detail == "'estop_ok' is neither true nor false"


@given(
    st.none()
    | st.tuples(st.booleans() | st.integers() | st.floats() | st.text(max_size=200), st.integers(0, NOW_NS)),
    st.sampled_from([NUMBER, CONTACT]),
)
def test_good_is_young_and_of_its_type(told: Told, wish: Wish) -> None:
    reading = wish.judge(told, NOW_NS)
    assert 0 < len(reading.detail) <= 120 or reading.quality is Quality.GOOD
    if reading.quality is Quality.GOOD:
        assert told is not None
        assert (told[0] if wish.contact else float(told[0]), told[1]) == (reading.value, reading.taken_ns)
        assert NOW_NS - reading.taken_ns < wish.stale_ns
        assert isinstance(reading.value, bool if wish.contact else float)
        assert math.isfinite(reading.value)


def test_each_input_has_its_own_key_and_its_own_bound(rig: RobotRig) -> None:
    rig.device.open()
    rig.tell(estop_ok=True, battery_pct=71)
    assert (rig.reading("estop").value, rig.reading("battery").value) == (True, 71.0)
    rig.host.pass_ms(200)
    assert rig.reading("estop").quality is Quality.STALE
    assert rig.reading("battery").quality is Quality.GOOD
    assert rig.reading("estop").detail == "'estop_ok' not told since"


def test_a_robot_that_leaves_takes_what_it_told_along(rig: RobotRig) -> None:
    rig.start()
    rig.unplug()
    reading = rig.reading()
    assert (reading.value, reading.taken_ns, reading.quality) == (None, NEVER_READ.taken_ns, Quality.STALE)
    assert reading.detail == "the robot does not tell 'estop_ok'"


def test_a_quantity_is_not_told_with_every_beat_but_its_quality_is(rig: RobotRig) -> None:
    """The module takes its turn after each tick anyway; a second one per beat would be for nothing."""
    rig.device.open()
    rig.tell(battery_pct=71)
    assert rig.host.changes == 1
    rig.tell(battery_pct=70)
    assert rig.host.changes == 1
    rig.tell(battery_pct="low")
    assert rig.host.changes == 2
    rig.tell(battery_pct=69)
    assert rig.host.changes == 3


def test_both_at_once_are_told_once(rig: RobotRig) -> None:
    rig.device.open()
    rig.tell(estop_ok=True, battery_pct=71)
    assert rig.host.changes == 1


def test_counters_count_beats_that_told(rig: RobotRig) -> None:
    rig.device.open()
    rig.tell(estop_ok=True)
    rig.host.pass_ms(20)
    rig.tell(estop_ok=True)
    rig.tell(estop_ok=3)
    rig.host.tick(rig.device, 100)
    assert rig.device.counters == {"told": 2, "told_wrong": 1}
    assert rig.host.bad == [("robot_link", "'estop_ok' is neither true nor false")]


def test_outputs_are_not_its_business(rig: RobotRig) -> None:
    with pytest.raises(KeyError):
        rig.device.order("estop", True, rig.host.time_ns)
    with pytest.raises(KeyError):
        rig.device.readback("estop", rig.host.time_ns)


def test_a_module_without_a_robot_link_cannot_build_it() -> None:
    inputs = {"estop": DeviceSpec("robot_link", check_settings("robot_link", "input", {"key": "estop_ok"}))}
    assert isinstance(LinkedHost(), TelemetryHost)
    with pytest.raises(DriverError) as caught:
        build_devices(inputs, {}, FakeHost())
    assert str(caught.value) == ("driver 'robot_link' needs the robot link, which this module does not have")
