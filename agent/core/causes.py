"""The table of causes: what each one demands, how it clears, and what people are told.

A cause is a row. The plan may change the response or the clear condition of a built-in row, never below
the floor its risk class sets, and adds rows of its own; a cause with no row is an emergency stop
(DESIGN, "State machine"; ids: PROTOCOL 8).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from agent.core.responses import Response

MS = 1_000_000
"""Nanoseconds in a millisecond."""


class Clear(IntEnum):
    """What ends a cause once its condition is gone; further down is stricter."""

    AUTO = 0
    """Ends by itself when the condition has been gone for the hold-off."""
    RESUME = 1
    """A guardian's resume."""
    RESET_AND_RESUME = 2
    """The device is reset by hand, then a guardian resumes (ISO 13850: the reset alone restarts nothing)."""
    REEVALUATION = 3
    """The department approves after repair (clause 5.7(a))."""
    NEVER = 4
    """Nothing."""

    @property
    def label(self) -> str:
        """The word used in plans and messages: `reset_and_resume`."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class CauseRow:
    """One row. `hold_off_ns` counts only for `Clear.AUTO`; texts are for guardians."""

    id: str
    response: Response
    clear: Clear
    hold_off_ns: int
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A row every robot has. `response` and `floor` are for risk high, medium, low."""

    id: str
    response: tuple[Response, Response, Response]
    floor: tuple[Response, Response, Response]
    clear: Clear
    zh: str
    en: str


RISKS = ("high", "medium", "low")

_W, _H, _S, _E = Response.WARN, Response.HOLD, Response.SAFE_MODE, Response.EMERGENCY_STOP
_X, _Z = Response.SUSPEND, Response.RETIRE
_ALL_E = (_E, _E, _E)
_ALL_W = (_W, _W, _W)
_RESUME = Clear.RESUME

BUILT_INS: tuple[BuiltIn, ...] = (
    # The agent itself
    BuiltIn("starting", _ALL_E, (_H, _H, _H), _RESUME, "系统刚启动", "Just started"),
    BuiltIn("peer_lost", _ALL_E, (_E, _E, _S), _RESUME, "另一安全模块失联", "The other module is lost"),
    BuiltIn(
        "peer_stop", _ALL_E, (_W, _W, _W), _RESUME, "另一安全模块已停机", "The other module stopped the robot"
    ),
    BuiltIn("recorder_lost", (_S, _H, _W), _ALL_W, _RESUME, "记录模块失联", "The recorder is lost"),
    BuiltIn("log_space", (_S, _S, _S), _ALL_W, _RESUME, "日志空间不足", "No space left for the log"),
    BuiltIn(
        "tampered", _ALL_E, _ALL_E, _RESUME, "检测到数据被篡改或损坏", "Stored state damaged or tampered with"
    ),
    # The host
    BuiltIn(
        "host_unwell", (_S, _S, _S), (_H, _H, _H), _RESUME, "主机运行异常", "The host held the module up"
    ),
    BuiltIn("clock_jump", _ALL_W, _ALL_W, Clear.AUTO, "系统时钟跳变", "The wall clock jumped"),
    BuiltIn("suspended_host", _ALL_E, (_S, _S, _S), _RESUME, "主机曾休眠", "The machine slept"),
    # Inputs and outputs
    BuiltIn("input_stale", _ALL_E, (_S, _S, _H), _RESUME, "输入信号中断", "An input went silent"),
    BuiltIn("input_fault", _ALL_E, (_S, _S, _H), Clear.RESET_AND_RESUME, "输入故障", "An input is faulty"),
    BuiltIn(
        "output_fault", _ALL_E, _ALL_E, _RESUME, "输出回读不一致", "An output does not do what it was told"
    ),
    # The robot
    BuiltIn(
        "robot_gone", (_E, _E, _S), (_S, _S, _H), _RESUME, "机器人软件断开", "The robot's software is gone"
    ),
    BuiltIn(
        "robot_hung", (_E, _E, _S), (_S, _S, _H), _RESUME, "机器人软件无响应", "The robot's software hangs"
    ),
    BuiltIn("not_still", _ALL_E, _ALL_E, _RESUME, "停机后仍在运动", "Not still after a stop"),
    BuiltIn("telemetry_stale", (_S, _S, _H), (_H, _H, _W), _RESUME, "遥测数据中断", "Telemetry went silent"),
    BuiltIn("unlawful_content", _ALL_E, (_H, _H, _H), _RESUME, "出现违法内容", "Unlawful content"),
    # The envelope (clause 5.5(a))
    BuiltIn("out_of_area", (_S, _S, _H), (_H, _H, _W), _RESUME, "超出允许区域", "Out of the permitted area"),
    BuiltIn("out_of_hours", (_H, _H, _W), _ALL_W, _RESUME, "超出允许时段", "Out of the permitted hours"),
    BuiltIn("over_speed", (_S, _S, _H), (_H, _H, _W), _RESUME, "超速", "Over speed"),
    BuiltIn(
        "task_not_authorised",
        (_S, _S, _H),
        (_H, _H, _W),
        _RESUME,
        "执行未经授权的任务",
        "Task not authorised",
    ),
    # People and the network
    BuiltIn("link_lost", (_S, _H, _W), _ALL_W, _RESUME, "与监护端网络中断", "Link to the guardians lost"),
    BuiltIn("guardian_absent", (_S, _H, _W), _ALL_W, _RESUME, "监护人不在线", "No guardian present"),
    BuiltIn("guardian_stop", _ALL_E, (_H, _H, _H), _RESUME, "监护人下令停机", "Stopped by a guardian"),
    BuiltIn("guardian_hold", (_H, _H, _H), (_H, _H, _H), _RESUME, "监护人下令暂停", "Held by a guardian"),
    BuiltIn("maintenance", _ALL_E, (_H, _H, _H), _RESUME, "正在维护", "Maintenance in progress"),
    BuiltIn("suspended", (_X, _X, _X), (_X, _X, _X), Clear.REEVALUATION, "暂停使用", "Suspended"),
    BuiltIn("retired", (_Z, _Z, _Z), (_Z, _Z, _Z), Clear.NEVER, "终止使用", "Retired"),
)

