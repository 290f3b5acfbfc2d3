"""What robots tell all, and who is believed, against a real broker (PROTOCOL 3)."""

import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from console.belief import Belief
from console.link import Packet
from console.session import Session
from console.told import EventSeen, LinkSeen, Problem, StateSeen, Update
from tests.console.robots import CHALLENGE, GUARDIAN, Site

IMPOSTOR = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)


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


async def test_only_robots_of_the_trust_file_are_online(site: Site, tmp_path: Path) -> None:
    belief = Belief(Session(site.profile(tmp_path)).trust, GUARDIAN)

    def told(topic: str) -> Update | None:
        return belief.update(Packet(topic, b'{"online": true}', 0), {})

    assert told("warden/v1/R1/link") == LinkSeen("R1", online=True)
    stranger = told("warden/v1/R9/link")
    assert isinstance(stranger, Problem)
    assert stranger.code == "unknown_key"
    assert told("warden/v1/R1/telemetry") is None
