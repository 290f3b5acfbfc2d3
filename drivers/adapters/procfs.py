"""What /proc and pidfds say of one process. Everything here is a moment's truth: see `family` for what holds.

An OSError that does not mean "no such process" (no descriptor left, no right) goes on to the caller: not
being able to look is never taken for nobody being there.
"""

import os
import select
import signal
from pathlib import Path
from typing import NamedTuple

PROC = "/proc"
_STAT_BYTES = 1024
"""A stat line is some 350 bytes; the command's name in it has 15 at most."""
_SIGNAL_PROCESS_GROUP = 1 << 2
"""PIDFD_SIGNAL_PROCESS_GROUP (linux/pidfd.h), since Linux 6.9."""
GONE = (FileNotFoundError, ProcessLookupError)
"""How /proc says that there is no such process (any more)."""
STOPPED = frozenset("TtZX")
"""States in which no instruction is run: stopped, stopped by a tracer, dead."""


class Stat(NamedTuple):
    """The fields of /proc/PID/stat that are used (proc_pid_stat(5))."""

    pid: int
    state: str
    ppid: int
    pgrp: int
    session: int
    threads: int
    start_ticks: int
    """Since boot, in clock ticks (10 ms). With the pid it names one process for good."""


def pids() -> list[int]:
    """Every process of this moment."""
    return _numbers(PROC)


def read_stat(pid: int) -> Stat | None:
    """None when there is no such process (any more)."""
    return parse_stat(_read(f"{PROC}/{pid}/stat"))


def parse_stat(line: bytes) -> Stat | None:
    """One stat line; None when it is none. The name in it may hold brackets: the last one counts."""
    head, bracket, tail = line.rpartition(b")")
    fields = tail.split()
    pid = head.split(b" ", 1)[0]
    if not bracket or len(fields) < 20 or not pid.isdigit():
        return None
    try:
        ppid, pgrp, session, threads, start = (int(fields[index]) for index in (1, 2, 3, 17, 19))
    except ValueError:
        return None
    return Stat(int(pid), fields[0].decode("ascii", "replace"), ppid, pgrp, session, threads, start)


def group_of(pid: int) -> int | None:
    """Its process group at this moment; None when there is no such process."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def thread_ids(pid: int) -> list[int]:
    """Empty when there is no such process."""
    try:
        return _numbers(f"{PROC}/{pid}/task")
    except GONE:
        return []


def thread_state(pid: int, tid: int) -> str:
    """The state's letter; "X" when the thread is gone."""
    stat = parse_stat(_read(f"{PROC}/{pid}/task/{tid}/stat"))
    return "X" if stat is None else stat.state


def real_uid(pid: int) -> int | None:
    """None when there is no such process, or it may not be looked at."""
    words = _status(pid).get(b"Uid")
    return None if words is None else int(words.split()[0])


def stop_pending(pid: int) -> bool:
    """True when SIGSTOP waits for it: nothing but the kernel's own sleep stands between it and the stop."""
    status = _status(pid)
    waiting = int(status.get(b"SigPnd", b"0"), 16) | int(status.get(b"ShdPnd", b"0"), 16)
    return bool(waiting >> (signal.SIGSTOP - 1) & 1)


def program(pid: int) -> str | None:
    """The path of what it runs, also where that was replaced on disk since; None for a process that is gone.

    Raises PermissionError where this process may not know (another user's, without CAP_SYS_PTRACE).
    """
    try:
        return str(Path(f"{PROC}/{pid}/exe").readlink()).removesuffix(" (deleted)")
    except GONE:  # or a zombie, or a thread of the kernel
        return None


def open_pidfd(pid: int) -> int | None:
    """A descriptor that means this one process for ever; None when there is none of that number."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def ended(pidfd: int) -> bool:
    """True once every thread of it has ended (it may still wait to be reaped)."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def send(pidfd: int, number: int) -> bool:
    """Signal one process; False when this process may not. One that has ended needs none."""
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def send_group(pidfd: int, number: int) -> bool:
    """Signal the whole process group that `pidfd` leads, in one step that no fork can slip through.

    False where it was not done: a kernel before 6.9, no right, or nobody left in it.
    """
    try:
        signal.pidfd_send_signal(pidfd, number, None, _SIGNAL_PROCESS_GROUP)
    except OSError:
        return False
    return True


def _status(pid: int) -> dict[bytes, bytes]:
    """/proc/PID/status, by key; empty when there is no such process."""
    lines = _read(f"{PROC}/{pid}/status", 4096).splitlines()
    return {key: value for key, _, value in (line.partition(b":") for line in lines)}


def _read(path: str, limit: int = _STAT_BYTES) -> bytes:
    """Empty when the process is gone, also between the calls; any other OSError is no proof of that."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, limit)
        finally:
            os.close(fd)
    except GONE:
        return b""


def _numbers(folder: str) -> list[int]:
    with os.scandir(folder) as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]
