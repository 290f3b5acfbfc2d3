"""The plan's inputs and outputs against the drivers' own rules: settings, lines, ports, channels."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.config.errors import Problem
from agent.config.model import PlanModel
from drivers import registry
from drivers.claims import Taken, claims_of, clashes
from drivers.usb import mismatch, number_at


@dataclass(frozen=True, slots=True)
class Entry:
    """One input or output whose settings its driver accepts. `channel`: whose process opens it."""

    key: str
    role: str
    name: str
    channel: str
    driver: str
    settings: dict[str, object]


def check_entries(model: PlanModel, folder: Path) -> tuple[list[Entry], list[Problem]]:
    """Every entry that is good by itself, and what is wrong with the others."""
    entries: list[Entry] = []
    problems: list[Problem] = []
    for role, name, channel, driver, given in _given(model):
        key = f"{role}s.{name}"
        try:
            settings = registry.check_settings(driver, role, given, folder=folder)
        except registry.SettingsError as error:
            problems.append(Problem(f"{key}.{error.key}", error.bound))
        else:
            entries.append(Entry(key, role, name, channel, driver, settings))
    return entries, problems


def _given(model: PlanModel) -> Iterator[tuple[str, str, str, str, dict[str, object]]]:
    for name, item in model.inputs.items():
        yield "input", name, "reflex", item.driver, dict(item.model_extra or {})
    for name, out in model.outputs.items():
        yield "output", name, out.channel, out.driver, dict(out.model_extra or {})


def check_together(entries: list[Entry]) -> Iterator[Problem]:
    """One line takes one output, and one device belongs to one channel: the two fail separately (5.5(b))."""
    ordered = sorted(entries, key=lambda entry: entry.role)  # inputs first: an output never takes one's line
    devices: dict[str, Entry] = {}
    for address, first, second, why in clashes([taken for entry in ordered for taken in _taken(entry)]):
        yield Problem(second.key, f"same line as {first.key}: {address}; {why}")
    for entry in ordered:
        row = registry.row_of(entry.driver)
        path = registry.device_path(entry.driver, entry.settings)
        if path is not None:
            first_entry = devices.setdefault(os.path.realpath(path), entry)
            yield from _check_shared(first_entry, entry, path, row)


def _taken(entry: Entry) -> Iterator[tuple[str, Taken]]:
    place = registry.real_path(entry.driver, entry.settings)
    for claim in claims_of(registry.row_of(entry.driver), entry.role, entry.settings):
        yield f"{place} {claim.line}".lstrip(), Taken(entry.key, entry.channel, claim)


def _check_shared(first: Entry, entry: Entry, path: str, row: registry.DriverKind) -> Iterator[Problem]:
    if row.exclusive and first.channel != entry.channel:
        yield Problem(
            entry.key, f"{path} belongs to {first.channel} ({first.key}); each channel needs its own"
        )
    if first.driver != entry.driver:
        yield Problem(f"{entry.key}.driver", f"{path} is a {first.driver} already ({first.key})")
        return
    for key in row.shared_keys:
        if entry.settings[key] != first.settings[key]:
            yield Problem(
                f"{entry.key}.{key}",
                f"must be {first.settings[key]!r} as in {first.key}: they are one device",
            )


def check_present(entries: list[Entry], sysfs: Path) -> Iterator[Problem]:
    """What only the robot can know: that the devices are there, and are those that the plan means."""
    for entry in entries:
        path = registry.device_path(entry.driver, entry.settings)
        if registry.row_of(entry.driver).factory is None:
            yield Problem(f"{entry.key}.driver", f"{entry.driver!r} is not built into this version")
        elif path is not None and not _is_there(path):
            where = registry.row_of(entry.driver).path_key
            yield Problem(f"{entry.key}.{where}", f"{path} does not exist")
        elif path is not None:
            yield from _check_identity(entry, path, sysfs)


def _check_identity(entry: Entry, path: str, sysfs: Path) -> Iterator[Problem]:
    """That the device at the path is the one whose USB serial number the plan gives, where it gives one."""
    key = registry.row_of(entry.driver).identity_key
    expected = str(entry.settings[key]) if key else ""
    found = number_at(path, sysfs) if expected else ""
    if found != expected:
        yield Problem(f"{entry.key}.{key}", f"{mismatch(expected, found)} behind {path}")


def _is_there(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # a folder that may not be read, a name too long for any file
        return False
