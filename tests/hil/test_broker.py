"""How the rig's brokers start and end, and that what is shipped is what they run with."""

import importlib.util
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import hil.broker
from hil.broker import Broker, BrokerError, Kind, find_mosquitto
from hil.child import Child
from hil.pki import Pki
from tests.hil.parties import (
    KINDS,
    Parties,
    lets_in,
)
from tests.waiting import block_until

CONFIG = Path(__file__).parents[2] / "config" / "broker"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.create(tmp_path_factory.mktemp("pki") / "made", robot_id="R-1")


# How it starts and ends -----------------------------------------------------------------------------------


@pytest.fixture(params=KINDS)
def own(request: pytest.FixtureRequest, tmp_path: Path, pki: Pki) -> Iterator[Broker]:
    """One that the test may end."""
    with Broker(request.param, tmp_path, pki) as running:
        yield running


def test_killed_it_is_gone_and_it_comes_back_on_the_same_port(own: Broker, pki: Pki) -> None:
    url, pid = own.url, own.pid
    own.kill()
    assert not lets_in(own, pki)
    own.restart()
    assert (own.url, own.pid != pid, lets_in(own, pki)) == (url, True, True)


def test_frozen_it_stands_still_and_thawed_it_goes_on(own: Broker) -> None:
    process = psutil.Process(own.pid)
    own.freeze()
    block_until(lambda: process.status() == psutil.STATUS_STOPPED)
    own.thaw()
    block_until(lambda: process.status() != psutil.STATUS_STOPPED)


def test_stopped_it_says_goodbye_even_when_frozen(own: Broker) -> None:
    pid = own.pid
    own.freeze()
    own.stop()
    own.stop()
    assert not psutil.pid_exists(pid)


async def test_a_restart_forgets_what_was_retained(own: Broker, pki: Pki) -> None:
    async with Parties(own, pki) as parties:
        robot = await parties.enter("R-1")
        await robot.publish("warden/v1/R-1/link", b"old", qos=1, retain=True)
    own.restart()
    async with Parties(own, pki) as parties:
        late = await parties.enter("guardian-li")
        await late.subscribe("warden/v1/R-1/link", qos=1)
        await late.subscribe("warden/v1/R-1/nothing", qos=1)
        assert len(late.messages) == 0


def test_before_its_start_it_has_no_port(tmp_path: Path, pki: Pki) -> None:
    broker = Broker("auto", tmp_path, pki)
    for ask in (lambda: broker.port, lambda: broker.url, lambda: broker.pid, broker.kill, broker.freeze):
        with pytest.raises(BrokerError, match="has not been started yet"):
            ask()
    broker.stop()


def test_auto_is_mosquitto_where_there_is_one(tmp_path: Path, pki: Pki) -> None:
    assert find_mosquitto() is not None, "mosquitto is not installed: `make test` installs it where it may"
    broker = Broker("auto", tmp_path, pki)
    assert (broker.kind, broker.protocol) == ("mosquitto", "5")


def test_auto_is_the_embedded_one_where_there_is_none(
    tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    broker = Broker("auto", tmp_path, pki)
    assert (broker.kind, broker.protocol) == ("embedded", "3.1.1")
    with pytest.raises(BrokerError, match="mosquitto is not installed") as caught:
        Broker("mosquitto", tmp_path, pki)
    assert caught.value.kind == "mosquitto"


def test_where_neither_is_installed_that_is_said(
    tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BrokerError, match="neither mosquitto nor amqtt"):
        Broker("auto", tmp_path, pki)


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_cannot_start_says_why(tmp_path: Path, kind: Kind) -> None:
    pki = Pki.create(tmp_path / "pki")
    pki.server_key.unlink()
    broker = Broker(kind, tmp_path / "broker", pki)
    with pytest.raises(BrokerError, match=r"server\.key") as caught:
        broker.start()
    assert caught.value.log.read_text()


def test_one_that_lets_nobody_in_is_ended_at_the_deadline(
    tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = tmp_path / "idle"
    idle.write_text("#!/bin/sh\nexec sleep 60\n")
    idle.chmod(0o755)
    monkeypatch.setattr(hil.broker, "find_mosquitto", lambda: str(idle))
    monkeypatch.setattr(hil.broker, "START_TIMEOUT_S", 0.05)
    broker = Broker("mosquitto", tmp_path, pki)
    with pytest.raises(BrokerError, match="let nobody in"):
        broker.start()
    assert not psutil.pid_exists(broker.pid)


@pytest.mark.parametrize("kind", KINDS)
def test_a_port_that_somebody_took_meanwhile_is_passed_over(
    tmp_path: Path, pki: Pki, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        ports = iter([taken.getsockname()[1], hil.broker.free_port(), hil.broker.free_port()])
        monkeypatch.setattr(hil.broker, "free_port", lambda: next(ports))
        with Broker(kind, tmp_path, pki) as broker:
            assert broker.port != taken.getsockname()[1]
            assert lets_in(broker, pki)


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_port_lost_to_another_broker_is_an_error(tmp_path: Path, pki: Pki, kind: Kind) -> None:
    with Broker(kind, tmp_path / "one", pki) as one:
        two = Broker(kind, tmp_path / "two", pki)
        two._port = one.port
        with pytest.raises(BrokerError, match=r"(?i)address already in use"):
            two.start()


# What is shipped ------------------------------------------------------------------------------------------


def settings(text: str) -> dict[str, list[str]]:
    """A mosquitto.conf's settings, each with all its values."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition(" ")
            found.setdefault(key, []).append(value)
    return found


def test_the_shipped_settings_are_the_rig_s_but_for_the_place(pki: Pki) -> None:
    shipped = settings((CONFIG / "mosquitto.conf").read_text())
    rig = settings(hil.broker.mosquitto_conf(8883, pki, Path("acl")))
    places = {"listener", "cafile", "certfile", "keyfile", "acl_file"}
    only_rig = {"user", "persistence", "log_dest"}
    only_shipped = {"max_queued_messages", "persistent_client_expiration"}
    assert places <= set(shipped) & set(rig)
    assert {k: v for k, v in rig.items() if k not in places | only_rig} == {
        k: v for k, v in shipped.items() if k not in places | only_shipped
    }


async def test_the_shipped_files_serve_as_they_are(tmp_path: Path, pki: Pki) -> None:
    """Only the port, the folder and the user are this machine's."""
    port = hil.broker.free_port()
    for source in (pki.ca, pki.server_cert, pki.server_key, CONFIG / "acl"):
        shutil.copy(source, tmp_path)
    text = (CONFIG / "mosquitto.conf").read_text()
    text = text.replace("listener 8883", f"listener {port} 127.0.0.1")
    text = text.replace("/etc/mosquitto/warden/", f"{tmp_path}/")
    user = "user root\n" if os.geteuid() == 0 else ""
    (tmp_path / "conf").write_text(text + user)
    program = find_mosquitto()
    assert program is not None, "mosquitto is not installed: `make test` installs it where it may"
    child = Child([program, "-c", str(tmp_path / "conf")], tmp_path / "log")
    broker = Broker("mosquitto", tmp_path / "unused", pki)
    broker._port = port
    try:
        block_until(lambda: lets_in(broker, pki))
        async with Parties(broker, pki) as parties:
            witness = await parties.witness()
            robot = await parties.enter("R-1")
            await robot.publish("warden/v1/R-1/state", b"said", qos=1)
            await robot.publish("warden/v1/R-1/cmd", b"forged", qos=1)
            assert await witness.heard() == [("warden/v1/R-1/state", b"said")]
    finally:
        child.stop()
