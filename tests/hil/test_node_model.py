"""The node's rules with time as an argument: what opens its relay, what closes it, what its frames say."""

import struct
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.node_codec import cobs_decode, cobs_encode
from hil.node_model import ECHO_WINDOW, SafetyNode, Transition

MS = 1_000_000
ON = 0xA5


class Rig:
    """A node, a clock that the test turns, and an agent that the test speaks for."""

    def __init__(self, *names: str) -> None:
        self.now_ns = 5_000_000_000
        self.heard: list[Transition] = []
        self.node = SafetyNode(names or ("estop", "bumper"), self.now_ns, self.heard.append)
        self.agent_seq = 0

    def after(self, ms: float) -> "Rig":
        self.now_ns += int(ms * MS)
        self.node.tick(self.now_ns)
        return self

    def status(self) -> dict[str, int]:
        return parse(self.node.next_frame(self.now_ns))

    def order(self, energise: int = ON, *, age: int = 0) -> "Rig":
        """An order whose echo is the seq of the frame before the last `age`."""
        seq = self.node.last_seq
        assert seq is not None
        return self.order_raw(energise, (seq - age) & 0xFFFF)

    def order_raw(self, energise: int, echo: int) -> "Rig":
        self.agent_seq = (self.agent_seq + 1) & 0xFFFF
        self.node.hear(order_line(self.agent_seq, echo, energise), self.now_ns)
        return self

    def running(self) -> "Rig":
        self.status()
        self.order()
        assert self.node.relay
        return self


def order_line(seq: int, echo: int, energise: int) -> bytes:
    plain = struct.pack("<BBHHBB", 1, 2, seq, echo, energise, 0)
    return cobs_encode(plain + struct.pack("<I", zlib.crc32(plain))) + b"\0"


def parse(line: bytes) -> dict[str, int]:
    plain = cobs_decode(line[:-1])
    assert plain is not None
    assert zlib.crc32(plain[:-4]) == struct.unpack("<I", plain[-4:])[0]
    fields = struct.unpack("<BBHIHHBBH", plain[:-4])
    assert fields[:2] == (1, 1)
    return dict(zip(("seq", "node_ms", "a", "b", "relay", "faults", "echo"), fields[2:], strict=True))


# The relay ------------------------------------------------------------------------------------------------


def test_it_starts_with_its_relay_open_and_its_buttons_released() -> None:
    status = Rig().status()
    assert status == {"seq": 1, "node_ms": 0, "a": 0b11, "b": 0b11, "relay": 0, "faults": 0, "echo": 0}


def test_a_good_order_closes_the_relay() -> None:
    rig = Rig()
    rig.status()
    rig.order()
    assert rig.status()["relay"] == 1
    assert rig.heard == [Transition(rig.now_ns, closed=True, why="permitted")]


def test_an_order_before_the_first_frame_closes_nothing() -> None:
    rig = Rig().order_raw(ON, 0)
    assert not rig.node.relay
    assert rig.node.counters["orders_bad_echo"] == 1


@pytest.mark.parametrize(
    ("age", "closes"), [(0, True), (ECHO_WINDOW - 1, True), (ECHO_WINDOW, False), (-1, False)]
)
def test_the_echo_must_be_one_of_the_last_sixteen(age: int, closes: bool) -> None:
    rig = Rig()
    for _ in range(40):
        rig.status()
    assert rig.order(age=age).node.relay is closes


@pytest.mark.parametrize("energise", [value for value in range(256) if value != ON])
def test_anything_but_a5_opens_at_once(energise: int) -> None:
    rig = Rig().running().after(3).order(energise)
    assert rig.heard[-1] == Transition(rig.now_ns, closed=False, why="ordered")


def test_off_needs_no_echo() -> None:
    rig = Rig().running().order_raw(0, 0x7777)
    assert not rig.node.relay


