"""The safety node as a device: one serial port, up to 16 two-channel contacts, one relay (PROTOCOL 4).

The stop path is `_on_readable`: one read, each frame judged, and `Host.changed` called from within for every
frame that shows something else, so that a contact that opens and closes again within one read is still seen.
Nothing is decided here. Age is judged when a reading is asked for, so silence needs no timer.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, cast

from agent.core.readings import NEVER_READ, Quality, Reading
from drivers import usb
from drivers.base import Host
from drivers.registry import Wanted
from drivers.serial_line import LineError, SerialLine
from drivers.serial_node.arrivals import MS, Admission, Arrivals, Stamp
from drivers.serial_node.codec import DELIMITER, AgentFrame, CodecError, CrcError, NodeFrame, Splitter

SEND_AFTER_NS: Final = 15 * MS
"""A frame every 20 ms (PROTOCOL 4): every second tick, with room for a tick that comes early."""
BACKOFF_FIRST_NS: Final = 100 * MS
BACKOFF_MOST_NS: Final = 2_000 * MS
ECHO_WINDOW: Final = 16
"""An echo older than this many of our frames means that the node does not hear us (the node's own rule)."""
RELAY: Final[Mapping[int, bool]] = {0: False, 1: True}
"""The node's relay byte; any other value is no answer."""

_COUNTERS: Final = (
    "frames_good",
    "frames_unproven",
    "frames_repeated",
    "frames_bad_crc",
    "frames_malformed",
    "frames_deaf",
    "bytes_dropped",
    "writes_dropped",
    "reopens",
    "strangers",
)


@dataclass(frozen=True, slots=True)
class Contact:
    """Where an input is in the frame, and how old it may get."""

    bit: int
    stale_ns: int


def build(
    path: str,
    inputs: Sequence[Wanted],
    outputs: Sequence[Wanted],
    host: Host,
    sysfs: Path = usb.SYSFS,
) -> "SerialNode":
    """The device of one port; see `registry.build_devices`, which has checked that its entries agree."""
    first = [*inputs, *outputs][0]
    return SerialNode(
        path,
        baud=_number(first, "baud"),
        identity=Identity(cast("str", first.settings["usb_serial"]), sysfs),
        inputs={wanted.name: Contact(_number(wanted, "bit"), _stale_ns(wanted)) for wanted in inputs},
        outputs={wanted.name: _stale_ns(wanted) for wanted in outputs},
        host=host,
    )


@dataclass(frozen=True, slots=True)
class Identity:
    """Which device must be behind the port: a frame of PROTOCOL 4 does not say from which node it is.

    `usb_serial`: the serial number in its USB descriptors; "": any device will do. `sysfs`: where the kernel
    tells it.
    """

    usb_serial: str = ""
    sysfs: Path = usb.SYSFS

    def problem(self, fd: int) -> str:
        """What is wrong with the device that is open, naming the setting; "" when it is the right one."""
        if not self.usb_serial:
            return ""
        found = usb.serial_number(os.fstat(fd).st_rdev, self.sysfs)
        return "" if found == self.usb_serial else f"usb_serial {usb.mismatch(self.usb_serial, found)}"


class SerialNode:
    """One safety node. Starts closed and de-energised, as does every port that was lost.

    Quality of an input: GOOD while a new frame younger than its `stale_ms` is there and reports no fault.
    FAULT, and nothing known, while another device than the plan's is at the port; not a byte goes to it.
    Whether the node hears us (`frames_deaf` counts when not) is its relay's business, not its inputs'.
    """

    def __init__(
        self,
        path: str,
        *,
        baud: int,
        identity: Identity = Identity(),
        inputs: Mapping[str, Contact],
        outputs: Mapping[str, int],
        host: Host,
    ) -> None:
        """`outputs`: names of the one relay, and the age in nanoseconds that makes its read-back unknown."""
        self.name = f"serial_node {path}"
        self.counters = dict.fromkeys(_COUNTERS, 0)
        self._path = path
        self._baud = baud
        self._identity = identity
        self._inputs = inputs
        self._outputs = outputs
        self._host = host
        self._stale_ns = min([*(contact.stale_ns for contact in inputs.values()), *outputs.values()])
        self._arrivals = Arrivals(silent_ns=self._stale_ns)
        self._splitter = Splitter()
        # The port.
        self._line: SerialLine | None = None
        self._closed = False
        self._away = "not opened yet"
        self._stranger = ""
        self._retry_ns = 0
        self._backoff_ns = BACKOFF_FIRST_NS
        self._untold = False
        # What the node said.
        self._frame: NodeFrame | None = None
        self._taken_ns = 0
        self._midway = False
        # What it is told.
        self._energise = False
        self._ordered_seq: int | None = None
        self._seq = 0
        self._echo = 0
        self._sent_ns: int | None = None
        self._torn = False

    # The port ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        if not self._closed:
            self._connect(self._host.now_ns())

    def tick(self, now_ns: int) -> None:
        if self._closed:
            return
        if self._line is None:
            self._reconnect(now_ns)
        elif self._sent_ns is None or now_ns - self._sent_ns >= SEND_AFTER_NS:
            self._send(now_ns)
        self._tell()

    def close(self) -> None:
        self._energise = False
        self._send(self._host.now_ns())
        self._closed = True
        self._let_go("closed")

    def _connect(self, now_ns: int) -> None:
        try:
            line = SerialLine(self._path, self._baud)
        except LineError as error:
            self._stranger, self._away = "", error.reason
            self._wait(now_ns)
            return
        problem = self._identity.problem(line.fileno())
        if problem:
            line.close()
            self._refuse_stranger(problem, now_ns)
            return
        self._stranger = ""
        self._line = line
        self._away = ""
        self._midway = True
        self._torn = True  # whoever wrote here before us may have been cut short
        self._host.watch(line.fileno(), partial(self._on_readable, line))

    def _refuse_stranger(self, problem: str, now_ns: int) -> None:
        """Another device is at the port. What the right one said last is no word about what is there now."""
        self.counters["strangers"] += 1
        self._energise = False
        self._ordered_seq = None
        self._frame = None
        if problem != self._stranger:
            self._stranger = self._away = problem
            self._untold = True
            self._host.bad_input(self.name, f"another device: {problem}")
        self._wait(now_ns)

    def _reconnect(self, now_ns: int) -> None:
        if now_ns < self._retry_ns:
            return
        self._connect(now_ns)
        if self._line is not None:
            self.counters["reopens"] += 1

    def _wait(self, now_ns: int) -> None:
        """Set when the next attempt is due. A new frame, not an open port, makes the waits short again."""
        self._retry_ns = now_ns + self._backoff_ns
        self._backoff_ns = min(2 * self._backoff_ns, BACKOFF_MOST_NS)

    def _lose(self, line: SerialLine, reason: str, now_ns: int) -> None:
        """The line is gone. It comes back de-energised: only a new order closes the relay again."""
        self._energise = False
        self._ordered_seq = None
        self._untold = True
        with suppress(LineError):  # what it has not sent could keep the kernel waiting in close, for 30 s
            line.discard_output()
        self._let_go(reason)
        self._wait(now_ns)

    def _let_go(self, reason: str) -> None:
        self._away = reason
        self._arrivals.lose()
        self._splitter.clear()
        if self._line is not None:
            self._host.unwatch(self._line.fileno())
            self._line.close()
            self._line = None

    def _tell(self) -> None:
        """A line lost within `order` is told here, at the next tick: the module was acting just then."""
        if self._untold:
            self._untold = False
            self._host.changed()

    # What the node says -----------------------------------------------------------------------------------

    def reading(self, input_name: str, now_ns: int) -> Reading:
        contact = self._inputs[input_name]
        if self._stranger:
            return replace(NEVER_READ, quality=Quality.FAULT, detail=f"another device: {self._stranger}")
        if self._frame is None:
            return replace(NEVER_READ, detail=self._silence())
        quality, detail = self._quality(contact.stale_ns, self._frame.faults, now_ns)
        return Reading(
            value=bool(self._frame.channel_a >> contact.bit & 1),
            second=bool(self._frame.channel_b >> contact.bit & 1),
            taken_ns=self._taken_ns,
            quality=quality,
            detail=detail,
        )

    def readback(self, output_name: str, now_ns: int) -> bool | None:
        stale_ns = self._outputs[output_name]
        if self._frame is None or not self._is_younger(stale_ns, now_ns) or not self._answers(self._frame):
            return None
        return RELAY.get(self._frame.relay)

    def _answers(self, frame: NodeFrame) -> bool:
        """Whether the node had heard the latest order when it said this, and not only one before it."""
        return self._ordered_seq is None or (frame.echo - self._ordered_seq) & 0xFFFF < 0x8000

    def fresh(self, now_ns: int) -> bool:
        """True while a new frame younger than the strictest `stale_ms` of this node is there."""
        return self._is_younger(self._stale_ns, now_ns)

    def _quality(self, stale_ns: int, faults: int, now_ns: int) -> tuple[Quality, str]:
        silence = "" if self._is_younger(stale_ns, now_ns) else self._silence()
        if faults:
            # Silence mends nothing: what last said that it is broken stays so.
            return Quality.FAULT, f"node reports faults 0x{faults:02x}{silence and ', then '}{silence}"
        return (Quality.STALE, silence) if silence else (Quality.GOOD, "")

    def _silence(self) -> str:
        return f"port away: {self._away}" if self._away else "no new frame"

    def _is_younger(self, stale_ns: int, now_ns: int) -> bool:
        age_ns = self._arrivals.age_ns(now_ns)
        return age_ns is not None and age_ns < stale_ns

    def _on_readable(self, line: SerialLine) -> None:
        try:
            data = line.read()
        except LineError as error:
            self._lose(line, error.reason, self._host.now_ns())
            self._tell()
            return
        now_ns = self._host.now_ns()
        stretches = self._splitter.feed(data)
        self.counters["bytes_dropped"] += self._splitter.dropped
        self._splitter.dropped = 0
        for stretch in stretches:
            if self._line is not line:  # `changed` led to the end of it
                return
            self._take(stretch, now_ns)

    def _take(self, stretch: bytes, now_ns: int) -> None:
        midway, self._midway = self._midway, False
        try:
            frame = NodeFrame.from_bytes(stretch)
        except CodecError as error:
            self._refuse(stretch, error, midway=midway)
            return
        before = self._visible(now_ns)
        admission = self._arrivals.admit(Stamp(frame.seq, frame.node_ms, now_ns))
        self.counters[admission.value] += 1
        if admission is Admission.REPEATED:
            self._host.bad_input(self.name, f"repeated or out of order: seq {frame.seq}")
            return
        self._echo = frame.seq
        if admission is Admission.NEW:
            self._believe(frame, now_ns)
            if self._visible(now_ns) != before:
                self._host.changed()

    def _refuse(self, stretch: bytes, error: CodecError, *, midway: bool) -> None:
        self.counters["bytes_dropped"] += len(stretch)
        if midway:
            return  # the end of a frame that began before the port was open: nobody's fault
        self.counters["frames_bad_crc" if isinstance(error, CrcError) else "frames_malformed"] += 1
        self._host.bad_input(self.name, error.reason)

    def _believe(self, frame: NodeFrame, now_ns: int) -> None:
        self._frame = frame
        self._taken_ns = now_ns
        self._backoff_ns = BACKOFF_FIRST_NS
        if (self._seq - frame.echo) & 0xFFFF >= ECHO_WINDOW:
            self.counters["frames_deaf"] += 1

    def _visible(self, now_ns: int) -> tuple[object, ...]:
        """Whatever of the node a reading or a read-back shows, its age apart."""
        frame = self._frame
        shown = frame and (frame.channel_a, frame.channel_b, frame.relay, frame.faults)
        return self.fresh(now_ns), shown

    # What it is told --------------------------------------------------------------------------------------

    def order(self, output_name: str, energise: bool, now_ns: int) -> None:
        if output_name not in self._outputs:
            raise KeyError(output_name)
        if self._closed or energise == self._energise:
            return
        self._energise = energise
        self._ordered_seq = (self._seq + 1) & 0xFFFF
        self._send(now_ns)

    def _send(self, now_ns: int) -> None:
        """The next frame, if the line is there. What the kernel did not take whole is due again at once."""
        line = self._line
        if line is None:
            return
        self._seq = (self._seq + 1) & 0xFFFF
        frame = AgentFrame(self._seq, self._echo, self._energise).to_bytes()
        try:
            self._torn = not self._write(line, frame)
        except LineError as error:
            self._lose(line, error.reason, now_ns)
            return
        self._sent_ns = None if self._torn else now_ns

    def _write(self, line: SerialLine, frame: bytes) -> bool:
        """True when the kernel took it whole.

        An order to de-energise does not queue behind older frames that a stalled line still holds: they go.
        """
        # A delimiter ends whatever half frame is on the wire, or it would take this one down with it.
        whole = DELIMITER + frame if self._torn else frame
        if line.write(whole) == len(whole):
            return True
        if not self._energise:
            line.discard_output()
            if line.write(DELIMITER + frame) == len(frame) + 1:
                return True
        self.counters["writes_dropped"] += 1
        return False


def _number(wanted: Wanted, key: str) -> int:
    """A setting that the settings model has made an int."""
    return cast("int", wanted.settings[key])


def _stale_ns(wanted: Wanted) -> int:
    return _number(wanted, "stale_ms") * MS
