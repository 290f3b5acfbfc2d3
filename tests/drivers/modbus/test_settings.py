"""The settings of a Modbus input: defaults, bounds, and what does not go together."""

import math

import pytest

from agent.core.plan import DeviceSpec
from drivers.base import SettingsError
from drivers.registry import address, check_settings, device_names, device_path

LEAST: dict[str, object] = {"port": "/dev/ttyS0", "unit": 3, "register": 12, "quantity": "range_m"}
NETWORK: dict[str, object] = {"host": "192.0.2.7", "unit": 0, "register": 12, "quantity": "range_m"}
CONTACT: dict[str, object] = {"port": "/dev/ttyS0", "unit": 3, "table": "coil", "register": 7}
DEFAULTS: dict[str, object] = {
    "port": "",
    "baud": 19200,
    "parity": "none",
    "host": "",
    "tcp_port": 502,
    "table": "holding",
    "type": "uint16",
    "word_order": "big",
    "channels": 1,
    "scale": 1.0,
    "offset": 0.0,
    "poll_ms": 50,
    "timeout_ms": 50,
    "late_ms": 1000,
    "stale_ms": 200,
}


def refused(settings: dict[str, object]) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        check_settings("modbus", "input", settings)
    assert caught.value.kind == "modbus"
    return caught.value


@pytest.mark.parametrize("least", [LEAST, NETWORK, CONTACT])
def test_defaults(least: dict[str, object]) -> None:
    checked = check_settings("modbus", "input", least)
    assert checked == {**DEFAULTS, **least}
    assert check_settings("modbus", "input", checked) == checked


@pytest.mark.parametrize(
    ("key", "inside", "outside"),
    [
        ("unit", [1, 247], [0, 248, -1, 256]),
        ("register", [0, 65535], [-1, 65536]),
        ("scale", [1e-9, 1, 1e6], [0, -1.0, 1e6 + 1, math.nan, math.inf, "1"]),
        ("offset", [-1e9, 0, 1e9], [-1e9 - 1, 1e9 + 1, math.nan, math.inf]),
        ("quantity", ["m", "range_m", "a" * 64], ["", "Range", "1m", "range-m", "a" * 65]),
        ("baud", [9600, 115200], [1200, 115201]),
        ("parity", ["none", "even", "odd"], ["mark", ""]),
        ("tcp_port", [1, 65535], [0, 65536]),
        ("table", ["holding", "input"], ["registers", ""]),
        ("type", ["int16", "uint16", "int32", "uint32", "float32"], ["int8", "float64"]),
        ("word_order", ["big", "little"], ["", "BIG"]),
        ("channels", [1], [0, 2, 3]),
        ("poll_ms", [10, 150], [9, 5001]),
        ("timeout_ms", [5, 150], [4, 1001]),
        ("late_ms", [50, 60_000], [49, 60_001]),
        ("stale_ms", [100, 20_000], [19, 99, 20_001]),
    ],
)
def test_bounds(key: str, inside: list[object], outside: list[object]) -> None:
    for value in inside:
        assert check_settings("modbus", "input", {**LEAST, key: value})[key] == value
    for value in outside:
        assert refused({**LEAST, key: value}).key == key


@pytest.mark.parametrize(
    ("settings", "key", "bound"),
    [
        ({"unit": 3}, "port", "is missing; it must be a path of 1 to 255 characters"),
        ({**LEAST, "port": ""}, "port", "must be a path of 1 to 255 characters, is ''"),
        (
            {**LEAST, "host": "192.0.2.7"},
            "host",
            "must be an IPv4 or IPv6 address, and only where `port` is not given, is '192.0.2.7'",
        ),
        (
            {**LEAST, "unit": 0},
            "unit",
            "must be a whole number from 1 to 247 (0 to 255 at a `host`), is 0",
        ),
        (
            {key: value for key, value in LEAST.items() if key != "quantity"},
            "quantity",
            "is missing; it must be a name of small letters, digits and _ ending in its unit; none for bits",
        ),
        (
            {**CONTACT, "quantity": "range_m"},
            "quantity",
            "must be a name of small letters, digits and _ ending in its unit; none for bits, is 'range_m'",
        ),
        (
            {**CONTACT, "type": "int16"},
            "type",
            "must be one of int16, uint16, int32, uint32, float32; left out for bits, is 'int16'",
        ),
        ({**LEAST, "channels": 2}, "channels", "must be 1, or 2 where bits are read, is 2"),
        (
            {**LEAST, "poll_ms": 151},
            "stale_ms",
            "must be a whole number from 20 to 20000, not under poll_ms + timeout_ms, is 200",
        ),
        (
            {**LEAST, "timeout_ms": 51, "late_ms": 50},
            "late_ms",
            "must be a whole number from 50 to 60000, not under timeout_ms, is 50",
        ),
    ],
)
def test_what_does_not_go_together(settings: dict[str, object], key: str, bound: str) -> None:
    error = refused(settings)
    assert (error.key, error.bound) == (key, bound)


@pytest.mark.parametrize(
    "wide", [{**LEAST, "type": "int32"}, {**LEAST, "type": "float32"}, {**CONTACT, "channels": 2}]
)
def test_the_second_of_two_must_exist(wide: dict[str, object]) -> None:
    assert check_settings("modbus", "input", {**wide, "register": 65534})["register"] == 65534
    assert refused({**wide, "register": 65535}).key == "register"


@pytest.mark.parametrize("host", ["192.0.2.7", "::1", "2001:db8::7"])
def test_a_host_is_an_address(host: str) -> None:
    assert check_settings("modbus", "input", {**NETWORK, "host": host})["host"] == host


@pytest.mark.parametrize("host", ["plc", "192.0.2.256", "192.0.2.7:502", "fe80::1%eth0", "[::1]", 3, None])
def test_a_host_is_no_name(host: object) -> None:
    """A resolver may take seconds to answer, and the loop would stand still for them."""
    assert refused({**NETWORK, "host": host}).key in {"host", "port"}


def test_a_contact_is_known_by_having_no_quantity() -> None:
    assert "quantity" not in check_settings("modbus", "input", CONTACT)
    assert check_settings("modbus", "input", LEAST)["quantity"] == "range_m"


def test_a_connection_has_an_address_and_no_path() -> None:
    settings = check_settings("modbus", "input", NETWORK, folder="/etc/warden")
    assert settings["port"] == ""
    assert device_path("modbus", settings) is None
    assert address("modbus", "input", settings) == "192.0.2.7:502 unit 0 register 12"
    assert device_names({"range": DeviceSpec("modbus", settings)}) == ("modbus 192.0.2.7:502",)


def test_a_port_is_relative_to_the_plan() -> None:
    settings = check_settings("modbus", "input", {**LEAST, "port": "tty"}, folder="/etc/warden")
    assert settings["port"] == device_path("modbus", settings) == "/etc/warden/tty"
