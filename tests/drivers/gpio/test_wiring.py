"""From a plan's entries to requests: what the kernel is asked for, what is shared, what is refused."""

from collections.abc import Mapping

import pytest
from gpiod.line import Bias, Direction, Edge

from agent.core.plan import DeviceSpec
from drivers.base import DriverError
from drivers.gpio.device import GpioChip
from drivers.registry import build_devices, check_settings
from tests.drivers.gpio.rig import ChipRig, ContactRig
from tests.drivers.hosts import FakeHost

Entries = dict[str, Mapping[str, object]]


@pytest.mark.parametrize(
    ("settings", "pulled"),
    [
        ({}, Bias.PULL_DOWN),
        ({"active_low": True}, Bias.PULL_UP),
        ({"bias": "disabled"}, Bias.DISABLED),
        ({"active_low": True, "bias": "as_is"}, Bias.AS_IS),
    ],
)
def test_a_contact_is_pulled_to_open(settings: dict[str, object], pulled: Bias) -> None:
    rig = ContactRig(**settings)
    rig.start()
    asked = rig.board.request(4).settings[4]
    assert (asked.bias, asked.active_low) == (pulled, settings.get("active_low", False))
    assert (asked.direction, asked.edge_detection) == (Direction.INPUT, Edge.BOTH)
    rig.release()


def test_each_channel_is_pulled_to_its_own_open() -> None:
    rig = ContactRig(line_b=5, active_low_b=True, debounce_us=250)
    rig.start()
    asked = rig.board.request(4).settings
    assert rig.board.request(5) is rig.board.request(4), "the two channels are one request"
    assert [asked[line].bias for line in (4, 5)] == [Bias.PULL_DOWN, Bias.PULL_UP]
    assert [asked[line].active_low for line in (4, 5)] == [False, True]
    assert [asked[line].debounce_period.microseconds for line in (4, 5)] == [250, 250]
    rig.release()


@pytest.mark.parametrize("settings", [{}, {"active_low": True}, {"line_b": 5}])
def test_a_broken_wire_reads_open(settings: dict[str, object]) -> None:
    rig = ContactRig(**settings)
    rig.start()
    rig.board.drive(4, None)
    rig.wake()
    assert rig.reading().value is False
    rig.release()


@pytest.mark.parametrize("low", [False, True])
def test_a_mirror_contact_s_broken_wire_reads_energised(low: bool) -> None:
    """Then it cannot hide a welded relay: the drop that is not seen is an `output_fault`."""
    rig = ChipRig(outputs={"relay_a": {"line": 20, "readback_line": 21, "readback_active_low": low}})
    rig.start()
    assert rig.readback() is True
    asked = rig.board.request(21).settings[21]
    assert (asked.active_low, asked.debounce_period.microseconds) == (low, 5000)
    rig.release()


def test_two_inputs_that_use_a_contact_in_the_same_way_share_it() -> None:
    same: Entries = {"estop": {"line": 4, "line_b": 5}, "door": {"line": 4, "line_b": 5, "stale_ms": 50}}
    rig = ChipRig(same)
    rig.board.drive(4, True)
    rig.start()
    assert len(rig.board.requests) == 1
    assert [rig.reading(name).value for name in same] == [True, True]
    assert [rig.reading(name).second for name in same] == [False, False]
    rig.release()


def test_an_input_may_look_at_a_mirror_contact() -> None:
    rig = ChipRig(
        {"mirror": {"line": 21, "bias": "disabled", "debounce_us": 5000}},
        {"relay_a": {"line": 20, "readback_line": 21, "readback_bias": "disabled"}},
    )
    rig.board.drive(21, True)
    rig.start()
    assert (rig.reading("mirror").value, rig.readback()) == (True, True)
    rig.release()


@pytest.mark.parametrize(
    ("inputs", "outputs", "line"),
    [
        ({"estop": {"line": 4}, "door": {"line": 4, "active_low": True}}, {}, 4),
        ({"estop": {"line": 4}, "door": {"line": 4, "debounce_us": 9}}, {}, 4),
        ({"estop": {"line": 4, "line_b": 5}, "door": {"line": 5}}, {}, 5),
        ({"estop": {"line": 4, "line_b": 5}, "door": {"line": 5, "line_b": 4}}, {}, 5),
        ({"estop": {"line": 4, "line_b": 5}}, {"door": {"line": 5}}, 5),
        ({"estop": {"line": 21}}, {"door": {"line": 20, "readback_line": 21}}, 21),
        ({}, {"estop": {"line": 20, "readback_line": 21}, "door": {"line": 21}}, 21),
        ({}, {"estop": {"line": 20, "readback_line": 21}, "door": {"line": 22, "readback_line": 21}}, 21),
        ({}, {"estop": {"line": 20, "readback_line": 21}, "door": {"line": 22, "readback_line": 20}}, 20),
    ],
)
def test_one_line_used_in_two_ways_is_refused(inputs: Entries, outputs: Entries, line: int) -> None:
    with pytest.raises(DriverError) as caught:
        ChipRig(inputs, outputs)
    assert str(caught.value) == (
        f"driver 'gpio' is given one line in two ways by 'estop' and by 'door' (/dev/gpiochip7 line {line})"
    )


def test_one_relay_under_two_names_is_refused() -> None:
    with pytest.raises(DriverError, match="is given one line in two ways by 'a' and by 'b'"):
        ChipRig({}, {"a": {"line": 20}, "b": {"line": 20}})


def spec(role: str, **settings: object) -> DeviceSpec:
    return DeviceSpec("gpio", check_settings("gpio", role, {"chip": "/dev/gpiochip7", **settings}))


def test_the_registry_builds_one_device_of_a_chip() -> None:
    devices, inputs, outputs = build_devices(
        {"estop": spec("input", line=4)}, {"relay_a": spec("output", line=20)}, FakeHost()
    )
    assert [device.name for device in devices] == ["gpio /dev/gpiochip7"]
    assert isinstance(devices[0], GpioChip)
    assert inputs == {"estop": devices[0]}
    assert outputs == {"relay_a": devices[0]}


def test_entries_of_one_chip_must_agree_on_its_label() -> None:
    with pytest.raises(DriverError, match="is given label a and b on one device"):
        build_devices(
            {"estop": spec("input", line=4, label="a"), "door": spec("input", line=5, label="b")},
            {},
            FakeHost(),
        )
