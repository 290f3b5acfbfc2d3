"""Contacts: an opening is told at once and for as long as an agent needs, a closing once it is steady."""

import ctypes
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hil.firmware.boards import INPUT_FAULT, PERIOD_MS, STEADY_MS, TEST_MS, Board

ALL = 0xFFFF


def told(board: Board) -> tuple[int, int]:
    """The channels in the newest frame."""
    return board.last.a, board.last.b


def test_nothing_is_said_before_the_contacts_are_known(board: Board) -> None:
    board.after(STEADY_MS - 1)
    assert board.said == []
    board.after(1)
    assert told(board) == (0b11, 0b11)


def test_a_contact_that_is_open_from_the_start_is_told_open(board: Board) -> None:
    board.contacts(0b01, 0b11)
    board.awake()
    assert told(board) == (0b01, 0b11)


@pytest.mark.parametrize("bit", range(16))
def test_each_contact_has_its_bit_and_opens_at_the_poll_that_sees_it(library: ctypes.CDLL, bit: int) -> None:
    board = Board(library, wired=ALL).awake().after(3)
    board.contacts(ALL & ~(1 << bit), ALL)
    assert board.turn(), "a frame of its own"
    assert told(board) == (ALL & ~(1 << bit), ALL)
    board.contacts(ALL & ~(1 << bit), ALL & ~(1 << bit))
    board.turn()
    assert told(board) == (ALL & ~(1 << bit),) * 2


def test_what_is_not_wired_is_never_closed(library: ctypes.CDLL) -> None:
    board = Board(library, wired=0b101)
    board.contacts(ALL, ALL)
    board.awake()
    assert told(board) == (0b101, 0b101)


def test_an_opening_of_one_poll_is_told_for_80_ms(board: Board) -> None:
    board.awake().after(4).said.clear()
    board.contacts(0b10, 0b11)
    board.turn()
    opened_ms = board.ms
    board.contacts(0b11, 0b11)
    board.after(STEADY_MS - 1)
    assert {frame.a for frame in board.frames()} == {0b10}
    board.after(1)
    assert told(board) == (0b11, 0b11)
    assert board.said[-1][0] == opened_ms + STEADY_MS, "and then told at once"


def test_bounce_begins_the_wait_anew(board: Board) -> None:
    board.awake()
    for pause_ms in (1, 5, STEADY_MS - 1):
        board.contacts(0b10, 0b10)
        board.after(1).contacts(0b11, 0b11)
        board.after(pause_ms)
        assert told(board) == (0b10, 0b10)
    board.after(1)
    assert told(board) == (0b11, 0b11)


def test_a_contact_that_stays_closed_longer_than_the_clock_counts_stays_closed(board: Board) -> None:
    board.awake().ms = (board.ms + 2**32 - 10) & 0xFFFFFFFF
    board.turn()
    assert told(board) == (0b11, 0b11)


# A reading counts unless the supply is off; what is told is open until STEADY_MS after the last open one.
MOVES = st.tuples(st.integers(1, 120), st.integers(0, 3), st.integers(0, 3))


@given(st.lists(MOVES, max_size=30), st.sampled_from([5_000, 2**32 - 500]))
@settings(max_examples=80, deadline=None)
def test_at_every_poll_of_any_history_it_tells_what_it_saw(
    library: ctypes.CDLL, moves: list[tuple[int, int, int]], start_ms: int
) -> None:
    board = Board(library, ms=start_ms)
    ages = {(channel, bit): 0 for channel in "ab" for bit in range(2)}  # since an open reading
    board.turn()
    for length_ms, a, b in [(STEADY_MS, 3, 3), *moves]:
        board.contacts(a, b)
        for _ in range(length_ms):
            board.ms = (board.ms + 1) & 0xFFFFFFFF
            supplied = board.look.supply
            board.turn()
            for (channel, bit), age in ages.items():
                is_open = supplied and not {"a": a, "b": b}[channel] >> bit & 1
                ages[channel, bit] = 0 if is_open else age + 1
            assert board.said == [] or told(board) == expected(ages)


def expected(ages: dict[tuple[str, int], int]) -> tuple[int, int]:
    a, b = (sum((ages[channel, bit] >= STEADY_MS) << bit for bit in range(2)) for channel in "ab")
    return a, b


# Line tests -------------------------------------------------------------------------------------------------


def until_test(board: Board) -> Board:
    """The turn after which the supply is off."""
    while board.look.supply:
        board.after(1)
    return board


def test_once_a_second_the_supply_is_off_for_one_poll_and_nobody_notices(board: Board) -> None:
    board.awake()
    off_ms = []
    for _ in range(3 * TEST_MS + 100):
        board.after(1)
        if not board.look.supply:
            off_ms.append(board.ms)
    assert [after - before for before, after in itertools.pairwise(off_ms)] == [TEST_MS + 1] * 2
    assert {(frame.a, frame.b, frame.faults) for frame in board.frames()} == {(0b11, 0b11, 0)}


def test_an_opening_during_a_test_is_told_one_poll_later(board: Board) -> None:
    until_test(board.awake()).contacts(0b10, 0b10)
    board.after(1)
    assert told(board) == (0b11, 0b11)
    board.after(1)
    assert told(board) == (0b10, 0b10)


@pytest.mark.parametrize(("a", "b"), [(0b01, 0), (0, 0b10), (0b11, 0b11)])
def test_a_pin_that_reads_closed_without_supply_is_a_fault_and_told_open(
    board: Board, a: int, b: int
) -> None:
    board.awake().shorts(a, b)
    until_test(board)
    assert board.last.faults == 0
    board.after(1)
    assert (board.last.faults, told(board)) == (INPUT_FAULT, (0b11 & ~a, 0b11 & ~b))


def test_an_input_fault_keeps_the_relay_open_until_a_test_finds_none(board: Board) -> None:
    board.running().shorts(0b01, 0)
    until_test(board).after(1).shorts(0, 0)
    while board.last.faults:
        board.turn(board.order())
        assert not board.relay
        board.after(1)
    assert told(board) == (0b10, 0b11), "found well, but not steady yet"
    board.turn(board.order())
    assert board.after(1).relay
    board.after(STEADY_MS - 1)
    assert told(board) == (0b11, 0b11)


def test_a_short_where_nothing_is_wired_is_nobodys_business(board: Board) -> None:
    board.awake().shorts(0b100, 0b100)
    until_test(board).after(5 * PERIOD_MS)
    assert board.last.faults == 0
