"""The second program that drops outputs: against a simulated node, a silent line, and nothing at all."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from agent.core.plan import DeviceSpec
from agent.core.readings import Reading
from drivers import drop
from drivers.drop import DONE, FAILED, Dropped, Outcome, main
from drivers.registry import check_settings
from drivers.serial_line import SerialLine
from hil.node_control import NodeProcess
from tests.drivers.serial_node.rig import FarEnd
from tests.drivers.wire import agent_words
from tests.hil.line_end import LineEnd

SHORT_S = 0.05
"""For what would wait to the end of its budget."""
USAGE = 2


@pytest.fixture
def node(run_dir: Path) -> Iterator[NodeProcess]:
    with NodeProcess(run_dir) as process:
        yield process


@pytest.fixture
def far_end(tmp_path: Path) -> Iterator[FarEnd]:
    end = FarEnd(tmp_path / "silent")
    yield end
    end.unplug()


def serial(port: Path, **settings: object) -> DeviceSpec:
    checked = check_settings("serial_node", "output", {"port": str(port), **settings})
    return DeviceSpec("serial_node", checked)


def gpio(chip: Path) -> DeviceSpec:
    return DeviceSpec("gpio", check_settings("gpio", "output", {"chip": str(chip), "line": 20}))


def plan_file(folder: Path, **outputs: tuple[str, DeviceSpec]) -> Path:
    """As much of a compiled plan as is looked at: name -> channel and device."""
    path = folder / "plan.json"
    entries = {
        name: {
            "device": {"driver": spec.driver, "settings": dict(spec.settings)},
            "channel": channel,
            "readback_ns": 300_000_000,
        }
        for name, (channel, spec) in outputs.items()
    }
    path.write_text(json.dumps({"robot": {"id": "r"}, "outputs": entries}))
    return path


def program(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "drivers.drop", *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


# ------------------------------------------------------------------------------------------ a node that lives


def test_a_relay_that_a_crash_left_closed_is_ordered_off_and_seen_open(
    node: NodeProcess, tmp_path: Path
) -> None:
    with LineEnd(node.link) as agent:
        agent.run()
    before = node.control.state().counters["orders_off"]
    plan = plan_file(tmp_path, relay_a=("reflex", serial(node.link)))
    run = program("--plan-json", plan)
    assert (run.returncode, run.stderr) == (DONE, "")
    assert run.stdout == "relay_a: read back de-energised / 回读为断电\n"
    after = node.control.state()
    assert not after.relay
    assert after.counters["orders_off"] > before
    assert not after.opened, "the port is free for the next start"


def test_a_welded_relay_is_said_to_be_one(node: NodeProcess) -> None:
    with LineEnd(node.link) as agent:
        agent.run()
        node.control.jam()
    assert drop.drop({"relay_a": serial(node.link)}) == {"relay_a": Dropped(Outcome.ENERGISED)}
    assert node.control.state().relay


def test_a_node_that_is_away(node: NodeProcess) -> None:
    node.control.unplug()
    assert drop.drop({"relay_a": serial(node.link)}, budget_s=SHORT_S) == {"relay_a": Dropped(Outcome.AWAY)}


# ------------------------------------------------------------------------------------ a line that is silent


def test_a_silent_node_is_told_and_that_counts(far_end: FarEnd, tmp_path: Path) -> None:
    outputs = {"relay_a": serial(tmp_path / "silent")}
    assert drop.drop(outputs, budget_s=SHORT_S) == {"relay_a": Dropped(Outcome.WRITTEN)}
    told = agent_words(far_end.listen(wait_ms=1))
    assert {frame.energise for frame in told} == {0}
    SerialLine(str(tmp_path / "silent"), 115200).close()  # free again


def test_a_line_that_takes_nothing_is_not_reached(far_end: FarEnd, tmp_path: Path) -> None:
    far_end.hold(stopped=True)
    filled = drop.drop({"relay_a": serial(tmp_path / "silent")}, budget_s=SHORT_S)
    far_end.hold(stopped=False)
    assert filled == {"relay_a": Dropped(Outcome.AWAY)}


# ------------------------------------------------------------------------------------------ what is not there


def test_another_node_than_the_plan_s_is_not_spoken_to(far_end: FarEnd, tmp_path: Path) -> None:
    """Its relay may be another channel's, and the one that was to be dropped was not reached."""
    outputs = {"relay_a": serial(tmp_path / "silent", usb_serial="A5069RR4")}
    assert drop.drop(outputs, budget_s=SHORT_S) == {"relay_a": Dropped(Outcome.AWAY)}
    assert far_end.listen(wait_ms=1) == b""


