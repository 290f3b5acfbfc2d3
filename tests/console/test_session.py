"""A guardian's session against a real broker: stages, states and events, and who is believed (PROTOCOL 3)."""

import gc
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.core.responses import Response
from agent.tokens import MAX_TOKEN_BYTES, KeyFileError, TrustFileError
from console import link
from console.belief import Belief
from console.errors import (
    DONE,
    FAILED,
    NO_ANSWER,
    REFUSED,
    MqttLinkError,
    NoAnswerError,
    ProfileError,
    UnverifiedError,
)
from console.link import Packet, refused_topics
from console.session import Session
from console.told import EventSeen, LinkSeen, Problem, Stage, StateSeen, Update, outcome
from hil.broker import free_port
from tests.console.robots import CHALLENGE, GUARDIAN, Site, ends, stages

SHORT_S = 0.3
"""For answers that never come."""


async def all_of(told: AsyncIterator[Stage]) -> list[Stage]:
    return [stage async for stage in told]


def names(told: list[Stage]) -> list[str]:
    return [stage.stage for stage in told]


async def test_a_stop_is_followed_to_the_observed_standstill(site: Site, tmp_path: Path) -> None:
    async with site.robot() as robot, Session(site.profile(tmp_path)) as session:
        told = await all_of(session.stop("R1", reason="有人靠近"))

    assert names(told) == ["sent", "accepted", "actuated", "verified"]
    assert [stage.exit_code for stage in told] == [None, None, None, DONE]
    assert [stage.after_us for stage in told] == [None, 400, 800, 1200]
    assert all(later.here_ms > 0 for later in told[1:])
    assert outcome(told) == DONE
    (claims,) = robot.heard
    assert claims["args"] == {"response": "emergency_stop", "reason": "有人靠近"}
    assert (claims["iss"], claims["aud"], claims["cmd"]) == (GUARDIAN, "R1", "stop")
    assert claims["exp"] - claims["iat"] == 120
    assert abs(claims["iat"] - time.time()) < 60


async def test_mqtt_3_1_1_serves_as_well(site: Site, tmp_path: Path) -> None:
    async with site.robot(), Session(site.profile(tmp_path, protocol="3.1.1")) as session:
        assert outcome(await all_of(session.stop("R1", response=Response.HOLD))) == DONE


@pytest.mark.parametrize(
    ("stage", "exit_code"),
    [("refused", REFUSED), ("failed", FAILED), ("actuated", NO_ANSWER), ("", NO_ANSWER)],
)
async def test_a_stop_that_is_not_verified_is_not_done(
    site: Site, tmp_path: Path, stage: str, exit_code: int
) -> None:
    script = stages(*filter(None, [stage]))
    async with site.robot(script=script), Session(site.profile(tmp_path)) as session:
        told = await all_of(session.stop("R1", timeout_s=SHORT_S if exit_code == NO_ANSWER else 10))

    assert outcome(told) == exit_code
    assert told[-1].stage == (stage if exit_code != NO_ANSWER else "silent")


async def test_a_group_is_stopped_by_one_command_and_waited_for_robot_by_robot(
    site: Site, tmp_path: Path
) -> None:
    async with (
        site.robot("R1") as one,
        site.robot("R2", stages("accepted", "actuated")) as two,
        Session(site.profile(tmp_path)) as session,
    ):
        told = await all_of(session.stop_group("hall", timeout_s=SHORT_S))
        lobby = await all_of(session.stop_group("lobby"))
        everyone = await all_of(session.stop_group("all", timeout_s=SHORT_S))

    assert {stage.robot_id: stage.stage for stage in told} == {"R1": "verified", "R2": "silent"}
    assert outcome(told) == outcome(everyone) == NO_ANSWER
    assert outcome(lobby) == DONE
    assert [claims["aud"] for claims in one.heard] == ["group:hall", "group:lobby", "group:all"]
    assert one.heard[0]["jti"] == two.heard[0]["jti"]


async def test_a_group_nobody_is_known_to_be_in_is_ordered_all_the_same(site: Site, tmp_path: Path) -> None:
    async with site.robot() as robot:
        async with Session(site.profile(tmp_path)) as session:
            told = await all_of(session.stop_group("empty"))
        async with Session(site.profile(tmp_path)) as session:
            await all_of(session.ping("R1"))  # comes after the stop, so the stop has come

    assert told == []
    assert outcome(told) == FAILED
    assert [claims["aud"] for claims in robot.heard] == ["group:empty", "R1"]


