"""The guardian's link: what the network, TLS and the broker may do to it."""

import gc
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest

from agent.tokens import MAX_TOKEN_BYTES, KeyFileError
from console import link
from console.errors import (
    MqttLinkError,
    ProfileError,
)
from console.link import MAX_WAITING_PACKETS, Inbox, Packet, refused_topics
from console.session import Session
from console.told import Stage
from tests.console.robots import GUARDIAN, Site
from tests.ports import deaf_port

WORD_S = 2.0
"""For an answer that does come, and ends nothing."""


async def all_of(told: AsyncIterator[Stage]) -> list[Stage]:
    return [stage async for stage in told]


async def test_nothing_is_held_back_on_its_way_to_the_broker(site: Site, tmp_path: Path) -> None:
    async with Session(site.profile(tmp_path)) as session:
        socket_of_link = session._link._open()._client.socket()
        assert isinstance(socket_of_link, socket.socket)
        assert socket_of_link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_a_session_that_is_not_open_says_so(site: Site, tmp_path: Path) -> None:
    with pytest.raises(MqttLinkError, match="not connected"):
        await Session(site.profile(tmp_path)).state("R1")


async def test_a_packet_that_is_too_large_is_dropped(site: Site, tmp_path: Path) -> None:
    """By the broker too: this is what the broker lets through."""
    async with Session(site.profile(tmp_path)) as session:
        with session._link.listen() as inbox:
            for size in (MAX_TOKEN_BYTES + 1, MAX_TOKEN_BYTES):
                message = aiomqtt.Message("warden/v1/R1/state", b"x" * size, 1, False, 1, None)
                session._link._hand_on(message)
            packet = await inbox.get(None)

    assert packet is not None
    assert len(packet.payload) == MAX_TOKEN_BYTES


async def test_a_broker_that_is_not_there_is_named(site: Site, tmp_path: Path) -> None:
    with deaf_port() as port, pytest.raises(MqttLinkError) as caught:
        async with Session(site.profile(tmp_path, broker=f"mqtts://127.0.0.1:{port}")):
            pytest.fail("connected to nobody")

    assert caught.value.broker == f"127.0.0.1:{port}"
    assert "refused" in caught.value.reason


# paho drops the socket of a failed handshake without closing it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_broker_with_a_foreign_certificate_is_refused(site: Site, tmp_path: Path) -> None:
    other = Site.create(tmp_path / "other")

    with pytest.raises(MqttLinkError, match="CERTIFICATE_VERIFY_FAILED"):
        async with Session(site.profile(tmp_path, ca=str(other.pki.ca))):
            pytest.fail("believed a foreign broker")


async def test_a_certificate_the_broker_does_not_take_is_an_error(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # All of it is waited for: long enough for the broker's word on a busy machine.
    monkeypatch.setattr(link, "CONNECT_TIMEOUT_S", WORD_S)
    files = Site.create(tmp_path / "other").pki.person(GUARDIAN)
    gc.collect()
    caplog.clear()  # what other tests left behind is not about this

    with pytest.raises(MqttLinkError, match="alert unknown ca"):
        async with Session(site.profile(tmp_path, cert=str(files.cert), key=str(files.key))):
            pytest.fail("the broker took a foreign certificate")
    gc.collect()
    assert caplog.records == [], "nothing else is said about it"


def test_topics_the_broker_forbids_are_known_by_their_code() -> None:
    """A mosquitto grants what its acl_file forbids and then sends nothing; other brokers say so."""
    granted, forbidden = [0, 1, 2], [128, 135]

    assert refused_topics(["a", "b", "c", "d", "e"], [*granted, *forbidden]) == ["d", "e"]


async def test_when_the_broker_goes_away_the_command_says_so(tmp_path: Path) -> None:
    site = Site.create(tmp_path)
    with site.broker:
        async with Session(site.profile(tmp_path)) as session:
            told = session.stop("R1")
            assert (await anext(told)).stage == "sent"
            site.broker.kill()
            with pytest.raises(MqttLinkError):
                await anext(told)
            with pytest.raises(MqttLinkError):
                await all_of(session.ping("R1"))
            with pytest.raises(MqttLinkError):
                await session.state("R1")


async def test_files_others_can_read_are_refused_before_anything_is_sent(site: Site, tmp_path: Path) -> None:
    open_key = tmp_path / "open.pem"
    open_key.write_bytes(site.pki.person(GUARDIAN).signing_key.read_bytes())
    open_key.chmod(0o644)

    for key in ("signing_key", "key"):
        with pytest.raises(KeyFileError, match="chmod 600"):
            Session(site.profile(tmp_path, **{key: str(open_key)}))


@pytest.mark.parametrize(("changes", "key"), [({"ca": "cert"}, "ca"), ({"cert": "ca"}, "cert, key")])
async def test_certificates_that_cannot_be_used_are_named(
    site: Site, tmp_path: Path, changes: dict[str, str], key: str
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate", "utf-8")

    with pytest.raises(ProfileError) as caught:
        Session(site.profile(tmp_path, **dict.fromkeys(changes, str(junk))))
    assert caught.value.key == key
    assert "junk.pem" in str(caught.value)


async def test_an_inbox_is_bounded() -> None:
    inbox = Inbox()
    for number in range(MAX_WAITING_PACKETS + 5):
        inbox.put(Packet(str(number), b"", 0))

    assert inbox.dropped == 5
    first = await inbox.get(None)
    assert first is not None
    assert first.topic == "0"
