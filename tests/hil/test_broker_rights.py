"""Who is let in by the rig's brokers, both of them real processes, and who may say and hear what there."""

import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiomqtt
import psutil
import pytest

from hil.broker import Broker
from hil.pki import Pki
from tests.hil.parties import (
    ACCEPTED,
    CONNECT,
    KINDS,
    Parties,
    answer,
    connect,
    cut,
    next_message,
    packet,
    text,
)
from tests.waiting import DEADLINE_S

V5 = aiomqtt.ProtocolVersion.V5


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.create(tmp_path_factory.mktemp("pki") / "made", robot_id="R-1")


@pytest.fixture(scope="module", params=KINDS)
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pki: Pki
) -> Iterator[Broker]:
    """One of each kind for all tests that do not end it. BrokerError says it where one is not installed."""
    with Broker(request.param, tmp_path_factory.mktemp(request.param), pki) as running:
        yield running


@pytest.fixture
async def parties(broker: Broker, pki: Pki) -> AsyncIterator[Parties]:
    async with Parties(broker, pki) as all_of_them:
        yield all_of_them


# Who is let in --------------------------------------------------------------------------------------------


async def test_a_certified_guardian_reaches_a_certified_robot(parties: Parties) -> None:
    robot, guardian = await parties.enter("R-1"), await parties.enter("guardian-li")
    await robot.subscribe("warden/v1/R-1/cmd", qos=1)
    await guardian.publish("warden/v1/R-1/cmd", b"stop", qos=1)
    assert (await next_message(robot)).payload == b"stop"


def test_without_a_certificate_nobody_is_answered(broker: Broker, pki: Pki) -> None:
    assert answer(broker, pki.client_tls(pki.robot), CONNECT) == ACCEPTED
    assert answer(broker, pki.client_tls(None), CONNECT) == b""


def test_a_certificate_of_another_authority_is_as_good_as_none(
    broker: Broker, pki: Pki, tmp_path: Path
) -> None:
    stranger = Pki.create(tmp_path / "other", robot_id="R-1")
    tls = pki.client_tls(None)
    tls.load_cert_chain(stranger.robot.cert, stranger.robot.key)
    assert answer(broker, tls, CONNECT) == b""


