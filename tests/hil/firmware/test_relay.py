"""The relay: closed only by the rule of PROTOCOL 4, open in time, and open whenever something is wrong."""

import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.hil.firmware.boards import (
    ON,
    RELAY_FAULT,
    SETTLE_MS,
    SILENCE_MS,
    STEADY_MS,
    TEST_MS,
    WINDOW,
    Board,
)
from tests.hil.firmware.rule import Ruled

START, PERMITTED, ORDERED, SILENT, FAULTY = range(5)
LAST_MS = 2**32

# The rule ---------------------------------------------------------------------------------------------------


def test_it_starts_open_and_nothing_closes_it_before_it_has_spoken(board: Board) -> None:
    for ms in range(STEADY_MS - 1):
        board.after(1).turn(board.order(echo=ms))
        assert not board.coil
    assert board.look.why == START
    assert board.look.good == 0


def test_an_agent_that_has_heard_nothing_echoes_0_which_closes_nothing(board: Board) -> None:
    board.awake().turn(board.order(echo=0))
    assert (board.relay, board.look.bad_echo) == (False, 1)


def test_a_good_order_closes_it(board: Board) -> None:
    board.awake().turn(board.order())
    assert (board.look.relay, board.look.why) == (True, PERMITTED)


@pytest.mark.parametrize(("age", "closes"), [(0, True), (WINDOW - 1, True), (WINDOW, False), (30, False)])
@pytest.mark.parametrize("start_ms", [5_000, LAST_MS - 300])
def test_the_echo_is_one_of_the_last_sixteen(
    library: ctypes.CDLL, start_ms: int, age: int, closes: bool
) -> None:
    board = Board(library, ms=start_ms).awake().after(400)
    board.turn(board.order(age=age))
    assert board.relay is closes


def test_an_echo_from_the_future_closes_nothing(board: Board) -> None:
    board.awake().turn(board.order(echo=board.seqs[-1] + 1))
    assert not board.relay


def test_anything_but_a5_opens_at_once_whatever_it_echoes(library: ctypes.CDLL) -> None:
    for energise in set(range(256)) - {ON}:
        board = Board(library).running().after(3)
        board.turn(board.order(energise, echo=0x7777))
        assert (board.relay, board.look.why, board.look.off) == (False, ORDERED, 1), f"{energise:#x}"


@pytest.mark.parametrize("start_ms", [5_000, *range(LAST_MS - STEADY_MS - 101, LAST_MS - STEADY_MS + 2, 17)])
def test_it_opens_when_100_ms_have_passed_and_not_before(library: ctypes.CDLL, start_ms: int) -> None:
    board = Board(library, ms=start_ms).running().after(SILENCE_MS - 1)
    assert board.relay
    board.after(1)
    assert (board.relay, board.look.why) == (False, SILENT)


def test_a_good_order_in_the_last_millisecond_keeps_it_closed(board: Board) -> None:
    board.running().after(SILENCE_MS - 2).ms += 1
    board.turn(board.order())
    assert board.after(SILENCE_MS - 1).relay
    assert not board.after(1).relay


def test_orders_with_an_old_echo_do_not_keep_it_closed(board: Board) -> None:
    board.running()
    for _ in range(40):
        board.after(10).turn(board.order(echo=1))
    assert not board.relay
    assert board.look.bad_echo > 0


def test_the_verdict_needs_no_poll(board: Board) -> None:
    """Whoever asks for the coil gets it judged at that moment."""
    start_ms = board.running().ms
    verdicts = []
    for board.ms in (start_ms + SILENCE_MS - 1, start_ms + SILENCE_MS):
        verdicts.append(board.coil)
    assert verdicts == [True, False]
    assert board.look.why == PERMITTED, "nothing has been called that could have noticed"


STEPS = st.one_of(
    st.tuples(st.just("wait"), st.integers(1, 130)),
    st.tuples(st.just("alive"), st.integers(1, 6)),
    st.tuples(st.just("on"), st.integers(0, 20)),
    st.tuples(st.just("off"), st.integers(0, 255).filter(lambda value: value != ON)),
    st.tuples(st.just("again"), st.just(0)),
    st.tuples(st.just("both"), st.booleans()),
    st.tuples(st.just("cut"), st.integers(0, 13)),
    st.tuples(st.just("noise"), st.binary(max_size=20)),
)


