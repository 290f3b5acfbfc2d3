"""The run permit (PROTOCOL 1): one deadline record per module, written here, read by the robot.

How the record stays true at every instant, whoever is stopped, killed or frozen half way:

* A value and its complement are neighbours and are stored together, so between any two stores of ours the
  record is valid. A writer that is preempted between them leaves a readable permit, not a false trip.
* Each store is one slice assignment to the mapping: CPython does it as one memcpy, and glibc does a memcpy
  of 8 or 16 bytes with stores no narrower than 8 bytes (x86-64: one mov, or one 16-byte movups; aarch64:
  str, or stp). The fields being aligned, each is one store. `struct.pack_into("<Q", ...)` would not do: it
  writes byte by byte. Only liveness rests on this; a torn field fails its complement, and that is a stop.
* Less is stored before more: a withdrawn deadline is the first store of a stop, a new deadline the last of
  a grant. So every prefix of a write is a permit that was given before, is given now, or is no permit.
* A reader may be overtaken while it copies. It takes `motion_until_ns` before and after the rest and reads
  again when they differ; with the order above, what lies between then belongs to that deadline.
* On a processor that reorders stores (ARM) `_fence` keeps the order.
"""

import fcntl
import mmap
import os
import stat
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from agent.core.responses import Response
from agent.errors import WardenError

SIZE = 64
MAGIC = b"WPERMIT1"
MODE = 0o644
"""The robot's user reads it; nobody but the module writes it."""
RE_READS = 3
"""PROTOCOL 1: after the first read."""

_ALL_ONES = (1 << 64) - 1
_RECORD = struct.Struct("<8sQQQQIIHHBBHQ")
_DEADLINE = struct.Struct("<QQ")
_EPOCH = struct.Struct("<II")
_MANNER = struct.Struct("<HHBBH")
_SEQUENCE = struct.Struct("<Q")
_MAGIC_AT = slice(0, 8)
_MOTION_AT = slice(8, 24)
_POWER_AT = slice(24, 40)
_EPOCH_AT = slice(40, 48)
_MANNER_AT = slice(48, 56)
_SEQUENCE_AT = slice(56, 64)

_WITHDRAWN = _DEADLINE.pack(0, _ALL_ONES)
_MAX_EPOCH = (1 << 32) - 1
_MAX_SPEED_PERMILLE = 1000
# ss1 is seconds: a deadline found further ahead is from before a reboot, when CLOCK_MONOTONIC began again.
_BELIEVABLE_NS = 60_000_000_000


