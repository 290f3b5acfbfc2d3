"""The guardians' link at a real broker: up, down, back, its will, its queue, and what a fault does."""

import asyncio
import gc
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from agent.core.plan import Remote
from agent.mqtt import MAX_PENDING, MqttLink, Outgoing, tls_context
from hil.broker import Broker
from hil.pki import Pki
from tests.hil.parties import KINDS, Parties, cut, next_message
from tests.waiting import wait_until

ROBOT = "R-1"
TOPIC = f"warden/v1/{ROBOT}"
S = 1_000_000_000
WILL = Outgoing(f"{TOPIC}/link", b'{"online": false}', 1, retain=True)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.create(tmp_path_factory.mktemp("pki") / "made", robot_id=ROBOT)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Broker]:
    """One mosquitto for all tests that do not end it."""
    with Broker("mosquitto", tmp_path_factory.mktemp("mosquitto"), pki) as running:
        yield running


@pytest.fixture
def mortal(tmp_path: Path, pki: Pki) -> Iterator[Broker]:
    """One that the test may kill."""
    with Broker("mosquitto", tmp_path, pki) as running:
        yield running


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


@pytest.fixture
async def told(broker: Broker, pki: Pki) -> AsyncIterator[Told]:
    one = await Told(remote(broker, pki)).up()
    yield one
    await one.link.close()


@pytest.fixture
async def parties(broker: Broker, pki: Pki) -> AsyncIterator[Parties]:
    async with Parties(broker, pki) as everyone:
        yield everyone


# ---- both ways


@pytest.mark.parametrize("kind", KINDS)
async def test_commands_come_in_and_answers_go_out(kind: Any, tmp_path: Path, pki: Pki) -> None:  # noqa: ANN401
    """With MQTT 5 at mosquitto and with 3.1.1 at the embedded broker."""
    with Broker(kind, tmp_path, pki) as broker:
        told = await Told(remote(broker, pki)).up()
        async with Parties(broker, pki) as parties:
            guardian = await parties.enter("guardian-li")
            await guardian.subscribe(f"{TOPIC}/reply/guardian-li", qos=1)
            await guardian.publish(f"{TOPIC}/cmd", b"to one", qos=1)
            await guardian.publish("warden/v1/group/hall/cmd", b"to the hall", qos=1)
            await wait_until(lambda: len(told.packets) == 2)
            told.link.publish(Outgoing(f"{TOPIC}/reply/guardian-li", "好".encode()))
            assert (await next_message(guardian)).payload == "好".encode()
        assert told.packets == [
            (f"{TOPIC}/cmd", b"to one", False),
            ("warden/v1/group/hall/cmd", b"to the hall", False),
        ]
        assert told.links == [(True, "")]
        await told.link.close()


async def test_a_packet_is_handled_inside_the_clients_own_callback(broker: Broker, pki: Pki) -> None:
    """No task stands between a stop and the one who acts on it."""
    tasks: list[object] = []
    told = await Told(remote(broker, pki), on_packet=lambda *_: tasks.append(asyncio.current_task())).up()
    async with Parties(broker, pki) as parties:
        guardian = await parties.enter("guardian-li")
        await guardian.publish(f"{TOPIC}/cmd", b"stop", qos=1)
        await wait_until(lambda: tasks)
    assert tasks == [None]
    await told.link.close()


async def test_a_retained_command_is_told_apart(parties: Parties, broker: Broker, pki: Pki) -> None:
    guardian = await parties.enter("guardian-li")
    await guardian.publish(f"{TOPIC}/cmd", b"kept", qos=1, retain=True)
    told = await Told(remote(broker, pki)).up()
    await wait_until(lambda: (f"{TOPIC}/cmd", b"kept", True) in told.packets)
    await guardian.publish(f"{TOPIC}/cmd", b"", qos=1, retain=True)
    await told.link.close()


async def test_what_is_retained_is_there_for_who_comes_later(told: Told, parties: Parties) -> None:
    told.link.publish(Outgoing(f"{TOPIC}/state", b"state", retain=True))
    told.link.publish(Outgoing(f"{TOPIC}/event", b"event"))
    await told.link.drain(20)
    late = await parties.enter("guardian-li")
    await late.subscribe(f"{TOPIC}/#", qos=1)
    message = await next_message(late)
    assert (message.topic.value, message.payload, message.retain) == (f"{TOPIC}/state", b"state", True)


