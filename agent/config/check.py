"""From the plan file to the checked `Plan`: parse, validate, look at the devices and files it names."""

import hashlib
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import ValidationError

from agent.config.adapters import check_adapters
from agent.config.broker import broker_address
from agent.config.build import build_plan
from agent.config.devices import check_entries, check_present, check_together
from agent.config.errors import ConfigError, Problem
from agent.config.model import ConditionModel, InputModel, PlanModel
from agent.config.recording import check_recorder, check_recorder_files
from agent.core.causes import EVENTS, FIXED_CLEAR, Clear, built_in_rows, floors
from agent.core.plan import Plan
from agent.core.responses import by_label
from drivers.usb import SYSFS

MAX_PLAN_BYTES = 1 << 20
"""A plan is written and reviewed by people (clause 5.2(a)); a megabyte is no plan."""
MAX_LINE = 4096
"""Longer than an area of 100 corners on one line; what a parser needs for one line grows with its square."""
MAX_LEVELS = 8
"""The deepest a plan goes is five: a number in a corner of `envelope.area`."""


def load_plan(
    path: Path, *, offline: bool = False, module: str = "", simulate: bool = False, sysfs: Path = SYSFS
) -> Plan:
    """The checked plan. Raises ConfigError with every problem found.

    `offline`: leave out what can only be known on the robot: ports, key files, users. `module`: look only at
    the ports and files that this module opens; under users of their own, one cannot read another's keys.
    `simulate`: no device is opened, so none need be there. `sysfs`: where the kernel tells which is which.
    """
    raw = _read(path)
    model = _parse(path, raw)
    entries, problems = check_entries(model, path.parent.resolve())
    adapters, wrong = check_adapters(model)
    problems += [*wrong, *check_together(entries), *_check_conditions(model), *_check_timezone(model)]
    problems += [*_check_remote(model), *check_recorder(model)]
    if not offline:
        opened = [entry for entry in entries if module in ("", entry.channel)]
        problems += [] if simulate else check_present(opened, sysfs)
        problems += _check_files(model, path.parent, module)
        if module in ("", "recorder"):
            problems += check_recorder_files(model, path.parent)
    if problems:
        raise ConfigError(str(path), problems)
    return build_plan(model, entries, adapters, path, hashlib.sha256(raw).hexdigest(), offline=offline)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_PLAN_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(path), [Problem("", f"cannot be read: {error.strerror}")]) from error
    if len(raw) > MAX_PLAN_BYTES:
        raise ConfigError(str(path), [Problem("", f"larger than {MAX_PLAN_BYTES} bytes")])
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if len(line) > MAX_LINE:
            raise ConfigError(str(path), [Problem("", f"line {number} is longer than {MAX_LINE} bytes")])
    return raw


def _parse(path: Path, raw: bytes) -> PlanModel:
    try:
        data = tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), [Problem("", f"not UTF-8 at byte {error.start}")]) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(str(path), [Problem("", f"not TOML: {error}")]) from error
    problem = _unruly(data)
    if problem is not None:
        raise ConfigError(str(path), [problem])
    try:
        return PlanModel.model_validate(data)
    except ValidationError as error:
        raise ConfigError(str(path), list(_translate(error))) from error


