"""The firmware as a process: what is asked of the simulated node is asked of it, by the very same tests.

Under both sanitizers, and each must have ended well.
"""

import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.firmware import FirmwareProcess
from hil.node_control import NodeControl, NodeError, NodeProcess
from hil.node_orders import MAX_GARBAGE
from tests.hil.line_end import LineEnd
from tests.hil.node_watch import report, until_open
from tests.hil.test_node import (  # noqa: F401  (collected here: they find this file's `node`)
    test_a_change_is_sent_before_the_next_period,
    test_a_contact_opens_and_closes,
    test_a_cut_wire_is_one_channel_until_it_is_mended,
    test_a_deaf_node_goes_on_talking_and_opens,
    test_a_jammed_relay_outlasts_silence_until_it_is_freed,
    test_a_press_says_when_its_frame_was_given_to_the_kernel,
    test_a_reboot_starts_the_clock_and_seq_again_with_the_relay_open,
    test_a_repeating_node_sends_one_seq,
    test_a_silent_node_still_listens,
    test_a_skewed_node_jumps_ahead,
    test_a_welded_channel_disagrees_while_pressed,
    test_a_wrong_echo_closes_nothing,
    test_an_order_with_a_good_echo_closes_the_relay,
    test_frames_come_by_themselves_one_seq_after_the_other,
    test_garbage_is_seeded_and_the_next_frame_is_whole,
    test_off_opens_at_once,
    test_the_faults_byte_is_told,
    test_the_line_does_not_echo,
)
from tests.hil.test_node_control import (  # noqa: F401  (the same)
    test_a_bad_packet_is_answered_and_the_connection_stays,
    test_a_client_that_takes_no_answers_is_dropped_and_holds_nobody_up,
    test_a_refusal_is_an_error_with_its_reason,
    test_a_second_simulator_does_not_take_the_control_socket,
    test_frozen_it_says_nothing_and_thawed_it_opens_its_relay,
    test_killed_and_started_again_it_takes_over_its_names,
    test_only_so_many_may_order_at_once,
    test_quit_ends_it_and_takes_its_names_away,
)
from tests.hil.test_node_line import (  # noqa: F401  (the same)
    test_a_reader_may_come_and_go,
    test_a_reader_that_does_not_read_is_never_waited_for,
    test_nobody_at_the_far_end_leaves_nothing_behind,
    test_plugged_in_again_it_is_a_new_line_under_the_old_name,
    test_unplugged_the_line_hangs_up_and_its_name_is_gone,
    test_unplugged_while_running_the_relay_opens,
    test_what_a_reader_left_unread_is_not_the_next_ones,
)
from tests.waiting import block_until


@pytest.fixture
def node(run_dir: Path, program: Path) -> Iterator[NodeProcess]:
    with FirmwareProcess(run_dir, "estop,bumper,gate", program=program) as process:
        yield process
    assert process.process.ended == 0, process.process.last_words(30)


def test_silence_opens_in_the_hundredth_millisecond(line: LineEnd, control: NodeControl) -> None:
    """Its clock counts whole milliseconds, so by a finer one it may be up to one early."""
    line.run()
    closed, opened = until_open(control)
    assert opened.why == "silence"
    assert opened.at_ns - closed.at_ns > 99_000_000


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, 2**63 - 1])
def test_garbage_is_pythons_for_every_seed(node: NodeProcess, seed: int) -> None:
    for count in (1, 2, 3, 4, 5, MAX_GARBAGE):
        assert node.control.garbage(count, seed) == random.Random(seed).randbytes(count)


def test_a_fault_opens_the_relay_and_the_report_says_why(node: NodeProcess, line: LineEnd) -> None:
    line.run()
    node.control.faults(0x04)
    assert until_open(node.control)[-1].why == "fault"
    assert [(entry["closed"], entry["why"]) for entry in report(node, "relay")] == [
        (True, "permitted"),
        (False, "fault"),
    ]
    line.until(relay=0, faults=0x04)


