"""The safety node's frames (PROTOCOL 4) by hand, so that no test leans on the codec it tests."""

import struct
import zlib
from typing import NamedTuple

AGENT_LENGTH = 13
"""Bytes of an agent's frame between two delimiters."""


class AgentWords(NamedTuple):
    """What the agent said, byte for byte."""

    version: int
    kind: int
    seq: int
    echo: int
    energise: int
    zero: int


def node_frame(
    *,
    seq: int,
    node_ms: int,
    a: int = 0xFFFF,
    b: int = 0xFFFF,
    relay: int = 0,
    faults: int = 0,
    echo: int = 0,
) -> bytes:
    """A node's frame as it goes on the line, delimiter included."""
    return seal(struct.pack("<BBHIHHBBH", 1, 1, seq, node_ms, a, b, relay, faults, echo))


def agent_frame(*, seq: int, echo: int, energise: int, zero: int = 0) -> bytes:
    """An agent's frame as it should go on the line, delimiter included."""
    return seal(struct.pack("<BBHHBB", 1, 2, seq, echo, energise, zero))


def seal(body: bytes, *, crc_xor: int = 0) -> bytes:
    """CRC, stuffing and delimiter round a body; `crc_xor` spoils the CRC."""
    return stuff(body + struct.pack("<I", zlib.crc32(body) ^ crc_xor)) + b"\0"


def stuff(data: bytes) -> bytes:
    """COBS byte by byte, for less than 254 bytes: each zero becomes the distance to the next one."""
    out = bytearray([0])
    mark = 0
    for byte in data:
        if byte == 0:
            out[mark] = len(out) - mark
            mark = len(out)
        out.append(byte)
    out[mark] = len(out) - mark
    return bytes(out)


def unstuff(data: bytes) -> bytes:
    """The inverse of `stuff`."""
    out = bytearray(data)
    mark = 0
    while mark < len(data):
        out[mark] = 0
        mark += data[mark]
    return bytes(out[1:])


def agent_words(stream: bytes) -> list[AgentWords]:
    """Every frame in what the agent wrote; AssertionError for a damaged one. A half one at the end waits."""
    *stretches, _ = stream.split(b"\0")
    return [_words(unstuff(stretch)) for stretch in stretches if stretch]


def whole_words(stream: bytes) -> list[AgentWords]:
    """The same where a full buffer may have cut frames short: the damaged ones are left out."""
    *stretches, _ = stream.split(b"\0")
    return [_words(unstuff(stretch)) for stretch in stretches if is_whole(stretch)]


def is_whole(stretch: bytes) -> bool:
    """True for what stood between two delimiters and has its right length and CRC."""
    if len(stretch) != AGENT_LENGTH:
        return False
    try:
        frame = unstuff(stretch)
    except IndexError:
        return False
    return struct.pack("<I", zlib.crc32(frame[:-4])) == frame[-4:]


def _words(frame: bytes) -> AgentWords:
    body, crc = frame[:-4], frame[-4:]
    assert struct.pack("<I", zlib.crc32(body)) == crc
    return AgentWords(*struct.unpack("<BBHHBB", body))
