"""A raw HTTP client: what it sends and what it gets are bytes, so that a test may send nonsense."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """`raw`: everything until the server closed."""

    raw: bytes

    @property
    def status(self) -> int:
        return int(self.raw.split(b" ", 2)[1])

    @property
    def headers(self) -> dict[str, str]:
        head = self.raw.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
        return {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head}

    @property
    def body(self) -> str:
        return self.raw.partition(b"\r\n\r\n")[2].decode()


async def open_connection(
    port: int, tls: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To the server under test; the certificate must be localhost's."""
    name = None if tls is None else "localhost"
    return await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)


@asynccontextmanager
async def connect(
    port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is closed at the end, however the server left it."""
    reader, writer = await open_connection(port, tls)
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def send(port: int, request: bytes, tls: ssl.SSLContext | None = None) -> Answer:
    """Sends the bytes and reads until the server closes."""
    async with connect(port, tls) as (reader, writer):
        writer.write(request)
        await writer.drain()
        return Answer(await reader.read())


async def get(port: int, path: str, tls: ssl.SSLContext | None = None, **headers: str) -> Answer:
    """An ordinary GET; headers are spelled with underscores."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return await send(port, "\r\n".join([*lines, "", ""]).encode(), tls)
