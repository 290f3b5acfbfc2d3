"""The HTTP side: GET of a few pages, one exchange per connection, bounded in size, time and number.

HTTP/1.1 (RFC 9112) as far as a scraper needs it, on the module's own loop: no thread, so that a slow client
costs one descriptor until its time is over, and nothing else.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from agent.errors import WardenError
from agent.monitor.access import BasicAuth
from agent.monitor.errors import MonitorError

MAX_REQUEST_BYTES: Final = 8192
"""Of the request's head; a GET has no body, and what follows the head is never read."""
MAX_CONNECTIONS: Final = 16
EXCHANGE_S: Final = 5.0
"""For the whole exchange, slow readers included; a scrape takes some 30 ms."""
ACCEPT_PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Page:
    """`render`: the value of the request's Accept header -> content type and body."""

    render: Callable[[str], Awaitable[tuple[str, bytes]]]
    protected: bool


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    headers: Mapping[str, str]


class _RefusedError(WardenError):
    """A request that gets no page; never leaves this module."""

    def __init__(self, status: HTTPStatus, header: str = "") -> None:
        super().__init__(status.phrase)
        self.status = status
        self.header = header


class WebServer:
    """Serves `pages` on one address."""

    def __init__(
        self,
        pages: Mapping[str, Page],
        *,
        host: str,
        port: int,
        tls: ssl.SSLContext | None,
        auth: BasicAuth | None,
        on_refused: Callable[[], None],
        exchange_s: float = EXCHANGE_S,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        """`pages`: path -> page. `auth`: asked for on protected pages. `on_refused`: once per refusal."""
        self._pages = pages
        self._host, self._port = host, port
        self._tls, self._auth = tls, auth
        self._on_refused = on_refused
        self._exchange_s = exchange_s
        self._max_connections = max_connections
        self._listener: socket.socket | None = None
        self._resume: asyncio.TimerHandle | None = None
        self._exchanges: set[asyncio.Task[None]] = set()

    @property
    def exchanges(self) -> int:
        """Connections there are now."""
        return len(self._exchanges)

    async def start(self) -> tuple[str, int]:
        """Listens; the address it got (port 0 asks for any). Raises MonitorError naming the address."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            listener = socket.create_server((self._host, self._port), family=family, backlog=MAX_CONNECTIONS)
        except OSError as error:
            reason = error.strerror or str(error)
            raise MonitorError(f"{self._host}:{self._port}", f"cannot listen: {reason}") from error
        listener.setblocking(False)
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener.fileno(), self._acceptable)
        host, port = listener.getsockname()[:2]
        return str(host), int(port)

    async def close(self) -> None:
        """Stops listening and ends every exchange; idempotent."""
        listener, self._listener = self._listener, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener.fileno())
            listener.close()
        if self._resume is not None:
            self._resume.cancel()
        for exchange in self._exchanges:
            exchange.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)

    def _acceptable(self) -> None:
        """Counts a connection from here on: one that never finishes its TLS handshake takes a place too."""
        for _ in range(self._max_connections):
            if self._listener is None or not self._accept_one(self._listener):
                return

    def _accept_one(self, listener: socket.socket) -> bool:
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError:  # no descriptor left: the listener stays readable, so pause instead of spinning
            self._on_refused()
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener.fileno())
            self._resume = loop.call_later(ACCEPT_PAUSE_S, self._accept_again)
            return False
        if len(self._exchanges) >= self._max_connections:
            self._on_refused()
            sock.close()
            return True
        sock.setblocking(False)
        exchange = asyncio.get_running_loop().create_task(self._exchange(sock), name="scrape")
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)
        return True

    def _accept_again(self) -> None:
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._acceptable)

    async def _exchange(self, sock: socket.socket) -> None:
        try:
            async with asyncio.timeout(self._exchange_s):
                reader, writer = await _open(sock, self._tls)
                try:
                    await self._talk(reader, writer)
                finally:
                    await _abort(writer)
        except (OSError, EOFError):  # gone, or (TimeoutError is an OSError) too slow
            self._on_refused()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await self._answer(reader))
        writer.close()  # after the last byte: wait_closed waits for a slow reader too
        await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            request = _parse(await _head(reader))
            content_type, body = await self._page(request).render(request.headers.get("accept", ""))
        except _RefusedError as refused:
            self._on_refused()
            text = f"{refused.status.value} {refused.status.phrase}\n".encode()
            return _response(refused.status, "text/plain; charset=utf-8", text, refused.header)
        return _response(HTTPStatus.OK, content_type, body)

    def _page(self, request: _Request) -> Page:
        if request.method != "GET":
            raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "Allow: GET")
        page = self._pages.get(request.path)
        if page is None:
            raise _RefusedError(HTTPStatus.NOT_FOUND)
        if page.protected and not self._may(request):
            raise _RefusedError(
                HTTPStatus.UNAUTHORIZED, 'WWW-Authenticate: Basic realm="robot-warden", charset="UTF-8"'
            )
        return page

    def _may(self, request: _Request) -> bool:
        return self._auth is None or self._auth.allows(request.headers.get("authorization"))


async def _open(
    sock: socket.socket, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_REQUEST_BYTES, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    try:
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock, ssl=tls)
    except BaseException:
        sock.close()
        raise
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _abort(writer: asyncio.StreamWriter) -> None:
    """Whatever is left of the connection is gone when this returns."""
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise _RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from error


def _parse(head: bytes) -> _Request:
    """Raises _RefusedError; a header that comes twice is refused, since two readers may pick differently."""
    first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _RefusedError(HTTPStatus.BAD_REQUEST)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        key = name.lower()
        if not colon or not key or key != key.strip() or key in headers:
            raise _RefusedError(HTTPStatus.BAD_REQUEST)
        headers[key] = value.strip()
    return _Request(words[0], words[1].partition("?")[0], headers)


def _response(status: HTTPStatus, content_type: str, body: bytes, header: str = "") -> bytes:
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        *([header] if header else []),
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
