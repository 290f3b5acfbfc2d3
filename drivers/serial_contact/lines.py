"""The modem lines of one serial port: what the kernel offers, and nothing decided.

What a serial port does to DTR and RTS by itself (Linux 6.x: tty_port.c, serial_core.c; read, not copied):

* `open` raises both, unless the port's speed is B0. The speed outlives `close`. So this class sets B0 and
  leaves it: its own reopening raises nothing, nor does a second process that opens the port. Only the first
  open since the machine came up, or since an adapter was plugged in, raises both, from there to the next call
  but one: well under a millisecond on a UART. No relay pulls in that fast; a transistor does.
* Going to B0 drops both ("hang up"). They can be driven all the same, and are, from then on.
* The last `close` drops both if HUPCL is set, and the kernel closes for a process that dies, however it dies.
  So HUPCL is set: a relay on RTS opens, and the contacts' supply ends, with no program needed for it.
* A port that hangs up (an adapter is unplugged) drops both as far as it still can.

What none of this reaches: a kernel that hangs, or an adapter that keeps its lines when its bus goes dead. A
relay on RTS is one channel of two and never the only one.

TIOCMGET and its like cost about a microsecond on a UART. On a USB adapter each may be a transfer that takes a
millisecond and, with the bus in trouble, seconds (usb-serial waits five). The permit is withdrawn before any
output is ordered and ends by itself meanwhile; but a UART, or an adapter whose driver keeps the state by
itself (pl2303, ch341), is the one to choose.
"""

import errno
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from enum import IntFlag
from typing import Final, Protocol, TypeVar

from drivers.serial_line import LineError

READ_BYTES: Final = 256
"""Most that one `drain` takes; nothing should ever come."""
NO_LINES: Final = frozenset({errno.ENOTTY, errno.EINVAL})
"""What a terminal without modem lines answers: a pseudo-terminal, a console."""

_WORD: Final = struct.Struct("@i")
_Result = TypeVar("_Result")


class Line(IntFlag):
    """Modem lines, as TIOCMGET has them; set = high (asserted)."""

    DTR = termios.TIOCM_DTR
    RTS = termios.TIOCM_RTS
    CTS = termios.TIOCM_CTS
    DSR = termios.TIOCM_DSR
    DCD = termios.TIOCM_CD
    RI = termios.TIOCM_RI


NONE: Final = Line(0)


class Waiter(Protocol):
    """Waits for the next edge; used by one thread, which owns it."""

    def wait(self) -> None:
        """Returns after an edge. Raises LineError when the kernel offers none here, or the port hung up."""

    def close(self) -> None:
        """Let go; idempotent."""


class Port(Protocol):
    """What the device needs of a port. Everything but `Waiter.wait` returns at once."""

    def fileno(self) -> int:
        """Readable when the port hung up, or when bytes came that nobody wants."""

    def read(self) -> Line:
        """All lines now, its own two as it drives them. Raises LineError when there is no answer."""

    def drive(self, lines: Line, *, high: bool) -> None:
        """Raise or drop some of DTR and RTS. Raises LineError when it is not known to be done."""

    def drain(self) -> int:
        """Throw away what came, at most `READ_BYTES` of it; how many bytes. Raises LineError when hung up."""

    def waiter(self, lines: Line) -> Waiter:
        """For the next edge of any of `lines`. Raises LineError."""

    def close(self) -> None:
        """Drop both lines, then let go; idempotent, never raises."""


class ModemPort:
    """A real one, open, locked against a second agent, both its lines low."""

    def __init__(self, path: str) -> None:
        """Raises LineError when the port is away, in use, or has no modem lines."""
        self._path = path
        # No pyserial here: it sets a speed, and leaving B0 raises both lines.
        self._fd = self._try(lambda: os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
        try:
            self._set_up()
        except LineError:
            os.close(self._fd)
            raise

    def _set_up(self) -> None:
        # The lock is flock's, as in drivers/serial_line.py: it ends with the process.
        self._try(lambda: fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB))
        self._try(lambda: hang_up(self._fd))
        try:
            self.drive(Line.DTR | Line.RTS, high=False)
            self.read()
        except LineError as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in NO_LINES:
                raise LineError(self._path, "has no modem lines") from cause
            # It has them and does not answer now: that is silence, and the owner's to judge.

    def fileno(self) -> int:
        """As `Port`; -1 after `close`."""
        return self._fd

    def read(self) -> Line:
        """As `Port`."""
        answer = self._try(lambda: fcntl.ioctl(self._fd, termios.TIOCMGET, bytes(_WORD.size)))
        return Line(_WORD.unpack(answer)[0])

    def drive(self, lines: Line, *, high: bool) -> None:
        """As `Port`."""
        request = termios.TIOCMBIS if high else termios.TIOCMBIC
        self._try(lambda: fcntl.ioctl(self._fd, request, _WORD.pack(lines)))

    def drain(self) -> int:
        """As `Port`."""
        try:
            data = self._try(lambda: os.read(self._fd, READ_BYTES))
        except LineError as error:
            if isinstance(error.__cause__, BlockingIOError):
                return 0
            raise
        if not data:
            raise LineError(self._path, "hung up")
        return len(data)

    def waiter(self, lines: Line) -> "EdgeWaiter":
        """As `Port`."""
        return EdgeWaiter(self._path, self._try(lambda: os.dup(self._fd)), lines)

    def close(self) -> None:
        """As `Port`. A waiter that still waits keeps the port open: HUPCL and the lock are not relied on."""
        if self._fd < 0:
            return
        with suppress(LineError):
            self.drive(Line.DTR | Line.RTS, high=False)
        with suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)
        self._fd = -1

    def _try(self, action: Callable[[], _Result]) -> _Result:
        return attempt(self._path, action)


class EdgeWaiter:
    """TIOCMIWAIT on a descriptor of its own.

    The call blocks until an edge, a hang-up (EIO) or the end of the process; nothing else ends it. On a
    pseudo-terminal, or where a driver has no such call, it fails at once.
    """

    def __init__(self, path: str, fd: int, lines: Line) -> None:
        self._path = path
        self._fd = fd
        self._lines = lines

    def wait(self) -> None:
        """As `Waiter`."""
        # The lines go as a number, not as a pointer to one.
        attempt(self._path, lambda: fcntl.ioctl(self._fd, termios.TIOCMIWAIT, int(self._lines)))

    def close(self) -> None:
        """As `Waiter`."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def hang_up(fd: int) -> None:
    """Speed B0, HUPCL, no flow control, raw. Raises termios.error.

    The receiver stays on: some drivers do not turn it off, and the C library then calls the whole an error.
    """
    characters: list[bytes | int] = termios.tcgetattr(fd)[6]
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    control = termios.CS8 | termios.CREAD | termios.CLOCAL | termios.HUPCL
    modes: list[int | list[bytes | int]] = [0, 0, control, 0, termios.B0, termios.B0, characters]
    termios.tcsetattr(fd, termios.TCSANOW, modes)


def attempt(path: str, action: Callable[[], _Result]) -> _Result:
    """`action`, whose failure is the line's."""
    try:
        return action()
    except (OSError, termios.error) as error:
        number = error.args[0] if error.args else None
        reason = os.strerror(number) if isinstance(number, int) else str(error)[:100]
        raise LineError(path, reason) from error
