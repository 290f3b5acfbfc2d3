"""The desk: what each packet does, what is answered to it, once; and what never gets an answer."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.core.responses import Response
from agent.mqtt import MAX_PACKET
from agent.shell import RECORDS_PER_S
from hil.pki import Pki, load_signing_key
from tests.core.factories import but
from tests.office import PEOPLE, STANDS, Office, fresh_args, open_office
from tests.published import ROBOT


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.create(tmp_path_factory.mktemp("pki"), robot_id=ROBOT, people=PEOPLE)


@pytest.fixture
async def office(pki: Pki, tmp_path: Path) -> AsyncIterator[Office]:
    with open_office(pki, tmp_path) as one:
        yield one


# ---- stops


@pytest.mark.parametrize(
    ("args", "response"),
    [
        ({"response": "hold"}, Response.HOLD),
        ({"response": "safe_mode"}, Response.SAFE_MODE),
        ({"response": "emergency_stop"}, Response.EMERGENCY_STOP),
        ({}, Response.EMERGENCY_STOP),
    ],
)
async def test_a_stop_is_acted_on_before_anything_else_is_done_with_it(
    office: Office, args: object, response: Response
) -> None:
    """In the very call that read it: no reply, no record before the permit says so."""
    jti = office.give("stop", args)
    assert office.stopped()
    assert office.life.read().response == response
    assert (office.replies(jti), office.records) == ([], [])


async def test_a_stop_is_acknowledged_when_it_is_on_the_disk_and_told_as_its_effect_is_seen(
    office: Office,
) -> None:
    jti = office.give("stop")
    office.desk.look(time.monotonic_ns())
    assert office.replies(jti) == []
    office.life.disk.write()
    assert office.replies(jti) == [("accepted", None)]
    office.effect = but(STANDS, {"still": False})
    office.desk.look(time.monotonic_ns())
    office.effect = STANDS
    office.desk.look(time.monotonic_ns())
    office.desk.look(time.monotonic_ns())
    assert office.replies(jti) == [("accepted", None), ("actuated", None), ("verified", None)]
    assert office.counted("stop", "accepted") == 1


async def test_a_stop_whose_effect_is_seen_already_is_told_all_at_once(office: Office) -> None:
    office.effect = STANDS
    jti = office.give("stop")
    office.life.disk.write()
    assert office.replies(jti) == [("accepted", None), ("actuated", None), ("verified", None)]


async def test_a_standstill_that_is_not_seen_in_time_is_said(office: Office) -> None:
    jti = office.give("stop")
    office.life.disk.write()
    office.desk.look(time.monotonic_ns() + 2_000_000_000)
    assert office.replies(jti)[-1] == ("failed", "not_verified_in_time")


@pytest.mark.parametrize("kid", ["guardian-elsewhere", "guardian-stale", "authority-zhou", "maintainer-he"])
async def test_any_trusted_person_may_stop(office: Office, kid: str) -> None:
    office.give("stop", kid=kid)
    assert office.stopped()


async def test_what_was_waived_for_a_stop_is_recorded(office: Office) -> None:
    jti = office.give("stop", {"response": "gently", "reason": "?"}, "guardian-stale")
    assert office.stopped()
    await asyncio.sleep(0)
    ((kind, body),) = office.records
    assert (kind, body["jti"], body["kid"]) == ("command", jti, "guardian-stale")
    assert set(body["notes"]) == {"training_expired", "args_unread"}
    assert body["retained"] is False


async def test_power_off_is_an_emergency_stop(office: Office) -> None:
    jti = office.give("power_off", {"reason": "smoke"})
    assert office.life.read().power_until_ns == 0
    office.life.disk.write()
    assert office.replies(jti) == [("accepted", None)]


async def test_a_suspend_acts_here_and_goes_on_to_reflex_as_it_was_signed(office: Office) -> None:
    token = office.by("department-chen").give("suspend", {"reason": "检修"})
    office.take(token)
    assert office.life.read().response == Response.SUSPEND
    ((question),) = office.asked
    assert (question["type"], question["token"]) == ("command", token.decode())
    office.answer("not_entitled")  # a word nobody waits for changes nothing
    assert office.life.read().response == Response.SUSPEND


async def test_a_suspend_acts_without_reflex(office: Office) -> None:
    office.reflex_is_there = False
    office.give("suspend", {"reason": "检修"}, "department-chen")
    assert office.life.read().response == Response.SUSPEND


async def test_a_ping_is_answered_and_does_nothing(office: Office) -> None:
    before = office.life.read()
    assert office.replies(office.give("ping")) == [("accepted", None)]
    assert office.life.read().epoch == before.epoch
    assert not office.stopped()


async def test_a_retained_command_is_recorded_as_such(office: Office) -> None:
    office.take(office.by("guardian-li").give("stop"), retained=True)
    await asyncio.sleep(0)
    assert office.records[0][1]["retained"] is True


# ---- once


async def test_a_repeated_command_gets_its_first_answer_again_to_the_byte_and_does_nothing(
    office: Office,
) -> None:
    token = office.by("guardian-li").give("stop", {"response": "hold"})
    office.take(token)
    office.life.disk.write()
    (first,) = office.line.sent
    office.life.turn(time.monotonic_ns())
    office.life.channel.grant(time.monotonic_ns())
    office.life.disk.write()
    assert not office.stopped()
    for _ in range(3):
        office.take(token)
    assert not office.stopped()
    assert office.line.sent == [first] * 4
    assert office.counted("stop", "accepted") == 1


async def test_repeated_before_its_first_answer_it_gets_that_one_only(office: Office) -> None:
    token = office.by("guardian-li").give("stop")
    office.take(token)
    epoch = office.life.read().epoch
    office.take(token)
    assert (office.line.sent, office.life.read().epoch) == ([], epoch)
    office.life.disk.write()
    assert len(office.line.sent) == 1


async def test_a_refusal_is_an_answer_too(office: Office) -> None:
    token = office.by("guardian-li").give("suspend", {"reason": "no"})
    office.take(token)
    office.take(token)
    first, again = office.line.sent
    assert first == again
    assert office.counted("suspend", "not_entitled") == 1


async def test_the_same_jti_of_another_person_is_another_command(office: Office) -> None:
    office.give("ping", jti="j-1")
    office.give("stop", kid="authority-zhou", jti="j-1")
    assert office.stopped()


async def test_a_jti_used_up_by_a_ping_does_not_hide_a_stop_given_under_a_new_one(office: Office) -> None:
    for number in range(300):
        office.give("ping", jti=f"j-{number}")
    office.give("stop", jti="j-last")
    assert office.stopped()


# ---- what is not taken


async def test_refusals_by_their_codes(office: Office) -> None:
    now = int(time.time())
    fresh = office.resume_args()
    assert office.refused("dance") == "malformed"
    assert office.refused("stop", aud="FT-2") == "wrong_audience"
    assert office.refused("stop", iat=now - 600, exp=now - 500) == "expired"
    assert office.refused("stop", iat=now + 500, exp=now + 600) == "not_yet_valid"
    assert office.refused("stop", kid="guardian-left") == "revoked"
    assert office.refused("resume", fresh, "guardian-stale") == "training_expired"
    assert office.refused("resume", fresh, "guardian-elsewhere") == "not_entitled"
    assert office.refused("resume", fresh, "department-chen") == "not_entitled"
    assert office.refused("resume", {"epoch": 1}) == "malformed"
    assert office.refused("resume", fresh) == "not_stopped"
    assert office.refused("maintenance", {"begin": True}, "maintainer-he") == "not_stopped"
    assert office.refused("reinstate", {**fresh_args(fresh), "evaluation": "好"}, "department-chen") == (
        "not_stopped"
    )
    assert not office.stopped()
    assert office.asked == []


async def test_what_fails_before_its_claims_is_counted_and_gets_no_answer(office: Office) -> None:
    li = office.by("guardian-li")
    robots = load_signing_key(office.pki.robot.signing_key)
    for code, token in (
        ("too_large", b"x" * (MAX_PACKET + 1)),
        ("malformed", b""),
        ("malformed", b"\xff\xfe"),
        ("malformed", li.sign(["stop"])),
        ("malformed", li.give("stop", jti="")),
        ("malformed", li.give("stop", jti=7)),
        ("unknown_key", li.sign(li.claims("stop", iss=ROBOT), robots, {"kid": ROBOT})),
        ("bad_signature", li.sign(li.claims("stop"), robots)),
    ):
        before = office.counted("unknown", code)
        office.take(token)
        assert office.counted("unknown", code) == before + 1
    assert office.line.sent == []
    assert not office.stopped()
    assert [kind for kind, _ in office.records] == ["bad_input"] * 8


async def test_a_flood_of_them_is_counted_whole_and_recorded_at_a_bounded_rate(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.shell.time", SimpleNamespace(monotonic=lambda: 5.0))
    for _ in range(1000):
        office.take(b"nonsense")
    assert office.counted("unknown", "malformed") == 1000
    assert len(office.records) == RECORDS_PER_S


async def test_a_large_packet_at_the_bound_is_looked_at(office: Office) -> None:
    li = office.by("guardian-li")
    office.take(li.give("stop", {"reason": "x" * 40_000}))
    assert office.stopped()
