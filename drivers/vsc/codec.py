"""Frames of the wireless e-stop's line (PROTOCOL 4, "Wireless e-stop").

The published protocol of the HRI/FORT vehicle safety controller: `10 01 type len data… sum1 sum2`. Sources,
read and not copied: the maker's VSC-006 hardware manual (935-0003 rev C, 7.3) for the messages, and its
interface library (version 1.1: VehicleMessages.h, VehicleInterface.c) for what the manual leaves open:

* Numbers are little-endian: the library maps packed structures, "LSB first", onto the bytes.
* The check sum runs over header, type, length and data, and its two sums are kept modulo 256, where
  Fletcher's own are modulo 255; the plain sum goes first on the line.

Such a sum finds every damage within one byte. It does not find some in two, e.g. the top bits of two bytes an
even distance apart. So a heartbeat must also have its one length, and its owner judges what it says.
"""

import struct
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

from agent.errors import WardenError

HEADER: Final = b"\x10\x01"
HEARTBEAT: Final = 0x20
"""Type of the controller's own heartbeat."""
OUR_HEARTBEAT: Final = 0x21
"""Type of the heartbeat to it."""
MOST_DATA: Final = 248
SHORTEST: Final = 6
"""Bytes of a frame without data: header, type, length, check sum."""
LONGEST: Final = SHORTEST + MOST_DATA
PATIENCE_NS: Final = 60_000_000
"""A frame that is not whole by then was none: the longest takes 22 ms at 115200 baud, a USB adapter holds
bytes back for 16 ms, and they count from up to 20 ms before they are read (turns.py). Without it, four of
noise could swallow the next 250, a press among them."""

_HEARTBEAT: Final = struct.Struct("<BBI")


class CodecError(WardenError):
    """Bytes that are no frame, or fields that fit into none. `reason`: in a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CheckSumError(CodecError):
    """Bytes of the right shape whose check sum is wrong."""


@dataclass(frozen=True, slots=True)
class Message:
    """One frame, whatever it says. `kind`: 0 to 255; `data`: at most 248 bytes."""

    kind: int
    data: bytes

    @classmethod
    def from_bytes(cls, frame: bytes) -> "Message":
        """The message of exactly one whole frame; raises CodecError (CheckSumError) for anything else."""
        if len(frame) < SHORTEST or frame[:2] != HEADER or len(frame) != frame[3] + SHORTEST:
            raise CodecError(f"{len(frame)} bytes are no frame")
        if frame[3] > MOST_DATA:
            raise CodecError(f"{frame[3]} bytes of data, a frame has {MOST_DATA} at most")
        if fletcher16(frame[:-2]) != frame[-2:]:
            raise CheckSumError("wrong check sum")
        return cls(frame[2], frame[4:-2])

    def to_bytes(self) -> bytes:
        """As on the line; raises CodecError if it does not fit."""
        if not 0 <= self.kind <= 0xFF or len(self.data) > MOST_DATA:
            raise CodecError(f"type {self.kind} with {len(self.data)} bytes of data does not fit")
        body = HEADER + bytes([self.kind, len(self.data)]) + self.data
        return body + fletcher16(body)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The controller's own. `vsc_mode`, `autonomy_mode`: u8. `estop_status`: u32, non-zero = stop."""

    vsc_mode: int
    autonomy_mode: int
    estop_status: int

    @classmethod
    def from_message(cls, message: Message) -> "Heartbeat":
        """Raises CodecError when the message is none, or has another length than a heartbeat has."""
        if message.kind != HEARTBEAT or len(message.data) != _HEARTBEAT.size:
            raise CodecError(f"type 0x{message.kind:02x} with {len(message.data)} bytes is no heartbeat")
        return cls(*_HEARTBEAT.unpack(message.data))


def our_heartbeat() -> bytes:
    """The frame to the controller, 7 bytes: its one byte asks for a stop when it is not zero, so it is zero.

    An input never stops anything. That we are there is all it says; what a controller makes of our silence is
    its own setting (the manual's key 85).
    """
    return Message(OUR_HEARTBEAT, b"\x00").to_bytes()


def fletcher16(data: bytes) -> bytes:
    """The two check bytes: the sum of all bytes, then the sum of all sums on the way, both modulo 256."""
    return bytes((sum(data) & 0xFF, sum(accumulate(data)) & 0xFF))


class Heard(NamedTuple):
    """A message, and the earliest time at which it can have come, nanoseconds."""

    message: Message
    since_ns: int


class Parser:
    """Finds frames in a stream, whatever the pieces it comes in and whatever lies between them.

    Holds less than one frame from one call to the next. Where a frame does not hold, the next one is looked
    for from its second byte on: noise that looks like a header hides nothing but itself.
    """

    def __init__(self) -> None:
        self._kept = bytearray()
        self._since_ns = 0
        self.dropped = 0
        """Bytes thrown away since the owner last set this to 0, to count them elsewhere."""
        self.broken = 0
        """Frames with a wrong check sum among them; the owner's to set to 0 as well."""

    def feed(self, data: bytes, since_ns: int, now_ns: int) -> list[Heard]:
        """The messages that `data` completes, in order. Without data: lets go of what is overdue.

        `since_ns`: the earliest time at which `data` can have come.
        """
        old = len(self._kept)
        self._kept += data
        found: list[Heard] = []
        at = 0
        while (at := self._seek(at)) < len(self._kept):
            if at >= old:
                self._since_ns = since_ns
            size = self._size(at)
            frame = bytes(self._kept[at : at + size])
            if len(frame) < size and now_ns - self._since_ns < PATIENCE_NS:
                break
            at += self._judge(frame, found)
        del self._kept[:at]
        return found

    def clear(self) -> None:
        """Forget the frame that has only begun: what comes next is of another line."""
        self.dropped += len(self._kept)
        self._kept.clear()

    def _seek(self, at: int) -> int:
        """Where the next frame may begin, from `at` on: at a header, or at half a one at the very end."""
        kept = self._kept
        start = kept.find(HEADER, at)
        if start < 0:
            start = len(kept) - (len(kept) > at and kept[-1] == HEADER[0])
        self.dropped += start - at
        return start

    def _size(self, at: int) -> int:
        """Bytes that must be there before the frame at `at` can be judged."""
        if len(self._kept) < at + 4:
            return SHORTEST
        length = self._kept[at + 3]
        return length + SHORTEST if length <= MOST_DATA else 4

    def _judge(self, frame: bytes, found: list[Heard]) -> int:
        """How many bytes are done with: the frame, or the first byte of what is none."""
        try:
            found.append(Heard(Message.from_bytes(frame), self._since_ns))
        except CodecError as error:
            self.broken += isinstance(error, CheckSumError)
            self.dropped += 1
            return 1
        return len(frame)
