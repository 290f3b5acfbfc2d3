"""The writer's own reading of a segment, with no key: what is whole in it, and where (LOG, "Rules", crash).

The file is streamed: never more than one frame, 1 MiB, in memory.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

from agent.logformat.layout import (
    CRC,
    FRAME_HEADER,
    FRAME_MAGIC,
    FRAME_OVERHEAD,
    FRAME_RECORDS,
    FRAME_SEAL,
    HASHED_PREFIX_BYTES,
    HEADER_MAGIC,
    HEADER_PREFIX,
    LABEL_HEADER,
    MAX_CT_BYTES,
    MAX_HEADER_BYTES,
    TAG_BYTES,
    VERSION,
)
from agent.logformat.suites import Suite, suite_by_number
from agent.recorder.sealed.parts import MAX_SEQ, Point, natural, parsed

WINDOW_BYTES: Final = 65_536
"""Piece in which a damaged region and the zeros at the end are read."""
MAX_SEAL_BYTES: Final = 1_024
"""Of a seal frame; ours are some 150 bytes."""

_MAGIC: Final = FRAME_MAGIC.to_bytes(2, "little")
_PLAUSIBLE: Final = (FRAME_RECORDS, FRAME_SEAL)


@dataclass(frozen=True, slots=True)
class Header:
    """Of a segment's header, what going on after it needs. `point`: before frame 0."""

    suite: Suite
    wall_ns: int
    prev_seal: str
    point: Point


@dataclass(frozen=True, slots=True)
class Seal:
    """A whole seal frame. `bytes`: its offset, as it says itself."""

    raw: bytes
    frames: int
    records: int
    next_seq: int
    bytes: int
    reason: str


@dataclass(slots=True)
class Scan:
    """What one pass over the frames found.

    `point`: after the last whole frame of records; `damaged`: (offset, bytes) before it that no frame could
    be read from; `seal`: the one right after it, if there; `used`: offset after the last byte not zero.
    """

    point: Point
    damaged: list[tuple[int, int]] = field(default_factory=list)
    seal: Seal | None = None
    used: int = 0


@dataclass(frozen=True, slots=True)
class _Frame:
    raw: bytes
    type: int
    count: int
    first_seq: int
    index: int


def read_header(fd: int) -> Header | None:
    """None for one that is torn, altered, or was never ours. SuiteError: of a suite that is not to be had."""
    raw = os.pread(fd, MAX_HEADER_BYTES, 0)
    if len(raw) < HEADER_PREFIX.size:
        return None
    magic, version, number, zero, fields_len, wraps_len = HEADER_PREFIX.unpack_from(raw)
    middle = HEADER_PREFIX.size + fields_len
    end = middle + wraps_len
    if (magic, version, zero) != (HEADER_MAGIC, VERSION, 0) or end + CRC.size > len(raw):
        return None
    if crc32(raw[:end]) != CRC.unpack_from(raw, end)[0]:
        return None
    suite = suite_by_number(number)
    text = raw[HEADER_PREFIX.size : middle]
    fields_hash = suite.hash(LABEL_HEADER, raw[:HASHED_PREFIX_BYTES], text)
    h = suite.hash(fields_hash, suite.hash(raw[middle:end]))
    try:
        fields = parsed(text)
        at = Point(end + CRC.size, 0, 0, natural(fields["first_seq"], MAX_SEQ), h)
        return Header(suite, natural(fields["wall_ns"]), str(fields["prev_seal"]), at)
    except (ValueError, LookupError, TypeError):
        return None  # the sum is right, so somebody wrote this on purpose: no header of ours


def last_seal(fd: int, size: int) -> Seal | None:
    """The seal that ends the file exactly; None when it does not end in one."""
    start = max(0, size - MAX_SEAL_BYTES)
    tail = os.pread(fd, MAX_SEAL_BYTES, start)
    at = tail.rfind(_MAGIC + bytes([FRAME_SEAL]))
    while at >= 0:
        frame = _whole(tail[at:])
        if frame is not None and at + len(frame.raw) == len(tail):
            return _seal(frame, start + at)
        at = tail.rfind(_MAGIC + bytes([FRAME_SEAL]), 0, at)
    return None


