"""`command`: a program with fixed arguments, started without a shell; done when it ends with 0.

It gets an environment of its own, no input, a session of its own, and not one descriptor of ours. Only
its first words are kept. At the deadline it is killed, and all that it began with it; what it leaves
behind when it ends by itself is killed too, so a step that has its result has no process any more.

Starting it takes a fork and an exec, some milliseconds during which the loop waits: it belongs where nothing
quicker depends on the loop, after the permit is withdrawn and the outputs are off.
"""

import fcntl
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

from drivers.adapters import procfs
from drivers.adapters.base import MS, Step, Surroundings, one_line
from drivers.adapters.family import Family
from drivers.adapters.keeper import Job, StepKeeper
from drivers.adapters.kin import SessionKin
from drivers.adapters.trusted import TrustError, check_program

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEPT_BYTES: Final = 2048
"""Of what the program writes; the rest is read, so that it is not held up, and dropped."""
READ_BYTES: Final = 65_536
"""At one wake-up: a pipe's whole content, and no more before the loop has had its turn."""
SHOWN: Final = 120
"""Characters of its words in a result."""
FIRST_PAUSE_MS: Final = 10
LAST_PAUSE_MS: Final = 320
"""Between looks, doubling. While it runs they tell who descends from it, should that leave its session."""


class CommandAdapter(StepKeeper):
    """Steps that are one program."""

    def __init__(self, name: str, settings: Mapping[str, object], around: Surroundings) -> None:
        super().__init__(name, around, int(str(settings["grace_ms"])))
        arguments = settings["args"]
        assert isinstance(arguments, list | tuple)  # noqa: S101 - the settings model saw to it
        self._command = (str(settings["program"]), *map(str, arguments))
        self._children: set[_Child] = set()

    @property
    def children(self) -> int:
        """Programs that were started and are not reaped yet."""
        return len(self._children)

    def _start(self, job: Job, now_ns: int) -> "_CommandWork | None":
        try:
            check_program(self._command[0])
            child = _Child(self._command, _environment(job.step), self._around, self._children)
        except TrustError as error:
            job.failed(str(error), now_ns)
        except OSError as error:
            job.failed(f"{self._command[0]} cannot be run: {os.strerror(error.errno or 0)}", now_ns)
        else:
            return _CommandWork(job, child, self._around)
        return None


def _environment(step: Step) -> dict[str, str]:
    """All that the program gets of it; nothing of ours."""
    return {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "WARDEN_STEP": one_line(step.step),
        "WARDEN_EPOCH": str(step.epoch),
        "WARDEN_DEADLINE_MS": str(step.deadline_ms),
    }


