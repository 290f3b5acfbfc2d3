"""The one table of drivers: kind -> settings models, factory, and what of it the plan's check must know.

Settings models (pydantic) and devices (pyserial, gpiod) are named here and imported only where they are used.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from drivers.base import Device, Host

INPUT: Final = "input"
OUTPUT: Final = "output"

Settings: TypeAlias = Mapping[str, object]


class Wanted(NamedTuple):
    """One input or output of the plan as its device gets it: checked, JSON-able settings."""

    name: str
    settings: Settings


Factory: TypeAlias = Callable[[str, Sequence[Wanted], Sequence[Wanted], Host], Device]
"""(path, inputs, outputs, host) -> device, not yet opened."""


@dataclass(frozen=True, slots=True)
class RoleEntry:
    """How a kind serves as input or as output."""

    model: str
    """Settings model, "module:name"."""
    line: str
    """The line on the device that an entry occupies, formatted with its settings."""


@dataclass(frozen=True, slots=True)
class DriverKind:
    """One row of the table."""

    kind: str
    summary: str
    roles: Mapping[str, RoleEntry]
    path_key: str
    """The setting that holds the path of the device; entries with one kind and path are one device. "" for a
    kind without any."""
    shared_keys: tuple[str, ...]
    """Settings on which all entries of one device must agree."""
    factory: Factory | None
    """None: a plan may name the kind, but this version cannot build it."""
    exclusive: bool = True
    """One process opens the device for itself; False where two may hold different lines of it."""
    network_keys: tuple[str, ...] = ()
    """The settings that say where the device is when its path is empty: address, port."""
    identity_key: str = ""
    """The setting with the USB serial number that the device must have; "" for a kind without any."""
    claims: str = ""
    """Where an entry takes several lines: what it takes, "module:function" of (role, settings) -> claims
    (`drivers.claims`). "": the line of its role alone."""


def _serial_node(path: str, inputs: Sequence[Wanted], outputs: Sequence[Wanted], host: Host) -> Device:
    from drivers.serial_node.device import build

    return build(path, inputs, outputs, host)


def _gpio(path: str, inputs: Sequence[Wanted], outputs: Sequence[Wanted], host: Host) -> Device:
    from drivers.gpio.wiring import build

    return build(path, inputs, outputs, host)


def _serial_contact(path: str, inputs: Sequence[Wanted], outputs: Sequence[Wanted], host: Host) -> Device:
    from drivers.serial_contact.device import build

    return build(path, inputs, outputs, host)


def _vsc(path: str, inputs: Sequence[Wanted], _outputs: Sequence[Wanted], host: Host) -> Device:
    from drivers.vsc.device import build

    return build(path, inputs, host)


def _sim(path: str, inputs: Sequence[Wanted], outputs: Sequence[Wanted], host: Host) -> Device:
    from drivers.sim.device import Sim

    return Sim(path, inputs, outputs, host)


def _modbus(path: str, inputs: Sequence[Wanted], _outputs: Sequence[Wanted], host: Host) -> Device:
    from drivers.modbus.device import build

    return build(path, inputs, host)


def _robot_link(_path: str, inputs: Sequence[Wanted], _outputs: Sequence[Wanted], host: Host) -> Device:
    from drivers.telemetry.device import build

    return build(inputs, host)


DRIVERS: Mapping[str, DriverKind] = {
    row.kind: row
    for row in (
        DriverKind(
            kind="serial_node",
            summary="Safety node on a serial line: 16 two-channel contacts and a relay (PROTOCOL 4)",
            roles={
                INPUT: RoleEntry("drivers.serial_node.settings:InputSettings", "bit {bit}"),
                OUTPUT: RoleEntry("drivers.serial_node.settings:OutputSettings", "relay"),
            },
            path_key="port",
            shared_keys=("baud", "usb_serial"),
            factory=_serial_node,
            identity_key="usb_serial",
        ),
        DriverKind(
            kind="serial_contact",
            summary="Two contacts and a relay drive on the modem lines of a serial port (PROTOCOL 4)",
            roles={
                INPUT: RoleEntry("drivers.serial_contact.settings:InputSettings", "CTS and DSR"),
                OUTPUT: RoleEntry("drivers.serial_contact.settings:OutputSettings", "RTS"),
            },
            path_key="port",
            shared_keys=(),
            factory=_serial_contact,
        ),
        DriverKind(
            kind="vsc",
            summary="Wireless e-stop: a vehicle safety controller on a serial line (PROTOCOL 4)",
            roles={INPUT: RoleEntry("drivers.vsc.settings:InputSettings", "stop")},
            path_key="port",
            shared_keys=(),
            factory=_vsc,
        ),
        DriverKind(
            kind="sim",
            summary="Simulated contacts, quantities and relays, for trying a plan without hardware",
            roles={
                INPUT: RoleEntry("drivers.sim.settings:InputSettings", "input"),
                OUTPUT: RoleEntry("drivers.sim.settings:OutputSettings", "relay {relay}"),
            },
            path_key="panel",
            shared_keys=(),
            factory=_sim,
            exclusive=False,
        ),
        DriverKind(
            kind="gpio",
            summary="Lines of a GPIO chip: one- or two-channel contacts, relay lines, pulse trains",
            roles={
                INPUT: RoleEntry("drivers.gpio.settings:InputSettings", "line {line}"),
                OUTPUT: RoleEntry("drivers.gpio.settings:OutputSettings", "line {line}"),
            },
            path_key="chip",
            shared_keys=("label",),
            factory=_gpio,
            exclusive=False,
            claims="drivers.gpio.claims:claims",
        ),
        DriverKind(
            kind="modbus",
            summary="Registers or bits of sensors on a Modbus line, serial (RTU) or TCP",
            roles={
                INPUT: RoleEntry("drivers.modbus.settings:InputSettings", "unit {unit} register {register}")
            },
            path_key="port",
            shared_keys=("baud", "parity"),
            factory=_modbus,
            network_keys=("host", "tcp_port"),
        ),
        DriverKind(
            kind="robot_link",
            summary="What the robot's own software tells over the robot link (PROTOCOL 2)",
            roles={INPUT: RoleEntry("drivers.telemetry.settings:InputSettings", "telemetry {key}")},
            path_key="",
            shared_keys=(),
            factory=_robot_link,
        ),
    )
}
