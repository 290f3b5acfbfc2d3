"""The errors of the drivers carry their evidence."""

from agent.errors import WardenError
from drivers.base import DriverError, SettingsError


def test_a_driver_error_names_kind_and_port() -> None:
    error = DriverError("gpio", "/dev/gpiochip0", "is not built into this version")
    assert isinstance(error, WardenError)
    assert (error.driver, error.port, error.reason) == (
        "gpio",
        "/dev/gpiochip0",
        "is not built into this version",
    )
    assert str(error) == "driver 'gpio' is not built into this version (/dev/gpiochip0)"


def test_a_driver_error_without_a_port() -> None:
    assert str(DriverError("lidar", "", "is not known")) == "driver 'lidar' is not known"


def test_a_settings_error_names_kind_key_and_bound() -> None:
    error = SettingsError("gpio", "line", "must be 0 to 9, is 10")
    assert isinstance(error, WardenError)
    assert (error.kind, error.key, error.bound) == ("gpio", "line", "must be 0 to 9, is 10")
    assert str(error) == "driver 'gpio': line: must be 0 to 9, is 10"
