"""The beginning of one module's process: a fresh interpreter that gets the checked plan by descriptor.

`warden run` checks the plan with pydantic and hands it over compiled, as sealed JSON in memory, so that a
module carries no parser and no second opinion of the plan: `python -m agent.boot NAME PLAN_FD PARENT_PID`.
"""

import asyncio
import fcntl
import json
import os
import sys
from collections.abc import Callable

from agent.core.plan import Plan, from_plain, to_plain
from agent.errors import WardenError
from agent.shell import Module, run_module

Make = Callable[[Plan, asyncio.AbstractEventLoop], Module]

EXIT_FAILED = 1


def seal_plan(plan: Plan) -> int:
    """A descriptor of the compiled plan that nobody can change any more; inheritable."""
    fd = os.memfd_create("warden-plan", os.MFD_ALLOW_SEALING)
    data = json.dumps(to_plain(plan), ensure_ascii=False).encode()
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    os.set_inheritable(fd, True)
    return fd


def open_plan(fd: int) -> Plan:
    """The plan behind `seal_plan`'s descriptor; the offset is not touched, so several may read it."""
    size = os.fstat(fd).st_size
    data = os.pread(fd, size, 0)
    plan: Plan = from_plain(Plan, json.loads(data))
    return plan


def command(name: str, fd: int, parent_pid: int) -> list[str]:
    """The command line of one module's process."""
    return [sys.executable, "-m", "agent.boot", name, str(fd), str(parent_pid)]


def _reflex() -> Make:
    from agent.reflex import Reflex

    return Reflex


def _remote() -> Make:
    from agent.remote import Remote

    return Remote


def _recorder() -> Make:
    from agent.recorder.module import Recorder

    return Recorder


def _monitor() -> Make:
    from agent.monitor.module import MonitorModule

    return MonitorModule


MAKERS: dict[str, Callable[[], Make]] = {
    "reflex": _reflex,
    "remote": _remote,
    "recorder": _recorder,
    "monitor": _monitor,
}
"""Each module imports only its own: `reflex` carries neither MQTT nor HTTP."""


def main(argv: list[str]) -> int:
    """Runs one module; the exit code. What stands in the way is one line on standard error."""
    name, fd, parent_pid = argv[0], int(argv[1]), int(argv[2])
    plan = open_plan(fd)
    os.close(fd)
    try:
        return run_module(MAKERS[name](), plan, parent_pid)
    except WardenError as error:
        sys.stderr.write(f"{name}: {error}\n")
    except OSError as error:
        sys.stderr.write(f"{name}: {error.filename or ''}: {error.strerror}\n")
    return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
