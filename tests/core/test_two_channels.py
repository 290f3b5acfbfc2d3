"""Each thing that may happen to a running robot, with each thing people may answer; and a hostile `remote`.

Every act and every tick is held to the model of `robot_model`: who must not run does not.
"""

from collections.abc import Callable, Iterator

import pytest

from agent.core.responses import Response
from tests.core.robot_rig import Robot

Act = Callable[[Robot], None]

EVENT: dict[str, tuple[Act, ...]] = {
    "pressed and released": (lambda r: r.work("open", 1),),
    "pressed": (lambda r: r.e_stop("open"),),
    "a weld shown": (lambda r: r.work("split", 8),),
    "somebody near": (
        lambda r: r.somebody(near=True),
        lambda r: r.tick(6),
        lambda r: r.somebody(near=False),
    ),
    "somebody near, no disk": (
        lambda r: r.disk("reflex", works=False),
        lambda r: r.somebody(near=True),
        lambda r: r.tick(6),
        lambda r: r.somebody(near=False),
    ),
    "robot gone and back": (
        lambda r: r.robot_software(there=False),
        lambda r: r.robot_software(there=True),
    ),
    "robot hung": (
        lambda r: r.robot_beats(beats=False),
        lambda r: r.tick(25),
        lambda r: r.robot_beats(beats=True),
    ),
    "held": (lambda r: r.guardian_stops(Response.HOLD),),
    "safe mode": (lambda r: r.guardian_stops(Response.SAFE_MODE),),
    "stopped": (lambda r: r.guardian_stops(Response.EMERGENCY_STOP),),
    "stopped, no disk": (
        lambda r: r.disk("remote", works=False),
        lambda r: r.guardian_stops(Response.EMERGENCY_STOP),
    ),
    "safe mode, then power off": (
        lambda r: r.guardian_stops(Response.SAFE_MODE),
        lambda r: r.power_off(),
    ),
    "suspended": (lambda r: r.suspend(),),
    "suspended, then reinstated": (
        lambda r: r.suspend(),
        lambda r: r.tick(3),
        lambda r: r.reinstate(right=True),
    ),
    "suspended, then a power cut": (
        lambda r: r.suspend(),
        lambda r: r.tick(2),
        lambda r: r.power_cut(),
        lambda r: r.tick(3),
    ),
    "in maintenance": (
        lambda r: r.guardian_stops(Response.EMERGENCY_STOP),
        lambda r: r.tick(2),
        lambda r: r.maintenance(begin=True),
    ),
    "wire cut": (lambda r: r.cut_the_wire(), lambda r: r.join_the_wire()),
    "wire held": (
        lambda r: r.hold_the_wire(flows=False),
        lambda r: r.tick(12),
        lambda r: r.hold_the_wire(flows=True),
    ),
    "reflex restarted": (lambda r: r.restart("reflex"),),
    "remote restarted": (lambda r: r.restart("remote"),),
    "reflex frozen": (lambda r: r.freeze("reflex"), lambda r: r.tick(12), lambda r: r.thaw("reflex")),
    "remote frozen": (lambda r: r.freeze("remote"), lambda r: r.tick(12), lambda r: r.thaw("remote")),
    "power cut": (lambda r: r.power_cut(),),
    "a resume overtaken by a stop": (lambda r: r.resume_overtaken(),),
}
ANSWER: dict[str, tuple[Act, ...]] = {
    "nothing": (),
    "resume": (lambda r: r.guardian_resumes(),),
    "another stop's resume": (lambda r: r.guardian_names_another_stop(1),),
    "an older challenge": (lambda r: r.guardian_is_late(0, renamed=True),),
    "an older resume": (lambda r: r.a_command_comes_again(0),),
}


@pytest.fixture
def robot() -> Iterator[Robot]:
    one = Robot()
    one.install()
    yield one
    one.remove()


@pytest.mark.parametrize("event", EVENT)
@pytest.mark.parametrize("answer", ANSWER)
def test_what_happens_and_what_people_answer(robot: Robot, event: str, answer: str) -> None:
    """At once, after a moment, and after any silence was noticed; each time it can be put right."""
    for gap in (0, 3, 12):
        for act in EVENT[event]:
            act(robot)
        robot.tick(gap)
        for act in ANSWER[answer]:
            act(robot)
        robot.tick(12)
        robot.bring_up()


def test_retired_it_never_runs_again(robot: Robot) -> None:
    robot.retire()
    robot.tick(3)
    for acts in EVENT.values():
        for act in (*acts, *ANSWER["resume"]):
            act(robot)
    robot.bring_up()
    assert not robot.joined.running()


