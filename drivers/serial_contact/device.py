"""Contacts and a relay drive on the modem lines of one serial port (PROTOCOL 4, "Contact on modem lines").

A normally-closed contact lies between DTR and CTS, a second one between DTR and DSR: DTR is their supply,
high is closed. RTS drives a relay, high = energised; a normally-open mirror contact of it may lie between DTR
and DCD or RI.

The lines are looked at on every tick, at each edge where the kernel tells of one (edges.py), and never in
between: an opening that is shorter than a tick may go unseen. An e-stop actuator latches (ISO 13850); a
bumper that does not needs a port whose edges are told. What is seen while the line test is under way is the
test's (line_test.py); readings and read-backs stand meanwhile, and grow old: a test that overruns is a
silence.

Nothing is decided here, and a pulse is no press: `Host.changed` is not called for it.

What the line test finds is a line that is live by itself (a short to a supply, an input stuck high). A welded
contact it does not find, nor a short between the two channels: of those, the other channel tells at the next
press, as a discrepancy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import or_
from typing import Final, cast

from agent.core.readings import NEVER_READ, Quality, Reading
from drivers.base import Host
from drivers.registry import Wanted
from drivers.serial_contact.edges import Edges
from drivers.serial_contact.line_test import LineTest
from drivers.serial_contact.lines import NONE, Line, ModemPort, Port
from drivers.serial_line import Backoff, LineError

MS: Final = 1_000_000
S: Final = 1_000_000_000
CONTACTS: Final = Line.CTS | Line.DSR
READBACKS: Final[Mapping[str, Line]] = {"dcd": Line.DCD, "ri": Line.RI, "none": Line.RTS}
"""Where a relay is read back. RTS: only what the port says of itself, so that a relay without a mirror
contact can be used at all; it finds a port that does not do as it is told, and nothing behind it."""
PULSE_NS: Final = 8 * MS
"""How long the supply is off when a port without inputs is opened; see `test_pulse_ms`."""

_COUNTERS: Final = (
    "answers",
    "answers_missing",
    "bytes_dropped",
    "edges",
    "lines_put_right",
    "line_tests",
    "line_tests_failed",
    "reopens",
    "writes_failed",
)


@dataclass(frozen=True, slots=True)
class Relay:
    """Where an output is read back, and how old that may get."""

    line: Line
    stale_ns: int


def build(
    path: str,
    inputs: Sequence[Wanted],
    outputs: Sequence[Wanted],
    host: Host,
    *,
    open_port: Callable[[str], Port] = ModemPort,
) -> "SerialContact":
    """The device of one port; see `registry.build_devices`. Of two inputs on it, the stricter test counts."""
    relays = {
        wanted.name: Relay(READBACKS[str(wanted.settings["readback"])], _number(wanted, "stale_ms") * MS)
        for wanted in outputs
    }
    mirrors = reduce(or_, (relay.line for relay in relays.values()), NONE) & ~Line.RTS
    test = LineTest(
        (CONTACTS if inputs else NONE) | mirrors,
        period_ns=min((_number(wanted, "test_period_s") * S for wanted in inputs), default=None),
        pulse_ns=max((_number(wanted, "test_pulse_ms") * MS for wanted in inputs), default=PULSE_NS),
    )
    contacts = {wanted.name: _number(wanted, "stale_ms") * MS for wanted in inputs}
    return SerialContact(path, inputs=contacts, outputs=relays, test=test, host=host, open_port=open_port)


class SerialContact:
    """One port. Starts closed and de-energised, as does every port that was lost.

    Quality of an input: GOOD while the lines were seen outside a test, less than `stale_ms` ago. FAULT from a
    line test that found a contact closed with its supply off until one that did not.
    """

    def __init__(
        self,
        path: str,
        *,
        inputs: Mapping[str, int],
        outputs: Mapping[str, Relay],
        test: LineTest,
        host: Host,
        open_port: Callable[[str], Port],
    ) -> None:
        """`inputs`: names of the one contact, and the age in nanoseconds that makes it stale."""
        self.name = f"serial_contact {path}"
        self.counters = dict.fromkeys(_COUNTERS, 0)
        self._path = path
        self._inputs = inputs
        self._outputs = outputs
        self._test = test
        self._host = host
        self._open_port = open_port
        self._shown = reduce(or_, (relay.line for relay in outputs.values()), CONTACTS if inputs else NONE)
        self._stale_ns = min([*inputs.values(), *(relay.stale_ns for relay in outputs.values())])
        # The port.
        self._port: Port | None = None
        self._edges: Edges | None = None
        self._last_edges: Edges | None = None
        self._closed = False
        self._away = "not opened yet"
        self._backoff = Backoff()
        # What the lines said.
        self._seen: Line | None = None
        self._taken_ns = 0
        self._present = False
        self._failure = ""
        # What it is told.
        self._energise = False

    # The port ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        if not self._closed:
            self._connect(self._host.now_ns())

    def tick(self, now_ns: int) -> None:
        if self._closed:
            return
        if self._port is None:
            self._reconnect(now_ns)
        else:
            self._look(self._port, now_ns)
        if self._edges is not None:
            self._edges.again()

    def close(self) -> None:
        self._closed = True
        self._energise = False
        self._let_go("closed")

    def _connect(self, now_ns: int) -> None:
        try:
            port = self._open_port(self._path)
        except LineError as error:
            self._away = error.reason
            self._backoff.failed(now_ns)
            return
        self._port = port
        self._away = self._failure = ""
        self._test.begin(now_ns)
        self._host.watch(port.fileno(), partial(self._on_readable, port))
        self._watch_edges(port)
        if self._energise:  # ordered while the port was away
            self._drive(port, Line.RTS, high=True)

    def _reconnect(self, now_ns: int) -> None:
        if not self._backoff.is_due(now_ns):
            return
        self._connect(now_ns)
        if self._port is not None:
            self.counters["reopens"] += 1

    def _lose(self, reason: str, now_ns: int) -> None:
        """The port is gone. It comes back de-energised: only a new order closes the relay again."""
        self._energise = False
        self._let_go(reason)
        self._backoff.failed(now_ns)
        self._host.changed()

    def _let_go(self, reason: str) -> None:
        self._away = reason
        self._present = False
        self._drop_edges()
        if self._port is not None:
            self._host.unwatch(self._port.fileno())
            self._port.close()
            self._port = None

    def _on_readable(self, port: Port) -> None:
        try:
            count = port.drain()
        except LineError as error:
            self._lose(error.reason, self._host.now_ns())
            return
        if count:
            self.counters["bytes_dropped"] += count
            self._host.bad_input(self.name, f"{count} bytes on a port that has only contacts")

    # Edges ------------------------------------------------------------------------------------------------

    def _watch_edges(self, port: Port) -> None:
        lines = self._shown & ~Line.RTS
        if lines == NONE or (self._last_edges is not None and self._last_edges.lingers):
            return  # one thread at a time, whatever a driver does with a call on a port that is gone
        try:
            waiter = port.waiter(lines)
        except LineError:
            return
        try:
            edges = Edges(waiter)
        except (OSError, RuntimeError):
            waiter.close()
            return
        self._edges = self._last_edges = edges
        self._host.watch(edges.fileno(), partial(self._on_edge, edges))

    def _drop_edges(self) -> None:
        if self._edges is not None:
            self._host.unwatch(self._edges.fileno())
            self._edges.close()
            self._edges = None

    def _on_edge(self, edges: Edges) -> None:
        if not edges.take():
            self._drop_edges()
        elif self._port is not None:
            self.counters["edges"] += 1
            self._look(self._port, self._host.now_ns())

    # What the lines say -----------------------------------------------------------------------------------

    def reading(self, input_name: str, now_ns: int) -> Reading:
        stale_ns = self._inputs[input_name]
        if self._seen is None:
            return replace(NEVER_READ, detail=self._silence())
        quality, detail = self._quality(stale_ns, now_ns)
        return Reading(
            value=Line.CTS in self._seen,
            second=Line.DSR in self._seen,
            taken_ns=self._taken_ns,
            quality=quality,
            detail=detail[:120],
        )

    def readback(self, output_name: str, now_ns: int) -> bool | None:
        relay = self._outputs[output_name]
        if (
            self._seen is None
            or not self._is_younger(relay.stale_ns, now_ns)
            or self._test.stuck & relay.line
        ):
            return None
        return relay.line in self._seen

    def _quality(self, stale_ns: int, now_ns: int) -> tuple[Quality, str]:
        silence = "" if self._is_younger(stale_ns, now_ns) else self._silence()
        if stuck := self._test.stuck & CONTACTS:
            # Silence mends nothing: what was stuck stays so until a test has found it open.
            names = " and ".join(line.name for line in stuck if line.name)
            return Quality.FAULT, f"{names} closed with the supply off{silence and ', then '}{silence}"
        return (Quality.STALE, silence) if silence else (Quality.GOOD, "")

    def _silence(self) -> str:
        if self._away:
            return f"port away: {self._away}"
        return f"no answer{self._failure and ': '}{self._failure}"

    def _is_younger(self, stale_ns: int, now_ns: int) -> bool:
        return self._present and now_ns - self._taken_ns < stale_ns

    def _visible(self, now_ns: int) -> tuple[object, ...]:
        """Whatever a reading or a read-back shows, its age apart."""
        seen = None if self._seen is None else self._seen & self._shown
        return self._is_younger(self._stale_ns, now_ns), seen, self._test.stuck

    def _look(self, port: Port, now_ns: int) -> None:
        """What does not answer is silence: the reading grows old, and the next tick asks again."""
        before = self._visible(now_ns)
        try:
            high = port.read()
        except LineError as error:
            self.counters["answers_missing"] += 1
            self._failure = error.reason
            return
        self.counters["answers"] += 1
        self._failure = ""
        if self._put_right(port, high):
            self._test.postpone(now_ns)
        else:
            self._step(port, high, now_ns)
        if self._visible(now_ns) != before:
            self._host.changed()

    def _step(self, port: Port, high: Line, now_ns: int) -> None:
        was_lit = self._test.supply
        if self._test.step(high, now_ns):
            self._seen, self._taken_ns, self._present = high, now_ns, True
            self._backoff.spoke()
        if self._test.supply == was_lit:
            return
        if not was_lit:
            self.counters["line_tests"] += 1
            self.counters["line_tests_failed"] += bool(self._test.stuck)
        self._drive(port, Line.DTR, high=not was_lit)

    # What they are told -----------------------------------------------------------------------------------

    def order(self, output_name: str, energise: bool, now_ns: int) -> None:
        if output_name not in self._outputs:
            raise KeyError(output_name)
        if self._closed or energise == self._energise:
            return
        self._energise = energise
        if self._port is not None:
            self._drive(self._port, Line.RTS, high=energise)

    def _put_right(self, port: Port, high: Line) -> bool:
        """Drive whatever is not as it was driven (a write failed, somebody else has the port open) once more.

        True when the contacts' supply was not: what they show then is worth nothing.
        """
        wanted = (Line.DTR if self._test.supply else NONE) | (Line.RTS if self._energise else NONE)
        wrong = (high ^ wanted) & (Line.DTR | Line.RTS)
        for line in wrong:
            self.counters["lines_put_right"] += 1
            self._drive(port, line, high=line in wanted)
        return Line.DTR in wrong

    def _drive(self, port: Port, line: Line, *, high: bool) -> None:
        """What the port does not take is due again at the next look."""
        try:
            port.drive(line, high=high)
        except LineError:
            self.counters["writes_failed"] += 1


def _number(wanted: Wanted, key: str) -> int:
    """A setting that the settings model has made an int."""
    return cast("int", wanted.settings[key])