async def test_a_robot_that_takes_a_group_command_is_followed_though_no_list_names_it(
    site: Site, tmp_path: Path
) -> None:
    script = stages("accepted")
    async with (
        site.robot("R1", script),
        site.robot("R2", script) as unlisted,
        Session(site.profile(tmp_path)) as session,
    ):
        unlisted.groups |= {"lobby"}
        told = await all_of(session.stop_group("lobby", timeout_s=SHORT_S))

    assert {stage.robot_id: stage.stage for stage in told} == {"R1": "silent", "R2": "silent"}


async def test_a_ping_is_answered(site: Site, tmp_path: Path) -> None:
    async with site.robot() as robot, Session(site.profile(tmp_path)) as session:
        told = await all_of(session.ping("R1"))

    assert names(told) == ["sent", "accepted"]
    assert outcome(told) == DONE
    assert robot.heard[0]["args"] == {}
    assert robot.heard[0]["exp"] - robot.heard[0]["iat"] == 30


async def test_several_commands_at_once_do_not_mix(site: Site, tmp_path: Path) -> None:
    async with (
        site.robot(),
        site.robot("R2", ends("refused", "revoked")),
        Session(site.profile(tmp_path)) as session,
    ):
        one, two = session.stop("R1"), session.ping("R2")
        first, second = await anext(one), await anext(two)
        rest_of_two, rest_of_one = await all_of(two), await all_of(one)

    assert names([first, *rest_of_one]) == ["sent", "accepted", "actuated", "verified"]
    assert names([second, *rest_of_two]) == ["sent", "refused"]


# -------------------------------------------------------------------------------------------- who is believed

IMPOSTOR = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
FORGED: list[tuple[dict[str, Any], str]] = [
    ({"key": IMPOSTOR}, "bad_signature"),
    ({"kid": "R9"}, "unknown_key"),
    ({"kid": GUARDIAN}, "unknown_key"),
    ({"iss": "R2"}, "bad_signature"),
    ({"aud": "guardian-wang"}, "wrong_audience"),
    ({"stage": "done"}, "malformed"),
    ({"after_us": -1}, "malformed"),
    ({"after_us": "1"}, "malformed"),
    ({"re": 5}, "malformed"),
]


@pytest.mark.parametrize(("changes", "code"), FORGED)
async def test_a_forged_reply_is_said_to_be_one_and_ends_nothing(
    site: Site, tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    def script(_: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"stage": "verified", **changes}, {"stage": "refused", "reason": "revoked"}]

    async with site.robot(script=script), Session(site.profile(tmp_path)) as session:
        told = await all_of(session.stop("R1"))

    assert [(stage.stage, stage.reason) for stage in told[1:]] == [
        ("unverified", code),
        ("refused", "revoked"),
    ]
    assert outcome(told) == REFUSED


async def test_one_robot_cannot_answer_for_another(site: Site, tmp_path: Path) -> None:
    """Both keys are trusted: what R2 signs in R1's topic, or says of R1's command, is still not R1's."""

    def as_r2(_: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"stage": "verified", "key": site.robot_keys["R2"], "kid": "R2", "iss": "R2"}]

    async with site.robot(script=as_r2), Session(site.profile(tmp_path)) as session:
        told = await all_of(session.stop("R1", timeout_s=SHORT_S))

    assert [(stage.stage, stage.reason) for stage in told[1:]] == [
        ("unverified", "bad_signature"),
        ("silent", ""),
    ]


async def test_an_answer_to_another_command_is_none_to_this(site: Site, tmp_path: Path) -> None:
    def script(claims: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"stage": "verified", "re": "0" * 32}, {"stage": "accepted"}, {"stage": "accepted"}]

    async with site.robot(script=script), Session(site.profile(tmp_path)) as session:
        told = await all_of(session.stop("R1", timeout_s=SHORT_S))

    assert names(told) == ["sent", "accepted", "silent"], "and a stage that comes twice is told once"


async def test_without_trust_a_stop_goes_out_and_nothing_is_believed(site: Site, tmp_path: Path) -> None:
    profile = site.profile(tmp_path, trust=str(tmp_path / "away.jwt"))
    with pytest.raises(TrustFileError, match=r"away\.jwt"):
        Session(profile)

    async with site.robot() as robot, Session(profile, trust_required=False) as session:
        told = await all_of(session.stop("R1", timeout_s=SHORT_S))

    assert "away.jwt" in session.warnings[0]
    assert [claims["cmd"] for claims in robot.heard] == ["stop"]
    assert names(told) == ["sent", "unverified", "silent"]
    assert outcome(told) == NO_ANSWER


