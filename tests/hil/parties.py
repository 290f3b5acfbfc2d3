"""Clients of a rig's broker, as tests play them: by aiomqtt, and by hand where a broker just hangs up."""

import asyncio
import contextlib
import socket
import ssl
from contextlib import AsyncExitStack
from typing import Self

import aiomqtt

from hil.broker import Broker, Kind
from hil.pki import Identity, Pki
from tests.waiting import DEADLINE_S

KINDS: tuple[Kind, ...] = ("mosquitto", "embedded")
V311 = aiomqtt.ProtocolVersion.V311


class Parties:
    """Clients of one broker; all of them MQTT 3.1.1, which both kinds speak."""

    def __init__(self, broker: Broker, pki: Pki) -> None:
        self.broker = broker
        self.pki = pki
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    def identity(self, who: str) -> Identity:
        return self.pki.robot if who == self.pki.robot_id else self.pki.person(who)

    def client(
        self,
        who: str,
        *,
        protocol: aiomqtt.ProtocolVersion = V311,
        identifier: str | None = None,
        clean_session: bool | None = None,
        username: str | None = None,
        will: aiomqtt.Will | None = None,
    ) -> aiomqtt.Client:
        return aiomqtt.Client(
            "127.0.0.1",
            self.broker.port,
            tls_context=self.pki.client_tls(self.identity(who)),
            timeout=DEADLINE_S,
            protocol=protocol,
            identifier=identifier,
            clean_session=clean_session,
            username=username,
            will=will,
        )

    async def enter(
        self,
        who: str,
        *,
        identifier: str | None = None,
        clean_session: bool | None = None,
        username: str | None = None,
        will: aiomqtt.Will | None = None,
    ) -> aiomqtt.Client:
        client = self.client(
            who, identifier=identifier, clean_session=clean_session, username=username, will=will
        )
        return await self._stack.enter_async_context(client)

    async def witness(self) -> "Witness":
        """One who may read everything."""
        client = await self.enter("authority-zhou")
        await client.subscribe("warden/v1/#", qos=1)
        return Witness(client)


class Witness:
    """Tells what was published up to now, by a message of its own that must come after it."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._marks = 0

    async def heard(self) -> list[tuple[str, bytes]]:
        """Topic and payload of all that came since the last call."""
        self._marks += 1
        mark = b"%d" % self._marks
        await self._client.publish("warden/v1/mark/cmd", mark, qos=1)
        found = []
        async for message in self._client.messages:
            if message.topic.value == "warden/v1/mark/cmd" and message.payload == mark:
                break
            found.append((message.topic.value, bytes(message.payload)))
        return found


async def next_message(client: aiomqtt.Client) -> aiomqtt.Message:
    async with asyncio.timeout(DEADLINE_S):
        return await anext(aiter(client.messages))


def cut(client: aiomqtt.Client) -> None:
    """Ends the connection without a word, as a dead machine's kernel would."""
    link = client._client.socket()
    assert isinstance(link, socket.socket)
    link.shutdown(socket.SHUT_RDWR)


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def packet(first: int, body: bytes) -> bytes:
    """An MQTT packet of up to 2 MB."""
    length = bytearray()
    rest = len(body)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([first, *length, rest]) + body


def connect(client_id: bytes, *, clean: bool = True, will: tuple[bytes, bytes] | None = None) -> bytes:
    """MQTT 3.1.1 CONNECT by hand: aiomqtt waits for an answer where a broker just hangs up."""
    flags = (0x02 if clean else 0) | (0x0C if will else 0)
    head = text(b"MQTT") + bytes([4, flags, 0, 60])
    return packet(0x10, head + text(client_id) + b"".join(map(text, will or ())))


CONNECT = connect(b"bare")
ACCEPTED = b"\x20\x02\x00\x00"


def answer(broker: Broker, tls: ssl.SSLContext, *packets: bytes) -> bytes:
    """The last four bytes that the broker says to these packets before it hangs up or expects more.

    b"" when it hangs up, in whatever way.
    """
    said = b""
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        socket.create_connection(("127.0.0.1", broker.port), timeout=DEADLINE_S) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as link,
    ):
        for each in packets:
            said = b""
            link.sendall(each)
            said = link.recv(4)
    return said


def lets_in(broker: Broker, pki: Pki) -> bool:
    return answer(broker, pki.client_tls(pki.robot), CONNECT) == ACCEPTED
