"""One guardians' link and all that it tells, for tests at a real broker."""

import asyncio
from collections.abc import Callable, Sequence

import aiomqtt

from agent.core.plan import Remote
from agent.mqtt import MqttLink, Outgoing
from hil.broker import Broker
from hil.pki import Pki
from tests.waiting import wait_until

ROBOT = "R-1"
TOPIC = f"warden/v1/{ROBOT}"
S = 1_000_000_000
WILL = Outgoing(f"{TOPIC}/link", b'{"online": false}', 1, retain=True)


def remote(broker: Broker, pki: Pki) -> Remote:
    return Remote(
        host="localhost",
        port=broker.port,
        tls=True,
        protocol=broker.protocol,
        ca=str(pki.ca),
        cert=str(pki.robot.cert),
        key=str(pki.robot.key),
        signing_key=str(pki.robot.signing_key),
        root_keys=(str(pki.root_jwk),),
        trust=str(pki.trust),
        groups=(),
        link_lost_ns=5 * S,
    )


class Told:
    """A link, and everything it told."""

    def __init__(
        self,
        plan: Remote,
        *,
        on_packet: Callable[[str, bytes, bool], None] | None = None,
        on_up: Callable[[], None] = lambda: None,
        topics: Sequence[str] = (f"{TOPIC}/cmd", "warden/v1/group/hall/cmd"),
    ) -> None:
        self.links: list[tuple[bool, str]] = []
        self.packets: list[tuple[str, bytes, bool]] = []
        self.dropped = 0
        self._on_up = on_up
        self.link = MqttLink(
            asyncio.get_running_loop(),
            plan,
            identifier=f"warden-{ROBOT}",
            topics=topics,
            will=WILL,
            on_packet=on_packet or (lambda *packet: self.packets.append(packet)),
            on_link=self._on_link,
            on_dropped=self._on_dropped,
        )

    def _on_link(self, up: bool, why: str) -> None:
        self.links.append((up, why))
        if up:
            self._on_up()

    def _on_dropped(self) -> None:
        self.dropped += 1

    async def up(self) -> "Told":
        self.link.start()
        await wait_until(lambda: self.link.connected)
        return self

    async def down(self) -> str:
        """Why the link went down last."""
        await wait_until(lambda: self.links and not self.links[-1][0])
        return self.links[-1][1]

    @property
    def client(self) -> aiomqtt.Client:
        assert self.link._client is not None
        return self.link._client


class Waits:
    """`asyncio` for the module: its waiting is written down and lasts no time."""

    def __init__(self) -> None:
        self.waited_s: list[float] = []

    def __getattr__(self, name: str) -> object:
        return getattr(asyncio, name)

    async def sleep(self, delay_s: float) -> None:
        self.waited_s.append(delay_s)
        await asyncio.sleep(0)


def remote_at(pki: Pki, port: int) -> Remote:
    return Remote(
        host="localhost",
        port=port,
        tls=True,
        protocol="5",
        ca=str(pki.ca),
        cert=str(pki.robot.cert),
        key=str(pki.robot.key),
        signing_key="",
        root_keys=(),
        trust="",
        groups=(),
        link_lost_ns=5 * S,
    )
