"""`warden run` with no module named.

All four from the one table, watched and started again, for development, containers and demos. In
production systemd does this, from units held to the same table.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from agent.boot import command, seal_plan
from agent.core.plan import Plan
from agent.notify import Notifier
from agent.processes import BY_NAME, PROCESSES, Process
from agent.simulate import Controls, attach, simulated

READY_S = 20.0
"""A module that is not ready by then at the first start will not be."""
END_S = 3.0
"""Between SIGTERM and SIGKILL: an ordered end takes milliseconds, and a disk may be slow."""
LONGEST_WAIT_S = 5.0


@dataclass(slots=True)
class Child:
    """One module's process."""

    row: Process
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    quick_ends: int = 0


class Launcher:
    """Starts every row, starts again what ends, and ends all in order."""

    def __init__(self, plan: Plan, controls: Controls | None = None) -> None:
        """`controls`: with `--simulate`, what a person acts on the simulated devices with."""
        self._plan = plan
        self._controls = controls
        self._robot: asyncio.subprocess.Process | None = None
        self._fd = seal_plan(plan)
        self._children = {row.name: Child(row) for row in PROCESSES}
        self._stop = asyncio.Event()
        self._failed = ""
        self._notify = _notify_socket()
        self._ready_pids: set[int] = set()

    async def run(self) -> int:
        """Until SIGTERM or SIGINT; 0, or 1 when a module could not be started."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_reader(self._notify.fileno(), self._notified)
        tasks = [
            loop.create_task(self._keep(child), name=child.row.name) for child in self._children.values()
        ]
        tasks.append(loop.create_task(self._first_start(), name="first start"))
        detach = attach(loop, self._controls, self._stop.set) if self._controls is not None else None
        await self._stop.wait()
        if detach is not None:
            detach()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._end_all()
        loop.remove_reader(self._notify.fileno())
        self._notify.close()
        os.close(self._fd)
        if self._failed:
            sys.stderr.write(f"warden: {self._failed}\n")
        return 1 if self._failed else 0

    async def _first_start(self) -> None:
        try:
            async with asyncio.timeout(READY_S):
                for child in self._children.values():
                    await child.ready.wait()
        except TimeoutError:
            late = [name for name, child in self._children.items() if not child.ready.is_set()]
            self._failed = f"not ready after {READY_S:.0f} s: {', '.join(late)}"
            self._stop.set()
            return
        pids = {name: child.process.pid for name, child in self._children.items() if child.process}
        told = ", ".join(f"{name} {pid}" for name, pid in pids.items())
        sys.stderr.write(f"warden: {self._plan.robot.id} is protected and stopped; {told}\n")
        _pass_on_ready()
        if self._controls is not None and find_spec("hil") is not None:
            self._robot = await self._simulated_robot()

    async def _simulated_robot(self) -> asyncio.subprocess.Process:
        """With every device simulated, a robot is too: its software is what beats."""
        link = Path(self._plan.run_dir) / self._plan.robot.id / "robot.sock"
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "hil.robot", "--auto-work", "--until-eof"),
            *("--link", str(link), "--name", self._plan.robot.name),
            # Nobody writes to it: it ends with us, also where SIGKILL leaves us no time to end the robot.
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )

    async def _keep(self, child: Child) -> None:
        while True:
            begun_s = time.monotonic()
            how = await self._live(child)
            if not child.ready.is_set():
                self._failed = f"{child.row.name} could not be started ({how})"
                self._stop.set()
                return
            sys.stderr.write(f"warden: {child.row.name} ended ({how}), starting it again\n")
            quick = time.monotonic() - begun_s < 5
            child.quick_ends = child.quick_ends + 1 if quick else 0
            wait_s = child.row.restart_delay_ms / 1000 * 2 ** min(child.quick_ends, 6)
            await asyncio.sleep(min(wait_s, LONGEST_WAIT_S))

    async def _live(self, child: Child) -> str:
        """One life of a module; how it ended."""
        try:
            child.process = await self._spawn(child.row)
        except OSError as error:  # no process, no memory: that may pass
            return str(error.strerror)
        self._mark_ready()
        return _words(await child.process.wait())

    async def _spawn(self, row: Process) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *command(row.name, self._fd, os.getpid()),
            pass_fds=(self._fd,),
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, "NOTIFY_SOCKET": _address(self._notify)},
            # Not ours: Ctrl-C goes to us alone, and we end the modules in order.
            start_new_session=True,
        )

    def _notified(self) -> None:
        """READY=1 tells which process by its credentials, as systemd does."""
        data, ancillary, _, _ = self._notify.recvmsg(4096, socket.CMSG_SPACE(12))
        for level, kind, body in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and b"READY=1" in data:
                self._ready_pids.add(int.from_bytes(body[:4], sys.byteorder))
        self._mark_ready()

    def _mark_ready(self) -> None:
        """The word may come before `_live` has its process; then it counts from there."""
        for child in self._children.values():
            if child.process is not None and child.process.pid in self._ready_pids:
                child.ready.set()

    async def _end_all(self) -> None:
        # The channels first: nothing that hangs may keep the robot running meanwhile. The recorder last: what
        # the others say at their end is still kept.
        for name in ("remote", "reflex", "monitor", "recorder"):
            await _end(self._children[name].process)
        await _end(self._robot)


async def _end(process: asyncio.subprocess.Process | None) -> None:
    if process is None or process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), END_S)
    except TimeoutError:
        process.kill()
        await process.wait()


def _notify_socket() -> socket.socket:
    """An abstract socket of our own: nothing to clean up, and the kernel says who speaks."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    sock.bind("")  # the kernel picks a name (autobind, unix(7))
    return sock


def _address(sock: socket.socket) -> str:
    return "@" + bytes(sock.getsockname())[1:].decode("ascii")


def _pass_on_ready() -> None:
    notifier = Notifier()
    notifier.ready()
    notifier.close()


def _words(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal has no name
        return f"signal {-code}"


def run_all(plan: Plan, *, simulate: bool = False) -> int:
    """All four modules in the foreground; the exit code. `simulate`: with a panel, and without any device."""
    if not simulate:
        return asyncio.run(_run(plan, None))
    plan = simulated(plan)
    return asyncio.run(_run(plan, Controls(plan)))


async def _run(plan: Plan, controls: Controls | None) -> int:
    return await Launcher(plan, controls).run()


def run_one(plan: Plan, name: str) -> None:
    """Becomes that module: same process, fresh interpreter. Does not return."""
    if name not in BY_NAME:
        raise KeyError(name)
    arguments = command(name, seal_plan(plan), 0)
    os.execv(arguments[0], arguments)  # noqa: S606 - our own interpreter and module, no shell
