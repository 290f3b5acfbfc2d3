"""The simulated node as a process on its pseudo-terminal: frames, relay, contacts, and how it misbehaves."""

import os
import random
from pathlib import Path

import pytest

from hil.node_control import NodeControl, NodeProcess
from hil.node_line import Line
from hil.node_simulator import PERIOD_NS, Simulator
from tests.hil.line_end import LineEnd
from tests.hil.node_watch import report, until_open
from tests.waiting import block_until

# Frames ---------------------------------------------------------------------------------------------------


def test_frames_come_by_themselves_one_seq_after_the_other(line: LineEnd) -> None:
    frames = [line.frame() for _ in range(12)]
    assert [frame.seq for frame in frames] == list(range(frames[0].seq, frames[0].seq + 12))
    assert frames == sorted(frames, key=lambda frame: frame.node_ms)
    assert {(frame.a, frame.b, frame.relay, frame.faults, frame.echo) for frame in frames} == {
        (7, 7, 0, 0, 0)
    }
    assert line.noise == []


def test_the_period_is_kept_from_absolute_deadlines(tmp_path: Path) -> None:
    simulator = Simulator(("estop",), Line(tmp_path / "tty"), None, None)
    start_ns = simulator._frame_at_ns
    simulator._plan_next_frame(start_ns + 9)
    assert simulator._frame_at_ns == start_ns + PERIOD_NS
    simulator._plan_next_frame(start_ns + 4 * PERIOD_NS + 1)
    assert simulator._frame_at_ns == start_ns + 5 * PERIOD_NS
    assert simulator.counters["late_turns"] == 1


def test_the_line_does_not_echo(line: LineEnd, control: NodeControl) -> None:
    os.write(line.fd, b"abc\n\r\x03\x04\x11\x13\0")
    block_until(lambda: control.state().counters["packets_bad"])
    for _ in range(5):
        line.frame()
    assert line.noise == []
    assert control.state().counters["bytes_heard"] == 10, "a raw line hands over every byte as it is"


# The relay ------------------------------------------------------------------------------------------------


def test_an_order_with_a_good_echo_closes_the_relay(node: NodeProcess, line: LineEnd) -> None:
    seq = line.order()
    frame = line.until(relay=1)
    assert frame.echo == seq
    state = node.control.state()
    assert (state.relay, state.transitions[-1].why) == (True, "permitted")
    assert report(node, "relay") == [
        {"at_ns": state.transitions[-1].at_ns, "what": "relay", "closed": True, "why": "permitted"}
    ]


def test_a_wrong_echo_closes_nothing(line: LineEnd, control: NodeControl) -> None:
    line.order(echo=(line.newest().seq + 1000) & 0xFFFF)
    block_until(lambda: control.state().counters["orders_bad_echo"])
    assert control.state().transitions == ()


def test_off_opens_at_once(line: LineEnd, control: NodeControl) -> None:
    line.run()
    line.order(0, echo=0)
    line.until(relay=0)
    assert control.state().transitions[-1].why == "ordered"


def test_silence_opens_no_sooner_than_100_ms_after_the_last_order(
    line: LineEnd, control: NodeControl
) -> None:
    line.run()
    closed, opened = until_open(control)
    assert opened.why == "silence"
    assert opened.at_ns - closed.at_ns >= 100_000_000


def test_a_jammed_relay_outlasts_silence_until_it_is_freed(line: LineEnd, control: NodeControl) -> None:
    line.run()
    control.jam()
    line.order(0)
    block_until(lambda: control.state().counters["orders_off"])
    assert line.newest().relay == 1
    control.jam(False)
    assert [change.closed for change in until_open(control)] == [True, False]


# Buttons, wires, contacts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deed", "undo", "a", "b"),
    [
        ("press", "release", 0b101, 0b101),
        ("cut", "mend", 0b101, 0b111),
    ],
)
def test_a_contact_opens_and_closes(
    line: LineEnd, control: NodeControl, deed: str, undo: str, a: int, b: int
) -> None:
    control.order(deed, input="bumper")
    line.until(a=a, b=b)
    control.order(undo, input="bumper")
    line.until(a=7, b=7)


