"""The guardian's MQTT link: one connection; what arrives goes to whoever listens, with its time of arrival.

Nothing here is believed: signatures are checked in session.py.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import aiomqtt

from agent.tokens import MAX_TOKEN_BYTES
from console.errors import MqttLinkError
from console.profile import Profile, without_source

CONNECT_TIMEOUT_S: Final = 5.0
LAST_WORDS_S: Final = 1.0
MAX_WAITING_PACKETS: Final = 1024
"""Per listener; a robot in trouble sends a few packets a second, so this is minutes of them."""
# Nagle's algorithm would hold a second packet in a row back for 40 ms (DESIGN, "How each process runs").
NO_DELAY: Final = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
PROTOCOLS: Final = {"5": aiomqtt.ProtocolVersion.V5, "3.1.1": aiomqtt.ProtocolVersion.V311}
_FIRST_FAILURE: Final = 128
"""SUBACK codes from here on are refusals, in MQTT 5 and 3.1.1 alike."""


class Evidence(logging.Handler):
    """The client library's last complaint: no line for a guardian, but often the reason behind a time-out."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


@dataclass(frozen=True, slots=True)
class Packet:
    """What arrived. `at_ns`: CLOCK_MONOTONIC of this machine."""

    topic: str
    payload: bytes
    at_ns: int


class Inbox:
    """What one listener has not taken yet. When it is full what comes next is dropped and counted."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[Packet | MqttLinkError] = asyncio.Queue()
        self.dropped = 0

    def put(self, packet: Packet) -> None:
        """Never waits."""
        if self._waiting.qsize() < MAX_WAITING_PACKETS:
            self._waiting.put_nowait(packet)
        else:
            self.dropped += 1

    def fail(self, error: MqttLinkError) -> None:
        """What the listener gets after all that came before it."""
        self._waiting.put_nowait(error)

    async def get(self, deadline_s: float | None) -> Packet | None:
        """The next packet; None at the deadline (loop time). MqttLinkError once the link has failed."""
        try:
            async with asyncio.timeout_at(deadline_s):
                item = await self._waiting.get()
        except TimeoutError:
            return None
        if isinstance(item, MqttLinkError):
            raise item
        return item


def refused_topics(topics: Sequence[str], codes: Sequence[int]) -> list[str]:
    """Those that the broker did not grant. Not all say so: mosquitto grants, and then sends nothing."""
    return [topic for topic, code in zip(topics, codes, strict=True) if code >= _FIRST_FAILURE]


class Link:
    """One connection to the broker, open inside `async with`."""

    def __init__(self, profile: Profile) -> None:
        host, port = profile.address
        self.broker = f"{host}:{port}"
        self._profile = profile
        self._tls = profile.tls()
        self._evidence = Evidence()
        # Of its own, under no other logger: nothing of it reaches the terminal.
        self._logger = logging.Logger("console.mqtt")  # noqa: LOG001 - one for each link
        self._logger.addHandler(self._evidence)
        self._inboxes: set[Inbox] = set()
        self._sending: set[asyncio.Task[None]] = set()
        self._client: aiomqtt.Client | None = None
        self._pump: asyncio.Task[None] | None = None
        self._lost: MqttLinkError | None = None

    async def __aenter__(self) -> Self:
        host, port = self._profile.address
        client = aiomqtt.Client(
            host,
            port,
            protocol=PROTOCOLS[self._profile.protocol],
            tls_context=self._tls,
            timeout=CONNECT_TIMEOUT_S,
            socket_options=[NO_DELAY],
            logger=self._logger,
        )
        try:
            await client.__aenter__()
        except (aiomqtt.MqttError, UnicodeError) as error:
            raise self._error(error) from None
        self._client = client
        self._pump = asyncio.create_task(self._listen(client), name="guardian mqtt")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sending and self._lost is None:
            # A stop that was just given leaves before the connection does.
            await asyncio.wait(self._sending, timeout=LAST_WORDS_S)
        tasks = [task for task in (self._pump, *self._sending) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            with contextlib.suppress(aiomqtt.MqttError):
                await self._client.__aexit__(None, None, None)

    @contextlib.contextmanager
    def listen(self) -> Iterator[Inbox]:
        """An inbox for everything that arrives from now on."""
        inbox = Inbox()
        if self._lost is not None:
            inbox.fail(self._lost)
        self._inboxes.add(inbox)
        try:
            yield inbox
        finally:
            self._inboxes.discard(inbox)

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Retained messages arrive anew for each call. Raises MqttLinkError when the broker forbids it."""
        try:
            codes = await self._open().subscribe([(topic, 1) for topic in topics])
        except aiomqtt.MqttError as error:
            raise self._error(error) from None
        numbers = [code if isinstance(code, int) else int(code.value) for code in codes]
        refused = refused_topics(topics, numbers)
        if refused:
            raise MqttLinkError(self.broker, f"does not let {self._profile.kid} read {', '.join(refused)}")

    def publish(self, topic: str, payload: str, inbox: Inbox) -> int:
        """Sends with QoS 1, waits for nothing, returns CLOCK_MONOTONIC. What goes wrong comes to `inbox`."""
        task = asyncio.create_task(self._publish(topic, payload, inbox), name=f"guardian publish {topic}")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return time.monotonic_ns()

    async def _publish(self, topic: str, payload: str, inbox: Inbox) -> None:
        try:
            await self._open().publish(topic, payload, qos=1)
        except aiomqtt.MqttError as error:
            inbox.fail(self._error(error))

    async def _listen(self, client: aiomqtt.Client) -> None:
        try:
            async for message in client.messages:
                self._hand_on(message)
        except aiomqtt.MqttError as error:
            self._lost = self._error(error)
            for inbox in self._inboxes:
                inbox.fail(self._lost)

    def _hand_on(self, message: aiomqtt.Message) -> None:
        if len(message.payload) > MAX_TOKEN_BYTES:
            return
        packet = Packet(str(message.topic), message.payload, time.monotonic_ns())
        for inbox in self._inboxes:
            inbox.put(packet)

    def _open(self) -> aiomqtt.Client:
        if self._client is None:
            raise MqttLinkError(self.broker, "not connected")
        return self._client

    def _error(self, error: Exception) -> MqttLinkError:
        reason = str(error.__cause__ or error) or type(error).__name__
        if self._evidence.last:
            # TLS 1.3 ends the handshake before the broker has judged our certificate: what aiomqtt tells of a
            # refusal is a time-out, and only the library's own log knows more.
            reason += f" ({without_source(self._evidence.last)})"
        return MqttLinkError(self.broker, reason)
