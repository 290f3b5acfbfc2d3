"""A module's side of a driver for tests: an injected clock, real descriptors, nothing that runs by itself."""

import fcntl
import select
import sys
import termios
import time
from collections.abc import Callable

from agent.core.readings import Quality
from drivers.base import Device

DEADLINE_S = 20.0
"""Ends a test that would hang; it measures nothing."""
TURN_MS = 20
"""How long one poll waits for bytes that the kernel hands over on its own time."""
MS = 1_000_000


def unread(fd: int) -> int:
    """Bytes that wait at a port's end; what was said at the far end gets there on the kernel's own time."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


class FakeHost:
    """`time_ns` is whatever the test says. `on_changed` stands for the module's sample, step and act."""

    def __init__(self) -> None:
        self.time_ns = 1_000_000 * MS
        self.changes = 0
        self.bad: list[tuple[str, str]] = []
        self.on_changed: Callable[[], None] = lambda: None
        self._watched: dict[int, Callable[[], None]] = {}

    def watch(self, fd: int, on_readable: Callable[[], None]) -> None:
        assert fd not in self._watched
        self._watched[fd] = on_readable

    def unwatch(self, fd: int) -> None:
        del self._watched[fd]

    def now_ns(self) -> int:
        return self.time_ns

    def changed(self) -> None:
        self.changes += 1
        self.on_changed()

    def bad_input(self, source: str, reason: str) -> None:
        self.bad.append((source, reason))

    @property
    def watched(self) -> frozenset[int]:
        return frozenset(self._watched)

    def pass_ms(self, ms: float) -> None:
        self.time_ns += round(ms * MS)

    def turn(self, wait_ms: int = TURN_MS) -> None:
        """One turn of a loop: call back every descriptor that is ready."""
        poll = select.poll()
        for fd in self._watched:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(wait_ms):
            if fd in self._watched:
                self._watched[fd]()

    def turn_until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, "the condition did not come true"
            self.turn()

    def tick(self, device: Device, ms: float, *, every_ms: float = 10) -> None:
        """Time passes with the module ticking and nobody speaking."""
        for _ in range(round(ms / every_ms)):
            self.pass_ms(every_ms)
            device.tick(self.time_ns)

    def quality(self, device: Device, name: str) -> Quality:
        return device.reading(name, self.time_ns).quality
