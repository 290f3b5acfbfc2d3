"""From the validated model to the plain frozen `Plan`: units, defaults, absolute paths, rows."""

import hashlib
import pwd
from collections.abc import Iterator
from pathlib import Path

import agent
from agent.config.adapters import protocols_of
from agent.config.broker import broker_address
from agent.config.devices import Entry
from agent.config.errors import ConfigError, Problem
from agent.config.model import ConditionModel, InputModel, OutputModel, PlanModel
from agent.core import plan as p
from agent.core.causes import MS, CauseRow, Clear, built_in_rows
from agent.core.responses import by_label

S = 1000 * MS
"""Nanoseconds in a second."""

_CLEARS = {clear.label: clear for clear in Clear}
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def build_plan(
    model: PlanModel,
    entries: list[Entry],
    adapters: dict[str, p.DeviceSpec],
    path: Path,
    digest: str,
    *,
    offline: bool,
) -> p.Plan:
    """The plan as the modules use it; raises ConfigError for a user that does not exist."""
    folder = path.parent.resolve()
    robot = model.robot
    devices = {entry.key: p.DeviceSpec(entry.driver, entry.settings) for entry in entries}
    return p.Plan(
        digest=digest,
        agent_version=agent.__version__,
        agent_digest=agent_digest(),
        robot=p.Identity(robot.id, robot.name, robot.kind, robot.risk),
        run_dir=str(folder / robot.run_dir),
        state_dir=str(folder / robot.state_dir),
        link_uids=() if offline else tuple(_uids(model, path)),
        times=_times(model),
        rows=_rows(model),
        conditions=tuple(_condition(c) for c in model.condition if not c.changes_built_in),
        inputs={name: _input(item, devices[f"inputs.{name}"]) for name, item in model.inputs.items()},
        outputs={name: _output(item, devices[f"outputs.{name}"]) for name, item in model.outputs.items()},
        recorder=_recorder(model, folder),
        monitor=_monitor(model, folder),
        adapters=adapters,
        protocols=protocols_of(model),
        remote=_remote(model, folder),
        envelope=_envelope(model),
    )


def agent_digest() -> str:
    """SHA-256 over the names and bytes of every source file this agent runs (clause 5.9)."""
    root = Path(agent.__file__).resolve().parent.parent
    total = hashlib.sha256()
    for package in ("agent", "drivers", "sdk"):
        for file in sorted((root / package).rglob("*.py")):
            total.update(f"{file.relative_to(root).as_posix()}\0".encode())
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def _uids(model: PlanModel, path: Path) -> Iterator[int]:
    for user in model.robot.link_uids:
        if isinstance(user, int) or user.isdigit():
            yield int(user)
            continue
        try:
            yield pwd.getpwnam(user).pw_uid
        except KeyError:
            problem = Problem("robot.link_uids", f"no user is named {user!r} on this machine")
            raise ConfigError(str(path), [problem]) from None


def _times(model: PlanModel) -> p.Times:
    times = model.times
    return p.Times(
        ttl_ns=times.ttl_ms * MS,
        ss1_ns=times.ss1_ms * MS,
        still_ns=times.still_ms * MS,
        beat_timeout_ns=times.beat_timeout_ms * MS,
        # When the other's permit has run out the robot has stopped by itself: then, not later, is it lost.
        peer_timeout_ns=(times.peer_timeout_ms or times.ttl_ms) * MS,
        telemetry_stale_ns=times.telemetry_stale_ms * MS,
        start_grace_ns=times.start_grace_ms * MS,
        recorder_lost_ns=times.recorder_lost_ms * MS,
    )


def _rows(model: PlanModel) -> dict[str, CauseRow]:
    rows = built_in_rows(model.robot.risk)
    for condition in model.condition:
        rows[condition.id] = _row(condition, rows.get(condition.id))
    return rows


