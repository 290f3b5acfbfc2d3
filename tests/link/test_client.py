import asyncio
import json
import socket
from contextlib import closing
from pathlib import Path

import pytest

from agent.link import Connection, LinkError, Message
from agent.link.connection import MAX_PATH
from tests.link.peers import MAX_PACKET, OTHER_UID, Heard, make_client, make_server
from tests.waiting import wait_until


def listen(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind(str(path))
    sock.listen()
    sock.setblocking(False)
    return sock


async def test_comes_when_the_server_does_and_says_hello_first(tmp_path: Path) -> None:
    at_server, at_client = Heard(), Heard()
    client = make_client(tmp_path / "s", at_client)
    client.start()
    client.start()
    assert not client.connected
    assert client.send({"type": "early"}) is False
    server = make_server(tmp_path / "s", at_server)
    server.start()
    await wait_until(lambda: client.connected)
    assert client.send({"type": "x", "n": 1})
    await wait_until(lambda: at_server.numbers() == [1])
    assert at_server.messages[0] == {"type": "hello", "role": "remote", "boot": "00" * 16}
    assert at_server.opened[0].role == "remote"
    assert len(at_server.opened) == 1
    client.close()
    server.close()


async def test_hears_what_the_server_says(tmp_path: Path) -> None:
    at_server, at_client = Heard(), Heard()
    server = make_server(tmp_path / "s", at_server)
    server.start()
    client = make_client(tmp_path / "s", at_client)
    client.start()
    await wait_until(lambda: at_server.opened)
    at_server.opened[0].send({"type": "state", "n": 7})
    await wait_until(lambda: at_client.messages)
    assert at_client.numbers() == [7]
    client.close()
    await wait_until(lambda: at_server.ended)
    server.close()


async def test_the_end_is_told_once_and_the_client_comes_back(tmp_path: Path) -> None:
    heard = Heard()
    client = make_client(tmp_path / "s", heard)
    client.start()
    for times in (1, 2, 3):
        server = make_server(tmp_path / "s", Heard())
        server.start()
        await wait_until(lambda: client.connected)
        server.close()
        await wait_until(lambda: not client.connected)
        assert (len(heard.opened), len(heard.ended)) == (times, times)
    client.close()


async def test_a_server_of_another_user_is_not_spoken_to(tmp_path: Path) -> None:
    heard = Heard()
    with closing(listen(tmp_path / "s")) as listener:
        client = make_client(tmp_path / "s", heard, allowed_uids=OTHER_UID)
        client.start()
        await wait_until(lambda: heard.bad)
        client.close()
        accepted, _ = listener.accept()
        with closing(accepted):
            assert accepted.recv(MAX_PACKET) == b""
    assert "server refused: uid" in heard.bad[0]
    assert (heard.opened, heard.ended) == ([], [])


async def test_the_wait_grows_while_nobody_speaks_and_starts_again_when_somebody_did(
    tmp_path: Path,
) -> None:
    heard = Heard()
    client = make_client(tmp_path / "s", heard, retry_ms=(1, 8))
    client.start()
    await wait_until(lambda: client._wait_s == 0.008)
    server = make_server(tmp_path / "s", Heard())
    server.start()
    await wait_until(lambda: server.connections)
    assert client._wait_s == 0.008
    next(iter(server.connections)).send({"type": "x"})
    await wait_until(lambda: heard.messages)
    assert client._wait_s == 0.001
    client.close()
    server.close()


async def test_a_server_that_accepts_and_hangs_up_is_not_hammered(tmp_path: Path) -> None:
    heard = Heard()
    server = make_server(tmp_path / "s", Heard(), allowed_uids=OTHER_UID)
    server.start()
    client = make_client(tmp_path / "s", heard, retry_ms=(1, 8))
    client.start()
    await wait_until(lambda: len(heard.ended) == 4)
    assert client._wait_s == 0.008
    client.close()
    server.close()


async def test_close_while_connected_is_final(tmp_path: Path) -> None:
    at_server, at_client = Heard(), Heard()
    server = make_server(tmp_path / "s", at_server)
    server.start()
    client = make_client(tmp_path / "s", at_client)
    client.start()
    await wait_until(lambda: at_server.opened)
    attempt = client._retry
    client.close()
    client.close()
    await wait_until(lambda: at_server.ended)
    assert client._retry is attempt, "no other attempt was scheduled"
    assert not client.connected
    assert at_client.ended == []
    server.close()


async def test_close_while_waiting_is_final(tmp_path: Path) -> None:
    client = make_client(tmp_path / "s", Heard())
    client.start()
    await wait_until(lambda: client._wait_s > 0.001)
    client.close()
    assert client._retry is not None
    assert client._retry.cancelled()


async def test_close_inside_on_open_is_final(tmp_path: Path) -> None:
    server = make_server(tmp_path / "s", Heard())
    server.start()
    heard = Heard()
    client = make_client(tmp_path / "s", heard)

    def at_once(connection: Connection) -> None:
        heard.opened.append(connection)
        client.close()

    client._on_open = at_once
    client.start()
    await wait_until(lambda: heard.opened)
    assert not client.connected
    server.close()


async def test_both_ends_in_one_process_answer_each_other(tmp_path: Path) -> None:
    """A message handled inside the callback that read it may be answered from there."""
    at_client = Heard()
    server = make_server(tmp_path / "s", Heard())

    def echo(connection: Connection, message: Message) -> None:
        connection.send({**message, "type": "echo"})

    server._on_message = echo
    server.start()
    client = make_client(tmp_path / "s", at_client)
    client.start()
    await wait_until(lambda: at_client.messages)
    for number in range(100):
        client.send({"type": "x", "n": number})
    await wait_until(lambda: len(at_client.messages) == 101)
    assert at_client.numbers() == list(range(100))
    assert json.loads(json.dumps(at_client.messages[0]))["role"] == "remote"
    client.close()
    server.close()


async def test_a_path_that_no_socket_can_have_is_an_error_at_once(tmp_path: Path) -> None:
    client = make_client(tmp_path / ("s" * MAX_PATH), Heard())
    with pytest.raises(LinkError, match=f"longer than {MAX_PATH} bytes"):
        client.start()
    await asyncio.sleep(0)
    assert not client.connected
