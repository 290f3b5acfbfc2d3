"""Recorders by the thousand, each a real process: one Python, with `faulty.c` below it, forks them.

Started once: imports take a second, a fork a millisecond. The forking process is the one that kills, by the
descriptor of its own child, so that no other process is ever meant.
"""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.errors import WardenError
from hil.log.life import Order, live

SOURCE = Path(__file__).parent / "faulty.c"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2", "-shared", "-fPIC")
LONGEST_S = 60.0
"""No life takes longer; one that does is ended and reported."""
FAULT = 3
"""Exit code of a life that ended with an exception."""


class NurseryError(WardenError):
    """The library could not be compiled, or a life ended as none should. `reason`: in words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def compile_library(folder: Path) -> Path:
    """`faulty.so` in `folder`; NurseryError with gcc's words."""
    made = folder / "faulty.so"
    command = ["gcc", *STRICT, str(SOURCE), "-o", str(made)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NurseryError(f"gcc: {error.strerror}") from error
    if done.returncode:
        raise NurseryError(done.stderr.strip())
    return made


class Nursery:
    """A context manager. `live` is one life from beginning to end."""

    def __init__(self, folder: Path) -> None:
        """`folder`: for the compiled library. Raises NurseryError."""
        environment = {**os.environ, "LD_PRELOAD": str(compile_library(folder))}
        command = [sys.executable, "-m", "hil.log.nursery"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment)

    def live(self, order: Order) -> Iterator[list[str]]:
        """The words of each line it told; NurseryError for a life that broke or hung."""
        given, told = self._process.stdin, self._process.stdout
        if given is None or told is None:
            raise NurseryError("closed")
        given.write(order.line())
        given.flush()
        for line in told:
            words = line.decode().split()
            if words[:1] == ["done"]:
                if words[1] not in ("0", str(-signal.SIGKILL)):
                    raise NurseryError(f"a life ended with {words[1]}: {order}")
                return
            yield words
        raise NurseryError("the forking process ended")

    def close(self) -> None:
        """Ends it by the end of its input; idempotent."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# ---- the forking process


def main() -> None:
    """An order a line on standard input; what the life tells, then `done <exit code>`, on standard output."""
    for line in sys.stdin.buffer:
        order = Order.parse(line)
        pid = os.fork()
        if pid == 0:
            _child(order)
        code = _end_of(pid, order.fault.after_s)
        os.write(1, f"done {code}\n".encode())


def _child(order: Order) -> None:
    code = FAULT
    try:
        live(order, 1)
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
        os._exit(code)


def _end_of(pid: int, after_s: float) -> int:
    """Exit code, negative for a signal; killed after that time if it is one."""
    descriptor = os.pidfd_open(pid)
    try:
        limit_s = after_s if after_s >= 0 else LONGEST_S
        ended, _, _ = select.select([descriptor], [], [], limit_s)
        if not ended:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(descriptor)
    return FAULT if not ended and after_s < 0 else code


if __name__ == "__main__":
    main()
