"""What is found at a start: every segment without a seal gets one, nothing is deleted (LOG, "Rules", crash).

Each step can be cut off and is found again: torn bytes beside, durable → `seg.recover` → cut → seal →
`seg.seal`. What cannot be done now (a full disk, a failing ledger) stays as it is for the next start, and the
log goes on in a new segment: the seal such a segment will get is known already, and the new header names it.
"""

import mmap
import os
import re
import struct
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent.logformat.layout import CRC, FRAME_HEADER, LEDGER_FILE, ZERO_HASH, gone_name, segment_name
from agent.logformat.suites import SuiteError, suite_by_number
from agent.recorder.log import LogError, Recovered
from agent.recorder.sealed.disk import write_all
from agent.recorder.sealed.folder import free_torn_name, save_torn
from agent.recorder.sealed.opened import open_body, seal_body
from agent.recorder.sealed.parts import MAX_SEQ, Figures, Point, Tools, parsed
from agent.recorder.sealed.scan import Header, Scan, Seal, last_seal, read_header, scan
from agent.recorder.sealed.segment import Place, plain_seal, seal_hash

_NAME: Final = re.compile(r"([0-9]{10})\.(seg|gone)(\.torn-[0-9]+)?\Z")
ALL_FRAMES: Final = 1 << 32
"""More than any segment has."""

Entries = Mapping[tuple[str, str, int], list[Mapping[str, object]]]
"""By (kind, stream, segno): the bodies of the ledger's entries about segments."""


@dataclass(slots=True)
class Tail:
    """What a stream goes on from. `segno`: the highest ever used; `prev_seal`: of the last segment.

    `frames`: by segno, how many of its frames are whole from the first on; a damaged one has no row.
    """

    segno: int = 0
    next_seq: int = 1
    prev_seal: str = ZERO_HASH
    figures: dict[int, Figures] = field(default_factory=dict)
    frames: dict[int, int] = field(default_factory=dict)
    recovered: list[Recovered] = field(default_factory=list)

    def whole(self, segno: int, index: int) -> bool:
        """Whether that frame is in the log."""
        return index < self.frames.get(segno, 0)


def ledger_entries(folder: Path) -> Entries:
    """What the ledger says of segments. The file is only searched for these kinds, not parsed whole."""
    found: dict[tuple[str, str, int], list[Mapping[str, object]]] = {}
    for line in _lines(folder / LEDGER_FILE, re.compile(rb'"kind":"seg\.(open|recover|seal)"')):
        try:
            entry = parsed(line)
            body = entry["body"]
            found.setdefault((entry["kind"], body["stream"], body["segno"]), []).append(body)
        except (ValueError, LookupError, TypeError):
            continue  # the ledger's own reader says what is wrong with it
    return found


def _lines(path: Path, wanted: re.Pattern[bytes]) -> Iterator[bytes]:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as ledger:
            for hit in wanted.finditer(ledger):
                start, end = ledger.rfind(b"\n", 0, hit.start()) + 1, ledger.find(b"\n", hit.end())
                yield ledger[start : end if end >= 0 else len(ledger)]
    except (OSError, ValueError):  # none yet, or empty
        return


@dataclass(frozen=True, slots=True)
class _Ending:
    """How a segment ends: at `at`, with this seal. `torn`: (start, end) of bytes after all that is whole."""

    at: Point
    seal: bytes
    reason: str
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


