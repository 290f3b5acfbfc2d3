"""The HTTP side against clients that are wrong, slow, many, or not there."""

import base64
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.monitor.access import BasicAuth, Tls, hash_password
from agent.monitor.errors import MonitorError
from agent.monitor.web import MAX_REQUEST_BYTES, Page, WebServer
from tests.monitor.certificates import make_certificate
from tests.monitor.http import connect, get, open_connection, send
from tests.waiting import wait_until

BIG = b"x" * 20_000_000
"""More than the kernel buffers for a loopback connection."""


class Served:
    """A running server, its port, and what it refused."""

    def __init__(self) -> None:
        self.refused = 0
        self.port = 0
        self.web: WebServer

    def count(self) -> None:
        self.refused += 1


async def hello(accept: str) -> tuple[str, bytes]:
    return "text/plain", f"hello {accept}".encode()


async def big(_: str) -> tuple[str, bytes]:
    return "text/plain", BIG


@asynccontextmanager
async def serve(
    tls: ssl.SSLContext | None = None,
    auth: BasicAuth | None = None,
    exchange_s: float = 20.0,
    max_connections: int = 16,
) -> AsyncIterator[Served]:
    served = Served()
    pages = {
        "/open": Page(hello, protected=False),
        "/guarded": Page(hello, protected=True),
        "/big": Page(big, False),
    }
    served.web = web = WebServer(
        pages,
        host="127.0.0.1",
        port=0,
        tls=tls,
        auth=auth,
        on_refused=served.count,
        exchange_s=exchange_s,
        max_connections=max_connections,
    )
    _, served.port = await web.start()
    try:
        yield served
    finally:
        await web.close()
        await web.close()


async def test_a_page_is_served_whole_and_the_connection_ends() -> None:
    async with serve() as served:
        answer = await get(served.port, "/open?x=1", Accept="text/plain")
        assert (answer.status, answer.body) == (200, "hello text/plain")
        assert answer.headers["content-length"] == str(len("hello text/plain"))
        assert answer.headers["connection"] == "close"
        assert (await get(served.port, "/big")).body == BIG.decode()
        assert served.refused == 0


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /open/ HTTP/1.1\r\n\r\n", 404),
        (b"GET http://x/open HTTP/1.1\r\n\r\n", 404),
        (b"GET /../open HTTP/1.1\r\n\r\n", 404),
        (b"POST /open HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"HEAD /open HTTP/1.1\r\n\r\n", 405),
        (b"get /open HTTP/1.1\r\n\r\n", 405),
        (b"GET /open\r\n\r\n", 400),
        (b"GET  /open HTTP/1.1\r\n\r\n", 400),
        (b"GET /open HTTP/2\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\xa5\x01\r\n\r\n", 400),
        (b"GET /open HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /open HTTP/1.1\r\n: x\r\n\r\n", 400),
        (b"GET /open HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"GET /open HTTP/1.1\r\nA: 1\r\na: 2\r\n\r\n", 400),
        (b"GET /open HTTP/1.1\r\nX: " + b"x" * MAX_REQUEST_BYTES + b"\r\n\r\n", 431),
        (b"x" * (3 * MAX_REQUEST_BYTES), 431),
    ],
)
async def test_what_is_no_request_for_a_page_is_refused_and_counted(request_: bytes, status: int) -> None:
    async with serve() as served:
        assert (await send(served.port, request_)).status == status
        await wait_until(lambda: served.refused == 1)
        assert (await get(served.port, "/open")).status == 200


async def test_a_client_that_hangs_up_early_is_counted_and_no_error() -> None:
    async with serve() as served:
        for sent in (b"", b"GET /op"):
            async with connect(served.port) as (_, writer):
                writer.write(sent)
        await wait_until(lambda: served.refused == 2)


async def test_a_client_that_says_nothing_is_cut_off() -> None:
    async with serve(exchange_s=0.05) as served, connect(served.port) as (reader, _):
        assert await reader.read() == b""
        assert served.refused == 1


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    async with serve(exchange_s=0.05) as served, connect(served.port) as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /big HTTP/1.1\r\n\r\n")
        await wait_until(lambda: served.refused == 1)


async def test_more_clients_than_there_is_room_for_are_sent_away_and_the_room_comes_back() -> None:
    async with serve(max_connections=2) as served:
        async with connect(served.port), connect(served.port):
            # Accepted in the order in which they came, so the two silent ones are in before this one.
            assert await refused_or_nothing(served.port)
            assert served.refused == 1
        await wait_until(lambda: served.refused == 3)  # both hung up
        assert (await get(served.port, "/open")).status == 200


async def refused_or_nothing(port: int) -> bool:
    """True when the server hangs up without an answer."""
    try:
        return (await get(port, "/open")).raw == b""
    except (ConnectionResetError, BrokenPipeError):
        return True


async def test_a_handshake_that_never_comes_takes_a_place_and_is_cut_off(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    async with (
        serve(tls=Tls(cert, key).context(), exchange_s=0.05) as served,
        connect(served.port) as (reader, _),
    ):
        assert await reader.read() == b""
        assert served.refused == 1


async def test_without_descriptors_it_waits_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve() as served:
        accept = socket.socket.accept
        failures = [OSError(24, "Too many open files"), ConnectionAbortedError()]

        def failing(sock: socket.socket) -> tuple[socket.socket, object]:
            if failures:
                raise failures.pop(0)
            return accept(sock)

        monkeypatch.setattr(socket.socket, "accept", failing)
        assert (await get(served.port, "/open")).status == 200
        assert failures == []
        assert served.refused == 1


async def test_a_protected_page_asks_for_the_password(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(hash_password("prometheus", "secret"))
    path.chmod(0o600)
    right = "Basic " + base64.b64encode(b"prometheus:secret").decode()
    async with serve(auth=BasicAuth(path, lambda: 1)) as served:
        refused = await get(served.port, "/guarded")
        assert refused.status == 401
        assert refused.headers["www-authenticate"] == 'Basic realm="robot-warden", charset="UTF-8"'
        assert "hello" not in refused.body
        assert (await get(served.port, "/guarded", Authorization=right)).status == 200
        assert (await get(served.port, "/guarded", Authorization=right[:-2])).status == 401
        assert (await get(served.port, "/open")).status == 200
        assert served.refused == 2


async def test_with_a_certificate_it_speaks_tls_and_nothing_else(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=str(cert))
    async with serve(tls=Tls(cert, key).context()) as served:
        answer = await get(served.port, "/open", trusting, Accept="tls")
        assert (answer.status, answer.body) == (200, "hello tls")
        assert (await get(served.port, "/big", trusting)).body == BIG.decode()
        assert await refused_or_nothing(served.port)  # in the clear
        old = ssl.create_default_context(cafile=str(cert))
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert (await get(served.port, "/open", old)).status == 200


async def test_closing_ends_the_exchanges_under_way() -> None:
    async with serve() as served:
        silent = [await open_connection(served.port) for _ in range(3)]
        await wait_until(lambda: served.web.exchanges == 3)
    for reader, writer in silent:
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert served.web.exchanges == 0


async def test_an_address_in_use_is_named() -> None:
    async with serve() as served:
        second = WebServer(
            {}, host="127.0.0.1", port=served.port, tls=None, auth=None, on_refused=lambda: None
        )
        with pytest.raises(MonitorError, match="cannot listen") as caught:
            await second.start()
        assert caught.value.subject == f"127.0.0.1:{served.port}"
        await second.close()
