"""A real HTTP server on loopback that misbehaves as it is told, and notes what it was asked."""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One connection: what came, and the way back."""

    def __init__(self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self._reader = reader
        self._writer = writer

    async def send(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    async def until_hung_up(self) -> None:
        await self._reader.read()


class Web:
    """`answer` is what every connection gets."""

    def __init__(self) -> None:
        self.answer: Answer = answers(b"")
        self.requests: list[bytes] = []
        self.open = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            exchange = Exchange(await _request(reader), reader, writer)
            self.requests.append(exchange.request)
            await self.answer(exchange)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the caller hung up, as it may
        finally:
            self.open -= 1
            writer.transport.abort()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.lower() == b"content-length":
            return head + await reader.readexactly(int(value))
    return head


def answers(body: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> Answer:
    """A plain answer, then the end."""

    async def answer(exchange: Exchange) -> None:
        length = b"Content-Length: %d\r\n" % len(body)
        await exchange.send(b"HTTP/1.1 " + status + b"\r\n" + length + headers + b"\r\n" + body)
        await exchange.until_hung_up()

    return answer


def says(*parts: bytes) -> Answer:
    """These bytes, whatever they are, each by itself, then the end."""

    async def answer(exchange: Exchange) -> None:
        for part in parts:
            await exchange.send(part)

    return answer


def repeats(head: bytes, part: bytes) -> Answer:
    """For ever, or until the caller hangs up."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send(head)
        while True:
            await exchange.send(part)

    return answer


async def never(exchange: Exchange) -> None:
    """Takes the request and says nothing."""
    await exchange.until_hung_up()


@asynccontextmanager
async def web(context: ssl.SSLContext | None = None) -> AsyncIterator[Web]:
    """Served on 127.0.0.1 until the block ends."""
    site = Web()
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0, ssl=context)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()


@contextmanager
def standard_server() -> Iterator[tuple[int, list[str]]]:
    """Another implementation, the standard library's: its port, and what it was asked."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(f"POST {self.path}")
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"state": "off"}')

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's own word
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_address[1], seen
    server.shutdown()
    thread.join()
    server.server_close()