class PermitError(WardenError):
    """A permit cannot be held, or a write was out of range; the permit is then withdrawn.

    `path`: the permit file. `reason`: what was wrong, with the value.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Permit:
    """One record.

    Deadlines: CLOCK_MONOTONIC, nanoseconds, 0 = withdrawn. `epoch`: 0 to 2**32-1. `speed_permille`: 0 to
    1000 of full speed. `response`: 0 to 7, a `Response`. `sequence`: the number of the write.
    """

    motion_until_ns: int
    power_until_ns: int
    epoch: int
    speed_permille: int
    response: int
    sequence: int


VOID = Permit(
    motion_until_ns=0,
    power_until_ns=0,
    epoch=0,
    speed_permille=0,
    response=Response.EMERGENCY_STOP,
    sequence=0,
)
"""What a missing, short or damaged file counts as."""


def parse(record: bytes) -> Permit | None:
    """The permit in one copy of the file, or None for anything but a whole record of this version.

    Checked: length, magic, every complement, the zero field, and that speed and response are in range.
    """
    if len(record) < SIZE:
        return None
    fields = _RECORD.unpack_from(record)
    magic, motion, no_motion, power, no_power, epoch, no_epoch, speed, no_speed, response, no_response = (
        fields[:11]
    )
    pairs_hold = (
        motion ^ no_motion == power ^ no_power == _ALL_ONES
        and epoch ^ no_epoch == _MAX_EPOCH
        and speed ^ no_speed == 0xFFFF
        and response ^ no_response == 0xFF
    )
    in_range = speed <= _MAX_SPEED_PERMILLE and response <= Response.RETIRE and fields[11] == 0
    if magic != MAGIC or not pairs_hold or not in_range:
        return None
    return Permit(motion, power, epoch, speed, response, fields[12])


class PermitWriter:
    """Holds one module's permit; belongs to one thread.

    The file is created once and never truncated, replaced or unlinked, so a robot's mapping stays good
    across a restart. Opening it withdraws motion. A second writer of the same file is refused: one that
    renews would undo the stop of the other.
    """

    found: Permit | None
    """The record before this writer touched it, for the epoch to go on from; None if there was none."""

    def __init__(self, path: Path) -> None:
        """Opens or creates the file. Raises PermitError where it cannot or must not be written."""
        self.path = path
        self._fd = _open_for_writing(path)
        try:
            before = os.pread(self._fd, SIZE, 0)
            if len(before) < SIZE:
                # Not ftruncate: a full tmpfs must say so here, and not as SIGBUS at a later stop.
                os.posix_fallocate(self._fd, 0, SIZE)
            self._map = mmap.mmap(self._fd, SIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as error:
            os.close(self._fd)
            raise _refused(path, error) from error
        self.found = parse(before)
        self._epoch = self.found.epoch if self.found else 0
        self._sequence = self.found.sequence if self.found else 0
        self._motion_until_ns = 0
        self._power_until_ns = _believable_ns(self.found)
        self._start_stopped()

    def write(
        self, *, motion_until_ns: int, power_until_ns: int, epoch: int, speed_permille: int, response: int
    ) -> None:
        """Stores one permit; a few microseconds, no system call.

        Deadlines: CLOCK_MONOTONIC, nanoseconds, 0 to 2**64-1. `epoch`: 0 to 2**32-1, never less than before.
        `speed_permille`: 0 to 1000. `response`: 0 to 7. Raises PermitError, with everything withdrawn, for
        a value out of range or a closed writer.
        """
        if motion_until_ns < self._motion_until_ns or epoch != self._epoch:
            # Nothing before this line can raise: a stop is stored before its arguments are looked at.
            self._store_motion(0, _WITHDRAWN)
            _fence()
        try:
            self._check(epoch, speed_permille, response)
            motion = _DEADLINE.pack(motion_until_ns, motion_until_ns ^ _ALL_ONES)
            power = _DEADLINE.pack(power_until_ns, power_until_ns ^ _ALL_ONES)
        except (TypeError, ValueError, struct.error) as error:
            self.withdraw()
            raise PermitError(self.path, str(error)) from error
        self._store_power(power_until_ns, power)
        self._store_manner(epoch, speed_permille, response)
        _fence()
        self._store_motion(motion_until_ns, motion)
        self._count()

    def withdraw(self, *, power_until_ns: int = 0) -> None:
        """The very first thing on a stop: motion now, then power at `power_until_ns` (CLOCK_MONOTONIC).

        Never raises and never grants: power that ends sooner already is left to end sooner.
        """
        if self._map.closed:
            return
        self._store_motion(0, _WITHDRAWN)
        _fence()
        until_ns = max(0, min(power_until_ns, self._power_until_ns))
        self._store_power(until_ns, _DEADLINE.pack(until_ns, until_ns ^ _ALL_ONES))
        self._count()

    def close(self) -> None:
        """Withdraws motion and power first. Idempotent; the file stays for its readers."""
        if self._map.closed:
            return
        self.withdraw()
        self._store_manner(self._epoch, 0, Response.EMERGENCY_STOP)
        self._count()
        self._map.close()
        os.close(self._fd)

    def _start_stopped(self) -> None:
        self.withdraw(power_until_ns=self._power_until_ns)
        self._store_manner(self._epoch, 0, Response.EMERGENCY_STOP)
        # Last, so that what was no record becomes one only when every field in it says stop.
        _fence()
        self._map[_MAGIC_AT] = MAGIC
        self._count()

    def _check(self, epoch: int, speed_permille: int, response: int) -> None:
        if self._map.closed:
            raise ValueError("the writer is closed")
        if not self._epoch <= epoch <= _MAX_EPOCH:
            raise ValueError(f"epoch must be {self._epoch} to {_MAX_EPOCH}, not {epoch}")
        if not 0 <= speed_permille <= _MAX_SPEED_PERMILLE:
            raise ValueError(f"speed_permille must be 0 to {_MAX_SPEED_PERMILLE}, not {speed_permille}")
        if not 0 <= response <= Response.RETIRE:
            raise ValueError(f"response must be 0 to {Response.RETIRE}, not {response}")

    def _store_motion(self, until_ns: int, deadline: bytes) -> None:
        if self._map.closed:
            return
        self._map[_MOTION_AT] = deadline
        self._motion_until_ns = until_ns

    def _store_power(self, until_ns: int, deadline: bytes) -> None:
        self._map[_POWER_AT] = deadline
        self._power_until_ns = until_ns

    def _store_manner(self, epoch: int, speed_permille: int, response: int) -> None:
        self._map[_EPOCH_AT] = _EPOCH.pack(epoch, epoch ^ _MAX_EPOCH)
        self._map[_MANNER_AT] = _MANNER.pack(
            speed_permille, speed_permille ^ 0xFFFF, response, response ^ 0xFF, 0
        )
        self._epoch = epoch

    def _count(self) -> None:
        self._sequence = (self._sequence + 1) & _ALL_ONES
        self._map[_SEQUENCE_AT] = _SEQUENCE.pack(self._sequence)


class PermitReader:
    """Reads one module's permit, whether its file is there yet or not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._map: mmap.mmap | None = None
        self._inode = (0, 0)

    def read(self) -> Permit:
        """The permit as it stands; VOID when the file is missing, short or damaged. Never raises.

        A file that came, or that took the place of another (an agent whose run folder was made anew), is
        found by one stat(2) at each call. The SDKs, which robots read at each cycle, are thriftier.
        """
        self._follow_path()
        if self._map is None:
            return VOID
        for _ in range(1 + RE_READS):
            record = _snapshot(self._map)
            permit = parse(record) if record else None
            if permit is not None:
                return permit
        return VOID

    def close(self) -> None:
        """Lets the mapping go. Idempotent; a later read maps the file again."""
        if self._map is not None:
            self._map.close()
            self._map = None

    def _follow_path(self) -> None:
        try:
            there = self.path.lstat()
            if self._map is None or (there.st_dev, there.st_ino) != self._inode:
                self.close()
                self._open()
        except (OSError, ValueError):
            self.close()

    def _open(self) -> None:
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            opened = os.fstat(fd)
            if stat.S_ISREG(opened.st_mode) and opened.st_size >= SIZE:
                self._map = mmap.mmap(fd, SIZE, mmap.MAP_SHARED, mmap.PROT_READ)
                self._inode = (opened.st_dev, opened.st_ino)
        finally:
            os.close(fd)