async def test_the_round_trip_is_measured_on_what_is_acknowledged(told: Told) -> None:
    assert told.link.round_trip_s == float("inf")
    told.link.publish(Outgoing(f"{TOPIC}/telemetry", b"{}", qos=0))
    await told.link.drain(20)
    assert told.link.round_trip_s == float("inf")
    told.link.publish(Outgoing(f"{TOPIC}/event", b"x"))
    await told.link.drain(20)
    assert 0 < told.link.round_trip_s < 20


async def test_nagles_algorithm_is_off(told: Told) -> None:
    sock = told.client._client.socket()
    assert isinstance(sock, socket.socket)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


# ---- down and back


async def test_a_link_that_is_cut_comes_back_and_the_will_was_said(told: Told, parties: Parties) -> None:
    guardian = await parties.enter("guardian-li")
    await guardian.subscribe(f"{TOPIC}/link", qos=1)
    cut(told.client)
    assert (await next_message(guardian)).payload == WILL.payload
    await wait_until(lambda: [up for up, _ in told.links] == [True, False, True])
    assert told.links[1][1]
    assert told.link.connected


async def test_an_ordered_end_does_not_say_the_will(broker: Broker, pki: Pki, parties: Parties) -> None:
    guardian = await parties.enter("guardian-li")
    told = await Told(remote(broker, pki)).up()
    told.link.publish(Outgoing(WILL.topic, b"farewell", 1, retain=True))
    await told.link.drain(20)
    await told.link.close()
    again = await Told(remote(broker, pki)).up()  # the broker has seen the end of the one before
    await guardian.subscribe(f"{TOPIC}/link", qos=1)
    assert (await next_message(guardian)).payload == b"farewell"
    await again.link.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_commands_given_while_it_was_away_are_there_when_it_is_back(
    broker: Broker, pki: Pki, parties: Parties, protocol: str
) -> None:
    plan = replace(remote(broker, pki), protocol=protocol)
    await (await Told(plan).up()).link.close()
    guardian = await parties.enter("guardian-li")
    await guardian.publish(f"{TOPIC}/cmd", b"while away", qos=1)
    again = await Told(plan).up()
    await wait_until(lambda: again.packets)
    assert again.packets == [(f"{TOPIC}/cmd", b"while away", False)]
    await again.link.close()


async def test_a_broker_that_dies_and_comes_back(mortal: Broker, pki: Pki) -> None:
    told = await Told(remote(mortal, pki)).up()
    mortal.kill()
    assert await told.down() != ""
    assert not told.link.connected
    told.link.publish(Outgoing(f"{TOPIC}/event", b"nobody hears it"))
    assert told.dropped == 1
    mortal.restart()
    await wait_until(lambda: told.link.connected)
    async with Parties(mortal, pki) as parties:
        guardian = await parties.enter("guardian-li")
        await guardian.publish(f"{TOPIC}/cmd", b"again", qos=1)
        await wait_until(lambda: told.packets == [(f"{TOPIC}/cmd", b"again", False)])
    assert told.dropped == 1
    await told.link.close()


async def test_what_is_told_on_connecting_is_retained_anew_at_a_broker_that_forgot(
    mortal: Broker, pki: Pki
) -> None:
    def greet() -> None:
        ours.link.publish(Outgoing(f"{TOPIC}/link", b"online", retain=True))

    ours = Told(remote(mortal, pki), on_up=greet)
    await ours.up()
    await ours.link.drain(20)
    mortal.restart()
    await wait_until(lambda: [up for up, _ in ours.links].count(True) == 2)
    await ours.link.drain(20)
    async with Parties(mortal, pki) as parties:
        late = await parties.enter("guardian-li")
        await late.subscribe(f"{TOPIC}/link", qos=1)
        assert (await next_message(late)).payload == b"online"
    await ours.link.close()


