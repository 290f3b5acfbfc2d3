"""A process of the rig: started, frozen, killed and ended by the one who started it, and by no name."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

END_TIMEOUT_S = 5.0
_HOME = Path(__file__).resolve().parents[1]


class Child:
    """One process and what it prints. Ends it when it is left as a context manager."""

    def __init__(self, command: Sequence[str], output: Path) -> None:
        """Starts `command` at once; stdout and stderr are appended to `output`. Raises OSError."""
        self.output = output
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(_search_path())}
        with output.open("ab") as sink:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=environment
            )

    @classmethod
    def module(cls, name: str, arguments: Sequence[str | Path], output: Path) -> "Child":
        """`python -m name` with this interpreter and these sources, whatever the current folder is."""
        return cls([sys.executable, "-m", name, *map(str, arguments)], output)

    @property
    def pid(self) -> int:
        """Of the process, also after its end."""
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """The exit code (minus the signal's number), None while it lives."""
        return self._process.poll()

    def last_words(self, lines: int = 5) -> str:
        """The end of what it printed, for an error's text."""
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-lines:])

    def freeze(self) -> None:
        """SIGSTOP: alive, and doing nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and waits for the end."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """SIGTERM, also to a frozen process; SIGKILL when it does not end in 5 s. Gives the exit code."""
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(END_TIMEOUT_S)
        self.kill()
        return self._process.returncode


def _search_path() -> list[str]:
    inherited = os.environ.get("PYTHONPATH")
    return [str(_HOME), inherited] if inherited else [str(_HOME)]
