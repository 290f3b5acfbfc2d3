"""`settle` in processes of their own, held to what the kernel says of them afterwards."""

import ctypes
import errno
import gc
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent import realtime
from agent.realtime import KINDS, RTTIME_HARD_US, RTTIME_SOFT_US, RealtimeReport

ROOT = Path(__file__).parents[1]

OBSERVE = """
import ctypes, gc, json, os, resource, sys, threading
from agent.realtime import settle

def settle_and_tell(**asked):
    report = settle(**asked)
    locked = next(line for line in open("/proc/self/status") if line.startswith("VmLck"))
    policies = []
    thread = threading.Thread(target=lambda: policies.append(os.sched_getscheduler(0)))
    thread.start()
    thread.join()
    print(json.dumps(dict(
        report=report.as_dict(), policy=os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK,
        priority=os.sched_getparam(0).sched_priority, thread_policy=policies[0],
        locked_kib=int(locked.split()[1]), collector=gc.isenabled(), frozen=gc.get_freeze_count(),
        rttime=resource.getrlimit(resource.RLIMIT_RTTIME), slack_ns=ctypes.CDLL(None).prctl(30, 0, 0, 0, 0),
    )), flush=True)
    return report

def give_up_rights():
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
"""


@dataclass(frozen=True)
class Observed:
    report: RealtimeReport
    policy: int
    priority: int
    thread_policy: int
    locked_kib: int
    collector: bool
    frozen: int
    rttime: list[int]
    slack_ns: int


def run(script: str) -> tuple[Observed, int]:
    """What the child saw, and how it ended."""
    done = subprocess.run(
        [sys.executable, "-c", OBSERVE + script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    seen = json.loads(done.stdout)
    report = seen.pop("report")
    assert set(report) == {*KINDS, "reasons"}
    return Observed(
        report=RealtimeReport(**report | {"reasons": tuple(report["reasons"])}), **seen
    ), done.returncode


def test_the_report_is_what_the_kernel_says() -> None:
    seen, code = run("settle_and_tell(fifo_priority=50, freeze_collector=True)")
    assert code == 0
    assert (seen.policy, seen.priority) == ((os.SCHED_FIFO, 50) if seen.report.fifo else (os.SCHED_OTHER, 0))
    assert seen.report.memory_locked == (seen.locked_kib > 0)
    assert seen.report.collector_off is (not seen.collector) is True
    assert seen.frozen > 1000
    refused = [not seen.report.fifo, not seen.report.memory_locked]
    assert len(seen.report.reasons) == sum(refused)


def test_helper_threads_are_ordinary_ones() -> None:
    seen, _ = run("settle_and_tell(fifo_priority=50, freeze_collector=True)")
    assert seen.thread_policy == os.SCHED_OTHER


def test_whatever_is_refused_is_said_with_its_remedy_and_raises_nothing() -> None:
    seen, code = run("give_up_rights(); settle_and_tell(fifo_priority=50, freeze_collector=True)")
    assert code == 0
    assert seen.report.fifo is False
    assert seen.report.memory_locked is False
    assert seen.report.collector_off is True
    fifo, memory = seen.report.reasons
    assert "SCHED_FIFO 50 refused" in fifo
    assert "LimitRTPRIO=50" in fifo
    assert "CAP_SYS_NICE" in fifo
    assert "未获得实时调度" in fifo
    assert "RLIMIT_MEMLOCK is 65536 bytes" in memory
    assert "LimitMEMLOCK=infinity" in memory
    assert "内存未锁定" in memory
    assert (seen.policy, seen.locked_kib) == (os.SCHED_OTHER, 0)


def test_timers_are_exact_even_without_the_real_time_class() -> None:
    seen, _ = run("give_up_rights(); settle_and_tell(fifo_priority=50, freeze_collector=False)")
    assert seen.slack_ns == 1


def test_a_lock_that_could_make_a_later_allocation_fail_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A finite limit may be room enough for mlockall now, and is no promise for later."""
    granted: list[int] = []

    def lock(flags: int) -> int:
        granted.append(flags)
        return 0

    monkeypatch.setattr(realtime, "_libc", lambda: SimpleNamespace(mlockall=lock))
    monkeypatch.setattr(realtime, "_has_capability", lambda _: False)
    monkeypatch.setattr("resource.getrlimit", lambda _: (1 << 30, 1 << 30))
    assert "RLIMIT_MEMLOCK is 1073741824 bytes" in realtime.lock_memory()[0]
    assert granted == []
    monkeypatch.setattr(realtime, "_has_capability", lambda _: True)
    assert realtime.lock_memory() == []
    assert granted == [3]  # MCL_CURRENT | MCL_FUTURE


def test_nothing_asked_is_nothing_taken_and_no_complaint() -> None:
    seen, _ = run("settle_and_tell(fifo_priority=0, freeze_collector=False)")
    assert seen.report == RealtimeReport(fifo=False, memory_locked=False, collector_off=False, reasons=())
    assert (seen.policy, seen.locked_kib, seen.frozen) == (os.SCHED_OTHER, 0, 0)


def test_the_guard_is_in_force_and_never_loosens_a_tighter_one() -> None:
    seen, _ = run("settle_and_tell(fifo_priority=50, freeze_collector=False)")
    assert seen.rttime == [RTTIME_SOFT_US, RTTIME_HARD_US]
    seen, _ = run(
        "resource.setrlimit(resource.RLIMIT_RTTIME, (50000, 60000));"
        "settle_and_tell(fifo_priority=50, freeze_collector=False)"
    )
    assert seen.rttime == [50000, 60000]


def test_a_real_time_process_that_spins_is_ended() -> None:
    """Where FIFO is granted; an ordinary process that spins holds up nobody and may go on."""
    seen, code = run(
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "report = settle_and_tell(fifo_priority=1, freeze_collector=False)\n"
        "while report.fifo: pass"
    )
    expected = -signal.SIGXCPU if seen.report.fifo else 0
    assert code == expected


class _Refusing:
    """A C library whose every call fails with EPERM."""

    @staticmethod
    def _fail(*_: object) -> int:
        ctypes.set_errno(errno.EPERM)
        return -1

    prctl = mlockall = _fail


def test_a_kernel_that_refuses_every_call_is_reported_call_by_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(realtime, "_libc", _Refusing)
    monkeypatch.setattr(realtime, "_has_capability", lambda _: True)
    monkeypatch.setattr("resource.setrlimit", refuse)
    report = realtime.settle(fifo_priority=50, freeze_collector=False)
    assert (report.fifo, report.memory_locked, report.collector_off) == (False, False, not gc.isenabled())
    slack, fifo, memory = report.reasons
    assert "timer slack kept (Operation not permitted)" in slack
    assert "not allowed to raise maximum limit" in fifo  # without the guard the class is not taken
    assert "mlockall refused (Operation not permitted)" in memory


def test_no_proc_no_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Path) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_bytes", missing)
    assert realtime._has_capability(0) is False
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"Name:\tx\n")
    assert realtime._has_capability(0) is False


@pytest.mark.parametrize(("mask", "has"), [(b"0000000000004000", True), (b"000001ffffffbfff", False)])
def test_capability_14_is_read_from_its_bit(monkeypatch: pytest.MonkeyPatch, mask: bytes, has: bool) -> None:
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"CapPrm:\tffffffffffffffff\nCapEff:\t" + mask + b"\n")
    assert realtime._has_capability(14) is has
