"""The benchmark measures what it says and leaves nothing behind. How fast anything is, no test asks."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from hil.bench.__main__ import main
from hil.bench.build import BuildError, build
from hil.bench.figures import COLUMNS, Figure, percentile, ratios, summary
from hil.bench.paths import PATHS
from hil.bench.paths import Path as Row
from hil.bench.program import Program, ProgramError
from hil.bench.report import Result, table
from hil.bench.samples import OURS, REFERENCE, Leg, Samples
from tests.waiting import block_until

SAMPLES = 2
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """One run of every path, with a busy core beside it."""
    path = tmp_path_factory.mktemp("bench") / "bench.json"
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    assert main(["--no-idle", "--load", "1", "--samples", str(SAMPLES), "--json", str(path)]) == 0
    assert {child.pid for child in psutil.Process().children(recursive=True)} == before
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def result(report: Mapping[str, Any], path: str) -> dict[str, Any]:
    (found,) = [each for each in report["results"] if each["path"] == path]
    return dict(found)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_every_path_gives_samples_of_every_leg(report: Mapping[str, Any], path: Row) -> None:
    measured = result(report, path.name)
    assert measured["busy_cores"] == 1
    assert [leg["leg"] for leg in measured["legs"]] == [leg.name for leg in path.legs]
    for leg in measured["legs"]:
        assert set(leg["nanoseconds"]) == ({OURS, REFERENCE} if path.reference else {OURS})
        for found in leg["nanoseconds"].values():
            assert found["samples"] == SAMPLES
            assert 0 < found["p50"] <= found["worst"]
            assert found["p99"] is None, "two samples carry no p99"
        assert (leg["ratio"]["p50"] is not None) == bool(path.reference)


def test_effects_come_in_their_order(report: Mapping[str, Any]) -> None:
    legs = {leg["leg"]: leg["nanoseconds"][OURS] for leg in result(report, "estop")["legs"]}
    for earlier, later in (("read", "withdrawn"), ("withdrawn", "arrived"), ("written", "arrived")):
        assert legs[earlier]["worst"] <= legs[later]["worst"]


def test_it_says_what_was_measured_on_what(report: Mapping[str, Any]) -> None:
    about = report["environment"]
    assert {"cores", "kernel", "python", "permits_on"} <= set(about)
    assert {"reflex", "remote", "node", "estop_ref", "watch"} <= set(about["realtime"])


def test_an_interrupted_run_ends_everything_it_started() -> None:
    command = [sys.executable, "-m", "hil.bench", "--path", "estop"]
    run = psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started: list[psutil.Process] = []

    def measuring() -> bool:
        started[:] = run.children(recursive=True)
        return any("agent.boot" in word for each in started for word in words(each))

    try:
        block_until(measuring)
    finally:
        os.kill(run.pid, signal.SIGINT)
        code = run.wait()
    assert code == 130
    assert psutil.wait_procs(started, timeout=20)[1] == []


def words(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


@pytest.mark.parametrize(
    "wrong", [["--samples", "0"], ["--load", "-1"], ["--seconds", "nan"], ["--path", "tcp"]]
)
def test_wrong_usage(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


# The C programs -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("watch", tmp_path_factory.mktemp("c"))


@pytest.fixture
def permit(tmp_path: Path) -> Path:
    """A file of the right size that permits nothing."""
    path = tmp_path / "some.permit"
    path.write_bytes(bytes(64))
    return path


def test_a_program_that_does_not_compile_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "watch.c").write_text("int main(void) { return nothing; }\n")
    monkeypatch.setattr("hil.bench.build.SOURCES", tmp_path)
    with pytest.raises(BuildError, match="nothing") as caught:
        build("watch", tmp_path)
    assert caught.value.program == "watch"


def test_the_watcher_sees_what_is_withdrawn(watch: Path, permit: Path) -> None:
    with Program(watch, 1, permit) as program:
        program.say("withdrawn 20 0")
        assert program.hear(5) == ["armed"]
        assert program.hear(5)[:2] == ["seen", "0"]
        program.say("stopped 20")
        assert program.hear(5) == ["armed"]
        assert program.hear(5)[:2] == ["seen", "-1"]


@pytest.mark.parametrize("order", ["withdrawn 20 1", "withdrawn 0 0", "withdrawn 20", "seen", "stopped 20 0"])
def test_the_watcher_refuses_what_it_cannot_look_at(watch: Path, permit: Path, order: str) -> None:
    with Program(watch, 1, permit) as program:
        program.say(order)
        with pytest.raises(ProgramError, match="ended"):
            program.hear(5)


def test_a_program_that_ends_at_its_start_is_an_error(watch: Path) -> None:
    with pytest.raises(ProgramError, match="ended") as caught:
        Program(watch, 1)
    assert caught.value.program == "watch"


# Figures --------------------------------------------------------------------------------------------------


def test_a_percentile_needs_a_sample_beyond_it() -> None:
    assert percentile([], 0.5) is None
    assert percentile(range(1, 100), 0.99) is None
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile(range(1, 1001), 0.999) == 999
    assert summary(range(1, 101)) == {"p50": 50, "p99": 99, "p99.9": None, "worst": 100}
    assert summary([]) == dict.fromkeys(COLUMNS)


def test_a_ratio_needs_both() -> None:
    found = ratios({"p50": 30, "worst": 7}, {"p50": 20, "p99": 5, "worst": 0})
    assert found == {"p50": 1.5, "p99": None, "p99.9": None, "worst": None}


def test_a_figure_is_reached_up_to_its_bound() -> None:
    figure = Figure(ratio={"p50": 1.5, "p99": 2.0}) | Figure(at_most_ns={"worst": 10})
    reached = figure.reached({"worst": 11}, {"p50": 1.5, "p99": None})
    assert reached == {"p50": True, "p99": None, "worst": False}


def test_the_loaded_figure_counts_only_under_load() -> None:
    leg = Leg("x", "", "", Figure(ratio={"p50": 4}), loaded=Figure(at_most_ns={"p99": 5}))
    assert leg.wanted(loaded=False).at_most_ns == {}
    assert leg.wanted(loaded=True) == Figure({"p50": 4}, {"p99": 5})


def test_the_table_shows_ratio_and_figure_beside_each_other() -> None:
    estop = PATHS[0]
    samples = Samples()
    for leg in estop.legs:
        for count in range(100):
            samples.add(leg.name, OURS, 300_000 + count)
            samples.add(leg.name, REFERENCE, 100_000)
    samples.incidents["stuck: ours"] += 1
    console = Console(width=120, file=io.StringIO())
    console.print(table(estop, [Result(estop, 2, (1.0, 0.5, 0.2), samples)]))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for shown in ("3.00 ×", "≤ 1.5 ×", "300 µs", "100 µs", "stuck: ours (1)", "2 核满载"):
        assert shown in text
