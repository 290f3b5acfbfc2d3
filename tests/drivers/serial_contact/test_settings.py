"""Settings of contacts and relays on modem lines: defaults and bounds (PROTOCOL 4)."""

import pytest

from drivers.base import SettingsError
from drivers.registry import check_settings

PORT = {"port": "/dev/ttyS0"}


def test_defaults() -> None:
    contact = {"test_period_s": 10, "test_pulse_ms": 8, "stale_ms": 100}
    assert check_settings("serial_contact", "input", PORT) == {**PORT, **contact}
    relay = {"readback": "none", "stale_ms": 100}
    assert check_settings("serial_contact", "output", PORT) == {**PORT, **relay}


@pytest.mark.parametrize(
    ("role", "key", "inside", "outside"),
    [
        ("input", "test_period_s", [1, 3600], [0, 3601, 10.0, "10"]),
        ("input", "test_pulse_ms", [5, 50], [4, 51, 8.0]),
        ("input", "stale_ms", [100, 1000], [99, 1001, True]),
        ("output", "stale_ms", [100, 1000], [99, 1001, True]),
        ("output", "readback", ["dcd", "ri", "none"], ["DCD", "cts", "", 1]),
    ],
)
def test_bounds(role: str, key: str, inside: list[object], outside: list[object]) -> None:
    for value in inside:
        assert check_settings("serial_contact", role, {**PORT, key: value})[key] == value
    for value in outside:
        with pytest.raises(SettingsError) as caught:
            check_settings("serial_contact", role, {**PORT, key: value})
        assert caught.value.key == key


def test_a_relay_has_no_line_test() -> None:
    with pytest.raises(SettingsError, match="test_period_s: unknown key"):
        check_settings("serial_contact", "output", {**PORT, "test_period_s": 10})
