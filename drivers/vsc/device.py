"""The wireless e-stop as a device: one serial port, one contact (PROTOCOL 4, "Wireless e-stop").

The stop path is `_on_readable`: one read, each frame judged, and `Host.changed` called from within for every
heartbeat that shows something else. Nothing is decided here. Age is judged when a reading is asked for.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, cast

from agent.core.readings import NEVER_READ, Quality, Reading
from drivers.base import Host
from drivers.registry import Wanted
from drivers.serial_line import READ_BYTES, Backoff, LineError, SerialLine
from drivers.vsc.codec import HEARTBEAT, LONGEST, CodecError, Heard, Heartbeat, Message, Parser, our_heartbeat
from drivers.vsc.turns import Turns

MS: Final = 1_000_000
BAUD: Final = 115_200
SEND_AFTER_NS: Final = 45 * MS
"""A frame every 50 ms (PROTOCOL 4): every fifth tick, with room for a tick that comes early."""

SEARCHING: Final = 0x01
MODES: Final = frozenset({SEARCHING, 0x04, 0x06, 0x09, 0x0A, 0x0B})
"""Searching, local, remote, operational, menu, pause: the union of manual (table 12) and library."""

_COUNTERS: Final = (
    "frames_good",
    "frames_skipped",
    "frames_bad_check_sum",
    "frames_malformed",
    "bytes_dropped",
    "writes_dropped",
    "reopens",
)


def build(path: str, inputs: Sequence[Wanted], host: Host) -> "Vsc":
    """The device of one port; see `registry.build_devices`. The kind has no outputs."""
    stale_ns = {wanted.name: cast("int", wanted.settings["stale_ms"]) * MS for wanted in inputs}
    return Vsc(path, inputs=stale_ns, host=host)


class Vsc:
    """One controller. Closed while its latest heartbeat says that nothing asks for a stop.

    Quality: GOOD while a heartbeat younger than `stale_ms` is there. FAULT when it says what no controller of
    the published protocol says: a mode that is none, or "no stop" while it searches for its remote.
    """

    def __init__(self, path: str, *, inputs: Mapping[str, int], host: Host) -> None:
        """`inputs`: names of the one contact, and the age in nanoseconds that makes it stale."""
        self.name = f"vsc {path}"
        self.counters = dict.fromkeys(_COUNTERS, 0)
        self._path = path
        self._inputs = inputs
        self._host = host
        self._stale_ns = min(inputs.values())
        self._parser = Parser()
        # The port.
        self._line: SerialLine | None = None
        self._closed = False
        self._away = "not opened yet"
        self._backoff = Backoff()
        self._turns = Turns(0)
        self._midway = 0
        self._sent_ns: int | None = None
        # What the controller said.
        self._heartbeat: Heartbeat | None = None
        self._taken_ns = 0
        self._since_ns: int | None = None

    # The port ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        if not self._closed:
            self._connect(self._host.now_ns())

    def tick(self, now_ns: int) -> None:
        if self._closed:
            return
        if self._line is None:
            self._reconnect(now_ns)
            return
        line = self._line
        self._turns.tick(now_ns)
        if self._sent_ns is None or now_ns - self._sent_ns >= SEND_AFTER_NS:
            self._send(line, now_ns)
        self._take(line, self._parser.feed(b"", now_ns, now_ns), now_ns)

    def close(self) -> None:
        self._closed = True
        self._let_go("closed")

    def _connect(self, now_ns: int) -> None:
        try:
            line = SerialLine(self._path, BAUD)
        except LineError as error:
            self._away = error.reason
            self._backoff.failed(now_ns)
            return
        self._line = line
        self._away = ""
        self._turns = Turns(now_ns)
        self._midway = LONGEST
        self._host.watch(line.fileno(), partial(self._on_readable, line))

    def _reconnect(self, now_ns: int) -> None:
        if not self._backoff.is_due(now_ns):
            return
        self._connect(now_ns)
        if self._line is not None:
            self.counters["reopens"] += 1

    def _lose(self, reason: str, now_ns: int) -> None:
        """The line is gone. Nothing is ever written by order here, so it can be told at once."""
        before = self._visible(now_ns)
        self._let_go(reason)
        self._backoff.failed(now_ns)
        if self._visible(now_ns) != before:
            self._host.changed()

    def _let_go(self, reason: str) -> None:
        self._away = reason
        self._since_ns = None
        self._parser.clear()
        if self._line is not None:
            self._host.unwatch(self._line.fileno())
            with suppress(LineError):  # what it has not sent could keep the kernel waiting in close, for 30 s
                self._line.discard_output()
            self._line.close()
            self._line = None

    # What the controller says -----------------------------------------------------------------------------

    def reading(self, input_name: str, now_ns: int) -> Reading:
        stale_ns = self._inputs[input_name]
        heartbeat = self._heartbeat
        if heartbeat is None:
            return replace(NEVER_READ, detail=self._silence())
        silence = "" if self._is_younger(stale_ns, now_ns) else self._silence()
        quality, detail = Quality.STALE if silence else Quality.GOOD, silence
        if fault := _fault(heartbeat):
            # Silence mends nothing: what last said something impossible stays so.
            quality, detail = Quality.FAULT, f"{fault}{silence and ', then '}{silence}"
        elif not silence and heartbeat.estop_status:
            detail = f"e-stop status 0x{heartbeat.estop_status:08x}"
        return Reading(
            value=heartbeat.estop_status == 0, taken_ns=self._taken_ns, quality=quality, detail=detail[:120]
        )

    def order(self, output_name: str, energise: bool, now_ns: int) -> None:
        raise KeyError(output_name)

    def readback(self, output_name: str, now_ns: int) -> bool | None:
        raise KeyError(output_name)

    def _silence(self) -> str:
        return f"port away: {self._away}" if self._away else "no heartbeat"

    def _is_younger(self, stale_ns: int, now_ns: int) -> bool:
        return self._since_ns is not None and now_ns - self._since_ns < stale_ns

    def _visible(self, now_ns: int) -> tuple[object, ...]:
        """Whatever a reading shows, its age apart."""
        heartbeat = self._heartbeat
        fresh = self._is_younger(self._stale_ns, now_ns)
        return fresh, None if heartbeat is None else (heartbeat.estop_status, _fault(heartbeat))

    def _on_readable(self, line: SerialLine) -> None:
        now_ns = self._host.now_ns()
        try:
            data = line.read()
        except LineError as error:
            self._lose(error.reason, now_ns)
            return
        since_ns = self._turns.read(now_ns, has_more=len(data) == READ_BYTES)
        self._take(line, self._parser.feed(data, since_ns, now_ns), now_ns)

    def _take(self, line: SerialLine, found: Sequence[Heard], now_ns: int) -> None:
        self._count(found)
        for message, since_ns in found:
            if self._line is not line:  # `changed` led to the end of it
                return
            self._hear(message, since_ns, now_ns)

    def _count(self, found: Sequence[Heard]) -> None:
        """What the parser threw away. The end of a frame that began before the port was open is no fault."""
        dropped, broken = self._parser.dropped, self._parser.broken
        self._parser.dropped = self._parser.broken = 0
        self.counters["bytes_dropped"] += dropped
        self.counters["frames_bad_check_sum"] += broken
        forgiven = min(dropped, self._midway)
        self._midway = 0 if found else self._midway - forgiven
        if dropped > forgiven:
            self._host.bad_input(self.name, "wrong check sum" if broken else f"{dropped} bytes of no frame")

    def _hear(self, message: Message, since_ns: int, now_ns: int) -> None:
        if message.kind != HEARTBEAT:  # joystick, radio status, and whatever a later controller adds
            self.counters["frames_skipped"] += 1
            return
        try:
            heartbeat = Heartbeat.from_message(message)
        except CodecError as error:
            self.counters["frames_malformed"] += 1
            self._host.bad_input(self.name, error.reason)
            return
        before = self._visible(now_ns)
        self.counters["frames_good"] += 1
        self._heartbeat, self._taken_ns, self._since_ns = heartbeat, now_ns, since_ns
        self._backoff.spoke()
        if self._visible(now_ns) != before:
            self._host.changed()

    # What it is told --------------------------------------------------------------------------------------

    def _send(self, line: SerialLine, now_ns: int) -> None:
        """Our heartbeat. What a stalled line does not take is thrown away: an old one is no sign of life."""
        frame = our_heartbeat()
        try:
            if line.write(frame) != len(frame):
                line.discard_output()
                self.counters["writes_dropped"] += 1
        except LineError as error:
            self._lose(error.reason, now_ns)
            return
        self._sent_ns = now_ns


def _fault(heartbeat: Heartbeat) -> str:
    if heartbeat.vsc_mode not in MODES:
        return f"mode 0x{heartbeat.vsc_mode:02x} is none that is published"
    if heartbeat.vsc_mode == SEARCHING and heartbeat.estop_status == 0:
        return "no stop, it says, yet it has no remote"
    return ""