class _Child:
    """A started program until it is reaped. So long its number, and its session's, can be nobody else's."""

    def __init__(
        self,
        command: tuple[str, ...],
        environment: Mapping[str, str],
        around: Surroundings,
        children: "set[_Child]",
    ) -> None:
        """Raises OSError when it cannot be started."""
        self._loop = around.loop
        self._children = children
        self.kept = b""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
            umask=0o077,
            bufsize=0,
        )
        self.pid = self._process.pid
        self.fd = self._open_pidfd()
        self._read_output()
        children.add(self)

    def exit_status(self) -> int | None:
        """As subprocess says it, negative for a signal; None while it runs. Does not reap."""
        info = os.waitid(os.P_PIDFD, self.fd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if info is None:
            return None
        return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status

    def stop(self) -> None:
        """Nothing of its process group runs any further."""
        self._signal_group(signal.SIGSTOP)

    def kill(self) -> None:
        """The program and its whole process group."""
        self._signal_group(signal.SIGKILL)

    def when_ended(self, then: Callable[[], None]) -> None:
        """Call `then` once when the program ends; what it began may live on."""
        self._loop.add_reader(self.fd, self._on_ended, then)

    def reap_when_ended(self) -> None:
        """Let go of its output; reap it now or when it ends."""
        self._stop_reading()
        self._loop.remove_reader(self.fd)
        if procfs.ended(self.fd):
            self._reap()
        else:
            self._loop.add_reader(self.fd, self._reap)

    def drain(self) -> None:
        """Read what is left, up to one pipe's content."""
        if self._process.stdout is not None and not self._process.stdout.closed:
            self._on_output()

    def _open_pidfd(self) -> int:
        """Without one (no descriptor left) nothing could be ended in time, so it is ended now."""
        try:
            return os.pidfd_open(self.pid)
        except OSError:
            os.killpg(self.pid, signal.SIGKILL)
            with self._process:  # closes its pipe and waits; it is dead already
                raise

    def _signal_group(self, number: int) -> None:
        """By number before Linux 6.9: it is not reaped, so the number is still its own."""
        if not procfs.send_group(self.fd, number):
            with suppress(ProcessLookupError, PermissionError):  # nobody left; or run as another user by now
                os.killpg(self.pid, number)

    def _on_ended(self, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self.fd)
        then()

    def _read_output(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        out = self._process.stdout.fileno()
        fcntl.fcntl(out, fcntl.F_SETFL, fcntl.fcntl(out, fcntl.F_GETFL) | os.O_NONBLOCK)
        self._loop.add_reader(out, self._on_output)

    def _on_output(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            content = os.read(self._process.stdout.fileno(), READ_BYTES)
        except BlockingIOError:
            return
        if not content:
            self._stop_reading()
        self.kept += content[: KEPT_BYTES - len(self.kept)]

    def _stop_reading(self) -> None:
        out = self._process.stdout
        if out is not None and not out.closed:
            self._loop.remove_reader(out.fileno())
            out.close()

    def _reap(self) -> None:
        self._loop.remove_reader(self.fd)
        os.close(self.fd)
        self._process.wait()
        self._children.discard(self)


class _CommandWork:
    """One run: watched to its end, or killed at its deadline, then seen to have left nothing."""

    def __init__(self, job: Job, child: _Child, around: Surroundings) -> None:
        self._job = job
        self._child = child
        self._now_ns = around.now_ns
        self._family = Family(around.loop, SessionKin(child.pid))
        self._status: int | None = None
        self._overdue = False
        self._left_behind = 0
        self._pause_ms = FIRST_PAUSE_MS
        self._next_look_ns = job.begun_ns + FIRST_PAUSE_MS * MS
        child.when_ended(self._ended)

    def tick(self, now_ns: int) -> None:
        """Kill at the deadline; look now and then at what it has begun, or at what is left of it."""
        if now_ns >= self._job.deadline_ns and self._status is None and not self._overdue:
            self._overdue = True
            self._pause_ms = FIRST_PAUSE_MS
            self._child.stop()
            self._look()
        elif now_ns >= self._next_look_ns:
            self._look()

    def end(self) -> None:
        """Whatever it still has is killed; it is reaped as soon as that took effect."""
        if self._status is None or len(self._family):
            self._child.kill()
            self._family.signal(signal.SIGKILL)
        self._family.close()
        self._child.reap_when_ended()

    def _ended(self) -> None:
        """The program itself has ended; its number stays taken until it is reaped."""
        self._status = self._child.exit_status()
        self._child.drain()
        self._pause_ms = FIRST_PAUSE_MS
        self._look()

    def _look(self) -> None:
        if self._job.open and not self._family.looking:
            self._family.look(self._looked)

    def _looked(self) -> None:
        now_ns = self._now_ns()
        self._next_look_ns = now_ns + self._pause_ms * MS
        self._pause_ms = min(2 * self._pause_ms, LAST_PAUSE_MS)
        if self._family.trouble:
            self._job.failed(f"what it began cannot be ended for certain: {self._family.trouble}", now_ns)
        elif self._status is not None and not len(self._family):
            self._finish(self._status, now_ns)
        elif self._status is not None or self._overdue:
            self._end_the_rest()

    def _end_the_rest(self) -> None:
        if not self._overdue:
            self._left_behind = max(self._left_behind, len(self._family))
        told, _ = self._family.end_all()
        self._family.watch(self._look)
        if told:
            self._look()

    def _finish(self, status: int, now_ns: int) -> None:
        words = one_line(self._child.kept.decode("utf-8", "replace"), SHOWN)
        left = f", {self._left_behind} left behind and killed" if self._left_behind else ""
        detail = f"{_status_words(status)}{left}" + (f": {words}" if words else "")
        if self._overdue and status != 0:
            self._job.failed(f"killed at its deadline, {detail}", now_ns)
        elif status == 0:
            self._job.done(detail, now_ns)
        else:
            self._job.failed(detail, now_ns)


def _status_words(status: int) -> str:
    return f"exit {status}" if status >= 0 else f"ended by signal {-status}"
