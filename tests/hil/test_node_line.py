"""The simulated node's cable, and who is at the far end of it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.node_control import NodeProcess
from hil.node_line import Line, Sent
from tests.hil.line_end import LineEnd
from tests.hil.node_watch import until_open
from tests.waiting import block_until


def test_unplugged_the_line_hangs_up_and_its_name_is_gone(node: NodeProcess, line: LineEnd) -> None:
    node.control.unplug()
    while line.read():
        pass
    assert not os.path.lexists(node.link)
    state = node.control.state()
    assert (state.plugged, state.opened) == (False, False)
    assert node.control.press("estop").frame_ns is None


def test_unplugged_while_running_the_relay_opens(node: NodeProcess, line: LineEnd) -> None:
    line.run()
    node.control.unplug()
    assert until_open(node.control)[-1].why == "silence"


def test_plugged_in_again_it_is_a_new_line_under_the_old_name(node: NodeProcess, line: LineEnd) -> None:
    old = node.link.readlink()
    node.control.press("gate")
    node.control.unplug()
    node.control.plug()
    assert node.link.readlink() != old, "the old one is still open here, so it cannot have its number back"
    with LineEnd(node.link) as fresh:
        assert fresh.run().a == 0b011, "the node has a supply of its own: it remembers"
        target = node.link.readlink()
        node.control.plug()
        assert node.link.readlink() == target, "in already: nothing to do"


def test_nobody_at_the_far_end_leaves_nothing_behind(node: NodeProcess) -> None:
    block_until(lambda: node.control.state().counters["frames_unheard"] > 3)
    seq = node.control.state().seq
    assert seq is not None
    with LineEnd(node.link) as line:
        assert line.frame().seq >= seq, "frames from before the port was open"


def test_what_a_reader_left_unread_is_not_the_next_ones(node: NodeProcess) -> None:
    with LineEnd(node.link) as line:
        line.frame()
        block_until(lambda: node.control.state().counters["frames_sent"] > 5)
    block_until(lambda: not node.control.state().opened)
    unheard = node.control.state().counters["frames_unheard"]
    block_until(lambda: node.control.state().counters["frames_unheard"] > unheard + 1)
    seq = node.control.state().seq
    assert seq is not None
    with LineEnd(node.link) as line:
        assert line.frame().seq >= seq


def test_a_reader_that_does_not_read_is_never_waited_for(node: NodeProcess, line: LineEnd) -> None:
    line.run()
    while node.control.order("garbage", count=4096)["sent"] == "sent":
        pass
    block_until(lambda: node.control.state().counters["frames_dropped"])
    node.control.press("estop")
    # Whatever was torn, once there is room a frame is whole again.
    assert line.until(a=0b110).b == 0b110


def test_a_reader_may_come_and_go(node: NodeProcess) -> None:
    for _ in range(3):
        with LineEnd(node.link) as line:
            assert line.run().relay == 1
        block_until(lambda: not node.control.state().opened)


# The line by itself, in this process ----------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Line]:
    line = Line(tmp_path / "tty")
    line.plug()
    yield line
    line.unplug()


def drain(port: int) -> bytes:
    """All that is there; the port is non-blocking."""
    found = b""
    try:
        while data := os.read(port, 65536):
            found += data
    except BlockingIOError:
        pass
    return found


def read_to(far: LineEnd, end: bytes) -> bytes:
    """All that comes, up to and with `end`."""
    found = b""
    while not found.endswith(end):
        found += far.read()
    return found


def test_after_a_torn_frame_the_next_one_is_whole(bare: Line, tmp_path: Path) -> None:
    with LineEnd(tmp_path / "tty") as far:
        assert bare.send(b"x" * 100_000) is Sent.DROPPED, "more than the kernel holds: only a part goes out"
        block_until(lambda: bare.send(b"y\0") is Sent.DROPPED)
        frame = b"whole\0"
        # The kernel moves what it holds in its own time, so there may be no room yet after one reading.
        # And where there is room for the first byte alone, that goes out ahead of the frame it was meant for.
        heard = bytearray()

        def gone() -> bool:
            heard.extend(drain(far.fd))
            return bare.send(frame) is Sent.GONE

        block_until(gone)
        assert (heard + read_to(far, frame)).endswith(b"\0" + frame)
        assert bare.send(frame) is Sent.GONE
        assert read_to(far, frame) == frame


def test_a_port_that_cannot_be_emptied_now_is_emptied_later(bare: Line, tmp_path: Path) -> None:
    with LineEnd(tmp_path / "tty"):
        assert bare.send(b"stale") is Sent.GONE
    name, bare._name = bare._name, "/nowhere"
    assert bare.send(b"lost") is Sent.UNHEARD
    bare._name = name
    assert bare.send(b"lost") is Sent.UNHEARD
    with LineEnd(tmp_path / "tty") as far:
        assert drain(far.fd) == b""


def test_a_name_that_another_simulator_took_over_is_left_alone(bare: Line, tmp_path: Path) -> None:
    other = Line(tmp_path / "tty")
    other.plug()
    bare.unplug()
    with LineEnd(tmp_path / "tty"):
        assert other.send(b"here") is Sent.GONE
    other.unplug()
    assert not os.path.lexists(tmp_path / "tty")


def test_unplugged_there_is_nothing_to_hear_or_to_send_to(bare: Line) -> None:
    bare.unplug()
    bare.unplug()
    assert (bare.plugged, bare.listening(), bare.receive(), bare.send(b"x")) == (
        False,
        None,
        b"",
        Sent.UNHEARD,
    )
