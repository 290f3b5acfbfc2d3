"""Everything that runs during a measurement: a whole site, the C programs beside it, the load, a guardian.

The agent is its own four processes, each as `warden run NAME` starts it. Permits are on tmpfs as in
production; the rest of the folder is on a disk, so that latched stops are really synced.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.boot import command, seal_plan
from agent.config import load_plan
from agent.errors import WardenError
from agent.permit import PermitReader
from agent.processes import BY_NAME
from console.profile import load_profile
from console.session import Session
from hil.bench.build import build_all
from hil.bench.program import Program
from hil.node_control import NodeProcess
from hil.person import write_profile
from hil.site import Site

GUARDIAN = "guardian-li"
REFLEX_PRIORITY = BY_NAME["reflex"].fifo_priority
REMOTE_PRIORITY = BY_NAME["remote"].fifo_priority
MODULES = ("recorder", "reflex", "monitor")
"""Started with the site; `remote` is the rig's own, since it is killed and started anew."""
SHARED = Path("/dev/shm")  # noqa: S108 - tmpfs is where permits belong
HOME = Path(__file__).resolve().parents[2]
RUN_S = 30.0
PAUSE_S = 0.002


class RigError(WardenError):
    """A part of the rig did not come up, or the robot could not be brought to run. `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Played(NodeProcess):
    """Node A: the harness `node` plays it, and is there before the agent is."""

    def start(self) -> Self:
        return self


def edit_plan(text: str) -> str:
    """One input; its stop ends by itself when it closes again, so that a sample needs no resume."""
    bumper_input, rest = _cut(text, "[inputs.bumper]", "[outputs.relay_a]")
    text = bumper_input + rest
    before, after = _cut(text, '[[condition]]\nid = "bumper_hit"', "[envelope]")
    text = before + after
    text = text.replace("bit = 0\n", "bit = 0\ndebounce_ms = 0\n")
    return text.replace('clear = "reset_and_resume"', 'clear = "auto"\nhold_off_ms = 0')


def _cut(text: str, begin: str, end: str) -> tuple[str, str]:
    return text[: text.index(begin)], text[text.index(end) :]


class Rig:
    """As a context manager everything runs from when it is entered until it is left, whatever ends it."""

    node: Program
    """Plays node A, and node B of the reference; see node.c."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.programs: Mapping[str, Path] = {}
        self.granted: dict[str, Mapping[str, bool]] = {}
        """Program or module -> what real-time it was granted."""
        self._remote: subprocess.Popen[bytes] | None = None
        self._readers: dict[Path, PermitReader] = {}

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        """To its end: a second Ctrl-C must not leave half of it running."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._stack.close()
        finally:
            signal.signal(signal.SIGINT, before)

    def _open(self) -> None:
        self.folder = self._folder(None)
        self.shared = self._folder(SHARED if os.access(SHARED, os.W_OK) else self.folder)
        (self.folder / "run").symlink_to(self.shared)
        self.programs = build_all(self._folder(self.folder))
        self.site = Site(self.folder, broker="mosquitto", edit=edit_plan, modules=MODULES)
        self.site.node_a = _Played(self.folder / "a")
        self.node = self._start_node()
        self._stack.enter_context(self.site)
        self._stack.callback(self.end_remote)
        self._plan_fd = seal_plan(load_plan(self.site.plan, module="remote"))
        self._stack.callback(os.close, self._plan_fd)
        self.start_remote()
        self.guardian = self._stack.enter_context(Guardian(self.site))
        self.granted |= {name: self._granted(name) for name in ("reflex", "remote")}

    def _granted(self, module: str) -> dict[str, bool]:
        realtime = self.site.ask(module).get("module", {}).get("realtime", {})
        return {"fifo": realtime.get("fifo") is True, "locked": realtime.get("memory_locked") is True}

    def about(self) -> dict[str, object]:
        """What of it belongs beside the figures."""
        return {"permits_on": str(self.shared.parent), "latches_on": str(self.folder.parent)}

    def _folder(self, parent: Path | None) -> Path:
        """A short one: sockets live in it (107 bytes)."""
        made = Path(tempfile.mkdtemp(prefix="wb", dir=parent))
        self._stack.callback(shutil.rmtree, made, ignore_errors=True)
        return made

    def permit(self, name: str) -> Path:
        """Where a reference holds its permit: beside the agent's."""
        return self.shared / f"{name}.permit"

    def program(self, name: str, *arguments: str | Path | int) -> Program:
        """Starts a C program; the caller ends it."""
        program = Program(self.programs[name], *arguments)
        self.granted[name] = program.granted
        return program

    def _start_node(self) -> Program:
        lines = self.site.node_a.link, self.folder / "a" / "reference.tty"
        permits = self.site.permits[0], self.permit("estop_ref")
        ends = [part for pair in zip(lines, permits, strict=True) for part in pair]
        # The watched module's own class: above it would push the module aside, below it would look too late.
        node = self._stack.enter_context(self.program("node", *ends, REFLEX_PRIORITY))
        self._stack.enter_context(self.program("estop_ref", lines[1], permits[1], REFLEX_PRIORITY))
        return node

    # ------------------------------------------------------------------------------------ the module remote

    def start_remote(self) -> None:
        """As `warden run` does; until it answers. Raises RigError when it ends instead."""
        output = self.folder / "remote.out"
        with output.open("ab") as sink:
            remote = subprocess.Popen(
                command("remote", self._plan_fd, os.getpid()),
                pass_fds=(self._plan_fd,),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=os.environ | {"PYTHONPATH": os.pathsep.join([str(HOME), *_inherited_path()])},
            )
        self._remote = remote
        wait_until(lambda: bool(self.site.ask("remote")) or remote.poll() is not None, "remote")
        if remote.poll() is not None:
            raise RigError(f"remote ended: {output.read_text(errors='replace')[-500:]}")

    @property
    def remote_pid(self) -> int:
        """Of the process that runs now."""
        if self._remote is None:
            raise RigError("remote was not started")
        return self._remote.pid

    def end_remote(self) -> None:
        """Also a frozen or killed one; idempotent."""
        if self._remote is not None:
            end_process(self._remote)

    # ------------------------------------------------------------------------------------------- the robot

    def running(self) -> bool:
        """Whether every permit permits motion now."""
        return all(map(self.permits_motion, self.site.permits))

    def permits_motion(self, path: Path) -> bool:
        """Whether that permit permits motion now."""
        if path not in self._readers:
            self._readers[path] = PermitReader(path)
            self._stack.callback(self._readers[path].close)
        return self._readers[path].read().motion_until_ns > time.monotonic_ns()

    def bring_up(self) -> None:
        """Until the robot may move: a guardian resumes, as often as it takes. RigError after 30 s."""
        give_up_s = time.monotonic() + RUN_S
        while not self.running():
            if time.monotonic() > give_up_s:
                raise RigError(f"the robot does not run: {', '.join(self.causes())}")
            self.guardian.resume()

    def causes(self) -> list[str]:
        """Why it stands: `reflex robot_hung`; empty when nothing stops it, or nobody answers."""
        told = {name: self.site.ask(name).get("channel", {}) for name in ("reflex", "remote")}
        return [f"{name} {cause['id']}" for name, state in told.items() for cause in state.get("causes", [])]

    # -------------------------------------------------------------------------------------------- the load

    @contextlib.contextmanager
    def load(self, count: int) -> Iterator[None]:
        """So many busy loops, ordinary processes, while it is open."""
        with ExitStack() as loops:
            for _ in range(count):
                loop = subprocess.Popen([self.programs["burn"], str(os.getpid())], stdin=subprocess.DEVNULL)
                loops.callback(end_process, loop)
            yield