def test_silence_opens_after_100_ms_and_not_before() -> None:
    rig = Rig().running()
    assert rig.node.silence_at_ns == rig.now_ns + 100 * MS
    assert rig.after(99.999_999).node.relay
    rig.after(0.000_001)
    assert rig.heard[-1] == Transition(rig.now_ns, closed=False, why="silence")
    assert rig.node.silence_at_ns is None


def test_frames_with_a_stale_echo_do_not_keep_it_closed() -> None:
    rig = Rig().running()
    first = rig.node.last_seq
    assert first is not None
    for _ in range(ECHO_WINDOW):
        rig.status()
    for _ in range(10):
        rig.after(10).order_raw(ON, first)
    assert not rig.node.relay
    assert rig.node.counters["orders_bad_echo"] == 10


def test_good_frames_keep_it_closed() -> None:
    rig = Rig().running()
    for _ in range(50):
        rig.after(20).status()
        rig.order()
    assert [change.closed for change in rig.heard] == [True]


def test_after_silence_a_good_order_closes_it_again() -> None:
    rig = Rig().running().after(500).order()
    assert [change.why for change in rig.heard] == ["permitted", "silence", "permitted"]


def test_a_damaged_frame_is_counted_and_does_not_count_as_heard() -> None:
    rig = Rig().running()
    line = bytearray(order_line(9, rig.node.last_seq or 0, ON))
    line[3] ^= 0x40
    rig.node.hear(bytes(line), rig.after(50).now_ns)
    assert rig.node.counters["packets_bad"] == 1
    assert not rig.after(50).node.relay


def test_a_jammed_relay_stays_until_it_is_freed() -> None:
    rig = Rig().running()
    rig.node.set_jammed(True)
    assert rig.after(1000).order(0).node.relay
    assert rig.node.silence_at_ns is None
    rig.node.set_jammed(False)
    assert not rig.after(0).node.relay


def test_a_deaf_node_hears_neither_on_nor_off_and_runs_into_silence() -> None:
    rig = Rig().running()
    rig.node.set_deaf(True)
    assert rig.order(0).node.relay
    assert rig.after(100).heard[-1].why == "silence"
    assert rig.node.counters["bytes_ignored"] == 14


def test_a_frame_begun_before_deafness_is_not_finished_after_it() -> None:
    rig = Rig().running()
    line = order_line(7, 0, 0)
    rig.node.hear(line[:6], rig.now_ns)
    rig.node.set_deaf(True)
    rig.node.set_deaf(False)
    rig.node.hear(line[6:], rig.now_ns)
    assert rig.node.relay
    assert rig.node.counters["packets_bad"] == 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(0, 60)),
        st.tuples(st.just("frame"), st.just(0)),
        st.tuples(st.just("on"), st.integers(0, 20)),
        st.tuples(st.just("off"), st.integers(0, 20)),
    ),
    max_size=60,
)


@given(steps)
def test_the_relay_follows_the_rule_through_any_history(script: list[tuple[str, int]]) -> None:
    """PROTOCOL 4's sentence said a second time, in the plainest way there is."""
    rig = Rig()
    rig.status()
    sent, closed, good_ns = [1], False, 0
    for what, number in script:
        if what == "wait":
            rig.after(number)
            closed = closed and rig.now_ns - good_ns < 100 * MS
        elif what == "frame":
            sent.append(rig.status()["seq"])
        else:
            rig.order(ON if what == "on" else 0, age=number)
            good = sent[-1] - number in sent[-16:]
            closed = (good or closed) if what == "on" else False
            good_ns = rig.now_ns if what == "on" and good else good_ns
        assert rig.node.relay is closed


# What it says ---------------------------------------------------------------------------------------------


def test_the_frame_echoes_the_last_seq_heard_whatever_it_ordered() -> None:
    rig = Rig()
    rig.node.hear(order_line(0xBEEF, 0x7777, ON), rig.now_ns)
    assert rig.status()["echo"] == 0xBEEF


