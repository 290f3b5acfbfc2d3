"""A real port: its error paths on a real pseudo-terminal, and with the kernel's answers scripted, the rest.

A pseudo-terminal has no modem lines (ENOTTY). What is not run here: a UART, a USB adapter, TIOCMIWAIT itself.
"""

import errno
import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from agent.errors import WardenError
from drivers.serial_contact.lines import READ_BYTES, Line, ModemPort, hang_up
from drivers.serial_line import LineError
from tests.drivers.hosts import unread
from tests.waiting import block_until

LOW = (termios.TIOCMBIC, struct.pack("@i", 2 | 4))
"""Both lines dropped."""


class Pair(NamedTuple):
    """A pseudo-terminal: the far end, a descriptor of the port that the test keeps, the port's path."""

    master: int
    slave: int
    path: str


real_ioctl = fcntl.ioctl


class Kernel:
    """Answers the modem ioctls. `calls`: what was asked; `refuse`: the error of every next one."""

    def __init__(self) -> None:
        self.lines = 0
        self.refuse = 0
        self.calls: list[tuple[int, object]] = []

    def ioctl(self, fd: int, request: int, argument: bytes) -> bytes:
        if request == termios.FIONREAD:
            return real_ioctl(fd, request, argument)
        os.fstat(fd)  # raises for a descriptor that is not open
        self.calls.append((request, argument))
        if self.refuse:
            raise OSError(self.refuse, os.strerror(self.refuse))
        return struct.pack("@i", self.lines)


@pytest.fixture
def pair() -> Iterator[Pair]:
    master, slave = os.openpty()
    tty.setraw(slave)
    yield Pair(master, slave, os.ttyname(slave))
    for fd in (master, slave):
        with suppress(OSError):  # a test has unplugged it
            os.close(fd)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    kernel = Kernel()
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "ioctl", kernel.ioctl)
        yield kernel


@pytest.fixture
def port(pair: Pair, kernel: Kernel) -> Iterator[ModemPort]:
    port = ModemPort(pair.path)
    kernel.calls.clear()
    yield port
    kernel.refuse = 0
    port.close()


def settings(pair: Pair) -> tuple[int, int, int, int]:
    """Control flags of interest, the other flags together, and both speeds, as the kernel keeps them."""
    iflag, oflag, cflag, lflag, ispeed, ospeed, _ = termios.tcgetattr(pair.slave)
    return cflag & (termios.HUPCL | termios.CLOCAL | termios.CREAD), iflag | oflag | lflag, ispeed, ospeed


HUNG_UP = (termios.HUPCL | termios.CLOCAL | termios.CREAD, 0, termios.B0, termios.B0)

# --------------------------------------------------------------------------------------- a pseudo-terminal


def test_a_terminal_without_modem_lines_says_so_and_is_let_go(pair: Pair) -> None:
    for _ in range(2):  # the second attempt finds no lock
        with pytest.raises(LineError) as caught:
            ModemPort(pair.path)
        assert isinstance(caught.value, WardenError)
        assert (caught.value.path, caught.value.reason) == (pair.path, "has no modem lines")


def test_its_speed_and_its_drop_at_close_outlive_its_close(pair: Pair) -> None:
    """What the next `open` finds: at B0 it raises nothing, and HUPCL drops both at the last close."""
    with pytest.raises(LineError):
        ModemPort(pair.path)
    assert settings(pair) == HUNG_UP


def test_a_killed_process_leaves_the_port_so_and_unlocked(pair: Pair) -> None:
    script = (
        "import fcntl, os, sys, time\n"
        "from drivers.serial_contact.lines import hang_up\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_NOCTTY)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "hang_up(fd)\n"
        "print('up', flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, pair.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        with pytest.raises(LineError) as caught:
            ModemPort(pair.path)
        assert caught.value.reason == os.strerror(errno.EAGAIN)
        process.send_signal(signal.SIGKILL)
    assert settings(pair) == HUNG_UP
    fcntl.flock(pair.slave, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_port_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LineError) as caught:
        ModemPort(str(tmp_path / "none"))
    assert caught.value.reason == os.strerror(errno.ENOENT)


def test_a_file_that_is_no_terminal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LineError) as caught:
        ModemPort(str(tmp_path / "file"))
    assert caught.value.reason == os.strerror(errno.ENOTTY)


def test_hanging_up_a_port_that_is_gone_is_the_kernel_s_error(pair: Pair) -> None:
    os.close(pair.slave)
    with pytest.raises(termios.error):
        hang_up(pair.slave)


# ------------------------------------------------------------------------------ a port that has its lines


def test_both_lines_are_low_before_anything_else(pair: Pair, kernel: Kernel) -> None:
    port = ModemPort(pair.path)
    assert kernel.calls[0] == LOW
    assert settings(pair) == HUNG_UP
    port.close()


