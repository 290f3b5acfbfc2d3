"""What the adapters' tests share: a module's side with a clock of its own, and real programs to act on."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from drivers.adapters.base import MS, Adapter, Outcome, Send, Step, StepResult, Surroundings
from tests.waiting import block_until, wait_until


class Desk:
    """The module: it orders steps, polls, and hears results. Time passes only when the test says so."""

    def __init__(self, send: Send | None = None) -> None:
        self.time_ns = 1_000_000 * MS
        self.heard: list[StepResult] = []
        self.around = Surroundings(asyncio.get_running_loop(), lambda: self.time_ns, self.heard.append, send)
        self._ordered = 0

    def pass_ms(self, ms: float) -> None:
        self.time_ns += round(ms * MS)

    def begin(
        self, adapter: Adapter, *, deadline_ms: int = 1000, step: str = "stop_motion", **args: object
    ) -> str:
        self._ordered += 1
        step_id = f"step-{self._ordered}"
        adapter.begin(Step(step_id, step, 7, deadline_ms, args), self.time_ns)
        return step_id

    def poll(self, adapter: Adapter) -> list[StepResult]:
        return adapter.poll(self.time_ns)

    async def polled(self, adapter: Adapter, condition: Callable[[], object]) -> None:
        """Polls as a module does until the condition holds, while the clock goes by slowly."""

        def turn() -> bool:
            # Looks are paced by the clock, so some of it goes by: less than in the world outside.
            self.pass_ms(1)
            adapter.poll(self.time_ns)
            return bool(condition())

        await wait_until(turn)

    async def pass_polling(self, adapter: Adapter, ms: int) -> None:
        """Time passes as it does for a module: a poll every 10 ms, and turns of the loop in between."""
        for _ in range(ms // 10):
            self.pass_ms(10)
            adapter.poll(self.time_ns)
            await self.turns()

    async def turns(self) -> None:
        """The loop does what is ready, and what comes of it."""
        for _ in range(12):
            await asyncio.sleep(0)

    async def result(self, adapter: Adapter, step_id: str) -> StepResult:
        await self.polled(adapter, lambda: self.of(step_id))
        (result,) = self.of(step_id)
        return result

    def of(self, step_id: str) -> list[StepResult]:
        return [result for result in self.heard if result.id == step_id]

    async def outcome(self, adapter: Adapter, step_id: str) -> tuple[Outcome, str]:
        result = await self.result(adapter, step_id)
        return result.outcome, result.detail


# ------------------------------------------------------------------------------------------------ programs


def state(pid: int) -> str:
    """The letter in /proc/PID/stat; "" when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def lives(pid: int) -> bool:
    return state(pid) not in {"", "Z", "X"}


class Program:
    """A real program in a session of its own. `extra`: the pids on its first line, if it `speaks`."""

    def __init__(self, *command: str, speaks: bool = True) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        self.pid = self._process.pid
        assert self._process.stdout is not None
        self.extra = [int(word) for word in self._process.stdout.readline().split()] if speaks else []

    def reap(self) -> int:
        return self._process.wait(20)

    def end(self) -> None:
        """Its session is killed, stopped or not, and whoever it named."""
        if self._process.returncode is None:
            self._kill(self.pid)
        for pid in (*self.extra, *session(self.pid)):
            self._kill(pid)
        self._process.wait(20)
        if self._process.stdout is not None:
            self._process.stdout.close()
        block_until(lambda: not any(lives(pid) for pid in self.extra))

    @staticmethod
    def _kill(pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def session(leader: int) -> list[int]:
    return [pid for pid in all_pids() if fields(pid)[3:4] == [str(leader)]]


def group(leader: int) -> list[int]:
    return [pid for pid in all_pids() if fields(pid)[2:3] == [str(leader)] and lives(pid)]


def all_pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def fields(pid: int) -> list[str]:
    """state, ppid, pgrp, session, ..."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


@contextmanager
def shell(script: str) -> Iterator[Program]:
    """A shell running `script`, which writes one line (of pids, or empty) when it is ready."""
    program = Program(SHELL, "-c", script)
    try:
        yield program
    finally:
        program.end()


@contextmanager
def sleeper() -> Iterator[Program]:
    """A program of one process, that has nothing to say."""
    program = Program(SLEEP, "600", speaks=False)
    try:
        yield program
    finally:
        program.end()


@contextmanager
def vforking() -> Iterator[Program]:
    """A process that waits in vfork for its child, whose pid it says; the child is stopped and stays so."""
    script = (
        "import ctypes, os, signal\n"
        "libc = ctypes.CDLL(None)\n"
        "@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)\n"
        "def child(_):\n"
        "    os.write(1, b'%d\\n' % os.getpid())\n"
        "    os.kill(os.getpid(), signal.SIGSTOP)\n"
        "    return 0\n"
        "stack = ctypes.create_string_buffer(1 << 20)\n"
        "top = ctypes.c_void_p(ctypes.addressof(stack) + (1 << 20) - 64)\n"
        f"libc.clone(child, top, {0x4000 | 0x100 | signal.SIGCHLD}, None)\n"  # CLONE_VFORK, CLONE_VM
    )
    with python(script) as program:
        block_until(lambda: state(program.extra[0]) == "T")
        yield program


@contextmanager
def python(script: str) -> Iterator[Program]:
    program = Program(sys.executable, "-I", "-S", "-c", script)
    try:
        yield program
    finally:
        program.end()


SHELL = str(Path("/bin/sh").resolve())
SLEEP = str(shutil.which("sleep"))
PYTHON = str(Path(sys.executable).resolve())
LOOP = "while :; do sleep 0.05; done"
IDLES = f"echo; {LOOP}"
DEAF = f"trap '' TERM; echo; {LOOP}"
"""Does not hear SIGTERM."""