def test_one_that_cannot_be_had_takes_no_other_along(far_end: FarEnd, tmp_path: Path) -> None:
    found = drop.drop(
        {
            "unknown": DeviceSpec("lidar", {}),
            "malformed": DeviceSpec("serial_node", {"port": str(tmp_path / "silent")}),
            "chip": gpio(tmp_path / "gpiochip0"),
            "relay_a": serial(tmp_path / "silent"),
        },
        budget_s=SHORT_S,
    )
    assert {name: one.outcome for name, one in found.items()} == {
        "unknown": Outcome.REFUSED,
        "malformed": Outcome.REFUSED,
        "chip": Outcome.AWAY,
        "relay_a": Outcome.WRITTEN,
    }
    assert list(found) == ["unknown", "malformed", "chip", "relay_a"]
    assert found["unknown"].detail == ("DriverError: driver 'lidar' is not known, yet 'unknown' asks for it")


def test_a_simulated_relay_is_dropped_like_any_other() -> None:
    spec = DeviceSpec("sim", check_settings("sim", "output", {}))
    assert drop.drop({"relay_a": spec}) == {"relay_a": Dropped(Outcome.SEEN)}


class Stubborn:
    """A third party's device that comes up energised and does what it is told; it has no descriptor."""

    name = "stubborn"
    counters: Mapping[str, int] = MappingProxyType({})

    def __init__(self) -> None:
        self.energised = True
        self.closed = False

    def open(self) -> None: ...
    def tick(self, now_ns: int) -> None: ...
    def reading(self, input_name: str, now_ns: int) -> Reading:
        raise KeyError(input_name)

    def order(self, output_name: str, energise: bool, now_ns: int) -> None:
        self.energised = energise

    def readback(self, output_name: str, now_ns: int) -> bool | None:
        return self.energised

    def close(self) -> None:
        self.closed = True


def test_a_device_that_comes_up_energised_is_ordered_off(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Stubborn()
    monkeypatch.setattr(drop, "build_devices", lambda *_: ([device], {}, {"relay_a": device}))
    assert drop.drop({"relay_a": DeviceSpec("third", {})}) == {"relay_a": Dropped(Outcome.SEEN)}
    assert device.closed


def test_nothing_to_drop_is_done() -> None:
    assert drop.drop({}) == {}


def test_every_outcome_is_judged() -> None:
    assert {outcome for outcome in Outcome if outcome.is_dropped} == {Outcome.SEEN, Outcome.WRITTEN}


# ------------------------------------------------------------------------------------------ the program


def test_a_channel_drops_its_own(
    far_end: FarEnd, tmp_path: Path, capsys: pytest.CaptureFixture[str], in_process: None
) -> None:
    plan = plan_file(
        tmp_path,
        relay_a=("reflex", serial(tmp_path / "silent")),
        relay_b=("remote", gpio(tmp_path / "gpiochip0")),
    )
    assert main(["--plan-json", str(plan), "--channel", "reflex"]) == DONE
    assert capsys.readouterr().out == ("relay_a: written de-energised, nothing read back / 已写断电,无回读\n")


def test_one_that_is_not_reached_is_a_failure(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    in_process: None,
) -> None:
    plan = plan_file(tmp_path, relay_b=("remote", gpio(tmp_path / "gpiochip0")))
    with plan.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert main(["--plan-json", "-"]) == FAILED
    assert capsys.readouterr().out == "relay_b: not reached / 无法访问\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"outputs": []}',
        '{"outputs": {"a": {}}}',
        '{"outputs": {"a": 3}}',
        '{"outputs": {"a": {"device": {"driver": "gpio", "settings": 3}, "channel": "reflex"}}}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_what_is_no_plan_is_one_line_and_no_traceback(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str], in_process: None
) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert main(["--plan-json", str(path)]) == FAILED
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"drop: {path}: no compiled plan: ")
    assert said.err.count("\n") == 1


def test_a_plan_that_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], in_process: None
) -> None:
    assert main(["--plan-json", str(tmp_path / "none")]) == FAILED
    assert "FileNotFoundError" in capsys.readouterr().err


def test_a_file_without_end_is_no_plan(capsys: pytest.CaptureFixture[str], in_process: None) -> None:
    assert main(["--plan-json", "/dev/zero"]) == FAILED
    assert "larger than" in capsys.readouterr().err


def test_wrong_usage_says_so() -> None:
    run = program()
    assert run.returncode == USAGE
    assert "--plan-json" in run.stderr


def test_a_plan_that_never_comes_ends_with_the_time(tmp_path: Path) -> None:
    """Whatever blocks: here a pipe that nobody writes."""
    os.mkfifo(tmp_path / "pipe")
    run = program("--plan-json", tmp_path / "pipe")
    assert (run.returncode, run.stderr) == (FAILED, "drop: no time left\n")


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`main` sets an alarm for its process, which here is pytest's, where pytest-timeout has set its own."""
    monkeypatch.setattr(drop, "BUDGET_S", SHORT_S)
    handler, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    yield
    signal.setitimer(signal.ITIMER_REAL, *timer)
    signal.signal(signal.SIGALRM, handler)
