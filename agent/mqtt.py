"""The guardians' link: one MQTT connection kept up, packets handed over inside the client's own callback.

The broker is trusted with nothing (DESIGN, principle 8): what arrives is bytes until `agent.gate` has looked.
"""

import asyncio
import gc
import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.core.plan import Remote as RemotePlan

MAX_PACKET = 65_536
"""PROTOCOL 3: larger ones are dropped."""
MAX_ACCEPTED = 1 << 20
"""What the client takes from the broker at all (MQTT 5), so that a large one can be counted."""
MAX_PENDING = 256
"""Publishes waiting for their acknowledgement; what is over is dropped and counted."""
SESSION_S = 120
"""The broker keeps commands for us this long while we are away: as long as a command is good (PROTOCOL 3)."""
SLOW_ROUND_TRIP_S = 0.03
"""Nagle's algorithm costs 40 ms a packet; a broker on the same site without it answers in a few."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One packet to publish. A QoS 0 packet is dropped rather than queued."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


class _Client(aiomqtt.Client):
    """The client, whose connection may end at any moment without being taken for a fault.

    It keeps such an end as an error; one that nobody looked at is reported to the loop when it is collected.
    """

    async def __aenter__(self) -> Self:
        end = self._disconnected
        await super().__aenter__()
        if end is not self._disconnected:  # it ended while it was let in, and the client forgets that
            end.exception()
            raise aiomqtt.MqttError("ended as soon as it was let in")
        return self

    def about(self) -> dict[str, str]:
        """The far end, and how the line to it is protected; empty when it has gone already."""
        sock = self._client.socket()
        if not isinstance(sock, socket.socket):
            return {}
        try:
            host, port = sock.getpeername()[:2]
        except OSError:
            return {}
        found = {"peer": f"[{host}]:{port}" if ":" in host else f"{host}:{port}"}
        if isinstance(sock, ssl.SSLSocket):
            found |= {"tls": sock.version() or "", "cipher": (sock.cipher() or ("",))[0]}
        return found

    def see_off(self) -> None:
        """Looks at the errors it keeps."""
        for kept in (self._connected, self._disconnected):
            if kept.done() and not kept.cancelled():
                kept.exception()


class MqttLink:
    """One connection to the broker; comes back by itself with bounded back-off (0.2 s to 5 s)."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        plan: RemotePlan,
        *,
        identifier: str,
        topics: Sequence[str],
        will: Outgoing,
        on_packet: Callable[[str, bytes, bool], None],
        on_link: Callable[[bool, str], None],
        on_dropped: Callable[[], None],
    ) -> None:
        """`on_packet(topic, payload, retained)` runs inside the client's callback. `on_link(up, why)`."""
        self.connected = False
        self.about: dict[str, str] = {}
        """Of the connection that stands, or stood last: `peer` (address and port), `tls` and `cipher`."""
        self.on_sent: Callable[[str, int], None] = _nobody
        """`on_sent(topic, bytes)`: a packet was handed to the client."""
        self.round_trip_s = float("inf")
        """The fastest acknowledgement seen on this connection."""
        self._loop = loop
        self._plan = plan
        self._identifier = identifier
        self._topics = tuple(topics)
        self._will = will
        self._on_packet = on_packet
        self._on_link = on_link
        self._on_dropped = on_dropped
        self._client: _Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._publishing: set[asyncio.Task[None]] = set()
        self._deaf = False
        self._closing = False

    def start(self) -> None:
        """Begins to connect."""
        self._task = self._loop.create_task(self._keep_up(), name="mqtt")
        self._task.add_done_callback(self._kept_up)

    async def close(self) -> None:
        """Ends the connection in order.

        The broker then does not send the will, so the caller has published its own farewell.
        """
        self._closing = True
        tasks = [*self._publishing, *([self._task] if self._task is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def publish(self, packet: Outgoing) -> None:
        """Hands the packet to the client without waiting; dropped and counted while there is no link."""
        client = self._client
        if client is None or not self.connected or len(self._publishing) >= MAX_PENDING:
            self._on_dropped()
            return
        self.on_sent(packet.topic, len(packet.payload))
        task = self._loop.create_task(self._publish(client, packet), name="publish")
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    @property
    def waiting(self) -> int:
        """Publishes not yet acknowledged."""
        return len(self._publishing)

    async def drain(self, timeout_s: float) -> None:
        """The end begins: what arrives is not looked at any more.

        Waits for what is being published, at most so long.
        """
        self._deaf = True
        if self._publishing:
            await asyncio.wait(self._publishing, timeout=timeout_s)

    async def _publish(self, client: aiomqtt.Client, packet: Outgoing) -> None:
        begun_s = time.monotonic()
        try:
            await client.publish(packet.topic, packet.payload, qos=packet.qos, retain=packet.retain)
        except (aiomqtt.MqttError, ValueError):
            self._on_dropped()
            return
        if packet.qos:
            self.round_trip_s = min(self.round_trip_s, time.monotonic() - begun_s)

    async def _keep_up(self) -> None:
        wait_s = 0.2
        while True:
            why = await self._connection()
            self._heed_the_end()
            if self.connected:
                wait_s = 0.2
            self.connected, self._client = False, None
            self._give_up()
            self._on_link(False, why)
            # Each connection leaves 40 KB of cycles behind, and the collector is off in this process.
            gc.collect()
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, 5.0)

    def _heed_the_end(self) -> None:
        """Raises the CancelledError that `close` asked for, wherever the client may have lost it.

        It waits in `asyncio.wait_for`, and that of Python 3.11 drops a cancellation which comes in the turn
        of the answer it waits for: the link would be kept up, and `close` would wait for its end for ever.
        """
        if self._closing:
            raise asyncio.CancelledError

    def _give_up(self) -> None:
        """What waits for an acknowledgement on a connection that ended would keep its place in vain."""
        for task in self._publishing:
            if task.cancel():
                self._on_dropped()
        self._publishing.clear()

    async def _connection(self) -> str:
        """One connection from its beginning to its end; why it ended."""
        try:
            return await self._use(self._make_client())
        except aiomqtt.MqttError as error:
            return str(error)[:200]
        # UnicodeError: what the resolver says to a host name that cannot be one.
        except (OSError, UnicodeError) as error:
            return f"{type(error).__name__}: {error}"[:200]

    async def _use(self, client: "_Client") -> str:
        try:
            async with client:
                self._heed_the_end()
                codes = await client.subscribe([(topic, 1) for topic in self._topics])
                self._heed_the_end()
                refused = [topic for topic, code in zip(self._topics, codes, strict=False) if _refused(code)]
                if refused:
                    # A link on which no stop can arrive is none.
                    return f"the broker does not let us subscribe to {', '.join(refused)}"[:200]
                self._client, self.connected = client, True
                self.about = client.about()
                self.round_trip_s = float("inf")
                self._on_link(True, "")
                async for _ in client.messages:  # the handler has had it already; this only sees the end
                    pass
        finally:
            client.see_off()
        return "closed"

    def _make_client(self) -> "_Client":
        plan = self._plan
        five = plan.protocol == "5"
        properties = None
        if five:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_S
            properties.MaximumPacketSize = MAX_ACCEPTED
        return _Client(
            plan.host,
            plan.port,
            identifier=self._identifier,
            protocol=aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311,
            clean_session=None if five else False,
            clean_start=False if five else 3,
            properties=properties,
            # Half of the time after which a lost link must be noticed.
            keepalive=max(1, int(plan.link_lost_ns / 2e9)),
            timeout=max(1.0, plan.link_lost_ns / 1e9),
            will=aiomqtt.Will(self._will.topic, self._will.payload, self._will.qos, self._will.retain),
            tls_context=tls_context(plan) if plan.tls else None,
            queue_type=self._queue_type(),
            max_queued_outgoing_messages=MAX_PENDING,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
            logger=_SILENT,
        )

    def _queue_type(self) -> type["asyncio.Queue[aiomqtt.Message]"]:
        """A queue whose `put_nowait` *is* the handler.

        The client puts each message inside its own callback, so a stop is acted on there, with no task to
        wait for (DESIGN, "How each process runs").
        """
        handle = self._take

        class Handler(asyncio.Queue["aiomqtt.Message"]):
            def put_nowait(self, item: "aiomqtt.Message") -> None:
                handle(item)

        return Handler

    def _take(self, message: aiomqtt.Message) -> None:
        if self._deaf:
            return
        try:
            self._on_packet(message.topic.value, message.payload, message.retain)
        except Exception as error:
            # The client would make it a lost connection; what nobody foresaw must end the module.
            self._fault(error)
            raise

    def _kept_up(self, task: asyncio.Task[None]) -> None:
        """Nothing but `close` ends it; should a fault do so, nobody would connect again."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fault(error)

    def _fault(self, error: BaseException) -> None:
        self._loop.call_exception_handler({"message": "the guardians' link", "exception": error})


def _nobody(topic: str, size: int) -> None:
    """Until somebody counts."""


_SUBACK_FAILURE = 0x80


def _refused(code: object) -> bool:
    """One topic's answer in SUBACK: 0x80 and above are refusals, in both versions of the protocol."""
    number = getattr(code, "value", code)
    return not isinstance(number, int) or number >= _SUBACK_FAILURE


def tls_context(plan: RemotePlan) -> ssl.SSLContext:
    """TLS 1.2 or newer, the broker's certificate checked against the plan's own authority only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(plan.ca)
    if plan.cert:
        context.load_cert_chain(plan.cert, plan.key, password="")  # never asks at a terminal
    return context


_SILENT = logging.getLogger("agent.mqtt")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
