"""The desk and the other module: what takes effect in both channels or in none."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from agent.core.commands import COMMANDS
from agent.core.machine import Demand
from agent.core.responses import Response
from agent.desk import VERDICT_NS
from agent.dialogue import START_NS, Effect
from hil.pki import Pki
from tests.channel_lives import blocked
from tests.office import PEOPLE, STANDS, Office, fresh_args, open_office, stop_and_save
from tests.published import ROBOT


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.create(tmp_path_factory.mktemp("pki"), robot_id=ROBOT, people=PEOPLE)


@pytest.fixture
async def office(pki: Pki, tmp_path: Path) -> AsyncIterator[Office]:
    with open_office(pki, tmp_path) as one:
        yield one


# ---- what both channels must agree on


async def test_a_resume_goes_on_to_reflex_and_waits_for_its_word(office: Office) -> None:
    stop_and_save(office)
    token = office.by("guardian-li").give("resume", office.resume_args())
    office.take(token)
    assert [question["token"] for question in office.asked] == [token.decode()]
    assert office.stopped()
    assert office.line.sent == []
    office.answer()
    assert not office.stopped()
    office.life.disk.write()
    assert office.replies(jti_of(token)) == [("accepted", None)]
    office.effect = Effect(withdrawn=False, still=False, running=True)
    office.desk.look(time.monotonic_ns())
    assert office.replies(jti_of(token)) == [("accepted", None), ("actuated", None)]


def jti_of(token: bytes) -> str:
    body = token.split(b".")[1]
    return str(json.loads(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)))["jti"])


async def test_a_resume_that_reflex_refuses_starts_nothing_and_renews_the_challenge(office: Office) -> None:
    stop_and_save(office)
    half = office.life.channel.state.half
    jti = office.give("resume", office.resume_args())
    office.answer("cause_active")
    assert office.replies(jti) == [("refused", "cause_active")]
    assert office.stopped()
    assert office.life.channel.state.half != half


async def test_a_resume_this_channel_refuses_is_not_even_passed_on(office: Office) -> None:
    stop_and_save(office)
    right = office.resume_args()
    assert office.refused("resume", {**right, "epoch": 0}) == "wrong_epoch"
    assert office.refused("resume", right) == "stale_challenge"
    assert office.asked == []
    assert office.stopped()


async def test_a_resume_before_its_stop_is_on_the_disk_is_refused(office: Office) -> None:
    office.life.disk.works = False
    office.give("stop")
    office.life.turn(time.monotonic_ns())
    assert office.refused("resume", office.resume_args()) == "cause_active"
    office.life.disk.works = True


async def test_a_stop_between_question_and_answer_is_not_covered(office: Office) -> None:
    """Reflex said yes to the stop as it then stood."""
    stop_and_save(office)
    jti = office.give("resume", office.resume_args())
    office.give("suspend", {"reason": "wait"}, "department-chen")
    office.life.disk.write()
    office.desk.verdict({"n": office.asked[0]["n"], "code": None})
    assert office.replies(jti) == [("refused", "wrong_epoch")]
    assert office.stopped()


async def test_a_stop_no_worse_between_question_and_answer_is_not_covered_either(office: Office) -> None:
    """The epoch does not grow, and the stop is a new one all the same; still active when the answer comes."""
    stop_and_save(office)
    jti = office.give("resume", office.resume_args())
    office.life.turn(time.monotonic_ns(), guardian_stop=Demand())
    office.answer()
    assert office.replies(jti) == [("refused", "cause_active")]
    assert office.stopped()


async def test_without_reflex_nothing_is_resumed(office: Office) -> None:
    stop_and_save(office)
    office.reflex_is_there = False
    assert office.replies(office.give("resume", office.resume_args())) == [("failed", "not_verified_in_time")]
    assert office.stopped()


async def test_a_reflex_that_does_not_answer_is_given_up_and_its_late_word_starts_nothing(
    office: Office,
) -> None:
    stop_and_save(office)
    jti = office.give("resume", office.resume_args())
    office.desk.look(time.monotonic_ns())
    assert office.replies(jti) == []
    office.desk.look(time.monotonic_ns() + VERDICT_NS + 1)
    assert office.replies(jti) == [("failed", "not_verified_in_time")]
    office.answer()
    assert office.stopped()
    assert len(office.replies(jti)) == 1


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"n": None, "code": None},
        {"n": 99, "code": None},
        {"n": "1", "code": None},
        {"n": 1.0, "code": None},
        {"n": [1], "code": None},
    ],
)
async def test_a_word_on_a_question_nobody_asked_starts_nothing(
    office: Office, message: Mapping[str, object]
) -> None:
    stop_and_save(office)
    office.desk.verdict(message)
    assert office.stopped()
    assert office.line.sent == []


async def test_a_code_reflex_made_up_is_malformed(office: Office) -> None:
    stop_and_save(office)
    jti = office.give("resume", office.resume_args())
    office.answer("because")
    assert office.replies(jti) == [("refused", "malformed")]


async def test_the_same_word_twice_is_once(office: Office) -> None:
    stop_and_save(office)
    office.give("resume", office.resume_args())
    office.answer()
    office.give("stop")
    office.life.disk.write()
    office.life.turn(time.monotonic_ns())
    office.answer()
    assert office.stopped()


async def test_a_resume_that_starts_nothing_in_time_has_failed(office: Office) -> None:
    stop_and_save(office)
    jti = office.give("resume", office.resume_args())
    office.answer()
    office.life.disk.write()
    office.desk.look(time.monotonic_ns() + START_NS + 1)
    assert office.replies(jti) == [("accepted", None), ("failed", "not_verified_in_time")]


async def test_maintenance_begins_and_ends_in_both_channels(office: Office) -> None:
    stop_and_save(office)
    begin = office.give("maintenance", {"begin": True, "note": "电机"}, "maintainer-he")
    assert office.life.channel.standing == {}
    office.answer()
    assert office.life.channel.standing == {"maintenance": "电机"}
    office.life.disk.write()
    assert office.replies(begin, "maintainer-he") == [("accepted", None)]
    assert office.refused("resume", office.resume_args()) == "in_maintenance"
    end = office.give("maintenance", {"begin": False, "note": "好"}, "maintainer-he")
    office.answer()
    office.life.disk.write()
    assert office.replies(end, "maintainer-he") == [("accepted", None)]
    assert blocked(office.life) == []


async def test_reinstate_lifts_a_suspension_and_the_robot_stays_stopped(office: Office) -> None:
    office.give("suspend", {"reason": "检修"}, "department-chen")
    office.life.disk.write()
    office.life.turn(time.monotonic_ns())
    args = {**fresh_args(office.resume_args()), "evaluation": "合格"}
    jti = office.give("reinstate", args, "department-chen")
    office.answer()
    office.life.disk.write()
    assert office.replies(jti, "department-chen") == [("accepted", None)]
    assert office.stopped()
    assert blocked(office.life) == []


async def test_retire_is_verified_as_a_stop_is(office: Office) -> None:
    office.effect = STANDS
    args = {"challenge": office.resume_args()["challenge"], "reason": "报废"}
    jti = office.give("retire", args, "department-chen")
    assert not office.stopped()
    office.answer()
    assert office.life.read().response == Response.RETIRE
    office.life.disk.write()
    office.desk.look(time.monotonic_ns())
    stages = [("accepted", None), ("actuated", None), ("verified", None)]
    assert office.replies(jti, "department-chen") == stages
    assert office.refused("resume", office.resume_args()) == "retired"


async def test_every_stage_is_recorded_with_its_command(office: Office) -> None:
    office.effect = STANDS
    jti = office.give("stop")
    office.life.disk.write()
    await asyncio.sleep(0)
    stages = [body for kind, body in office.records if kind == "command_stage"]
    assert [body["stage"] for body in stages] == ["accepted", "actuated", "verified"]
    assert {(body["jti"], body["kid"], body["cmd"]) for body in stages} == {(jti, "guardian-li", "stop")}
    assert all(body["after_us"] >= 0 for body in stages)


@pytest.mark.parametrize("cmd", sorted(COMMANDS))
async def test_every_command_of_the_table_gets_an_answer_whoever_gives_it(office: Office, cmd: str) -> None:
    """No row without a way through the desk: each is answered, or waits for the disk or for reflex."""
    args = {"reason": "r", **office.resume_args(), "evaluation": "e", "begin": True, "note": "n"}
    for person in PEOPLE:
        mine = {name: args[name] for name in COMMANDS[cmd].args if name in args}
        jti = office.give(cmd, mine, person.kid)
        office.life.disk.write()
        if not office.replies(jti, person.kid):
            office.answer("cause_active")
        assert len(office.replies(jti, person.kid)) >= 1
