"""What is done with the one table of drivers: check a plan's entries, build its devices.

Settings models (pydantic) and devices (pyserial) are imported only where they are used, so that `reflex` runs
without pydantic: what `warden check` has validated is handed over as plain data.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeAlias, TypedDict

from agent.core.plan import DeviceSpec
from drivers.base import Device, DriverError, Host, SettingsError
from drivers.table import DRIVERS, INPUT, OUTPUT, DriverKind, Factory, RoleEntry, Settings, Wanted

__all__ = [
    "DRIVERS",
    "DriverError",
    "DriverKind",
    "FieldWords",
    "KindWords",
    "RoleEntry",
    "SettingsError",
    "Wanted",
    "address",
    "build_devices",
    "check_settings",
    "check_sharing",
    "describe",
    "device_names",
    "device_path",
    "real_path",
    "row_of",
]

ENTRY_POINTS: Final = "robot_warden.drivers"
"""Where a third party's package adds a kind: the name is the kind, the object a `DriverKind`."""

Specs: TypeAlias = Mapping[str, DeviceSpec]
"""Name in the plan -> driver and checked settings."""


# ------------------------------------------------------------------------------------ one entry of a plan


def check_settings(
    kind: str, role: str, settings: Settings, *, folder: str | os.PathLike[str] | None = None
) -> dict[str, object]:
    """The settings of one entry, checked whole, with every default filled in; plain JSON-able values.

    `role`: "input" or "output". `folder`: the plan's folder, on which a device's relative path is resolved;
    None leaves it as it is. Raises SettingsError, naming the first key that is unknown, missing, of the wrong
    type or out of range.
    """
    from drivers import checking

    row = row_of(kind)
    checked = checking.check(_load(_role(row, role).model), kind, settings)
    if folder is not None and checked.get(row.path_key):
        checked[row.path_key] = os.path.normpath(Path(folder, str(checked[row.path_key])))
    return checked


def address(kind: str, role: str, settings: Settings) -> str:
    """The physical line of checked settings: "/dev/ttyUSB0 relay", "/dev/gpiochip0 line 17".

    Links are followed where they exist, so that one relay under two names is seen to be one.
    """
    return f"{real_path(kind, settings)} {_role(row_of(kind), role).line.format(**settings)}".lstrip()


def real_path(kind: str, settings: Settings) -> str:
    """Where the device really is, links followed: "/dev/ttyUSB0"; "" for a kind without any place."""
    return _real_path(row_of(kind), settings)


def device_path(kind: str, settings: Settings) -> str | None:
    """The file that must exist for the device to be there; None where the settings name none."""
    path = settings.get(row_of(kind).path_key)
    return str(path) if path else None


class FieldWords(TypedDict):
    """One setting: type and range in words, and what it is for. `default` is None where one is required."""

    key: str
    takes: str
    required: bool
    default: object
    description: str


class KindWords(TypedDict):
    """One kind, its settings by role."""

    kind: str
    summary: str
    built_in: bool
    roles: dict[str, list[FieldWords]]


def describe() -> list[KindWords]:
    """Every kind as JSON-able data, for `warden drivers`."""
    from drivers import checking

    return [
        {
            "kind": row.kind,
            "summary": row.summary,
            "built_in": row.factory is not None,
            "roles": {role: checking.describe(_load(entry.model)) for role, entry in row.roles.items()},
        }
        for row in (*DRIVERS.values(), *(row_of(name) for name in sorted(_foreign_names() - DRIVERS.keys())))
    ]


# ------------------------------------------------------------------------------------ all entries together


def check_sharing(inputs: Specs, outputs: Specs) -> None:
    """Refuse a line that an output would share, and entries of one device that disagree on it.

    Two inputs may look at one line. Raises DriverError.
    """
    taken = {address(spec.driver, INPUT, spec.settings): name for name, spec in inputs.items()}
    for name, spec in outputs.items():
        line = address(spec.driver, OUTPUT, spec.settings)
        if line in taken:
            raise DriverError(spec.driver, line, f"is given one line by {taken[line]!r} and by {name!r}")
        taken[line] = name
    for group in _groups(inputs, outputs):
        group.check_agreement()


def device_names(specs: Specs) -> tuple[str, ...]:
    """The names of the devices behind some entries, as `Device.name` will say them; each once."""
    places = ((spec.driver, _place(row_of(spec.driver), spec.settings)) for spec in specs.values())
    return tuple(dict.fromkeys(f"{driver} {place}".rstrip() for driver, place in places))


