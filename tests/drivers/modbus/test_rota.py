"""Whose turn it is on a line: those that answer are not starved by those that do not."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.modbus.rota import EARLY_NS, MS, WAIT_MOST_NS, Rota, Turn

TICK_NS = 10 * MS


def run(answers: list[bool], during_ms: int, *, poll_ms: int = 50, timeout_ms: int = 50) -> list[list[int]]:
    """When each register was asked, in ms: a tick for an answer, a time-out where there is none."""
    turns = [Turn(poll_ms * MS) for _ in answers]
    rota = Rota(turns)
    asked: list[list[int]] = [[] for _ in answers]
    now_ns = 0
    while now_ns < during_ms * MS:
        place = rota.next(now_ns)
        if place is None:
            now_ns += TICK_NS
            continue
        rota.asked(place, now_ns)
        asked[place].append(now_ns // MS)
        if answers[place]:
            rota.answered(place)
            now_ns += TICK_NS
        else:
            rota.missed(place)
            now_ns += timeout_ms * MS
    return asked


def gaps(asked: list[int]) -> list[int]:
    return [after - before for before, after in pairwise(asked)]


def test_alone_it_is_asked_once_a_period() -> None:
    assert run([True], 500) == [list(range(0, 500, 50))]


def test_those_that_share_a_line_take_turns() -> None:
    for asked in run([True] * 5, 500):
        assert gaps(asked) == [50] * 9


def test_more_than_the_line_can_carry_are_each_asked_as_often() -> None:
    asked = run([True] * 20, 4_000)
    assert {len(each) for each in asked} == {20}
    assert {gap for each in asked for gap in gaps(each)} == {200}


def test_the_silent_one_is_asked_ever_more_rarely() -> None:
    (asked,) = run([False], 6_000)
    assert gaps(asked) == [50, 100, 200, 400, 800, 1_000, 1_000, 1_000, 1_000]


@pytest.mark.parametrize("silent", [1, 3, 12])
def test_silent_ones_cost_the_others_one_time_out_at_most(silent: int) -> None:
    """However many there are: 50 ms of poll, 50 ms of one time-out, and a tick for each of the others."""
    asked = run([False] * silent + [True] * 3, 5_000)
    for each in asked[silent:]:
        assert max(gaps(each)) <= 50 + 50 + 3 * 10 + 10
    for each in asked[:silent]:
        assert len(each) >= 4


def test_the_first_answer_makes_the_waits_short_again() -> None:
    turn = Turn(50 * MS)
    rota = Rota([turn])
    for _ in range(10):
        rota.asked(0, 0)
        rota.missed(0)
    rota.asked(0, 0)
    assert turn.due_ns == WAIT_MOST_NS - EARLY_NS
    rota.answered(0)
    assert turn.due_ns == 50 * MS - EARLY_NS


def test_a_turn_that_went_to_a_probe_comes_back_at_once() -> None:
    rota = Rota([Turn(50 * MS), Turn(50 * MS)])
    rota.asked(0, 0)
    rota.again(0, 10 * MS)
    assert rota.next(10 * MS) == 1
    rota.asked(1, 10 * MS)
    rota.answered(1)
    assert rota.next(20 * MS) == 0


def test_a_slow_poll_is_not_made_faster_by_silence() -> None:
    assert [Turn(5_000 * MS, misses=misses).wait_ns for misses in (0, 1, 2, 60)] == [5_000 * MS] * 4


@settings(max_examples=60)
@given(st.lists(st.booleans(), min_size=1, max_size=8), st.integers(1, 4), st.integers(1, 10))
def test_nobody_is_forgotten(answers: list[bool], polls: int, timeouts: int) -> None:
    asked = run(answers, 10_000, poll_ms=25 * polls, timeout_ms=20 * timeouts)
    for each in asked:
        assert max(gaps([0, *each, 10_000])) < 3_000
