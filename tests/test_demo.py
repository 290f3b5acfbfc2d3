"""`warden demo` as a user runs it: the whole main job end to end, and what it says when it is not done."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from hil.demo import STEPS
from tests.bare import ROOT
from tests.hil.parties import KINDS
from tests.waiting import block_until


def begin(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """Python with these words; all it makes, it makes in this folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), "TERM": "dumb"}
    return subprocess.Popen(
        [sys.executable, *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(told: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.splitlines()]


def processes(folder: Path) -> list[list[str]]:
    """Command lines of those that belong to a demo in this folder, of which each names something in it."""
    found: list[list[str]] = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any(str(folder) in word for word in words):
            found.append(words)
    return found


def nothing_is_left(folder: Path) -> None:
    assert list(folder.iterdir()) == []
    block_until(lambda: processes(folder) == [])


@pytest.mark.parametrize("broker", KINDS)
def test_every_step_does_what_it_says(run_dir: Path, broker: str) -> None:
    with begin(run_dir, "-m", "agent", "demo", "--json", "--broker", broker) as demo:
        out, err = demo.communicate()
    head, *steps = rows(out)
    assert [row["said"] for row in steps if not row["ok"]] == []
    assert (demo.returncode, err) == (0, "")
    assert (head["broker"], head["robot"]) == (broker, "FT-2024-0017")
    assert [row["step"] for row in steps] == list(range(1, len(STEPS) + 1))
    assert [(row["zh"], row["en"]) for row in steps] == [(step.zh, step.en) for step in STEPS]
    nothing_is_left(run_dir)


FAILS = """
import sys
import hil.demo
from hil.site import Site

class WithoutARobot(Site):
    def start(self):
        super().start()
        self.robot.kill()
        return self

hil.demo.Site = WithoutARobot
sys.exit(hil.demo.run_demo(keep=False, broker="auto", as_json=sys.argv[1] == "json"))
"""


def test_a_step_that_fails_is_the_last_and_the_exit_code_is_1(run_dir: Path) -> None:
    """The robot's software dies: the first step, which looks at it, finds nobody."""
    with begin(run_dir, "-c", FAILS, "json") as demo:
        out, err = demo.communicate()
    _, step = rows(out)
    assert (demo.returncode, err) == (1, "")
    assert (step["step"], step["ok"]) == (1, False)
    assert step["said"].startswith("StepError: the robot says")
    nothing_is_left(run_dir)


NO_BROKER = """
import sys
import hil.broker, hil.demo
hil.broker.find_mosquitto = lambda: None
sys.exit(hil.demo.run_demo(keep=False, broker="mosquitto", as_json=sys.argv[1] == "json"))
"""


@pytest.mark.parametrize("form", ["json", "people"])
def test_what_cannot_be_set_up_is_one_line_and_1(run_dir: Path, form: str) -> None:
    with begin(run_dir, "-c", NO_BROKER, form) as demo:
        out, err = demo.communicate()
    assert (demo.returncode, err) == (1, "")
    (line,) = out.splitlines()
    if form == "json":
        assert json.loads(line)["ok"] is False
    assert "mosquitto is not installed" in line
    nothing_is_left(run_dir)


KEPT = """
import sys
import hil.demo
hil.demo.STEPS = hil.demo.STEPS[:1]
sys.exit(hil.demo.run_demo(keep=True, broker="auto", as_json=sys.argv[1] == "json"))
"""


def test_what_is_kept_goes_on_until_a_signal_and_then_all_of_it_ends(run_dir: Path) -> None:
    """SIGTERM as well as Ctrl-C: none of its processes may be left to nobody."""
    with begin(run_dir, "-c", KEPT, "json") as demo:
        assert demo.stdout is not None
        told: list[dict[str, Any]] = []
        while not told or "kept" not in told[-1]:
            told += rows(demo.stdout.readline())
        assert [row["ok"] for row in told if "step" in row] == [True]
        assert Path(told[-1]["plan"]).exists()
        assert len(processes(run_dir)) >= 5
        demo.terminate()
        assert demo.wait() in (0, 130)
    nothing_is_left(run_dir)


def test_a_signal_in_the_middle_ends_all_of_it(run_dir: Path) -> None:
    with begin(run_dir, "-m", "agent", "demo") as demo:
        assert demo.stdout is not None
        while "1 " not in demo.stdout.readline():
            assert demo.poll() is None
        demo.terminate()
        demo.communicate()
    assert demo.returncode == 130
    nothing_is_left(run_dir)
