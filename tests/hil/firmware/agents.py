"""The Python driver as the agent's end of a line without a kernel: its readings, judged as they are taken."""

from collections import deque
from collections.abc import Callable

import pytest

from agent.core.readings import Quality, Reading
from drivers.registry import Wanted
from drivers.serial_node import device
from tests.drivers.hosts import MS, FakeHost

INPUTS = ("estop", "bumper")
STALE_MS = 50
TICK_MS = 10
BUFFER = 4096
"""Bytes that a kernel holds for whoever does not read."""
READ_MOST = 1024


class FedLine:
    """`SerialLine` without a port: the test feeds it."""

    def __init__(self, on_write: Callable[[bytes], None]) -> None:
        self.waiting = bytearray()
        self._on_write = on_write

    def fileno(self) -> int:
        return 3

    def read(self) -> bytes:
        data = bytes(self.waiting[:READ_MOST])
        del self.waiting[:READ_MOST]
        return data

    def write(self, data: bytes) -> int:
        self._on_write(data)
        return len(data)

    def discard_output(self) -> None:
        """Nothing waits: it is on the line at once."""

    def close(self) -> None:
        """Nothing to let go."""


class Agent:
    """One life of the agent's end: it wants the relay while every input is safe and it is told to `run`."""

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        now_ms: Callable[[], int],
        say: Callable[[bytes], None],
        judge: Callable[[dict[str, Reading], bool | None], None],
    ) -> None:
        self.run = True
        self.frozen = False
        self._now_ms = now_ms
        self._judge = judge
        self._line = FedLine(say)
        patch.setattr(device, "SerialLine", lambda *_: self._line)
        self._host = FakeHost()
        self._host.on_changed = self._sample
        shared = {"port": "line", "baud": 115200, "usb_serial": "", "stale_ms": STALE_MS}
        inputs = [Wanted(name, {**shared, "bit": bit}) for bit, name in enumerate(INPUTS)]
        self.device = device.build("line", inputs, [Wanted("relay", shared)], self._host)
        self._set_clock()
        self.device.open()

    def hear(self, piece: bytes) -> None:
        """One reading's worth from the line; kept for later while frozen."""
        self._line.waiting += piece
        del self._line.waiting[BUFFER:]
        if not self.frozen:
            self._read()

    def thaw(self) -> None:
        """Everything that waited, at once."""
        self.frozen = False
        self._read()

    def tick(self) -> None:
        """As the module: the device first, then a look at everything."""
        self._set_clock()
        self.device.tick(self._host.time_ns)
        self._sample()

    def _read(self) -> None:
        self._set_clock()
        on_readable = self._host._watched[self._line.fileno()]
        while self._line.waiting:
            on_readable()

    def _sample(self) -> None:
        now_ns = self._host.time_ns
        readings = {name: self.device.reading(name, now_ns) for name in INPUTS}
        self._judge(readings, self.device.readback("relay", now_ns))
        self.device.order("relay", self.run and all(map(is_safe, readings.values())), now_ns)

    def _set_clock(self) -> None:
        self._host.time_ns = self._now_ms() * MS
        self._host.bad.clear()


def is_safe(reading: Reading) -> bool:
    """What the agent may run on: known, and both contacts closed."""
    return reading.quality is Quality.GOOD and reading.value is True and reading.second is True


class Recent:
    """What the node said in the last `span_ms`: channel a, channel b, relay."""

    def __init__(self, span_ms: int) -> None:
        self._span_ms = span_ms
        self._kept: deque[tuple[int, tuple[int, int, int]]] = deque()

    def add(self, ms: int, told: tuple[int, int, int]) -> None:
        self._kept.append((ms, told))

    def values(self, ms: int) -> list[tuple[int, int, int]]:
        while self._kept and self._kept[0][0] < ms - self._span_ms:
            self._kept.popleft()
        return [told for _, told in self._kept]
