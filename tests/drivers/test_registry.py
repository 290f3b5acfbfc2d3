"""The table of drivers: what a plan may name, what shares a line, what gets built."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.core.plan import DeviceSpec
from drivers import registry
from drivers.base import DriverError, SettingsError
from drivers.registry import DRIVERS
from drivers.serial_node.device import SerialNode
from tests.drivers.hosts import FakeHost

GOOD: dict[tuple[str, str], dict[str, object]] = {
    ("serial_node", "input"): {"port": "/dev/ttyUSB0", "bit": 3},
    ("serial_node", "output"): {"port": "/dev/ttyUSB0"},
    ("gpio", "input"): {"chip": "/dev/gpiochip0", "line": 17},
    ("gpio", "output"): {"chip": "/dev/gpiochip0", "line": 17},
    ("modbus", "input"): {
        "port": "/dev/ttyUSB1",
        "unit": 3,
        "register": 12,
        "scale": 0.001,
        "quantity": "range_m",
    },
}
"""The least a plan must say of each, as in PROTOCOL 8."""
GOOD |= {
    ("serial_contact", "input"): {"port": "/dev/ttyUSB2"},
    ("serial_contact", "output"): {"port": "/dev/ttyUSB2"},
    ("vsc", "input"): {"port": "/dev/ttyUSB3"},
    ("sim", "input"): {},
    ("sim", "output"): {},
    ("robot_link", "input"): {"key": "battery_pct", "quantity": "battery_pct"},
}

ON_A_PORT = [(kind, role) for kind, role in GOOD if kind in {"serial_node", "serial_contact", "vsc", "gpio"}]
"""Those that must name the path of their device."""

ROLES = [(kind, role) for kind, row in DRIVERS.items() for role in row.roles]


def checked(kind: str, role: str, **changes: object) -> dict[str, object]:
    return registry.check_settings(kind, role, {**GOOD[kind, role], **changes})


def spec(kind: str, role: str, **changes: object) -> DeviceSpec:
    return DeviceSpec(kind, checked(kind, role, **changes))


def test_every_role_of_every_kind_is_tried_here() -> None:
    assert sorted(GOOD) == sorted(ROLES)


@pytest.mark.parametrize(("kind", "role"), ROLES)
def test_what_the_protocol_s_plan_says_is_accepted(kind: str, role: str) -> None:
    settings = checked(kind, role)
    assert settings.items() >= GOOD[kind, role].items()
    assert json.loads(json.dumps(settings)) == settings
    assert registry.check_settings(kind, role, settings) == settings


@pytest.mark.parametrize(("kind", "role"), ROLES)
def test_every_setting_is_checked_for_its_type(kind: str, role: str) -> None:
    for key in checked(kind, role):
        with pytest.raises(SettingsError) as caught:
            checked(kind, role, **{key: {"a": 1}})
        assert (caught.value.kind, caught.value.key) == (kind, key)
        assert caught.value.bound.startswith("must be ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("kind", "role"), ROLES)
def test_an_unknown_key_is_refused(kind: str, role: str) -> None:
    with pytest.raises(SettingsError) as caught:
        checked(kind, role, colour="red")
    assert caught.value.key == "colour"
    assert caught.value.bound.startswith("unknown key; known are ")
    known = caught.value.bound.removeprefix("unknown key; known are ").split(", ")
    assert set(checked(kind, role)) <= set(known)


@pytest.mark.parametrize(("kind", "role"), ON_A_PORT)
def test_a_missing_key_is_named(kind: str, role: str) -> None:
    with pytest.raises(SettingsError) as caught:
        registry.check_settings(kind, role, {})
    assert caught.value.key == DRIVERS[kind].path_key
    assert caught.value.bound == "is missing; it must be a path of 1 to 255 characters"


@pytest.mark.parametrize("path", ["", "x" * 256, "/dev/tty\0", "/dev/tty\n", 3])
@pytest.mark.parametrize(("kind", "role"), ON_A_PORT)
def test_a_path_is_a_path(kind: str, role: str, path: object) -> None:
    with pytest.raises(SettingsError) as caught:
        checked(kind, role, **{DRIVERS[kind].path_key: path})
    assert caught.value.bound.startswith("must be a path of 1 to 255 characters, is ")
    assert len(str(caught.value)) < 160
    assert str(caught.value).isprintable()


def test_an_unknown_kind_is_refused() -> None:
    for refused in (
        lambda: registry.check_settings("lidar", "input", {}),
        lambda: registry.address("lidar", "input", {}),
        lambda: registry.device_path("lidar", {}),
    ):
        with pytest.raises(SettingsError) as caught:
            refused()
        assert caught.value.key == "driver"
        assert caught.value.bound == f"unknown; known are {', '.join(sorted(DRIVERS))}"


def test_a_role_that_the_kind_has_not_is_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        registry.check_settings("modbus", "output", GOOD["modbus", "input"])
    assert (caught.value.key, caught.value.bound) == ("driver", "cannot be an output")


def test_a_relative_path_is_the_plan_s_folder_s(tmp_path: Path) -> None:
    settings = {"port": "run/../node.tty"}
    found = registry.check_settings("serial_node", "output", settings, folder=tmp_path)
    assert found["port"] == str(tmp_path / "node.tty")
    assert registry.check_settings("serial_node", "output", settings)["port"] == "run/../node.tty"
    absolute = registry.check_settings("gpio", "input", GOOD["gpio", "input"], folder=tmp_path)
    assert absolute["chip"] == "/dev/gpiochip0"


@pytest.mark.parametrize(
    ("kind", "role", "line"),
    [
        ("serial_node", "input", "/dev/ttyUSB0 bit 3"),
        ("serial_node", "output", "/dev/ttyUSB0 relay"),
        ("gpio", "output", "/dev/gpiochip0 line 17"),
        ("modbus", "input", "/dev/ttyUSB1 unit 3 register 12"),
    ],
)
def test_addresses(kind: str, role: str, line: str) -> None:
    assert registry.address(kind, role, GOOD[kind, role]) == line


def test_one_relay_under_two_names_has_one_address(tmp_path: Path) -> None:
    (tmp_path / "port").touch()
    (tmp_path / "link").symlink_to(tmp_path / "port")
    names = [{"port": str(tmp_path / name)} for name in ("port", "link")]
    assert len({registry.address("serial_node", "output", settings) for settings in names}) == 1


def test_device_paths() -> None:
    assert registry.device_path("serial_node", GOOD["serial_node", "input"]) == "/dev/ttyUSB0"
    assert registry.device_path("gpio", GOOD["gpio", "output"]) == "/dev/gpiochip0"
    assert registry.device_path("gpio", {}) is None


def test_describe_is_data_and_whole() -> None:
    rows = {row["kind"]: row for row in registry.describe()}
    assert json.loads(json.dumps(rows)) == rows
    assert rows.keys() == DRIVERS.keys()
    assert all(row["built_in"] for row in rows.values())
    for kind, role in ROLES:
        fields = {field["key"]: field for field in rows[kind]["roles"][role]}
        assert fields.keys() >= checked(kind, role).keys()
        assert all(field["takes"] and field["description"] for field in fields.values())
        assert {key for key, field in fields.items() if field["required"]} <= GOOD[kind, role].keys()


# ------------------------------------------------------------------------------------------- what shares what


def test_two_outputs_on_one_line_are_refused() -> None:
    relay = spec("serial_node", "output")
    with pytest.raises(DriverError, match="is given one line by 'a' and by 'b'") as caught:
        registry.check_sharing({}, {"a": relay, "b": relay})
    assert caught.value.port == "/dev/ttyUSB0 relay"


def test_an_input_and_an_output_on_one_line_are_refused() -> None:
    with pytest.raises(DriverError, match="is given one line by 'in' and by 'out'"):
        registry.check_sharing({"in": spec("gpio", "input")}, {"out": spec("gpio", "output")})


def test_two_inputs_may_look_at_one_line() -> None:
    registry.check_sharing({"a": spec("gpio", "input"), "b": spec("gpio", "input")}, {})


def test_entries_of_one_port_must_agree_on_its_speed() -> None:
    inputs = {"estop": spec("serial_node", "input")}
    with pytest.raises(DriverError, match="is given baud 115200 and 57600 on one device") as caught:
        registry.check_sharing(inputs, {"relay": spec("serial_node", "output", baud=57600)})
    assert (caught.value.driver, caught.value.port) == ("serial_node", "/dev/ttyUSB0")


def test_entries_of_two_ports_need_not_agree() -> None:
    inputs = {"estop": spec("serial_node", "input", port="/dev/ttyUSB7")}
    registry.check_sharing(inputs, {"relay": spec("serial_node", "output", baud=57600)})


# -------------------------------------------------------------------------------------------- what gets built


def test_entries_of_one_port_become_one_device() -> None:
    devices, inputs, outputs = registry.build_devices(
        {"estop": spec("serial_node", "input"), "bumper": spec("serial_node", "input", bit=4)},
        {"relay": spec("serial_node", "output"), "other": spec("serial_node", "output", port="/dev/ttyUSB2")},
        FakeHost(),
    )
    assert [device.name for device in devices] == ["serial_node /dev/ttyUSB0", "serial_node /dev/ttyUSB2"]
    assert all(isinstance(device, SerialNode) for device in devices)
    assert inputs == {"estop": devices[0], "bumper": devices[0]}
    assert outputs == {"relay": devices[0], "other": devices[1]}


def test_two_names_of_one_port_become_one_device_under_the_first(tmp_path: Path) -> None:
    (tmp_path / "port").touch()
    (tmp_path / "link").symlink_to(tmp_path / "port")
    devices, _, _ = registry.build_devices(
        {"estop": spec("serial_node", "input", port=str(tmp_path / "link"))},
        {"relay": spec("serial_node", "output", port=str(tmp_path / "port"))},
        FakeHost(),
    )
    assert [device.name for device in devices] == [f"serial_node {tmp_path / 'link'}"]


def test_nothing_to_build() -> None:
    assert registry.build_devices({}, {}, FakeHost()) == ([], {}, {})


def test_a_kind_that_is_not_built_in_stops_the_build_before_it_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = FakeHost()
    without = {**DRIVERS, "gpio": replace(DRIVERS["gpio"], factory=None)}
    monkeypatch.setattr(registry, "DRIVERS", without)
    with pytest.raises(DriverError) as caught:
        registry.build_devices(
            {"estop": spec("serial_node", "input")}, {"relay_b": spec("gpio", "output")}, host
        )
    assert str(caught.value) == (
        "driver 'gpio' is not built into this version, yet 'relay_b' asks for it (/dev/gpiochip0)"
    )
    assert not host.watched


def test_a_kind_that_nobody_knows_stops_the_build() -> None:
    with pytest.raises(DriverError, match="driver 'lidar' is not known, yet 'front' asks for it"):
        registry.build_devices({"front": DeviceSpec("lidar", {})}, {}, FakeHost())


def test_a_shared_line_stops_the_build() -> None:
    relay = spec("serial_node", "output")
    with pytest.raises(DriverError, match="is given one line"):
        registry.build_devices({}, {"a": relay, "b": relay}, FakeHost())


def test_devices_are_built_without_pydantic() -> None:
    """`reflex` builds from checked settings; what only checks them must not be loaded there."""
    script = (
        "import sys\n"
        "from agent.core.plan import DeviceSpec\n"
        "from drivers.registry import build_devices\n"
        "settings = {'port': '/dev/ttyUSB0', 'baud': 115200, 'usb_serial': '',"
        "'stale_ms': 50, 'bit': 0}\n"
        "devices, _, _ = build_devices({'estop': DeviceSpec('serial_node', settings)}, {}, None)\n"
        "print(len(devices), 'pydantic' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "1 False\n"
