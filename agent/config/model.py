"""The plan file's shape (PROTOCOL 8): frozen models, unknown keys refused, a unit in every number's name."""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    StringConstraints,
    field_validator,
    model_validator,
)

from agent.core.causes import BUILT_INS

BUILT_IN_IDS = frozenset(row.id for row in BUILT_INS)

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
"""PROTOCOL 3: ids and names of groups and keys."""

RowId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""A cause's id: a metric label and a word in messages."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
PathText = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,1000}$")]
"""A path, relative to the plan's folder."""
_USER = re.compile(r"[0-9]{1,9}|[A-Za-z_][A-Za-z0-9_.-]{0,31}")
ResponseWord = Literal["warn", "restrict", "hold", "safe_mode", "emergency_stop"]
ClearWord = Literal["auto", "resume", "reset_and_resume"]


class Model(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RobotModel(Model):
    """`[robot]`."""

    id: Name = Field(description="Issued by the authority (clause 2.6)")
    name: Text = Field(description="Given by the department (clause 2.6)")
    kind: Literal["embodied", "humanoid", "virtual"] = "embodied"
    risk: Literal["high", "medium", "low"] = Field(default="high", description="Clause 7.1")
    run_dir: PathText = Field(default="/run/warden", description="tmpfs: permits and sockets")
    state_dir: PathText = Field(default="/var/lib/warden", description="Latch files")
    link_uids: tuple[str | StrictInt, ...] = Field(default=(), description="Users who may use the robot link")

    @field_validator("link_uids")
    @classmethod
    def _users(cls, users: tuple[str | int, ...]) -> tuple[str | int, ...]:
        if not all(_USER.fullmatch(str(user)) for user in users):
            raise ValueError("must be names of users, or their numbers")
        return users


class TimesModel(Model):
    """`[times]`, milliseconds."""

    ttl_ms: int = Field(default=100, ge=20, le=1000, description="A permit is good for")
    ss1_ms: int = Field(default=800, ge=0, le=60_000, description="Controlled stop, then power off")
    still_ms: int = Field(default=1500, ge=50, le=60_000, description="Standstill must be seen within")
    beat_timeout_ms: int = Field(
        default=200, ge=20, le=10_000, description="No beat for this long: robot_hung"
    )
    peer_timeout_ms: int | None = Field(default=None, ge=20, le=1000, description="Default: ttl_ms")
    telemetry_stale_ms: int = Field(default=1000, ge=20, le=60_000)
    start_grace_ms: int = Field(
        default=3000, ge=0, le=60_000, description="For the first words after a start"
    )
    recorder_lost_ms: int = Field(default=10_000, ge=100, le=3_600_000)


class InputModel(Model):
    """`[inputs.<name>]`: these keys, and the driver's own."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    driver: str
    discrepancy_ms: int = Field(default=50, ge=1, le=10_000, description="Two channels may differ for")
    debounce_ms: int = Field(default=20, ge=0, le=1000, description="Closing counts after; opening at once")
    proof_cycle: bool = Field(default=True, description="After a discrepancy: open and close it once")
    plausible_min: float | None = Field(default=None, description="A quantity cannot truly be lower")
    plausible_max: float | None = Field(default=None, description="A quantity cannot truly be higher")
    max_rate_per_s: float | None = Field(default=None, gt=0, description="Nor change faster, per second")
    stuck_after_s: float = Field(default=0, ge=0, le=86_400, description="Nor stay the very same; 0: it may")


class OutputModel(Model):
    """`[outputs.<name>]`: these keys, and the driver's own."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    channel: Literal["reflex", "remote"]
    driver: str
    readback_ms: int = Field(default=300, ge=10, le=10_000, description="The read-back may disagree for")


class Texts(Model):
    """What guardians read; a language left out shows the other."""

    zh: Text | None = None
    en: Text | None = None


class ConditionModel(Model):
    """`[[condition]]`: over one input or one telemetry key, or a change to a built-in cause."""

    id: RowId
    input: Name | None = None
    telemetry: Name | None = None
    state: Literal["open", "closed", "stale", "fault"] | None = Field(default=None, alias="is")
    above: float | None = None
    below: float | None = None
    for_ms: int = Field(default=0, ge=0, le=3_600_000)
    response: ResponseWord | None = None
    clear: ClearWord | None = None
    hold_off_ms: int = Field(default=0, ge=0, le=3_600_000)
    text: Texts | None = None

    @model_validator(mode="after")
    def _one_test(self) -> "ConditionModel":
        tests = [t for t in (self.state, self.above, self.below) if t is not None]
        if self.changes_built_in and not tests:
            return self._hold_off()
        if (self.input is None) == (self.telemetry is None):
            raise ValueError("needs exactly one of `input` and `telemetry`")
        if len(tests) != 1:
            raise ValueError("needs exactly one of `is`, `above` and `below`")
        if self.response is None and self.id not in BUILT_IN_IDS:
            raise ValueError("needs `response`: warn, restrict, hold, safe_mode or emergency_stop")
        if self.telemetry is not None and self.state is not None:
            raise ValueError("`is` is for inputs; telemetry takes `above` or `below`")
        return self._hold_off()

    def _hold_off(self) -> "ConditionModel":
        if self.hold_off_ms and self.clear != "auto":
            raise ValueError('`hold_off_ms` goes with clear = "auto"')
        return self

    @property
    def changes_built_in(self) -> bool:
        """True for a row with nothing to test: it changes the built-in cause it names."""
        return self.id in BUILT_IN_IDS and self.input is None and self.telemetry is None


Clock = Annotated[
    str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d-(([01]\d|2[0-3]):[0-5]\d|24:00)$")
]


class EnvelopeModel(Model):
    """`[envelope]` (clause 5.5(a))."""

    area: tuple[tuple[float, float], ...] = Field(default=(), description="x_m, y_m of telemetry")
    hours: tuple[Clock, ...] = ()
    days: tuple[Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"], ...] = ()
    timezone: str = "Asia/Shanghai"
    max_speed_mps: float | None = Field(default=None, gt=0, le=100)
    restricted_speed_permille: int = Field(default=300, ge=1, le=1000)
    tasks: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _polygon(self) -> "EnvelopeModel":
        if self.area and not 3 <= len(self.area) <= 100:
            raise ValueError("`area` needs 3 to 100 corners")
        return self

    @field_validator("hours")
    @classmethod
    def _spans(cls, hours: tuple[str, ...]) -> tuple[str, ...]:
        if any(span.partition("-")[0] == span.partition("-")[2] for span in hours):
            raise ValueError("must end at another time than they begin")
        return hours


class AdapterModel(Model):
    """`[adapters.<name>]`: the driver, and the driver's own keys."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    driver: str


class StepModel(Model):
    """One step of a protocol."""

    step: RowId
    adapter: Name = "link"
    deadline_ms: int = Field(ge=1, le=600_000, description="Done by then, counted from its own begin")
    args: dict[str, Any] = Field(default_factory=dict)


class ProtocolModel(Model):
    """`[[protocol]]` (clause 5.5(d)): what is done, in order, when a stop begins."""

    id: RowId
    response: Literal["hold", "safe_mode", "emergency_stop", "suspend", "retire"] = Field(
        description="Begun when a stop of this response, or a worse one, begins"
    )
    channel: Literal["reflex", "remote"] = "reflex"
    steps: tuple[StepModel, ...] = Field(min_length=1, max_length=32)


class RemoteModel(Model):
    """`[remote]`: the guardians' link."""

    broker: str
    protocol: Literal["5", "3.1.1"] = "5"
    ca: PathText | None = None
    cert: PathText | None = None
    key: PathText | None = None
    signing_key: PathText
    root_keys: tuple[PathText, ...] = Field(min_length=1, max_length=8)
    trust: PathText
    groups: tuple[Name, ...] = ()
    link_lost_s: float = Field(default=5, gt=0, le=3600)
    presence_s: float = Field(default=0, ge=0, le=3600)


Stream = Literal["safety", "net", "tele"]


class RecorderModel(Model):
    """`[recorder]`: the sealed log."""

    dir: PathText | None = Field(default=None, description="The log; default: `log` in robot.state_dir")
    recipients: tuple[PathText, ...] = Field(
        default=(), max_length=16, description="Public keys (JWK) of those who can open it, at least one"
    )
    retention_days: int = Field(default=190, ge=190, le=36_500, description="Six months are up to 184 days")
    suite: StrictInt = Field(
        default=1, ge=1, le=2, description="1: X25519, AES-256-GCM, SHA-256, Ed25519; 2: SM2, SM4-GCM, SM3"
    )
    opening: Literal["any", "all"] = Field(
        default="any", description="Each recipient opens it alone, or only all of them together"
    )
    witnesses: tuple[PathText, ...] = Field(
        default=(), max_length=8, description="Public keys (Ed25519 JWK) of the ledger's witnesses"
    )
    compress: tuple[Stream, ...] = Field(
        default=("safety", "net", "tele"), max_length=3, description="Streams packed before they are sealed"
    )
    segment_bytes: int = Field(
        default=8 << 20, ge=64 << 10, le=256 << 20, description="A segment ends at this size, bytes"
    )
    segment_hours: int = Field(default=24, ge=1, le=168, description="And at this age, hours")
    checkpoint_s: int = Field(
        default=300, ge=10, le=3600, description="The ledger states each stream's end this often, seconds"
    )
    incident_before_s: int = Field(
        default=30, ge=0, le=300, description="Telemetry kept whole from before an incident, seconds"
    )
    incident_after_s: int = Field(default=10, ge=0, le=300, description="And from after it, seconds")
    state_credential: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")] = (
        Field(
            default="warden-ledger",
            description="systemd credential that seals the state of the ledger's signing",
        )
    )


Listen = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$")]


class MonitorModel(Model):
    """`[monitor]`."""

    listen: Listen = "127.0.0.1:9477"
    tls_cert: PathText | None = None
    tls_key: PathText | None = None
    password_file: PathText | None = None


class PlanModel(Model):
    """The whole file."""

    plan_schema: Literal[1] = Field(alias="schema")
    robot: RobotModel
    times: TimesModel = Field(default_factory=TimesModel)
    inputs: dict[Name, InputModel] = Field(default_factory=dict, max_length=64)
    outputs: dict[Name, OutputModel] = Field(default_factory=dict, max_length=16)
    condition: tuple[ConditionModel, ...] = Field(default=(), max_length=256)
    envelope: EnvelopeModel = Field(default_factory=EnvelopeModel)
    adapters: dict[Name, AdapterModel] = Field(default_factory=dict, max_length=16)
    protocol: tuple[ProtocolModel, ...] = Field(default=(), max_length=16)
    remote: RemoteModel
    recorder: RecorderModel = Field(default_factory=RecorderModel)
    monitor: MonitorModel = Field(default_factory=MonitorModel)
