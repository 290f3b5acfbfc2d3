"""Edges of modem lines as something that a loop can watch.

The kernel tells of an edge only to a call that blocks (TIOCMIWAIT), so one thread blocks in it. It decides
nothing and reads nothing: it writes one byte into a pipe, and the loop looks at the lines itself. The lines
are looked at on every tick anyway; where this thread cannot be had, or ends, an edge is seen up to a tick
later and nothing else changes.
"""

import os
import threading
from typing import Final

from drivers.serial_contact.lines import Waiter
from drivers.serial_line import LineError

_STACK_BYTES: Final = 1 << 17
"""Stack of the thread: the default of 8 MiB would be locked into memory whole."""


class Edges:
    """One thread on one port.

    After each edge it waits until `again`: contacts that chatter cost one look per tick and not the loop.
    """

    def __init__(self, waiter: Waiter) -> None:
        """`waiter` becomes the thread's own. Raises OSError or RuntimeError where there is no room."""
        self._waiter = waiter
        self._again = threading.Event()
        self._ended = self._done = False
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # A daemon: nothing but an edge or a hang-up ends the call that it blocks in, so nobody can wait for
        # it.
        self._thread = threading.Thread(target=self._run, name="edges", daemon=True)
        try:
            self._start()
        except RuntimeError:
            os.close(self._reader)
            os.close(self._writer)
            raise

    def fileno(self) -> int:
        """Readable after an edge, and when the thread has ended."""
        return self._reader

    def take(self) -> bool:
        """Whether the thread goes on; to be called when readable."""
        try:
            return bool(os.read(self._reader, 1))
        except BlockingIOError:
            return True

    def again(self) -> None:
        """The next edge may be told."""
        self._again.set()

    def close(self) -> None:
        """Let go; idempotent. The thread ends by itself: now, or with the next edge or the port."""
        if self._ended:
            return
        self._ended = True
        self._again.set()
        os.close(self._reader)

    @property
    def lingers(self) -> bool:
        """Whether the thread still waits, or has something left to tell."""
        return not self._done

    def _start(self) -> None:
        before = threading.stack_size(_STACK_BYTES)
        try:
            self._thread.start()
        finally:
            threading.stack_size(before)

    def _run(self) -> None:
        try:
            while not self._ended:
                self._waiter.wait()
                os.write(self._writer, b"\0")
                self._again.wait()
                self._again.clear()
        except (LineError, OSError):
            # No edges to be had here, the port has hung up, or nobody reads the pipe: the end of it tells.
            return
        finally:
            self._waiter.close()
            self._done = True
            os.close(self._writer)