@pytest.mark.parametrize("line", list(Line))
def test_lines_are_read_one_by_one(port: ModemPort, kernel: Kernel, line: Line) -> None:
    bits = {"DTR": 0x002, "RTS": 0x004, "CTS": 0x020, "DCD": 0x040, "RI": 0x080, "DSR": 0x100}
    kernel.lines = bits[str(line.name)]
    assert port.read() == line
    kernel.lines = 0xFFFF & ~bits[str(line.name)]  # and whatever else the kernel keeps in that word
    assert [other for other in Line if other not in port.read()] == [line]


@pytest.mark.parametrize("high", [True, False])
def test_lines_are_driven_one_by_one(port: ModemPort, kernel: Kernel, high: bool) -> None:
    port.drive(Line.RTS, high=high)
    port.drive(Line.DTR, high=high)
    request = termios.TIOCMBIS if high else termios.TIOCMBIC
    assert kernel.calls == [(request, struct.pack("@i", 4)), (request, struct.pack("@i", 2))]


def test_no_answer_is_a_line_error(port: ModemPort, kernel: Kernel, pair: Pair) -> None:
    kernel.refuse = errno.EIO
    for action in (port.read, lambda: port.drive(Line.RTS, high=True), port.waiter(Line.CTS).wait):
        with pytest.raises(LineError) as caught:
            action()
        assert (caught.value.path, caught.value.reason) == (pair.path, os.strerror(errno.EIO))


def test_a_port_that_does_not_answer_at_once_is_open_all_the_same(pair: Pair, kernel: Kernel) -> None:
    kernel.refuse = errno.EIO
    port = ModemPort(pair.path)
    with pytest.raises(LineError):
        port.read()
    kernel.refuse = 0
    assert port.read() == Line(0)
    port.close()


@pytest.mark.parametrize("number", [errno.ENOTTY, errno.EINVAL])
def test_both_ways_to_say_that_there_are_no_lines(pair: Pair, kernel: Kernel, number: int) -> None:
    kernel.refuse = number
    with pytest.raises(LineError, match="has no modem lines"):
        ModemPort(pair.path)


def test_close_drops_both_lines_and_lets_go(pair: Pair, kernel: Kernel) -> None:
    port = ModemPort(pair.path)
    kernel.calls.clear()
    port.close()
    port.close()
    assert kernel.calls == [LOW]
    assert port.fileno() == -1
    ModemPort(pair.path).close()


def test_close_of_a_port_that_answers_nothing_is_quiet(pair: Pair, kernel: Kernel) -> None:
    port = ModemPort(pair.path)
    kernel.refuse = errno.EIO
    port.close()
    kernel.refuse = 0
    ModemPort(pair.path).close()


def test_a_second_agent_is_refused_until_the_first_lets_go(pair: Pair, port: ModemPort) -> None:
    with pytest.raises(LineError) as caught:
        ModemPort(pair.path)
    assert caught.value.reason == os.strerror(errno.EAGAIN)


def test_a_waiter_that_still_waits_does_not_keep_the_lock(pair: Pair, port: ModemPort) -> None:
    waiter = port.waiter(Line.CTS)
    port.close()
    ModemPort(pair.path).close()
    waiter.close()


def test_a_waiter_asks_for_its_lines_by_number(port: ModemPort, kernel: Kernel) -> None:
    waiter = port.waiter(Line.CTS | Line.DSR)
    waiter.wait()
    assert kernel.calls == [(termios.TIOCMIWAIT, 0x120)]
    waiter.close()
    waiter.close()
    with pytest.raises(LineError):
        waiter.wait()


def test_what_comes_is_thrown_away_and_counted(pair: Pair, port: ModemPort) -> None:
    assert port.drain() == 0
    os.write(pair.master, b"\x55" * (READ_BYTES + 3))
    block_until(lambda: unread(pair.slave) == READ_BYTES + 3)
    assert [port.drain(), port.drain(), port.drain()] == [READ_BYTES, 3, 0]


def test_a_port_that_hangs_up_says_so(pair: Pair, port: ModemPort) -> None:
    os.close(pair.master)
    with pytest.raises(LineError, match="hung up"):
        port.drain()


def test_a_read_that_fails_is_a_line_error(port: ModemPort, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(fd: int, size: int) -> bytes:
        raise OSError(errno.ENXIO, f"{fd} {size}")

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", vanish)
        with pytest.raises(LineError, match=os.strerror(errno.ENXIO)):
            port.drain()


# On a pseudo-terminal with the real kernel, the last of its calls: it has no edges to wait for.
def test_a_waiter_on_a_pseudo_terminal_fails_at_once(pair: Pair) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "ioctl", Kernel().ioctl)
        port = ModemPort(pair.path)
    waiter = port.waiter(Line.CTS)
    with pytest.raises(LineError) as caught:
        waiter.wait()
    assert caught.value.reason == os.strerror(errno.ENOTTY)
    waiter.close()
    port.close()
