"""One pass over a segment's frames without a key: the public chain, the numbers, the checkpoints, the end.

Memory: one piece of the file (PIECE_BYTES and a frame), whatever the file's size.
"""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Final, NamedTuple

from agent.audit.errors import FormatError
from agent.audit.frames import MAX_FRAME_BYTES, Frame, Seal, find_frame, parse_frame, read_seal
from agent.logformat.layout import CRC, FRAME_HEADER, FRAME_MAGIC, FRAME_OVERHEAD, FRAME_RECORDS, MAX_CT_BYTES
from agent.logformat.suites import Suite

PIECE_BYTES: Final = 4 << 20
MAX_FAULTS: Final = 100
"""Faults of one segment that are listed; the first says what happened, the rest follow from it."""


class Mark(NamedTuple):
    """What a ledger entry `n` says of a segment: after `frames` frames, this next number and this chain."""

    n: int
    frames: int
    next_seq: int
    h: str


class Told(NamedTuple):
    """Of a segment's recoveries. `damaged`: offset → bytes without a frame, as entry `damaged_n` said.

    `until`: how many frames it has, where there is no signed seal. What follows them is held against nothing,
    and counts for nothing. -1: as many as are there.
    """

    damaged: Mapping[int, int]
    damaged_n: int = 0
    until: int = -1


class Fault(NamedTuple):
    """What is wrong with a segment's frames. `kind`: a row of findings.KINDS; `offset`: byte in the file."""

    kind: str
    offset: int
    detail: str


@dataclass(slots=True)
class Walk:
    """What was found.

    `next_index`: frame_idx after the last frame's; damage makes it larger than `frames`. `end`: offset after
    the last whole frame, the seal included; `rest`: what follows it, nothing, zeros or bytes.
    """

    frames: int
    next_index: int
    next_seq: int
    records: int
    h: bytes
    end: int
    h_before_seal: bytes = b""
    seal: Seal | None = None
    seal_at: int = 0
    rest: str = "nothing"
    damaged: bool = False
    faults: list[Fault] = field(default_factory=list)


