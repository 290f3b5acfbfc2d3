"""A Modbus line as a device: the registers and bits of its units, read in turn, one question at a time.

Nothing waits: a question is written when the line is free, its answer is taken from the loop's own callback,
its time-out is looked at in `tick`. There are no retries but the next turn. Who is asked when is
`drivers.modbus.rota`; which bytes answer what is `drivers.modbus.talk`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, cast

from agent.core.readings import Reading
from drivers.base import Host
from drivers.modbus.codec import (
    Answer,
    CodecError,
    CrcError,
    EchoError,
    FunctionError,
    LateError,
    LengthError,
    NoAnswerError,
    Read,
    StreamError,
    UnaskedError,
    UnitError,
)
from drivers.modbus.point import Point
from drivers.modbus.rota import Rota, Turn
from drivers.modbus.talk import RtuTalk, Talk, TcpTalk
from drivers.modbus.wire import RtuWire, TcpWire, Wire
from drivers.registry import Wanted
from drivers.serial_line import Backoff, LineError

MS: Final = 1_000_000

CONNECT_NS: Final = 1_000 * MS
"""A TCP connection that is not there by then is given up and tried again."""
SILENT_NS: Final = 3_000 * MS
"""A TCP connection on which nothing was answered for so long is made anew: the other side may have restarted
and know nothing of it, which TCP by itself would find out after many minutes."""

_ERRORS: Final = (
    *(CrcError, UnitError, FunctionError, LengthError),
    *(EchoError, LateError, UnaskedError, NoAnswerError),
)
_COUNTERS: Final = (
    *("questions", "probes", "answers_good", "answers_refused", "probes_answered"),
    *(error.counter for error in _ERRORS),
    *("streams_broken", "writes_dropped", "reopens"),
)


def build(place: str, inputs: Sequence[Wanted], host: Host) -> "ModbusLine":
    """The device of one line; see `registry.build_devices`, which has checked that its entries agree."""
    points = [Point(wanted.name, wanted.settings) for wanted in inputs]
    settings = inputs[0].settings
    if settings["host"]:
        wire = partial(TcpWire, str(settings["host"]), cast("int", settings["tcp_port"]))
        return ModbusLine(place, points, wire, TcpTalk(), host, silent_ns=SILENT_NS)
    baud = cast("int", settings["baud"])
    talk = RtuTalk(
        baud=baud,
        units={point.read.unit for point in points},
        late_ns=max(cast("int", wanted.settings["late_ms"]) for wanted in inputs) * MS,
    )
    port = partial(RtuWire, place, baud=baud, parity=str(settings["parity"]))
    return ModbusLine(place, points, port, talk, host, silent_ns=None)


class ModbusLine:
    """One line.

    Quality of an input: GOOD while its last answer is younger than its `stale_ms`; FAULT once its unit
    refused or told no number, until it tells one.
    """

    def __init__(
        self,
        place: str,
        points: Sequence[Point],
        connect: Callable[[], Wire],
        talk: Talk,
        host: Host,
        *,
        silent_ns: int | None,
    ) -> None:
        """`silent_ns`: a connection without any answer for so long is made anew; None: never."""
        self.name = f"modbus {place}"
        self.counters = dict.fromkeys(_COUNTERS, 0)
        self._points = points
        self._by_name: Mapping[str, Point] = {point.name: point for point in points}
        self._rota = Rota([Turn(point.poll_ns) for point in points])
        self._connect = connect
        self._talk = talk
        self._host = host
        self._silent_ns = silent_ns
        # The line.
        self._wire: Wire | None = None
        self._watched = False
        self._closed = False
        self._opened = False
        self._since_ns = 0
        self._backoff = Backoff()
        # The question that is out.
        self._is_out = False
        self._place = 0
        self._due_ns = 0

    # The line ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        if not self._closed:
            self._begin(self._host.now_ns())

    def tick(self, now_ns: int) -> None:
        if self._closed:
            return
        if self._wire is None:
            if self._backoff.is_due(now_ns):
                self._begin(now_ns)
        elif not self._watched:
            self._await_connection(self._wire, now_ns)
        elif self._silent_ns is not None and now_ns - self._since_ns >= self._silent_ns:
            self._lose("no answer, connecting anew", now_ns)
        else:
            self._go_on(self._wire, now_ns)

    def close(self) -> None:
        self._closed = True
        self._let_go("closed")

    def _begin(self, now_ns: int) -> None:
        try:
            self._wire = self._connect()
        except LineError as error:
            self._let_go(f"line away: {error.reason}")
            self._backoff.failed(now_ns)
            return
        self._since_ns = now_ns
        self._await_connection(self._wire, now_ns)

    def _await_connection(self, wire: Wire, now_ns: int) -> None:
        try:
            up = wire.is_up()
        except LineError as error:
            self._lose(f"line away: {error.reason}", now_ns)
            return
        if up:
            self._begin_talk(wire, now_ns)
        elif now_ns - self._since_ns >= CONNECT_NS:
            self._lose("line away: no connection", now_ns)

    def _begin_talk(self, wire: Wire, now_ns: int) -> None:
        self.counters["reopens"] += self._opened
        self._opened = True
        self._watched = True
        self._talk.begin(now_ns)
        self._host.watch(wire.fileno(), partial(self._on_readable, wire))

    def _lose(self, reason: str, now_ns: int) -> None:
        """The line is gone, which the module is told at once if it believed anything."""
        before = self._visible(now_ns)
        self._let_go(reason)
        self._backoff.failed(now_ns)
        if self._visible(now_ns) != before:
            self._host.changed()

    def _let_go(self, reason: str) -> None:
        for point in self._points:
            point.lose(reason)
        self._is_out = False
        wire, self._wire = self._wire, None
        if wire is None:
            return
        if self._watched:
            self._watched = False
            self._host.unwatch(wire.fileno())
        wire.close()

    # Questions --------------------------------------------------------------------------------------------

    def _go_on(self, wire: Wire, now_ns: int) -> None:
        """Whatever is due: the end of a question's time, and the next question."""
        self._look_at_time(now_ns)
        if self._is_out or not self._talk.is_free(now_ns):
            return
        place = self._rota.next(now_ns)
        if place is not None:
            self._ask(wire, place, now_ns)

    def _look_at_time(self, now_ns: int) -> None:
        if self._is_out and now_ns >= self._due_ns:
            self._refuse(self._talk.give_up(now_ns))

    def _ask(self, wire: Wire, place: int, now_ns: int) -> None:
        # What waits unread came before the question, and must not be taken for its answer.
        self._receive(wire, now_ns)
        if self._wire is not wire or not self._talk.is_free(now_ns):
            return
        point = self._points[place]
        question = self._talk.ask(point.read, now_ns)
        self._is_out, self._place, self._due_ns = True, place, now_ns + point.timeout_ns
        self._rota.asked(place, now_ns)
        self.counters["questions" if isinstance(self._talk.pending, Read) else "probes"] += 1
        try:
            whole = wire.write(question) == len(question)
        except LineError as error:
            self._lose(f"line away: {error.reason}", now_ns)
            return
        if not whole:
            # Half a question is none; a stream that ends in one is of no more use.
            self.counters["writes_dropped"] += 1
            self._lose("line away: it takes nothing", now_ns)

    # Answers ----------------------------------------------------------------------------------------------

    def _on_readable(self, wire: Wire) -> None:
        now_ns = self._host.now_ns()
        self._look_at_time(now_ns)
        self._receive(wire, now_ns)
        if self._wire is wire:
            self._go_on(wire, now_ns)

    def _receive(self, wire: Wire, now_ns: int) -> None:
        """One read, and what it amounts to."""
        try:
            data = wire.read()
            heard = self._talk.hear(data, now_ns) if data else []
        except LineError as error:
            self._lose(f"line away: {error.reason}", now_ns)
            return
        except StreamError as error:
            self.counters["streams_broken"] += 1
            self._host.bad_input(self.name, error.reason)
            self._lose(f"line away: {error.reason}", now_ns)
            return
        for each in heard:
            if self._wire is not wire:  # `changed` led to the end of it
                return
            self._take(each, now_ns)

    def _take(self, heard: Answer | CodecError, now_ns: int) -> None:
        if isinstance(heard, CodecError):
            self._refuse(heard)
            return
        self._is_out = False
        self._since_ns = now_ns
        self._backoff.spoke()
        if isinstance(heard.question, Read):
            self._rota.answered(self._place)
            self._believe(self._points[self._place], heard, now_ns)
        else:
            self.counters["probes_answered"] += 1
            self._rota.again(self._place, now_ns)

    def _believe(self, point: Point, answer: Answer, now_ns: int) -> None:
        before = _shown(point.reading(now_ns))
        trouble = point.take(answer, now_ns)
        self.counters["answers_refused" if trouble else "answers_good"] += 1
        if trouble:
            self._host.bad_input(self.name, trouble)
        if _shown(point.reading(now_ns)) != before:
            self._host.changed()

    def _refuse(self, error: CodecError) -> None:
        """What came is no answer, or nothing came."""
        self.counters[error.counter] += 1
        if not isinstance(error, NoAnswerError):
            self._host.bad_input(self.name, error.reason)
        if self._is_out and error.ends:
            self._is_out = False
            self._rota.missed(self._place)
            self._points[self._place].miss(error.reason)

    # What is known ----------------------------------------------------------------------------------------

    def reading(self, input_name: str, now_ns: int) -> Reading:
        return self._by_name[input_name].reading(now_ns)

    def order(self, output_name: str, energise: bool, now_ns: int) -> None:
        """There are no outputs."""
        raise KeyError(output_name)

    def readback(self, output_name: str, now_ns: int) -> bool | None:
        """There are no outputs."""
        raise KeyError(output_name)

    def _visible(self, now_ns: int) -> list[tuple[object, ...]]:
        return [_shown(point.reading(now_ns)) for point in self._points]


def _shown(reading: Reading) -> tuple[object, ...]:
    """What the module would see of it, its age apart."""
    return reading.value, reading.second, reading.quality
