"""The listening end: who may come in, how many, and what to do with a socket file left behind."""

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

from agent.link.connection import PACKETS_PER_WAKE, Connection, OnBad, check_path, new_socket, peer
from agent.link.packets import LinkError, Message

ACCEPT_PAUSE_S = 0.1
"""With no descriptor left, accept fails and the socket stays readable: pause instead of spinning."""


class Server:
    """Listens on one path and keeps up to `max_connections` connections."""

    def __init__(  # noqa: PLR0913 - all by keyword, and each is one decision of the module's
        self,
        loop: asyncio.AbstractEventLoop,
        path: Path,
        *,
        allowed_uids: frozenset[int],
        mode: int,
        max_packet: int,
        on_message: Callable[[Connection, Message], None],
        on_end: Callable[[Connection], None],
        on_bad: OnBad,
        on_open: Callable[[Connection], None] | None = None,
        max_connections: int = 16,
    ) -> None:
        """`mode`: permission bits of the socket file from its first moment, e.g. 0o660."""
        self.path = path
        self.connections: set[Connection] = set()
        self._loop = loop
        self._allowed_uids = allowed_uids
        self._mode = mode
        self._buffer = bytearray(max_packet + 1)
        self._on_message = on_message
        self._on_end = on_end
        self._on_bad = on_bad
        self._on_open = on_open
        self._max_connections = max_connections
        self._sock: socket.socket | None = None
        self._inode = (0, 0)
        self._pause: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Binds and listens; raises LinkError naming the path and what stands in the way."""
        check_path(self.path)
        _remove_stale(self.path)
        sock = new_socket()
        try:
            _bind(sock, self.path, self._mode)
            self._inode = _inode(self.path)
            sock.listen(self._max_connections)
        except OSError as error:
            sock.close()
            raise LinkError(self.path, f"cannot listen: {error.strerror}") from error
        self._sock = sock
        self._loop.add_reader(sock.fileno(), self._acceptable)

    def close(self) -> None:
        """Ends every connection (`on_end` is not called) and removes the socket file; idempotent."""
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._loop.remove_reader(sock.fileno())
        if self._pause is not None:
            self._pause.cancel()
        if _inode(self.path) == self._inode:  # not a successor's
            self.path.unlink(missing_ok=True)
        sock.close()
        for connection in tuple(self.connections):
            connection.close()

    def _acceptable(self) -> None:
        for _ in range(PACKETS_PER_WAKE):
            if self._sock is None or not self._accept_one(self._sock):
                return

    def _accept_one(self, listener: socket.socket) -> bool:
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            self._on_bad(f"cannot accept: {error.strerror}")
            self._pause_accepting(listener)
            return False
        sock.setblocking(False)
        self._admit(sock)
        return True

    def _pause_accepting(self, listener: socket.socket) -> None:
        self._loop.remove_reader(listener.fileno())
        self._pause = self._loop.call_later(ACCEPT_PAUSE_S, self._resume_accepting)

    def _resume_accepting(self) -> None:
        if self._sock is not None:
            self._loop.add_reader(self._sock.fileno(), self._acceptable)

    def _admit(self, sock: socket.socket) -> None:
        uid, pid = peer(sock)
        if uid not in self._allowed_uids:
            sock.close()
            self._on_bad(f"connection refused: uid {uid} (pid {pid}) is not allowed")
            return
        if len(self.connections) >= self._max_connections:
            sock.close()
            self._on_bad(f"connection refused: more than {self._max_connections}")
            return
        connection = Connection(
            self._loop,
            sock,
            buffer=self._buffer,
            on_message=self._on_message,
            on_gone=self._gone,
            on_bad=self._on_bad,
        )
        self.connections.add(connection)
        if self._on_open is not None:
            self._on_open(connection)

    def _gone(self, connection: Connection, by_peer: bool) -> None:
        self.connections.discard(connection)
        if by_peer:
            self._on_end(connection)


def _inode(path: Path) -> tuple[int, int]:
    try:
        found = path.lstat()
    except OSError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def _bind(sock: socket.socket, path: Path, mode: int) -> None:
    """With the umask set, the file has its mode from the beginning: no moment in which others get in."""
    before = os.umask(0o777 & ~mode)
    try:
        sock.bind(os.fspath(path))
    finally:
        os.umask(before)


def _remove_stale(path: Path) -> None:
    """Removes a socket file that a killed process left; raises LinkError for anything else."""
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise LinkError(path, f"cannot be looked at: {error.strerror}") from error
    if not stat.S_ISSOCK(kind):
        raise LinkError(path, "exists and is not a socket")
    _check_nobody_listens(path)
    path.unlink(missing_ok=True)


def _check_nobody_listens(path: Path) -> None:
    with new_socket() as probe:
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except BlockingIOError:  # its queue is full: it is alive and busy
            pass
        except OSError as error:
            raise LinkError(path, f"is in use or not ours: {error.strerror}") from error
    raise LinkError(path, "another process listens here")
