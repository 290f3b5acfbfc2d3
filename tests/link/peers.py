"""What the link's tests share: a server that writes down what it hears, and peers that misbehave."""

import asyncio
import json
import os
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from agent.link import Client, Connection, Message, Server

MY_UID = frozenset({os.getuid()})
OTHER_UID = frozenset({os.getuid() + 1})
MAX_PACKET = 4_096


@dataclass
class Heard:
    """Everything the handlers were called with, in order."""

    messages: list[Message] = field(default_factory=list)
    by: list[Connection] = field(default_factory=list)
    opened: list[Connection] = field(default_factory=list)
    ended: list[Connection] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)

    def on_message(self, connection: Connection, message: Message) -> None:
        self.messages.append(message)
        self.by.append(connection)

    def numbers(self) -> list[object]:
        return [message["n"] for message in self.messages if "n" in message]


def make_server(
    path: Path, heard: Heard, *, allowed_uids: frozenset[int] = MY_UID, max_connections: int = 16
) -> Server:
    return Server(
        asyncio.get_running_loop(),
        path,
        allowed_uids=allowed_uids,
        mode=0o660,
        max_packet=MAX_PACKET,
        on_open=heard.opened.append,
        on_message=heard.on_message,
        on_end=heard.ended.append,
        on_bad=heard.bad.append,
        max_connections=max_connections,
    )


def make_client(
    path: Path,
    heard: Heard,
    *,
    allowed_uids: frozenset[int] = MY_UID,
    retry_ms: tuple[int, int] = (1, 8),
) -> Client:
    return Client(
        asyncio.get_running_loop(),
        path,
        hello={"role": "remote", "boot": "00" * 16},
        allowed_uids=allowed_uids,
        on_open=heard.opened.append,
        on_message=heard.on_message,
        on_end=heard.ended.append,
        on_bad=heard.bad.append,
        retry_ms=retry_ms,
        max_packet=MAX_PACKET,
    )


def raw_peer(path: Path) -> socket.socket:
    """A socket of this process that may send whatever it likes; no call on it waits longer than 10 s."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Not settimeout: that polls first, and poll calls a Unix socket writable up to a quarter full only.
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", 10, 0))
    sock.connect(str(path))
    return sock


def python(program: str, *arguments: object) -> "subprocess.Popen[bytes]":
    """A Python process running that program text."""
    return subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)])


def packet(**fields: object) -> bytes:
    return json.dumps({"type": "x", **fields}).encode()
