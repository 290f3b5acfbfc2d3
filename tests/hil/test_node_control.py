"""How the simulated node is ordered about: its control socket, its command line, its process."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from hil.node import FAILED, WRONG_USAGE, input_names, main
from hil.node_control import NodeControl, NodeError, NodeProcess
from hil.node_orders import connect
from tests.hil.line_end import LineEnd
from tests.hil.node_watch import report
from tests.waiting import block_until

# Orders ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (b"{", "an order is JSON"),
        (b"\xff\xfe", "an order is JSON"),
        (b"[" * 4000, "an order is JSON"),
        (b"[]", "JSON object"),
        (b'{"order":"press","input":"nothing"}', "input must be one of estop, bumper, gate"),
        (b'{"order":"press","input":"estop"}' + b" " * 5000, "at most 4096 bytes"),
    ],
)
def test_a_bad_packet_is_answered_and_the_connection_stays(
    control: NodeControl, packet: bytes, why: str
) -> None:
    with connect(control.path, 5) as link:
        link.send(packet)
        answer = json.loads(link.recv(4096))
        assert answer["ok"] is False
        assert why in answer["reason"]
        link.send(b'{"order":"state"}')
        assert json.loads(link.recv(65536))["ok"] is True


def test_a_refusal_is_an_error_with_its_reason(control: NodeControl) -> None:
    with pytest.raises(NodeError, match="input must be one of") as caught:
        control.press("nothing")
    assert caught.value.path == control.path


def test_only_so_many_may_order_at_once(node: NodeProcess) -> None:
    node.control.close()
    with ExitStack() as links:
        for _ in range(8):
            links.enter_context(connect(node.control.path, 5))
        with pytest.raises(NodeError, match=r"hung up|Broken pipe|reset by peer"):
            node.control.state()
    block_until(lambda: answers(node.control))


def answers(control: NodeControl) -> bool:
    try:
        return control.state().plugged
    except NodeError:
        return False


def test_a_client_that_takes_no_answers_is_dropped_and_holds_nobody_up(node: NodeProcess) -> None:
    with connect(node.control.path, 5) as rude:
        block_until(lambda: not asks(rude))
    assert node.control.state().plugged


def asks(link: socket.socket) -> bool:
    """Asks without ever taking an answer; False once the node has hung up."""
    try:
        link.send(b'{"order":"state"}', socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


def test_quit_ends_it_and_takes_its_names_away(node: NodeProcess) -> None:
    node.control.quit()
    assert block_until(lambda: node.process.ended is not None)
    assert node.process.ended == 0
    assert not os.path.lexists(node.link)
    assert not node.control.path.exists()
    with pytest.raises(NodeError):
        node.control.state()
    assert [len(report(node, what)) for what in ("start", "end")] == [1, 1]


# The process and its command line -------------------------------------------------------------------------


def test_killed_and_started_again_it_takes_over_its_names(node: NodeProcess) -> None:
    node.process.kill()
    assert node.control.path.exists()
    node.start()
    with LineEnd(node.link) as line:
        assert line.frame().relay == 0


def test_frozen_it_says_nothing_and_thawed_it_opens_its_relay(node: NodeProcess, line: LineEnd) -> None:
    line.run()
    node.process.freeze()
    impatient = NodeControl(node.control.path, timeout_s=0.01)
    with pytest.raises(NodeError, match="timed out"):
        impatient.state()
    node.process.thaw()
    line.until(relay=0)
    assert node.control.state().transitions[-1].why == "silence"


def test_a_second_simulator_does_not_take_the_control_socket(node: NodeProcess, tmp_path: Path) -> None:
    arguments = ["--link", str(tmp_path / "other"), "--control", str(node.control.path)]
    result = run_module(*arguments)
    assert result.returncode == FAILED
    assert "another simulator listens there" in result.stderr
    assert not os.path.lexists(tmp_path / "other")
    assert node.control.state().plugged


def test_a_file_in_the_way_of_the_port_is_not_replaced(run_dir: Path) -> None:
    precious = run_dir / "node.tty"
    precious.write_text("not a port")
    with pytest.raises(NodeError, match="exists and is not a symlink"):
        NodeProcess(run_dir).start()
    assert precious.read_text() == "not a port"


def test_the_command_line_orders_and_prints(node: NodeProcess) -> None:
    result = run_module("order", str(node.control.path), "cut", "gate", "b")
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)["order"] == "cut"
    assert node.control.state().inputs["gate"].cut == ("b",)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["press", "nothing"], FAILED),
        (["press", "estop", "now"], WRONG_USAGE),
        (["garbage", "x"], WRONG_USAGE),
    ],
)
def test_the_command_line_says_what_is_wrong(
    node: NodeProcess, capsys: pytest.CaptureFixture[str], words: list[str], code: int
) -> None:
    assert main(["order", str(node.control.path), *words]) == code
    printed = capsys.readouterr()
    assert printed.err if code == WRONG_USAGE else not json.loads(printed.out)["ok"]


def test_the_command_line_without_a_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["order", str(tmp_path / "none"), "state"]) == FAILED
    assert capsys.readouterr().err.startswith("node: ")


@pytest.mark.parametrize(
    "words", [[], ["--link", "x", "--inputs", "17"], ["order"], ["order", "x", "explode"]]
)
def test_wrong_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == WRONG_USAGE
    assert "usage:" in capsys.readouterr().err


def test_help_names_every_order(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["order", "--help"])
    assert caught.value.code == 0
    assert "cut INPUT [CHANNEL]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1", ("estop",)),
        ("2", ("estop", "bumper")),
        ("4", ("estop", "bumper", "input_2", "input_3")),
        ("gate,door", ("gate", "door")),
    ],
)
def test_inputs_by_number_or_by_name(text: str, names: tuple[str, ...]) -> None:
    assert input_names(text) == names


@pytest.mark.parametrize(
    "text", ["0", "17", "999999999999", "", "a,a", "a,,b", ",".join("abcdefghijklmnopq")]
)
def test_inputs_that_cannot_be(text: str) -> None:
    with pytest.raises(Exception, match="1 to 16 different inputs"):
        input_names(text)


def run_module(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hil.node", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
