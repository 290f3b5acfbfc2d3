"""The checked plan as the modules use it: plain frozen data, no pydantic, no files, no clock.

`agent.config` makes it from the plan file; it travels to the modules as JSON (`to_plain`, `from_plain`).
Times are nanoseconds, lengths metres, speeds metres per second.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, cast

from agent.core.causes import CauseRow
from agent.core.responses import Response


@dataclass(frozen=True, slots=True)
class Identity:
    """Clause 2.6: the id the authority issued and the name the department gave."""

    id: str
    name: str
    kind: str
    risk: str


@dataclass(frozen=True, slots=True)
class Times:
    """PROTOCOL 8 `[times]`, in nanoseconds."""

    ttl_ns: int
    ss1_ns: int
    still_ns: int
    beat_timeout_ns: int
    peer_timeout_ns: int
    telemetry_stale_ns: int
    start_grace_ns: int
    recorder_lost_ns: int


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One input or output: which driver, with which checked settings."""

    driver: str
    settings: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Plausibility:
    """What a quantity cannot truly do, in its own unit; None or 0: not limited."""

    lowest: float | None = None
    highest: float | None = None
    max_rate_per_s: float | None = None
    stuck_ns: int = 0


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One input. `contact`: two-channel or single contact; otherwise a quantity."""

    device: DeviceSpec
    contact: bool
    discrepancy_ns: int
    debounce_ns: int
    proof_cycle: bool
    """After a discrepancy both contacts must be seen open, then closed, before a resume."""
    limits: Plausibility = field(default_factory=Plausibility)


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One output, the channel that holds it, and how long its read-back may disagree."""

    device: DeviceSpec
    channel: str
    readback_ns: int


@dataclass(frozen=True, slots=True)
class Condition:
    """One `[[condition]]`. `test`: open, closed, stale, fault, above, below; `bound` for the last two."""

    cause: str
    input: str
    telemetry: str
    test: str
    bound: float
    for_ns: int


@dataclass(frozen=True, slots=True)
class Envelope:
    """Clause 5.5(a): what the robot may do at all. Empty or None: not limited here."""

    area: tuple[tuple[float, float], ...] = ()
    hours: tuple[tuple[int, int], ...] = ()
    """Minutes of the day, from (included) and to (excluded)."""
    days: tuple[int, ...] = ()
    """0 = Monday."""
    timezone: str = ""
    max_speed_mps: float | None = None
    restricted_speed_permille: int = 300
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProtocolStep:
    """One step of a protocol: the word, the adapter that carries it out, its deadline and arguments."""

    step: str
    adapter: str
    deadline_ms: int
    args: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Protocol:
    """Ordered steps (clause 5.5(d)): begun when a stop of this response, or a worse one, begins."""

    id: str
    response: Response
    channel: str
    steps: tuple[ProtocolStep, ...]


@dataclass(frozen=True, slots=True)
class Remote:
    """`[remote]`: the guardians' link. Paths are absolute."""

    host: str
    port: int
    tls: bool
    protocol: str
    ca: str
    cert: str
    key: str
    signing_key: str
    root_keys: tuple[str, ...]
    trust: str
    groups: tuple[str, ...]
    link_lost_ns: int


@dataclass(frozen=True, slots=True)
class Recorder:
    """`[recorder]`: the sealed log. Paths are absolute; `opening` is `any` or `all` of the recipients."""

    dir: str
    recipients: tuple[str, ...]
    retention_days: int
    suite: int = 1
    opening: str = "any"
    witnesses: tuple[str, ...] = ()
    compress: tuple[str, ...] = ("safety", "net", "tele")
    """Streams that are compressed before they are sealed."""
    segment_bytes: int = 8 << 20
    segment_hours: int = 24
    checkpoint_ns: int = 300_000_000_000
    incident_before_ns: int = 30_000_000_000
    incident_after_ns: int = 10_000_000_000
    state_credential: str = "warden-ledger"


@dataclass(frozen=True, slots=True)
class Monitor:
    """`[monitor]`."""

    listen: str
    tls_cert: str
    tls_key: str
    password_file: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole plan of one robot. `digest`: SHA-256 of the plan file, hexadecimal."""

    digest: str
    agent_version: str
    agent_digest: str
    robot: Identity
    run_dir: str
    state_dir: str
    link_uids: tuple[int, ...]
    times: Times
    rows: Mapping[str, CauseRow]
    conditions: tuple[Condition, ...]
    inputs: Mapping[str, InputSpec]
    outputs: Mapping[str, OutputSpec]
    recorder: Recorder
    monitor: Monitor
    adapters: Mapping[str, DeviceSpec] = field(default_factory=dict)
    protocols: tuple[Protocol, ...] = ()
    remote: Remote | None = None
    envelope: Envelope = field(default_factory=Envelope)


def to_plain(value: object) -> Any:  # noqa: ANN401 - what JSON carries has no narrower type
    """Dataclasses, tuples, mappings and enums as what JSON can carry."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(v) for v in value]
    return value


def from_plain(kind: Any, data: Any) -> Any:  # noqa: ANN401 - the inverse, for any type
    """The inverse of `to_plain` for one type. KeyError, TypeError or ValueError for what does not fit."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        values = {name: from_plain(hints[name], item) for name, item in data.items()}
        return cast("Any", kind)(**values)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        if data is None:
            return None
        return from_plain(next(a for a in args if a is not type(None)), data)
    if origin is tuple:
        if args[-1] is Ellipsis:
            return tuple(from_plain(args[0], item) for item in data)
        return tuple(from_plain(a, item) for a, item in zip(args, data, strict=True))
    if origin is Mapping or getattr(origin, "__name__", "") == "Mapping":
        return {key: from_plain(args[1], item) for key, item in data.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    return data
