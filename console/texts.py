"""What guardians read: one row per word of the protocol, Chinese beside English.

A row for a code says what it means and what to do. tests/console/test_texts.py holds each table to its enum.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agent.core.commands import Code
from agent.core.responses import Response


@dataclass(frozen=True, slots=True)
class Text:
    """One thing said twice."""

    zh: str
    en: str

    def __str__(self) -> str:
        return f"{self.zh} {self.en}"


@dataclass(frozen=True, slots=True)
class Advice:
    """What a code means, and what to do about it."""

    meaning: Text
    remedy: Text


RESPONSES: Final[Mapping[str, Text]] = {
    Response.NONE.label: Text("正常", "running"),
    Response.WARN.label: Text("警告", "warning"),
    Response.RESTRICT.label: Text("限速", "speed limited"),
    Response.HOLD.label: Text("暂停", "hold"),
    Response.SAFE_MODE.label: Text("安全模式", "safe mode"),
    Response.EMERGENCY_STOP.label: Text("急停", "emergency stop"),
    Response.SUSPEND.label: Text("暂停使用", "suspended"),
    Response.RETIRE.label: Text("终止使用", "retired"),
}

STAGES: Final[Mapping[str, Text]] = {
    "sent": Text("已发出", "sent"),
    "accepted": Text("已接受", "accepted"),
    "actuated": Text("已执行", "actuated"),
    "verified": Text("已确认", "verified"),
    "refused": Text("被拒绝", "refused"),
    "failed": Text("失败", "failed"),
    "silent": Text("无应答", "no answer"),
    "unverified": Text("签名不可信", "not believed"),
}
"""PROTOCOL's stages, and three of this side: `sent`, `silent` and `unverified` (console/told.py)."""

CLEARS: Final[Mapping[str, Text]] = {
    "auto": Text("自动恢复", "ends by itself"),
    "resume": Text("需监护人恢复", "needs a guardian's resume"),
    "reset_and_resume": Text("需复位并恢复", "needs a reset, then a resume"),
    "reevaluation": Text("需重新评估", "needs the department's re-evaluation"),
    "never": Text("不可恢复", "never ends"),
}

_NEW_COMMAND: Final = Text("请重新发出命令", "give the command again")
_ASK_DEPARTMENT: Final = Text("请联系使用部门", "ask the department")

CODES: Final[Mapping[Code, Advice]] = {
    Code.MALFORMED: Advice(
        Text("命令格式错误", "the command cannot be read"),
        Text("请更新 guardian 程序", "use a guardian program that fits the robot's version"),
    ),
    Code.TOO_LARGE: Advice(
        Text("命令过长", "the command is too long"), Text("请缩短理由", "shorten the reason")
    ),
    Code.UNKNOWN_KEY: Advice(
        Text("密钥未登记", "the key is in no trust file"),
        Text("请使用部门登记您的密钥", "have the department enrol your key"),
    ),
    Code.BAD_SIGNATURE: Advice(
        Text("签名错误", "the signature does not fit the key"),
        Text("请检查密钥文件是否属于本人", "check that the key file is the one that was enrolled"),
    ),
    Code.REVOKED: Advice(Text("密钥已吊销", "the key is revoked"), _ASK_DEPARTMENT),
    Code.WRONG_AUDIENCE: Advice(
        Text("命令不是发给该机器人的", "the command is for another robot"),
        Text("请检查编号或组名", "check the id or the group"),
    ),
    Code.EXPIRED: Advice(
        Text("命令已过期", "the command is too old"),
        Text("请校准时钟后重新发出", "set the clocks of both sides and give it again"),
    ),
    Code.NOT_YET_VALID: Advice(
        Text("命令时间超前", "the command comes from the future"),
        Text("请校准时钟后重新发出", "set the clocks of both sides and give it again"),
    ),
    Code.REPLAYED: Advice(Text("命令重复", "the command was given before"), _NEW_COMMAND),
    Code.NOT_ENTITLED: Advice(
        Text("无权执行该命令", "this person may not give this command to this robot"), _ASK_DEPARTMENT
    ),
    Code.TRAINING_EXPIRED: Advice(
        Text("培训已过期", "the training has run out (stopping remains possible)"),
        Text("请完成培训并更新登记", "renew the training and have it entered"),
    ),
    Code.STALE_CHALLENGE: Advice(
        Text("状态已变化", "the robot's state has changed since it was read"),
        Text("请重新查看状态后再恢复", "look at the robot again, then resume again"),
    ),
    Code.WRONG_EPOCH: Advice(
        Text("停车编号不符", "the robot has stopped again since its state was read"),
        Text("请重新查看状态后再恢复", "look at the robot again, then resume again"),
    ),
    Code.CAUSE_ACTIVE: Advice(
        Text("停车原因仍存在", "a cause of the stop still stands"),
        Text("请先排除停车原因", "remove the cause first"),
    ),
    Code.RESET_NEEDED: Advice(
        Text("设备尚未复位", "a device is not reset yet"),
        Text("请到现场复位设备", "reset it by hand at the robot (turn the e-stop button, for one)"),
    ),
    Code.REEVALUATION_NEEDED: Advice(
        Text("需要重新评估", "the robot is suspended until it is re-evaluated"), _ASK_DEPARTMENT
    ),
    Code.SAME_PERSON: Advice(
        Text("须由另一人操作", "the same person may not do both"),
        Text("请由第二人恢复", "let a second person give this command"),
    ),
    Code.IN_MAINTENANCE: Advice(
        Text("维护中", "a maintenance is open"),
        Text("请运维商结束维护", "let the maintainer close it"),
    ),
    Code.NOT_STOPPED: Advice(
        Text("机器人未停止", "the robot is not stopped"), Text("请先停车", "stop it first, if you mean to")
    ),
    Code.RETIRED: Advice(
        Text("已终止使用", "the robot is retired"), Text("不可恢复", "nothing starts it again")
    ),
    Code.RATE_LIMITED: Advice(
        Text("命令过于频繁", "too many commands"), Text("请稍候再试", "wait a moment, then try again")
    ),
    Code.NOT_VERIFIED_IN_TIME: Advice(
        Text("未在限定时间内确认停稳", "standstill was not seen in time"),
        Text("请立即到现场，使用急停按钮", "go there now and press the e-stop button"),
    ),
}

SILENT: Final = Advice(
    Text("未收到机器人应答", "nothing more came from the robot"),
    Text(
        "请勿假定已停车：请到现场使用急停按钮",
        "do not assume that it has stopped: go there and press the e-stop button",
    ),
)
SILENT_NO_STOP: Final = Advice(
    SILENT.meaning,
    Text(
        "请检查机器人是否在线、编号是否正确、权限是否允许",
        "check that the robot is online, the id right, and the broker's rights in order",
    ),
)
UNVERIFIED: Final = Advice(
    Text("应答签名无法验证", "an answer came that cannot be believed"),
    Text("请检查信任文件；可能有人冒充机器人", "check the trust file; someone may pose as the robot"),
)


def advice(code: str) -> Advice | None:
    """The row of a code that came from a robot; None for one this version does not know."""
    return CODES[Code(code)] if code in set(Code) else None


def of(table: Mapping[str, Text], word: str) -> str:
    """A word with its translation, or alone when this version does not know it."""
    return str(table[word]) if word in table else word
