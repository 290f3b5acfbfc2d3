"""Frames of the safety node's line, from the agent's side (PROTOCOL 4, "Safety node").

COBS (consistent overhead byte stuffing), each frame ended by 0x00; inside, little-endian fields and a CRC-32
(IEEE) over all that precedes it. A frame is taken whole or refused; nothing is ever repaired.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from agent.errors import WardenError

VERSION: Final = 1
NODE_TYPE: Final = 1
AGENT_TYPE: Final = 2
ENERGISE: Final = 0xA5
"""The only value that means on: no stuck line and no single flipped bit turns off into it."""
DELIMITER: Final = b"\x00"

_NODE: Final = struct.Struct("<BBHIHHBBH")
_AGENT: Final = struct.Struct("<BBHHBB")
_CRC: Final = struct.Struct("<I")

LONGEST: Final = _NODE.size + _CRC.size + 1
"""Bytes of the longest frame between two delimiters: COBS adds one to frames as short as these."""


class CodecError(WardenError):
    """Bytes that are no frame, or fields that fit into none. `reason`: in a few words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CrcError(CodecError):
    """Bytes of the right shape whose CRC-32 is wrong: noise on the line, rather than another protocol."""


@dataclass(frozen=True, slots=True)
class NodeFrame:
    """Node to agent, every 10 ms and at once on a change.

    `seq` and `echo`: modulo 2**16. `node_ms`: milliseconds of the node's clock, modulo 2**32. `channel_a`,
    `channel_b`: bit i is a contact of input i, 1 = closed (safe). `relay`: 1 = energised, 0 = de-energised.
    `faults`: 0 = none.
    """

    seq: int
    node_ms: int
    channel_a: int
    channel_b: int
    relay: int
    faults: int
    echo: int

    @classmethod
    def from_bytes(cls, encoded: bytes) -> "NodeFrame":
        """The frame that stood between two delimiters; raises CodecError (CrcError) for anything else."""
        return cls(*_unwrap(_NODE, NODE_TYPE, encoded))

    def to_bytes(self) -> bytes:
        """As on the line, delimiter included, 22 bytes; raises CodecError if a field is out of range."""
        return _wrap(
            _NODE,
            NODE_TYPE,
            self.seq,
            self.node_ms,
            self.channel_a,
            self.channel_b,
            self.relay,
            self.faults,
            self.echo,
        )


@dataclass(frozen=True, slots=True)
class AgentFrame:
    """Agent to node, every 20 ms and at once on a change. `echo`: the node's `seq` last heard."""

    seq: int
    echo: int
    energise: bool

    @classmethod
    def from_bytes(cls, encoded: bytes) -> "AgentFrame":
        """As `NodeFrame.from_bytes`; whatever is not exactly `ENERGISE` is off."""
        seq, echo, energise, zero = _unwrap(_AGENT, AGENT_TYPE, encoded)
        if zero != 0:
            raise CodecError(f"the byte that must be zero is {zero}")
        return cls(seq, echo, energise == ENERGISE)

    def to_bytes(self) -> bytes:
        """As on the line, delimiter included, 14 bytes; raises CodecError if a field is out of range."""
        return _wrap(_AGENT, AGENT_TYPE, self.seq, self.echo, ENERGISE if self.energise else 0, 0)


class Splitter:
    """Cuts a stream at its delimiters, whatever the pieces it comes in.

    Holds at most `longest` + 1 bytes: of a stretch that no frame can be, the rest is dropped as it comes, and
    what is kept is still too long to be taken for a frame. Every delimiter is a fresh start.
    """

    def __init__(self, longest: int = LONGEST) -> None:
        self._room = longest + 1
        self._kept = bytearray()
        self.dropped = 0
        """Bytes thrown away since the owner last set this to 0, to count them elsewhere."""

    def feed(self, data: bytes) -> list[bytes]:
        """The stretches that `data` completes, in order. Empty ones (idle delimiters) are left out."""
        *ends, rest = data.split(DELIMITER)
        stretches = [stretch for end in ends if (stretch := self._end(end))]
        self._keep(rest)
        return stretches

    def clear(self) -> None:
        """Forget the stretch that has only begun: what comes next is of another line."""
        self.dropped += len(self._kept)
        self._kept.clear()

    def _end(self, part: bytes) -> bytes:
        self._keep(part)
        stretch = bytes(self._kept)
        self._kept.clear()
        return stretch

    def _keep(self, part: bytes) -> None:
        taken = part[: self._room - len(self._kept)]
        self._kept += taken
        self.dropped += len(part) - len(taken)


def cobs_encode(data: bytes) -> bytes:
    """At most 253 bytes, without the delimiter: no frame is longer, so the 254-byte block never occurs."""
    if len(data) > 253:
        raise CodecError(f"{len(data)} bytes are no frame")
    return b"".join(bytes([len(block) + 1]) + block for block in data.split(b"\x00"))


def cobs_decode(encoded: bytes) -> bytes:
    """The inverse; raises CodecError for bytes that `cobs_encode` cannot have made."""
    blocks = []
    at = 0
    while at < len(encoded):
        code = encoded[at]
        block = encoded[at + 1 : at + code]
        if code == 0 or len(block) != code - 1 or 0 in block:
            raise CodecError(f"not COBS at byte {at}")
        blocks.append(block)
        at += code
    return b"\x00".join(blocks)


def _wrap(layout: struct.Struct, kind: int, *fields: int) -> bytes:
    try:
        body = layout.pack(VERSION, kind, *fields)
    except struct.error as error:
        raise CodecError(f"a field out of range: {error}") from error
    return cobs_encode(body + _CRC.pack(zlib.crc32(body))) + DELIMITER


def _unwrap(layout: struct.Struct, kind: int, encoded: bytes) -> tuple[int, ...]:
    # Length before anything else: whatever garbage costs, it costs no more than one frame would.
    size = layout.size + _CRC.size + 1
    if len(encoded) != size:
        raise CodecError(f"{len(encoded)} bytes, a frame has {size}")
    frame = cobs_decode(encoded)
    body, crc = frame[: layout.size], frame[layout.size :]
    if _CRC.pack(zlib.crc32(body)) != crc:
        raise CrcError("wrong CRC-32")
    version, found, *fields = layout.unpack(body)
    if (version, found) != (VERSION, kind):
        raise CodecError(f"version {version} type {found}, expected {VERSION} and {kind}")
    return tuple(fields)
