"""What a witness has to say: one table of kinds, in Chinese and in English."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from console.texts import Text


class Words(NamedTuple):
    """`alarm`: kept on the disk, and shown loudly."""

    code: str
    text: Text
    alarm: bool


class Kind(Enum):
    """Kinds of notice. The value's `code` is what `--json` and the alarm files say."""

    TAKEN = Words("taken", Text("已见证", "witnessed"), alarm=False)
    FIRST_USE = Words(
        "first_use",
        Text("首次见到，未经登记", "first seen, and taken on first use: no --genesis was given for it"),
        alarm=False,
    )
    FORK = Words("fork", Text("分叉！账本被改写或复制", "FORK: the ledger says two things"), alarm=True)
    FOREIGN = Words(
        "foreign", Text("他机账本混入", "another robot's ledger came under this name"), alarm=True
    )
    MALFORMED = Words("malformed", Text("无法识别的内容", "what came is no entry"), alarm=True)
    UNJUDGED = Words(
        "unjudged", Text("无法验证，本机缺少算法", "cannot be judged: a suite is missing here"), alarm=True
    )
    SILENT = Words("silent", Text("沉默！没有新记录", "SILENT: no new entry"), alarm=True)
    BACK = Words("back", Text("恢复，又有新记录", "heard again"), alarm=True)
    NOT_KEPT = Words("not_kept", Text("无法写入，未见证", "cannot be written, so not witnessed"), alarm=False)
    DAMAGED = Words(
        "damaged", Text("本机档案已损坏，停止见证", "this record is damaged: not followed"), alarm=True
    )
    TOO_MANY = Words("too_many", Text("机器人过多", "not followed: too many robots"), alarm=False)


REASONS: Final[Mapping[str, Text]] = {
    "other_entry": Text("同一编号内容不同", "another entry under a number that was taken"),
    "second_genesis": Text("第二个起始记录", "a second genesis"),
    "genesis_differs": Text("与登记的起始记录不同", "not the registered genesis"),
    "prev_hash": Text("与前一条不衔接", "does not follow from the entry before"),
    "signature": Text("签名不符", "not signed by the key that the entry before named"),
    "suite": Text("算法擅自更换", "another suite, and no entry said so"),
}
"""Why a fork is one."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to say. `n`: the entry it is about, -1 for none. `reason`: a code of REASONS, or words.

    `proven`: the robot's own key signed both lines. `left_out`: alarms of this robot that were not told
    since the last one. `kept`: it is in the robot's file of alarms. `seconds`: how long it was silent.
    """

    kind: Kind
    robot: str
    n: int = -1
    reason: str = ""
    proven: bool = False
    left_out: int = 0
    kept: bool = False
    seconds: float = 0.0
    entry_kind: str = ""
    evidence: Mapping[str, str] = field(default_factory=dict)
    """`ours` and `theirs`, where there are two lines."""