def test_without_tls_nobody_is_answered(broker: Broker) -> None:
    with socket.create_connection(("127.0.0.1", broker.port), timeout=DEADLINE_S) as plain:
        plain.sendall(CONNECT)
        with contextlib.suppress(ConnectionError):
            assert plain.recv(1) != ACCEPTED[:1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_server_shows_a_certificate_for_this_machine(broker: Broker, pki: Pki, host: str) -> None:
    tls = pki.client_tls(pki.robot)
    with (
        socket.create_connection(("127.0.0.1", broker.port), timeout=DEADLINE_S) as plain,
        tls.wrap_socket(plain, server_hostname=host) as link,
    ):
        assert link.version() in ("TLSv1.2", "TLSv1.3")


async def test_the_user_name_in_connect_is_not_believed(parties: Parties) -> None:
    witness = await parties.witness()
    liar = await parties.enter("guardian-li", username="R-1")
    await liar.publish("warden/v1/R-1/state", b"lie", qos=1)
    await liar.publish("warden/v1/R-1/cmd", b"truth", qos=1)
    assert await witness.heard() == [("warden/v1/R-1/cmd", b"truth")]


async def test_mqtt_5_where_the_broker_says_so(parties: Parties) -> None:
    speaks = parties.client("R-1", protocol=V5)
    if parties.broker.protocol == "5":
        async with speaks as robot:
            await robot.publish("warden/v1/R-1/state", b"", qos=1)
    else:
        with pytest.raises(aiomqtt.MqttError):
            await speaks.__aenter__()


def test_it_listens_on_the_loopback_interface_only(broker: Broker) -> None:
    listening = [
        connection.laddr
        for connection in psutil.Process(broker.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", broker.port)]


# Who may say and hear what --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "topic", "passes"),
    [
        ("R-1", "R-1/state", True),
        ("R-1", "R-1/reply/guardian-li", True),
        ("R-1", "R-1/cmd", False),
        ("R-1", "group/all/cmd", False),
        ("R-1", "R-1/trust", False),
        ("R-1", "R-2/state", False),
        ("guardian-li", "R-2/cmd", True),
        ("guardian-li", "group/all/cmd", True),
        ("guardian-li", "R-1/presence", True),
        ("guardian-li", "R-1/state", False),
        ("guardian-li", "R-1/link", False),
        ("guardian-li", "R-1/trust", False),
        ("department-chen", "R-1/trust", True),
        ("authority-zhou", "R-1/report/receipt", True),
    ],
)
async def test_who_may_publish_where(parties: Parties, who: str, topic: str, passes: bool) -> None:
    witness = await parties.witness()
    writer = await parties.enter(who)
    await writer.publish(f"warden/v1/{topic}", b"said", qos=1)
    assert await witness.heard() == ([(f"warden/v1/{topic}", b"said")] if passes else [])


@pytest.mark.parametrize(
    ("who", "topic", "passes"),
    [
        ("R-1", "R-1/cmd", True),
        ("R-1", "group/all/cmd", True),
        ("R-1", "R-2/cmd", False),
        ("guardian-li", "R-2/cmd", True),
    ],
)
async def test_who_may_hear_what(parties: Parties, who: str, topic: str, passes: bool) -> None:
    witness = await parties.witness()
    reader, writer = await parties.enter(who), await parties.enter("guardian-wang")
    await reader.subscribe(f"warden/v1/{topic}", qos=1)
    await writer.publish(f"warden/v1/{topic}", b"said", qos=1)
    assert await witness.heard() == [(f"warden/v1/{topic}", b"said")]
    # The answer to this comes after whatever the broker had for this client before.
    await reader.subscribe("warden/v1/R-1/nothing", qos=1)
    assert len(reader.messages) == passes


async def test_one_with_a_certificate_and_no_rights_is_told_nothing(parties: Parties) -> None:
    if not parties.identity("stranger").cert.exists():
        parties.pki.enrol("stranger")
    witness = await parties.witness()
    stranger, writer = await parties.enter("stranger"), await parties.enter("R-1")
    await stranger.subscribe("warden/v1/#", qos=1)
    await writer.publish("warden/v1/R-1/state", b"secret", qos=1)
    await stranger.publish("warden/v1/R-1/cmd", b"stop", qos=1)
    assert await witness.heard() == [("warden/v1/R-1/state", b"secret")]
    await stranger.subscribe("warden/v1/R-1/nothing", qos=1)
    assert len(stranger.messages) == 0


async def test_what_is_retained_is_there_for_the_next_one_and_for_nobody_else(parties: Parties) -> None:
    robot = await parties.enter("R-1")
    await robot.publish("warden/v1/R-1/link", b"here", qos=1, retain=True)
    late = await parties.enter("guardian-li")
    await late.subscribe("warden/v1/R-1/link", qos=1)
    message = await next_message(late)
    assert (message.payload, message.retain) == (b"here", True)
    await robot.publish("warden/v1/R-1/link", b"", qos=1, retain=True)


async def test_a_last_will_goes_out_when_its_owner_is_cut_off(parties: Parties) -> None:
    witness = await parties.enter("guardian-li")
    await witness.subscribe("warden/v1/R-1/link", qos=1)
    will = aiomqtt.Will("warden/v1/R-1/link", b"gone", qos=1)
    robot = await parties.enter("R-1", will=will)
    await robot.publish("warden/v1/R-1/link", b"here", qos=1)
    assert (await next_message(witness)).payload == b"here"
    cut(robot)
    assert (await next_message(witness)).payload == b"gone"


async def test_a_last_will_in_another_s_name_never_goes_out(parties: Parties, pki: Pki) -> None:
    witness = await parties.witness()
    lie = connect(b"liar", will=(b"warden/v1/R-1/link", b"lie"))
    # The embedded broker refuses the connection; mosquitto takes it and keeps the will to itself.
    told = answer(parties.broker, pki.client_tls(pki.person("guardian-li")), lie)
    assert (told == ACCEPTED) is (parties.broker.kind == "mosquitto")
    # Its end has been seen by the time that a whole new connection has been made.
    await parties.enter("R-1")
    assert await witness.heard() == []


async def test_what_is_over_64_kib_is_not_passed_on(parties: Parties, pki: Pki) -> None:
    witness = await parties.witness()
    too_long = packet(0x30, text(b"warden/v1/R-1/state") + b"x" * 65537)
    assert answer(parties.broker, pki.client_tls(pki.robot), CONNECT, too_long) == b"", "hung up on"
    assert await witness.heard() == []


async def test_what_is_just_under_64_kib_is_passed_on(parties: Parties) -> None:
    witness = await parties.witness()
    writer = await parties.enter("R-1")
    await writer.publish("warden/v1/R-1/state", b"x" * 65400, qos=1)
    assert await witness.heard() == [("warden/v1/R-1/state", b"x" * 65400)]


# The embedded one alone -----------------------------------------------------------------------------------


async def test_another_s_session_cannot_be_taken_up_by_its_client_id(tmp_path: Path, pki: Pki) -> None:
    with Broker("embedded", tmp_path, pki) as broker:
        async with Parties(broker, pki) as parties:
            witness = await parties.witness()
            async with parties.client("R-1", identifier="robot", clean_session=False):
                pass
            lie = connect(b"robot", clean=False, will=(b"warden/v1/R-1/link", b"lie"))
            assert answer(broker, pki.client_tls(pki.person("guardian-li")), lie) == b""
            owner = await parties.enter("R-1", identifier="robot", clean_session=False)
            await owner.publish("warden/v1/R-1/state", b"mine", qos=1)
            assert await witness.heard() == [("warden/v1/R-1/state", b"mine")]
