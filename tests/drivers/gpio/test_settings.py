"""The settings of GPIO lines: defaults, bounds, and what goes together."""

import pytest

from drivers.base import SettingsError
from drivers.registry import check_settings

LEAST: dict[str, object] = {"chip": "/dev/gpiochip0", "line": 17}


def refused(role: str, **changes: object) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        check_settings("gpio", role, {**LEAST, **changes})
    return caught.value


def test_an_input_s_defaults() -> None:
    assert check_settings("gpio", "input", LEAST) == {
        **LEAST,
        "label": "",
        "line_b": -1,
        "active_low": False,
        "active_low_b": False,
        "bias": "to_open",
        "debounce_us": 0,
        "stale_ms": 100,
    }


def test_an_output_s_defaults() -> None:
    assert check_settings("gpio", "output", LEAST) == {
        **LEAST,
        "label": "",
        "mode": "level",
        "toggle_ms": 10,
        "readback_line": -1,
        "readback_active_low": False,
        "readback_bias": "to_energised",
        "readback_debounce_us": 5000,
        "stale_ms": 100,
    }


@pytest.mark.parametrize("role", ["input", "output"])
@pytest.mark.parametrize("line", [0, 1023])
def test_a_line_of_the_chip(role: str, line: int) -> None:
    assert check_settings("gpio", role, {**LEAST, "line": line})["line"] == line


@pytest.mark.parametrize("role", ["input", "output"])
@pytest.mark.parametrize("line", [-1, 1024, "17", True])
def test_no_line_of_any_chip(role: str, line: object) -> None:
    assert refused(role, line=line).bound.startswith("must be a whole number from 0 to 1023")


@pytest.mark.parametrize(
    ("role", "key", "inside", "outside"),
    [
        ("input", "line_b", [-1, 0, 1023], [-2, 1024, "5", True]),
        ("input", "active_low", [True, False], [0, "true"]),
        ("input", "active_low_b", [True, False], [1, "false"]),
        ("input", "bias", ["to_open", "disabled", "as_is"], ["pull_up", "to_closed", ""]),
        ("input", "debounce_us", [0, 20_000], [-1, 20_001, 1.5]),
        ("input", "stale_ms", [30, 1000], [29, 1001]),
        ("input", "label", ["", "pinctrl-bcm2711"], ["x" * 32, "a\tb", 3]),
        ("output", "mode", ["level"], ["pwm", ""]),
        ("output", "toggle_ms", [10, 500], [9, 501]),
        ("output", "readback_line", [-1, 0, 1023], [-2, 1024, True]),
        ("output", "readback_active_low", [True, False], [0, "true"]),
        ("output", "readback_bias", ["to_energised", "disabled", "as_is"], ["to_open"]),
        ("output", "readback_debounce_us", [0, 50_000], [-1, 50_001]),
        ("output", "stale_ms", [30, 1000], [29, 1001]),
    ],
)
def test_bounds(role: str, key: str, inside: list[object], outside: list[object]) -> None:
    for value in inside:
        assert check_settings("gpio", role, {**LEAST, key: value})[key] == value
    for value in outside:
        assert refused(role, **{key: value}).key == key


@pytest.mark.parametrize(("role", "key"), [("input", "line_b"), ("output", "readback_line")])
def test_the_second_line_is_another_one(role: str, key: str) -> None:
    error = refused(role, **{key: 17})
    assert error.key == key
    assert error.bound.startswith("must be another line than `line`, up to 1023, or -1")
    assert error.bound.endswith(", is 17")


def test_a_pulse_train_needs_a_mirror_contact() -> None:
    error = refused("output", mode="pulse")
    assert (error.key, error.bound) == (
        "readback_line",
        "must be another line than `line`, up to 1023, or -1 in mode level, is -1",
    )
    assert check_settings("gpio", "output", {**LEAST, "mode": "pulse", "readback_line": 18})
