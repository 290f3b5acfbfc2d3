"""The one table of robot adapters, and what is done with it: check a plan's entries, build its adapters.

As with the drivers, settings models (pydantic) and each kind's own library are imported only where they
are used.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, TypeAlias, TypedDict

from drivers.adapters.base import Adapter, Surroundings
from drivers.base import DriverError, SettingsError
from drivers.registry import FieldWords

MAX_ARGS: Final = 4096
"""Bytes of a step's arguments as JSON: half of the largest packet on the robot link (PROTOCOL 2)."""
_MODELS: Final = "drivers.adapters.settings:"

Settings: TypeAlias = Mapping[str, object]
Factory: TypeAlias = Callable[[str, Settings, Surroundings], Adapter]
"""(name, checked settings, surroundings) -> adapter, at rest. Raises DriverError where the machine lacks what
the settings name."""


@dataclass(frozen=True, slots=True)
class AdapterKind:
    """One row of the table."""

    kind: str
    summary: str
    model: str
    """Settings model, "module:name"."""
    args_model: str
    """Model of a step's arguments, "module:name"."""
    factory: Factory


def _link(name: str, settings: Settings, around: Surroundings) -> Adapter:
    from drivers.adapters.link import LinkAdapter

    return LinkAdapter(name, settings, around)


def _process(name: str, settings: Settings, around: Surroundings) -> Adapter:
    from drivers.adapters.process import ProcessAdapter

    return ProcessAdapter(name, settings, around)


def _systemd(name: str, settings: Settings, around: Surroundings) -> Adapter:
    from drivers.adapters.systemd import SystemdAdapter

    return SystemdAdapter(name, settings, around)


def _http(name: str, settings: Settings, around: Surroundings) -> Adapter:
    from drivers.adapters.http import HttpAdapter

    return HttpAdapter(name, settings, around)


def _command(name: str, settings: Settings, around: Surroundings) -> Adapter:
    from drivers.adapters.command import CommandAdapter

    return CommandAdapter(name, settings, around)


ADAPTERS: Mapping[str, AdapterKind] = {
    row.kind: row
    for row in (
        AdapterKind(
            kind="link",
            summary="The robot's own software, over the robot link (PROTOCOL 2)",
            model=f"{_MODELS}LinkSettings",
            args_model=f"{_MODELS}LinkArgs",
            factory=_link,
        ),
        AdapterKind(
            kind="process",
            summary="Processes of this machine: freeze, thaw, stop, kill, by signals to pidfds",
            model=f"{_MODELS}ProcessSettings",
            args_model=f"{_MODELS}ProcessArgs",
            factory=_process,
        ),
        AdapterKind(
            kind="systemd",
            summary="A unit of this machine's systemd: freeze, thaw, stop, kill, cut its network, over D-Bus",
            model=f"{_MODELS}SystemdSettings",
            args_model=f"{_MODELS}SystemdArgs",
            factory=_systemd,
        ),
        AdapterKind(
            kind="http",
            summary="One HTTP call with a checked answer",
            model=f"{_MODELS}HttpSettings",
            args_model=f"{_MODELS}NoArgs",
            factory=_http,
        ),
        AdapterKind(
            kind="command",
            summary="One program with fixed arguments, never a shell",
            model=f"{_MODELS}CommandSettings",
            args_model=f"{_MODELS}NoArgs",
            factory=_command,
        ),
    )
}


def check_adapter(kind: str, settings: Settings) -> dict[str, object]:
    """The settings of one adapter, checked whole, with every default filled in; plain JSON-able values.

    Raises SettingsError, naming the first key that is unknown, missing, of the wrong type or out of range.
    """
    from drivers import checking

    return checking.check(_load(_row(kind).model), kind, settings)


def check_args(kind: str, args: Settings) -> dict[str, object]:
    """The arguments of one step for an adapter of this kind, checked alike. Raises SettingsError."""
    from drivers import checking

    checked = checking.check(_load(_row(kind).args_model), kind, args)
    try:  # on what the plan says: a model would quietly make null of a number that is none
        size = len(json.dumps(dict(args), allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError):
        raise SettingsError(kind, "args", "must be plain JSON values") from None
    if size > MAX_ARGS:
        raise SettingsError(kind, "args", f"must be at most {MAX_ARGS} bytes as JSON, are {size}")
    return checked


def build_adapter(name: str, kind: str, settings: Settings, around: Surroundings) -> Adapter:
    """The adapter that the plan calls `name`, at rest; settings are as `check_adapter` gave them.

    Raises DriverError for a kind that is not known, or where this machine lacks what the settings name.
    """
    row = ADAPTERS.get(kind)
    if row is None:
        raise DriverError(kind, "", f"is no adapter, yet {name!r} asks for it")
    return row.factory(f"{kind} {name}", settings, around)


class AdapterWords(TypedDict):
    """One kind, its settings and the arguments of its steps."""

    kind: str
    summary: str
    settings: list[FieldWords]
    args: list[FieldWords]


def describe() -> list[AdapterWords]:
    """Every kind as JSON-able data, for `warden drivers`."""
    from drivers import checking

    return [
        {
            "kind": row.kind,
            "summary": row.summary,
            "settings": checking.describe(_load(row.model)),
            "args": checking.describe(_load(row.args_model)),
        }
        for row in ADAPTERS.values()
    ]


def _row(kind: str) -> AdapterKind:
    if kind not in ADAPTERS:
        raise SettingsError(kind, "adapter", f"unknown; known are {', '.join(sorted(ADAPTERS))}")
    return ADAPTERS[kind]


def _load(path: str) -> Any:  # noqa: ANN401 - a model class, known only by its path
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