# ---- a remote in an attacker's hands

STOP = (Response.EMERGENCY_STOP, ["guardian_stop"], 3)
INVENTED = (Response.HOLD, ["too_close", "invented"], 3)
BLINK = (Response.HOLD, ["too_close"], 3)
WELL: tuple[Response, list[str], int] = (Response.NONE, [], 3)
LONG = 110
"""Ticks after which no resume that was granted covers anything any more."""

HOSTILE: dict[str, tuple[Act, ...]] = {
    "a stop is taken back": (
        lambda r: r.it_says_how_it_stands(*STOP),
        lambda r: r.tick(2),
        lambda r: r.it_says_how_it_stands(*WELL),
    ),
    "an invented stop is taken back": (
        lambda r: r.it_says_how_it_stands(*INVENTED),
        lambda r: r.it_says_how_it_stands(*WELL),
    ),
    "a stop is taken back long after a resume": (
        lambda r: r.it_says_how_it_stands(*STOP),
        lambda r: r.tick(2),
        lambda r: r.people_sign_through_it("resume"),
        lambda r: r.it_passes_on(-1),
        lambda r: r.tick(LONG),
        lambda r: r.it_says_how_it_stands(*WELL),
    ),
    "another stop after a resume is taken back": (
        lambda r: r.it_says_how_it_stands(*STOP),
        lambda r: r.tick(2),
        lambda r: r.people_sign_through_it("resume"),
        lambda r: r.it_passes_on(-1),
        lambda r: r.it_says_how_it_stands(*WELL),
        lambda r: r.it_says_how_it_stands(*STOP),
        lambda r: r.it_says_how_it_stands(*WELL),
    ),
    "a stop dressed as one that ends by itself": (
        lambda r: r.it_says_how_it_stands(*STOP),
        lambda r: r.it_says_how_it_stands(*BLINK),
        lambda r: r.it_says_how_it_stands(*WELL),
    ),
    "an e-stop and a resume from before it": (
        lambda r: r.people_sign_through_it("resume"),
        lambda r: r.work("open", 2),
        lambda r: r.it_passes_on(-1),
    ),
    "the same resume twice": (
        lambda r: r.work("open", 2),
        lambda r: r.people_sign_through_it("resume"),
        lambda r: r.it_passes_on(-1),
        lambda r: r.work("open", 2),
        lambda r: r.it_passes_on(-1),
    ),
    "a resume of its own": (lambda r: r.work("open", 2), lambda r: r.it_invents_a_resume()),
    "an e-stop, and all is well it says": (
        lambda r: r.work("open", 2),
        lambda r: r.it_says_how_it_stands(*WELL),
    ),
    "a resume without the proof of a weld": (
        lambda r: r.work("split", 8),
        lambda r: r.people_sign_through_it("resume"),
        lambda r: r.it_passes_on(-1),
    ),
    "suspended and reinstated, no guardian asked": (
        lambda r: r.people_sign_through_it("suspend"),
        lambda r: r.it_passes_on(-1),
        lambda r: r.tick(2),
        lambda r: r.people_sign_through_it("reinstate"),
        lambda r: r.it_passes_on(-1),
    ),
    "suspended and only resumed": (
        lambda r: r.people_sign_through_it("suspend"),
        lambda r: r.it_passes_on(-1),
        lambda r: r.tick(2),
        lambda r: r.people_sign_through_it("resume"),
        lambda r: r.it_passes_on(-1),
    ),
    "it falls silent and comes back": (
        lambda r: r.it_pretends_to_be_well(False),
        lambda r: r.tick(12),
        lambda r: r.it_pretends_to_be_well(True),
        lambda r: r.it_says_how_it_stands(*WELL),
    ),
    "reflex restarts": (
        lambda r: r.restart("reflex"),
        lambda r: r.it_says_how_it_stands(*WELL),
    ),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_remote_starts_nothing(robot: Robot, attack: str) -> None:
    """It may end a stop that it made up itself, where the plan says of its cause that it ends by itself."""
    robot.remote_is_taken_over(resumed=True)
    robot.tick(2)
    assert robot.reflex_runs()
    for act in HOSTILE[attack]:
        act(robot)
        robot.tick(1)
    robot.tick(LONG)
    assert not robot.reflex_runs()
    robot.bring_up()


def test_what_it_made_up_and_the_plan_lets_end_by_itself_may_end(robot: Robot) -> None:
    robot.remote_is_taken_over(resumed=True)
    robot.it_says_how_it_stands(*BLINK)
    assert not robot.reflex_runs()
    robot.it_says_how_it_stands(*WELL)
    robot.tick(12)
    assert robot.reflex_runs()
