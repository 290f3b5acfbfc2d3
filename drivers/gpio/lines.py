"""Lines of a GPIO chip, requested together through `gpiod` 2: levels, edges, and one error for a refusal.

Nothing here waits for an edge: the request's descriptor is made non-blocking, which `gpiod` leaves undone.
A level is one ioctl. On the controller's own chip that takes about a microsecond; on an expander behind I²C,
SPI or USB the kernel itself waits for the bus, and the loop with it, so such a chip is no place for a stop.
"""

import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from gpiod import ChipInfo, EdgeEvent, LineInfo, LineSettings
from gpiod.line import Bias, Clock, Direction, Edge, Value

from agent.errors import WardenError

EDGES_MOST: Final = 64
"""The kernel's queue per request, and the most that one wake-up takes: a queue that ran over is full. A power
of two, or the kernel rounds up. A contact that bounces makes some twenty edges."""
CONSUMER: Final = "robot-warden"
"""What `gpioinfo` shows as the owner of our lines."""

REFUSALS: Final = (OSError, ValueError, NotImplementedError)
"""What gpiod raises when the kernel refuses: it makes ValueError of EINVAL and NotImplementedError of
EOPNOTSUPP, and ValueError, without an errno, for a line that the chip does not have."""


class Request(Protocol):
    """What we use of `gpiod.LineRequest`; the signatures are held to it by a test."""

    def get_values(self, lines: Iterable[int | str] | None = None) -> list[Value]: ...
    def set_values(self, values: dict[int | str, Value]) -> None: ...
    def read_edge_events(self, max_events: int | None = None) -> list[EdgeEvent]: ...
    def fileno(self) -> int: ...
    def release(self) -> None: ...


class Chip(Protocol):
    """What we use of `gpiod.Chip`; the signatures are held to it by a test."""

    def get_info(self) -> ChipInfo: ...
    def get_line_info(self, line: int | str) -> LineInfo: ...
    def request_lines(
        self,
        config: dict[Iterable[int | str] | int | str, LineSettings | None],
        consumer: str | None = None,
        event_buffer_size: int | None = None,
        output_values: dict[int | str, Value] | None = None,
    ) -> Request: ...
    def close(self) -> None: ...


class OpenChip(Protocol):
    """`gpiod.Chip` itself, outside tests."""

    def __call__(self, path: str) -> Chip: ...


class LinesError(WardenError):
    """The kernel refused. `path`: of the chip; `reason`: in a few words, without the path.

    `gone`: the chip is not there any more, and with it every line of it. `misused`: somebody else has the
    line, the chip is another one, or it cannot tell edges: that takes a person, however long one waits.
    """

    def __init__(self, path: str, reason: str, *, gone: bool = False, misused: bool = False) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason
        self.gone = gone
        self.misused = misused


@dataclass(frozen=True, slots=True)
class Wire:
    """One line and how it is used. Active is closed for a contact, energised for a relay."""

    offset: int
    output: bool = False
    active_low: bool = False
    bias: Bias = Bias.AS_IS
    debounce_us: int = 0

    def settings(self) -> LineSettings:
        """As the kernel is asked for it: an output begins inactive, an input tells both edges."""
        if self.output:
            return LineSettings(direction=Direction.OUTPUT, output_value=Value.INACTIVE)
        return LineSettings(
            direction=Direction.INPUT,
            edge_detection=Edge.BOTH,
            bias=self.bias,
            active_low=self.active_low,
            debounce_period=timedelta(microseconds=self.debounce_us),
            event_clock=Clock.MONOTONIC,
        )


class Lines:
    """One request: open or not. Every method but `release` raises LinesError when the kernel refuses."""

    def __init__(self, path: str, label: str, wires: Sequence[Wire], open_chip: OpenChip) -> None:
        """`label`: what the chip must call itself; empty: anything."""
        self.path = path
        self.offsets = [wire.offset for wire in wires]
        self._label = label
        self._wires = wires
        self._open_chip = open_chip
        self._request: Request | None = None

    @property
    def is_open(self) -> bool:
        """True between `open` and `release`."""
        return self._request is not None

    def open(self) -> None:
        """Ask for the lines; an output is inactive from this moment on."""
        try:
            chip = self._open_chip(self.path)
        except REFUSALS as error:
            raise self._refused(error) from error
        try:
            self._check_label(chip)
            self._request = self._ask(chip)
        except REFUSALS as error:
            raise self._refused(error) from error
        finally:
            chip.close()  # the request stays good without it

    def fileno(self) -> int:
        """The request's descriptor, non-blocking: readable for edges, hung up when the chip is gone."""
        return self._live().fileno()

    def levels(self) -> list[bool]:
        """Each line now, debounced where the kernel debounces; True = active."""
        request = self._live()
        try:
            values = request.get_values(self.offsets)
        except REFUSALS as error:
            raise self._refused(error) from error
        return [value is Value.ACTIVE for value in values]

    def edges(self) -> list[EdgeEvent]:
        """What is queued, at most `EDGES_MOST`, each line's in order."""
        request = self._live()
        try:
            return request.read_edge_events(EDGES_MOST)
        except (BlockingIOError, InterruptedError):
            return []
        except REFUSALS as error:
            raise self._refused(error) from error

    def drive(self, level: bool) -> None:
        """Set an output's one line active or inactive."""
        request = self._live()
        try:
            request.set_values({self.offsets[0]: Value.ACTIVE if level else Value.INACTIVE})
        except REFUSALS as error:
            raise self._refused(error) from error

    def release(self) -> None:
        """Give the lines back; what an output does afterwards is up to the chip and its driver."""
        if self._request is not None:
            self._request.release()
            self._request = None

    def _live(self) -> Request:
        if self._request is None:
            raise LinesError(self.path, "not requested")
        return self._request

    def _ask(self, chip: Chip) -> Request:
        try:
            request = chip.request_lines(
                {wire.offset: wire.settings() for wire in self._wires},
                consumer=CONSUMER,
                event_buffer_size=EDGES_MOST,
            )
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise LinesError(self.path, self._holder(chip), misused=True) from error
            if error.errno == errno.ENXIO:  # no interrupt can be had for the line
                raise LinesError(self.path, f"no edges from line {self.offsets}", misused=True) from error
            raise
        os.set_blocking(request.fileno(), False)
        return request

    def _holder(self, chip: Chip) -> str:
        """Who has our line, as far as the kernel says."""
        for offset in self.offsets:
            info = chip.get_line_info(offset)
            if info.used:
                return f"line {offset} is held by {info.consumer or 'somebody unnamed'!a:.40}"
        return f"line {self.offsets[0]} was held by somebody who let go just now"

    def _check_label(self, chip: Chip) -> None:
        label = chip.get_info().label
        if self._label and label != self._label:
            reason = f"the chip here is {label!a:.40}, not {self._label!a:.40}"
            raise LinesError(self.path, reason, misused=True)

    def _refused(self, error: Exception) -> LinesError:
        number = error.args[0] if error.args else None
        if not isinstance(number, int):
            return LinesError(self.path, f"line {self.offsets}: {error}"[:100])
        return LinesError(self.path, os.strerror(number), gone=number == errno.ENODEV)
