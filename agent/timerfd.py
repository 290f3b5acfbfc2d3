"""A periodic timer as a file descriptor: timerfd_create(2) on CLOCK_MONOTONIC.

`loop.call_at` is late by up to a millisecond through epoll's rounding; a timerfd is not (DESIGN, "How each
process runs"). Python has `os.timerfd_create` from 3.13 on; we serve 3.11, so libc is called through ctypes.
"""

import ctypes
import os
import struct
import time

from agent.errors import WardenError

_NS_PER_S = 1_000_000_000
_TFD_TIMER_ABSTIME = 1


class TimerError(WardenError):
    """The kernel refused a timer. `errno`: its number."""

    def __init__(self, call: str, errno: int) -> None:
        super().__init__(f"{call}: {os.strerror(errno)}")
        self.call = call
        self.errno = errno


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class TimerFd:
    """Periodic, absolute, non-blocking and closed on exec; for `loop.add_reader(timer.fileno(), ...)`.

    Its beats stay on the grid `first_ns + n * period_ns` however late one is read: what was missed is
    counted by `read`, never made up for in a burst.
    """

    def __init__(self, period_ns: int, *, first_ns: int | None = None) -> None:
        """Starts beating.

        `period_ns`: at least 1. `first_ns`: the first beat on CLOCK_MONOTONIC, more than 0 (default: one
        period from now); one that is past makes the timer readable at once.
        Raises ValueError for a number out of range and TimerError where the kernel refuses.
        """
        first_ns = time.monotonic_ns() + period_ns if first_ns is None else first_ns
        if period_ns < 1 or first_ns < 1:
            raise ValueError(f"period_ns and first_ns must be at least 1, not {period_ns} and {first_ns}")
        self.period_ns = period_ns
        self._fd = _create()
        try:
            _arm(self._fd, first_ns, period_ns)
        except TimerError:
            self.close()
            raise

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        return self._fd

    def read(self) -> int:
        """Beats since the last read: 0 when none is due yet, 1 in time, more when late."""
        try:
            return int(struct.unpack("=Q", os.read(self._fd, 8))[0])
        except BlockingIOError:
            return 0

    def close(self) -> None:
        """Idempotent; take it out of the loop before."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _create() -> int:
    # TFD_NONBLOCK and TFD_CLOEXEC are defined as these two.
    return _checked("timerfd_create", time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)


def _arm(fd: int, first_ns: int, period_ns: int) -> None:
    setting = _Itimerspec(_Timespec(*divmod(period_ns, _NS_PER_S)), _Timespec(*divmod(first_ns, _NS_PER_S)))
    _checked("timerfd_settime", fd, _TFD_TIMER_ABSTIME, ctypes.byref(setting), None)


def _checked(call: str, *arguments: object) -> int:
    result: int = getattr(ctypes.CDLL(None, use_errno=True), call)(*arguments)
    if result < 0:
        raise TimerError(call, ctypes.get_errno())
    return result
