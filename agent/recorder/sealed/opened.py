"""One segment's file while it is written: its steps in the format's order, each repeated until it is done.

create → sync folder → `seg.open` → frames … → seal → cut to length → `seg.seal`
"""

import errno
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from agent.logformat.layout import MAX_HEADER_BYTES, segment_name
from agent.recorder.sealed.disk import Disk, fill, write_all
from agent.recorder.sealed.folder import exists
from agent.recorder.sealed.packing import Pack
from agent.recorder.sealed.parts import PREZEROED, Point, Tools
from agent.recorder.sealed.segment import Place, SegmentWriter, plain_seal, seal_hash

SPARE: Final = "spare"
"""The next segment's file before it has a name of its own; of a pre-zeroed stream, made long before."""
_HALF_SPARE: Final = "spare.new"
SEAL_ROOM: Final = 512
"""Bytes kept free in a segment for its seal: a full disk must not keep one from being ended."""
SKIP_BYTES: Final = 65_536
"""Left out behind a place that cannot be written: more than the sector or page that failed with it."""


class OpenSegment:
    """`durable`: after the last frame on the disk. Methods raise OSError, and LogError for the ledger."""

    def __init__(self, tools: Tools, folder: Path, folder_fd: int, place: Place) -> None:
        """Makes the file with its header, durable, under its name. OSError: no number was used up."""
        self.place = place
        self.writer = SegmentWriter(tools.sealing, place, tools.clocks)
        self.durable = self.writer.point
        self._header_hash = self.durable.h
        self.path = folder / segment_name(place.segno)
        self.waiting = 0
        self._tools = tools
        self._disk = tools.disk
        self._folder_fd = folder_fd
        self._frames = bytearray()
        self._seal = b""
        self._reason = ""
        self._announced = self._sealed = self._told = False
        self._lost: tuple[int, int] | None = None
        self._fd = -1
        try:
            self._fd = self._create()
        except BaseException:
            self.writer.wipe()
            raise

    def _create(self) -> int:
        disk = self._disk
        if exists(self.path.name, self._folder_fd):  # a rename would take its place
            raise OSError(errno.EEXIST, "a file of that name is there")
        fd = _spare(disk, self.place.stream, self._tools.sealing.segment_bytes, self._folder_fd)
        try:
            header = self.writer.header
            if any(os.pread(fd, MAX_HEADER_BYTES, 0)):  # a header whose opening came no further
                header = header.ljust(MAX_HEADER_BYTES, b"\0")
            write_all(disk, fd, header, 0)
            disk.sync_all(fd)
            disk.rename(SPARE, self.path.name, self._folder_fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def announce(self) -> None:
        """What must be durable before frame 0: the file's name, and `seg.open`."""
        if not self._announced:
            self._disk.sync_all(self._folder_fd)
            self._tools.ledger.append("seg.open", open_body(self.place, self._header_hash))
            self._announced = True

    @property
    def announced(self) -> bool:
        """Whether the ledger knows it."""
        return self._announced

    @property
    def ending(self) -> bool:
        """No more frames go in: its seal is made, if not yet written."""
        return bool(self._seal)

    @property
    def end(self) -> int:
        """Offset after the last frame, on the disk or not."""
        return self.writer.point.end

    def add(self, pack: Pack) -> None:
        """Seals one more frame; `commit` writes it."""
        self._frames += self.writer.seal_frame(pack)
        self.waiting += 1

    def commit(self) -> None:
        """Writes the waiting frames and syncs them; after a failure the same bytes again at the same place.

        Not merely a sync again: after a failed one the kernel may call pages clean that never reached the
        disk (fsync(2), EIO).
        """
        write_all(self._disk, self._fd, self._frames, self.durable.end)
        self._disk.sync(self._fd)
        self.durable = self.writer.point
        self._frames.clear()
        self.waiting = 0

    def finish(self, reason: str) -> None:
        """Ends it with nothing waiting: seal, length, `seg.seal`. A repetition keeps the first reason."""
        self.announce()
        if not self._seal:
            self._make_seal(self.durable, reason)
        if not self._sealed:
            self._write_seal()
        if self._lost is not None:
            self.tell_recovery()
        self._tools.ledger.append("seg.seal", self._seal_body())
        self.close()

    def give_up(self) -> bool:
        """Writes a seal after its last durable frame, what waits left out; `finish` tells the ledger then.

        Where that place cannot be written, the seal goes behind it, and what is between is `damaged`. False
        when nothing can be written at all.
        """
        last, failed = self.durable, max(len(self._frames), len(self._seal))
        reason = self._reason or "damaged"
        self._frames.clear()
        self.waiting = 0
        with suppress(OSError):
            self._make_seal(last, reason)
            self._write_seal()
            return True
        with suppress(
            OSError
        ):  # a seal that failed, and is there nevertheless, must not stand before the next
            write_all(self._disk, self._fd, bytes(failed), last.end)
        gap = failed + SKIP_BYTES
        with suppress(OSError):
            self.durable = replace(last, end=last.end + gap)
            self._make_seal(self.durable, "damaged")
            self._write_seal()
            self._lost = (last.end, gap)
            return True
        self.durable = last
        self._make_seal(last, reason)
        with suppress(OSError):  # what nobody was told is there, and is sealed again elsewhere
            self._disk.cut(self._fd, last.end)
        return False

    def _make_seal(self, at: Point, reason: str) -> None:
        self._seal, self._reason = plain_seal(at, reason), reason
        self.writer.wipe()

    def _write_seal(self) -> None:
        write_all(self._disk, self._fd, self._seal, self.durable.end)
        self._disk.sync(self._fd)
        self._disk.cut(self._fd, self.size)
        self._disk.sync_all(self._fd)
        self._sealed = True

    def tell_recovery(self) -> None:
        """How far it got, and what of it was lost; said once."""
        if not self._told:
            damaged = [self._lost] if self._lost is not None else []
            self._tools.ledger.append("seg.recover", recover_body(self.place, self.durable, 0, "", damaged))
            self._told = True

    @property
    def size(self) -> int:
        """Bytes of the file that count."""
        return self.durable.end + len(self._seal)

    @property
    def seal_hash(self) -> str:
        """Of a segment that is ending."""
        return seal_hash(self.writer.suite, self.durable, self._seal)

    def _seal_body(self) -> dict[str, object]:
        return seal_body(self.place, self.durable, self.size, self.seal_hash, self._reason)

    def close(self) -> None:
        """Closes the file as it is, and forgets the key; idempotent."""
        self.writer.wipe()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def open_body(place: Place, header_hash: bytes) -> dict[str, object]:
    """Of `seg.open`."""
    return {
        "stream": place.stream,
        "segno": place.segno,
        "first_seq": place.first_seq,
        "header": header_hash.hex(),
    }


def recover_body(
    place: Place, at: Point, torn_bytes: int, kept_as: str, damaged: Iterable[tuple[int, int]]
) -> dict[str, object]:
    """Of `seg.recover`."""
    return {
        "stream": place.stream,
        "segno": place.segno,
        "frames": at.frames,
        "next_seq": at.next_seq,
        "h": at.h.hex(),
        "torn_bytes": torn_bytes,
        "kept_as": kept_as,
        "damaged": [list(region) for region in damaged],
    }


def seal_body(place: Place, at: Point, size: int, seal: str, reason: str) -> dict[str, object]:
    """Of `seg.seal`."""
    return {
        "stream": place.stream,
        "segno": place.segno,
        "frames": at.frames,
        "records": at.records,
        "next_seq": at.next_seq,
        "bytes": size,
        "seal": seal,
        "reason": reason,
    }


def make_spare(disk: Disk, size: int, folder_fd: int) -> None:
    """A spare of at least `size` zeros, durable; nothing if there is one. OSError: nothing is left of it."""
    if has_spare(size, folder_fd):
        return
    if exists(_HALF_SPARE, folder_fd):
        disk.remove(_HALF_SPARE, folder_fd)
    fd = disk.create(_HALF_SPARE, folder_fd)
    try:
        fill(disk, fd, size)
        disk.rename(_HALF_SPARE, SPARE, folder_fd)
        disk.sync_all(folder_fd)
    except OSError:
        with suppress(OSError):  # once renamed it is whole, and may stay
            disk.remove(_HALF_SPARE, folder_fd)
        raise
    finally:
        os.close(fd)


def has_spare(size: int, folder_fd: int) -> bool:
    """Whether the next segment of a pre-zeroed stream needs no more room."""
    return exists(SPARE, folder_fd) and os.stat(SPARE, dir_fd=folder_fd).st_size >= size


def _spare(disk: Disk, stream: str, size: int, folder_fd: int) -> int:
    if stream in PREZEROED:
        with suppress(OSError):  # a nearly full disk may still hold a few frames
            make_spare(disk, size, folder_fd)
        if has_spare(size, folder_fd):
            return disk.open(SPARE, folder_fd)
    if exists(SPARE, folder_fd):
        disk.remove(SPARE, folder_fd)
    return disk.create(SPARE, folder_fd)
