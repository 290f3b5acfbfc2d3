"""What every adapter does alike: deadlines, one result for each step, bounds, closing."""

import pytest

from drivers.adapters.base import MS, Outcome, Step, StepResult, Surroundings
from drivers.adapters.keeper import MAX_OPEN, Job, StepKeeper
from tests.drivers.adapters.rig import Desk


class Toy(StepKeeper):
    """Finishes when the test says so; `args.at_once` finishes within `begin`."""

    def __init__(self, around: Surroundings, grace_ms: int = 100) -> None:
        super().__init__("toy", around, grace_ms)
        self.works: list[Toy.Work] = []

    class Work:
        def __init__(self, job: Job) -> None:
            self.job = job
            self.ticks: list[int] = []
            self.ended = 0

        def tick(self, now_ns: int) -> None:
            self.ticks.append(now_ns)

        def end(self) -> None:
            self.ended += 1

    def _start(self, job: Job, now_ns: int) -> "Toy.Work":
        work = Toy.Work(job)
        self.works.append(work)
        if job.step.args.get("at_once"):
            job.done("at once", now_ns)
        return work


@pytest.fixture
async def desk() -> Desk:
    return Desk()


@pytest.fixture
def toy(desk: Desk) -> Toy:
    return Toy(desk.around)


@pytest.mark.parametrize(
    ("after_ms", "outcome"),
    [(0, Outcome.DONE), (50, Outcome.DONE), (50.5, Outcome.LATE), (149, Outcome.LATE)],
)
def test_done_by_the_deadline_late_afterwards(
    desk: Desk, toy: Toy, after_ms: float, outcome: Outcome
) -> None:
    step_id = desk.begin(toy, deadline_ms=50)
    desk.pass_ms(after_ms)
    toy.works[0].job.done("it stands", desk.time_ns)
    assert desk.heard == [StepResult(step_id, outcome, int(after_ms), "it stands")]
    assert toy.works[0].ended == 1


def test_a_failure_is_no_success_however_early_or_late(desk: Desk, toy: Toy) -> None:
    first, second = desk.begin(toy, deadline_ms=50), desk.begin(toy, deadline_ms=50)
    toy.works[0].job.failed("no such thing", desk.time_ns)
    desk.pass_ms(60)
    toy.works[1].job.failed("no such thing", desk.time_ns)
    assert [(result.id, result.outcome) for result in desk.heard] == [
        (first, Outcome.FAILED),
        (second, Outcome.FAILED),
    ]


def test_what_never_finishes_is_failed_when_its_grace_is_over(desk: Desk, toy: Toy) -> None:
    step_id = desk.begin(toy, deadline_ms=50)
    desk.pass_ms(149.999)
    assert desk.poll(toy) == []
    assert toy.works[0].ended == 0
    desk.pass_ms(0.001)
    expected = StepResult(step_id, Outcome.FAILED, 150, "not finished 100 ms after its deadline of 50 ms")
    assert desk.poll(toy) == [expected]
    assert desk.heard == [expected]
    assert toy.works[0].ended == 1
    assert desk.poll(toy) == []


def test_a_step_has_one_result(desk: Desk, toy: Toy) -> None:
    desk.begin(toy)
    job = toy.works[0].job
    job.done("once", desk.time_ns)
    job.done("twice", desk.time_ns)
    job.failed("thrice", desk.time_ns)
    desk.pass_ms(100_000)
    assert desk.poll(toy) == []
    assert [result.detail for result in desk.heard] == ["once"]
    assert toy.works[0].ended == 1


def test_one_that_finishes_within_begin_is_ended_too(desk: Desk, toy: Toy) -> None:
    step_id = desk.begin(toy, at_once=True)
    assert desk.heard == [StepResult(step_id, Outcome.DONE, 0, "at once")]
    assert toy.works[0].ended == 1
    desk.poll(toy)
    assert toy.works[0].ticks == []


