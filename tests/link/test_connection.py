import asyncio
import errno
import json
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.link import Connection, Message, Server
from agent.link.connection import PACKETS_PER_WAKE
from tests.link.peers import MAX_PACKET, Heard, make_server, packet, python, raw_peer
from tests.waiting import wait_until

PEER = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.connect(sys.argv[1])
sock.send(b'{"type":"hello","role":"remote"}')
sock.recv(1)
"""


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
async def server(tmp_path: Path, heard: Heard) -> AsyncIterator[Server]:
    server = make_server(tmp_path / "s", heard)
    server.start()
    yield server
    server.close()


@pytest.fixture
def peer(server: Server) -> Iterator[socket.socket]:
    with closing(raw_peer(server.path)) as sock:
        yield sock


async def connection_of(heard: Heard) -> Connection:
    await wait_until(lambda: heard.opened)
    return heard.opened[0]


# ---- what comes in


@pytest.mark.parametrize(
    "bad",
    [
        b"\x00",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"type":"x","v":NaN}',
        b'{"type":"x","v":' + b"[" * 2_000,
        packet(v="a" * MAX_PACKET),
        b" " * (MAX_PACKET + 1),
        b" " * (10 * MAX_PACKET),
        packet()[:-1],
        b'{"type":"hello","role":7}',
        b'{"type":"hello","role":"' + b"a" * 65 + b'"}',
    ],
)
async def test_a_bad_packet_is_dropped_and_told_and_the_connection_stays(
    heard: Heard, peer: socket.socket, bad: bytes
) -> None:
    peer.send(bad)
    peer.send(packet(n=1))
    await wait_until(lambda: heard.messages)
    assert heard.numbers() == [1]
    assert len(heard.bad) == 1
    assert f"uid {os.getuid()}" in heard.bad[0]
    assert len(heard.bad[0]) < 200
    assert heard.ended == []


async def test_a_packet_of_just_the_permitted_length_is_heard(heard: Heard, peer: socket.socket) -> None:
    longest = packet(n=1)[:-1] + b" " * (MAX_PACKET - len(packet(n=1))) + b"}"
    peer.send(longest)
    peer.send(longest + b" ")
    peer.send(packet(n=3))
    await wait_until(lambda: len(heard.messages) == 2)
    assert heard.numbers() == [1, 3]
    assert len(heard.bad) == 1


async def test_the_role_is_what_the_first_hello_said(heard: Heard, peer: socket.socket) -> None:
    connection = await connection_of(heard)
    assert connection.role == ""
    peer.send(packet(type="hello"))
    peer.send(packet(type="hello", role="monitor"))
    peer.send(packet(type="hello", role="reflex", n=1))
    peer.send(packet(type="hello", role="monitor", n=2))
    await wait_until(lambda: heard.numbers() == [2])
    assert connection.role == "monitor"
    assert [message["type"] for message in heard.messages] == ["hello"] * 3
    assert len(heard.bad) == 1
    assert "role refused" in heard.bad[0]


async def test_the_kernel_says_who_the_peer_is(heard: Heard, peer: socket.socket) -> None:
    connection = await connection_of(heard)
    assert (connection.peer_uid, connection.peer_pid) == (os.getuid(), os.getpid())
    assert f"uid={os.getuid()}" in repr(connection)


async def test_a_flood_by_one_talker_does_not_starve_another(server: Server, heard: Heard) -> None:
    with closing(raw_peer(server.path)) as flooder, closing(raw_peer(server.path)) as other:
        await wait_until(lambda: len(heard.opened) == 2)
        for number in range(4 * PACKETS_PER_WAKE):
            flooder.send(packet(n=number))
        other.send(packet(n="other"))
        await wait_until(lambda: len(heard.messages) == 4 * PACKETS_PER_WAKE + 1)
    # Both were readable before the loop turned again: at most one helping goes before the other's.
    assert heard.numbers().index("other") <= PACKETS_PER_WAKE
    numbers = heard.numbers()
    numbers.remove("other")
    assert numbers == list(range(4 * PACKETS_PER_WAKE))


async def test_a_handler_may_close_the_connection_in_the_middle_of_a_helping(
    server: Server, heard: Heard, peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = await connection_of(heard)

    def close_at_once(by: Connection, message: Message) -> None:
        heard.on_message(by, message)
        by.close()

    monkeypatch.setattr(connection, "_on_message", close_at_once)
    for number in range(3):
        peer.send(packet(n=number))
    await wait_until(lambda: connection.closed)
    assert heard.numbers() == [0]
    assert heard.ended == []
    assert server.connections == set()


# ---- the end


async def test_what_was_said_before_the_end_is_heard_first(heard: Heard, peer: socket.socket) -> None:
    total = 3 * PACKETS_PER_WAKE
    for number in range(total):
        peer.send(packet(n=number))
    peer.close()
    await wait_until(lambda: heard.ended)
    assert heard.numbers() == list(range(total))
    assert heard.ended == heard.opened
    assert heard.ended[0].closed


async def test_last_words_of_a_peer_that_never_read_are_heard(heard: Heard, peer: socket.socket) -> None:
    """The kernel reports ECONNRESET ahead of the packets that are still waiting."""
    connection = await connection_of(heard)
    assert connection.send({"type": "unread"})
    peer.send(packet(n=1))
    peer.send(packet(n=2))
    peer.close()
    await wait_until(lambda: heard.ended)
    assert heard.numbers() == [1, 2]
    assert len(heard.ended) == 1


async def test_an_empty_packet_is_the_end(heard: Heard, peer: socket.socket) -> None:
    peer.send(b"")
    await wait_until(lambda: heard.ended)
    assert peer.recv(1) == b""


async def test_the_end_of_a_killed_process_is_told_once(server: Server, heard: Heard) -> None:
    process = python(PEER, server.path)
    try:
        await wait_until(lambda: heard.messages)
        assert heard.by[0].peer_pid == process.pid
        process.send_signal(signal.SIGKILL)
        await wait_until(lambda: heard.ended)
    finally:
        process.kill()
        process.wait()
    assert heard.ended == heard.opened
    assert heard.by[0].role == "remote"
    assert server.connections == set()


async def test_send_meets_the_end_without_calling_anyone(heard: Heard, peer: socket.socket) -> None:
    connection = await connection_of(heard)
    peer.send(packet(n=1))
    peer.close()
    # The loop has not turned since: the end is in the kernel only.
    assert connection.send({"type": "x"}) is False
    assert connection.send({"type": "x"}) is False
    assert heard.ended == []
    assert not connection.closed
    await wait_until(lambda: heard.ended)
    assert heard.numbers() == [1]
    assert heard.ended == [connection]
    assert connection.send({"type": "x"}) is False


async def test_a_peer_that_only_stops_reading_for_good_is_gone(heard: Heard, peer: socket.socket) -> None:
    """Nothing wakes us for such an end; just as many packets wait as the two wake-ups before it take."""
    connection = await connection_of(heard)
    for number in range(2 * PACKETS_PER_WAKE):
        peer.send(packet(n=number))
    peer.shutdown(socket.SHUT_RD)
    assert connection.send({"type": "x"}) is False
    await wait_until(lambda: heard.ended)
    assert heard.numbers() == list(range(2 * PACKETS_PER_WAKE))
    assert heard.ended == [connection]


class FailingSocket:
    """In place of a socket: reading fails as no Unix socket is known to."""

    def __init__(self, sock: socket.socket, codes: list[int]) -> None:
        self._sock = sock
        self._codes = codes

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

    def recv_into(self, _buffer: bytearray) -> int:
        raise OSError(self._codes.pop(0), "made up")


@pytest.mark.parametrize("codes", [[errno.EIO], [errno.ECONNRESET, errno.ECONNRESET]])
async def test_an_error_that_nothing_explains_is_the_end(
    heard: Heard, peer: socket.socket, monkeypatch: pytest.MonkeyPatch, codes: list[int]
) -> None:
    connection = await connection_of(heard)
    left = list(codes)  # the parameter is one object for every run of this process
    monkeypatch.setattr(connection, "_sock", FailingSocket(connection._sock, left))
    peer.send(packet())
    await wait_until(lambda: heard.ended)
    assert heard.ended == [connection]
    assert left == []


async def test_our_own_close_is_not_told(server: Server, heard: Heard, peer: socket.socket) -> None:
    connection = await connection_of(heard)
    connection.close()
    connection.close()
    assert peer.recv(1) == b""
    await asyncio.sleep(0)
    assert heard.ended == []
    assert server.connections == set()
    assert connection.send({"type": "x"}) is False


# ---- what goes out


async def test_what_is_sent_arrives_as_one_packet(heard: Heard, peer: socket.socket) -> None:
    connection = await connection_of(heard)
    assert connection.send({"type": "state", "text": "停"})
    assert json.loads(peer.recv(MAX_PACKET)) == {"type": "state", "text": "停"}


async def test_a_peer_that_does_not_read_makes_send_false_not_slow(heard: Heard, peer: socket.socket) -> None:
    connection = await connection_of(heard)
    sent = 0
    while connection.send({"type": "x", "n": sent}):
        sent += 1
        assert sent < 100_000, "no buffer is this large"
    assert sent > 0
    assert not connection.closed
    received = [json.loads(peer.recv(MAX_PACKET))["n"] for _ in range(sent)]
    assert received == list(range(sent))
    assert connection.send({"type": "x"})
    await asyncio.sleep(0)
    assert heard.ended == []


@pytest.mark.parametrize("value", [float("nan"), object(), "a" * MAX_PACKET])
async def test_what_is_no_packet_is_not_sent_and_told_later(
    heard: Heard, peer: socket.socket, value: object
) -> None:
    connection = await connection_of(heard)
    assert connection.send({"type": "x", "v": value}) is False
    assert heard.bad == []
    await wait_until(lambda: heard.bad)
    assert "own message not sent" in heard.bad[0]
    assert connection.send({"type": "x"})


async def test_what_no_buffer_of_the_kernel_holds_is_not_sent_and_told_later(
    heard: Heard, peer: socket.socket
) -> None:
    connection = await connection_of(heard)
    connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    assert connection.send_packet(b" " * 100_000) is False
    await wait_until(lambda: heard.bad)
    assert heard.bad == ["own message not sent: EMSGSIZE"]
    assert connection.send({"type": "x"})
    assert heard.ended == []