def _ending(found: Scan) -> _Ending:
    at, reason = found.cut or (found.point, "damaged" if found.damaged else "recovered")
    if found.seal is not None:
        at, reason, seal = found.point, found.seal.reason, found.seal.raw
    else:
        seal = plain_seal(at, reason)
    start = at.end + (len(seal) if found.seal else 0)
    damaged = [(offset, size) for offset, size in found.damaged if offset < at.end]
    return _Ending(at, seal, reason, found.seal is not None, (start, max(start, found.used)), damaged)


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
        """What cannot be read or ended now stays as it is; the ledger may still know how it ended."""
        try:
            read(segno)
        except (OSError, LogError, SuiteError, ValueError, LookupError, TypeError, struct.error):
            shown = self._shown(segno)
            if shown not in {found.segment for found in self._tail.recovered}:
                self._tail.recovered.append(Recovered(shown, 0, ""))
            self._trust_ledger(segno)

    def _trust_ledger(self, segno: int) -> None:
        for body in self._told("seg.seal", segno):
            with suppress(LookupError, ValueError):
                seal, next_seq = bytes.fromhex(str(body["seal"])), int(str(body["next_seq"]))
                if len(seal) == len(bytes.fromhex(ZERO_HASH)):
                    self._tail.prev_seal = seal.hex()
                    self._advance(next_seq)

    def _told(self, kind: str, segno: int) -> list[Mapping[str, object]]:
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
            header = read_header(fd)
            if header is None:
                self._set_aside(segno, fd, size)
                return
            seal = last_seal(fd, size)
            if seal is not None and not self._owed(segno, seal):
                self._count(segno, header, seal, size)
            else:
                self._end(segno, fd, header)
        finally:
            os.close(fd)

    def _owed(self, segno: int, seal: Seal) -> bool:
        """Whether this ledger is the one that has to know the seal, and does not.

        Where it knows nothing of the segment, that was told to an earlier ledger. Of the last segment, and of
        one that was given up before its first frame, it may have missed the beginning too.
        """
        if self._told("seg.seal", segno):
            return False
        begun = self._told("seg.open", segno) or self._told("seg.recover", segno)
        return bool(begun) or segno == self._segments[-1] or not seal.frames

    def _count(self, segno: int, header: Header, seal: Seal, size: int) -> None:
        """One that was ended in order."""
        self._tail.figures[segno] = Figures(seal.records, size, header.wall_ns)
        if seal.reason != "damaged":
            self._tail.frames[segno] = seal.frames
        self._advance(seal.next_seq)
        self._trust_ledger(segno)

    def _end(self, segno: int, fd: int, header: Header) -> None:
        found = scan(fd, header.suite, header.point, expected=self._expected(segno))
        ending = _ending(found)
        self._tail.prev_seal = seal_hash(header.suite, ending.at, ending.seal)
        self._tail.figures[segno] = Figures(ending.at.records, ending.size, header.wall_ns)
        if not ending.damaged:
            self._tail.frames[segno] = ending.at.frames
        self._advance(ending.at.next_seq)
        kept_as = self._keep(segno, fd, ending)
        if ending.torn_bytes or ending.damaged:
            self._tail.recovered.append(Recovered(self._shown(segno), ending.torn_bytes, kept_as))
        place = Place(self._stream, segno, header.point.next_seq, header.prev_seal)
        if not ending.at.frames and not self._told("seg.open", segno):
            self._tell("seg.open", open_body(place, header.point.h))
        if ending.torn_bytes or not ending.sealed:
            self._tell_recovery(place, ending, kept_as)
        if not ending.torn_bytes or kept_as:
            self._write_end(fd, ending)
            if not self._told("seg.seal", segno):
                self._tell(
                    "seg.seal", seal_body(place, ending.at, ending.size, self._tail.prev_seal, ending.reason)
                )

    def _expected(self, segno: int) -> str:
        """What the next segment's header says that this one's seal hash is; "" when there is none."""
        following = [later for later in self._segments if later > segno][:1]
        for later in following:
            fd = os.open(segment_name(later), os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._folder_fd)
            try:
                header = read_header(fd)
            finally:
                os.close(fd)
            return header.prev_seal if header is not None else ""
        return ""

    def _keep(self, segno: int, fd: int, ending: _Ending) -> str:
        """Torn bytes beside; "" when there are none or there is no room: then they stay where they are."""
        with suppress(OSError):
            if ending.torn_bytes:
                return save_torn(self._tools.disk, fd, segment_name(segno), ending.torn, self._folder_fd)
        return ""

    def _tell_recovery(self, place: Place, ending: _Ending, kept_as: str) -> None:
        body = {
            "stream": place.stream,
            "segno": place.segno,
            "frames": ending.at.frames,
            "next_seq": ending.at.next_seq,
            "h": ending.at.h.hex(),
            "torn_bytes": ending.torn_bytes,
            "kept_as": kept_as,
            "damaged": [list(region) for region in ending.damaged],
        }
        for told in self._told("seg.recover", place.segno):
            # Said by an attempt that was cut off; perhaps after it had cut the torn bytes, which it has kept.
            if told == body or (not ending.torn_bytes and told.get("h") == body["h"]):
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
            nothing = Point(0, 0, 0, self._tail.next_seq, bytes.fromhex(ZERO_HASH))
            ending = _Ending(nothing, b"", "", sealed=False, torn=(0, size), damaged=[])
            self._tell_recovery(Place(self._stream, segno, 0, ""), ending, kept_as)
        self._tail.recovered.append(Recovered(self._shown(segno), size, kept_as))
        self._trust_ledger(segno)
        self._tools.disk.rename(name, kept_as, self._folder_fd)
        self._tools.disk.sync_all(self._folder_fd)

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
