"""The serial line on a real pseudo-terminal: what pyserial leaves to us."""

import errno
import os
import termios
import tty
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.errors import WardenError
from drivers.serial_line import READ_BYTES, LineError, SerialLine
from tests.drivers.hosts import unread
from tests.waiting import block_until


class Pair(NamedTuple):
    """A pseudo-terminal: the far end, a descriptor of the port that the test keeps, the port's path."""

    master: int
    slave: int
    path: str


@pytest.fixture
def pair() -> Iterator[Pair]:
    master, slave = os.openpty()
    tty.setraw(slave)
    yield Pair(master, slave, os.ttyname(slave))
    for fd in (master, slave):
        with suppress(OSError):  # a test has unplugged it
            os.close(fd)


@pytest.fixture
def line(pair: Pair) -> Iterator[SerialLine]:
    line = SerialLine(pair.path, 115200)
    yield line
    line.close()


def say(pair: Pair, data: bytes) -> None:
    os.write(pair.master, data)
    block_until(lambda: unread(pair.slave) == len(data))


def test_reads_what_there_is_and_never_waits(pair: Pair, line: SerialLine) -> None:
    assert line.read() == b""
    say(pair, b"\x00\x03\x11\x13\x7f\xff\r\n")
    assert line.read() == b"\x00\x03\x11\x13\x7f\xff\r\n"
    assert line.read() == b""


def test_a_read_is_bounded(pair: Pair, line: SerialLine) -> None:
    say(pair, b"\x55" * (READ_BYTES + 1))
    assert [len(line.read()), len(line.read()), len(line.read())] == [READ_BYTES, 1, 0]


def test_writes_every_byte_as_it_is(pair: Pair, line: SerialLine) -> None:
    assert line.write(bytes(range(256))) == 256
    heard = b""
    while len(heard) < 256:
        heard += os.read(pair.master, 256)
    assert heard == bytes(range(256))


def test_a_full_buffer_takes_nothing(pair: Pair, line: SerialLine) -> None:
    termios.tcflow(pair.slave, termios.TCOOFF)
    assert line.write(b"\x55" * 20) == 0


def test_a_buffer_that_fills_up_takes_a_part_and_can_be_emptied(line: SerialLine) -> None:
    frame = b"\x55" * 1000
    takes: list[int] = []
    while len(takes) < 1000 and (not takes or takes[-1] == len(frame)):
        takes.append(line.write(frame))
    assert takes[-1] < len(frame)
    line.discard_output()
    assert line.write(b"\x55" * 20) == 20


def test_old_input_is_not_read(pair: Pair) -> None:
    say(pair, b"old news")
    line = SerialLine(pair.path, 115200)
    assert line.read() == b""
    line.close()


def test_speed_and_framing_are_set(pair: Pair, line: SerialLine) -> None:
    iflag, oflag, cflag, lflag, ispeed, ospeed, cc = termios.tcgetattr(pair.slave)
    assert (ispeed, ospeed) == (termios.B115200, termios.B115200)
    assert cflag & termios.CSIZE == termios.CS8
    assert not cflag & (termios.PARENB | termios.CSTOPB | termios.CRTSCTS)
    assert not iflag & (termios.IXON | termios.IXOFF | termios.BRKINT | termios.ICRNL | termios.ISTRIP)
    assert not oflag & termios.OPOST
    assert not lflag & (termios.ICANON | termios.ECHO | termios.ISIG)
    assert cc[termios.VMIN] in {1, b"\x01"}


def test_a_second_opener_is_refused_until_the_first_lets_go(pair: Pair) -> None:
    first = SerialLine(pair.path, 115200)
    with pytest.raises(LineError) as caught:
        SerialLine(pair.path, 115200)
    assert caught.value.reason == os.strerror(errno.EAGAIN)
    first.close()
    SerialLine(pair.path, 115200).close()


def test_a_hung_up_line_is_an_error_to_read_and_to_write(pair: Pair, line: SerialLine) -> None:
    os.close(pair.master)
    with pytest.raises(LineError, match="hung up"):
        line.read()
    with pytest.raises(LineError) as caught:
        line.write(b"x")
    assert caught.value.reason == os.strerror(errno.EIO)
    with pytest.raises(LineError):
        line.discard_output()


def test_a_read_that_fails_is_a_line_error(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    line = SerialLine(pair.path, 115200)

    def vanish(fd: int, size: int) -> bytes:
        raise OSError(errno.ENXIO, f"{fd} {size}")

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", vanish)
        with pytest.raises(LineError, match=os.strerror(errno.ENXIO)):
            line.read()
    line.close()


def test_a_port_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LineError) as caught:
        SerialLine(str(tmp_path / "none"), 115200)
    assert isinstance(caught.value, WardenError)
    assert caught.value.path == str(tmp_path / "none")
    assert caught.value.reason == os.strerror(errno.ENOENT)


def test_a_file_that_is_no_terminal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LineError) as caught:
        SerialLine(str(tmp_path / "file"), 115200)
    assert 0 < len(caught.value.reason) <= 100


def test_a_port_that_dies_while_it_is_set_up_is_let_go(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(fd: int, when: int) -> None:
        raise termios.error(errno.EIO, f"{fd} {when}")

    with monkeypatch.context() as patch:
        patch.setattr(tty, "setraw", die)
        with pytest.raises(LineError) as caught:
            SerialLine(pair.path, 115200)
    SerialLine(pair.path, 115200).close()
    assert caught.value.reason == os.strerror(errno.EIO)  # and its traceback held the first one until here