class Walker:
    """Walks one open file from `start`, where its header ends, to its end.

    `marks`: in the ledger's order; `told`: what else the ledger says of recoveries.
    """

    def __init__(
        self,
        file: BinaryIO,
        suite: Suite,
        header_hash: bytes,
        *,
        start: int,
        first_seq: int,
        marks: Iterator[Mark],
        told: Told | None = None,
    ) -> None:
        self.found = Walk(0, 0, first_seq, 0, header_hash, start)
        self._file = file
        self._suite = suite
        self._data = b""
        self._base = start
        self._at = 0
        self._all_read = False
        self._marks = marks
        self._mark = next(marks, None)
        told = told or Told({})
        self._damaged = dict(told.damaged)
        self._damaged_n = told.damaged_n
        self._until = told.until
        self._jump_after = -1

    def run(self) -> Walk:
        """The whole file."""
        self._file.seek(self._base)
        self._reach()
        self._refill()
        while True:
            self._whole_frames()
            if self._refill():
                continue
            if not self._odd():
                break
        self._unreached()
        return self.found

    # ---- the pieces of the file

    def _refill(self) -> bool:
        """True when there was more to read and the piece at hand could not hold every possible frame."""
        if self._all_read or len(self._data) - self._at >= MAX_FRAME_BYTES:
            return False
        piece = self._file.read(PIECE_BYTES)
        self._all_read = not piece
        self._data = self._data[self._at :] + piece
        self._base += self._at
        self._at = 0
        return bool(piece)

    @property
    def _offset(self) -> int:
        return self._base + self._at

    # ---- good frames, as fast as Python goes

    def _whole_frames(self) -> None:
        """Takes good frames one after the other; stops at the first that is not, and at the piece's end."""
        found, data, at, end = self.found, self._data, self._at, len(self._data)
        frames, next_index, next_seq, h = found.frames, found.next_index, found.next_seq, found.h
        unpack, crc32, crc_of, chain = FRAME_HEADER.unpack_from, zlib.crc32, CRC.unpack_from, self._suite.hash
        stop_at, until = self._mark.frames if self._mark else -1, self._until
        while end - at >= FRAME_OVERHEAD and frames != until:
            magic, kind, flags, ct_len, count, first_seq, index = unpack(data, at)
            stop = at + ct_len + (FRAME_OVERHEAD - 4)
            if (
                magic != FRAME_MAGIC
                or kind != FRAME_RECORDS
                or index != next_index
                or first_seq != next_seq
                or flags > 1
                or ct_len > MAX_CT_BYTES
                or stop + 4 > end
            ):
                break
            frame = data[at:stop]
            if crc32(frame) != crc_of(data, stop)[0]:
                break
            h = chain(h, frame)
            frames += 1
            next_index += 1
            next_seq += count
            at = stop + 4
            if frames == stop_at:
                self._keep(at, frames, next_index, next_seq, h)
                self._reach()
                stop_at = self._mark.frames if self._mark else -1
        self._keep(at, frames, next_index, next_seq, h)

    def _keep(self, at: int, frames: int, next_index: int, next_seq: int, h: bytes) -> None:
        found = self.found
        found.records += next_seq - found.next_seq
        found.frames, found.next_index, found.next_seq, found.h = frames, next_index, next_seq, h
        found.end = self._base + at
        self._at = at

    # ---- checkpoints

    def _reach(self) -> None:
        """Compares what the ledger says of this point, however often it says it."""
        found = self.found
        while self._mark is not None and self._mark.frames <= found.frames:
            mark = self._mark
            if mark.frames == found.frames and (mark.next_seq, mark.h) != (found.next_seq, found.h.hex()):
                what = "number" if mark.h == found.h.hex() else "content"
                self._fault("chain", f"after frame {mark.frames}: not the {what} that entry {mark.n} signed")
            self._mark = next(self._marks, None)

    def _unreached(self) -> None:
        """Entries that speak of frames which are not there."""
        if self._mark is not None and not self.found.damaged:
            mark, frames = self._mark, self.found.frames
            self._fault("cut", f"entry {mark.n} signed {mark.frames} frames, {frames} are there")

    def _fault(self, kind: str, detail: str) -> None:
        if len(self.found.faults) < MAX_FAULTS:
            self.found.faults.append(Fault(kind, self._offset, detail))

    # ---- all else

    def _odd(self) -> bool:
        """What no good frame begins at; False at the end of what can be read."""
        if self._at == len(self._data):
            return False
        if self.found.frames == self._until:
            return self._leave_untold()
        if self._skip_damage():
            return True
        try:
            frame = parse_frame(self._data, self._at)
        except FormatError as error:
            return self._bad(error.reason)
        return self._misplaced(frame) if frame.type == FRAME_RECORDS else self._sealed(frame)

    def _leave_untold(self) -> bool:
        """This is how far it is known to go: what follows was sealed again elsewhere, and not cut yet."""
        self.found.rest = self._rest()
        if self.found.rest == "bytes":
            self._fault("untold", f"after {self._until} frames")
        return False

    def _skip_damage(self) -> bool:
        size = self._damaged.pop(self._offset, 0)
        if size <= 0:
            return False
        self.found.damaged = True
        self._jump_after = self.found.frames
        self._contradicted()
        self._file.seek(self._offset + size)
        self._base, self._at, self._data, self._all_read = self._offset + size, 0, b"", False
        self.found.end = self._base
        self._refill()
        return True

    def _contradicted(self) -> None:
        """Damage below a checkpoint is no crash: what was signed had been on the disk."""
        while self._mark is not None:
            if self._mark.n < self._damaged_n and self._mark.frames > self.found.frames:
                mark = self._mark
                self._fault("chain", f"damaged below frame {mark.frames}, which entry {mark.n} had signed")
                self._mark = None
            else:
                self._mark = next(self._marks, None)

    def _misplaced(self, frame: Frame) -> bool:
        """A whole frame with other numbers than are due: after damage it may jump ahead, else never."""
        found = self.found
        ahead = frame.number >= found.next_index and frame.first_seq >= found.next_seq
        if not (self._jump_after == found.frames and ahead):
            due = f"frame {found.next_index}, record {found.next_seq}"
            self._fault("order", f"frame {frame.number}, record {frame.first_seq} where {due} is due")
        found.h = self._suite.hash(found.h, frame.head, frame.sealed)
        found.frames += 1
        found.records += frame.records
        found.next_index, found.next_seq = frame.number + 1, frame.first_seq + frame.records
        self._at += frame.size
        found.end = self._offset
        self._reach()
        return True

    def _sealed(self, frame: Frame) -> bool:
        found = self.found
        try:
            found.seal = read_seal(frame)
        except FormatError as error:
            self._fault("seal", error.reason)
        found.h_before_seal, found.seal_at = found.h, self._offset
        found.h = self._suite.hash(found.h, frame.head, frame.sealed)
        self._at += frame.size
        found.end = self._offset
        found.rest = self._rest()
        return False

    def _bad(self, reason: str) -> bool:
        """Bytes that are no frame: zeros or the torn tail of an open segment, or a frame that was changed."""
        following = find_frame(self._data, self._at + 1)
        if following is None:
            found = self.found
            found.end = self._offset
            found.rest = self._rest()
            if found.rest == "bytes":
                self._fault("tail", reason)
            return False
        self._fault("frame", reason)
        self._at, self._jump_after = following, self.found.frames
        return len(self.found.faults) < MAX_FAULTS

    def _rest(self) -> str:
        """What follows from here: nothing, zeros or bytes."""
        piece, rest = self._data[self._at :], "nothing"
        while piece or (piece := self._file.read(PIECE_BYTES)):
            if any(piece):
                return "bytes"
            piece, rest = b"", "zeros"
        return rest