def test_a_cut_wire_is_one_channel_until_it_is_mended(line: LineEnd, control: NodeControl) -> None:
    control.cut("gate", "b")
    line.until(a=0b111, b=0b011)
    assert control.state().inputs["gate"].cut == ("b",)
    control.mend("gate")
    line.until(a=0b111, b=0b111)


def test_a_welded_channel_disagrees_while_pressed(line: LineEnd, control: NodeControl) -> None:
    control.weld("estop", "b")
    control.press("estop")
    line.until(a=0b110, b=0b111)
    estop = control.state().inputs["estop"]
    assert (estop.a, estop.b, estop.pressed, estop.welded) == (False, True, True, ("b",))
    control.unweld("estop")
    line.until(a=0b110, b=0b110)


def test_a_press_says_when_its_frame_was_given_to_the_kernel(node: NodeProcess, line: LineEnd) -> None:
    line.frame()
    done = node.control.press("estop")
    assert done.frame_ns is not None
    assert done.frame_ns >= done.at_ns
    assert node.control.state().inputs["estop"].changed_ns == done.at_ns
    assert report(node, "order") == [
        {"at_ns": done.at_ns, "what": "order", "order": "press", "input": "estop", "frame_ns": done.frame_ns}
    ]
    assert node.control.press("estop").frame_ns is None, "pressed already: no change, no frame of its own"


def test_a_change_is_sent_before_the_next_period(line: LineEnd, control: NodeControl) -> None:
    line.frame()
    before = control.state().counters["frames_sent"]
    pressed = [control.press("estop"), control.release("estop"), control.press("gate")]
    assert None not in [done.frame_ns for done in pressed]
    assert control.state().counters["frames_sent"] >= before + 3


# A node that misbehaves -----------------------------------------------------------------------------------


def test_a_silent_node_still_listens(line: LineEnd, control: NodeControl) -> None:
    line.frame()
    control.silent()
    before = control.state()
    line.order(echo=before.seq)
    block_until(lambda: control.state().relay)
    assert control.press("estop").frame_ns is None
    block_until(lambda: control.state().node_ms > before.node_ms + 50)
    assert control.state().counters["frames_sent"] == before.counters["frames_sent"]
    assert control.silent(False).frame_ns is not None, "what changed meanwhile is told at once"
    line.until(a=0b110)


def test_a_deaf_node_goes_on_talking_and_opens(line: LineEnd, control: NodeControl) -> None:
    line.run()
    control.deaf()
    line.order(0)
    assert until_open(control)[-1].why == "silence"
    assert line.newest().echo == control.state().echo
    control.deaf(False)
    line.run()


def test_a_repeating_node_sends_one_seq(line: LineEnd, control: NodeControl) -> None:
    control.repeat()
    line.newest()
    assert len({line.frame().seq for _ in range(8)}) == 1
    control.repeat(False)
    first = line.newest().seq
    assert [line.frame().seq for _ in range(3)] == [first + 1, first + 2, first + 3]


def test_a_skewed_node_jumps_ahead(line: LineEnd, control: NodeControl) -> None:
    before = line.newest().seq
    control.skew(500)
    while (after := line.frame().seq) <= before + 100:
        before = after
    assert after == before + 501


def test_garbage_is_seeded_and_the_next_frame_is_whole(line: LineEnd, control: NodeControl) -> None:
    line.frame()
    noise = control.garbage(300, seed=7)
    assert noise == random.Random(7).randbytes(300)
    assert control.garbage(300, seed=7) == noise
    frames = [line.frame() for _ in range(10)]
    assert b"\0".join(line.noise).count(noise) == 2, "every byte of it went out as it is"
    # It swallows the one frame that it runs into, and after that there is no gap.
    seqs = [frame.seq for frame in frames[-5:]]
    assert seqs == list(range(seqs[0], seqs[0] + 5))


def test_the_faults_byte_is_told(line: LineEnd, control: NodeControl) -> None:
    control.faults(0x81)
    line.until(faults=0x81)


def test_a_reboot_starts_the_clock_and_seq_again_with_the_relay_open(
    line: LineEnd, control: NodeControl
) -> None:
    line.run()
    before = line.newest()
    control.reboot()
    assert control.state().transitions[-1].why == "reboot"
    while (frame := line.frame()).node_ms >= before.node_ms:
        assert frame.seq > 2
    assert (frame.seq <= 2, frame.relay, frame.echo) == (True, 0, 0)
