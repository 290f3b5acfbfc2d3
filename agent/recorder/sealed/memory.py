"""Keys in memory: kept out of swap, core dumps and other processes' reach as far as the system grants it.

Python and the libraries below it copy keys, so wiping what we hold (`segment.wipe`) is the smaller half; the
larger is that no memory of this process is swapped out or can be read at all. For the same reason the whole
process is locked or nothing: locked buffers of ours would say more than they keep.
"""

import ctypes
import os
import resource
from dataclasses import dataclass
from typing import Final

from agent.realtime import lock_memory

_PR_SET_DUMPABLE: Final = 4


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """What protects the keys now.

    `dumpable`: another process of the same user could read the memory (ptrace, /proc/<pid>/mem), or a crash
    leave it in a file. `locked`: nothing is swapped out. `reasons`: one line for each thing refused, with its
    remedy, Chinese beside English.
    """

    dumpable: bool
    locked: bool
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """JSON-able, for `warden status`."""
        return {"dumpable": self.dumpable, "locked": self.locked, "reasons": list(self.reasons)}


def protect() -> MemoryReport:
    """Takes what the system grants and reports it; never raises for what it refuses. Before the first key."""
    undumpable, unlocked = _no_dumps(), lock_memory(on_fault=True)
    return MemoryReport(bool(undumpable), not unlocked, (*undumpable, *unlocked))


def _no_dumps() -> list[str]:
    refused = []
    if _prctl(_PR_SET_DUMPABLE, 0) != 0:
        refused.append(os.strerror(ctypes.get_errno()))
    try:
        # Where core_pattern is a pipe this limit is not asked, and PR_SET_DUMPABLE alone decides (core(5)).
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        refused.append(str(error))
    if not refused:
        return []
    why = "; ".join(refused)
    remedy = "set LimitCORE=0 in the unit and permit prctl in its SystemCallFilter="
    return [f"memory may be dumped ({why}): {remedy} / 进程内存可能被转储，密钥会外泄"]


def _prctl(option: int, value: int) -> int:
    result: int = ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), 0, 0, 0)
    return result
