"""The embedded broker, for a first try where no mosquitto is installed: `amqtt` with client certificates.

    python -m hil.broker_embedded --port N --ca FILE --cert FILE --key FILE --acl FILE

amqtt by itself takes a client certificate or none (CERT_OPTIONAL) and believes the user name in CONNECT.
Here a certificate is required in the handshake, the user name is its CN, and mosquitto's acl_file is
enforced on publishing, subscribing, delivery and last wills. It speaks MQTT 3.1.1 only, on the loopback
interface only, and is no broker for a robot in service.

Two of amqtt's protected methods are overridden: `_create_ssl_context` and
`_initialize_client_session`. Should a later amqtt no longer call the second, nobody has a certified
name any more and `Rights` lets nobody in.
"""

import argparse
import asyncio
import logging
import signal
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# amqtt ships no py.typed, so to a type checker all of it is Any.
from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter  # type: ignore[import-untyped]
from amqtt.broker import Broker  # type: ignore[import-untyped]
from amqtt.contexts import Action, BaseContext, BrokerConfig, ListenerConfig  # type: ignore[import-untyped]
from amqtt.errors import AMQTTError  # type: ignore[import-untyped]
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler  # type: ignore[import-untyped]
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin  # type: ignore[import-untyped]
from amqtt.session import Session  # type: ignore[import-untyped]

from hil.broker_acl import Acl

MAX_PACKET = 65536
_CERTIFIED_NAME = "hil.certified_name"


class BoundedReader(StreamReaderAdapter):  # type: ignore[misc]  # Any, see above
    """Ends the connection at a payload longer than PROTOCOL 3 allows; amqtt would collect 256 MB."""

    _ended = False

    async def read(self, n: int = -1) -> bytes:
        """As the base; an oversized payload and all after it reads as a connection that was reset."""
        self._ended = self._ended or n > MAX_PACKET
        if self._ended:
            raise ConnectionResetError
        data: bytes = await super().read(n)
        return data


class CertifiedBroker(Broker):  # type: ignore[misc]  # Any, see above
    """Every session belongs to the CN of the certificate that opened it."""

    @staticmethod
    def _create_ssl_context(listener: ListenerConfig) -> ssl.SSLContext:
        context: ssl.SSLContext = Broker._create_ssl_context(listener)  # noqa: SLF001
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """A new connection, its handshake done."""
        await self._client_connected(listener_name, BoundedReader(reader), StreamWriterAdapter(writer))

    async def _initialize_client_session(
        self, reader: BoundedReader, writer: StreamWriterAdapter, remote_address: str, remote_port: int
    ) -> tuple[BrokerProtocolHandler, Session]:
        handler, session = await super()._initialize_client_session(
            reader, writer, remote_address, remote_port
        )
        name = common_name(writer.get_ssl_info())
        if name is None or session.attributes.setdefault(_CERTIFIED_NAME, name) != name:
            # Another's session, taken up by its client id: the new last will must not go out in that name.
            session.will_flag = False
            await self._cleanup_session(session.client_id)
            await writer.close()
            raise AMQTTError(f"{name} may not take up the session {session.client_id}")
        session.username = name
        return handler, session


class Rights(BaseAuthPlugin, BaseTopicPlugin):  # type: ignore[misc]  # Any, see above
    """Both of amqtt's hooks: who may connect (with which last will), and who may say and hear what."""

    @dataclass
    class Config:
        """`acl`: path of the acl_file."""

        acl: str

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        self._acl = Acl.parse(Path(self.config.acl).read_text())

    async def authenticate(self, *, session: Session) -> bool:
        """True for a certified name whose last will, if it has one, is on a topic that it may write."""
        name = session.attributes.get(_CERTIFIED_NAME)
        return name is not None and (not session.will_flag or self._acl.may_write(name, session.will_topic))

    async def topic_filtering(self, *, session: Session, topic: str, action: Action) -> bool:
        """`topic` is a name when published or received, a filter when subscribed to."""
        name = session.attributes.get(_CERTIFIED_NAME, "")
        return (
            self._acl.may_write(name, topic) if action == Action.PUBLISH else self._acl.may_read(name, topic)
        )


def common_name(tls: ssl.SSLObject | None) -> str | None:
    """The CN of the peer's verified certificate; None without one, or with several."""
    certificate = tls.getpeercert() if tls is not None else None
    subject = certificate.get("subject", ()) if certificate else ()
    names = [pair[1] for part in subject for pair in part if pair[0] == "commonName"]
    return str(names[0]) if len(names) == 1 else None


def configuration(port: int, ca: Path, cert: Path, key: Path, acl: Path) -> BrokerConfig:
    """One listener on the loopback interface and one plugin; none of amqtt's own (they let anybody in)."""
    listener = ListenerConfig(bind=f"127.0.0.1:{port}", ssl=True, cafile=ca, certfile=cert, keyfile=key)
    return BrokerConfig(
        listeners={"default": listener}, plugins={"hil.broker_embedded.Rights": {"acl": str(acl)}}
    )


async def serve(config: BrokerConfig) -> None:
    """Until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    broker = CertifiedBroker(config)
    await broker.start()
    await ended.wait()
    await broker.shutdown()


def main(words: Sequence[str] | None = None) -> None:
    """Exit code 0 after a signal; anything wrong at the start is a traceback in the log of who started it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("transitions").setLevel(logging.WARNING)  # every state of every session, twice
    parser = argparse.ArgumentParser(prog="python -m hil.broker_embedded")
    parser.add_argument("--port", type=int, required=True)
    for name in ("ca", "cert", "key", "acl"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    asyncio.run(serve(configuration(**vars(parser.parse_args(words)))))


if __name__ == "__main__":
    main()
