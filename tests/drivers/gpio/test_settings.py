"""The settings of a GPIO line: bounds."""

import pytest

from drivers.base import SettingsError
from drivers.registry import check_settings


@pytest.mark.parametrize("role", ["input", "output"])
@pytest.mark.parametrize("line", [0, 1023])
def test_a_line_of_the_chip(role: str, line: int) -> None:
    settings = {"chip": "/dev/gpiochip0", "line": line}
    assert check_settings("gpio", role, settings) == settings


@pytest.mark.parametrize("role", ["input", "output"])
@pytest.mark.parametrize("line", [-1, 1024, "17", True])
def test_no_line_of_any_chip(role: str, line: object) -> None:
    with pytest.raises(SettingsError, match="line: must be a whole number from 0 to 1023"):
        check_settings("gpio", role, {"chip": "/dev/gpiochip0", "line": line})
