"""A witness's folder: `<robot_id>.jsonl`, the lines it took, and `<robot_id>.alarms.jsonl`, its evidence.

A line counts once it is synced, and only then is it answered; so the last line may be torn by a kill or a
power cut, and is then cut off: nobody was told of it. (A whole last line that does not fit is set aside as
`….jsonl.torn-<k>`.) Nothing else in a file is ever changed. In memory is
only where a file ends; an earlier line is found by bisection, since the lines stand in the order of n.
"""

import contextlib
import fcntl
import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.core.trust import is_name
from agent.logformat.layout import MAX_LEDGER_LINE_BYTES
from agent.logformat.suites import SuiteError
from console.witness.entry import Head, Misfit, head_of, misfit, read_entry
from console.witness.errors import EntryError, WitnessStateError

LINES: Final = ".jsonl"
ALARMS: Final = ".alarms.jsonl"
MAX_ALARM_BYTES: Final = 64 << 20
"""Of one robot's alarms; what comes later is shown, and not kept."""
_SPAN: Final = MAX_LEDGER_LINE_BYTES + 1
"""A whole line with its newline."""
_CODE: Final = re.compile(rb'"alarm": "([a-z_]+)"')
_CODE_WITHIN: Final = 256
"""Time and robot stand before an alarm's code; what a stranger has sent stands behind it."""
_N: Final = re.compile(rb'\{"v":1,"robot":"[A-Za-z0-9_.:-]{1,64}","n":([0-9]{1,16}),')
"""How every line begins that `read_entry` lets through: its fields stand in this order."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file of lines holds. `bytes`: its length; `since_s`: when it was last written (st_mtime)."""

    head: Head
    first: bytes
    bytes: int
    since_s: float


def may_be_kept(robot_id: str) -> bool:
    """Whether a robot of this id can have files here: `X.alarms` would meet the alarms of `X`."""
    return is_name(robot_id) and not robot_id.endswith(ALARMS.removesuffix(LINES))