def test_seq_and_clock_count_and_wrap() -> None:
    rig = Rig()
    rig.node.skip(0xFFFE)
    assert [rig.status()["seq"] for _ in range(3)] == [0xFFFF, 0, 1]
    assert rig.after(12.7).status()["node_ms"] == 12
    assert rig.after(2**32).status()["node_ms"] == 12


def test_the_echo_window_wraps_with_seq() -> None:
    rig = Rig()
    rig.node.skip(0xFFFD)
    for _ in range(6):
        rig.status()
    assert rig.node.last_seq == 3
    assert rig.order(age=5).node.relay


def test_repeating_sends_one_seq_until_it_counts_on() -> None:
    rig = Rig()
    rig.status()
    rig.node.set_repeating(True)
    assert [rig.status()["seq"] for _ in range(40)] == [2] * 40
    assert rig.order_raw(ON, 1).node.relay, "a repeated seq must not push the older ones out of the window"
    rig.node.set_repeating(False)
    assert [rig.status()["seq"] for _ in range(2)] == [2, 3]


def test_reboot_opens_the_relay_and_forgets_all() -> None:
    rig = Rig().running().after(30)
    old = rig.node.last_seq
    rig.node.press("estop", True, rig.now_ns)
    rig.node.reboot(rig.now_ns)
    assert rig.heard[-1] == Transition(rig.now_ns, closed=False, why="reboot")
    assert rig.order_raw(ON, old or 0).node.relay is False
    status = rig.after(4).status()
    assert (status["seq"], status["node_ms"]) == (1, 4)
    assert status["a"] == 0b10, "the button is not part of the node's memory"


# Contacts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deed", "a", "b"),
    [
        (lambda node, now: node.press("bumper", True, now), 0, 0),
        (lambda node, now: node.cut("bumper", frozenset("a"), now), 0, 1),
        (lambda node, now: node.cut("bumper", frozenset("b"), now), 1, 0),
        (lambda node, now: node.weld("bumper", frozenset("ab"), now), 1, 1),
    ],
)
def test_each_input_has_its_bit(deed: Callable[[SafetyNode, int], None], a: int, b: int) -> None:
    rig = Rig("estop", "bumper", "gate")
    deed(rig.node, rig.now_ns)
    status = rig.status()
    assert (status["a"], status["b"]) == (0b101 | a << 1, 0b101 | b << 1)


def test_a_welded_contact_stays_closed_when_pressed_and_a_cut_wire_wins_over_it() -> None:
    rig = Rig("estop")
    rig.node.weld("estop", frozenset("a"), rig.now_ns)
    rig.node.press("estop", True, rig.now_ns)
    assert (rig.status()["a"], rig.status()["b"]) == (1, 0)
    rig.node.cut("estop", frozenset("a"), rig.now_ns)
    assert rig.status()["a"] == 0


def test_a_contact_knows_when_it_last_read_differently() -> None:
    rig = Rig("estop").after(7)
    contact = rig.node.contacts["estop"]
    rig.node.press("estop", True, rig.now_ns)
    pressed_ns = rig.now_ns
    rig.after(5).node.press("estop", True, rig.now_ns)
    assert contact.changed_ns == pressed_ns
    rig.node.press("estop", False, rig.now_ns)
    assert contact.changed_ns == pressed_ns + 5 * MS


def due(rig: Rig) -> bool:
    """True when a frame is due; takes it."""
    changed = rig.node.changed
    rig.status()
    return changed


def test_a_frame_is_due_at_once_on_a_change_and_only_then() -> None:
    rig = Rig()
    assert not due(rig)
    rig.node.press("estop", True, rig.now_ns)
    assert due(rig)
    assert not due(rig)
    assert due(rig.order())
    rig.node.set_faults(0x80)
    assert rig.status()["faults"] == 0x80
    rig.after(50).node.skip(3)
    assert not due(rig), "time and seq alone are no change"
