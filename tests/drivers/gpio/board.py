"""A GPIO chip in the test's hands: what `gpiod` gives the driver, with a board behind it that misbehaves.

Only the chip and its requests are made up, with the signatures of `gpiod.Chip` and `gpiod.LineRequest`
(`test_board.py` holds them to it); settings, events and infos are the library's own objects. What the kernel
does on its side is after `gpiolib-cdev.c`: one bounded queue per request that drops its oldest, numbers per
line, ENODEV once the chip is gone. A read that would wait fails the test.
"""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from gpiod import ChipInfo, EdgeEvent, LineInfo, LineSettings, _ext
from gpiod.line import Bias, Direction, Edge, Value

LINES = 32


def refusal(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclass(slots=True, eq=False)
class Pin:
    """One line of the board. `driven`: by the outside world, True = high; None: nothing is connected."""

    driven: bool | None = None
    owner: str = ""
    held: "FakeRequest | None" = None
    orders: list[bool] = field(default_factory=list)


class Board:
    """One chip under one path. `readable` False: the kernel cannot read its levels (EREMOTEIO)."""

    def __init__(self, clock: Callable[[], int], path: str = "/dev/gpiochip7", label: str = "board") -> None:
        self.path = path
        self.label = label
        self.plugged = True
        self.readable = True
        self.writable = True
        self.opened = 0
        self.pins = [Pin() for _ in range(LINES)]
        self.chips: list[FakeChip] = []
        self.requests: list[FakeRequest] = []
        self._clock = clock

    def open_chip(self, path: str) -> "FakeChip":
        """In the place of `gpiod.Chip`."""
        self.opened += 1
        if not self.plugged or path != self.path:
            raise refusal(errno.ENOENT)
        self.chips.append(FakeChip(self, path))
        return self.chips[-1]

    # The outside world ------------------------------------------------------------------------------------

    def drive(self, offset: int, high: bool | None) -> None:
        """The world sets the line, and the kernel queues an edge where that changes its level."""
        pin = self.pins[offset]
        before = self.level(offset)
        pin.driven = high
        if pin.held is not None and self.level(offset) != before:
            pin.held.edge(offset, high=self.level(offset), at_ns=self._clock())

    def flick(self, offset: int) -> None:
        """The line leaves its level and is back before the kernel looks which edge it was."""
        self.request(offset).edge(offset, high=self.level(offset), at_ns=self._clock())

    def stray(self, offset: int, line: int) -> None:
        """The request of `offset` is told an edge of another line."""
        self.request(offset).edge(line, high=True, at_ns=self._clock())

    def orders(self, offset: int) -> list[bool]:
        """What was written to the line as an output, since the board was plugged in."""
        return self.pins[offset].orders

    def own(self, offset: int, owner: str) -> None:
        """Another process holds the line; "" lets it go."""
        self.pins[offset].owner = owner

    def request(self, offset: int) -> "FakeRequest":
        held = self.pins[offset].held
        assert held is not None
        return held

    def level(self, offset: int) -> bool:
        """The voltage: whoever drives the line, or the resistor that was asked for."""
        pin = self.pins[offset]
        if pin.driven is not None:
            return pin.driven
        if pin.held is None:
            return False
        settings = pin.held.settings[offset]
        if settings.direction is Direction.OUTPUT:
            return pin.orders[-1]
        assert settings.bias in {Bias.PULL_UP, Bias.PULL_DOWN}, f"line {offset} floats"
        return settings.bias is Bias.PULL_UP

    def unplug(self) -> None:
        self.plugged = False
        for request in self.requests:
            request.wake()

    def plug(self) -> None:
        """Another chip, as the kernel sees it: requests of before stay dead."""
        self.plugged = True
        self.pins = [Pin(driven=pin.driven) for pin in self.pins]
        self.requests.clear()

    @property
    def held(self) -> list[int]:
        return [offset for offset, pin in enumerate(self.pins) if pin.held is not None]


class FakeChip:
    """What the driver uses of `gpiod.Chip`."""

    def __init__(self, board: Board, path: str) -> None:
        self._board = board
        self._path = path
        self.closed = False

    def get_info(self) -> ChipInfo:
        return ChipInfo(name="gpiochip7", label=self._board.label, num_lines=LINES)

    def get_line_info(self, line: int | str) -> LineInfo:
        pin = self._board.pins[int(line)]
        return LineInfo(
            offset=int(line),
            name="",
            used=bool(pin.owner or pin.held),
            consumer=pin.owner,
            direction=Direction.INPUT.value,
            active_low=False,
            bias=Bias.AS_IS.value,
            drive=_ext.DRIVE_PUSH_PULL,
            edge_detection=Edge.NONE.value,
            event_clock=_ext.CLOCK_MONOTONIC,
            debounced=False,
            debounce_period_us=0,
        )

    def request_lines(
        self,
        config: dict[Iterable[int | str] | int | str, LineSettings | None],
        consumer: str | None = None,
        event_buffer_size: int | None = None,
        output_values: dict[int | str, Value] | None = None,
    ) -> "FakeRequest":
        assert not self.closed
        assert consumer
        assert event_buffer_size
        settings = {_offset(line): one or LineSettings() for line, one in config.items()}
        if max(settings) >= LINES:
            raise ValueError("line offset of out range")  # gpiod's own words
        pins = [self._board.pins[offset] for offset in settings]
        if any(pin.owner or pin.held for pin in pins):
            raise refusal(errno.EBUSY)
        return FakeRequest(self._board, settings, event_buffer_size)

    def close(self) -> None:
        self.closed = True


def _offset(line: Iterable[int | str] | int | str) -> int:
    assert isinstance(line, int)
    return line


class FakeRequest:
    """What the driver uses of `gpiod.LineRequest`."""

    def __init__(self, board: Board, settings: dict[int, LineSettings], size: int) -> None:
        self.settings = settings
        self.size = size
        self.broken = False
        self._board = board
        self._queue: deque[EdgeEvent] = deque()
        self._seqs = dict.fromkeys(settings, 0)
        self._fd = os.eventfd(0)
        board.requests.append(self)
        for offset, one in settings.items():
            pin = board.pins[offset]
            if one.direction is Direction.OUTPUT:
                pin.orders.append(one.output_value is Value.ACTIVE)
            pin.held = self

    # What the kernel does ---------------------------------------------------------------------------------

    def edge(self, offset: int, *, high: bool, at_ns: int, skip: int = 0) -> None:
        """Queue an edge that ended at `high`; `skip` numbers of the line are missing before it."""
        one = self.settings.get(offset, LineSettings(edge_detection=Edge.BOTH))
        if one.edge_detection is Edge.NONE:
            return
        self._seqs[offset] = (self._seqs.get(offset, 0) + 1 + skip) & 0xFFFFFFFF
        rising = high != one.active_low
        seq = self._seqs[offset] - ((self._seqs[offset] & 0x80000000) << 1)  # as gpiod hands it on
        event = EdgeEvent(
            event_type=_ext.EDGE_EVENT_TYPE_RISING if rising else _ext.EDGE_EVENT_TYPE_FALLING,
            timestamp_ns=at_ns,
            line_offset=offset,
            global_seqno=seq,
            line_seqno=seq,
        )
        if len(self._queue) == self.size:
            self._queue.popleft()
        self._queue.append(event)
        self.wake()

    def count_from(self, offset: int, seq: int) -> None:
        """The line's last edge was number `seq`."""
        self._seqs[offset] = seq

    def wake(self) -> None:
        if self._fd >= 0:
            os.eventfd_write(self._fd, 1)

    @property
    def queued(self) -> int:
        return len(self._queue)

    # What gpiod gives -------------------------------------------------------------------------------------

    def get_values(self, lines: Iterable[int | str] | None = None) -> list[Value]:
        self._check(readable=self._board.readable)
        offsets = self.settings if lines is None else [_offset(line) for line in lines]
        return [
            Value.ACTIVE if self._board.level(offset) != self.settings[offset].active_low else Value.INACTIVE
            for offset in offsets
        ]

    def set_values(self, values: dict[int | str, Value]) -> None:
        self._check(readable=self._board.writable)
        for line, value in values.items():
            offset = _offset(line)
            assert self.settings[offset].direction is Direction.OUTPUT
            self._board.pins[offset].orders.append(value is Value.ACTIVE)

    def read_edge_events(self, max_events: int | None = None) -> list[EdgeEvent]:
        self._check(readable=True)
        if self.broken:
            raise refusal(errno.EIO)
        if not self._queue:
            assert not os.get_blocking(self._fd), "this read would wait"
            raise refusal(errno.EAGAIN)
        events = [self._queue.popleft() for _ in range(min(max_events or 64, len(self._queue)))]
        if not self._queue:
            os.eventfd_read(self._fd)
        return events

    def fileno(self) -> int:
        return self._fd

    def release(self) -> None:
        assert self._fd >= 0
        os.close(self._fd)
        self._fd = -1
        for offset in self.settings:
            pin = self._board.pins[offset]
            if pin.held is self:
                pin.held = None

    def _check(self, *, readable: bool) -> None:
        assert self._fd >= 0, "released"
        if not self._board.plugged or self not in self._board.requests:
            raise refusal(errno.ENODEV)
        if not readable:
            raise refusal(errno.EREMOTEIO)
