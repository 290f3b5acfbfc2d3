"""A serial line for an event loop: pyserial opens it, then its descriptor is read and written directly.

Nothing here waits, and whatever the line does comes back as one of four things: bytes, nothing, a full
buffer, or `LineError` when it is gone.
"""

import os
import termios
import tty
from typing import Final

import serial

from agent.errors import WardenError

READ_BYTES: Final = 1024
"""Most that one wake-up takes: 90 ms of a line at 115200 baud, so one read empties a healthy line, while one
that is flooded still lets the loop turn to its other descriptors."""
BACKOFF_FIRST_NS: Final = 100_000_000
BACKOFF_MOST_NS: Final = 2_000_000_000


class LineError(WardenError):
    """The line cannot be opened, or is gone. `path`; `reason`: in a few words, without the path."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class SerialLine:
    """One open line: 8N1, raw, no flow control, locked against a second opener; old input is discarded."""

    def __init__(self, path: str, baud: int) -> None:
        """Raises LineError when the port is away, is no terminal, or is in another process's use."""
        self._path = path
        try:
            # The lock is flock's, which ends with the process: TIOCEXCL would outlive a killed one as long as
            # anybody (the far end of a pseudo-terminal) holds the port.
            self._serial = serial.Serial(path, baud, exclusive=True)
        except (OSError, termios.error) as error:
            raise LineError(path, _reason(error)) from error
        self._fd: int = self._serial.fileno()
        try:
            # pyserial leaves VMIN at 0, where an empty line and a hung-up one both read as b"".
            tty.setraw(self._fd, termios.TCSANOW)
        except termios.error as error:
            self.close()
            raise LineError(path, _reason(error)) from error

    def fileno(self) -> int:
        """The descriptor, non-blocking."""
        return self._fd

    def read(self) -> bytes:
        """What has arrived, at most `READ_BYTES`; b"" when nothing has. Raises LineError when hung up."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise LineError(self._path, _reason(error)) from error
        if not data:
            raise LineError(self._path, "hung up")
        return data

    def write(self, data: bytes) -> int:
        """How many bytes the kernel took, 0 when its buffer is full. Raises LineError when hung up."""
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise LineError(self._path, _reason(error)) from error

    def discard_output(self) -> None:
        """Forget what the kernel has not sent yet; what is on the wire may end in the middle of a frame."""
        try:
            termios.tcflush(self._fd, termios.TCOFLUSH)
        except termios.error as error:
            raise LineError(self._path, _reason(error)) from error

    def close(self) -> None:
        """Let go of the port; what was written before is still sent."""
        self._serial.close()


class Backoff:
    """When a port that is away is tried again: after 0.1 s, then twice as long each time, 2 s at most."""

    def __init__(self) -> None:
        self._wait_ns = BACKOFF_FIRST_NS
        self._due_ns = 0

    def is_due(self, now_ns: int) -> bool:
        """Whether it may be tried now."""
        return now_ns >= self._due_ns

    def failed(self, now_ns: int) -> None:
        """It is away, or has just been lost: the next attempt waits, and the one after it longer."""
        self._due_ns = now_ns + self._wait_ns
        self._wait_ns = min(2 * self._wait_ns, BACKOFF_MOST_NS)

    def spoke(self) -> None:
        """The far end was heard: the waits are short again. A port that merely opens does not do that."""
        self._wait_ns = BACKOFF_FIRST_NS


def _reason(error: Exception) -> str:
    number = error.args[0] if error.args else None
    return os.strerror(number) if isinstance(number, int) else str(error)[:100]
