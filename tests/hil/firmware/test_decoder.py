"""What the firmware makes of bytes: nothing but whole orders, whatever comes, in whatever pieces."""

import ctypes
import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.node_model import SafetyNode
from tests.drivers.wire import agent_frame, seal
from tests.hil.firmware.asked import Asked
from tests.hil.firmware.boards import ON, STEADY_MS, Board, Look

MS = 1_000_000
START_MS = 5_000

orders = st.builds(
    agent_frame,
    seq=st.integers(0, 0xFFFF),
    echo=st.integers(0, 40) | st.integers(0, 0xFFFF),
    energise=st.sampled_from([ON, 0]) | st.integers(0, 255),
    zero=st.sampled_from([0, 0, 0, 1]),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An order with bytes changed, left out or put in."""
    order = bytearray(draw(orders))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(order)))
        order[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(order)


streams = st.lists(orders | damaged() | st.binary(max_size=80) | st.just(b"\0"), max_size=12).map(b"".join)


def pieces(stream: bytes, sizes: list[int]) -> list[bytes]:
    """The stream cut into pieces of these sizes, over and over."""
    cut: list[bytes] = []
    for size in itertools.cycle(sizes):
        if not stream:
            return cut
        cut.append(stream[:size])
        stream = stream[size:]
    return cut


class Sim:
    """The Python simulator's node, hearing the same; it is told when the C has said something."""

    def __init__(self) -> None:
        self.node = SafetyNode(("estop", "bumper"), START_MS * MS, lambda _: None)

    def counts(self) -> tuple[int, ...]:
        names = ("orders_good", "orders_off", "orders_bad_echo", "packets_bad", "bytes_heard")
        return tuple(self.node.counters[name] for name in names)


# Under both sanitizers --------------------------------------------------------------------------------------


def turn(script: Asked, ms: int, data: bytes = b"") -> tuple[tuple[int, ...], bytes]:
    """One turn; relay and counters, and the frame."""
    *numbers, frame = script.ask(f"turn {ms} {data.hex()}").split(" ")
    return tuple(map(int, numbers)), bytes.fromhex(frame)


@given(streams, st.lists(st.integers(1, 40), min_size=1, max_size=5))
@settings(max_examples=250, deadline=None)
def test_any_bytes_in_any_pieces_count_as_the_simulator_counts_them(
    script: Asked, stream: bytes, sizes: list[int]
) -> None:
    sim = Sim()
    script.ask(f"boot 3 {START_MS}")
    script.ask("contacts 3 3")
    turn(script, START_MS)
    for ms, piece in enumerate([b"", *pieces(stream, sizes)], START_MS + STEADY_MS):
        numbers, frame = turn(script, ms, piece)
        sim.node.hear(piece, ms * MS)
        assert numbers[1:] == sim.counts()
        if frame:
            sim.node.next_frame(ms * MS)


def test_what_never_ends_takes_no_memory_and_spoils_nothing_after_it(script: Asked) -> None:
    script.ask(f"boot 3 {START_MS}")
    turn(script, START_MS)
    turn(script, START_MS + STEADY_MS)
    for ms in range(20):
        turn(script, START_MS + STEADY_MS + ms, b"\x55" * 20_000)
    order = agent_frame(seq=1, echo=1, energise=ON)
    numbers, _ = turn(script, START_MS + STEADY_MS + 20, b"\0" + order)
    assert numbers == (1, 1, 0, 0, 1, 20 * 20_000 + 1 + len(order))


# One by one -------------------------------------------------------------------------------------------------


def heard(board: Board, data: bytes) -> Look:
    """What it counted of this alone; the delimiters keep it apart from what was before and comes after."""
    before = board.look
    board.turn(b"\0" + data + b"\0")
    after = board.look
    return Look(
        relay=after.relay,
        moved_ms=0,
        why=0,
        supply=True,
        good=after.good - before.good,
        off=after.off - before.off,
        bad_echo=after.bad_echo - before.bad_echo,
        bad=after.bad - before.bad,
        heard=0,
    )


NOTHING = Look(False, 0, 0, True, good=0, off=0, bad_echo=0, bad=1, heard=0)


@pytest.mark.parametrize("energise", [ON, 0])
def test_one_or_two_flipped_bits_are_never_an_order(board: Board, energise: int) -> None:
    board.awake()
    good = agent_frame(seq=0x1234, echo=1, energise=energise)[:-1]
    bits = range(len(good) * 8)
    for flips in (*itertools.combinations(bits, 1), *itertools.combinations(bits, 2)):
        spoilt = bytearray(good)
        for bit in flips:
            spoilt[bit // 8] ^= 1 << bit % 8
        look = heard(board, bytes(spoilt))
        assert (look.relay, look.good, look.off, look.bad_echo) == (False, 0, 0, 0), f"bits {flips}"


def body(*, version: int = 1, kind: int = 2, energise: int = ON, zero: int = 0, more: bytes = b"") -> bytes:
    return struct.pack("<BBHHBB", version, kind, 7, 1, energise, zero) + more


@pytest.mark.parametrize(
    "stretch",
    [
        seal(body(version=0))[:-1],
        seal(body(version=2))[:-1],
        seal(body(kind=1))[:-1],
        seal(body(kind=3))[:-1],
        seal(body(zero=1))[:-1],
        seal(body(zero=0xA5, energise=0))[:-1],
        seal(body(more=b"\1"))[:-1],
        seal(body()[:-1])[:-1],
        seal(body(), crc_xor=1)[:-1],
        seal(body(), crc_xor=0x8000_0000)[:-1],
        seal(body())[:-2],
        seal(body())[1:-1],
        seal(body())[:-1] + b"\1",
        seal(body())[:-1] * 2,
        seal(body())[:5] + b"\xff" + seal(body())[6:-1],
        b"\xff" * 13,
        b"\1" * 13,
        b"\1",
    ],
    ids=range(18),
)
def test_what_is_nearly_an_order_is_none(board: Board, stretch: bytes) -> None:
    board.awake()
    assert heard(board, stretch) == NOTHING
    assert heard(board, seal(body())[:-1]).good == 1, "and leaves nothing behind"


def test_delimiters_alone_are_nothing(board: Board) -> None:
    board.awake().turn(b"\0" * 50)
    assert board.look.bad == 0


def test_a_byte_at_a_time_is_as_good_as_all_at_once(board: Board) -> None:
    board.awake()
    for byte in board.order():
        assert not board.relay
        board.turn(bytes([byte]))
    assert board.relay


def test_every_order_that_can_be_sent_is_understood(library: ctypes.CDLL) -> None:
    """Whatever zeros it holds: each byte of seq and echo 0 or not."""
    board = Board(library).awake()
    for seq, echo in itertools.product((0, 1, 0x0100, 0xABCD), repeat=2):
        look = heard(board, agent_frame(seq=seq, echo=echo, energise=0)[:-1])
        assert (look.off, look.bad) == (1, 0)
        assert board.after(10).last.echo == seq


def test_a_line_that_broke_forgets_the_frame_that_had_begun(board: Board) -> None:
    board.awake()
    order = board.order()
    board.turn(order[:6])
    board.break_line()
    board.turn(order[6:])
    assert (board.relay, board.look.bad) == (False, 1)
    board.turn(order[:6])
    board.break_line()
    board.turn(order)
    assert (board.relay, board.look.bad) == (True, 1)
