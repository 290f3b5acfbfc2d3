"""What is found at a start: the last segment gets its end if it has none, nothing is deleted (LOG, "Rules").

Each step can be cut off and is found again: torn bytes beside, durable → `seg.recover` → cut → seal →
`seg.seal`. Torn bytes that there is no room to copy stay where they are, as a damaged region with the seal
behind it. Where even that has no room, or the ledger fails, the stream waits: no segment is opened before the
one before has ended.

A segment that goes on failing with EIO is passed over: the log goes on behind it, since records that are
still to come weigh more than its seal, which it gets at a later start. Where a `seg.recover` has said how far
a segment goes, no further frame of it counts: what a failed write left there was sealed again elsewhere.
"""

import errno
import os
import re
import struct
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from agent.logformat.layout import CRC, FRAME_HEADER, ZERO_HASH, gone_name, segment_name
from agent.logformat.suites import SuiteError, suite_by_number
from agent.recorder.log import LogError, Recovered
from agent.recorder.sealed.disk import write_all
from agent.recorder.sealed.folder import free_torn_name, save_torn
from agent.recorder.sealed.opened import open_body, recover_body, seal_body
from agent.recorder.sealed.parts import MAX_SEQ, Figures, Point, Tools, parsed
from agent.recorder.sealed.scan import Header, Scan, last_seal, read_header, scan
from agent.recorder.sealed.segment import Place, plain_seal, seal_hash
from agent.recorder.sealed.told import Entries

_NAME: Final = re.compile(r"([0-9]{10})\.(seg|gone)(\.torn-[0-9]+)?\Z")
ALL_FRAMES: Final = 1 << 32
"""More than any segment has."""

_HASH: Final = re.compile(r"[0-9a-f]{64}\Z")
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(slots=True)
class Tail:
    """What a stream goes on from. `segno`: the highest ever used; `prev_seal`: of the last that was sealed.

    `frames`: by segno, how many of its frames are whole from the first on; a damaged one has no row.
    `unfinished`: why the last segment could not get its end now, though it can be had. `failed`: the disk
    failed at some segment, which another attempt may find in order.
    """

    segno: int = 0
    next_seq: int = 1
    prev_seal: str = ZERO_HASH
    figures: dict[int, Figures] = field(default_factory=dict)
    frames: dict[int, int] = field(default_factory=dict)
    recovered: list[Recovered] = field(default_factory=list)
    unfinished: LogError | OSError | None = None
    failed: bool = False

    def whole(self, segno: int, index: int) -> bool:
        """Whether that frame is in the log."""
        return index < self.frames.get(segno, 0)


@dataclass(slots=True)
class _Ending:
    """How a segment ends. `torn`: (start, end) of bytes after all that is whole; `sealed`: so found."""

    at: Point
    reason: str
    seal: bytes
    sealed: bool
    torn: tuple[int, int]
    damaged: list[tuple[int, int]]

    @property
    def torn_bytes(self) -> int:
        return self.torn[1] - self.torn[0]

    @property
    def size(self) -> int:
        """Of the file, once it has ended."""
        return self.at.end + len(self.seal)

    def leave(self, size: int) -> None:
        """The first `size` torn bytes stay where they are, as damage before the seal; the rest is nothing."""
        start = self.torn[0]
        self.damaged.append((start, size))
        self.at = replace(self.at, end=start + size)
        self.torn = (self.at.end, self.at.end)
        self.reason = "damaged"
        self.seal = plain_seal(self.at, self.reason)


def _ending(found: Scan) -> _Ending:
    if found.seal is not None:
        at, reason, seal = found.point, found.seal.reason, found.seal.raw
        start = at.end + len(seal)
    else:
        at, reason = found.point, "damaged" if found.damaged else "recovered"
        seal, start = plain_seal(at, reason), at.end
    sealed = found.seal is not None
    return _Ending(at, reason, seal, sealed, (start, max(start, found.used)), list(found.damaged))