def test_polling_lets_every_open_step_go_on(desk: Desk, toy: Toy) -> None:
    desk.begin(toy)
    desk.begin(toy)
    toy.works[0].job.done("", desk.time_ns)
    desk.poll(toy)
    assert [len(work.ticks) for work in toy.works] == [0, 1]


def test_a_poll_s_own_results_are_what_it_returns(desk: Desk, toy: Toy) -> None:
    desk.begin(toy)
    toy.works[0].job.done("before", desk.time_ns)
    step_id = desk.begin(toy, deadline_ms=1)
    desk.pass_ms(500)
    assert [result.id for result in desk.poll(toy)] == [step_id]


@pytest.mark.parametrize(
    ("step_id", "deadline_ms", "words"),
    [
        ("", 50, "its id must have 1 to 64 characters"),
        ("x" * 65, 50, "its id must have 1 to 64 characters"),
        ("a", 0, "its deadline must be 1 to 600000 ms"),
        ("a", -1, "its deadline must be 1 to 600000 ms"),
        ("a", 600_001, "its deadline must be 1 to 600000 ms"),
    ],
)
def test_a_step_that_cannot_be_kept_is_failed(
    desk: Desk, toy: Toy, step_id: str, deadline_ms: int, words: str
) -> None:
    toy.begin(Step(step_id, "stop_motion", 1, deadline_ms, {}), desk.time_ns)
    assert desk.heard == [StepResult(step_id, Outcome.FAILED, 0, words)]
    assert toy.works == []


def test_an_id_under_way_is_refused_and_the_first_goes_on(desk: Desk, toy: Toy) -> None:
    step_id = desk.begin(toy)
    toy.begin(Step(step_id, "stop_motion", 1, 50, {}), desk.time_ns)
    assert desk.heard == [StepResult(step_id, Outcome.FAILED, 0, "a step with its id is under way")]
    toy.works[0].job.done("the first", desk.time_ns)
    assert desk.heard[1:] == [StepResult(step_id, Outcome.DONE, 0, "the first")]


def test_steps_under_way_are_bounded(desk: Desk, toy: Toy) -> None:
    for _ in range(MAX_OPEN):
        desk.begin(toy)
    step_id = desk.begin(toy)
    assert desk.heard == [StepResult(step_id, Outcome.FAILED, 0, "16 steps are under way")]
    toy.works[3].job.done("", desk.time_ns)
    desk.begin(toy)
    assert len(toy.works) == MAX_OPEN + 1


def test_closing_ends_everything_once_and_begins_nothing(desk: Desk, toy: Toy) -> None:
    desk.begin(toy)
    desk.begin(toy)
    desk.pass_ms(3)
    toy.close()
    toy.close()
    assert [(result.outcome, result.after_ms, result.detail) for result in desk.heard] == [
        (Outcome.FAILED, 3, "the adapter was closed")
    ] * 2
    assert [work.ended for work in toy.works] == [1, 1]
    desk.begin(toy)
    assert desk.heard[2].detail == "the adapter is closed"
    assert len(toy.works) == 2


async def test_whoever_hears_a_result_may_begin_the_next_step_and_close() -> None:
    desk = Desk()
    heard: list[str] = []

    def hear(result: StepResult) -> None:
        heard.append(result.detail)
        if len(heard) == 1:
            own.begin(Step(result.id, "next", 1, 50, {}), desk.time_ns)
        elif len(heard) == 2:
            own.close()

    own = Toy(Surroundings(desk.around.loop, desk.around.now_ns, hear))
    own.begin(Step("a", "first", 1, 50, {}), desk.time_ns)
    own.begin(Step("b", "other", 1, 50, {}), desk.time_ns)
    desk.time_ns += 1000 * MS
    own.poll(desk.time_ns)
    assert len(heard) == 3
    assert [work.ended for work in own.works] == [1, 1, 1]
