"""The table of faults (issue 4, "Bad input and faults"), and running it."""

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hil.log import bits, clockwork, crashes, damage, deletions, failing, tails
from hil.log.nursery import Nursery
from hil.log.owner import new_owner
from hil.log.trial import Ground, Tally

LEDGER, SEGMENTS = ("ledger.jsonl",), (".seg",)
HEADERS, OWN = ("spare", "spare.new"), ("state", "state.key.new", "marks")


@dataclass(frozen=True, slots=True)
class Fault:
    """One row. `run` makes its tries."""

    name: str
    zh: str
    en: str
    run: Callable[[Ground], Tally]


def _rows(*rows: tuple[str, str, str, Callable[[Ground], Tally]]) -> tuple[Fault, ...]:
    return tuple(Fault(*row) for row in rows)


FAULTS = _rows(
    (
        "torn-segment",
        "写入日志段时断在每个字节",
        "segment torn at every byte of a write",
        partial(crashes.torn, ends=SEGMENTS),
    ),
    (
        "torn-ledger",
        "写入账本时断在每个字节",
        "ledger torn at every byte of a write",
        partial(crashes.torn, ends=LEDGER),
    ),
    ("torn-header", "段头断在每个字节", "header torn at every byte", partial(crashes.torn, ends=HEADERS)),
    (
        "torn-own",
        "状态与标记断在每个字节",
        "state, its key, marks torn at every byte",
        partial(crashes.torn, ends=OWN),
    ),
    (
        "cut-open",
        "未封印的段在每个字节截断或清零",
        "open segment cut or zeroed at every byte",
        tails.cut_open_segments,
    ),
    (
        "cut-sealed",
        "已封印的段在每个字节截断",
        "sealed segment cut at every byte",
        tails.cut_sealed_segments,
    ),
    ("cut-ledger", "账本在每个字节截断", "ledger cut at every byte", tails.cut_ledger),
    ("flip", "账本与日志段每一位翻转", "every bit of ledger and segments", bits.flips_in_evidence),
    ("flip-open", "未封印的段每一位翻转", "every bit of open segments", bits.flips_in_open_segments),
    ("flip-state", "签名状态每一位翻转", "every bit of the signing state", bits.flips_in_state),
    ("marks", "去重标记损坏", "damaged marks", bits.damaged_marks),
    ("removed", "日志段被移走", "segment removed", damage.removed),
    ("substituted", "日志段被替换", "segment substituted", damage.substituted),
    ("swapped", "两个日志段互换", "two segments swapped", damage.swapped),
    ("state-back", "签名状态回滚", "state rolled back", damage.state_rolled_back),
    ("forked", "账本分叉", "ledger forked", damage.forked),
    ("replayed", "换上另一账本", "ledger of another log or robot", damage.replayed),
    ("wrong-key", "密钥不符", "wrong key", damage.wrong_key),
    ("unsealed", "未封印", "unsealed file", damage.unsealed),
    ("clock", "时钟前后跳一年", "clock a year forward and back", clockwork.stepped),
    ("enospc", "每次写入时磁盘已满", "ENOSPC at every call", failing.full),
    ("eio", "每次写入或同步时出错", "EIO at every call", failing.failing),
    ("late-end", "补封时中断", "ended late, cut off", failing.late),
    ("eio-landed", "报错但实际已写入", "EIO at every call, and written", failing.landed),
    ("short", "写入不完整", "short writes", failing.short),
    ("kill", "随机时刻 kill -9", "kill -9 at random moments", crashes.killed_at_moments),
    ("kill-call", "随机系统调用处 kill -9", "kill -9 in random system calls", crashes.killed_at_calls),
    ("power", "随机系统调用处断电", "power cut in random system calls", crashes.power_cuts),
    (
        "delete-call",
        "按指令删除时每个系统调用处 kill -9",
        "ordered deletion: kill -9 in every system call",
        deletions.killed_at_calls,
    ),
    (
        "delete-again",
        "续做删除时每个系统调用处再次 kill -9",
        "deletion that a start resumes: killed again in every system call",
        deletions.killed_again,
    ),
    (
        "delete-kill",
        "删除期间随机时刻 kill -9",
        "ordered deletions: kill -9 at random moments",
        deletions.killed_at_moments,
    ),
    (
        "delete-power",
        "删除时每个系统调用处断电",
        "ordered deletion: power cut in every system call",
        deletions.power_cuts,
    ),
    (
        "delete-enospc",
        "删除时每次写入磁盘已满",
        "ordered deletion: ENOSPC at every call",
        deletions.full,
    ),
    ("delete-eio", "删除时每次写入或同步出错", "ordered deletion: EIO at every call", deletions.failing),
)
BY_NAME = {fault.name: fault for fault in FAULTS}


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one row. `seconds`: it took."""

    fault: Fault
    tally: Tally
    seconds: float


def run(
    faults: Sequence[Fault], folder: Path, *, seed: int, thin: int, lives: int, now: Callable[[], float]
) -> Iterator[tuple[Fault, Callable[[Callable[[int], None]], Result]]]:
    """Each row and what makes its tries; that takes whoever hears of each try. Raises NurseryError, OSError.

    `folder`: where temporary folders are made; `thin`, `lives`: see `Ground`; `seed`: of every row's dice.
    """
    with tempfile.TemporaryDirectory(dir=folder) as made, Nursery(Path(made)) as nursery:
        ground = Ground(Path(made), new_owner(), nursery, random.Random(seed), thin, lives)
        for fault in faults:
            yield fault, partial(_run, fault, ground, seed, now)


def _run(
    fault: Fault, ground: Ground, seed: int, now: Callable[[], float], advance: Callable[[int], None]
) -> Result:
    begun_s = now()
    own = replace(ground, dice=random.Random(f"{seed} {fault.name}"), advance=advance)
    return Result(fault, fault.run(own), now() - begun_s)
