"""The board of these tests with the real library in front of it: `kernel.c`, preloaded, answers its calls."""

import ctypes
from collections.abc import Callable

import gpiod

from tests.drivers.gpio.board import LINES, Board

FLOATING = -1


class KernelBoard(Board):
    """As `Board`; what it adds is what the kernel was asked for. Only in a process that has `kernel.so`."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._kernel = ctypes.CDLL(None)
        for name, kind in (
            ("standin_flags", ctypes.c_uint64),
            ("standin_debounce_us", ctypes.c_uint32),
            ("standin_consumer", ctypes.c_char_p),
        ):
            getattr(self._kernel, name).restype = kind
        self._kernel.standin_reset()
        self._answers = [True, True]
        super().__init__(clock, label="standin")

    def open_chip(self, path: str) -> gpiod.Chip:  # type: ignore[override]
        self.opened += 1
        return gpiod.Chip(path)

    @property
    def readable(self) -> bool:
        return self._answers[0]

    @readable.setter
    def readable(self, answers: bool) -> None:
        self._answers[0] = answers
        self._kernel.standin_answer(*self._answers)

    @property
    def writable(self) -> bool:
        return self._answers[1]

    @writable.setter
    def writable(self, answers: bool) -> None:
        self._answers[1] = answers
        self._kernel.standin_answer(*self._answers)

    def drive(self, offset: int, high: bool | None) -> None:
        level = FLOATING if high is None else int(high)
        self._kernel.standin_drive(offset, level, ctypes.c_uint64(self._clock()))

    def stray(self, offset: int, line: int) -> None:
        self._kernel.standin_stray(offset, line, ctypes.c_uint64(self._clock()))

    def own(self, offset: int, owner: str) -> None:
        self._kernel.standin_own(offset, owner.encode())

    def orders(self, offset: int) -> list[bool]:
        into = ctypes.create_string_buffer(1024)
        count = self._kernel.standin_orders(offset, into)
        return [bool(order) for order in into.raw[:count]]

    def unplug(self) -> None:
        self._kernel.standin_unplug()

    def plug(self) -> None:
        self._kernel.standin_plug()

    @property
    def held(self) -> list[int]:
        return [offset for offset in range(LINES) if self._kernel.standin_held(offset)]

    def flags(self, offset: int) -> int:
        """`GPIO_V2_LINE_FLAG_…` of the line's request."""
        return int(self._kernel.standin_flags(offset))

    def debounce_us(self, offset: int) -> int:
        return int(self._kernel.standin_debounce_us(offset))

    def queue(self, offset: int) -> int:
        return int(self._kernel.standin_queue(offset))

    def consumer(self, offset: int) -> str:
        return bytes(self._kernel.standin_consumer(offset)).decode()
