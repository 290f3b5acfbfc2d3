"""What a verified command does to one channel, and what stands before it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.channel import Trigger
from agent.commanding import CHALLENGED, carry_out, demanded, refusal
from agent.core.causes import MS, Clear
from agent.core.commands import COMMANDS, Args, Code, Command
from agent.core.machine import Demand
from agent.core.peer import UNHEARD, PeerView
from agent.core.plan import Plan
from agent.core.responses import Response
from agent.core.trust import Role
from tests.channels import Life, disks
from tests.core.factories import NOW_NS, but, row, rows, small_plan

PEER = replace(UNHEARD, connected=True, heard_ns=NOW_NS, epoch=5, half=b"_remote_")
EMERGENCY_STOP, SAFE_MODE, HOLD = Response.EMERGENCY_STOP, Response.SAFE_MODE, Response.HOLD


def command(cmd: str, **args: object) -> Command:
    given = but(Args(reason="because"), args)
    return Command(cmd, "g.li", Role.GUARDIAN, "j", 0.0, 1.0, given, ())


@pytest.fixture
def held_disks() -> Iterator[None]:
    with disks():
        yield


@pytest.fixture
def life(tmp_path: Path, held_disks: None) -> Iterator[Life]:
    """A channel just started: its only cause is `starting`, on the disk, its condition gone."""
    one = Life("reflex", small_plan(), tmp_path)
    one.turn()
    one.turn()
    assert [c.key for c in one.channel.state.causes] == ["starting"]
    yield one
    one.channel.close()


def challenge(life: Life) -> bytes:
    return life.channel.state.half + PEER.half


def robot_epoch(life: Life, peer: PeerView = PEER) -> int:
    return life.channel.state.epoch + peer.epoch


def give(life: Life, one: Command, now_ns: int = NOW_NS) -> None:
    carry_out(life.channel, one, Trigger("command", now_ns))
    life.disk.write()


def resume(life: Life, **changes: object) -> Command:
    return command("resume", **{"epoch": robot_epoch(life), "challenge": challenge(life), **changes})


def running(life: Life) -> Life:
    assert refusal(life.channel, resume(life), PEER) is None
    give(life, resume(life))
    assert life.channel.state.response == Response.NONE
    return life


# ---- stops


@pytest.mark.parametrize(
    ("args", "key", "response"),
    [
        ({}, "guardian_stop", EMERGENCY_STOP),
        ({"response": EMERGENCY_STOP}, "guardian_stop", EMERGENCY_STOP),
        ({"response": SAFE_MODE}, "guardian_stop", SAFE_MODE),
        ({"response": HOLD}, "guardian_hold", HOLD),
    ],
)
def test_a_stop_in_its_three_strengths(
    life: Life, args: dict[str, object], key: str, response: Response
) -> None:
    stop = command("stop", **args)
    assert demanded(stop) == (key, Demand(response, detail="because"))
    assert refusal(life.channel, stop, PEER) is None
    give(running(life), stop)
    assert life.channel.state.response == response
    assert life.channel.state.causes[0].key == key
    assert life.read().motion_until_ns == 0


def test_power_off_is_an_emergency_stop_whatever_the_plan_makes_of_a_stop(
    tmp_path: Path, held_disks: None
) -> None:
    mild = small_plan(rows=rows(row("guardian_stop", HOLD)))
    life = Life("remote", mild, tmp_path)
    give(life, command("power_off"))
    stopped_by = life.channel.state.causes[-1]
    assert (stopped_by.key, stopped_by.response) == ("guardian_stop", EMERGENCY_STOP)
    assert life.read().power_until_ns == 0
    life.kill()


def test_power_off_takes_the_power_that_a_milder_stop_left(life: Life) -> None:
    give(running(life), command("stop", response=SAFE_MODE))
    epoch = life.channel.state.epoch
    assert life.read().power_until_ns > NOW_NS
    give(life, command("power_off"))
    assert life.read().power_until_ns == 0
    assert life.channel.state.epoch == epoch + 1


@pytest.mark.parametrize(
    ("cmd", "key", "response"),
    [("suspend", "suspended", Response.SUSPEND), ("retire", "retired", Response.RETIRE)],
)
def test_suspend_and_retire_are_causes(life: Life, cmd: str, key: str, response: Response) -> None:
    give(running(life), command(cmd))
    assert [c.key for c in life.channel.state.causes] == [key]
    assert life.channel.state.response == response
    assert life.channel.state.causes[0].detail == "because"


def test_the_words_people_read_are_bounded(life: Life) -> None:
    give(life, command("stop", reason="长" * 500))
    assert life.channel.state.causes[-1].detail == "长" * 120
    give(life, command("maintenance", begin=True, note="n" * 500))
    assert life.channel.state.causes[-1].detail == "n" * 120


@pytest.mark.parametrize("cmd", ["ping", "request_maintenance", "resume", "reinstate", "maintenance"])
def test_what_stops_nothing_demands_nothing(cmd: str) -> None:
    assert demanded(command(cmd)) is None


@pytest.mark.parametrize("cmd", ["ping", "request_maintenance"])
def test_what_only_speaks_to_people_does_nothing_to_the_channel(life: Life, cmd: str) -> None:
    before = life.channel.state
    assert refusal(life.channel, command(cmd), PEER) is None
    give(life, command(cmd))
    assert life.channel.state is before


def test_every_refusal_of_what_needs_a_challenge_renews_it() -> None:
    assert {cmd for cmd, rule in COMMANDS.items() if rule.needs_challenge} == CHALLENGED


# ---- resume


def test_a_resume_in_order_starts(life: Life) -> None:
    assert life.read().motion_until_ns == 0
    running(life)
    assert life.read().motion_until_ns == NOW_NS + life.channel.plan.times.ttl_ns


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"epoch": 0}, Code.WRONG_EPOCH),
        ({"challenge": b"0" * 16}, Code.STALE_CHALLENGE),
        ({"challenge": b""}, Code.STALE_CHALLENGE),
        ({"challenge": None}, Code.STALE_CHALLENGE),
        ({"epoch": None}, Code.WRONG_EPOCH),
    ],
)
def test_a_resume_that_is_not_in_order(life: Life, args: dict[str, object], code: Code) -> None:
    assert refusal(life.channel, resume(life, **args), PEER) == code


def test_the_epoch_is_the_sum_of_both_channels(life: Life) -> None:
    other = replace(PEER, epoch=6)
    assert refusal(life.channel, resume(life), other) == Code.WRONG_EPOCH
    assert refusal(life.channel, resume(life, epoch=robot_epoch(life, other)), other) is None


def test_a_resume_taken_once_is_not_taken_again(life: Life) -> None:
    once = resume(life)
    give(life, once)
    give(life, command("stop"))
    life.turn()
    assert refusal(life.channel, once, PEER) == Code.WRONG_EPOCH
    again = replace(once, args=replace(once.args, epoch=robot_epoch(life)))
    assert refusal(life.channel, again, PEER) == Code.STALE_CHALLENGE


def test_a_refused_resume_needs_a_new_challenge(life: Life) -> None:
    early = resume(life)
    life.channel.refuse(NOW_NS)
    assert refusal(life.channel, early, PEER) == Code.STALE_CHALLENGE
    assert refusal(life.channel, resume(life), PEER) is None


def test_a_stop_that_is_not_on_the_disk_yet_cannot_be_resumed(life: Life) -> None:
    running(life)
    life.disk.works = False
    give(life, command("stop"))
    life.turn()
    assert refusal(life.channel, resume(life), PEER) == Code.CAUSE_ACTIVE
    life.disk.works = True
    life.disk.write()
    assert refusal(life.channel, resume(life), PEER) is None


# ---- suspension


def suspended(life: Life) -> Life:
    give(running(life), command("suspend"))
    life.turn()
    return life


def reinstate(life: Life, **changes: object) -> Command:
    fields = {"epoch": robot_epoch(life), "challenge": challenge(life), "evaluation": "passed"}
    return command("reinstate", **{**fields, **changes})


def test_reinstated_it_waits_for_a_guardian(life: Life) -> None:
    suspended(life)
    assert refusal(life.channel, resume(life), PEER) == Code.REEVALUATION_NEEDED
    assert refusal(life.channel, reinstate(life), PEER) is None
    give(life, reinstate(life))
    assert life.channel.state.response == EMERGENCY_STOP
    assert life.channel.blockers == ()
    assert life.read().motion_until_ns == 0
    running(life)


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"epoch": 0}, Code.WRONG_EPOCH),
        ({"challenge": b"0" * 16}, Code.STALE_CHALLENGE),
        ({"challenge": None}, Code.STALE_CHALLENGE),
    ],
)
def test_a_re_evaluation_names_the_stop_and_carries_the_challenge(
    life: Life, args: dict[str, object], code: Code
) -> None:
    assert refusal(suspended(life).channel, reinstate(life, **args), PEER) == code


def test_a_suspended_robot_that_was_stopped_too_can_be_reinstated(life: Life) -> None:
    give(suspended(life), command("stop"))
    life.turn()
    give(life, reinstate(life))
    assert life.channel.blockers == ()
    assert [c.key for c in life.channel.state.causes] == ["suspended", "guardian_stop"]


def test_what_is_reinstated_already_is_not_reinstated_again(life: Life) -> None:
    give(suspended(life), reinstate(life))
    assert refusal(life.channel, reinstate(life), PEER) == Code.NOT_STOPPED


def test_only_what_is_suspended_can_be_reinstated(life: Life) -> None:
    assert refusal(life.channel, reinstate(life), PEER) == Code.NOT_STOPPED


def test_what_only_the_other_channel_remembers_can_be_reinstated(life: Life) -> None:
    other = replace(PEER, own=Response.SUSPEND, blockers=(Code.REEVALUATION_NEEDED,))
    assert refusal(life.channel, reinstate(life), other) is None
    give(life, reinstate(life))
    assert [c.key for c in life.channel.state.causes] == ["starting"]


def test_a_suspension_that_is_not_on_the_disk_yet_cannot_be_lifted(life: Life) -> None:
    life.disk.works = False
    suspended(life)
    assert refusal(life.channel, reinstate(life), PEER) == Code.CAUSE_ACTIVE
    life.disk.works = True
    life.disk.write()
    assert refusal(life.channel, reinstate(life), PEER) is None


def test_a_retired_robot_stays_retired(life: Life) -> None:
    assert refusal(life.channel, command("retire", challenge=b""), PEER) == Code.STALE_CHALLENGE
    retire = command("retire", challenge=challenge(life))
    assert refusal(life.channel, retire, PEER) is None
    give(life, retire)
    life.turn()
    assert refusal(life.channel, resume(life), PEER) == Code.RETIRED
    assert refusal(life.channel, reinstate(life), PEER) == Code.NOT_STOPPED


# ---- maintenance


def test_maintenance_is_for_a_robot_that_is_stopped(life: Life) -> None:
    begin = command("maintenance", begin=True, note="brakes")
    assert refusal(life.channel, begin, PEER) is None
    assert refusal(running(life).channel, begin, PEER) == Code.NOT_STOPPED


def test_while_a_maintenance_record_is_open_nothing_resumes(life: Life) -> None:
    give(life, command("maintenance", begin=True, note="brakes"))
    life.turn(NOW_NS + 10_000 * MS)
    assert refusal(life.channel, resume(life), PEER) == Code.IN_MAINTENANCE
    assert life.channel.state.causes[-1].detail == "brakes"
    give(life, command("maintenance", begin=False))
    assert life.channel.state.response.stops
    running(life)


def test_a_maintenance_record_is_open_after_a_restart(life: Life, tmp_path: Path, held_disks: None) -> None:
    give(life, command("maintenance", begin=True, note="brakes"))
    life.kill()
    next_life = Life("reflex", small_plan(), tmp_path)
    next_life.turn()
    next_life.turn()
    assert next_life.channel.blockers == (Code.IN_MAINTENANCE,)
    next_life.kill()


def test_ending_a_record_that_is_not_open_ends_nothing(life: Life) -> None:
    before = life.channel.state
    give(life, command("maintenance", begin=False))
    assert life.channel.state is before


# ---- across a restart


@pytest.mark.parametrize(
    ("cmd", "clear"),
    [("stop", Clear.RESUME), ("suspend", Clear.REEVALUATION), ("retire", Clear.NEVER)],
)
def test_a_command_on_the_disk_is_obeyed_after_a_restart(
    life: Life, tmp_path: Path, cmd: str, clear: Clear
) -> None:
    give(running(life), command(cmd))
    epoch = life.channel.state.epoch
    life.kill()
    plan: Plan = small_plan()
    next_life = Life("reflex", plan, tmp_path)
    next_life.turn()
    keys = [c.key for c in next_life.channel.state.causes]
    assert keys[-1] == "starting"
    assert next_life.channel.state.causes[0].clear == clear
    assert next_life.channel.state.epoch == epoch + 1
    assert next_life.read().motion_until_ns == 0
    next_life.kill()
