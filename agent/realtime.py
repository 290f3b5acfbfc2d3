"""Settling a process for its work: real-time class, locked memory, collector off; and what was refused.

Under load SCHED_FIFO and locked memory take the p99.9 of a reaction from 4.8 ms to 0.25 ms (DESIGN, "How each
process runs"). Where the system does not grant them the module protects all the same, more slowly, and
says so with the remedy.

Call `settle` after set-up and before the loop: what set-up made is then frozen out of the collector, and
its long computation does not count against the real-time guard below.
"""

import ctypes
import gc
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RTTIME_SOFT_US: Final = 200_000
"""Processor time a real-time process may use without once blocking; then SIGXCPU ends it.

A FIFO process that spins would otherwise hold a core for ever, and the stop of the other channel with it.
200 ms is twice the default ttl: the robot has stopped by then, and a dead process is a stop (DESIGN,
principle 5). Only time spent computing counts, so a starved process on a busy host is not ended. A flood
that keeps it computing for so long without a pause is: the robot stops, and the process comes back.
"""
RTTIME_HARD_US: Final = 1_000_000
"""The same with SIGKILL, should SIGXCPU ever be blocked."""

KINDS: Final = ("fifo", "memory_locked", "collector_off")
"""The three things a report speaks of; the label `kind` of the metric `realtime`."""

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_PR_SET_TIMERSLACK = 29
_CAP_IPC_LOCK = 14


@dataclass(frozen=True, slots=True)
class RealtimeReport:
    """What the process has now.

    `reasons`: one line for each thing asked for and not granted, with its remedy, Chinese beside English;
    empty when all was granted or nothing was asked.
    """

    fifo: bool
    memory_locked: bool
    collector_off: bool
    reasons: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """JSON-able, for `warden status` (`modules.<name>.realtime`) and the start record."""
        granted: dict[str, object] = {kind: getattr(self, kind) for kind in KINDS}
        return granted | {"reasons": list(self.reasons)}


def settle(*, fifo_priority: int, freeze_collector: bool) -> RealtimeReport:
    """Take what the system grants and report it; never raises for what it refuses.

    `fifo_priority`: 1 to 99 asks for SCHED_FIFO, locked memory and exact timers, for the calling thread and
    the process; 0 asks for none of them. Threads and children started later are ordinary ones again.
    `freeze_collector`: what exists now is never looked at again, and the collector is off; only for a
    process that makes no reference cycles as it runs.
    """
    reasons: list[str] = []
    fifo = locked = False
    if fifo_priority > 0:
        reasons += _sharpen_timers()
        fifo = _granted(_take_fifo(fifo_priority), reasons)
        locked = _granted(lock_memory(), reasons)
    if freeze_collector:
        _freeze_collector()
    return RealtimeReport(fifo, locked, not gc.isenabled(), tuple(reasons))


def _granted(refusals: list[str], reasons: list[str]) -> bool:
    reasons += refusals
    return not refusals


def _take_fifo(priority: int) -> list[str]:
    try:
        _guard_against_spinning()
        # Reset on fork: a helper thread or a child must not compete with the stop path.
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except (OSError, ValueError) as error:
        return [_not_realtime(priority, _plain(error))]
    return []


def _not_realtime(priority: int, why: str) -> str:
    limit = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
    return (
        f"SCHED_FIFO {priority} refused ({why}; RLIMIT_RTPRIO is {limit}): set LimitRTPRIO={priority} in the"
        " unit, or grant CAP_SYS_NICE (to the container too) / 未获得实时调度，反应会变慢"
    )


def _guard_against_spinning() -> None:
    """Before the class is taken, so that there is no moment without it; a lower limit in force is kept."""
    soft, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
    hard = _lower(hard, RTTIME_HARD_US)
    resource.setrlimit(resource.RLIMIT_RTTIME, (_lower(soft, min(hard, RTTIME_SOFT_US)), hard))


def _lower(limit: int, wanted: int) -> int:
    return wanted if limit == resource.RLIM_INFINITY else min(limit, wanted)


def lock_memory(*, on_fault: bool = False) -> list[str]:
    """All memory, now and later, and only where later can not fail; the reasons where it was refused.

    `on_fault`: pages from their first use on, for a process that has secrets and no deadlines; otherwise all
    are made resident at once, so that no page fault comes in the middle of a stop. Under a finite
    RLIMIT_MEMLOCK the lock itself may succeed and an allocation fail later, so that is refused here instead.
    """
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit != resource.RLIM_INFINITY and not _has_capability(_CAP_IPC_LOCK):
        return [_unlocked(f"RLIMIT_MEMLOCK is {limit} bytes")]
    if _libc().mlockall(_MCL_CURRENT | _MCL_FUTURE | (_MCL_ONFAULT if on_fault else 0)) != 0:
        return [_unlocked(os.strerror(ctypes.get_errno()))]
    return []


def _unlocked(why: str) -> str:
    return (
        f"mlockall refused ({why}): set LimitMEMLOCK=infinity in the unit, or grant CAP_IPC_LOCK"
        " / 内存未锁定，可能被换出"
    )


def _sharpen_timers() -> list[str]:
    """1 ns of slack instead of 50 µs on epoll's time-outs; a FIFO thread has none anyway."""
    if _libc().prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1), 0, 0, 0) == 0:
        return []
    return [
        f"timer slack kept ({os.strerror(ctypes.get_errno())}): time-outs may be 50 µs late / 定时精度未提高"
    ]


def _freeze_collector() -> None:
    gc.collect()
    gc.freeze()
    gc.disable()


def _has_capability(number: int) -> bool:
    """One effective capability of this process, from /proc; False where /proc does not say."""
    try:
        status = Path("/proc/self/status").read_bytes()
    except OSError:
        return False
    masks = [line.split()[1] for line in status.splitlines() if line.startswith(b"CapEff:")]
    return bool(masks) and bool(int(masks[0], 16) >> number & 1)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _plain(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
