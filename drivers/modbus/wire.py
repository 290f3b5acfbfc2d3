"""What a Modbus line is made of: a serial port, or a TCP connection. Neither ever waits.

A lost or refused one is `LineError` of `drivers.serial_line`, whatever it is made of.
"""

import errno
import os
import select
import socket
import termios
from typing import Final, Protocol

from drivers.serial_line import READ_BYTES, LineError, SerialLine

PARITIES: Final = {"none": 0, "even": termios.PARENB, "odd": termios.PARENB | termios.PARODD}
"""Name in the plan -> flags of `c_cflag` (termios(3))."""


class Wire(Protocol):
    """An open line."""

    def fileno(self) -> int:
        """The descriptor, non-blocking."""

    def is_up(self) -> bool:
        """False while the connection is still being made; LineError when it cannot be."""

    def read(self) -> bytes:
        """What has arrived, b"" when nothing has. LineError when the line is gone."""

    def write(self, data: bytes) -> int:
        """How many bytes the kernel took. LineError when the line is gone."""

    def close(self) -> None:
        """Let go."""


class RtuWire:
    """A serial port."""

    def __init__(self, path: str, *, baud: int, parity: str) -> None:
        """Raises LineError; see `SerialLine`."""
        self._line = SerialLine(path, baud)
        self._path = path
        try:
            _set_parity(self._line.fileno(), PARITIES[parity])
        except termios.error as error:
            self._line.close()
            raise LineError(path, f"cannot set parity {parity}") from error

    def fileno(self) -> int:
        return self._line.fileno()

    def is_up(self) -> bool:
        return True

    def read(self) -> bytes:
        return self._line.read()

    def write(self, data: bytes) -> int:
        return self._line.write(data)

    def close(self) -> None:
        try:  # what it has not sent yet could keep the kernel waiting in close, for 30 s
            self._line.discard_output()
        except LineError:
            pass  # it is gone, and its output with it
        finally:
            self._line.close()


class TcpWire:
    """A TCP connection to an address."""

    def __init__(self, host: str, port: int) -> None:
        """`host`: an IPv4 or IPv6 address. Begins to connect; raises LineError when that fails at once."""
        self._place = f"{host}:{port}"
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(family, kind)
        except OSError as error:
            raise self._gone(error) from error
        # A question of 12 bytes must not wait for the acknowledgement of the one before.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = self._socket.connect_ex((host, port))
        if code not in {0, errno.EINPROGRESS}:
            self._socket.close()
            raise LineError(self._place, os.strerror(code))

    def fileno(self) -> int:
        return self._socket.fileno()

    def is_up(self) -> bool:
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        if not poll.poll(0):
            return False
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise LineError(self._place, os.strerror(code))
        return True

    def read(self) -> bytes:
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self._gone(error) from error
        if not data:
            raise LineError(self._place, "closed by the other side")
        return data

    def write(self, data: bytes) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self._gone(error) from error

    def close(self) -> None:
        self._socket.close()

    def _gone(self, error: OSError) -> LineError:
        return LineError(self._place, error.strerror or "gone")


def _set_parity(fd: int, flags: int) -> None:
    attributes = termios.tcgetattr(fd)
    attributes[2] = attributes[2] & ~(termios.PARENB | termios.PARODD) | flags
    if flags:
        attributes[0] |= termios.INPCK | termios.IGNPAR  # a byte with wrong parity is not delivered
    termios.tcsetattr(fd, termios.TCSANOW, attributes)
