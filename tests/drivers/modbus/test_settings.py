"""The settings of a Modbus sensor: defaults and bounds."""

import math

import pytest

from drivers.base import SettingsError
from drivers.registry import check_settings

LEAST: dict[str, object] = {"port": "/dev/ttyS0", "unit": 3, "register": 12, "quantity": "range_m"}


def test_defaults() -> None:
    assert check_settings("modbus", "input", LEAST) == {
        **LEAST,
        "baud": 19200,
        "scale": 1.0,
        "stale_ms": 200,
    }


@pytest.mark.parametrize(
    ("key", "inside", "outside"),
    [
        ("unit", [1, 247], [0, 248]),
        ("register", [0, 65535], [-1, 65536]),
        ("scale", [1e-9, 1, 1e6], [0, -1.0, 1e6 + 1, math.nan, math.inf, "1"]),
        ("quantity", ["m", "range_m", "a" * 64], ["", "Range", "1m", "range-m", "a" * 65]),
        ("baud", [9600, 115200], [1200, 115201]),
        ("stale_ms", [20, 5000], [19, 5001]),
    ],
)
def test_bounds(key: str, inside: list[object], outside: list[object]) -> None:
    for value in inside:
        assert check_settings("modbus", "input", {**LEAST, key: value})[key] == value
    for value in outside:
        with pytest.raises(SettingsError) as caught:
            check_settings("modbus", "input", {**LEAST, key: value})
        assert caught.value.key == key
