"""The guardians' link at a real broker: both ways, up, down and back, its will and its queue."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.mqtt import MAX_PENDING, Outgoing
from hil.broker import Broker
from hil.pki import Pki
from tests.hil.parties import KINDS, Parties, cut, next_message
from tests.mqtt_link import ROBOT, TOPIC, WILL, S, Told, Waits, remote
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
def mortal(tmp_path: Path, pki: Pki) -> Iterator[Broker]:
    """One that the test may kill."""
    with Broker("mosquitto", tmp_path, pki) as running:
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


async def test_what_was_waiting_when_the_link_went_is_dropped_at_once(mortal: Broker, pki: Pki) -> None:
    """However long the plan lets the link be lost: its places are needed for what is said afterwards."""
    told = await Told(replace(remote(mortal, pki), link_lost_ns=600 * S)).up()
    mortal.freeze()
    for _ in range(3):
        told.link.publish(Outgoing(f"{TOPIC}/event", b"x"))
    await asyncio.sleep(0)
    mortal.kill()
    await wait_until(lambda: told.dropped == 3)
    assert not told.link._publishing
    await told.link.close()


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
    # Told to end in the middle of connecting, it leaves a thread that connects, and a client nobody closes.
    await wait_until(lambda: told.link.connected)
    await told.link.close()


async def test_it_tells_its_far_end_and_what_it_sends(told: Told, parties: Parties, broker: Broker) -> None:
    sent: list[tuple[str, int]] = []
    told.link.on_sent = lambda topic, size: sent.append((topic, size))
    told.link.publish(Outgoing(f"{TOPIC}/event", b"12345"))
    assert sent == [(f"{TOPIC}/event", 5)]
    assert told.link.about["peer"].endswith(f":{broker.port}")
    assert told.link.about["tls"].startswith("TLSv1.")
    assert told.link.about["cipher"]