def _snapshot(mapping: mmap.mmap) -> bytes | None:
    """One copy whose parts belong together; None when the permit changed meanwhile."""
    before = mapping[_MOTION_AT]
    _fence()
    record = mapping[:SIZE]
    _fence()
    return record if before == record[_MOTION_AT] == mapping[_MOTION_AT] else None


def _fence() -> None:
    """What stands before is visible to others before what stands after, on any processor.

    Python has no memory barrier, but giving a lock back releases and taking the same lock acquires. A lock
    of its own each time (0.2 us): nothing is shared, so neither a thread nor a signal handler can wait here.
    """
    lock = Lock()
    lock.acquire()
    lock.release()
    lock.acquire()


def _believable_ns(found: Permit | None) -> int:
    """The power deadline a killed predecessor left: the controlled stop under way is let finish."""
    if found is None or found.power_until_ns > time.monotonic_ns() + _BELIEVABLE_NS:
        return 0
    return found.power_until_ns


def _open_for_writing(path: Path) -> int:
    """A locked descriptor of a regular file of our own. Raises PermitError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    try:
        fd = os.open(path, flags, MODE)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        _own(path, fd)
    except OSError as error:
        os.close(fd)
        raise _refused(path, error) from error
    except PermitError:
        os.close(fd)
        raise
    return fd


def _own(path: Path, fd: int) -> None:
    opened = os.fstat(fd)
    if not stat.S_ISREG(opened.st_mode):
        raise PermitError(path, "is not a regular file")
    if opened.st_uid != os.geteuid():
        raise PermitError(path, f"belongs to uid {opened.st_uid}, not to this process ({os.geteuid()})")
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if stat.S_IMODE(opened.st_mode) != MODE:
        # The umask may have hidden it from the robot; others may not write it.
        os.fchmod(fd, MODE)


def _refused(path: Path, error: OSError) -> PermitError:
    if isinstance(error, BlockingIOError):
        return PermitError(path, "is held by another process")
    return PermitError(path, f"cannot be opened as a permit: {error.strerror}")
