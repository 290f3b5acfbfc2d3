"""`warden run` as a supervisor, with stand-ins for the modules: small real processes that do as told."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent import launch
from agent.launch import LONGEST_WAIT_S, Launcher
from agent.processes import PROCESSES, Process
from tests.core.factories import small_plan
from tests.waiting import wait_until

NAMES = tuple(row.name for row in PROCESSES)
STAND_IN = """
import os, signal, socket, sys
folder, name = sys.argv[1:]
def note(word):
    with open(f"{folder}/notes", "a") as file:
        file.write(f"{name} {word} {os.getpid()}\\n")
def ready():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"STATUS=here\\nREADY=1", "\\0" + os.environ["NOTIFY_SOCKET"][1:])
def end(*_):
    note("ended")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
note("begun")
try:
    exec(open(f"{folder}/{name}.py").read())
except FileNotFoundError:
    ready()
while True:
    signal.pause()
"""


class Stage:
    """A launcher whose modules are stand-ins; each does what its file says, or says READY and waits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "notes").write_text("")
        self.launcher = Launcher(small_plan())
        self.task: asyncio.Task[int] | None = None

    def script(self, name: str, text: str) -> None:
        (self.folder / f"{name}.py").write_text(text)

    def notes(self, word: str) -> list[str]:
        """Names of those who noted it, in order."""
        rows = [line.split() for line in (self.folder / "notes").read_text().splitlines()]
        return [name for name, noted, _ in rows if noted == word]

    def pids(self) -> list[int]:
        return [int(line.split()[2]) for line in (self.folder / "notes").read_text().splitlines()]

    def begin(self) -> None:
        self.task = asyncio.create_task(self.launcher.run())

    async def end(self) -> int:
        """Its exit code, once it has ended."""
        assert self.task is not None
        return await asyncio.wait_for(self.task, 20)

    async def stop(self) -> int:
        self.launcher._stop.set()
        return await self.end()

    async def ready(self) -> None:
        self.begin()
        await wait_until(lambda: all(child.ready.is_set() for child in self.launcher._children.values()))

    def pid(self, name: str) -> int:
        process = self.launcher._children[name].process
        assert process is not None
        return process.pid


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    def command(name: str, fd: int, parent_pid: int) -> list[str]:
        assert os.fstat(fd)
        assert parent_pid == os.getpid()
        return [sys.executable, "-c", STAND_IN, str(tmp_path), name]

    monkeypatch.setattr(launch, "command", command)
    one = Stage(tmp_path)
    yield one
    if one.task is not None and not one.task.done():
        await one.stop()
    assert [pid for pid in one.pids() if not gone(pid)] == []


class Waits:
    """`asyncio` for the launcher: its waiting before a restart is written down and lasts no time."""

    def __init__(self) -> None:
        self.waited_s: list[float] = []

    def __getattr__(self, name: str) -> object:
        return getattr(asyncio, name)

    async def sleep(self, delay_s: float) -> None:
        self.waited_s.append(round(delay_s, 3))
        await asyncio.sleep(0)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    one = Waits()
    monkeypatch.setattr(launch, "asyncio", one)
    return one


# ---- beginning and end