def _row(condition: ConditionModel, built_in: CauseRow | None) -> CauseRow:
    zh = en = None
    if condition.text is not None:
        zh, en = condition.text.zh, condition.text.en
    if built_in is not None and not (zh or en):
        zh, en = built_in.zh, built_in.en
    response = by_label(condition.response) if condition.response else None
    clear = _CLEARS[condition.clear] if condition.clear else None
    return CauseRow(
        id=condition.id,
        response=response if response is not None else _of(built_in).response,
        clear=clear if clear is not None else built_in.clear if built_in else Clear.RESUME,
        hold_off_ns=condition.hold_off_ms * MS,
        zh=zh or en or condition.id,
        en=en or zh or condition.id,
    )


def _of(built_in: CauseRow | None) -> CauseRow:
    """A row without a response is a built-in's: the model refuses any other."""
    if built_in is None:
        raise ConfigError("plan", [Problem("condition", "needs `response`")])
    return built_in


def _condition(row: ConditionModel) -> p.Condition:
    test = row.state or ("above" if row.above is not None else "below")
    bound = row.above if row.above is not None else row.below
    return p.Condition(row.id, row.input or "", row.telemetry or "", test, bound or 0.0, row.for_ms * MS)


def _input(item: InputModel, device: p.DeviceSpec) -> p.InputSpec:
    return p.InputSpec(
        device=device,
        contact=not device.settings.get("quantity"),
        discrepancy_ns=item.discrepancy_ms * MS,
        debounce_ns=item.debounce_ms * MS,
        proof_cycle=item.proof_cycle,
        limits=p.Plausibility(
            lowest=item.plausible_min,
            highest=item.plausible_max,
            max_rate_per_s=item.max_rate_per_s,
            stuck_ns=int(item.stuck_after_s * S),
        ),
    )


def _output(item: OutputModel, device: p.DeviceSpec) -> p.OutputSpec:
    return p.OutputSpec(device, item.channel, item.readback_ms * MS)


def _envelope(model: PlanModel) -> p.Envelope:
    envelope = model.envelope
    return p.Envelope(
        area=envelope.area,
        hours=tuple(_span(text) for text in envelope.hours),
        days=tuple(_DAYS.index(day) for day in envelope.days),
        timezone=envelope.timezone,
        max_speed_mps=envelope.max_speed_mps,
        restricted_speed_permille=envelope.restricted_speed_permille,
        tasks=envelope.tasks,
    )


def _span(text: str) -> tuple[int, int]:
    start, _, end = text.partition("-")
    return _minute(start), _minute(end)


def _minute(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


def _remote(model: PlanModel, folder: Path) -> p.Remote:
    remote = model.remote
    host, port, tls = broker_address(remote.broker)
    return p.Remote(
        host=host,
        port=port,
        tls=tls,
        protocol=remote.protocol,
        ca=_path(folder, remote.ca),
        cert=_path(folder, remote.cert),
        key=_path(folder, remote.key),
        signing_key=_path(folder, remote.signing_key),
        root_keys=tuple(_path(folder, name) for name in remote.root_keys),
        trust=_path(folder, remote.trust),
        groups=remote.groups,
        link_lost_ns=int(remote.link_lost_s * S),
    )


def _recorder(model: PlanModel, folder: Path) -> p.Recorder:
    recorder = model.recorder
    log_dir = recorder.dir or str(Path(model.robot.state_dir) / "log")
    return p.Recorder(
        dir=_path(folder, log_dir),
        recipients=tuple(_path(folder, name) for name in recorder.recipients),
        retention_days=recorder.retention_days,
        suite=recorder.suite,
        opening=recorder.opening,
        witnesses=tuple(_path(folder, name) for name in recorder.witnesses),
        compress=recorder.compress,
        segment_bytes=recorder.segment_bytes,
        segment_hours=recorder.segment_hours,
        checkpoint_ns=recorder.checkpoint_s * S,
        incident_before_ns=recorder.incident_before_s * S,
        incident_after_ns=recorder.incident_after_s * S,
        state_credential=recorder.state_credential,
    )


def _monitor(model: PlanModel, folder: Path) -> p.Monitor:
    monitor = model.monitor
    return p.Monitor(
        listen=monitor.listen,
        tls_cert=_path(folder, monitor.tls_cert),
        tls_key=_path(folder, monitor.tls_key),
        password_file=_path(folder, monitor.password_file),
    )


def _path(folder: Path, name: str | None) -> str:
    return "" if name is None else str(folder / name)
