"""The connection itself: a real daemon at the far end, and things that are none."""

import asyncio
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivers.adapters import bus as bus_module
from drivers.adapters.bus import LOST, MAX_MESSAGE, Bus, Call, Reply
from tests.descriptors import open_descriptors
from tests.drivers.adapters.buses import Daemon, daemon
from tests.waiting import wait_until

DBUS = "org.freedesktop.DBus"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon(tmp_path_factory.mktemp("bus")) as running:
        yield running


class Client:
    """A connection and what was heard of it."""

    def __init__(self, path: Path) -> None:
        self.ends: list[str] = []
        self.readies = 0
        self.replies: list[Reply] = []
        self.bus = Bus(asyncio.get_running_loop(), str(path), on_ready=self._ready, on_end=self.ends.append)

    def _ready(self) -> None:
        self.readies += 1

    async def ready(self) -> "Client":
        assert self.bus.open() == ""
        await wait_until(lambda: self.bus.ready)
        return self

    def ask(self, member: str, signature: str = "", *body: object) -> int:
        return self.bus.call(
            Call(DBUS, "/org/freedesktop/DBus", DBUS, member, signature, body), self.replies.append
        )


async def test_a_real_daemon_answers(real: Daemon) -> None:
    client = await Client(real.path).ready()
    client.ask("GetId")
    client.ask("GetConnectionUnixUser", "s", DBUS)
    client.ask("NameHasOwner", "s", "org.example.Nobody")
    client.ask("NoSuchMethod")
    await wait_until(lambda: len(client.replies) == 4)
    identity, user, owned, refused = client.replies
    assert (identity.error, len(identity.body[0])) == ("", 32)
    assert user.body == (os.geteuid(),)
    assert owned == Reply("", (False,))
    assert refused.error == "org.freedesktop.DBus.Error.UnknownMethod"
    client.bus.close()
    assert (client.readies, client.ends) == (1, [])


async def test_what_is_forgotten_is_not_heard(real: Daemon) -> None:
    client = await Client(real.path).ready()
    client.bus.forget(client.ask("GetId"))
    client.ask("GetId")
    await wait_until(lambda: client.replies)
    assert len(client.replies) == 1
    client.bus.close()


async def test_closing_is_idempotent_and_silent(real: Daemon) -> None:
    before = open_descriptors()
    client = await Client(real.path).ready()
    assert client.bus._socket is not None
    descriptor = client.bus._socket.fileno()
    client.ask("GetId")
    client.bus.close()
    client.bus.close()
    assert (client.ends, client.replies, client.bus.ready) == ([], [], False)
    assert open_descriptors() == before
    assert (client.bus._calls, client.bus._unsent) == ({}, bytearray())
    assert not asyncio.get_running_loop().remove_reader(descriptor)


async def test_a_daemon_that_dies_is_seen_by_all_who_wait(tmp_path: Path) -> None:
    with daemon(tmp_path) as running:
        client = await Client(running.path).ready()
        client.ask("GetId")
        running.stop()
        await wait_until(lambda: client.ends)
    assert len(client.ends) == 1
    assert [reply.error for reply in client.replies] in ([""], [LOST])
    assert not client.bus.ready


@pytest.mark.parametrize("make", ["nothing", "file", "datagram"])
async def test_where_no_bus_is(tmp_path: Path, make: str) -> None:
    path = tmp_path / "bus"
    before = open_descriptors()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        if make == "file":
            path.touch()
        elif make == "datagram":
            other.bind(str(path))
        client = Client(path)
        assert client.bus.open().startswith(f"{path}: ")
    assert open_descriptors() == before


async def test_before_it_is_ready_a_call_is_lost(real: Daemon) -> None:
    client = Client(real.path)
    client.ask("GetId")
    assert client.replies == [Reply(LOST, ())]


async def test_too_many_calls_end_it(real: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "MAX_CALLS", 3)
    client = await Client(real.path).ready()
    for _ in range(4):
        client.ask("GetId")
    assert [reply.error for reply in client.replies] == [LOST] * 4
    assert client.ends == ["too many calls without a reply"]


# -------------------------------------------------------------------------------- not a bus, or a hostile one


class Impostor:
    """Listens where the bus should be, and is driven by hand."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._peer: socket.socket | None = None

    @property
    def peer(self) -> socket.socket:
        if self._peer is None:
            self._peer, _ = self._listener.accept()
            self._peer.setblocking(False)
        return self._peer

    async def heard(self, words: bytes) -> None:
        heard = bytearray()

        def read() -> bool:
            with suppress(BlockingIOError):
                heard.extend(self.peer.recv(4096))
            return words in heard

        await wait_until(read)

    async def greet(self) -> None:
        """As a bus does, up to the client's Hello."""
        await self.heard(b"AUTH EXTERNAL")
        self.peer.send(b"OK 0123456789abcdef0123456789abcdef\r\n")
        await self.heard(b"Hello")

    def answer(self, serial: int) -> None:
        """An empty answer to the call of that number."""
        fields = bytes([5, 1, ord("u"), 0]) + struct.pack("<I", serial)
        self.peer.send(fixed_header(0, len(fields)) + fields)

    def close(self) -> None:
        for each in (self._listener, self._peer):
            if each is not None:
                each.close()


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[Impostor]:
    found = Impostor(tmp_path / "bus")
    yield found
    found.close()


