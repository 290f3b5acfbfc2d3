"""Whatever a far end does: nothing is raised, and no value is told that no right frame carried."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.readings import Quality
from drivers.modbus.device import ModbusLine
from drivers.modbus.point import Point
from drivers.modbus.talk import RtuTalk, TcpTalk
from drivers.registry import check_settings
from drivers.serial_line import LineError
from tests.drivers.hosts import MS, FakeHost
from tests.drivers.modbus import frames

FD = 9

Act = tuple[str, int, bytes]
"""What happens: "tick" (some), "bytes", "read" (until a value is told), "answer" (the next question, with a
value), "flip" (the same with one bit wrong), "late" (the last answer again), "gone"."""

acts = st.lists(
    st.tuples(
        st.sampled_from(["tick", "read", "answer", "answer", "bytes", "flip", "late", "gone"]),
        st.integers(0, 0xFFFF),
        st.binary(max_size=40),
    ),
    max_size=30,
)


class ScriptedWire:
    """A line in memory."""

    def __init__(self) -> None:
        self.inbox = b""
        self.asked = b""
        self.delivered = b""
        self.is_gone = False

    def fileno(self) -> int:
        return FD

    def is_up(self) -> bool:
        return True

    def read(self) -> bytes:
        if self.is_gone:
            raise LineError("there", "gone")
        data, self.inbox = self.inbox, b""
        return data

    def write(self, data: bytes) -> int:
        self.asked = data
        return len(data)

    def close(self) -> None:
        self.is_gone = True


class Script:
    """One device, its host and the line it has at the moment."""

    def __init__(self, *, network: bool) -> None:
        self.network = network
        self.host = FakeHost()
        self.wires: list[ScriptedWire] = []
        self.last = b""
        place = {"host": "127.0.0.1"} if network else {"port": "/dev/ttyS0"}
        entry = {**place, "unit": 3, "register": 12, "quantity": "range_m"}
        points = [Point("range", check_settings("modbus", "input", entry))]
        talk = TcpTalk() if network else RtuTalk(baud=19200, units=[3], late_ns=1_000 * MS)
        silent_ns = 3_000 * MS if network else None
        self.device = ModbusLine("there", points, self._connect, talk, self.host, silent_ns=silent_ns)
        self.device.open()

    @property
    def wire(self) -> ScriptedWire:
        return self.wires[-1]

    def play(self, act: str, number: int, data: bytes) -> None:
        match act:
            case "tick":
                self.host.tick(self.device, 10 * (number % 6))
            case "bytes":
                self.deliver(data)
            case "read":
                self.read(number)
            case "answer":
                self.ask()
                self.deliver(self.answer(number))
            case "flip":
                self.ask()
                right = self.answer(number)
                wrong = int.from_bytes(right, "big") ^ 1 << number % (8 * len(right))
                self.deliver(wrong.to_bytes(len(right), "big"))
            case "late":
                self.deliver(self.last)
            case "gone":
                self.wire.is_gone = True
                self.wake()

    def ask(self) -> None:
        """Time passes until a question is out."""
        end_ns = self.host.time_ns + 60_000 * MS
        while not self.device._is_out:
            assert self.host.time_ns < end_ns, "nothing is asked any more"
            self.host.tick(self.device, 10)

    def read(self, value: int) -> None:
        """Questions are answered until this value is told."""
        good = self.device.counters["answers_good"]
        for _ in range(100):
            self.ask()
            self.deliver(self.answer(value))
            if self.device.counters["answers_good"] > good:
                return
        raise AssertionError("right answers are not believed any more")

    def answer(self, value: int) -> bytes:
        """The right answer to the last question."""
        pdu = frames.registers(3, [value])
        asked = self.wire.asked or bytes(12)
        if self.network:
            self.last = frames.tcp(int.from_bytes(asked[:2], "big"), 3, pdu)
        else:
            self.last = asked if asked[1] == 8 else frames.rtu(3, pdu)
        return self.last

    def deliver(self, data: bytes) -> None:
        self.wire.inbox += data
        self.wire.delivered += data
        self.wake()

    def wake(self) -> None:
        if FD in self.host.watched:
            self.host._watched[FD]()

    def carried(self, value: int) -> bool:
        """Whether any line has carried a right frame with this value."""
        pdu = frames.registers(3, [value])
        frame = b"\x03" + pdu if self.network else frames.rtu(3, pdu)
        return any(frame in wire.delivered for wire in self.wires)

    def _connect(self) -> ScriptedWire:
        self.wires.append(ScriptedWire())
        return self.wire


@pytest.mark.parametrize("network", [False, True], ids=["serial", "tcp"])
@settings(max_examples=120)
@given(script=acts)
def test_no_value_is_told_that_no_right_frame_carried(network: bool, script: list[Act]) -> None:
    line = Script(network=network)
    for act in script:
        line.play(*act)
        reading = line.device.reading("range", line.host.time_ns)
        assert reading.quality is not Quality.GOOD or line.host.time_ns - reading.taken_ns < 200 * MS
        assert reading.value is None or line.carried(int(reading.value))
        assert {source for source, _ in line.host.bad} <= {line.device.name}
    line.device.close()
    assert not line.host.watched
