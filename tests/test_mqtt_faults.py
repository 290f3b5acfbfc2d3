"""The guardians' link: what keeps it from connecting, what a fault does, and its end."""

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import aiomqtt
import pytest

from agent.core.plan import Remote
from agent.mqtt import Outgoing, tls_context
from hil.broker import Broker
from hil.pki import Pki
from tests.hil.parties import Parties
from tests.mqtt_link import ROBOT, TOPIC, S, Told, Waits, remote, remote_at
from tests.ports import deaf_port
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.create(tmp_path_factory.mktemp("pki") / "made", robot_id=ROBOT)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[Broker]:
    """One mosquitto for all tests that do not end it."""
    with Broker("mosquitto", tmp_path_factory.mktemp("mosquitto"), pki) as running:
        yield running


@pytest.fixture
async def told(broker: Broker, pki: Pki) -> AsyncIterator[Told]:
    one = await Told(remote(broker, pki)).up()
    yield one
    await one.link.close()


@pytest.fixture
async def parties(broker: Broker, pki: Pki) -> AsyncIterator[Parties]:
    async with Parties(broker, pki) as everyone:
        yield everyone


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
    with deaf_port() as port:
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


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, OSError, KeyError])
async def test_a_fault_in_the_handler_of_a_packet_is_no_lost_connection(
    broker: Broker, pki: Pki, parties: Parties, kind: type[Exception]
) -> None:
    """The client swallows it; whoever runs the module must hear of it, and the module end."""
    faults: list[tuple[object, int]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: faults.append((context.get("exception"), len(ours.links))))

    def fault(*_: object) -> None:
        raise kind("nobody foresaw this")

    ours = await Told(remote(broker, pki), on_packet=fault).up()
    guardian = await parties.enter("guardian-li")
    await guardian.publish(f"{TOPIC}/cmd", b"x", qos=1)
    await wait_until(lambda: faults)
    await ours.link.close()
    error, links_told = faults[0]
    assert type(error) is kind
    assert error.args == ("nobody foresaw this",)
    assert links_told == 1
    await clear_session(broker, pki)


CONNACK = b"\x20\x03\x00\x00\x00"
"""Of MQTT 5: let in."""


@pytest.mark.parametrize(
    ("answer", "at_once"),
    [(CONNACK, True), (CONNACK, False), (CONNACK + b"\xe0\x00", True), (b"\xff" * 9, True)],
    ids=["let in and cut off", "cut off on subscribe", "let in and sent away", "garbage"],
)
async def test_a_link_that_ends_at_any_moment_is_no_fault(pki: Pki, answer: bytes, at_once: bool) -> None:
    """The client keeps such an end as an error that asyncio would report when it is collected."""
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer)
        if not at_once:
            with suppress(ConnectionError):
                await reader.read(1000)
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    plan = remote_at(pki, server.sockets[0].getsockname()[1])
    told = Told(replace(plan, host="127.0.0.1", tls=False, link_lost_ns=S))
    told.link.start()
    await wait_until(lambda: told.links)
    await told.link.close()
    gc.collect()
    server.close()
    assert faults == []


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
    gc.collect()
    gc.disable()
    try:
        with deaf_port() as port, pytest.MonkeyPatch.context() as patch:
            told = Told(remote_at(pki, port))
            patch.setattr("agent.mqtt.asyncio", Waits())
            told.link.start()
            await wait_until(lambda: len(told.links) >= 20)
            left = sum(isinstance(thing, aiomqtt.Client) for thing in gc.get_objects())
            await told.link.close()
    finally:
        gc.enable()
    assert left <= 2
