"""The safety node's settings: defaults and bounds (PROTOCOL 4)."""

import pytest

from drivers.base import SettingsError
from drivers.registry import check_settings


def test_defaults_are_the_protocol_s() -> None:
    assert check_settings("serial_node", "input", {"port": "/dev/ttyS0", "bit": 0}) == {
        "port": "/dev/ttyS0",
        "bit": 0,
        "baud": 115200,
        "usb_serial": "",
        "stale_ms": 50,
    }
    assert check_settings("serial_node", "output", {"port": "/dev/ttyS0"}) == {
        "port": "/dev/ttyS0",
        "baud": 115200,
        "usb_serial": "",
        "stale_ms": 50,
    }


@pytest.mark.parametrize(
    ("key", "inside", "outside"),
    [
        ("bit", [0, 15], [-1, 16, True, "0", 1.0]),
        ("usb_serial", ["", "A5069RR4", "x" * 126], ["x" * 127, "序", "a\nb", 5]),
        ("stale_ms", [20, 1000], [19, 1001, 50.0]),
        ("baud", [38400, 57600, 115200, 230400, 460800, 921600], [0, 9600, 19200, 115201, "115200"]),
    ],
)
def test_bounds(key: str, inside: list[object], outside: list[object]) -> None:
    sound: dict[str, object] = {"port": "/dev/ttyS0", "bit": 0}
    for value in inside:
        assert check_settings("serial_node", "input", {**sound, key: value})[key] == value
    for value in outside:
        with pytest.raises(SettingsError) as caught:
            check_settings("serial_node", "input", {**sound, key: value})
        assert caught.value.key == key


def test_a_relay_has_no_bit() -> None:
    with pytest.raises(SettingsError, match="bit: unknown key"):
        check_settings("serial_node", "output", {"port": "/dev/ttyS0", "bit": 0})