async def test_all_four_are_started_and_ended_in_order_the_channels_first_the_recorder_last(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    await stage.ready()
    await wait_until(lambda: "is protected and stopped" in (told := capsys.readouterr().err) and told)
    assert sorted(stage.notes("begun")) == sorted(NAMES)
    assert await stage.stop() == 0
    assert stage.notes("ended") == ["remote", "reflex", "monitor", "recorder"]


async def test_what_is_told_when_all_are_ready_names_each_with_its_pid(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    told = ""

    def said() -> bool:
        nonlocal told
        told += capsys.readouterr().err
        return told.endswith("\n")

    await stage.ready()
    await wait_until(said)
    pids = ", ".join(f"{name} {stage.pid(name)}" for name in NAMES)
    assert told == f"warden: FT-1 is protected and stopped; {pids}\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it(stage: Stage, number: signal.Signals) -> None:
    await stage.ready()
    os.kill(os.getpid(), number)
    assert await stage.end() == 0
    assert sorted(stage.notes("ended")) == sorted(NAMES)


async def test_its_own_supervisor_hears_when_all_are_ready(
    stage: Stage, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run_dir / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(str(path))
        ours.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        await stage.ready()
        loop = asyncio.get_running_loop()
        assert await asyncio.wait_for(loop.sock_recv(ours, 100), 20) == b"READY=1"
        await stage.stop()


async def test_one_that_will_not_end_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "END_S", 0.05)
    stage.script("reflex", "signal.signal(signal.SIGTERM, signal.SIG_IGN); ready()")
    await stage.ready()
    pid = stage.pid("reflex")
    assert await stage.stop() == 0
    assert gone(pid)
    assert sorted(stage.notes("ended")) == sorted(set(NAMES) - {"reflex"})


async def test_one_that_is_frozen_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "END_S", 0.05)
    await stage.ready()
    pid = stage.pid("remote")
    os.kill(pid, signal.SIGSTOP)
    assert await stage.stop() == 0
    assert gone(pid)


# ---- a first start that fails


@pytest.mark.parametrize(
    ("script", "how"),
    [("sys.exit(3)", "exit 3"), ("os.kill(os.getpid(), signal.SIGKILL)", "signal SIGKILL")],
)
async def test_one_that_ends_before_it_is_ready_ends_all(
    stage: Stage, capsys: pytest.CaptureFixture[str], script: str, how: str
) -> None:
    stage.script("remote", script)
    stage.begin()
    assert await stage.end() == 1
    assert capsys.readouterr().err == f"warden: remote could not be started ({how})\n"
    assert stage.notes("begun").count("remote") == 1


async def test_one_that_never_gets_ready_ends_all(
    stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "READY_S", 0.01)
    for name in NAMES:
        stage.script(name, "pass")
    stage.begin()
    assert await stage.end() == 1
    assert capsys.readouterr().err == f"warden: not ready after 0 s: {', '.join(NAMES)}\n"


async def test_a_process_that_cannot_be_made_ends_all(
    stage: Stage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_left(_: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(stage.launcher, "_spawn", none_left)
    stage.begin()
    assert await stage.end() == 1
    assert "could not be started (Resource temporarily unavailable)" in capsys.readouterr().err


async def test_ready_counts_only_from_the_process_itself(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the kernel's word on who sent it, as systemd's NotifyAccess=main."""
    heard, notified = 0, stage.launcher._notified

    def count() -> None:
        nonlocal heard
        notified()
        heard += 1

    monkeypatch.setattr(stage.launcher, "_notified", count)
    stage.script("recorder", "if os.fork() == 0:\n    ready()\n    os._exit(0)\nos.wait()")
    stage.begin()
    await wait_until(lambda: heard == len(NAMES))
    ready = {name for name, child in stage.launcher._children.items() if child.ready.is_set()}
    assert ready == set(NAMES) - {"recorder"}


async def test_one_that_is_ready_before_its_start_is_even_noted_is_ready(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the word overtakes the one who started it."""
    spawn = stage.launcher._spawn

    async def late(row: Process) -> asyncio.subprocess.Process:
        process = await spawn(row)
        await wait_until(lambda: process.pid in stage.launcher._ready_pids)
        return process

    monkeypatch.setattr(stage.launcher, "_spawn", late)
    await stage.ready()
    assert await stage.stop() == 0


# ---- what ends is started again


async def test_one_that_ends_is_started_again_alone(
    stage: Stage, waits: Waits, capsys: pytest.CaptureFixture[str]
) -> None:
    await stage.ready()
    pids = {name: stage.pid(name) for name in NAMES}
    os.kill(pids["reflex"], signal.SIGKILL)
    await wait_until(lambda: stage.notes("begun").count("reflex") == 2)
    assert "warden: reflex ended (signal SIGKILL), starting it again\n" in capsys.readouterr().err
    assert {name: stage.pid(name) for name in NAMES if name != "reflex"} == {
        name: pid for name, pid in pids.items() if name != "reflex"
    }


async def test_it_waits_longer_each_time_and_never_longer_than_so_long(stage: Stage, waits: Waits) -> None:
    row = next(row for row in PROCESSES if row.name == "reflex")
    stage.script("reflex", "ready(); sys.exit(0)")
    stage.begin()
    await wait_until(lambda: len(waits.waited_s) >= 8)
    first_s = row.restart_delay_ms / 1000
    expected = [min(first_s * 2**n, LONGEST_WAIT_S) for n in range(1, 7)]
    assert waits.waited_s[:8] == [*expected, expected[-1], expected[-1]]
    assert expected[-1] == LONGEST_WAIT_S


async def test_one_that_has_ended_a_thousand_times_is_still_started_again(stage: Stage, waits: Waits) -> None:
    stage.launcher._children["reflex"].quick_ends = 5000
    stage.script("reflex", "ready(); sys.exit(0)")
    stage.begin()
    await wait_until(lambda: len(waits.waited_s) >= 2)
    assert waits.waited_s[:2] == [LONGEST_WAIT_S] * 2


async def test_one_that_lived_for_a_while_is_started_again_soon(
    stage: Stage, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        """Each look at it is ten seconds later."""

        now_s = 0.0

        def monotonic(self) -> float:
            self.now_s += 10
            return self.now_s

    monkeypatch.setattr(launch, "time", Clock())
    row = next(row for row in PROCESSES if row.name == "remote")
    stage.script("remote", "ready(); sys.exit(0)")
    stage.begin()
    await wait_until(lambda: len(waits.waited_s) >= 4)
    assert waits.waited_s[:4] == [row.restart_delay_ms / 1000] * 4


async def test_an_end_by_a_signal_without_a_name_is_an_end_like_any_other(
    stage: Stage, waits: Waits, capsys: pytest.CaptureFixture[str]
) -> None:
    number = signal.SIGRTMIN + 1
    await stage.ready()
    os.kill(stage.pid("monitor"), number)
    await wait_until(lambda: stage.notes("begun").count("monitor") == 2)
    assert f"warden: monitor ended (signal {int(number)}), starting it again\n" in capsys.readouterr().err


async def test_a_process_that_cannot_be_made_again_is_tried_again(
    stage: Stage, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.ready()
    spawn, failures = stage.launcher._spawn, 2

    async def spawn_later(row: Process) -> asyncio.subprocess.Process:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError(12, "Cannot allocate memory")
        return await spawn(row)

    monkeypatch.setattr(stage.launcher, "_spawn", spawn_later)
    os.kill(stage.pid("monitor"), signal.SIGKILL)
    await wait_until(lambda: stage.notes("begun").count("monitor") == 2)
    assert failures == 0
    assert len(waits.waited_s) == 3


async def test_the_end_comes_while_one_waits_to_be_started_again(stage: Stage) -> None:
    await stage.ready()
    os.kill(stage.pid("recorder"), signal.SIGKILL)
    await wait_until(lambda: gone(stage.pid("recorder")))
    assert await stage.stop() == 0
    assert stage.notes("begun").count("recorder") <= 2
