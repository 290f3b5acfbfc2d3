"""Modbus units in the hands of a test: the far end of a pseudo-terminal or of a connection.

A rig answers rightly by itself (`serve`), or lets the test see the question and say anything (`question`,
`say`). Nothing runs by itself: time passes in ticks, and only while nothing is out.
"""

import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from agent.core.plan import DeviceSpec
from agent.core.readings import Reading
from drivers.modbus.device import ModbusLine
from drivers.registry import build_devices, check_settings
from tests.drivers.hosts import MS, FakeHost
from tests.drivers.modbus import frames
from tests.drivers.serial_node.rig import FarEnd
from tests.waiting import block_until

CONTACT: Mapping[str, object] = {"unit": 3, "table": "discrete", "register": 7, "channels": 2}
RANGE: Mapping[str, object] = {"unit": 3, "register": 12, "scale": 0.001, "quantity": "range_m"}


class Asked(NamedTuple):
    """A question as the far end heard it. `transaction`: 0 on a serial line."""

    unit: int
    pdu: bytes
    transaction: int = 0

    @property
    def is_probe(self) -> bool:
        return self.pdu[0] == 8


class Units:
    """What the far end's units hold. They answer as the specification says."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {12: 2000}
        self.contacts: dict[int, bool] = {7: True, 8: True}
        self.refusals: dict[int, int] = {}
        """Function -> exception code."""
        self.silent: set[int] = set()

    def answer(self, asked: Asked) -> bytes | None:
        """The PDU of the right answer; None from a unit that is silent."""
        function = asked.pdu[0]
        if asked.unit in self.silent:
            return None
        if function in self.refusals:
            return frames.refusal(function, self.refusals[function])
        if asked.is_probe:
            return asked.pdu
        address, count = struct.unpack(">HH", asked.pdu[1:])
        places = range(address, address + count)
        if function in {1, 2}:
            return frames.bits(function, [self.contacts[place] for place in places])
        return frames.registers(function, [self.words[place] for place in places])


class SerialEnd(FarEnd):
    """The far end of a serial line."""

    def __init__(self, link: Path, asked_before: int) -> None:
        super().__init__(link)
        self._asked_before = asked_before
        self._plugged = True

    def unplug(self) -> None:
        super().unplug()
        self._plugged = False

    def end(self) -> None:
        """End of the test."""
        if self._plugged:
            self.unplug()

    def hear(self, asked: int) -> Asked:
        """The last one of so many questions that the device has asked."""
        end = 8 * (asked - self._asked_before)
        block_until(lambda: len(self.listen()) >= end)
        frame = self.heard[end - 8 : end]
        assert frames.crc16(frame[:-2]) == frame[-2:]
        return Asked(frame[0], frame[1:-2])

    def frame(self, asked: Asked, pdu: bytes) -> bytes:
        return frames.rtu(asked.unit, pdu)

    def babble(self) -> bytes:
        return b"\x11\x22\x33\x44\x55"

    def say(self, data: bytes) -> None:
        """Say `data`; returns when all of it waits to be read."""
        before = self.unread()
        self.write(data)
        block_until(lambda: self.unread() == before + len(data))


class NetworkEnd:
    """The far end of a TCP connection: a listener, and the connection that was made last."""

    def __init__(self, port: int = 0) -> None:
        self.listener = socket.create_server(("127.0.0.1", port))
        self.listener.settimeout(20)
        self.port: int = self.listener.getsockname()[1]
        self.connection: socket.socket | None = None

    def accept(self) -> socket.socket:
        """The next connection; waits until the driver has made it."""
        if self.connection is not None:
            self.connection.close()
        self.connection, _ = self.listener.accept()
        self.connection.settimeout(20)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.connection

    def hear(self, asked: int) -> Asked:
        """The last one of so many questions that the device has asked: it numbers them from 1."""
        while (question := self._next()).transaction != asked:
            pass
        return question

    def _next(self) -> Asked:
        connection = self.connection or self.accept()
        frame = connection.recv(12, socket.MSG_WAITALL)
        if not frame:  # the driver has made another one
            self.accept()
            return self._next()
        transaction, protocol, length, unit = struct.unpack(">HHHB", frame[:7])
        assert (protocol, length) == (0, 6)
        return Asked(unit, frame[7:], transaction)

    def frame(self, asked: Asked, pdu: bytes) -> bytes:
        return frames.tcp(asked.transaction, asked.unit, pdu)

    def babble(self) -> bytes:
        return frames.tcp(0xFFFE, 3, b"\x03\x02\x00\x00")

    def say(self, data: bytes) -> None:
        (self.connection or self.accept()).sendall(data)

    def unread(self) -> int:
        return 0

    def unplug(self) -> None:
        self.listener.close()
        if self.connection is not None:
            self.connection.close()

    def end(self) -> None:
        self.unplug()


class ModbusRig:
    """The device, its module (`host`) and its far end."""

    input_name = "estop"

    def __init__(
        self, folder: Path, *, network: bool, inputs: Mapping[str, Mapping[str, object]] | None = None
    ) -> None:
        self.host = FakeHost()
        self.units = Units()
        self._heard = 0
        self.link = folder / "line"
        self.far: SerialEnd | NetworkEnd = NetworkEnd() if network else SerialEnd(self.link, 0)
        place: dict[str, object] = {"port": str(self.link)}
        if isinstance(self.far, NetworkEnd):
            place = {"host": "127.0.0.1", "tcp_port": self.far.port}
        specs = {
            name: DeviceSpec("modbus", check_settings("modbus", "input", {**place, **settings}))
            for name, settings in (inputs or {"estop": CONTACT}).items()
        }
        (device,), _, _ = build_devices(specs, {}, self.host)
        assert isinstance(device, ModbusLine)
        self.device = device
        self.stale_ns = min(int(str(spec.settings["stale_ms"])) for spec in specs.values()) * MS

    # The script -------------------------------------------------------------------------------------------

    def reading(self, name: str = "estop") -> Reading:
        return self.device.reading(name, self.host.time_ns)

    def count(self, *names: str) -> int:
        return sum(self.device.counters[name] for name in names)

    @property
    def asked(self) -> int:
        return self.count("questions", "probes")

    def question(self, within_ms: int = 5_000) -> Asked:
        """The question that is out; time passes until there is one that was not heard yet."""
        end_ns = self.host.time_ns + within_ms * MS
        while self.asked == self._heard or not self.is_out:
            assert self.host.time_ns < end_ns, "nothing was asked"
            self.host.tick(self.device, 10)
        return self._hear()

    @property
    def is_out(self) -> bool:
        """Whether a question is out."""
        return self.device._is_out

    def _hear(self) -> Asked:
        self._heard = self.asked
        return self.far.hear(self.asked)

    def read_question(self) -> Asked:
        """The same, with probes answered on the way."""
        while (asked := self.question()).is_probe:
            self.reply(asked)
        return asked

    def reply(self, asked: Asked, pdu: bytes | None = None) -> None:
        """Answer a question (rightly unless `pdu` is given); returns when the device has taken it."""
        right = pdu or self.units.answer(asked)
        assert right is not None
        self.say(self.far.frame(asked, right))

    def say(self, data: bytes) -> None:
        """Say anything; returns when the device has judged it."""
        before = self.judged()
        self.far.say(data)
        self.host.turn_until(lambda: self.judged() > before)

    def feed(self, data: bytes) -> None:
        """Say anything on a serial line; returns when the device has read it, whatever it makes of it."""
        self.far.say(data)
        self.host.turn_until(lambda: self.far.unread() == 0)

    def judged(self) -> int:
        """How much the device has made something of."""
        ends = ("probes_answered", "streams_broken")
        return sum(
            n for name, n in self.device.counters.items() if name.startswith("answers_") or name in ends
        )

    def serve(self) -> Asked:
        """The next question, answered rightly, or left to its time-out by a silent unit."""
        asked = self.question()
        if self.units.answer(asked) is None:
            self.time_out()
        else:
            self.reply(asked)
        return asked

    def serve_read(self) -> None:
        """Questions are answered until one was a read that was answered."""
        before = self.count("answers_good", "answers_refused")
        while self.count("answers_good", "answers_refused") == before:
            self.serve()

    def time_out(self) -> None:
        """Nothing is said until the device gives up."""
        before = self.count("answers_missing", "answers_wrong_length")
        while self.count("answers_missing", "answers_wrong_length") == before:
            self.host.tick(self.device, 10)

    def time_out_if_out(self) -> None:
        """The same, where a question is still out."""
        if self.is_out:
            self.time_out()

    def serve_tick(self) -> list[Asked]:
        """One tick, and what was asked in it, answered rightly where the unit is not silent."""
        self.host.tick(self.device, 10)
        heard: list[Asked] = []
        while self.asked > self._heard and self.is_out:
            heard.append(self._hear())
            if self.units.answer(heard[-1]) is not None:
                self.reply(heard[-1])
        return heard

    def serve_for(self, ms: int) -> list[Asked]:
        """Everything that is asked within `ms`, answered rightly."""
        return [asked for _ in range(ms // 10) for asked in self.serve_tick()]

    # What the rules ask for -------------------------------------------------------------------------------

    def start(self) -> None:
        self.device.open()
        self.serve_read()

    def unplug(self) -> None:
        self.far.unplug()
        self.host.turn_until(lambda: not self.host.watched)

    def replug(self) -> None:
        if isinstance(self.far, NetworkEnd):
            self.far = NetworkEnd(self.far.port)
        else:
            self.far = SerialEnd(self.link, self.asked)

    def show(self, *, closed: bool) -> None:
        self.units.contacts = dict.fromkeys(self.units.contacts, closed)
        self.serve_read()

    def break_down(self) -> None:
        self.units.refusals = {2: 4}
        self.serve_read()
        self.units.refusals = {}

    def babble(self) -> None:
        self.say(self.far.babble())

    def release(self) -> None:
        """End of the test."""
        self.device.close()
        self.far.end()
