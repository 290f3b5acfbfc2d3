"""The connecting end: comes back by itself, with bounded back-off."""

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.link.connection import Connection, OnBad, check_path, new_socket, peer
from agent.link.packets import MAX_MODULE_PACKET, Message


class Client:
    """Keeps one connection to a server's path, and comes back by itself when it ends."""

    def __init__(  # noqa: PLR0913 - all by keyword, and each is one decision of the module's
        self,
        loop: asyncio.AbstractEventLoop,
        path: Path,
        *,
        hello: Mapping[str, object],
        allowed_uids: frozenset[int],
        on_open: Callable[[Connection], None],
        on_message: Callable[[Connection, Message], None],
        on_end: Callable[[Connection], None],
        on_bad: OnBad,
        retry_ms: tuple[int, int] = (50, 1000),
        max_packet: int = MAX_MODULE_PACKET,
    ) -> None:
        """`hello`: sent first on every connection, before `on_open`. `retry_ms`: first and longest wait."""
        self.path = path
        self.connection: Connection | None = None
        self._loop = loop
        self._hello = {"type": "hello", **hello}
        self._allowed_uids = allowed_uids
        self._on_open = on_open
        self._on_message = on_message
        self._on_end = on_end
        self._on_bad = on_bad
        self._first_s, self._longest_s = (wait_ms / 1000 for wait_ms in retry_ms)
        self._wait_s = self._first_s
        self._buffer = bytearray(max_packet + 1)
        self._retry: asyncio.Handle | None = None
        self._started = False

    @property
    def connected(self) -> bool:
        """True between `on_open` and the end."""
        return self.connection is not None

    def start(self) -> None:
        """First attempt on the loop's next turn; raises LinkError when the path can never work."""
        check_path(self.path)
        if not self._started:
            self._started = True
            self._retry = self._loop.call_soon(self._attempt)

    def send(self, message: Mapping[str, object]) -> bool:
        """As `Connection.send`; False while not connected."""
        return self.connection is not None and self.connection.send(message)

    def close(self) -> None:
        """Ends the connection without `on_end`, and does not come back; idempotent."""
        self._started = False
        if self._retry is not None:
            self._retry.cancel()
        if self.connection is not None:
            self.connection.close()

    def _attempt(self) -> None:
        sock = self._reach()
        if sock is None:
            self._retry_later()
            return
        self.connection = Connection(
            self._loop,
            sock,
            buffer=self._buffer,
            on_message=self._heard,
            on_gone=self._gone,
            on_bad=self._on_bad,
        )
        self.connection.send(self._hello)
        self._on_open(self.connection)

    def _reach(self) -> socket.socket | None:
        """A connected socket whose server runs as an allowed user, or None."""
        sock = new_socket()
        try:
            sock.connect(os.fspath(self.path))
        except OSError:  # nobody listens, or its queue is full: on a Unix socket both are told at once
            sock.close()
            return None
        uid, pid = peer(sock)
        if uid not in self._allowed_uids:
            sock.close()
            self._on_bad(f"server refused: uid {uid} (pid {pid}) is not allowed")
            return None
        return sock

    def _retry_later(self) -> None:
        self._retry = self._loop.call_later(self._wait_s, self._attempt)
        self._wait_s = min(2 * self._wait_s, self._longest_s)

    def _heard(self, connection: Connection, message: Message) -> None:
        # Only a server that speaks resets the wait: one that accepts and hangs up must not be hammered.
        self._wait_s = self._first_s
        self._on_message(connection, message)

    def _gone(self, connection: Connection, by_peer: bool) -> None:
        self.connection = None
        if self._started:
            self._retry_later()
        if by_peer:
            self._on_end(connection)