def scan(fd: int, suite: Suite, start: Point, until: int | None = None) -> Scan:
    """All frames from `start` on; `until`: so many at most, and a seal right after them."""
    size = os.fstat(fd).st_size
    found = Scan(start, used=_used(fd, size))
    offset = start.end
    before = start.frames - 1
    while (frame := _next_frame(fd, offset, found.used, before)) is not None:
        at, whole = frame
        seal = _seal(whole, at) if whole.type == FRAME_SEAL else None
        if seal is None and whole.type == FRAME_SEAL:
            break  # whole, and not of this place: with all behind it, bytes that are set aside
        if found.point.frames == until and (seal is None or at > offset):
            break  # what the ledger was never told
        if seal is not None and not _fits(seal, found.point, damaged=bool(found.damaged) or at > offset):
            break
        if at > offset:
            found.damaged.append((offset, at - offset))
        if seal is not None:
            _end(found, seal)
            break
        found.point = _after(found.point, whole, at, suite)
        offset, before = found.point.end, whole.index
    return found


def _fits(seal: Seal, before: Point, *, damaged: bool) -> bool:
    """Whether it tells of the frames before it, of which damage may have taken some."""
    told, there = (seal.frames, seal.next_seq), (before.frames, before.next_seq)
    return all(map(int.__ge__, told, there)) if damaged else told == there


def _end(found: Scan, seal: Seal) -> None:
    found.seal = seal
    point = found.point  # frames before the seal may be lost: then it stands after the damaged region
    found.point = Point(seal.bytes, point.frames, point.records, max(point.next_seq, seal.next_seq), point.h)


def _after(point: Point, frame: _Frame, at: int, suite: Suite) -> Point:
    return Point(
        at + len(frame.raw),
        point.frames + 1,
        point.records + frame.count,
        max(point.next_seq, frame.first_seq + frame.count),
        suite.hash(point.h, memoryview(frame.raw)[: -CRC.size]),
    )


def _seal(frame: _Frame, at: int) -> Seal | None:
    try:
        told = parsed(frame.raw[FRAME_HEADER.size : -TAG_BYTES - CRC.size])
        figures = [natural(told[name]) for name in ("frames", "records", "bytes")]
        seal = Seal(frame.raw, figures[0], figures[1], frame.first_seq, figures[2], str(told["reason"]))
    except (ValueError, LookupError, TypeError):
        return None
    return seal if seal.bytes == at else None


def _whole(data: bytes) -> _Frame | None:
    """The frame that `data` begins with."""
    if len(data) < FRAME_OVERHEAD:
        return None
    magic, kind, _, ct_len, count, first_seq, index = FRAME_HEADER.unpack_from(data)
    end = FRAME_OVERHEAD + ct_len
    if magic != FRAME_MAGIC or kind not in _PLAUSIBLE or ct_len > MAX_CT_BYTES or end > len(data):
        return None
    if first_seq + count > MAX_SEQ:
        return None
    raw = data[:end]
    whole = crc32(memoryview(raw)[: -CRC.size]) == CRC.unpack_from(raw, end - CRC.size)[0]
    return _Frame(raw, kind, count, first_seq, index) if whole else None


def _frame_at(fd: int, offset: int, before: int) -> _Frame | None:
    """The whole frame at `offset` that may follow the one of index `before`."""
    header = os.pread(fd, FRAME_HEADER.size, offset)
    if len(header) < FRAME_HEADER.size:
        return None
    magic, kind, _, ct_len, _, _, index = FRAME_HEADER.unpack(header)
    if magic != FRAME_MAGIC or kind not in _PLAUSIBLE or ct_len > MAX_CT_BYTES:
        return None
    if kind == FRAME_RECORDS and index <= before:
        return None
    return _whole(os.pread(fd, FRAME_OVERHEAD + ct_len, offset))


def _next_frame(fd: int, offset: int, end: int, before: int) -> tuple[int, _Frame] | None:
    """The first whole frame at or after `offset`, and where it is."""
    if offset >= end:
        return None
    frame = _frame_at(fd, offset, before)
    if frame is not None:
        return offset, frame
    for at in _magics(fd, offset + 1, end):
        frame = _frame_at(fd, at, before)
        if frame is not None:
            return at, frame
    return None


def _magics(fd: int, offset: int, end: int) -> Iterator[int]:
    """Where the magic stands between `offset` and `end`."""
    while offset < end:
        window = os.pread(fd, WINDOW_BYTES, offset)
        at = window.find(_MAGIC)
        while at >= 0:
            yield offset + at
            at = window.find(_MAGIC, at + 1)
        if len(window) < WINDOW_BYTES:
            return
        offset += WINDOW_BYTES - 1  # a magic may lie across the windows' border


def _used(fd: int, size: int) -> int:
    """Offset after the last byte that is not zero."""
    while size > 0:
        start = max(0, size - WINDOW_BYTES)
        window = os.pread(fd, size - start, start).rstrip(b"\0")
        if window:
            return start + len(window)
        size = start
    return 0
