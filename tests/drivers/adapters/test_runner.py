"""Protocols: order, deadlines, and that nothing keeps the next step from being tried."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.adapters.base import MS, Outcome, Step, StepResult
from drivers.adapters.runner import MAX_RUNS, MAX_STEPS, UNANSWERED_MS, Planned, Runner


class Scripted:
    """An adapter whose steps take what the script says, in ms; None: for ever; negative: fails in `begin`."""

    def __init__(self, site: "Site", takes_ms: dict[str, float | None]) -> None:
        self.name = "scripted"
        self._site = site
        self._takes_ms = takes_ms
        self._due: dict[str, int] = {}
        self.closed = 0

    def begin(self, step: Step, now_ns: int) -> None:
        self._site.begun.append((step.id, (now_ns - self._site.start_ns) // MS))
        takes_ms = self._takes_ms.get(step.id, 0)
        if takes_ms is None:
            return
        if takes_ms < 0:
            self._site.runner.told(StepResult(step.id, Outcome.FAILED, 0, "refused"))
        elif takes_ms == 0:
            self._site.runner.told(StepResult(step.id, Outcome.DONE, 0, "at once"))
        else:
            self._due[step.id] = now_ns + round(takes_ms * MS)

    def poll(self, now_ns: int) -> list[StepResult]:
        over = [step_id for step_id, due_ns in self._due.items() if now_ns >= due_ns]
        results = [StepResult(step_id, Outcome.DONE, 0, "in time") for step_id in over]
        for result in results:
            del self._due[result.id]
            self._site.runner.told(result)
        return results

    def close(self) -> None:
        self.closed += 1
        for step_id in tuple(self._due):
            del self._due[step_id]
            self._site.runner.told(StepResult(step_id, Outcome.FAILED, 0, "closed"))


class Site:
    """A runner with one scripted adapter, and a clock that the test moves."""

    def __init__(self, takes_ms: dict[str, float | None] | None = None) -> None:
        self.start_ns = self.time_ns = 5_000 * MS
        self.begun: list[tuple[str, int]] = []
        self.steps: list[tuple[str, str, Outcome]] = []
        self.ends: list[tuple[str, list[StepResult]]] = []
        self.runner = Runner(now_ns=lambda: self.time_ns, on_step=self._step, on_end=self._end)
        self.adapter = Scripted(self, takes_ms or {})
        self.runner.attach("robot", self.adapter)

    def _step(self, name: str, result: StepResult) -> None:
        self.steps.append((name, result.id, result.outcome))

    def _end(self, name: str, results: Sequence[StepResult]) -> None:
        self.ends.append((name, list(results)))

    def run(self, *steps: tuple[str, int], name: str = "emergency_stop", adapter: str = "robot") -> None:
        planned = [Planned(adapter, Step(step_id, "stop_motion", 1, ms, {})) for step_id, ms in steps]
        self.runner.run(name, planned, self.time_ns)

    def pass_ms(self, ms: int) -> None:
        for _ in range(ms):
            self.time_ns += MS
            self.runner.poll(self.time_ns)

    def outcomes(self, index: int = 0) -> list[tuple[str, Outcome]]:
        return [(result.id, result.outcome) for result in self.ends[index][1]]


def test_steps_run_in_order_each_after_the_one_before() -> None:
    site = Site({"a": 30, "b": 20, "c": 0})
    site.run(("a", 100), ("b", 100), ("c", 100))
    assert site.begun == [("a", 0)]
    assert site.runner.busy
    site.pass_ms(60)
    assert site.begun == [("a", 0), ("b", 30), ("c", 50)]
    assert site.outcomes() == [("a", Outcome.DONE), ("b", Outcome.DONE), ("c", Outcome.DONE)]
    assert not site.runner.busy


def test_a_step_that_hangs_holds_the_next_one_to_its_deadline_and_no_longer() -> None:
    site = Site({"a": None, "b": None, "c": 10})
    site.run(("a", 40), ("b", 25), ("c", 100))
    site.pass_ms(80)
    assert site.begun == [("a", 0), ("b", 40), ("c", 65)]
    assert site.steps == [("emergency_stop", "c", Outcome.DONE)]
    assert site.ends == []


def test_a_step_that_fails_lets_the_next_one_begin_at_once() -> None:
    site = Site({"a": -1, "b": -1, "c": 5})
    site.run(("a", 400), ("b", 400), ("c", 400))
    assert site.begun == [("a", 0), ("b", 0), ("c", 0)]
    site.pass_ms(5)
    assert site.outcomes() == [("a", Outcome.FAILED), ("b", Outcome.FAILED), ("c", Outcome.DONE)]


def test_a_late_step_is_told_in_its_place() -> None:
    site = Site({"a": 60, "b": 5})
    site.run(("a", 20), ("b", 100))
    site.pass_ms(60)
    assert site.begun == [("a", 0), ("b", 20)]
    assert [step_id for _, step_id, _ in site.steps] == ["b", "a"]
    assert [result.id for result in site.ends[0][1]] == ["a", "b"]


def test_the_longest_protocol_of_instant_steps() -> None:
    site = Site()
    names = [f"s{index}" for index in range(MAX_STEPS)]
    site.run(*((name, 10) for name in names))
    assert site.begun == [(name, 0) for name in names]
    assert site.outcomes() == [(name, Outcome.DONE) for name in names]
    assert len(site.ends) == 1


def test_an_empty_protocol_is_over_at_once() -> None:
    site = Site()
    site.run()
    assert site.ends == [("emergency_stop", [])]


def test_an_adapter_that_is_not_there_fails_its_step_alone() -> None:
    site = Site()
    site.runner.run(
        "hold",
        [
            Planned("ghost", Step("a", "stop_motion", 1, 50, {})),
            Planned("robot", Step("b", "stop_motion", 1, 50, {})),
        ],
        site.time_ns,
    )
    assert [(each.outcome, each.detail) for each in site.ends[0][1]] == [
        (Outcome.FAILED, "no adapter 'ghost'"),
        (Outcome.DONE, "at once"),
    ]


def test_two_steps_of_one_id_are_not_mixed_up() -> None:
    site = Site({"a": 30})
    site.run(("a", 100), name="hold")
    site.run(("a", 100), ("b", 100), name="emergency_stop")
    assert site.ends[0][0] == "emergency_stop"
    assert site.outcomes() == [("a", Outcome.FAILED), ("b", Outcome.DONE)]
    site.pass_ms(30)
    assert site.outcomes(1) == [("a", Outcome.DONE)]


def test_protocols_run_beside_each_other() -> None:
    site = Site({"a": None, "b": 5})
    site.run(("a", 500), name="hold")
    site.run(("b", 500), name="emergency_stop")
    site.pass_ms(5)
    assert [name for name, _ in site.ends] == ["emergency_stop"]
    assert site.runner.busy


def test_too_many_protocols_are_refused_and_said() -> None:
    site = Site({f"s{index}": None for index in range(MAX_RUNS)})
    for index in range(MAX_RUNS):
        site.run((f"s{index}", 50), name=f"run{index}")
    site.run(("x", 50), ("y", 50), name="more")
    assert site.outcomes() == [("x", Outcome.FAILED), ("y", Outcome.FAILED)]
    assert site.ends[0][1][0].detail == f"{MAX_RUNS} protocols are under way"
    assert len(site.begun) == MAX_RUNS


def test_too_long_a_protocol_is_refused_and_said() -> None:
    site = Site()
    site.run(*((f"s{index}", 10) for index in range(MAX_STEPS + 1)))
    assert {result.outcome for result in site.ends[0][1]} == {Outcome.FAILED}
    assert len(site.ends[0][1]) == MAX_STEPS + 1
    assert site.begun == []


def test_an_adapter_that_breaks_its_word_is_not_waited_for_for_ever() -> None:
    site = Site({"a": None})
    site.run(("a", 10))
    site.time_ns += (10 + UNANSWERED_MS) * MS - 1
    site.runner.poll(site.time_ns)
    assert site.ends == []
    site.time_ns += 1
    site.runner.poll(site.time_ns)
    assert [(each.outcome, each.detail) for each in site.ends[0][1]] == [
        (Outcome.FAILED, "its adapter never gave a result")
    ]
    site.runner.told(StepResult("a", Outcome.DONE, 0, "after all"))
    assert len(site.steps) == 1


def test_results_that_nobody_asked_for_are_dropped() -> None:
    site = Site()
    site.runner.told(StepResult("nobody's", Outcome.DONE, 0, ""))
    assert site.steps == []


def test_closing_gives_every_step_its_result_and_begins_no_other() -> None:
    site = Site({"a": 50, "b": 5, "x": None})
    site.run(("a", 100), ("b", 100), name="hold")
    site.run(("x", 100), name="emergency_stop")
    site.runner.close()
    site.runner.close()
    assert site.begun == [("a", 0), ("x", 0)]
    assert sorted(site.steps) == [
        ("emergency_stop", "x", Outcome.FAILED),
        ("hold", "a", Outcome.FAILED),
        ("hold", "b", Outcome.FAILED),
    ]
    assert sorted(name for name, _ in site.ends) == ["emergency_stop", "hold"]
    assert site.adapter.closed == 1
    site.run(("late", 10), name="more")
    assert site.ends[2][1][0].detail == "the runner is closed"


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.one_of(st.none(), st.integers(-1, 60))), min_size=1, max_size=6)
)
def test_every_step_begins_by_the_sum_of_the_deadlines_before_it(
    plan: list[tuple[int, int | None]],
) -> None:
    site = Site({str(index): takes for index, (_, takes) in enumerate(plan)})
    site.run(*((str(index), deadline_ms) for index, (deadline_ms, _) in enumerate(plan)))
    site.pass_ms(sum(deadline_ms for deadline_ms, _ in plan))
    assert [step_id for step_id, _ in site.begun] == [str(index) for index in range(len(plan))]
    latest = 0
    for (deadline_ms, _), (_, begun_ms) in zip(plan, site.begun, strict=True):
        assert begun_ms <= latest
        latest = begun_ms + deadline_ms
    site.runner.close()
    assert len(site.ends[0][1]) == len(plan)


@pytest.mark.parametrize("takes_ms", [0, -1])
def test_a_result_within_begin_is_heard_once(takes_ms: int) -> None:
    site = Site({"a": takes_ms})
    site.run(("a", 10))
    assert len(site.steps) == len(site.ends) == 1