def test_a_jammed_relay_is_a_fault_until_it_is_freed_and_ordered_off(
    line: LineEnd, control: NodeControl
) -> None:
    line.run()
    control.jam()
    line.order(0)
    line.until(faults=0x01, relay=1)
    control.jam(False)
    line.until(faults=0x01, relay=0)
    line.order(0)
    line.until(faults=0)
    line.run()


def test_a_faults_order_outlives_a_reboot(line: LineEnd, control: NodeControl) -> None:
    control.faults(0x80)
    control.reboot()
    while line.frame().seq != 1:
        pass
    assert line.frame().faults == 0x80


def test_a_release_is_answered_when_it_has_been_told(line: LineEnd, control: NodeControl) -> None:
    """It takes its steady time, longer than a press, and then it is on the line."""
    control.press("estop")
    line.until(a=0b110, b=0b110)
    done = control.release("estop")
    assert done.frame_ns is not None
    assert done.frame_ns - done.at_ns > 79_000_000
    line.until(a=7, b=7)


def test_the_state_keeps_the_last_64_transitions(line: LineEnd, control: NodeControl) -> None:
    for _ in range(40):
        line.run()
        line.order(0)
        line.until(relay=0)
    transitions = control.state().transitions
    assert [change.closed for change in transitions] == [True, False] * 32
    assert list(transitions) == sorted(transitions, key=lambda change: change.at_ns)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(node: NodeProcess, number: signal.Signals) -> None:
    node.process._process.send_signal(number)
    assert block_until(lambda: node.process.ended is not None)
    assert (node.process.ended, node.link.is_symlink(), node.control.path.exists()) == (0, False, False)
    assert [len(report(node, what)) for what in ("start", "end")] == [1, 1]


# The command line -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("node.tty", "symlink"), ("node.ctl", "socket")])
def test_a_file_in_the_way_is_not_replaced(run_dir: Path, program: Path, name: str, kind: str) -> None:
    precious = run_dir / name
    precious.write_text("mine")
    with pytest.raises(NodeError, match=f"exists and is not a {kind}"):
        FirmwareProcess(run_dir, program=program).start()
    assert precious.read_text() == "mine"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1", ["estop"]),
        ("4", ["estop", "bumper", "input_2", "input_3"]),
        ("gate,door", ["gate", "door"]),
        ("16", ["estop", "bumper", *(f"input_{n}" for n in range(2, 16))]),
        (",".join(f"{n:02}" + "n" * 30 for n in range(16)), [f"{n:02}" + "n" * 30 for n in range(16)]),
        ('"quoted\\"', ['"quoted\\"']),
    ],
)
def test_inputs_by_number_or_by_name(run_dir: Path, program: Path, text: str, names: list[str]) -> None:
    with FirmwareProcess(run_dir, text, program=program) as node:
        assert list(node.control.state().inputs) == names
        assert report(node, "start")[0]["inputs"] == names
        with LineEnd(node.link) as line:
            assert line.until(a=2 ** len(names) - 1).b == 2 ** len(names) - 1


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--link"],
        ["--what", "x"],
        ["--link", "x", "y"],
        *(
            ["--link", "x", "--inputs", text]
            for text in (
                "0",
                "17",
                "9" * 30,
                "",
                "a,a",
                "a,,b",
                "a b",
                "n" * 33,
                "急停",
                ",".join("abcdefghijklmnopq"),
            )
        ),
    ],
)
def test_wrong_usage(program: Path, words: list[str], run_dir: Path) -> None:
    done = subprocess.run(
        [program, *words], cwd=run_dir, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 2
    assert "usage: node --link PORT" in done.stderr
    assert list(run_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "path", "why"),
    [
        ("--control", "x" * 108, "is too long for a socket"),
        ("--control", "none/socket", "No such file"),
        ("--report", "none/report", "No such file"),
        ("--link", "none/port", "No such file"),
    ],
)
def test_what_cannot_be_had_is_said(program: Path, run_dir: Path, option: str, path: str, why: str) -> None:
    words = [str(program), "--link", "port", option, path]
    done = subprocess.run(words, cwd=run_dir, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert why in done.stderr
    assert list(run_dir.iterdir()) == [], "and nothing is left behind"
