"""The wireless e-stop's settings: default and bounds (PROTOCOL 4)."""

import pytest

from drivers.base import SettingsError
from drivers.registry import check_settings


def test_the_default_is_the_protocol_s() -> None:
    assert check_settings("vsc", "input", {"port": "/dev/ttyS0"}) == {"port": "/dev/ttyS0", "stale_ms": 250}


@pytest.mark.parametrize("value", [70, 1000])
def test_inside(value: int) -> None:
    assert check_settings("vsc", "input", {"port": "/dev/ttyS0", "stale_ms": value})["stale_ms"] == value


@pytest.mark.parametrize("value", [69, 1001, 250.0, "250"])
def test_outside(value: object) -> None:
    with pytest.raises(SettingsError) as caught:
        check_settings("vsc", "input", {"port": "/dev/ttyS0", "stale_ms": value})
    assert caught.value.key == "stale_ms"


def test_it_is_no_output() -> None:
    with pytest.raises(SettingsError, match="cannot be an output"):
        check_settings("vsc", "output", {"port": "/dev/ttyS0"})
