"""The far end of the simulated node's line, as a test plays it: frames by hand, no code of the project."""

import os
import select
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.waiting import DEADLINE_S

ON = 0xA5


@dataclass(frozen=True)
class Frame:
    """A status frame, PROTOCOL 4."""

    seq: int
    node_ms: int
    a: int
    b: int
    relay: int
    faults: int
    echo: int


class LineEnd:
    """One opening of the port. Frames that are no frames are kept in `noise`."""

    def __init__(self, port: Path) -> None:
        self.fd = os.open(port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self.noise: list[bytes] = []
        self._rest = b""
        self._seq = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.fd)

    def read(self) -> bytes:
        """What is there next; b"" when the line has hung up; AssertionError when nothing comes."""
        ready, _, _ = select.select([self.fd], [], [], DEADLINE_S)
        assert ready, "nothing came"
        return os.read(self.fd, 4096)

    def frame(self) -> Frame:
        """The next status frame."""
        while True:
            packet, delimiter, rest = self._rest.partition(b"\0")
            if not delimiter:
                self._rest += self.read()
                continue
            self._rest = rest
            if (found := parse(packet)) is not None:
                return found
            self.noise.append(packet)

    def newest(self) -> Frame:
        """The last frame of all that is there; waits for one if there is none."""
        found = self.frame()
        while self._rest or select.select([self.fd], [], [], 0)[0]:
            found = self.frame()
        return found

    def order(self, energise: int = ON, *, echo: int | None = None) -> int:
        """Sends an order; the echo is the newest frame's seq unless given. Gives the order's own seq."""
        echo = self.newest().seq if echo is None else echo
        self._seq += 1
        os.write(self.fd, order_line(self._seq, echo, energise))
        return self._seq

    def until(self, **fields: int) -> Frame:
        """The first frame with these fields; orders on at each frame before it, as an agent would."""
        while True:
            found = self.frame()
            if all(getattr(found, name) == value for name, value in fields.items()):
                return found

    def run(self) -> Frame:
        """Orders on until the node says that its relay is closed."""
        while (found := self.newest()).relay == 0:
            self.order(echo=found.seq)
        return found


def order_line(seq: int, echo: int, energise: int) -> bytes:
    """An order as it goes on the line."""
    plain = struct.pack("<BBHHBB", 1, 2, seq, echo, energise, 0)
    return stuff(plain + struct.pack("<I", zlib.crc32(plain))) + b"\0"


def parse(packet: bytes) -> Frame | None:
    """A status frame from what stood between two delimiters; None for anything else."""
    plain = unstuff(packet)
    if len(plain) != 20 or struct.unpack("<I", plain[16:])[0] != zlib.crc32(plain[:16]):
        return None
    version, kind, *fields = struct.unpack("<BBHIHHBBH", plain[:16])
    return Frame(*fields) if (version, kind) == (1, 1) else None


def stuff(plain: bytes) -> bytes:
    """COBS for fewer than 254 bytes."""
    return b"".join(bytes([len(part) + 1]) + part for part in plain.split(b"\0"))


def unstuff(packet: bytes) -> bytes:
    """The inverse; something of another length for what is not COBS."""
    parts = []
    while packet:
        parts.append(packet[1 : packet[0]])
        packet = packet[packet[0] :]
    return b"\0".join(parts)
