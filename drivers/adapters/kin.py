"""Which processes belong to a target: by pid file, by program and user, by cgroup, or by who began them.

Each way says who belongs *now* (`find`), and once those are held by a pidfd, whether they still did then
(`confirm`): only what holds at both ends of that is ever signalled, so a pid that was reused in between
is not.

Searching reads some hundred small files, so it is a generator: each `yield` is a place where the loop may
turn to something else.
"""

import errno
import os
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

from agent.errors import WardenError
from drivers.adapters import procfs
from drivers.adapters.procfs import Stat

MAX_PID_FILE = 32
"""Bytes: a number and its line end."""
WRITTEN_SLACK_S = 2.0
"""A process starts before it writes its pid file; both times are rounded to 10 ms, and clocks slew."""
GONE = frozenset({errno.ENOENT, errno.ENODEV})
"""What reading a control group says when it was removed meanwhile."""

Search: TypeAlias = Generator[None, None, list[Stat]]
Group: TypeAlias = tuple[int, int]
"""(process group, session). Its number is free for others only when its last process has ended, and comes up
again after all other pids: the pair found again within a second is the same group."""

Held: TypeAlias = Mapping[int, int]
"""Pid -> start, in ticks, of the processes found before that have not ended."""


class TargetError(WardenError):
    """Who is meant cannot be said for certain, so nobody is touched. `reason`: one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Kin(Protocol):
    """One way to say who belongs to the target."""

    whole_groups: bool
    """True: a process group that one member leads belongs as a whole, so it may be signalled as one."""
    unsure: int
    """Processes that may belong, but this process may not look at what they are."""

    def find(self, held: Held) -> Search:
        """Who belongs now, those held included. Raises TargetError."""

    def confirm(self, found: list[Stat]) -> list[Stat]:
        """Those of `found`, now held by pidfd, that belong still."""


# ------------------------------------------------------------------------------------- by groups and descent


def check_visible() -> None:
    """Raises TargetError where /proc hides other users' processes: not seen would not mean not there."""
    if procfs.read_stat(1) is None:
        raise TargetError("/proc hides other users' processes here (hidepid, ProtectProc=)")


def take_table(*, own: bool = False) -> Generator[None, None, dict[int, Stat]]:
    """All processes of (nearly) one moment, by pid; `own`: those of other users need not be seen."""
    if not own:
        check_visible()
    table: dict[int, Stat] = {}
    for pid in procfs.pids():
        try:
            entry = procfs.read_stat(pid)
        except PermissionError:
            if not own:
                raise
            entry = None
        if entry is not None:
            table[pid] = entry
        yield
    return table


def relatives(table: Mapping[int, Stat], seeds: Held, bound: Callable[[Stat], bool]) -> list[Stat]:
    """The seeds, whoever is bound to them (by group or session), and all that these began."""
    children = defaultdict(list)
    for entry in table.values():
        children[entry.ppid].append(entry)
    stack = [entry for entry in table.values() if seeds.get(entry.pid) == entry.start_ticks or bound(entry)]
    found: dict[int, Stat] = {}
    while stack:
        entry = stack.pop()
        if entry.pid not in found:
            found[entry.pid] = entry
            stack += children[entry.pid]
    return list(found.values())


class PidFileKin:
    """The process whose number a file holds, its process group, and all that they began.

    Taken for the right one when its program is `exe`, its real user `uid`, and it started before the file was
    last written (`newer_ok`: that is not asked, for a machine whose clock is set after the robot's software
    started). The file must belong to root, to `uid` or to this process's user and not be writable by others.
    """

    whole_groups = True
    unsure = 0

    def __init__(self, path: str, exe: str, uid: int, *, newer_ok: bool = False) -> None:
        self._path = path
        self._exe = exe
        self._uid = uid
        self._newer_ok = newer_ok
        self._group: Group | None = None
        self._root: Stat | None = None
        self._number = 0

    def find(self, held: Held) -> Search:
        if self._group is None:
            self._root = self._locate()
            self._group = (self._root.pgrp, self._root.session) if self._root else None
        table = yield from take_table()
        if self._group is None:
            self._check_nobody_left(table)
            return []
        group = self._group
        seeds = dict(held) | ({self._root.pid: self._root.start_ticks} if self._root else {})
        return relatives(table, seeds, lambda entry: (entry.pgrp, entry.session) == group)

    def confirm(self, found: list[Stat]) -> list[Stat]:
        root, self._root = self._root, None
        if root is not None and any(_same(root, entry) for entry in found):
            _check_program(root.pid, self._exe, self._uid)
        return found

    def _locate(self) -> Stat | None:
        """The process of the file; None when there is none of that number. Raises TargetError."""
        pid, written_s = self._read()
        self._number = pid
        check_visible()
        root = procfs.read_stat(pid)
        if root is None or root.state in "ZX":
            return None
        _check_program(pid, self._exe, self._uid)
        if not self._newer_ok and _started_s(root) > written_s + WRITTEN_SLACK_S:
            raise TargetError(f"process {pid} started after {self._path} was written: its pid was reused")
        return root

    def _read(self) -> tuple[int, float]:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                found, content = os.fstat(fd), os.read(fd, MAX_PID_FILE + 1)
            finally:
                os.close(fd)
        except OSError as error:
            raise TargetError(f"{self._path}: {os.strerror(error.errno or 0)}") from error
        owners = {0, os.geteuid(), self._uid}
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in owners or found.st_mode & 0o022:
            raise TargetError(f"{self._path} is not a file that only root or the robot's user can write")
        text = content.strip()
        if len(content) > MAX_PID_FILE or not text.isdigit() or int(text) < 2:
            raise TargetError(f"{self._path} holds no process id")
        return int(text), found.st_mtime

    def _check_nobody_left(self, table: Mapping[int, Stat]) -> None:
        """A group outlives its leader; nothing proves whose it is once the leader has gone."""
        number = self._number
        left = sum(entry.pgrp == number and entry.state not in "ZX" for entry in table.values())
        if left:
            raise TargetError(
                f"process {number} has ended, but {left} of a group of that number: whose are they?"
            )