@pytest.mark.parametrize(
    "words", [b"REJECTED EXTERNAL\r\n", b"HTTP/1.1 400\r\n", b"\xff" * 9000, b"OK x\r\nmore"]
)
async def test_one_that_does_not_let_us_in(tmp_path: Path, impostor: Impostor, words: bytes) -> None:
    client = Client(tmp_path / "bus")
    assert client.bus.open() == ""
    impostor.peer.send(words)
    await wait_until(lambda: client.ends)
    assert client.ends == ["the bus refused this user, or is none"]


async def test_one_that_hangs_up(tmp_path: Path, impostor: Impostor) -> None:
    client = Client(tmp_path / "bus")
    client.bus.open()
    await impostor.heard(b"AUTH EXTERNAL")
    impostor.peer.close()
    await wait_until(lambda: client.ends)
    assert client.ends == ["the bus closed the connection"]


def fixed_header(body: int, fields: int, *, kind: int = 2) -> bytes:
    return struct.pack("<cBBBIII", b"l", kind, 0, 1, body, 1, fields)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (fixed_header(MAX_MESSAGE + 8, 0), "the bus began a message of more than"),
        (fixed_header(0, 0xFFFFFFF0), "the bus began a message of more than"),
        (b"x" * 64, "the bus sent what is no message"),
        (fixed_header(0, 8, kind=9) + bytes(8), "the bus sent what is no message"),
        (
            fixed_header(4, 8) + b"\x08\x01g\x00\x01s\x00\x00" + b"\xff\xff\xff\x7f",
            "the bus sent what is no message",
        ),
    ],
)
async def test_what_is_no_message_ends_it(
    tmp_path: Path, impostor: Impostor, content: bytes, reason: str
) -> None:
    client = Client(tmp_path / "bus")
    client.bus.open()
    await impostor.greet()
    impostor.peer.send(content)
    await wait_until(lambda: client.ends)
    assert client.ends[0].startswith(reason)
    assert not client.bus.ready


async def test_one_that_gives_us_no_name(tmp_path: Path, impostor: Impostor) -> None:
    client = Client(tmp_path / "bus")
    client.bus.open()
    await impostor.greet()
    name = b"org.example.No"
    fields = bytes([5, 1, ord("u"), 0]) + struct.pack("<I", 1)
    fields += bytes([4, 1, ord("s"), 0]) + struct.pack("<I", len(name)) + name + b"\0"
    impostor.peer.send(fixed_header(0, len(fields), kind=3) + fields + bytes(-len(fields) % 8))
    await wait_until(lambda: client.ends)
    assert client.ends == ["the bus gave no name: org.example.No"]
    assert client.readies == 0


async def test_a_message_that_answers_nobody_is_dropped(tmp_path: Path, impostor: Impostor) -> None:
    client = Client(tmp_path / "bus")
    client.bus.open()
    await impostor.greet()
    impostor.answer(4711)
    impostor.peer.send(fixed_header(0, 0))
    impostor.peer.close()
    await wait_until(lambda: client.ends)
    assert client.ends == ["the bus closed the connection"]
    assert client.replies == []


async def test_a_bus_that_takes_nothing_is_left(
    tmp_path: Path, impostor: Impostor, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(tmp_path / "bus")
    client.bus.open()
    await impostor.greet()
    impostor.answer(1)
    await wait_until(lambda: client.bus.ready)
    monkeypatch.setattr(bus_module, "MAX_CALLS", 10**9)
    calls = 0
    while not client.ends:
        client.ask("GetId", "s", "x" * 5000)
        calls += 1
        assert calls < 10_000
    assert client.ends == ["the bus takes nothing any more"]
    assert [reply.error for reply in client.replies] == [LOST] * calls


async def test_what_the_bus_does_not_take_at_once_is_sent_later(tmp_path: Path, impostor: Impostor) -> None:
    client = Client(tmp_path / "bus")
    client.bus.open()
    await impostor.greet()
    impostor.answer(1)
    await wait_until(lambda: client.bus.ready)
    calls = 0
    while len(client.bus._unsent) < 20_000:
        client.ask("GetId", "s", f"{calls:05}" + "x" * 5000)
        calls += 1
    await impostor.heard(f"{calls - 1:05}".encode() + b"x" * 5000)
    assert not client.bus._unsent
    assert client.ends == []
    client.bus.close()


async def test_a_bus_that_has_hung_up_is_seen_when_it_is_called(tmp_path: Path, impostor: Impostor) -> None:
    client = Client(tmp_path / "bus")
    client.bus.open()
    await impostor.greet()
    impostor.answer(1)
    await wait_until(lambda: client.bus.ready)
    impostor.peer.close()
    client.ask("GetId")
    assert (client.ends, client.replies) == (["Broken pipe"], [Reply(LOST, ())])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(min_size=1, max_size=300))
def test_any_bytes_end_in_an_answer_or_an_end_and_never_in_an_error(content: bytes) -> None:
    """Straight into the parser, as after the greeting: nothing is raised and little is kept."""

    async def feed() -> None:
        ends: list[str] = []
        bus = Bus(asyncio.get_running_loop(), "/nowhere", on_ready=lambda: None, on_end=ends.append)
        bus._take(content)
        assert len(ends) <= 1

    asyncio.run(feed())
