"""The safety node's own half of PROTOCOL 4: status frames out, order frames in.

Written from the protocol's text alone and kept apart from the agent's driver on purpose: two
implementations that never saw each other meet on the line, so that a shared mistake cannot hide.
For the same reason nothing here is used by the agent.
"""

import struct
import zlib
from dataclasses import dataclass

VERSION = 1
STATUS_TYPE = 1
ORDER_TYPE = 2
ENERGISE = 0xA5
"""The only value that means "on": no single stuck or flipped bit turns "off" into it."""

MAX_PACKET = 64
"""Bytes between two delimiters; an order needs 13, so anything longer is noise and is not collected."""

_STATUS = struct.Struct("<BBHIHHBBH")
_ORDER = struct.Struct("<BBHHBB")
_CRC = struct.Struct("<I")
_FULL_BLOCK = 254


@dataclass(frozen=True, slots=True)
class Status:
    """Node to agent; bit i of a channel is input i, 1 = closed.

    `node_ms` is modulo 2**32, `seq` and `echo` modulo 2**16.
    """

    seq: int
    node_ms: int
    channel_a: int
    channel_b: int
    relay: bool
    faults: int
    echo: int

    def to_bytes(self) -> bytes:
        """The frame as it goes on the line, delimiter included (22 bytes)."""
        return _wrap(
            _STATUS.pack(
                VERSION,
                STATUS_TYPE,
                self.seq,
                self.node_ms,
                self.channel_a,
                self.channel_b,
                self.relay,
                self.faults,
                self.echo,
            )
        )


@dataclass(frozen=True, slots=True)
class Order:
    """Agent to node. `energise` is the raw byte: all but `ENERGISE` is off."""

    seq: int
    echo: int
    energise: int

    @classmethod
    def from_packet(cls, packet: bytes) -> "Order | None":
        """What stood between two delimiters; None for whatever is not exactly a valid order."""
        payload = _unwrap(packet)
        if payload is None or len(payload) != _ORDER.size:
            return None
        version, kind, seq, echo, energise, zero = _ORDER.unpack(payload)
        if (version, kind, zero) != (VERSION, ORDER_TYPE, 0):
            return None
        return cls(seq, echo, energise)


class Splitter:
    """Cuts a byte stream at its 0x00 delimiters. Memory is bounded; what is too long comes out as None."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._overlong = False

    def feed(self, data: bytes) -> list[bytes | None]:
        """The packets that `data` completes, in order. Empty ones are idle delimiters and are left out."""
        *ends, rest = data.split(b"\0")
        packets = []
        for end in ends:
            self._keep(end)
            if self._overlong or self._kept:
                packets.append(None if self._overlong else bytes(self._kept))
            self.clear()
        self._keep(rest)
        return packets

    def clear(self) -> None:
        """Forgets a packet that has only begun."""
        self._kept.clear()
        self._overlong = False

    def _keep(self, part: bytes) -> None:
        self._overlong = self._overlong or len(self._kept) + len(part) > MAX_PACKET
        if self._overlong:
            self._kept.clear()
        else:
            self._kept += part


def cobs_encode(data: bytes) -> bytes:
    """Consistent overhead byte stuffing (Cheshire and Baker 1999), without the delimiter."""
    out = bytearray()
    *inner, last = data.split(b"\0")
    for part in inner:
        out += _stuffed(part)
    out += _stuffed(last)
    # A full last block stands for no zero, so the one-byte block that `_stuffed` adds says nothing.
    if last and len(last) % _FULL_BLOCK == 0:
        del out[-1]
    return bytes(out)


def _stuffed(part: bytes) -> bytes:
    """One zero-free stretch and the zero that follows it."""
    out = bytearray()
    while len(part) >= _FULL_BLOCK:
        out += b"\xff" + part[:_FULL_BLOCK]
        part = part[_FULL_BLOCK:]
    return bytes(out) + bytes([len(part) + 1]) + part


def cobs_decode(data: bytes) -> bytes | None:
    """The inverse; None for what no encoder makes (a zero inside, a block past the end, nothing at all)."""
    if not data or 0 in data:
        return None
    out = bytearray()
    at = 0
    while at < len(data):
        code = data[at]
        block = data[at + 1 : at + code]
        if len(block) != code - 1:
            return None
        out += block
        at += code
        if code <= _FULL_BLOCK and at < len(data):
            out.append(0)
    return bytes(out)


def _wrap(payload: bytes) -> bytes:
    return cobs_encode(payload + _CRC.pack(zlib.crc32(payload))) + b"\0"


def _unwrap(packet: bytes) -> bytes | None:
    frame = cobs_decode(packet)
    if frame is None or len(frame) <= _CRC.size:
        return None
    payload, crc = frame[: -_CRC.size], frame[-_CRC.size :]
    return payload if _CRC.pack(zlib.crc32(payload)) == crc else None