async def test_a_key_the_trust_file_does_not_list_is_warned_of(site: Site, tmp_path: Path) -> None:
    wang = site.pki.person("guardian-wang").signing_key

    async with Session(site.profile(tmp_path)) as session:
        assert session.warnings == ()
    assert GUARDIAN in Session(site.profile(tmp_path, signing_key=str(wang))).warnings[0]


# ----------------------------------------------------------------------------------------------------- resume


async def test_a_resume_carries_what_the_state_shows(site: Site, tmp_path: Path) -> None:
    async with site.robot() as robot, Session(site.profile(tmp_path)) as session:
        await robot.show()
        told = await all_of(session.resume("R1", reason="checked"))

    assert names(told) == ["sent", "accepted", "actuated"]
    assert outcome(told) == DONE
    assert robot.heard[0]["args"] == {"epoch": 7, "challenge": CHALLENGE, "reason": "checked"}


async def test_a_resume_is_not_tried_again_by_itself(site: Site, tmp_path: Path) -> None:
    script = ends("refused", "stale_challenge")
    async with site.robot(script=script) as robot, Session(site.profile(tmp_path)) as session:
        await robot.show()
        told = await all_of(session.resume("R1"))

    assert names(told) == ["sent", "refused"]
    assert outcome(told) == REFUSED
    assert len(robot.heard) == 1


async def test_a_resume_is_tried_again_with_the_moved_state_when_asked(site: Site, tmp_path: Path) -> None:
    moved = CHALLENGE[::-1]

    async with site.robot() as robot, Session(site.profile(tmp_path)) as session:
        await robot.show()

        def script(claims: dict[str, Any]) -> list[dict[str, Any]]:
            stale = claims["args"]["challenge"] == CHALLENGE
            return [{"stage": "refused", "reason": "stale_challenge"}] if stale else [{"stage": "actuated"}]

        robot.script = script
        told = []
        async for stage in session.resume("R1", retries=3):
            told.append(stage)
            if stage.stage == "refused":
                await robot.show(challenge=moved, epoch=8)

    assert names(told) == ["sent", "refused", "sent", "actuated"]
    assert outcome(told) == DONE
    assert [claims["args"]["epoch"] for claims in robot.heard] == [7, 8]


async def test_a_resume_refused_for_a_cause_is_not_tried_again(site: Site, tmp_path: Path) -> None:
    script = ends("refused", "cause_active")
    async with site.robot(script=script) as robot, Session(site.profile(tmp_path)) as session:
        await robot.show()
        assert outcome(await all_of(session.resume("R1", retries=3))) == REFUSED

    assert len(robot.heard) == 1


async def test_without_a_state_nothing_is_resumed(site: Site, tmp_path: Path) -> None:
    async with site.robot() as robot, Session(site.profile(tmp_path)) as session:
        with pytest.raises(NoAnswerError) as silent:
            await all_of(session.resume("R1", timeout_s=SHORT_S))
        await robot.show(key=IMPOSTOR)
        with pytest.raises(UnverifiedError) as forged:
            await all_of(session.resume("R1", timeout_s=SHORT_S))

    assert (silent.value.exit_code, silent.value.robot_id) == (NO_ANSWER, "R1")
    assert (forged.value.exit_code, forged.value.code) == (FAILED, "bad_signature")
    assert robot.heard == []


# ------------------------------------------------------------------------------------------------------ watch


async def test_everything_a_robot_tells_is_seen(site: Site, tmp_path: Path) -> None:
    async with site.robot() as robot, Session(site.profile(tmp_path)) as session:
        await robot.show()
        await robot.link(online=True)
        updates = session.watch(["R1"], timeout_s=20)
        retained = [await anext(updates), await anext(updates)]
        await robot.tell("stop", response="hold")
        event = await anext(updates)

    state = next(update.state for update in retained if isinstance(update, StateSeen))
    assert (state.epoch, state.challenge, state.causes[0].id) == (7, CHALLENGE, "estop_pressed")
    assert state.claims["causes"][0]["since"] == 1.5
    assert LinkSeen("R1", online=True) in retained
    assert isinstance(event, EventSeen)
    assert event.event.words == 'stop  {"response": "hold"}'


