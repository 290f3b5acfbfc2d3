"""The simulated robot as a process: real permits, a real socket, and its own account of what it did."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from hil.pilot import Pilot
from hil.robot import ORDERS, Control, Leash, Report, Robot, main
from sdk.python.robot_warden import RobotLink
from tests.hil.robot_rig import FOR_EVER_NS, ROOT, Rig
from tests.sdk.robot_agent import Agent
from tests.waiting import block_until


@pytest.fixture
def make_rig(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Rigs of one test, one after the other; all are ended with it."""
    rigs: list[Rig] = []

    def make(*options: str, pass_fds: tuple[int, ...] = ()) -> Rig:
        rigs.append(Rig(tmp_path, *options, pass_fds=pass_fds))
        return rigs[-1]

    yield make
    for one in rigs:
        one.close()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    return make_rig()


@pytest.fixture
def running(rig: Rig) -> Rig:
    rig.welcome()
    rig.permit()
    rig.running()
    return rig


def test_it_waits_for_the_welcome_whatever_is_permitted(rig: Rig) -> None:
    rig.permit()
    account = rig.until(lambda account: account["connected"])
    rig.agent.accept()
    assert rig.agent.heard()["type"] == "hello"
    rig.heard_beats(3)
    account = rig.account()
    assert (account["may_move"], account["may_power"], account["moving"]) == (False, False, False)
    rig.agent.say({"type": "welcome", "permits": "not a list"})
    rig.agent.say({"type": "welcome", "permits": [str(rig.folder / "reflex.permit"), 3]})
    rig.heard_beats(3)
    assert not rig.account()["may_power"]


def test_it_runs_while_permitted_and_beats_what_it_does(running: Rig) -> None:
    beats = running.heard_beats(30)
    assert [beat["n"] for beat in beats] == list(range(beats[0]["n"], beats[0]["n"] + 30))
    told = beats[-1]["telemetry"]
    assert set(told) == {"speed_mps", "x_m", "y_m", "task", "battery_pct", "still"}
    account = running.account()
    assert account["epoch"] == account["work_epoch"] == 2
    assert account["standstill_ns"] is None


def test_the_permit_running_out_is_a_controlled_stop(running: Rig) -> None:
    deadline_ns = time.monotonic_ns() + 150_000_000
    running.reflex.withdraw(power_until_ns=FOR_EVER_NS)
    running.permit(until_ns=deadline_ns)
    account = running.still()
    assert account["standstill_ns"] > deadline_ns
    assert account["may_power"]
    assert not account["may_move"]
    # What permits at `read_ns` or later permitted at `read_ns`.
    assert [line for line in running.reported() if line["may_move"] and line["read_ns"] >= deadline_ns] == []


def test_one_permit_alone_stops_it(running: Rig) -> None:
    running.remote.withdraw(power_until_ns=FOR_EVER_NS)
    account = running.still()
    assert (account["may_move"], account["may_power"]) == (False, True)


def test_power_gone_is_standstill_in_the_same_cycle_and_there(running: Rig) -> None:
    moved = len(running.reported())
    running.reflex.withdraw()
    running.still()
    unpowered = next(line for line in running.reported()[moved:] if not line["may_power"])
    assert unpowered["speed_mps"] == 0
    assert unpowered["standstill_ns"] is not None
    account = running.account()
    assert (account["x_m"], account["y_m"]) == (unpowered["x_m"], unpowered["y_m"])


def test_a_new_epoch_drops_the_work_and_auto_work_begins_afresh(running: Rig) -> None:
    for writer in (running.reflex, running.remote):
        writer.write(motion_until_ns=0, power_until_ns=FOR_EVER_NS, epoch=2, speed_permille=0, response=3)
    account = running.still()
    assert (account["work_epoch"], account["dropped"], account["epoch"]) == (None, 1, 4)
    running.permit(epoch=2)
    assert running.running()["work_epoch"] == 4


