"""`PlainLog`: JSON lines in numbered segments, each line with its checksum (see `lines`).

Durable means: in the file, and fdatasync returned. After a failed write or sync the file is cut back to
its last durable byte before anything else is written, so a half line never stands before a whole one, and
the records are written again from memory rather than synced again: after a failed sync the kernel may
call the same pages clean though they never reached the disk (fsync(2), EIO).
"""

import errno
import fcntl
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from agent.link import PacketError
from agent.recorder.lines import (
    Opening,
    Senders,
    opening_line,
    parse_line,
    read_lines,
    record_line,
    segment_name,
    segment_number,
)
from agent.recorder.log import LogError, Record, Recovered, StreamTotals

SEGMENT_BYTES = 8 * 1024 * 1024
"""A new segment is begun rather than pass this (LOG, "Rotation")."""
LOCK_TRIES = 10
LOCK_PAUSE_S = 0.02
COPY_BYTES = 65_536
"""Piece in which a torn tail is copied."""

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW

Write = Callable[[int, memoryview], int]
Sync = Callable[[int], None]


class PlainLog:
    """Fills `agent.recorder.log.Log`. One process per folder, held by a lock on the folder."""

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        write: Write = os.write,
        sync: Sync = os.fdatasync,
    ) -> None:
        """Opens or creates the folder (0700) and repairs a torn tail; `write` and `sync` are for tests.

        Raises LogError when the folder cannot be used or another process holds it; never for what is in it.
        """
        self.folder = folder
        self.recovered: tuple[Recovered, ...] = ()
        self.totals: dict[str, StreamTotals] = {}
        self._segment_bytes = segment_bytes
        self._write_some = write
        self._sync = sync
        self._senders = Senders()
        self._fd = -1
        self._number = 0
        self._size = 0
        self._stained = False
        self._folder_unsynced = False
        self._folder_fd = _open_folder(folder)
        self._recover()

    @property
    def segment(self) -> str:
        """Name of the segment that is written to."""
        return segment_name(self._number)

    def last_seq(self, source: str, boot: str) -> int:
        """See `Log`."""
        return self._senders.last(source, boot)

    def close(self) -> None:
        """Idempotent; releases the folder."""
        with suppress(OSError):  # what cannot be cut back now is repaired when the log is next opened
            self._cut_back()
        for fd in (self._fd, self._folder_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._folder_fd = -1

    # ---- writing

    def append(self, records: Sequence[Record]) -> None:
        """See `Log`. A record whose body cannot be a line is a fault of the caller's: LogError, errno 0."""
        if not records:
            return
        with self._named_errors():
            lines = [record_line(record) for record in records]
            self._append(b"".join(lines))
        for record, line in zip(records, lines, strict=True):
            self._count(record, len(line))

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except PacketError as error:
            raise LogError(self.folder, f"record refused: {error.reason}") from error
        except OSError as error:
            with suppress(OSError):  # a disk that refuses this too is tried again before the next write
                self._cut_back()
            path = self.folder / self.segment if self._fd >= 0 else self.folder
            raise LogError(path, f"not written: {error.strerror}", error.errno or 0) from error

    def _append(self, data: bytes) -> None:
        self._cut_back()
        if self._fd < 0 or (self._size and self._size + len(data) > self._segment_bytes):
            self._next_segment()
        if self._folder_unsynced:  # a synced file whose name is lost in a power cut is lost
            os.fsync(self._folder_fd)
            self._folder_unsynced = False
        self._write(data if self._size else self._opening() + data)

    def _write(self, data: bytes) -> None:
        self._stained = True
        rest = memoryview(data)
        while rest:
            written = self._write_some(self._fd, rest)
            if written <= 0:
                raise OSError(errno.EIO, "nothing written")
            rest = rest[written:]
        self._sync(self._fd)
        self._stained = False
        self._size += len(data)

    def _cut_back(self) -> None:
        if self._stained:
            os.ftruncate(self._fd, self._size)
            self._stained = False

    def _next_segment(self) -> None:
        name = segment_name(self._number + 1)
        fd = os.open(name, _APPEND | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._folder_fd)
        self._folder_unsynced = True
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._number, self._size = fd, self._number + 1, 0

    def _opening(self) -> bytes:
        return opening_line(Opening(self._number, tuple(self._senders.rows()), self.totals))

    def _count(self, record: Record, size: int) -> None:
        self._senders.note(record.source, record.boot, record.seq)
        self.totals.setdefault(record.stream, StreamTotals()).add(size, record.wall_ns)

    # ---- opening what is there

    def _recover(self) -> None:
        numbers = segments(self.folder)
        if not numbers:
            return
        self._number = numbers[-1]
        scans = []
        for number in reversed(numbers):
            scan = self._scan(number)
            scans.append(scan)
            if scan is not None and scan.opening is not None:
                break  # it tells what all before it held
        for scan in reversed(scans):
            if scan is not None:
                self._learn(scan)
        self._adopt(scans[0])

    def _scan(self, number: int) -> "Scan | None":
        """None for a segment that cannot be read: it stays as it is, and the log goes on after it."""
        try:
            with (self.folder / segment_name(number)).open("rb") as file:
                return Scan(file)
        except OSError:  # bad sectors, or not ours to read
            return None

    def _learn(self, scan: "Scan") -> None:
        if scan.opening is not None:
            for row in scan.opening.senders:
                self._senders.note(*row)
            self.totals = dict(scan.opening.totals)
        for row in scan.senders.rows():
            self._senders.note(*row)
        _merge(self.totals, scan.totals)

    def _adopt(self, scan: "Scan | None") -> None:
        """Goes on in the last segment, after setting its torn tail aside."""
        if scan is None:
            self.recovered = (Recovered(self.segment, 0, ""),)
            return
        torn = scan.size - scan.whole
        kept_as = ""
        try:
            if torn:
                kept_as = self._set_aside(scan.whole)
            self._fd = os.open(self.segment, _APPEND, dir_fd=self._folder_fd)
            self._size = scan.whole
        except OSError:
            pass  # `_fd` stays closed: the next append begins a new segment, and this one stays as it is
        if torn or self._fd < 0:
            self.recovered = (Recovered(self.segment, torn, kept_as),)

    def _set_aside(self, whole: int) -> str:
        """Copies the torn bytes beside and syncs them; only then cuts them off. The copy's name."""
        path = self.folder / self.segment
        with path.open("r+b", buffering=0) as file:
            kept = _copy_tail(file.fileno(), path, whole)
            os.fsync(self._folder_fd)
            file.truncate(whole)
            os.fsync(file.fileno())
        return kept.name


class Scan:
    """One pass over a segment: what its whole lines hold, and where the last of them ends."""

    def __init__(self, file: BinaryIO) -> None:
        """`whole`: bytes up to the end of the last valid line; `size`: bytes of the file."""
        self.opening: Opening | None = None
        self.senders = Senders()
        self.totals: dict[str, StreamTotals] = {}
        self.whole = 0
        self.size = 0
        for line in read_lines(file):
            self._take(line)

    def _take(self, line: bytes) -> None:
        self.size += len(line)
        found = parse_line(line)
        if found is None:
            return
        self.whole = self.size
        if isinstance(found, Opening):
            self.opening = self.opening or found
            return
        self.senders.note(found.source, found.boot, found.seq)
        self.totals.setdefault(found.stream, StreamTotals()).add(len(line), found.wall_ns)


def segments(folder: Path) -> list[int]:
    """The numbers of the segments in a log's folder, ascending."""
    numbers = (segment_number(entry.name) for entry in os.scandir(folder))
    return sorted(number for number in numbers if number is not None)


def _merge(totals: dict[str, StreamTotals], more: Mapping[str, StreamTotals]) -> None:
    for stream, figures in more.items():
        into = totals.setdefault(stream, StreamTotals())
        into.records += figures.records
        into.bytes += figures.bytes
        into.oldest_wall_ns = into.oldest_wall_ns or figures.oldest_wall_ns


def _open_folder(folder: Path) -> int:
    try:
        if not folder.is_dir():
            _create_folder(folder)
        folder.chmod(0o700)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise LogError(folder, f"folder cannot be used: {error.strerror}", error.errno or 0) from error
    if not _lock(fd):
        os.close(fd)
        raise LogError(folder, "another process writes this log")
    return fd


def _lock(fd: int) -> bool:
    """`verify` takes the lock for a moment to see whether it is held, hence more than one try."""
    for _ in range(LOCK_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(LOCK_PAUSE_S)
    return False


def _create_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True)
    parent = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(parent)  # or a power cut takes the folder, and with it every synced record
    finally:
        os.close(parent)


def _copy_tail(source: int, path: Path, start: int) -> Path:
    """Copies a file's bytes from `start` on to a new file beside it, and syncs that."""
    kept = next(name for name in _torn_names(path) if not name.exists())
    copy = os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        while piece := os.pread(source, COPY_BYTES, start):
            start += os.write(copy, piece)
        os.fsync(copy)
    except OSError:
        kept.unlink()  # half a copy proves nothing, and the original is untouched
        raise
    finally:
        os.close(copy)
    return kept


def _torn_names(path: Path) -> Iterator[Path]:
    return (path.with_name(f"{path.name}.torn-{number}") for number in itertools.count(1))
