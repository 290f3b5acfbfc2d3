"""Steps asked of the robot's own software."""

from collections.abc import Mapping

import pytest

from drivers.adapters.base import Outcome, StepResult
from drivers.adapters.link import LinkAdapter
from tests.drivers.adapters.rig import Desk


class Robot:
    """The far end of the link."""

    def __init__(self) -> None:
        self.messages: list[Mapping[str, object]] = []
        self.connected = True

    def send(self, message: Mapping[str, object]) -> bool:
        if self.connected:
            self.messages.append(message)
        return self.connected


@pytest.fixture
def robot() -> Robot:
    return Robot()


@pytest.fixture
async def desk(robot: Robot) -> Desk:
    return Desk(robot.send)


@pytest.fixture
def link(desk: Desk) -> LinkAdapter:
    return LinkAdapter("link robot", {"grace_ms": 100}, desk.around)


def test_the_message_is_the_protocol_s(desk: Desk, link: LinkAdapter, robot: Robot) -> None:
    step_id = desk.begin(link, deadline_ms=300, step="stop_generation", model="voice")
    assert robot.messages == [
        {
            "type": "step",
            "id": step_id,
            "step": "stop_generation",
            "epoch": 7,
            "deadline_ms": 300,
            "args": {"model": "voice"},
        }
    ]
    assert desk.heard == []


@pytest.mark.parametrize(
    ("after_ms", "ok", "detail", "outcome", "words"),
    [
        (20, True, "", Outcome.DONE, "the robot says so"),
        (20, True, "arms down", Outcome.DONE, "arms down"),
        (320, True, "", Outcome.LATE, "the robot says so"),
        (20, False, "", Outcome.FAILED, "the robot says it failed"),
        (320, False, "stuck\n" + "x" * 500, Outcome.FAILED, "stuck " + "x" * 193 + "…"),
    ],
)
def test_the_robot_s_answer_is_the_result(
    desk: Desk, link: LinkAdapter, after_ms: int, ok: bool, detail: str, outcome: Outcome, words: str
) -> None:
    step_id = desk.begin(link, deadline_ms=300)
    desk.pass_ms(after_ms)
    assert link.told(step_id, ok, detail, desk.time_ns)
    assert desk.heard == [StepResult(step_id, outcome, after_ms, words)]


def test_an_answer_to_nothing_is_said_to_be_one(desk: Desk, link: LinkAdapter) -> None:
    step_id = desk.begin(link)
    assert not link.told("another", True, "", desk.time_ns)
    assert link.told(step_id, True, "", desk.time_ns)
    assert not link.told(step_id, True, "again", desk.time_ns)
    assert len(desk.heard) == 1


def test_without_a_robot_the_step_fails_at_once(desk: Desk, link: LinkAdapter, robot: Robot) -> None:
    robot.connected = False
    step_id = desk.begin(link)
    assert desk.heard == [
        StepResult(step_id, Outcome.FAILED, 0, "no robot is connected, or it does not read")
    ]


async def test_a_module_without_a_link_says_so() -> None:
    desk = Desk(send=None)
    step_id = desk.begin(LinkAdapter("link robot", {"grace_ms": 0}, desk.around))
    assert desk.heard == [StepResult(step_id, Outcome.FAILED, 0, "this module has no robot link")]


def test_the_end_of_the_connection_fails_all_that_was_asked(desk: Desk, link: LinkAdapter) -> None:
    ids = [desk.begin(link), desk.begin(link)]
    desk.pass_ms(5)
    link.gone(desk.time_ns)
    link.gone(desk.time_ns)
    assert desk.heard == [
        StepResult(step_id, Outcome.FAILED, 5, "the robot's connection ended") for step_id in ids
    ]


def test_a_robot_that_never_answers_is_given_up(desk: Desk, link: LinkAdapter) -> None:
    step_id = desk.begin(link, deadline_ms=300)
    desk.pass_ms(400)
    assert [(each.id, each.outcome) for each in desk.poll(link)] == [(step_id, Outcome.FAILED)]
