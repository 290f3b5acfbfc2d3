"""What a module tells its supervisor: sd_notify(3), a no-op where there is no NOTIFY_SOCKET.

Nothing here waits or raises: a supervisor that is away or slow must not touch the stop path. The watchdog
is pinged by the module after a whole turn of its loop (LinuxCNC's charge pump: whoever does the work makes
the signal, so a frozen process looks like a stop).
"""

import os
import socket
import time
from collections.abc import Mapping

_MAX_STATUS_CHARS = 256


class Notifier:
    """One process's line to systemd, or to nobody.

    `environ`: where NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID are read from (default: the process's).
    A path (`/run/...`) and an abstract name (`@...`) are understood; any other address is nobody.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._socket = _open() if self._address is not None else None
        self.watchdog_interval_s = _watchdog_interval_s(environ) if self._socket is not None else None
        """Seconds after which systemd ends a silent process (WatchdogSec); None: it does not watch."""
        self._watchdog_due_ns = 0

    def ready(self) -> bool:
        """Set-up is done and the module protects from now on."""
        return self._send("READY=1")

    def watchdog(self, now_ns: int | None = None) -> bool:
        """A whole turn of the loop is done; `now_ns` is CLOCK_MONOTONIC (default: read here).

        Sent four times per interval at most, so it may be called at every turn. True when it was sent.
        """
        if self.watchdog_interval_s is None:
            return False
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        if now_ns < self._watchdog_due_ns or not self._send("WATCHDOG=1"):
            return False
        self._watchdog_due_ns = now_ns + int(self.watchdog_interval_s * 1e9) // 4
        return True

    def stopping(self) -> bool:
        """An ordered end has begun."""
        return self._send("STOPPING=1")

    def status(self, text: str) -> bool:
        """One line for people (`systemctl status`); longer or broken text is made to fit."""
        line = " ".join(text.split())[:_MAX_STATUS_CHARS]
        return self._send("STATUS=" + line)

    def close(self) -> None:
        """Idempotent; what is told afterwards is told to nobody."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, assignment: str) -> bool:
        if self._socket is None or self._address is None:
            return False
        try:
            self._socket.sendto(assignment.encode("utf-8", "replace"), self._address)
        except OSError:  # away, full or not ours: the next turn tells again
            return False
        return True


def _address(value: str) -> bytes | None:
    """sd_notify's two address forms; a NUL in front is how Linux spells an abstract name."""
    raw = os.fsencode(value)
    if raw.startswith(b"/") and b"\0" not in raw:
        return raw
    if raw.startswith(b"@") and len(raw) > 1:
        return b"\0" + raw[1:]
    return None


def _open() -> socket.socket | None:
    try:
        return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    except OSError:
        return None


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    """WATCHDOG_USEC where it is meant for this process (WATCHDOG_PID, absent or ours) and is a number."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    if not (text.isascii() and text.isdigit()) or len(text) > 18 or int(text) == 0:
        return None
    return int(text) / 1e6
