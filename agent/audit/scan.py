"""A segment's frames for whoever opens them: each whole one that can be found, whatever is wrong in between.

Memory: one piece of the file (PIECE_BYTES and a frame), whatever the file's size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from agent.audit.errors import FormatError
from agent.audit.frames import MAX_FRAME_BYTES, Frame, find_frame, parse_frame
from agent.audit.walk import PIECE_BYTES
from agent.logformat.layout import FRAME_SEAL


@dataclass(frozen=True, slots=True)
class Bad:
    """Bytes that no frame could be read from. `why`: in words; `tail`: nothing was found after them."""

    why: str
    tail: bool = False


def scan_frames(file: BinaryIO, start: int) -> Iterator[tuple[int, Frame | Bad]]:
    """(offset, frame of records) in the file's order, and where there is none, what was skipped."""
    file.seek(start)
    base, data, at = start, b"", 0
    more = True
    while True:
        if more and len(data) - at < MAX_FRAME_BYTES:
            piece = file.read(PIECE_BYTES)
            base, data, at, more = base + at, data[at:] + piece, 0, bool(piece)
            continue
        if at == len(data):
            return
        try:
            frame = parse_frame(data, at)
        except FormatError as error:
            following = find_frame(data, at + 1)
            # The zeros after the last frame of a segment that is open are no damage.
            if following is not None or any(data[at:]):
                yield base + at, Bad(error.reason, tail=following is None and not more)
            at = len(data) if following is None else following
        else:
            if frame.type != FRAME_SEAL:
                yield base + at, frame
            at += frame.size
