"""One end of one link, and the few things that server and client share."""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from agent.link.packets import LinkError, Message, PacketError, decode_packet, encode_packet

MAX_PATH = 107
"""Bytes of a Unix socket's path: `sun_path` less its final zero (unix(7))."""
PACKETS_PER_WAKE = 32
"""Packets taken from one connection in one turn of the loop, and connections accepted likewise."""

OnBad = Callable[[str], None]


def check_path(path: Path) -> None:
    """Raises LinkError for a path that no Unix socket can have."""
    if len(os.fsencode(path)) > MAX_PATH:
        raise LinkError(path, f"longer than {MAX_PATH} bytes, the limit of a Unix socket's path")


def new_socket() -> socket.socket:
    """Non-blocking SOCK_SEQPACKET."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    return sock


def peer(sock: socket.socket) -> tuple[int, int]:
    """(uid, pid) as the kernel noted them at connect (listen, for the server's); SO_PEERCRED, unix(7)."""
    pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid, pid


class Connection:
    """One end of one link; made by `Server` and `Client` only.

    `role`: what the peer called itself in its first `hello`, "" until then; it cannot be changed later.
    `peer_uid`, `peer_pid`: from the kernel. `closed`: True once the end was seen or `close` was called.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        *,
        buffer: bytearray,
        on_message: Callable[["Connection", Message], None],
        on_gone: Callable[["Connection", bool], None],
        on_bad: OnBad,
    ) -> None:
        """`buffer`: one byte longer than the longest packet (so that a longer one shows), may be shared.

        `on_gone(connection, by_peer)`: called once, when the end is seen (True) or made by us (False).
        """
        self.role = ""
        self.peer_uid, self.peer_pid = peer(sock)
        self.closed = False
        self.packet_bytes = 0
        """Of the packet that is being handled."""
        self._loop = loop
        self._sock = sock
        self._buffer = buffer
        self._max_packet = len(buffer) - 1
        self._on_message = on_message
        self._on_gone = on_gone
        self._on_bad = on_bad
        self._broken = False
        loop.add_reader(sock.fileno(), self._readable)

    def __repr__(self) -> str:
        return f"<Connection role={self.role!r} uid={self.peer_uid} pid={self.peer_pid} closed={self.closed}>"

    def send(self, message: Mapping[str, object]) -> bool:
        """True: the kernel has the whole packet. False: closed, or would block, or cannot be a packet.

        Never blocks, raises or calls a handler. When it meets the peer's end, the handler hears of it on the
        loop's next turn (after what the peer still had to say), so the caller is never re-entered.
        """
        try:
            packet = encode_packet(message, self._max_packet)
        except PacketError as error:
            self._loop.call_soon(self._on_bad, f"own message not sent: {error.reason}")
            return False
        return self.send_packet(packet)

    def send_packet(self, packet: bytes) -> bool:
        """As `send`, of a packet that `encode_packet` made."""
        if self.closed or self._broken:
            return False
        try:
            self._sock.send(packet)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            return self._send_failed(error)
        return True

    def _send_failed(self, error: OSError) -> bool:
        # ENOBUFS and ENOMEM pass; EMSGSIZE is one packet against one socket buffer. The rest is the end.
        if error.errno in (errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE):
            self._loop.call_soon(self._on_bad, f"own message not sent: {errno.errorcode[error.errno]}")
            return False
        self._broken = True
        self._loop.call_soon(self._readable)
        return False

    def close(self) -> None:
        """Ends the connection from our side; idempotent; `on_end` is not called for it."""
        self._finish(by_peer=False)

    def _finish(self, *, by_peer: bool) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        self._on_gone(self, by_peer)

    def _readable(self) -> None:
        for _ in range(PACKETS_PER_WAKE):
            if self.closed or not self._take_one():
                return
        if self._broken:  # a peer that only shut its reading side makes no further wake-up
            self._loop.call_soon(self._readable)

    def _take_one(self) -> bool:
        """Takes one packet; False when there is none now (or none ever again)."""
        try:
            size = self._sock.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            if self._broken:
                self._finish(by_peer=True)
            return False
        except OSError as error:
            # The peer ended with packets of ours unread. The kernel tells this once, ahead of what the
            # peer had sent before; those packets and then the ordinary end are still to be read.
            if error.errno == errno.ECONNRESET and not self._broken:
                self._broken = True
                return True
            size = 0
        if size == 0:  # the end; an empty packet looks the same and is no message either
            self._finish(by_peer=True)
            return False
        self.packet_bytes = size
        self._heard(memoryview(self._buffer)[:size])
        return True

    def _heard(self, packet: memoryview) -> None:
        try:
            message = decode_packet(packet, self._max_packet)
        except PacketError as error:
            self._on_bad(f"packet from {self.role or 'unknown'} (uid {self.peer_uid}): {error.reason}")
            return
        if message["type"] == "hello" and not self._named(message):
            return
        self._on_message(self, message)

    def _named(self, hello: Message) -> bool:
        role = hello.get("role", "")
        if not isinstance(role, str) or len(role) > 64 or (self.role and role != self.role):
            self._on_bad(f"hello from {self.role or 'unknown'} (uid {self.peer_uid}): role refused")
            return False
        self.role = role
        return True