async def test_a_broker_that_hangs_is_a_link_lost(mortal: Broker, pki: Pki) -> None:
    """Its connection stays; that nothing is answered shows within the plan's time."""
    told = await Told(replace(remote(mortal, pki), link_lost_ns=2 * S)).up()
    mortal.freeze()
    assert await told.down() != ""
    mortal.thaw()
    await wait_until(lambda: told.link.connected)
    await told.link.close()


async def test_no_more_than_so_many_wait_for_their_acknowledgement(mortal: Broker, pki: Pki) -> None:
    told = await Told(remote(mortal, pki)).up()
    mortal.freeze()
    for number in range(MAX_PENDING + 7):
        told.link.publish(Outgoing(f"{TOPIC}/event", b"%d" % number))
    assert told.dropped == 7
    mortal.thaw()
    await told.link.drain(20)
    told.link.publish(Outgoing(f"{TOPIC}/event", b"room again"))
    await told.link.drain(20)
    assert told.dropped == 7
    await told.link.close()


async def test_what_was_waiting_when_the_link_went_is_counted_as_dropped(mortal: Broker, pki: Pki) -> None:
    told = await Told(remote(mortal, pki)).up()
    mortal.freeze()
    for _ in range(3):
        told.link.publish(Outgoing(f"{TOPIC}/event", b"x"))
    await asyncio.sleep(0)
    mortal.kill()
    await wait_until(lambda: told.dropped == 3)
    await told.link.close()


class Waits:
    """`asyncio` for the module: its waiting is written down and lasts no time."""

    def __init__(self) -> None:
        self.waited_s: list[float] = []

    def __getattr__(self, name: str) -> object:
        return getattr(asyncio, name)

    async def sleep(self, delay_s: float) -> None:
        self.waited_s.append(delay_s)
        await asyncio.sleep(0)


async def test_it_tries_again_less_and_less_often_until_it_is_up(
    mortal: Broker, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = Waits()
    monkeypatch.setattr("agent.mqtt.asyncio", waits)
    mortal.kill()
    told = Told(remote(mortal, pki))
    told.link.start()
    await wait_until(lambda: len(waits.waited_s) >= 7)
    assert waits.waited_s[:7] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    mortal.restart()
    await wait_until(lambda: told.link.connected)
    waits.waited_s.clear()
    cut(told.client)
    await wait_until(lambda: waits.waited_s)
    assert waits.waited_s[0] == 0.2
    await told.link.close()


# ---- what keeps it from connecting


@pytest.fixture
def stranger(tmp_path: Path) -> Pki:
    return Pki.create(tmp_path / "stranger", robot_id=ROBOT)


unclosed = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""The client leaves the socket of a handshake that failed to the interpreter, which warns and closes it."""


async def why_not(plan: Remote, tries: int = 2) -> str:
    """Why it does not come up; it goes on trying."""
    told = Told(plan)
    told.link.start()
    await wait_until(lambda: len(told.links) >= tries)
    assert {up for up, _ in told.links} == {False}
    assert not told.link.connected
    await told.link.close()
    return told.links[0][1]


@unclosed
async def test_a_broker_of_another_authority_is_not_spoken_to(
    broker: Broker, pki: Pki, stranger: Pki
) -> None:
    assert "CERTIFICATE_VERIFY_FAILED" in await why_not(replace(remote(broker, pki), ca=str(stranger.ca)))


@unclosed
async def test_a_broker_whose_certificate_names_another_host_is_not_spoken_to(
    tmp_path: Path, pki: Pki
) -> None:
    """Who holds a guardian's certificate must not be able to play the broker."""
    person = pki.person("guardian-li")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(person.cert, person.key)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    plan = replace(remote_at(pki, port), host="127.0.0.1")
    assert "CERTIFICATE_VERIFY_FAILED" in await why_not(plan)
    server.close()


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


async def test_without_a_certificate_of_ours_it_is_not_let_in(broker: Broker, pki: Pki) -> None:
    plan = replace(remote(broker, pki), cert="", key="", link_lost_ns=S)
    assert await why_not(plan, tries=1) != ""


async def test_a_broker_that_lets_no_command_through_is_no_link(tmp_path: Path, pki: Pki) -> None:
    """Its refusal is an answer like any other to the client; the robot would wait for stops in vain."""
    with Broker("embedded", tmp_path, pki) as broker:
        told = Told(remote(broker, pki), topics=[f"{TOPIC}/cmd", "warden/v1/another/cmd"])
        told.link.start()
        await wait_until(lambda: told.links)
        assert told.links[0] == (False, "the broker does not let us subscribe to warden/v1/another/cmd")
        await told.link.close()


async def test_a_port_where_nobody_listens(pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert "refused" in await why_not(remote_at(pki, port))


async def test_a_name_that_cannot_be_a_hosts_is_said_like_any_other(pki: Pki) -> None:
    """The resolver answers it with an error that is no OSError; the link must not end over it."""
    assert "label empty or too long" in await why_not(replace(remote_at(pki, 8883), host="a..b"))


async def test_a_certificate_file_that_is_away_is_said_and_tried_again(pki: Pki, tmp_path: Path) -> None:
    plan = replace(remote_at(pki, 8883), ca=str(tmp_path / "away.crt"))
    assert "No such file" in await why_not(plan)


def test_only_the_plans_own_authority_is_believed_and_nothing_below_tls_1_2(pki: Pki) -> None:
    context = tls_context(remote_at(pki, 8883))
    (authority,) = context.get_ca_certs()
    assert authority["subject"] == ((("commonName", "warden rig CA"),),)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


# ---- faults, and the end


async def test_a_fault_in_the_handler_of_a_packet_is_no_lost_connection(
    broker: Broker, pki: Pki, parties: Parties
) -> None:
    """The client swallows it; whoever runs the module must hear of it, and the module end."""
    faults: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context.get("exception")))

    def fault(*_: object) -> None:
        raise RuntimeError("nobody foresaw this")

    told = await Told(remote(broker, pki), on_packet=fault).up()
    guardian = await parties.enter("guardian-li")
    await guardian.publish(f"{TOPIC}/cmd", b"x", qos=1)
    await wait_until(lambda: faults)
    assert [str(error) for error in faults] == ["nobody foresaw this"]
    await told.link.close()
    await clear_session(broker, pki)