def _unruly(data: dict[str, object]) -> Problem | None:
    """What tomllib lets through and whoever walks it breaks on.

    Dotted keys nest without end, and hexadecimal numbers have no limit (TOML promises 64 bits).
    """
    waiting: list[tuple[str, int, object]] = [("", 0, data)]
    while waiting:
        key, level, value = waiting.pop()
        if level > MAX_LEVELS:
            return Problem(key, f"nested deeper than {MAX_LEVELS} levels")
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            return Problem(key, "a whole number must fit 64 bits")
        if isinstance(value, dict):
            waiting += [(f"{key}.{name}".lstrip("."), level + 1, item) for name, item in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{key}.{number}", level + 1, item) for number, item in enumerate(value)]
    return None


def _translate(error: ValidationError) -> Iterator[Problem]:
    for item in error.errors(include_url=False, include_input=True):
        key = ".".join(str(part) for part in item["loc"])
        bound = _WORDS.get(item["type"], item["msg"].removeprefix("Value error, "))
        given = item.get("input")
        if isinstance(given, (int, float, str, bool)) and item["type"] not in _WORDS:
            bound = f"{bound} (got {given!r:.80})"
        yield Problem(key, bound)


_WORDS = {"extra_forbidden": "unknown key", "missing": "missing key"}


def _check_conditions(model: PlanModel) -> Iterator[Problem]:
    least, rows = floors(model.robot.risk), built_in_rows(model.robot.risk)
    seen: set[str] = set()
    for row in model.condition:
        key = f"condition.{row.id}"
        if row.input is not None and row.input not in model.inputs:
            yield Problem(f"{key}.input", f"no input is named {row.input!r}")
        if row.id in seen and row.id not in rows:
            yield Problem(key, "two conditions have this id")
        seen.add(row.id)
        yield from _check_test(key, row, model.inputs.get(row.input or ""))
        if row.id in rows:
            yield from _check_built_in(
                row.id, row.response, row.clear, least[row.id].label, rows[row.id].clear
            )


def _check_test(key: str, row: ConditionModel, item: InputModel | None) -> Iterator[Problem]:
    if item is None:
        return
    quantity = (item.model_extra or {}).get("quantity")
    if quantity and row.state in ("open", "closed"):
        yield Problem(f"{key}.is", f"is for contacts, and {row.input!r} measures {quantity}: above or below")
    elif not quantity and row.state is None:
        test = "above" if row.below is None else "below"
        yield Problem(
            f"{key}.{test}", f"is for quantities, and {row.input!r} is a contact: is = open or closed"
        )


def _check_built_in(
    cause: str, response: str | None, clear: str | None, floor: str, clear_now: Clear
) -> Iterator[Problem]:
    if response is not None and by_label(response) < by_label(floor):
        yield Problem(
            f"condition.{cause}.response", f"{response} is below the floor of this risk class, {floor}"
        )
    if clear is not None and cause in FIXED_CLEAR and clear != clear_now.label:
        yield Problem(f"condition.{cause}.clear", f"is fixed: {clear_now.label}")
    elif clear == Clear.AUTO.label and cause in EVENTS:
        yield Problem(f"condition.{cause}.clear", "cannot be auto: a person must end this stop")


def _check_timezone(model: PlanModel) -> Iterator[Problem]:
    envelope = model.envelope
    if not envelope.hours and not envelope.days:
        return
    try:
        ZoneInfo(envelope.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield Problem("envelope.timezone", f"{envelope.timezone!r:.80} is no time zone this machine knows")


def _check_remote(model: PlanModel) -> Iterator[Problem]:
    try:
        _, _, tls = broker_address(model.remote.broker)
    except ValueError as error:
        yield Problem("remote.broker", str(error))
        return
    if tls and model.remote.ca is None:
        yield Problem(
            "remote.ca", "missing key: mqtts needs the authority that signed the broker's certificate"
        )
    if (model.remote.cert is None) != (model.remote.key is None):
        yield Problem("remote.cert", "`cert` and `key` go together")
    if (model.monitor.tls_cert is None) != (model.monitor.tls_key is None):
        yield Problem("monitor.tls_cert", "`tls_cert` and `tls_key` go together")


def _check_files(model: PlanModel, folder: Path, module: str) -> Iterator[Problem]:
    for key, name, secret in _files(model):
        if module not in ("", *_OPENED_BY[key]):
            continue
        path = folder / name
        try:
            mode = path.stat().st_mode
            regular = stat.S_ISREG(mode)
            if regular:  # opening a pipe would wait for its writer
                path.open("rb").close()
        except OSError as error:
            yield Problem(key, f"{path} cannot be read: {error.strerror}")
            continue
        if not regular:
            yield Problem(key, f"{path} is not a file")
        elif secret and mode & 0o077:
            yield Problem(key, f"{path} has mode {mode & 0o777:04o}; others can read it: chmod 600 {path}")


_OPENED_BY = {
    # Each channel verifies commands for itself; only `remote` talks and signs.
    "remote.root_keys": ("reflex", "remote"),
    "remote.trust": ("reflex", "remote"),
    "remote.signing_key": ("remote",),
    "remote.ca": ("remote",),
    "remote.cert": ("remote",),
    "remote.key": ("remote",),
    "monitor.tls_cert": ("monitor",),
    "monitor.tls_key": ("monitor",),
    "monitor.password_file": ("monitor",),
}
"""Which modules open each file; `check_recorder_files` reads the recorder's."""


def _files(model: PlanModel) -> Iterator[tuple[str, str, bool]]:
    """(key, path, whether it is secret) of every file the plan names, but for the recorder's."""
    remote, monitor = model.remote, model.monitor
    yield "remote.signing_key", remote.signing_key, True
    yield "remote.trust", remote.trust, False
    for root in remote.root_keys:
        yield "remote.root_keys", root, False
    optional = (
        ("remote.ca", remote.ca, False),
        ("remote.cert", remote.cert, False),
        ("remote.key", remote.key, True),
        ("monitor.tls_cert", monitor.tls_cert, False),
        ("monitor.tls_key", monitor.tls_key, True),
        ("monitor.password_file", monitor.password_file, True),
    )
    yield from ((key, name, secret) for key, name, secret in optional if name is not None)
