"""Everything `verify` can find, one row each: what it means for the verdict, in English and in Chinese."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

CLEAN, EXPLAINED, TAMPERED, INCOMPLETE = range(4)
"""Exit codes of `warden log verify` (README of agent/logformat, "Verdicts")."""
PRECEDENCE: Final = (TAMPERED, INCOMPLETE, EXPLAINED, CLEAN)
"""Of several, the first of these counts."""

VERDICTS: Final = (
    "clean / 完好",
    "explained anomalies / 有可解释的异常",
    "evidence of tampering / 疑似篡改",
    "incomplete / 不完整",
)
"""By exit code."""


class Kind(NamedTuple):
    """One row. `verdict`: the exit code that it alone would give."""

    verdict: int
    english: str
    chinese: str


KINDS: Final[Mapping[str, Kind]] = {
    # ---- the ledger
    "ledger_missing": Kind(INCOMPLETE, "no ledger", "缺少账本"),
    "ledger_form": Kind(TAMPERED, "line of the ledger is not an entry", "账本行格式错误"),
    "ledger_number": Kind(TAMPERED, "entry out of sequence", "账本条目序号错误"),
    "ledger_chain": Kind(TAMPERED, "entry does not follow the one before it", "账本哈希链断裂"),
    "ledger_signature": Kind(TAMPERED, "signature wrong", "签名错误"),
    "ledger_key": Kind(TAMPERED, "next key is none of the suite", "后续公钥不合规"),
    "ledger_robot": Kind(TAMPERED, "entry of another robot", "其他机器人的条目"),
    "ledger_order": Kind(TAMPERED, "entry contradicts those before it", "条目与前文矛盾"),
    "ledger_torn": Kind(INCOMPLETE, "ledger ends in the middle of a line", "账本末行残缺"),
    "ledger_broken_off": Kind(TAMPERED, "an earlier ledger was broken off", "早先账本中断"),
    "suite": Kind(INCOMPLETE, "suite that is not to be had here", "本机缺少该密码套件"),
    "genesis_not_given": Kind(INCOMPLETE, "no registered genesis to compare with", "未提供登记的创世条目"),
    "genesis_differs": Kind(TAMPERED, "not the registered genesis", "与登记的创世条目不符"),
    "genesis_previous": Kind(
        TAMPERED, "genesis names another end of the ledger before", "创世条目所指的前账本不符"
    ),
    "torn_line": Kind(EXPLAINED, "torn line of the ledger, set aside", "账本残行已另存"),
    "torn_line_whole": Kind(
        TAMPERED, "whole lines of a ledger set aside as torn", "完整账本行被当作残行另存"
    ),
    "clock_step": Kind(EXPLAINED, "clock step", "时钟跳变"),
    "loss": Kind(EXPLAINED, "records lost, as recorded", "已记录的丢失"),
    # ---- segments
    "segment_missing": Kind(INCOMPLETE, "segment missing", "缺少日志段"),
    "segment_unknown": Kind(TAMPERED, "segment that the ledger does not know", "账本中没有的日志段"),
    "segment_unopened": Kind(INCOMPLETE, "segment begun, nothing recorded in it", "日志段刚建立，尚无记录"),
    "segment_unjudged": Kind(INCOMPLETE, "segment with no ledger to judge it by", "无账本可核对的日志段"),
    "header": Kind(TAMPERED, "header damaged", "段头损坏"),
    "header_differs": Kind(TAMPERED, "header is not what the ledger says", "段头与账本不符"),
    "frame": Kind(TAMPERED, "frame damaged", "帧损坏"),
    "order": Kind(TAMPERED, "frame out of sequence", "帧顺序错误"),
    "chain": Kind(TAMPERED, "frames are not those that were signed", "帧与签名内容不符"),
    "cut": Kind(TAMPERED, "signed frames are missing", "缺少已签名的帧"),
    "tail": Kind(INCOMPLETE, "torn tail that was not recovered", "未恢复的残尾"),
    "seal": Kind(TAMPERED, "seal damaged", "封印损坏"),
    "seal_differs": Kind(TAMPERED, "seal is not what the ledger says", "封印与账本不符"),
    "untold": Kind(INCOMPLETE, "bytes that no entry speaks of", "账本未述及的字节"),
    "seal_missing": Kind(INCOMPLETE, "segment not sealed", "日志段未封印"),
    "seal_unsigned": Kind(INCOMPLETE, "seal that the ledger does not hold", "账本中缺少封印条目"),
    "after_seal": Kind(TAMPERED, "bytes after the seal", "封印之后有多余字节"),
    "open": Kind(EXPLAINED, "segment open under a running recorder", "记录器正在写入的日志段"),
    "recovered": Kind(EXPLAINED, "torn tail recovered", "残尾已恢复"),
    "damaged": Kind(EXPLAINED, "damage that a recovery recorded", "恢复时已记录的损坏"),
    "torn_missing": Kind(INCOMPLETE, "torn bytes were set aside and are not there", "另存的残余字节缺失"),
    "torn_differs": Kind(TAMPERED, "torn bytes are not what the ledger says", "另存的残余字节与账本不符"),
    # Two crashes, the second before the ledger was told; what such a file holds is held against nothing.
    "torn_unknown": Kind(EXPLAINED, "torn bytes that no recovery names", "未被恢复条目提及的残余字节"),
    # A crash while the room became a segment; a frame is never in it then.
    "spare_used": Kind(EXPLAINED, "room for the next segment is not empty", "预留空间非空"),
    # ---- deletions
    "order_unchecked": Kind(EXPLAINED, "order not checked, no keys given", "未提供密钥，指令未核验"),
    "order_revoked": Kind(EXPLAINED, "order of a person since revoked", "指令签发人已被撤销"),
    "order_bad": Kind(TAMPERED, "order wrong", "指令无效"),
    "gone_missing": Kind(INCOMPLETE, "deleted segment left nothing to check", "已删除日志段的存根缺失"),
    "gone_bad": Kind(TAMPERED, "what stays of a deleted segment is wrong", "已删除日志段的存根不符"),
    "gone_unordered": Kind(TAMPERED, "segment deleted without an entry", "无账本条目的删除"),
    "delete_unfinished": Kind(EXPLAINED, "deletion not finished", "删除未完成"),
    # ---- witness
    "witness_differs": Kind(TAMPERED, "entry is not the one that was witnessed", "条目与见证不符"),
    "witness_cut": Kind(TAMPERED, "witnessed entry is missing", "缺少已见证的条目"),
    "witness_ack": Kind(TAMPERED, "acknowledgement wrong", "见证回执无效"),
    "witness_torn": Kind(EXPLAINED, "witness's record ends in the middle of a line", "见证记录末行残缺"),
    "witness_missing": Kind(INCOMPLETE, "no record of this robot at the witness", "见证方没有该机器人的记录"),
    # ---- files
    "file_unknown": Kind(INCOMPLETE, "file that is no part of a log", "不属于日志的文件"),
    "file_stray": Kind(
        TAMPERED, "file of a log in a wrong place or under a wrong name", "日志文件位置或名称错误"
    ),
    "unreadable": Kind(INCOMPLETE, "cannot be read", "无法读取"),
    "manifest": Kind(TAMPERED, "manifest and files differ", "清单与文件不符"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found. `file`: below the log's folder; `offset`: byte in it; `n`: entry; -1 where none is."""

    kind: str
    file: str
    offset: int = -1
    n: int = -1
    detail: str = ""

    @property
    def verdict(self) -> int:
        """The exit code that this finding alone would give."""
        return KINDS[self.kind].verdict

    def line(self) -> str:
        """For people."""
        row = KINDS[self.kind]
        entry = f" entry {self.n}" if self.n >= 0 else ""
        at = f" byte {self.offset}" if self.offset >= 0 else ""
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.file}{entry}{at}: {row.english} / {row.chinese}{detail}"