class ProgramKin:
    """Every process of one user that runs one program, their process groups, and all that they began."""

    whole_groups = True
    unsure = 0

    def __init__(self, exe: str, uid: int) -> None:
        self._exe = exe
        self._uid = uid
        self._groups: set[Group] = set()

    def find(self, held: Held) -> Search:
        table = yield from take_table()
        seeds = dict(held)
        self.unsure = 0
        for entry in table.values():
            if self._is_root(entry):
                seeds[entry.pid] = entry.start_ticks
                self._groups.add((entry.pgrp, entry.session))
            yield
        return relatives(table, seeds, lambda entry: (entry.pgrp, entry.session) in self._groups)

    def confirm(self, found: list[Stat]) -> list[Stat]:
        return found

    def _is_root(self, entry: Stat) -> bool:
        if entry.state in "ZX":
            return False
        try:
            if not _runs(entry.pid, self._exe, self._uid):
                return False
        except TargetError:
            self.unsure += entry.pid != 1  # never the robot's: it would not be signalled if it were
            return False
        again = procfs.read_stat(entry.pid)
        return again is not None and _same(again, entry)


class SessionKin:
    """All that a program of ours began: what is in its session, and what descends from it.

    `leader` must be a child of this process that is not reaped yet: so long is its number nobody else's.
    What leaves the session *and* loses its parent between two looks is not found: only a cgroup holds that.
    """

    whole_groups = True
    unsure = 0

    def __init__(self, leader: int) -> None:
        self._leader = leader

    def find(self, held: Held) -> Search:
        table = yield from take_table(own=True)
        return relatives(table, held, lambda entry: entry.session == self._leader)

    def confirm(self, found: list[Stat]) -> list[Stat]:
        return found


# ------------------------------------------------------------------------------------------------- by cgroup


class CgroupKin:
    """Every process in a control group (version 2) and those below it: nothing gets out of it by forking."""

    whole_groups = False
    unsure = 0

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._seen = False

    def find(self, held: Held) -> Search:
        # One that goes away later has lost its last process; one that never was is a mistake in the plan.
        if not self._seen and not (self._folder / "cgroup.procs").is_file():
            raise TargetError(f"there is no control group {self._folder}")
        self._seen = True
        check_visible()
        found: list[Stat] = []
        for pid in self._pids():
            entry = procfs.read_stat(pid)
            if entry is not None:
                found.append(entry)
            yield
        return found

    def confirm(self, found: list[Stat]) -> list[Stat]:
        """Listed once more while its pidfd is alive: the number cannot have meant anyone else."""
        still = self._pids() if found else frozenset()
        return [entry for entry in found if entry.pid in still]

    def _pids(self) -> frozenset[int]:
        listed: set[int] = set()
        for path in self._folder.rglob("cgroup.procs"):
            try:
                listed.update(int(line) for line in path.read_text("ascii").split())
            except OSError as error:
                if error.errno not in GONE:
                    raise TargetError(f"{path}: {os.strerror(error.errno or 0)}") from error
        return frozenset(listed)


# ---------------------------------------------------------------------------------------- one process's facts


def _same(one: Stat, other: Stat) -> bool:
    return (one.pid, one.start_ticks) == (other.pid, other.start_ticks)


def _runs(pid: int, exe: str, uid: int) -> bool:
    """Raises TargetError where this process may not know."""
    if procfs.real_uid(pid) != uid:
        return False
    try:
        return procfs.program(pid) == exe
    except PermissionError as error:
        raise TargetError(
            f"what process {pid} runs may not be read: same user or CAP_SYS_PTRACE needed"
        ) from error


def _check_program(pid: int, exe: str, uid: int) -> None:
    if not _runs(pid, exe, uid):
        raise TargetError(
            f"process {pid} is not {exe} of user {uid}: its pid was reused, or the plan is wrong"
        )


def _started_s(entry: Stat) -> float:
    """On the wall clock, seconds, as its clock goes now."""
    ago_s = time.clock_gettime(time.CLOCK_BOOTTIME) - entry.start_ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - ago_s
