"""One module's process from its start to its end: signals, faults, its supervisor, its parent."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil.child import Child
from tests.waiting import DEADLINE_S, block_until

PROGRAM = """
import asyncio, os, signal, sys
from pathlib import Path
from agent import boot
from agent.errors import WardenError
from agent.shell import Shell
from tests.core.factories import small_plan

folder, how, parent = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def note(word):
    with (folder / "notes").open("a") as file:
        file.write(f"{word} {os.getpid()}\\n")

def fault():
    raise RuntimeError("nobody foresaw this")

class Module:
    def __init__(self, plan, loop):
        self.loop = loop
        self.shell = Shell(plan, "monitor", loop, serve=False)
        note("made")

    def start(self):
        if how == "refuses":
            raise WardenError("/some/where: in the way")
        if how == "os error":
            raise FileNotFoundError(2, "No such file or directory", "/some/where")
        if how == "signalled in its start":
            os.kill(os.getpid(), signal.SIGTERM)
            self.loop.run_until_complete(asyncio.sleep(0.05))
        if how == "faulty in its start":
            self.loop.call_soon(fault)
            self.loop.run_until_complete(asyncio.sleep(0.05))
        if how == "faulty later":
            self.loop.call_later(0.01, fault)
        if how == "faulty and going on":
            self.loop.call_later(0.01, fault)
            self.loop.call_later(0.01, fault)
        note("started")
        self.loop.call_soon(note, "runs")

    def close(self):
        note("closing")
        if how == "signalled in its end":
            os.kill(os.getpid(), signal.SIGTERM)
        self.loop.run_until_complete(asyncio.sleep(0.02))
        note("closed")
        self.shell.close()

boot.MAKERS["monitor"] = lambda: Module
plan = small_plan(run_dir=str(folder), state_dir=str(folder))
sys.exit(boot.main(["monitor", str(boot.seal_plan(plan)), str(parent)]))
"""


class Life:
    """One process of that program."""

    def __init__(self, folder: Path, how: str, parent_pid: int = 0) -> None:
        self.folder = folder
        command = [sys.executable, "-c", PROGRAM, str(folder), how, str(parent_pid)]
        self.child = Child(command, folder / "out")

    def until(self, word: str) -> None:
        block_until(lambda: word in notes(self.folder) or self.child.ended is not None)
        assert word in notes(self.folder), self.child.last_words(40)

    def end(self) -> int:
        """Its exit code."""
        block_until(lambda: self.child.ended is not None)
        assert self.child.ended is not None
        return self.child.ended

    def said(self) -> str:
        return self.child.output.read_text()


def notes(folder: Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return [line.split()[0] for line in (folder / "notes").read_text().splitlines()]
    return []


Start = Callable[..., Life]
WHOLE = ["made", "started", "runs", "closing", "closed"]


@pytest.fixture
def start(run_dir: Path) -> Iterator[Start]:
    lives: list[Life] = []

    def begin(how: str = "well", parent_pid: int = 0) -> Life:
        lives.append(Life(run_dir, how, parent_pid))
        return lives[-1]

    yield begin
    for life in lives:
        if life.child.ended is None:
            life.child.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(start: Start, run_dir: Path, number: signal.Signals) -> None:
    life = start()
    life.until("runs")
    os.kill(life.child.pid, number)
    assert (life.end(), life.said()) == (0, "")
    assert notes(run_dir) == WHOLE


def test_a_signal_in_the_middle_of_its_start_lets_the_start_come_to_its_end(
    start: Start, run_dir: Path
) -> None:
    life = start("signalled in its start")
    assert (life.end(), life.said()) == (0, "")
    assert notes(run_dir)[:2] == ["made", "started"]
    assert notes(run_dir)[-1] == "closed"


def test_a_second_signal_in_the_middle_of_its_end_does_not_cut_it_short(start: Start, run_dir: Path) -> None:
    life = start("signalled in its end")
    life.until("runs")
    os.kill(life.child.pid, signal.SIGTERM)
    assert (life.end(), life.said()) == (0, "")
    assert notes(run_dir) == WHOLE


@pytest.mark.parametrize("how", ["faulty later", "faulty and going on"])
def test_a_fault_in_any_callback_ends_it_and_says_where(start: Start, run_dir: Path, how: str) -> None:
    life = start(how)
    assert life.end() == 70
    assert notes(run_dir) == WHOLE
    assert "fault: " in life.said()
    assert "RuntimeError: nobody foresaw this" in life.said()


def test_a_fault_in_the_middle_of_its_start_ends_it_too(start: Start, run_dir: Path) -> None:
    life = start("faulty in its start")
    assert life.end() == 70
    assert notes(run_dir)[-2:] == ["closing", "closed"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("refuses", "monitor: /some/where: in the way\n"),
        ("os error", "monitor: /some/where: No such file or directory\n"),
    ],
)
def test_what_stands_in_its_way_is_one_line(start: Start, run_dir: Path, how: str, said: str) -> None:
    life = start(how)
    assert (life.end(), life.said()) == (1, said)
    assert notes(run_dir) == ["made", "closing", "closed"]


# ---- its supervisor


def test_its_supervisor_hears_when_it_is_ready_and_when_its_end_begins(
    start: Start, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run_dir / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(str(path))
        ours.settimeout(DEADLINE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        life = start()
        assert ours.recv(100) == b"READY=1"
        assert notes(run_dir)[:2] == ["made", "started"]
        os.kill(life.child.pid, signal.SIGTERM)
        assert ours.recv(100) == b"STOPPING=1"
        assert life.end() == 0


def test_one_that_could_not_start_was_never_ready(
    start: Start, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run_dir / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(str(path))
        ours.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        start("refuses").end()
        with pytest.raises(BlockingIOError):
            ours.recv(100)


# ---- its parent


def test_whose_parent_is_gone_already_it_does_not_even_begin(start: Start, run_dir: Path) -> None:
    life = start("well", parent_pid=os.getppid())
    assert (life.end(), life.said()) == (0, "")
    assert notes(run_dir) == []


PARENT = """
import os, subprocess, sys
program = sys.argv[1]
child = subprocess.Popen([sys.executable, "-c", program, sys.argv[2], "well", str(os.getpid())])
child.wait()
"""


def test_its_parents_end_is_its_own_and_in_order(run_dir: Path) -> None:
    """Kill -9 of `warden run`: nobody is left to end the modules, and each does it itself."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, PROGRAM, str(run_dir)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    ) as parent:
        block_until(lambda: "runs" in notes(run_dir))
        parent.kill()
    block_until(lambda: notes(run_dir) == WHOLE)
    pid = int((run_dir / "notes").read_text().split()[1])
    block_until(lambda: not Path(f"/proc/{pid}").exists())