async def test_only_the_robots_asked_for_are_seen(site: Site, tmp_path: Path) -> None:
    async with site.robot("R1") as one, site.robot("R2") as two, Session(site.profile(tmp_path)) as session:
        await one.show()
        await two.show()
        everyone, second = session.watch(timeout_s=20), session.watch(["R2"], timeout_s=20)
        seen = {(await anext(everyone)).robot_id, (await anext(everyone)).robot_id}
        first = await anext(second)
        await one.tell("noise")
        await two.tell("signal")
        only = [first, await anext(second)]

    assert seen == {"R1", "R2"}
    assert {update.robot_id for update in only} == {"R2"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"key": IMPOSTOR}, "bad_signature"),
        ({"aud": "R2"}, "wrong_audience"),
        ({"epoch": -1}, "malformed"),
        ({"epoch": "7"}, "malformed"),
        ({"causes": [{"id": "x"}]}, "malformed"),
        ({"iss": "R2"}, "bad_signature"),
    ],
)
async def test_a_forged_state_is_a_problem(
    site: Site, tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    async with site.robot() as robot, Session(site.profile(tmp_path)) as session:
        updates = session.watch(["R1"], timeout_s=20)
        await robot.show(**changes)
        update = await anext(updates)

    assert isinstance(update, Problem)
    assert (update.robot_id, update.topic, update.code) == ("R1", "state", code)
    assert update.reason


async def test_an_old_state_sent_again_is_a_problem(site: Site, tmp_path: Path) -> None:
    now_s = time.time()
    async with site.robot() as robot, Session(site.profile(tmp_path)) as session:
        updates = session.watch(["R1"], timeout_s=20)
        await robot.show(iat=now_s)
        await anext(updates)
        await robot.show(iat=now_s - 4)
        within_leeway = await anext(updates)
        await robot.show(iat=now_s - 60)
        replayed = await anext(updates)

    assert isinstance(within_leeway, StateSeen)
    assert isinstance(replayed, Problem)
    assert replayed.code == "replayed"


async def test_noise_in_every_topic_is_a_problem_each(site: Site, tmp_path: Path) -> None:
    async with site.robot() as robot, Session(site.profile(tmp_path)) as session:
        updates = session.watch(["R1"], timeout_s=20)
        await robot.show()
        await anext(updates)
        found = []
        for topic in ("state", "event", "link"):
            await robot.publish(topic, b"\xff\x00noise")
            found.append(await anext(updates))

    assert [(update.topic, update.code) for update in found if isinstance(update, Problem)] == [
        ("state", "malformed"),
        ("event", "malformed"),
        ("link", "malformed"),
    ]


async def test_a_watch_ends_in_its_time(site: Site, tmp_path: Path) -> None:
    async with Session(site.profile(tmp_path)) as session:
        assert [update async for update in session.watch(["R1"], timeout_s=0.05)] == []


# --------------------------------------------------------------------------------------------------- the link


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


async def test_only_robots_of_the_trust_file_are_online(site: Site, tmp_path: Path) -> None:
    belief = Belief(Session(site.profile(tmp_path)).trust, GUARDIAN)

    def told(topic: str) -> Update | None:
        return belief.update(Packet(topic, b'{"online": true}', 0), {})

    assert told("warden/v1/R1/link") == LinkSeen("R1", online=True)
    stranger = told("warden/v1/R9/link")
    assert isinstance(stranger, Problem)
    assert stranger.code == "unknown_key"
    assert told("warden/v1/R1/telemetry") is None


async def test_a_broker_that_is_not_there_is_named(site: Site, tmp_path: Path) -> None:
    port = free_port()

    with pytest.raises(MqttLinkError) as caught:
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
    monkeypatch.setattr(link, "CONNECT_TIMEOUT_S", SHORT_S)
    files = Site.create(tmp_path / "other").pki.person(GUARDIAN)

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


def test_the_worst_robot_counts() -> None:
    def ended(*codes: int | None) -> int:
        return outcome([Stage(str(number), "x", 0.0, exit_code=code) for number, code in enumerate(codes)])

    assert ended(DONE, DONE) == DONE
    assert ended(DONE, REFUSED) == REFUSED
    assert ended(FAILED, REFUSED) == FAILED
    assert ended(NO_ANSWER, FAILED, REFUSED) == NO_ANSWER
    assert ended(DONE, None) == FAILED
    assert ended() == FAILED