class Store:
    """One folder, for one witness at a time. Raises WitnessStateError, and OSError where a disk fails."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise WitnessStateError(folder, f"cannot be used: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise WitnessStateError(folder, "已被占用 another witness keeps its state here") from None

    def close(self) -> None:
        """Lets another witness have the folder; idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def robots(self) -> list[str]:
        """The robots that have a file of lines, sorted."""
        names = [path.name for path in self.folder.glob(f"*{LINES}") if path.is_file()]
        ids = [name.removesuffix(LINES) for name in names if not name.endswith(ALARMS)]
        return sorted(robot_id for robot_id in ids if may_be_kept(robot_id))

    # ---- lines

    def load(self, robot_id: str) -> Kept | None:
        """What is kept of a robot, after a torn last line was cut off; None when that is nothing.

        WitnessStateError when the file's end is damaged in a way that no torn write explains.
        """
        path = self._lines(robot_id)
        try:
            with path.open("r+b") as file:
                return _load(path, file.fileno())
        except FileNotFoundError:
            return None

    def append(self, robot_id: str, line: bytes, at: int) -> None:
        """Adds a line (without newline) at `at`, the file's length; returns once it is synced.

        OSError: it does not count, whatever of it stands there: `cut` it off before the next one. (To sync
        again would not do: after an error the kernel calls pages clean that it never wrote.)
        """
        path = self._lines(robot_id)
        _append(path, line, at)
        if at == 0:
            self._sync_folder()

    def cut(self, robot_id: str, size: int) -> None:
        """Brings a file back to its length before an append that failed; OSError while that fails too."""
        path = self._lines(robot_id)
        if _size(path) > size:
            with path.open("r+b") as file:
                os.ftruncate(file.fileno(), size)
                os.fsync(file.fileno())

    def line_at(self, robot_id: str, n: int, size: int) -> bytes | None:
        """Line n of a file that is `size` bytes long, without its newline; None when it is not there."""
        try:
            with self._lines(robot_id).open("rb") as file:
                return _find(file.fileno(), n, size)
        except FileNotFoundError:
            return None

    # ---- alarms

    def keep_alarm(self, robot_id: str, alarm: dict[str, object]) -> bool:
        """Adds an alarm, synced; False when the robot's file is full. OSError when it cannot be written."""
        path = self.folder / f"{robot_id}{ALARMS}"
        line = json.dumps(alarm, ensure_ascii=False).encode("utf-8", "backslashreplace")
        size = _size(path)
        if size + len(line) > MAX_ALARM_BYTES:
            return False
        _append(path, line, _whole(path, size))
        if size == 0:
            self._sync_folder()
        return True

    def alarms(self, robot_id: str) -> Counter[str]:
        """How many alarms are kept of a robot, by their code; "" for what cannot be read as one."""
        kept: Counter[str] = Counter()
        with contextlib.suppress(FileNotFoundError), (self.folder / f"{robot_id}{ALARMS}").open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    found = _CODE.search(line, 0, _CODE_WITHIN)
                    kept[found[1].decode() if found else ""] += 1
        return kept

    def free_ratio(self) -> float:
        """The share of the folder's disk that is free; 0 when that cannot be found out."""
        try:
            found = os.statvfs(self.folder)
        except OSError:
            return 0.0
        return found.f_bavail / found.f_blocks if found.f_blocks else 0.0

    def _lines(self, robot_id: str) -> Path:
        return self.folder / f"{robot_id}{LINES}"

    def _sync_folder(self) -> None:
        """So that a new file's name is as durable as what it holds."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _append(path: Path, line: bytes, at: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        data = memoryview(line + b"\n")
        while data:
            written = os.pwrite(descriptor, data, at)
            data, at = data[written:], at + written
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _whole(path: Path, size: int) -> int:
    """Where the last whole line of a file ends; a torn one is written over."""
    if size == 0:
        return 0
    with path.open("r+b") as file:
        end = _last_newline(file.fileno(), size) + 1
        if end != size:
            os.ftruncate(file.fileno(), end)
        return end


# ---- the end of a file


def _load(path: Path, descriptor: int) -> Kept | None:
    status = os.fstat(descriptor)
    size = status.st_size
    end = _last_newline(descriptor, size) + 1
    found = _last_entry(path, descriptor, end)
    if found is None and end:
        # The kernel may have written a line's end before its beginning. It may also be a fault of the disk.
        whole, end = end, _last_newline(descriptor, end - 1) + 1
        _set_aside(path, os.pread(descriptor, whole - end, end))
        found = _last_entry(path, descriptor, end)
        if found is None and end:
            raise WitnessStateError(path, "已损坏 its last lines do not fit; set the file aside by hand")
    if end != size:
        os.ftruncate(descriptor, end)
    # A kill may have come between the last line's write and its sync; from here on it is answered.
    os.fsync(descriptor)
    return None if found is None else Kept(found, _first(descriptor, end), end, status.st_mtime)


def _last_entry(path: Path, descriptor: int, end: int) -> Head | None:
    """The head that the line before `end` makes; None when it is no entry that follows from its last."""
    line, start = _line_before(descriptor, end)
    try:
        entry = read_entry(line)
        before = _line_before(descriptor, start)[0] if start else b""
        head = head_of(before, read_entry(before)) if start else None
        wrong = misfit(head, entry)
        made = head_of(line, entry)
    except EntryError:
        return None
    except SuiteError as error:
        raise WitnessStateError(path, f"无法判断 its entries cannot be judged here: {error.reason}") from None
    if wrong is Misfit.SUITE_MISSING:
        raise WitnessStateError(path, "无法判断 its entries cannot be judged here: a suite is missing")
    return made if wrong is None and entry.robot == path.name.removesuffix(LINES) else None


def _line_before(descriptor: int, end: int) -> tuple[bytes, int]:
    """The line that ends with its newline at `end` (its first 64 KiB), and where it begins."""
    start = _last_newline(descriptor, end - 1) + 1
    return os.pread(descriptor, min(max(0, end - 1 - start), _SPAN), start), start


def _set_aside(path: Path, data: bytes) -> None:
    number = 1
    while (aside := path.with_name(f"{path.name}.torn-{number}")).exists():
        number += 1
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _last_newline(descriptor: int, end: int) -> int:
    """Offset of the last newline before `end`; -1 without one."""
    while end > 0:
        start = max(0, end - _SPAN)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found
        end = start
    return -1


def _first(descriptor: int, size: int) -> bytes:
    return os.pread(descriptor, min(size, _SPAN), 0).partition(b"\n")[0]


# ---- an earlier line


def _find(descriptor: int, n: int, size: int) -> bytes | None:
    low, high = 0, size
    while low < high:
        start, line = _line_around(descriptor, low, high)
        number = _number(line)
        if number is None:
            return None
        if number == n:
            return line
        if number < n:
            low = start + len(line) + 1
        else:
            high = start
    return None


def _line_around(descriptor: int, low: int, high: int) -> tuple[int, bytes]:
    """A line near the middle of [low, high), both of them where lines begin; its start and its bytes."""
    middle = (low + high) // 2
    start = max(low, _last_newline(descriptor, middle) + 1)
    span = os.pread(descriptor, min(_SPAN, high - start), start)
    return start, span.partition(b"\n")[0]


def _number(line: bytes) -> int | None:
    found = _N.match(line)
    return int(found[1]) if found else None