class Recovery:
    """One stream's folder, looked through once. `run` raises nothing for what is in it."""

    def __init__(self, stream: str, folder: Path, folder_fd: int, tools: Tools, entries: Entries) -> None:
        self._stream = stream
        self._folder = folder
        self._folder_fd = folder_fd
        self._tools = tools
        self._entries = entries
        self._tail = Tail()
        self._segments: list[int] = []

    def run(self) -> Tail:
        """Ends what has no end. OSError: the folder cannot be read."""
        gone: set[int] = set()
        for name in filter(None, (_NAME.match(path.name) for path in self._folder.iterdir())):
            segno = int(name[1])
            self._tail.segno = max(self._tail.segno, segno)
            if name[2] == "gone":
                gone.add(segno)
            elif name[3] is None:
                self._segments.append(segno)
        # One that is there beside its tombstone is about to be deleted; its keys may be overwritten already.
        self._segments = sorted(set(self._segments) - gone)
        for segno in sorted(gone.union(self._segments)):
            self._guarded(segno, self._gone if segno in gone else self._segment)
        return self._tail

    def _guarded(self, segno: int, read: Callable[[int], None]) -> None:
        """Waited for: the ledger; room, for the last one; never a disk that fails."""
        tail, last = self._tail, segno >= max(self._segments, default=0)
        try:
            read(segno)
        except LogError as error:
            tail.unfinished = error
        except OSError as error:
            self._failed(segno, error, last=last)
        except (SuiteError, ValueError, LookupError, TypeError, struct.error):
            self._trust_ledger(segno)
        else:
            return
        shown = self._shown(segno)
        if shown not in {found.segment for found in self._tail.recovered}:
            self._tail.recovered.append(Recovered(shown, 0, ""))

    def _failed(self, segno: int, error: OSError, *, last: bool) -> None:
        tail, full = self._tail, error.errno in _NO_ROOM
        tail.failed = tail.failed or not full
        self._trust_ledger(segno)
        if last and full:
            tail.unfinished = error
        elif last and not (self._told("seg.open", segno) or self._told("seg.recover", segno)):
            try:  # its number is used up, and the ledger has to know why
                self._tell("seg.recover", self._nothing(segno, 0, ""))
            except LogError as refused:
                tail.unfinished = refused

    def _trust_ledger(self, segno: int) -> None:
        """How it ended, or how far it got, as far as the ledger knows."""
        for kind in ("seg.open", "checkpoint", "seg.recover", "seg.seal"):
            for body in self._told(kind, segno):
                with suppress(LookupError, ValueError):
                    self._advance(int(str(body["first_seq" if kind == "seg.open" else "next_seq"])))
                    if kind == "seg.seal" and _HASH.match(str(body["seal"])):
                        self._tail.prev_seal = str(body["seal"])

    def _told(self, kind: str, segno: int) -> list[dict[str, Any]]:
        return self._entries.get((kind, self._stream, segno), [])

    def _tell(self, kind: str, body: Mapping[str, object]) -> None:
        self._tools.ledger.append(kind, body)

    def _shown(self, segno: int) -> str:
        return f"{self._stream}/{segment_name(segno)}"

    def _advance(self, next_seq: int) -> None:
        if next_seq < MAX_SEQ:
            self._tail.next_seq = max(self._tail.next_seq, next_seq)

    # ---- one segment

    def _segment(self, segno: int) -> None:
        fd = self._tools.disk.open(segment_name(segno), self._folder_fd)
        try:
            size = os.fstat(fd).st_size
            header, seal = read_header(fd), last_seal(fd, size)
            sealed, last = bool(self._told("seg.seal", segno)), segno == self._segments[-1]
            if header is None:
                self._set_aside(segno, fd, size)
            elif sealed and seal is not None:
                self._count(segno, Figures(seal.records, size, header.wall_ns), seal.next_seq)
                if seal.reason != "damaged":
                    self._tail.frames[segno] = seal.frames
            elif last or (not sealed and self._told("seg.open", segno)):
                self._end(segno, fd, header)
            else:
                self._pass(segno, fd, header, size)
        finally:
            os.close(fd)

    def _count(self, segno: int, figures: Figures, next_seq: int) -> None:
        self._tail.figures[segno] = figures
        self._advance(next_seq)
        self._trust_ledger(segno)

    def _pass(self, segno: int, fd: int, header: Header, size: int) -> None:
        """Not the last, and cut since it was sealed, or unknown to the ledger: for verification to find.

        One that holds nothing was made, and never announced.
        """
        found = scan(fd, header.suite, header.point)
        if found.used <= header.point.end:
            self._set_aside(segno, fd, size)
            return
        at = found.point
        self._count(segno, Figures(at.records, at.end, header.wall_ns), at.next_seq)

    def _end(self, segno: int, fd: int, header: Header) -> None:
        """Whatever fails, the ledger is told how far it goes: what comes behind it goes on from there."""
        found = scan(fd, header.suite, header.point, self._reached(segno))
        ending = _ending(found)
        place = Place(self._stream, segno, header.point.next_seq, header.prev_seal)
        self._tail.figures[segno] = Figures(ending.at.records, ending.size, header.wall_ns)
        if not found.damaged:
            self._tail.frames[segno] = ending.at.frames
        try:
            self._put_in_order(place, fd, ending, header.point.h)
        except OSError:
            if self._told("seg.open", segno):
                self._tell_recovery(place, ending, 0, "")
                self._advance(ending.at.next_seq)
            raise
        self._advance(ending.at.next_seq)
        seal = seal_hash(header.suite, ending.at, ending.seal)
        if not self._told("seg.seal", segno):
            self._tell("seg.seal", seal_body(place, ending.at, ending.size, seal, ending.reason))
        self._tail.prev_seal = seal

    def _put_in_order(self, place: Place, fd: int, ending: _Ending, header_hash: bytes) -> None:
        segno = place.segno
        torn_bytes, kept_as = ending.torn_bytes, self._keep(segno, fd, ending)
        if torn_bytes or ending.damaged:
            self._tail.recovered.append(Recovered(self._shown(segno), torn_bytes, kept_as))
        if not ending.at.frames and not self._told("seg.open", segno):
            self._tell("seg.open", open_body(place, header_hash))
        late = segno != self._segments[-1]
        if late or ending.torn_bytes or ending.damaged or not ending.sealed:
            self._tell_recovery(place, ending, ending.torn_bytes, kept_as)
        self._write_end(fd, ending)

    def _reached(self, segno: int) -> int | None:
        """How many frames an earlier recovery said it has; None where none did."""
        told = self._told("seg.recover", segno)
        binding = told and self._told("seg.open", segno) and not self._told("seg.seal", segno)
        return int(str(told[-1]["frames"])) if binding else None

    def _keep(self, segno: int, fd: int, ending: _Ending) -> str:
        """Torn bytes beside; "" when there are none, or they have to stay where they are. OSError."""
        for told in self._told("seg.recover", segno):
            # An attempt that was cut off had no room: so the ledger has it now, whatever room there is.
            for start, size in told["damaged"] if not ending.sealed else ():
                if start == ending.torn[0] and 0 < size <= ending.torn_bytes:
                    ending.leave(size)
        if not ending.torn_bytes:
            return ""
        try:
            return save_torn(self._tools.disk, fd, segment_name(segno), ending.torn, self._folder_fd)
        except OSError:
            if ending.sealed:
                raise
            ending.leave(ending.torn_bytes)
            return ""

    def _tell_recovery(self, place: Place, ending: _Ending, torn_bytes: int, kept_as: str) -> None:
        body = recover_body(place, ending.at, torn_bytes, kept_as, ending.damaged)
        for told in self._told("seg.recover", place.segno):
            # Said by an attempt that was cut off; perhaps after it had cut the torn bytes, which it has kept.
            same = all(told.get(name) == body[name] for name in ("h", "damaged"))
            if same and (not torn_bytes or told == body):
                return
        self._tell("seg.recover", body)

    def _write_end(self, fd: int, ending: _Ending) -> None:
        disk = self._tools.disk
        disk.cut(fd, ending.torn[0])
        if not ending.sealed:
            write_all(disk, fd, ending.seal, ending.at.end)
        disk.sync_all(fd)

    # ---- what is no segment

    def _set_aside(self, segno: int, fd: int, size: int) -> None:
        """A file with no header that can be read: out of the way, whole, its number used up."""
        name = segment_name(segno)
        kept_as = free_torn_name(name, self._folder_fd)
        suite = self._tools.sealing.suite
        self._advance(scan(fd, suite, Point(0, 0, 0, 1, b"")).point.next_seq)
        if kept_as not in {told.get("kept_as") for told in self._told("seg.recover", segno)}:
            self._tell("seg.recover", self._nothing(segno, size, kept_as))
        self._tail.recovered.append(Recovered(self._shown(segno), size, kept_as))
        self._trust_ledger(segno)
        self._tools.disk.rename(name, kept_as, self._folder_fd)
        self._tools.disk.sync_all(self._folder_fd)

    def _nothing(self, segno: int, torn_bytes: int, kept_as: str) -> dict[str, object]:
        """`seg.recover` of one that holds no frame that anybody knows of."""
        at = Point(0, 0, 0, self._tail.next_seq, bytes.fromhex(ZERO_HASH))
        return recover_body(Place(self._stream, segno, 0, ""), at, torn_bytes, kept_as, [])

    def _gone(self, segno: int) -> None:
        """What is left of a deleted segment still says how it ended."""
        told = parsed((self._folder / gone_name(segno)).read_bytes())
        suite = suite_by_number(_bytes(told["prefix"])[5])
        seal = _bytes(told["seal"])
        self._tail.prev_seal = suite.hash(bytes.fromhex(told["h"]), seal[: -CRC.size]).hex()
        self._tail.frames[segno] = ALL_FRAMES
        self._advance(int(FRAME_HEADER.unpack_from(seal)[5]))


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