def _inherited_path() -> list[str]:
    inherited = os.environ.get("PYTHONPATH")
    return [inherited] if inherited else []


def end_process(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL by its own process id; idempotent."""
    process.kill()
    process.wait()


@contextlib.contextmanager
def sharp(priority: int) -> Iterator[bool]:
    """This process in SCHED_FIFO while it is open, where that is granted.

    What it stamps and then does (a publish, a kill) must not lie a time slice apart under load.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def wait_until(true: Callable[[], bool], what: str, deadline_s: float = RUN_S) -> None:
    """Looks every 2 ms. RigError at the deadline."""
    give_up_s = time.monotonic() + deadline_s
    while not true():
        if time.monotonic() > give_up_s:
            raise RigError(f"{what}: not in {deadline_s:g} s")
        time.sleep(PAUSE_S)


class Guardian:
    """One person whose session stays open: a resume then costs a few round trips, and no connection."""

    def __init__(self, site: Site) -> None:
        profile = write_profile(site.folder, GUARDIAN, site.broker)
        self._robot_id = site.robot_id
        self._profile = load_profile(profile, {})
        self._runner = asyncio.Runner()
        self._session: Session | None = None

    def resume(self) -> None:
        """One attempt; what stands in the way (a stop not yet synced, a late answer) may pass by itself."""
        with contextlib.suppress(WardenError):
            self._runner.run(self._resume())

    async def _resume(self) -> None:
        if self._session is None:
            session = Session(self._profile)
            await session.__aenter__()
            self._session = session
        async for _ in self._session.resume(self._robot_id, reason="bench", retries=3, timeout_s=2.0):
            pass

    def hang_up(self) -> None:
        """Ends the session; the next resume opens another. Nothing reads for it while others measure."""
        session, self._session = self._session, None
        if session is not None:
            self._runner.run(session.__aexit__(None, None, None))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(WardenError):
            self.hang_up()
        self._runner.close()
