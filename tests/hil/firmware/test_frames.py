"""Status frames: byte for byte as PROTOCOL 4 lays them out, on their grid, at once on a change."""

import ctypes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.serial_node.codec import NodeFrame
from tests.hil.firmware.boards import PERIOD_MS, STEADY_MS, Board

# Written out from PROTOCOL 4, so that no codec has to be right for this test to be:
#   01 01 | 01 00 | 50 00 00 00 | 03 00 | 03 00 | 00 | 00 | 00 00 | crc 1b cf 47 52
# version, type, seq 1, node_ms 80, channels 3 and 3, relay, faults, echo; then COBS and the delimiter.
FIRST = bytes.fromhex("04010101 0250 01 01 0203 0203 01 01 01 01 051bcf4752 00")
# version, type, seq 0x1234, echo 1, energise 0xa5, zero.
GOOD_ORDER = bytes.fromhex("0601023412 01 02a5 054e6010d0 00")


def test_the_first_frame_byte_for_byte(board: Board) -> None:
    assert board.after(STEADY_MS).said == [(board.ms, FIRST)]


def test_an_order_byte_for_byte(board: Board) -> None:
    board.awake().turn(GOOD_ORDER)
    assert board.relay
    assert board.after(PERIOD_MS).last.echo == 0x1234


def test_frames_come_every_10_ms(board: Board) -> None:
    board.awake().after(5 * PERIOD_MS)
    start_ms = board.said[0][0]
    assert [ms - start_ms for ms, _ in board.said] == [0, 10, 20, 30, 40, 50]
    assert [(frame.seq, frame.node_ms) for frame in board.frames()] == [(n, 70 + 10 * n) for n in range(1, 7)]


def test_a_change_is_told_at_once_and_does_not_move_the_grid(board: Board) -> None:
    board.awake().after(13).contacts(0, 0)
    board.turn()
    board.after(7)
    start_ms = board.said[0][0]
    assert [ms - start_ms for ms, _ in board.said] == [0, 10, 13, 20]


def test_periods_that_were_missed_are_left_out(board: Board) -> None:
    board.awake().ms += 37
    board.turn()
    board.after(13)
    start_ms = board.said[0][0]
    assert [ms - start_ms for ms, _ in board.said] == [0, 37, 40, 50]


def test_the_relay_in_a_frame_is_its_mirror_contact(board: Board) -> None:
    board.awake().jam()
    board.after(1).turn(board.order())
    board.after(PERIOD_MS)
    assert board.coil
    assert board.last.relay == 0
    board.jam(False)
    board.after(1)
    assert board.last.relay == 1


def test_the_echo_is_the_seq_last_heard_whatever_was_ordered(board: Board) -> None:
    board.awake()
    for energise, echo in ((0xA5, 0x7777), (0, 0), (0xA5, 1)):
        order = board.order(energise, echo=echo)
        board.turn(order)
        board.after(PERIOD_MS)
        assert board.last.echo == board._orders


def test_the_echo_alone_is_no_change(board: Board) -> None:
    board.awake()
    assert board.after(3).turn(board.order(echo=0x7777)) == b""


def test_seq_wraps(board: Board) -> None:
    board.awake()
    while len(board.seqs) < 2**16 + 3:
        board.run(PERIOD_MS)
    assert board.seqs[-6:] == [0xFFFE, 0xFFFF, 0, 1, 2, 3]
    board.turn(board.order(age=4))
    assert board.relay


def test_node_ms_counts_from_the_start_and_wraps(library: ctypes.CDLL) -> None:
    board = Board(library, ms=2**32 - 90).awake().after(40)
    assert [frame.node_ms for frame in board.frames()] == [80, 90, 100, 110, 120]
    board.ms = (board.ms + 2**32 - 1 - 120) & 0xFFFFFFFF
    board.turn()
    board.after(15)
    assert [frame.node_ms for frame in board.frames()] == [2**32 - 1, 4, 14]


def test_a_reboot_begins_anew(board: Board) -> None:
    board.running().after(300)
    board.contacts(0b10, 0b10)
    board.boot()
    board.turn()
    board.said.clear()
    board.after(STEADY_MS)
    first = board.last
    assert (first.seq, first.node_ms, first.relay, first.echo, first.a) == (1, STEADY_MS, 0, 0, 0b10)


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=10)
)
@settings(max_examples=60, deadline=None)
def test_every_frame_is_what_the_driver_reads(
    library: ctypes.CDLL, deeds: list[tuple[int, int, int, bool]]
) -> None:
    board = Board(library).awake()
    for ms, a, b, on in deeds:
        board.contacts(a, b)
        board.turn(board.order() if on else b"")
        board.after(ms)
    for (_, line), ours in zip(tuple(board.said), board.frames(), strict=True):
        theirs = NodeFrame.from_bytes(line[:-1])
        assert theirs.to_bytes() == line
        fields = (ours.seq, ours.node_ms, ours.a, ours.b, ours.relay, ours.faults, ours.echo)
        assert fields == (
            theirs.seq,
            theirs.node_ms,
            theirs.channel_a,
            theirs.channel_b,
            theirs.relay,
            theirs.faults,
            theirs.echo,
        )


# A platform that sleeps -------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 150), st.integers(0, 18), st.booleans()), max_size=12))
@settings(max_examples=80, deadline=None)
def test_polled_only_when_it_asks_it_does_the_same(
    library: ctypes.CDLL, orders: list[tuple[int, int, bool]]
) -> None:
    """`node_next_ms`: a platform may sleep until then and misses no frame, no test, no silence."""
    busy, sleepy = Board(library), Board(library)
    busy.turn()
    sleepy.turn()
    for wait_ms, age, on in [(STEADY_MS, 0, False), *orders]:
        busy.after(wait_ms)
        while sleepy.ms < busy.ms:
            assert sleepy.next_ms <= PERIOD_MS
            sleepy.ms += min(max(sleepy.next_ms, 1), busy.ms - sleepy.ms)
            sleepy.turn()
        order = busy.order(0xA5 if on else 0, age=min(age, len(busy.seqs) - 1))
        busy.turn(order)
        sleepy.turn(order)
        assert sleepy.said == busy.said
        assert sleepy.look == busy.look


@pytest.mark.parametrize("what", ["speaking", "test", "silence"])
def test_it_asks_to_be_polled_for(board: Board, what: str) -> None:
    if what == "speaking":
        board.after(STEADY_MS - 3)
        assert board.next_ms == 3
    elif what == "test":
        while board.look.supply:
            board.after(1)
        assert board.next_ms <= 1
    else:
        board.awake().after(7).turn(board.order())
        board.after(97)
        assert (board.next_ms, board.relay) == (3, True)