class History:
    """Carries out steps; the last order that was sent may come again."""

    def __init__(self, ruled: Ruled) -> None:
        self.ruled = ruled
        self._last = b""

    def do(self, what: str, how: int | bool | bytes) -> None:
        getattr(self, f"_{what}")(how)

    def _wait(self, ms: int) -> None:
        self.ruled.after(ms)

    def _alive(self, count: int) -> None:
        for _ in range(count):
            self._send(self.ruled.board.order(), 20)

    def _on(self, age: int) -> None:
        self._send(self.ruled.board.order(age=min(age, len(self.ruled.board.seqs) - 1)))

    def _off(self, value: int) -> None:
        self._send(self.ruled.board.order(value))

    def _again(self, _: int) -> None:
        self._send(self._last)

    def _both(self, off_first: bool) -> None:
        """Two orders in one reading."""
        off, on = self.ruled.board.order(0), self.ruled.board.order()
        self._send(off + on if off_first else on + off)

    def _cut(self, at: int) -> None:
        """One order in two readings."""
        order = self.ruled.board.order()
        self._send(order[:at])
        self._send(order[at:])

    def _noise(self, noise: bytes) -> None:
        self._send(noise)

    def _send(self, data: bytes, after_ms: int = 1) -> None:
        self._last = data
        self.ruled.after(after_ms, data)


@given(st.lists(STEPS, max_size=25), st.sampled_from([0, 5_000, LAST_MS - 1_000]))
@settings(max_examples=200, deadline=None)
def test_at_every_millisecond_of_any_history_it_is_what_the_rule_says(
    library: ctypes.CDLL, steps: list[tuple[str, int | bytes]], start_ms: int
) -> None:
    ruled = Ruled(Board(library, ms=start_ms))
    ruled.turn()
    ruled.after(STEADY_MS)
    history = History(ruled)
    for what, how in steps:
        history.do(what, how)


# More than the rule may open it -----------------------------------------------------------------------------

FAULTS = st.one_of(
    st.tuples(st.just("stall"), st.integers(1, 3_000)),
    st.tuples(st.just("boot"), st.just(0)),
    st.tuples(st.just("jam"), st.booleans()),
    st.tuples(st.just("report"), st.sampled_from([0, 0, 0x04, 0xFF])),
    st.tuples(st.just("shorts"), st.sampled_from([0, 0, 0b10])),
    st.tuples(st.just("tested"), st.integers(1, 3)),
)


class Broken(Ruled):
    """A board that may be broken: the coil is energised only where PROTOCOL's rule has it closed."""

    mirror = False

    def check(self) -> None:
        assert not self.board.coil or self.rule.closed