FIXED_CLEAR = frozenset({"suspended", "retired", "starting", "peer_stop"})
"""Rows whose clear condition no plan may change: the law, or the two-channel principle, sets it."""

EVENTS = frozenset(
    {
        *("tampered", "host_unwell", "suspended_host", "unlawful_content"),
        *("guardian_stop", "guardian_hold", "maintenance"),
    }
)
"""Rows that one event or a person's command raises: no plan may make them `auto`, which would end a
guardian's stop with the very turn that began it."""

PEER_STOP = "peer_stop"


def built_in_rows(risk: str) -> dict[str, CauseRow]:
    """The built-in rows with the responses of a risk class (`high`, `medium`, `low`; clause 7.1)."""
    column = RISKS.index(risk)
    return {b.id: CauseRow(b.id, b.response[column], b.clear, 0, b.zh, b.en) for b in BUILT_INS}


def floors(risk: str) -> dict[str, Response]:
    """The weakest response a plan may give each built-in row in a risk class."""
    column = RISKS.index(risk)
    return {b.id: b.floor[column] for b in BUILT_INS}


def row_id(key: str) -> str:
    """The row of a cause's key: `input_stale:estop` is the row `input_stale` about the input `estop`."""
    return key.partition(":")[0]


def subject(key: str) -> str:
    """What a cause's key is about (`estop` in `input_stale:estop`), or an empty string."""
    return key.partition(":")[2]


def row_of(rows: Mapping[str, CauseRow], key: str) -> CauseRow:
    """The row of a cause's key; a cause with no row is an emergency stop that a person must clear."""
    found = rows.get(row_id(key))
    if found is not None:
        return found
    return CauseRow(
        row_id(key), Response.EMERGENCY_STOP, Clear.RESET_AND_RESUME, 0, "未知原因", "Unknown cause"
    )
