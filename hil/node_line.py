"""The node's end of its serial line: a pseudo-terminal behind a symlink that can be unplugged.

A real UART sends into the air when nobody has the port open. A pseudo-terminal would instead keep up
to 20 kB of old frames for whoever opens it next, so nothing is written while the far end hangs up.
"""

import os
import pty
import select
import termios
import tty
from enum import Enum
from pathlib import Path

READ_SIZE = 4096


class Sent(Enum):
    """What became of bytes given to the line."""

    GONE = "sent"
    """Handed to the kernel whole."""
    UNHEARD = "unheard"
    """Nobody has the port open, or the cable is out."""
    DROPPED = "dropped"
    """The reader is so far behind that the kernel took only part of it, or nothing."""


class Line:
    """Never blocks: what cannot be sent now is lost, as on a wire."""

    def __init__(self, link: Path) -> None:
        """`link`: the port's name for the agent, a symlink made by `plug`."""
        self._link = link
        self._master: int | None = None
        self._hangup = select.poll()
        self._torn = False
        self._unread = False

    @property
    def plugged(self) -> bool:
        """True while the cable is in."""
        return self._master is not None

    def plug(self) -> None:
        """A new raw pseudo-terminal under the symlink; nothing when it is in already. Raises OSError."""
        if self._master is not None:
            return
        master, slave = pty.openpty()
        try:
            # Raw also means no echo: the node must not hear its own frames.
            tty.setraw(slave)
            os.set_blocking(master, False)
            self._name = os.ttyname(slave)
            self._point(self._name)
        except OSError:
            os.close(master)
            raise
        finally:
            os.close(slave)
        self._hangup.register(master, 0)
        self._master, self._torn, self._unread = master, False, False

    def unplug(self) -> None:
        """Whoever has the port open reads its end; the name is gone until `plug`."""
        if self._master is None:
            return
        if self._link.is_symlink() and str(self._link.readlink()) == self._name:
            self._link.unlink()
        self._hangup.unregister(self._master)
        os.close(self._master)
        self._master = None

    def listening(self) -> int | None:
        """The descriptor to wait on; None while nobody has the port open (it would be readable forever)."""
        return None if self._hangup.poll(0) else self._master

    def send(self, data: bytes) -> Sent:
        """Hands `data` to the kernel now or loses it."""
        master = self.listening()
        if master is None:
            self._forget()
            return Sent.UNHEARD
        self._unread = True
        if self._torn:
            # Ends the frame of which only a part went out, so that it does not spoil this one as well.
            data = b"\0" + data
        try:
            self._torn = os.write(master, data) < len(data)
        except BlockingIOError:
            return Sent.DROPPED
        return Sent.DROPPED if self._torn else Sent.GONE

    def receive(self) -> bytes:
        """What has come since; empty when there is nothing, or when the far end has closed."""
        if self._master is None:
            return b""
        try:
            return os.read(self._master, READ_SIZE)
        except OSError:
            # EAGAIN: nothing there. EIO: the agent has closed the port; what it wrote last was read before.
            return b""

    def _forget(self) -> None:
        """Throws away what the last reader left unread: a port that is closed keeps nothing."""
        if self._master is None or not self._unread:
            return
        # From the master's side only half of the kernel's buffers can be emptied.
        try:
            slave = os.open(self._name, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            return  # somebody has it open after all, for himself alone (TIOCEXCL)
        termios.tcflush(slave, termios.TCIFLUSH)
        os.close(slave)
        self._torn, self._unread = False, False

    def _point(self, target: str) -> None:
        """Replaces the symlink in one step, so that an agent never finds half a change."""
        if os.path.lexists(self._link) and not self._link.is_symlink():
            raise FileExistsError(f"{self._link} exists and is not a symlink")
        fresh = self._link.with_name(f".{self._link.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(self._link)
