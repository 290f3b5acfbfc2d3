import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from agent.link import LinkError
from agent.link.connection import MAX_PATH, PACKETS_PER_WAKE
from tests.link.peers import OTHER_UID, Heard, make_server, packet, python, raw_peer
from tests.waiting import wait_until

LEAVER = """
import socket, sys, os
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.bind(sys.argv[1])
sock.listen()
os._exit(0)
"""


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Every descriptor number below the limit is in use; the limit comes back afterwards."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as fillers:
        highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
        try:
            while True:
                fillers.callback(os.close, os.dup(0))
        except OSError:
            pass
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ---- who may come in


async def test_another_uid_is_cut_off_and_counted(tmp_path: Path) -> None:
    heard = Heard()
    server = make_server(tmp_path / "s", heard, allowed_uids=OTHER_UID)
    server.start()
    with closing(raw_peer(server.path)) as peer:
        await wait_until(lambda: heard.bad)
        assert peer.recv(1) == b""
    server.close()
    assert f"uid {os.getuid()} (pid {os.getpid()}) is not allowed" in heard.bad[0]
    assert (heard.opened, heard.messages, heard.ended) == ([], [], [])


async def test_one_connection_too_many_is_cut_off_and_the_others_stay(tmp_path: Path) -> None:
    heard = Heard()
    server = make_server(tmp_path / "s", heard, max_connections=2)
    server.start()
    with ExitStack() as peers:
        first, second, third = (peers.enter_context(closing(raw_peer(server.path))) for _ in range(3))
        await wait_until(lambda: heard.bad)
        assert third.recv(1) == b""
        assert heard.bad == ["connection refused: more than 2"]
        first.send(packet(n=1))
        second.send(packet(n=2))
        await wait_until(lambda: len(heard.messages) == 2)
        second.close()
        await wait_until(lambda: heard.ended)
        fourth = peers.enter_context(closing(raw_peer(server.path)))
        fourth.send(packet(n=4))
        await wait_until(lambda: 4 in heard.numbers())
    server.close()


async def test_more_callers_at_once_than_one_turn_takes(tmp_path: Path) -> None:
    heard = Heard()
    callers = PACKETS_PER_WAKE + 5
    server = make_server(tmp_path / "s", heard, max_connections=callers)
    server.start()
    with ExitStack() as peers:
        for _ in range(callers):
            peers.enter_context(closing(raw_peer(server.path)))
        await wait_until(lambda: len(heard.opened) == callers)
    server.close()


async def test_without_a_descriptor_left_accepting_pauses_and_goes_on(tmp_path: Path) -> None:
    heard = Heard()
    server = make_server(tmp_path / "s", heard)
    server.start()
    with closing(raw_peer(server.path)) as peer:
        with no_more_descriptors():
            await wait_until(lambda: heard.bad)
            assert heard.bad == [f"cannot accept: {os.strerror(24)}"]
        peer.send(packet(n=1))
        await wait_until(lambda: heard.messages)
    server.close()


async def test_closing_while_accepting_is_paused(tmp_path: Path) -> None:
    heard = Heard()
    server = make_server(tmp_path / "s", heard)
    server.start()
    with closing(raw_peer(server.path)):
        with no_more_descriptors():
            await wait_until(lambda: heard.bad)
        server.close()
        server._resume_accepting()
    assert heard.opened == []


# ---- the socket file


@pytest.mark.parametrize("umask", [0o000, 0o077])
async def test_the_file_has_its_mode_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    server = make_server(tmp_path / "s", Heard())
    before = os.umask(umask)
    try:
        server.start()
        assert os.umask(umask) == umask, "the umask was not put back"
    finally:
        os.umask(before)
    assert server.path.stat().st_mode & 0o7777 == 0o660
    server.close()
    assert not server.path.exists()


async def test_the_file_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert python(LEAVER, path).wait() == 0
    assert path.is_socket()
    heard = Heard()
    server = make_server(path, heard)
    server.start()
    with closing(raw_peer(path)) as peer:
        peer.send(packet(n=1))
        await wait_until(lambda: heard.messages)
    server.close()


async def test_a_living_server_is_left_alone(tmp_path: Path) -> None:
    heard = Heard()
    first = make_server(tmp_path / "s", heard)
    first.start()
    with pytest.raises(LinkError, match="another process listens here") as caught:
        make_server(tmp_path / "s", Heard()).start()
    assert caught.value.path == tmp_path / "s"
    with closing(raw_peer(first.path)) as peer:
        peer.send(packet(n=1))
        await wait_until(lambda: heard.messages)
    first.close()


async def test_a_living_server_with_a_full_queue_is_left_alone(tmp_path: Path) -> None:
    with ExitStack() as sockets:
        busy = sockets.enter_context(closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)))
        busy.bind(str(tmp_path / "s"))
        busy.listen(0)
        sockets.enter_context(closing(raw_peer(tmp_path / "s")))
        with pytest.raises(LinkError, match="another process listens here"):
            make_server(tmp_path / "s", Heard()).start()


async def test_a_socket_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as stream:
        stream.bind(str(tmp_path / "s"))
        stream.listen()
        with pytest.raises(LinkError, match="is in use or not ours"):
            make_server(tmp_path / "s", Heard()).start()
    assert (tmp_path / "s").exists()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("a latch")
    with pytest.raises(LinkError, match="exists and is not a socket"):
        make_server(tmp_path / "s", Heard()).start()
    assert (tmp_path / "s").read_text() == "a latch"


async def test_a_folder_that_is_missing_or_not_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="No such file or directory") as caught:
        make_server(tmp_path / "none" / "s", Heard()).start()
    assert caught.value.path == tmp_path / "none" / "s"
    (tmp_path / "file").touch()
    with pytest.raises(LinkError, match="Not a directory"):
        make_server(tmp_path / "file" / "s", Heard()).start()


async def test_a_path_too_long_for_a_socket_names_the_bound(tmp_path: Path) -> None:
    path = tmp_path / ("s" * (MAX_PATH + 1 - len(str(tmp_path)) - 1))
    assert len(str(path)) == MAX_PATH + 1
    with pytest.raises(LinkError, match=f"longer than {MAX_PATH} bytes"):
        make_server(path, Heard()).start()
    longest = make_server(path.with_name(path.name[:-1]), Heard())
    longest.start()
    longest.close()


async def test_close_leaves_a_successors_file(tmp_path: Path) -> None:
    first = make_server(tmp_path / "s", Heard())
    first.start()
    first.path.unlink()
    heard = Heard()
    second = make_server(tmp_path / "s", heard)
    second.start()
    first.close()
    first.close()
    with closing(raw_peer(second.path)) as peer:
        peer.send(packet(n=1))
        await wait_until(lambda: heard.messages)
    second.close()


async def test_close_when_somebody_has_removed_the_file(tmp_path: Path) -> None:
    server = make_server(tmp_path / "s", Heard())
    server.start()
    server.path.unlink()
    server.close()
    assert not server.path.exists()


async def test_close_ends_every_connection_and_tells_nobody(tmp_path: Path) -> None:
    heard = Heard()
    server = make_server(tmp_path / "s", heard)
    server.start()
    with closing(raw_peer(server.path)) as peer:
        await wait_until(lambda: heard.opened)
        server.close()
        assert peer.recv(1) == b""
        await asyncio.sleep(0)
    assert heard.ended == []
    assert server.connections == set()