def build_devices(
    inputs: Specs, outputs: Specs, host: Host
) -> tuple[list[Device], dict[str, Device], dict[str, Device]]:
    """All devices, and the device of each input and of each output by name. Nothing is opened yet.

    Settings are as `check_settings` gave them. Entries with one kind and path become one device.
    Raises DriverError before the first device is built.
    """
    for name, spec in (*inputs.items(), *outputs.items()):
        _factory(name, spec.driver, spec.settings)
    check_sharing(inputs, outputs)
    devices: list[Device] = []
    by_input: dict[str, Device] = {}
    by_output: dict[str, Device] = {}
    for group in _groups(inputs, outputs):
        device = group.build(host)
        devices.append(device)
        by_input.update((wanted.name, device) for wanted in group.inputs)
        by_output.update((wanted.name, device) for wanted in group.outputs)
    return devices, by_input, by_output


@dataclass(slots=True)
class _Group:
    """The entries that one device will serve."""

    row: DriverKind
    path: str
    inputs: list[Wanted]
    outputs: list[Wanted]

    def check_agreement(self) -> None:
        for key in self.row.shared_keys:
            values = {str(wanted.settings[key]) for wanted in (*self.inputs, *self.outputs)}
            if len(values) > 1:
                reason = f"is given {key} {' and '.join(sorted(values))} on one device"
                raise DriverError(self.row.kind, self.path, reason)

    def build(self, host: Host) -> Device:
        first = (*self.inputs, *self.outputs)[0]
        factory = _factory(first.name, self.row.kind, first.settings)
        return factory(self.path, self.inputs, self.outputs, host)


def _groups(inputs: Specs, outputs: Specs) -> list[_Group]:
    groups: dict[tuple[str, str], _Group] = {}
    for role, name, spec in _entries(inputs, outputs):
        row = row_of(spec.driver)
        # The plan's spelling is kept for opening: a udev link stays good when the port comes back renumbered.
        new = _Group(row, _place(row, spec.settings), [], [])
        group = groups.setdefault((row.kind, _real_path(row, spec.settings)), new)
        (group.inputs if role == INPUT else group.outputs).append(Wanted(name, spec.settings))
    return list(groups.values())


def _entries(inputs: Specs, outputs: Specs) -> Iterator[tuple[str, str, DeviceSpec]]:
    yield from ((INPUT, name, spec) for name, spec in inputs.items())
    yield from ((OUTPUT, name, spec) for name, spec in outputs.items())


def _factory(name: str, kind: str, settings: Settings) -> Factory:
    row = DRIVERS.get(kind)
    if row is None:
        raise DriverError(kind, "", f"is not known, yet {name!r} asks for it")
    if row.factory is None:
        reason = f"is not built into this version, yet {name!r} asks for it"
        raise DriverError(kind, str(settings.get(row.path_key, "")), reason)
    return row.factory


def _real_path(row: DriverKind, settings: Settings) -> str:
    return os.path.realpath(_place(row, settings)) if settings.get(row.path_key) else _place(row, settings)


def _place(row: DriverKind, settings: Settings) -> str:
    """Where the device is, as the plan says it: its path, or else its address; "" for a kind without any."""
    path = settings.get(row.path_key)
    return str(path) if path else ":".join(str(settings[key]) for key in row.network_keys)


def row_of(kind: str) -> DriverKind:
    """The row of a kind: the table's own, or a third party's by entry point; SettingsError for no kind."""
    row = DRIVERS.get(kind) or _foreign(kind)
    if row is None:
        raise SettingsError(
            kind, "driver", f"unknown; known are {', '.join(sorted({*DRIVERS, *_foreign_names()}))}"
        )
    return row


def _foreign(kind: str) -> DriverKind | None:
    """A kind that another package brings: entry point group `robot_warden.drivers`, name = kind.

    What it names is a `DriverKind`. The table's own kinds cannot be replaced: a package that is installed
    for something else must not become the e-stop's driver.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS, name=kind):
        row = point.load()
        if not isinstance(row, DriverKind) or row.kind != kind:
            raise DriverError(kind, "", f"of {point.value} is no DriverKind of this name")
        return row
    return None


def _foreign_names() -> set[str]:
    from importlib.metadata import entry_points

    return {point.name for point in entry_points(group=ENTRY_POINTS)}


def _role(row: DriverKind, role: str) -> RoleEntry:
    if role not in row.roles:
        raise SettingsError(row.kind, "driver", f"cannot be an {role}")
    return row.roles[role]


def _load(path: str) -> Any:  # noqa: ANN401 - a model class, known only by its path
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
