"""The line under a Modbus device: refused, hung, silent, full, cut, in use; and its parity."""

import socket
import struct
import termios
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent.core.readings import Quality
from drivers.modbus import device, wire
from drivers.modbus.talk import RtuTalk
from drivers.modbus.wire import PARITIES, RtuWire, TcpWire
from drivers.serial_line import LineError, SerialLine
from tests.drivers.hosts import MS
from tests.drivers.modbus.rig import CONTACT, ModbusRig, NetworkEnd
from tests.waiting import block_until


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ModbusRig]:
    rig = ModbusRig(tmp_path, network=True)
    yield rig
    rig.release()


@pytest.fixture
def serial(tmp_path: Path) -> Iterator[ModbusRig]:
    rig = ModbusRig(tmp_path, network=False)
    yield rig
    rig.release()


def connection(rig: ModbusRig) -> socket.socket:
    assert isinstance(rig.far, NetworkEnd)
    assert rig.far.connection is not None
    return rig.far.connection


def line_of(rig: ModbusRig) -> wire.Wire | None:
    return rig.device._wire


def attempts_ms(rig: ModbusRig, monkeypatch: pytest.MonkeyPatch, during_ms: int) -> list[int]:
    """When the device tried to reach its line while time passed, from now."""
    began_ns = rig.host.time_ns
    tried: list[int] = []

    def refuse() -> wire.Wire:
        tried.append((rig.host.time_ns - began_ns) // MS)
        raise LineError("there", "not there")

    with monkeypatch.context() as patch:
        patch.setattr(rig.device, "_connect", refuse)
        rig.host.tick(rig.device, during_ms)
    return tried


@pytest.mark.parametrize("kind", ["rig", "serial"])
def test_attempts_to_reconnect_are_spaced_out(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig: ModbusRig = request.getfixturevalue(kind)
    rig.start()
    rig.unplug()
    assert attempts_ms(rig, monkeypatch, 8_000) == [100, 300, 700, 1_500, 3_100, 5_100, 7_100]
    assert rig.reading().detail == "line away: not there"


def test_only_an_answer_makes_the_waits_short_again(rig: ModbusRig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.start()
    rig.unplug()
    rig.replug()
    rig.host.tick(rig.device, 200)
    assert rig.device.counters["reopens"] == 1
    rig.unplug()
    assert attempts_ms(rig, monkeypatch, 600) == [200, 600]
    rig.replug()
    rig.host.tick(rig.device, 900)
    rig.show(closed=True)
    rig.unplug()
    assert attempts_ms(rig, monkeypatch, 300) == [100, 300]


def test_a_refused_connection_says_so(rig: ModbusRig) -> None:
    rig.unplug()
    rig.device.open()
    rig.host.tick(rig.device, 20)
    assert rig.reading().detail == "line away: Connection refused"
    assert rig.host.changes == 0, "nothing was known, and nothing is"


def test_a_connection_that_is_not_taken_is_given_up_and_tried_again(rig: ModbusRig) -> None:
    """The listener's queue is full, so nothing at all comes back."""
    assert isinstance(rig.far, NetworkEnd)
    place = ("127.0.0.1", rig.far.port)
    rig.far.unplug()
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(0)
        for _ in range(2):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(place)
        rig.device.open()
        rig.host.tick(rig.device, 990)
        assert line_of(rig) is not None
        assert not rig.host.watched
        rig.host.tick(rig.device, 10)
        assert line_of(rig) is None
        assert rig.reading().detail == "line away: no connection"
        rig.host.tick(rig.device, 100)
        assert line_of(rig) is not None
        rig.device.close()
        assert line_of(rig) is None


def test_a_silent_connection_is_made_anew(rig: ModbusRig) -> None:
    """The other side may have restarted and know nothing of it."""
    rig.start()
    first = line_of(rig)
    rig.host.tick(rig.device, 2_990)
    assert line_of(rig) is first
    rig.host.tick(rig.device, 20)
    assert line_of(rig) is None
    assert rig.reading().detail == "no answer, connecting anew"
    rig.host.tick(rig.device, 120)
    assert line_of(rig) not in {first, None}
    assert rig.device.counters["reopens"] == 1
    rig.show(closed=True)
    assert rig.reading().quality is Quality.GOOD


def test_a_silent_serial_line_is_kept(serial: ModbusRig) -> None:
    serial.start()
    first = line_of(serial)
    serial.host.tick(serial.device, 10_000)
    assert line_of(serial) is first


def test_what_is_not_modbus_ends_the_connection(rig: ModbusRig) -> None:
    rig.start()
    before = rig.host.changes
    rig.say(b"HTTP/1.1 400 Bad Request\r\n")
    assert rig.device.counters["streams_broken"] == 1
    assert rig.host.bad == [(rig.device.name, "not Modbus: protocol 21584")]
    assert rig.reading().quality is Quality.STALE
    assert rig.reading().detail == "line away: not Modbus: protocol 21584"
    assert rig.host.changes == before + 1
    assert not rig.host.watched
    rig.show(closed=True)
    assert rig.reading().quality is Quality.GOOD


def test_a_reset_connection_is_lost(rig: ModbusRig) -> None:
    rig.start()
    connection(rig).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection(rig).close()
    rig.host.turn_until(lambda: not rig.host.watched)
    assert rig.reading().detail == "line away: Connection reset by peer"


def test_a_closed_connection_is_lost(rig: ModbusRig) -> None:
    rig.start()
    connection(rig).close()
    rig.host.turn_until(lambda: not rig.host.watched)
    assert rig.reading().detail == "line away: closed by the other side"


def test_a_connection_lost_while_asking_is_told_once(rig: ModbusRig) -> None:
    rig.start()
    before = rig.host.changes
    connection(rig).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection(rig).close()

    def is_lost() -> bool:
        rig.host.tick(rig.device, 10)
        return not rig.host.watched

    block_until(is_lost)
    assert rig.host.changes == before + 1


@pytest.mark.parametrize("kind", ["rig", "serial"])
def test_a_line_that_takes_no_question_is_lost(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig: ModbusRig = request.getfixturevalue(kind)
    rig.start()
    line = line_of(rig)
    assert line is not None
    monkeypatch.setattr(line, "write", lambda data: len(data) - 1)
    rig.host.tick(rig.device, 100)
    assert rig.device.counters["writes_dropped"] == 1
    assert rig.reading().detail == "line away: it takes nothing"


def test_a_line_that_breaks_at_the_question_is_lost(
    serial: ModbusRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    serial.start()

    def gone(data: bytes) -> int:
        raise LineError("there", f"gone with {len(data)} bytes")

    monkeypatch.setattr(line_of(serial), "write", gone)
    serial.host.tick(serial.device, 100)
    assert serial.reading().detail == "line away: gone with 8 bytes"
    assert not serial.host.watched


def test_a_full_kernel_buffer_takes_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = TcpWire(*listener.getsockname())
        block_until(line.is_up)
        while line.write(bytes(65536)):
            pass
        assert line.write(b"x") == 0
        assert line.read() == b""
        line.close()


def test_ipv6() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        line = TcpWire("::1", listener.getsockname()[1])
        block_until(line.is_up)
        assert line._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), "or 40 ms per question"
        line.close()


def test_a_network_that_is_not_there_is_away() -> None:
    with pytest.raises(LineError) as caught:
        TcpWire("255.255.255.255", 1)
    assert caught.value.path == "255.255.255.255:1"
    assert caught.value.reason


def test_no_descriptor_left_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(LineError, match="Too many open files"):
        TcpWire("127.0.0.1", 1)


def test_a_question_that_finds_the_connection_gone(rig: ModbusRig) -> None:
    rig.start()
    line = line_of(rig)
    assert isinstance(line, TcpWire)
    line._socket.shutdown(socket.SHUT_WR)
    with pytest.raises(LineError, match="Broken pipe"):
        line.write(b"x")


# ----------------------------------------------------------------------------------------------- serial ports


def test_a_port_in_use_is_away_until_it_is_free(serial: ModbusRig) -> None:
    other = SerialLine(str(serial.link), 19200)
    serial.device.open()
    serial.host.tick(serial.device, 1_000)
    assert serial.reading().detail == "line away: Resource temporarily unavailable"
    other.close()
    serial.host.tick(serial.device, 2_000)
    assert serial.host.watched


@pytest.mark.parametrize("parity", ["none", "even", "odd"])
def test_parity_is_set_and_checked(parity: str, serial: ModbusRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pseudo-terminal has no parity and forgets what it is told, so it is caught on its way there."""
    told: list[Any] = []
    tcsetattr = termios.tcsetattr

    def spy(fd: int, when: int, attributes: Any) -> None:  # noqa: ANN401 - as it is
        told.append(attributes)
        tcsetattr(fd, when, attributes)

    monkeypatch.setattr(termios, "tcsetattr", spy)
    RtuWire(str(serial.link), baud=19200, parity=parity).close()
    flags = told[-1]
    assert flags[2] & (termios.PARENB | termios.PARODD) == PARITIES[parity]
    assert flags[2] & termios.CSIZE == termios.CS8
    assert bool(flags[0] & termios.INPCK) == bool(flags[0] & termios.IGNPAR) == (parity != "none")
    assert [PARITIES[name] for name in ("none", "even", "odd")] == [
        0,
        termios.PARENB,
        termios.PARENB | termios.PARODD,
    ]


def test_a_port_that_refuses_its_parity_is_let_go(serial: ModbusRig, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int, flags: int) -> None:
        raise termios.error(22, f"no flags {flags} on {fd}")

    with monkeypatch.context() as patch:
        patch.setattr(wire, "_set_parity", refuse)
        with pytest.raises(LineError, match="cannot set parity odd"):
            RtuWire(str(serial.link), baud=19200, parity="odd")
    RtuWire(str(serial.link), baud=19200, parity="odd").close()


def test_what_the_plan_says_of_the_port_gets_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[dict[str, object]] = []

    def note(path: str, **settings: object) -> RtuWire:
        opened.append({"path": path, **settings})
        raise LineError(path, "not now")

    monkeypatch.setattr(device, "RtuWire", note)
    inputs = {"estop": {**CONTACT, "baud": 9600, "parity": "even"}}
    rig = ModbusRig(tmp_path, network=False, inputs=inputs)
    rig.device.open()
    rig.device.close()
    rig.release()
    assert opened == [{"path": str(rig.link), "baud": 9600, "parity": "even"}]


def test_what_a_port_has_not_sent_is_forgotten_at_its_close(
    serial: ModbusRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the kernel waits for it to be sent."""
    forgotten: list[str] = []
    monkeypatch.setattr(SerialLine, "discard_output", lambda line: forgotten.append(line._path))
    RtuWire(str(serial.link), baud=19200, parity="none").close()
    assert forgotten == [str(serial.link)]


def test_the_longest_late_ms_of_a_port_counts(tmp_path: Path) -> None:
    inputs = {"a": {**CONTACT, "late_ms": 100}, "b": {**CONTACT, "late_ms": 5_000}, "c": CONTACT}
    rig = ModbusRig(tmp_path, network=False, inputs=inputs)
    talk = rig.device._talk
    assert isinstance(talk, RtuTalk)
    assert talk._debts._late_ns == 5_000 * MS
    rig.release()


def test_closing_a_port_that_is_gone_is_quiet(serial: ModbusRig) -> None:
    line = RtuWire(str(serial.link), baud=19200, parity="none")
    serial.far.unplug()
    line.close()
    with pytest.raises(LineError):
        partial(RtuWire, str(serial.link), baud=19200, parity="none")()
