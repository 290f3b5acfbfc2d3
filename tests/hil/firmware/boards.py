"""The firmware's logic as a shared library, and one board of it in the hands of a test."""

import ctypes
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.hil.line_end import Frame, order_line, parse

HERE: Final = Path(__file__).parent
FRAME_SIZE: Final = 22
PERIOD_MS: Final = 10
SILENCE_MS: Final = 100
WINDOW: Final = 16
STEADY_MS: Final = 80
SETTLE_MS: Final = 50
TEST_MS: Final = 1000
RELAY_FAULT: Final = 0x01
INPUT_FAULT: Final = 0x02
ON: Final = 0xA5
NUMBERS: Final = 9

_u8, _u16, _u32, _size = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_size_t
_board = ctypes.c_char_p
_SIGNATURES: Final = {
    "board_size": ((), _size),
    "board_boot": ((_board, _u16, _u32), None),
    "board_contacts": ((_board, _u16, _u16), None),
    "board_shorts": ((_board, _u16, _u16), None),
    "board_jam": ((_board, ctypes.c_bool), None),
    "board_report": ((_board, _u8), None),
    "board_break_line": ((_board,), None),
    "board_look": ((_board, ctypes.c_void_p), None),
    "board_coil": ((_board, _u32), ctypes.c_bool),
    "board_next": ((_board, _u32), _u32),
    "board_turn": ((_board, ctypes.c_char_p, _size, _u32, ctypes.c_char_p), _size),
    "board_run": ((_board, ctypes.c_void_p, _u32, ctypes.c_char_p), _size),
}


def load(path: Path) -> ctypes.CDLL:
    """The library, its functions typed."""
    library = ctypes.CDLL(str(path))
    for name, (arguments, result) in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result
    return library


@dataclass(frozen=True)
class Look:
    """What a board is, at the end of a turn. `why`: 0 start, 1 permitted, 2 ordered, 3 silent, 4 faulty."""

    relay: bool
    moved_ms: int
    why: int
    supply: bool
    good: int
    off: int
    bad_echo: int
    bad: int
    heard: int


class Board:
    """One board; `ms` is its clock, and every millisecond that passes is one turn of its loop.

    `said` are its frames since the test last took them, with when each went out.
    """

    def __init__(self, library: ctypes.CDLL, *, wired: int = 0b11, ms: int = 5_000) -> None:
        self._library = library
        self._self = ctypes.create_string_buffer(library.board_size())
        self._frame = ctypes.create_string_buffer(FRAME_SIZE)
        self._ms = _u32(ms)
        self._numbers = (_u32 * NUMBERS)()
        self.wired = wired
        self.said: list[tuple[int, bytes]] = []
        self.seqs: list[int] = []
        """The `seq` of every frame since it was booted."""
        self._orders = 0
        self.contacts(wired, wired)
        self.boot()

    @property
    def ms(self) -> int:
        return int(self._ms.value)

    @ms.setter
    def ms(self, value: int) -> None:
        """Time without turns: the board was busy, or dead."""
        self._ms.value = value

    # Metal ------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        self._library.board_boot(self._self, self.wired, self._ms)
        self.seqs.clear()

    def contacts(self, a: int, b: int) -> None:
        self._library.board_contacts(self._self, a, b)

    def shorts(self, a: int, b: int) -> None:
        self._library.board_shorts(self._self, a, b)

    def jam(self, jammed: bool = True) -> None:
        self._library.board_jam(self._self, jammed)

    def report(self, faults: int) -> None:
        self._library.board_report(self._self, faults)

    def break_line(self) -> None:
        self._library.board_break_line(self._self)

    # Turns ------------------------------------------------------------------------------------------------

    def turn(self, data: bytes = b"") -> bytes:
        """One turn at the present millisecond; the frame that went out."""
        arguments = (self._self, data, len(data), self._ms, self._frame)
        return self._take(self._library.board_turn(*arguments))

    def run(self, ms: int) -> bytes:
        """Turns for so many milliseconds, or until a frame goes out: that frame."""
        return self._take(self._library.board_run(self._self, ctypes.byref(self._ms), ms, self._frame))

    def after(self, ms: int) -> "Board":
        """So many milliseconds and turns later."""
        until = (self.ms + ms) & 0xFFFFFFFF
        while left := (until - self.ms) & 0xFFFFFFFF:
            self.run(left)
        return self

    def _take(self, length: int) -> bytes:
        if not length:
            return b""
        assert length == FRAME_SIZE
        frame = self._frame.raw
        self.said.append((self.ms, frame))
        self.seqs.append(struct.unpack("<H", _plain(frame)[2:4])[0])
        return frame

    # Looking and speaking ---------------------------------------------------------------------------------

    @property
    def look(self) -> Look:
        self._library.board_look(self._self, self._numbers)
        relay, moved_ms, why, supply, *counters = self._numbers
        return Look(bool(relay), moved_ms, why, bool(supply), *counters)

    @property
    def relay(self) -> bool:
        return self.look.relay

    @property
    def coil(self) -> bool:
        return bool(self._library.board_coil(self._self, self._ms))

    @property
    def next_ms(self) -> int:
        return int(self._library.board_next(self._self, self._ms))

    def frames(self) -> list[Frame]:
        """What it said since the last call; AssertionError for what is no frame."""
        taken = [decode(frame) for _, frame in self.said]
        self.said.clear()
        return taken

    @property
    def last(self) -> Frame:
        """The newest frame of a board that has said something; it stays where it is."""
        return decode(self.said[-1][1])

    def order(self, energise: int = ON, *, age: int = 0, echo: int | None = None) -> bytes:
        """An order that echoes the `age`-th latest frame, unless `echo` says otherwise."""
        self._orders = (self._orders + 1) & 0xFFFF
        return order_line(self._orders, self.seqs[-1 - age] if echo is None else echo, energise)

    def awake(self) -> "Board":
        """Once it has begun to speak."""
        self.after(STEADY_MS)
        assert self.seqs == [1]
        return self

    def running(self) -> "Board":
        """Once its relay is closed."""
        self.awake().turn(self.order())
        assert self.relay
        return self


def decode(line: bytes) -> Frame:
    """A frame as it goes on the line, delimiter included."""
    found = parse(line[:-1])
    assert found is not None
    assert line[-1] == 0
    return found


def _plain(frame: bytes) -> bytes:
    """COBS undone, CRC unseen: quick, since every frame of a long run goes through here."""
    out = bytearray(frame)
    mark = 0
    while (step := frame[mark]) != 0:
        out[mark] = 0
        mark += step
    return bytes(out[1:-1])
