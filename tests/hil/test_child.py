"""A process of the rig and how it ends."""

import signal
import sys
from pathlib import Path

import pytest

import hil.child
from hil.child import Child
from tests.waiting import block_until

WAIT = "import signal; print('ready', flush=True); signal.pause()"
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
)


def ready(child: Child) -> bool:
    return child.last_words() == "ready"


def python(program: str, tmp_path: Path) -> Child:
    child = Child([sys.executable, "-c", program], tmp_path / "out")
    block_until(lambda: ready(child))
    return child


def test_it_lives_until_it_is_stopped(tmp_path: Path) -> None:
    child = python(WAIT, tmp_path)
    assert child.ended is None
    assert child.stop() == -signal.SIGTERM
    assert child.ended == child.stop() == -signal.SIGTERM


def test_frozen_it_is_stopped_all_the_same(tmp_path: Path) -> None:
    child = python(WAIT, tmp_path)
    child.freeze()
    assert child.stop() == -signal.SIGTERM


def test_one_that_will_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hil.child, "END_TIMEOUT_S", 0.05)
    assert python(STUBBORN, tmp_path).stop() == -signal.SIGKILL


def test_killed_it_is_gone_at_once(tmp_path: Path) -> None:
    child = python(WAIT, tmp_path)
    child.kill()
    assert child.ended == -signal.SIGKILL


def test_its_last_words_are_kept_from_one_start_to_the_next(tmp_path: Path) -> None:
    for word in "abc":
        child = Child([sys.executable, "-c", f"print('{word}')"], tmp_path / "out")
        block_until(lambda: child.ended is not None)  # noqa: B023  (called before the next turn)
    assert child.last_words(2) == "b\nc"


def test_a_module_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    child = Child.module("hil.node", ["--help"], tmp_path / "out")
    block_until(lambda: child.ended is not None)
    assert child.ended == 0
    assert "--link" in child.last_words(20)
