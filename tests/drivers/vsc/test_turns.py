"""How long what is read now can have waited: a small model of a loop beside it."""

from hypothesis import given
from hypothesis import strategies as st

from drivers.vsc.turns import Turns

READ_ROOM = 3
"""Bytes that one read takes here."""


def test_a_loop_that_turns_reads_what_is_young() -> None:
    turns = Turns(0)
    for now_ns in range(10, 100, 10):
        turns.tick(now_ns)
    assert turns.read(95, has_more=False) == 80


def test_what_came_after_an_empty_port_is_younger_still() -> None:
    turns = Turns(0)
    turns.tick(10)
    turns.tick(20)
    turns.read(25, has_more=False)
    assert turns.read(27, has_more=False) == 25


def test_after_a_freeze_the_tick_itself_makes_nothing_young() -> None:
    turns = Turns(0)
    turns.tick(10)
    turns.tick(20)
    turns.tick(900)  # the loop wakes: its timer may come before the port
    assert turns.read(901, has_more=False) == 20


def test_a_port_that_is_not_empty_yet_stays_as_old() -> None:
    turns = Turns(0)
    turns.tick(10)
    assert turns.read(900, has_more=True) == 0
    turns.tick(901)
    turns.tick(911)
    assert turns.read(912, has_more=False) == 0
    assert turns.read(913, has_more=False) == 912


# One turn of a loop: how many bytes come, how long it waits, and what it then calls in which order.
turn = st.tuples(st.integers(0, 4), st.integers(0, 400), st.sampled_from(["tick read", "read tick", "read"]))


@given(st.lists(turn, max_size=40))
def test_no_byte_is_ever_older_than_said(script: list[tuple[int, int, str]]) -> None:
    now_ns = 0
    turns = Turns(now_ns)
    waiting: list[int] = []
    for arrivals, wait_ns, calls in script:
        waiting += [now_ns] * arrivals  # all at the start of the wait: the worst case
        now_ns += wait_ns
        for call in calls.split():
            if call == "tick":
                turns.tick(now_ns)
            elif waiting:
                taken, waiting = waiting[:READ_ROOM], waiting[READ_ROOM:]
                assert turns.read(now_ns, has_more=len(taken) == READ_ROOM) <= min(taken)
