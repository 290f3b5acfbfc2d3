"""A guardian's session against a real broker: stages, states and events, and who is believed (PROTOCOL 3)."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.core.responses import Response
from agent.tokens import TrustFileError
from console.errors import (
    DONE,
    FAILED,
    NO_ANSWER,
    REFUSED,
    NoAnswerError,
    UnverifiedError,
)
from console.session import Session
from console.told import Stage, outcome
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


def test_the_worst_robot_counts() -> None:
    def ended(*codes: int | None) -> int:
        return outcome([Stage(str(number), "x", 0.0, exit_code=code) for number, code in enumerate(codes)])

    assert ended(DONE, DONE) == DONE
    assert ended(DONE, REFUSED) == REFUSED
    assert ended(FAILED, REFUSED) == FAILED
    assert ended(NO_ANSWER, FAILED, REFUSED) == NO_ANSWER
    assert ended(DONE, None) == FAILED
    assert ended() == FAILED


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