class Breaking(History):
    """Carries out faults too."""

    def _stall(self, ms: int) -> None:
        self.ruled.stall(ms)

    def _boot(self, _: int) -> None:
        self.ruled.boot()
        self.ruled.turn()
        self.ruled.after(STEADY_MS)

    def _jam(self, jammed: bool) -> None:
        self.ruled.board.jam(jammed)

    def _report(self, faults: int) -> None:
        self.ruled.board.report(faults)

    def _shorts(self, pins: int) -> None:
        self.ruled.board.shorts(pins, 0)

    def _tested(self, times: int) -> None:
        self._alive(times * TEST_MS // 20)


@given(st.lists(STEPS | FAULTS, max_size=20))
@settings(max_examples=120, deadline=None)
def test_whatever_breaks_it_is_never_energised_against_the_rule(
    library: ctypes.CDLL, steps: list[tuple[str, int | bytes]]
) -> None:
    ruled = Broken(Board(library))
    ruled.turn()
    ruled.after(STEADY_MS)
    history = Breaking(ruled)
    for what, how in steps:
        history.do(what, how)


def test_off_and_on_in_one_reading_leave_it_open_until_it_was_seen_open(board: Board) -> None:
    board.running().after(1).turn(board.order(0) + board.order())
    assert not board.relay
    board.after(1).turn(board.order())
    assert board.relay


@pytest.mark.parametrize("ms", [SILENCE_MS, 5_000, LAST_MS - 1])
def test_a_board_that_stood_still_believes_nothing_that_waited_for_it(board: Board, ms: int) -> None:
    """What is read after a stall, or a jump of the clock, may be as old as the stall."""
    before = board.running().seqs[-1]
    waiting = board.order() * 5
    board.ms = (board.ms + ms) & 0xFFFFFFFF
    board.turn(waiting)
    assert (board.relay, board.look.why) == (False, SILENT)
    board.after(1).turn(board.order(echo=before))
    assert not board.relay, "an echo of before the stall"
    board.after(10).turn(board.order())
    assert board.relay


@pytest.mark.parametrize("back_ms", [1, 50, SILENCE_MS])
def test_a_clock_that_goes_back_opens_it(board: Board, back_ms: int) -> None:
    board.running().after(60).ms -= back_ms
    board.turn()
    assert (board.relay, board.look.why) == (False, SILENT)


def test_a_stall_shorter_than_the_silence_changes_nothing(board: Board) -> None:
    board.running().ms += SILENCE_MS - 1
    board.turn(board.order())
    assert board.relay


def test_no_stray_write_of_one_byte_closes_it(library: ctypes.CDLL, board: Board) -> None:
    board.awake().after(10)
    memory = (ctypes.c_uint8 * library.board_size()).from_buffer(board._self)
    for at, before in enumerate(bytes(memory)):
        for value in range(256):
            memory[at] = value
            assert not board.coil
        memory[at] = before


# A relay that does not follow -------------------------------------------------------------------------------


def keep_alive(board: Board, ms: int, energise: int = ON) -> None:
    for _ in range(ms // 10):
        board.after(10).turn(board.order(energise))


def test_welded_before_the_start_it_is_a_fault_and_never_energised(library: ctypes.CDLL) -> None:
    board = Board(library)
    board.turn()
    board.awake().turn(board.order())
    board.jam()
    board.boot()
    assert board.relay
    board.after(SETTLE_MS)
    keep_alive(board.after(STEADY_MS), 500)
    assert not board.coil
    assert (board.last.relay, board.look.why) == (1, START)


def test_welded_while_closed_is_told_after_the_settling_time(board: Board) -> None:
    board.running().jam()
    board.after(1).turn(board.order(0))
    board.after(SETTLE_MS - 1)
    assert board.last.faults == 0
    board.after(1)
    assert (board.last.relay, board.last.faults) == (1, RELAY_FAULT)


def test_a_relay_fault_outlasts_the_weld_until_the_agent_has_ordered_off(board: Board) -> None:
    board.running().jam()
    board.after(1).turn(board.order(0))
    board.after(SETTLE_MS)
    keep_alive(board, 200)
    keep_alive(board, 50, energise=0)
    assert board.last.faults == RELAY_FAULT, "ordered off, but still seen closed"
    board.jam(False)
    keep_alive(board, 200)
    assert (board.coil, board.last.faults) == (False, RELAY_FAULT)
    keep_alive(board, 10, energise=0)
    keep_alive(board, 10)
    assert (board.coil, board.last.faults) == (True, 0)


def test_one_that_never_closes_is_a_fault_and_the_coil_is_let_go(board: Board) -> None:
    board.awake().jam()
    keep_alive(board, SETTLE_MS)
    assert board.coil
    keep_alive(board, 20)
    assert (board.coil, board.look.why, board.last.faults) == (False, FAULTY, RELAY_FAULT)


@pytest.mark.parametrize("jammed_ms", [SETTLE_MS - 1, SETTLE_MS])
def test_a_slow_relay_is_none(board: Board, jammed_ms: int) -> None:
    board.running().jam()
    board.after(1).turn(board.order(0))
    board.after(jammed_ms).jam(False)
    board.after(10)
    assert board.last.faults == (RELAY_FAULT if jammed_ms >= SETTLE_MS else 0)


def test_a_stall_of_the_board_is_not_held_against_the_relay(board: Board) -> None:
    board.running().jam()
    board.ms += 5_000
    board.turn()
    board.after(SETTLE_MS - 1).jam(False)
    board.after(10)
    assert board.last.faults == 0


def test_a_fault_that_is_gone_before_the_next_poll_has_opened_it(board: Board) -> None:
    board.running().report(0x04)
    board.report(0)
    assert (board.coil, board.look.why) == (False, FAULTY)


@pytest.mark.parametrize("bit", range(8))
def test_a_fault_of_the_platform_opens_it_and_is_told_until_it_is_gone(board: Board, bit: int) -> None:
    board.running().report(1 << bit)
    assert not board.coil
    board.after(1)
    assert (board.last.faults, board.look.why, board.relay) == (1 << bit, FAULTY, False)
    keep_alive(board, 100)
    assert not board.relay
    board.report(0)
    keep_alive(board, 20)
    assert (board.relay, board.last.faults) == (True, 0)
