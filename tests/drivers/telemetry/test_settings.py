"""The settings of what the robot tells: defaults and bounds."""

import pytest

from agent.core.plan import DeviceSpec
from drivers.base import SettingsError
from drivers.registry import address, check_settings, device_names, device_path

CONTACT: dict[str, object] = {"key": "estop_ok"}
QUANTITY: dict[str, object] = {"key": "battery_pct", "quantity": "battery_pct"}


@pytest.mark.parametrize("least", [CONTACT, QUANTITY])
def test_defaults(least: dict[str, object]) -> None:
    checked = check_settings("robot_link", "input", least, folder="/etc/warden")
    assert checked == {**least, "stale_ms": 200}
    assert check_settings("robot_link", "input", checked) == checked


@pytest.mark.parametrize(
    ("key", "inside", "outside"),
    [
        ("key", ["a", "A.b:c-d_9", "x" * 64], ["", "x" * 65, "a b", "ü", 3]),
        ("quantity", ["m", "range_m", "a" * 64], ["Range", "1m", "range-m", "a" * 65, 3]),
        ("stale_ms", [20, 60_000], [19, 60_001, 20.5, True]),
    ],
)
def test_bounds(key: str, inside: list[object], outside: list[object]) -> None:
    for value in inside:
        assert check_settings("robot_link", "input", {**QUANTITY, key: value})[key] == value
    for value in outside:
        with pytest.raises(SettingsError) as caught:
            check_settings("robot_link", "input", {**QUANTITY, key: value})
        assert caught.value.key == key


def test_the_key_is_needed() -> None:
    with pytest.raises(SettingsError) as caught:
        check_settings("robot_link", "input", {})
    assert (caught.value.key, caught.value.bound) == (
        "key",
        "is missing; it must be 1 to 64 letters, digits and _.:-",
    )


def test_it_is_one_device_without_a_path() -> None:
    settings = check_settings("robot_link", "input", CONTACT)
    assert device_path("robot_link", settings) is None
    assert address("robot_link", "input", settings) == "telemetry estop_ok"
    both = {name: DeviceSpec("robot_link", {**settings, "key": name}) for name in "ab"}
    assert device_names(both) == ("robot_link",)