def test_without_auto_work_it_moves_only_on_an_order_of_this_epoch(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig("--beat-ms", "20")
    rig.welcome()
    rig.permit()
    rig.until(lambda account: account["may_move"])
    assert rig.order("work", epoch=1) == {"ok": False, "order": "work", "reason": "not the present epoch"}
    assert not rig.account()["moving"]
    assert rig.order("work", task="guide", epoch=2)["ok"]
    assert rig.running()["task"] == "guide"


def test_the_agent_gone_it_goes_by_the_permits_and_looks_for_it(running: Rig) -> None:
    running.agent.close()
    account = running.until(lambda account: not account["connected"])
    assert account["may_move"], "the end of the link is not the permit's end"
    assert not running.order("event", kind="x")["ok"]
    running.permit(until_ns=1)
    running.still()
    (running.folder / "robot.sock").unlink()
    running.agent = Agent(running.folder / "robot.sock")
    running.welcome()
    running.permit(epoch=3)
    assert running.running()["work_epoch"] == 6


def test_hanging_it_beats_no_more_and_moves_on(running: Rig) -> None:
    running.order("hang")
    beats = running.account()["beats"]
    x_m = running.account()["x_m"]
    running.until(lambda account: account["x_m"] != x_m)
    assert running.account()["beats"] == beats
    running.order("resume_beats")
    running.until(lambda account: account["beats"] > beats)


def test_disobeying_it_moves_against_every_permit(running: Rig) -> None:
    running.order("disobey")
    running.reflex.withdraw()
    running.until(lambda account: not account["may_power"] and account["speed_mps"] > 0.1)
    running.order("obey")
    running.still()


def test_steps_are_answered(running: Rig) -> None:
    running.agent.say({"type": "step", "id": "s1", "step": "stop_transmission", "epoch": 3})
    assert running.heard_but_beats() == {
        "type": "step_result",
        "id": "s1",
        "ok": True,
        "detail": "nothing to end",
    }
    running.agent.say({"type": "step", "id": "s2", "step": "stop_motion", "epoch": 3, "deadline_ms": 5000})
    assert running.heard_but_beats() == {
        "type": "step_result",
        "id": "s2",
        "ok": True,
        "detail": "standstill",
    }
    assert running.account()["speed_mps"] == 0


def test_what_it_is_ordered_to_say_it_says(running: Rig) -> None:
    assert running.order("authorise", id="a1", task="charge", args={"dock": 2})["ok"]
    assert running.heard_but_beats() == {
        "type": "authorise",
        "id": "a1",
        "task": "charge",
        "args": {"dock": 2},
    }
    assert running.order("event", kind="unlawful_content", detail="x")["ok"]
    assert running.heard_but_beats() == {"type": "event", "kind": "unlawful_content", "detail": "x"}
    assert running.order("telemetry", values={"speed_mps": 9})["ok"]
    block_until(lambda: running.heard_beats(1)[0]["telemetry"]["speed_mps"] == 9)
    assert not running.order("telemetry", values=[])["ok"]


def test_what_the_agent_said_last_is_in_the_account(running: Rig) -> None:
    state = {"type": "state", "response": "restrict", "epoch": 2, "speed_permille": 300, "causes": ["x"]}
    verdict = {"type": "verdict", "id": "a1", "allowed": False, "reason": "no", "epoch": 2}
    running.agent.say(state)
    running.agent.say(verdict)
    account = running.until(lambda account: account["verdict"] is not None)
    assert (account["state"], account["verdict"]) == (state, verdict)
    assert any(line["verdict"] == verdict for line in running.reported())


def test_what_is_no_order_is_refused(rig: Rig) -> None:
    assert rig.account()["ok"]
    assert rig._control is not None
    for packet in (b"{", b"[]", b"{}", b'{"order":1}', b"\xff", b"[" * 8000):
        rig._control.send(packet)
        answer = json.loads(rig._control.recv(65536))
        assert answer == {"ok": False, "reason": "not a JSON object with an order"}
    assert rig.order("dance")["reason"].startswith("order must be one of hang, ")


@pytest.mark.parametrize("end", ["quit", "SIGTERM", "SIGINT"])
def test_it_ends_when_ordered_and_on_a_signal(rig: Rig, end: str) -> None:
    rig.welcome()
    rig.heard_beats(1)
    if end == "quit":
        assert rig.order("quit")["ok"]
    else:
        rig.process.send_signal(signal.Signals[end])
    assert rig.process.wait(20) == 0
    rig.agent.hear_the_end()


def fill(pipe: int) -> None:
    os.set_blocking(pipe, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, b"x" * 65536)


def test_a_report_that_nobody_reads_holds_nothing_up(make_rig: Callable[..., Rig]) -> None:
    reading, writing = os.pipe()
    fill(writing)
    rig = make_rig("--auto-work", "--report", str(writing), pass_fds=(writing,))
    os.close(writing)
    rig.welcome()
    rig.permit()
    rig.running()
    lost = rig.until(lambda account: account["lost"] > 0)["lost"]
    os.close(reading)
    rig.until(lambda account: account["lost"] > lost)


def test_the_report_tells_each_change_and_goes_on_telling(running: Rig) -> None:
    running.remote.withdraw()
    still = running.still()
    block_until(lambda: running.reported()[-1]["mono_ns"] > still["mono_ns"] + 200_000_000)
    lines = running.reported()
    told = [(line["may_move"], line["may_power"], line["moving"]) for line in lines]
    assert not told[0][2]
    assert (True, True, True) in told
    assert told[-1] == (False, False, False)
    assert told.count(told[-1]) > 1
    assert [line["mono_ns"] for line in lines] == sorted(line["mono_ns"] for line in lines)


def test_on_standard_output_the_report_is_lines_too(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig("--report", "-")
    rig.until(lambda account: account["connected"])
    rig.process.terminate()
    output, _ = rig.process.communicate(timeout=20)
    assert [json.loads(line)["moving"] for line in output.splitlines()][:1] == [False]


@pytest.mark.parametrize("said", [b"", b"nothing that counts"])
def test_with_until_eof_it_lives_as_long_as_standard_input(tmp_path: Path, said: bytes) -> None:
    words = ("--link", str(tmp_path / "robot.sock"), "--name", "x", "--until-eof", "--report", "-")
    command = [sys.executable, "-m", "hil.robot", *words]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(said)
        process.stdin.flush()
        times = [json.loads(process.stdout.readline())["mono_ns"] for _ in range(3)]
        assert sorted(set(times)) == times
        process.stdin.close()
        assert process.wait(20) == 0


def test_a_leash_is_cut_when_the_other_end_is_gone_or_reset() -> None:
    for unread in (b"", b"x"):
        ours, theirs = socket.socketpair()
        leash = Leash(ours.fileno())
        assert not leash.is_cut()
        ours.send(unread)
        theirs.close()
        assert leash.is_cut()
        ours.close()


@pytest.mark.parametrize("option", ["--control", "--report"])
def test_a_path_that_cannot_be_used_is_said_in_one_line(tmp_path: Path, option: str) -> None:
    command = [
        sys.executable,
        "-m",
        "hil.robot",
        "--link",
        "x",
        "--name",
        "y",
        option,
        str(tmp_path / "no" / "x"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("robot: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("wrong", [["--cycle-ms", "0"], ["--max-speed-mps", "nan"], ["--beat-ms", "x"]])
def test_wrong_usage_is_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--link", "x", "--name", "y", *wrong])
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


# ----------------------------------------------------------------------------------- without a process


def robot(tmp_path: Path) -> Robot:
    return Robot(RobotLink(tmp_path / "robot.sock", "x", 40), Pilot(), cycle_ms=20, report=None)


def test_the_link_is_sought_with_a_growing_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, tries, now_ms = robot(tmp_path), list[int](), 0

    def nobody_there() -> bool:
        tries.append(now_ms)
        return False

    monkeypatch.setattr(one._link, "connect", nobody_there)
    for now_ms in range(5000):
        one._hold_link(now_ms * 1_000_000)
    assert [later - earlier for earlier, later in pairwise(tries)] == [
        50,
        100,
        200,
        400,
        800,
        1000,
        1000,
        1000,
    ]


def test_a_missed_cycle_is_counted_and_not_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, slept = robot(tmp_path), list[float]()
    monkeypatch.setattr(time, "monotonic_ns", lambda: 1_000_000_000)
    monkeypatch.setattr(time, "sleep", slept.append)
    assert one._wait(1_005_000_000) == 1_005_000_000
    assert one._wait(985_000_000) == 985_000_000
    assert one._wait(915_000_000) == 995_000_000
    assert one.late_cycles == 4
    assert slept == [0.005, 0.0, 0.0]


def test_beats_keep_their_own_pace(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "robot.sock")
    one = robot(tmp_path)
    for _ in range(10):
        one.cycle()
    agent.accept()
    assert agent.heard()["beat_ms"] == 40
    assert [agent.heard()["n"] for _ in range(5)] == [1, 2, 3, 4, 5]
    assert one.account()["beats"] == 5
    one._link.close()
    agent.close()


def test_a_stale_control_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stale:
        stale.bind(os.fspath(path))
    Control(path, dict).close()
    path.unlink()
    path.write_text("precious")
    with pytest.raises(FileExistsError):
        Control(path, dict)
    assert path.read_text() == "precious"


def test_a_report_appends_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "report.jsonl"
    path.write_text("{}\n")
    report = Report(str(path))
    report.write({"task": "巡逻"})
    report.close()
    assert path.read_text("utf-8") == '{}\n{"task": "巡逻"}\n'


def test_every_order_says_what_it_does() -> None:
    assert all(row.does for row in ORDERS.values())