async def test_a_fault_in_what_hears_of_the_link_ends_it_aloud(broker: Broker, pki: Pki) -> None:
    faults: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append(context.get("exception")))

    def fault() -> None:
        raise RuntimeError("nobody foresaw this")

    told = Told(remote(broker, pki), on_up=fault)
    told.link.start()
    await wait_until(lambda: faults)
    assert [str(error) for error in faults] == ["nobody foresaw this"]
    await told.link.close()


async def clear_session(broker: Broker, pki: Pki) -> None:
    """What the broker keeps for the robot is taken, so that the next test finds nothing."""
    told = await Told(remote(broker, pki)).up()
    await wait_until(lambda: told.packets)
    await told.link.close()


async def test_once_the_end_has_begun_no_packet_is_looked_at(told: Told, parties: Parties) -> None:
    """The permit is withdrawn and its writer closed by then."""
    guardian = await parties.enter("guardian-li")
    await told.link.drain(0)
    await guardian.publish(f"{TOPIC}/cmd", b"too late", qos=1)
    told.link.publish(Outgoing(f"{TOPIC}/event", b"x"))
    await told.link.drain(20)  # the acknowledgement came after the packet on the same connection
    assert told.packets == []


async def test_it_can_be_closed_before_it_began_and_twice(broker: Broker, pki: Pki) -> None:
    await Told(remote(broker, pki)).link.close()
    told = await Told(remote(broker, pki)).up()
    await told.link.close()
    await told.link.close()
    assert told.links == [(True, "")]


async def test_connections_that_ended_leave_nothing_behind_though_the_collector_is_off(pki: Pki) -> None:
    """A broker away for a week is tried a hundred thousand times."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    told = Told(remote_at(pki, port))
    gc.collect()
    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("agent.mqtt.asyncio", Waits())
            told.link.start()
            await wait_until(lambda: len(told.links) >= 20)
            left = sum(isinstance(thing, aiomqtt.Client) for thing in gc.get_objects())
            await told.link.close()
    finally:
        gc.enable()
    assert left <= 2
