"""One C program at work: lines to it, lines from it, and its end by its own process id."""

import os
import select
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from agent.errors import WardenError

START_S = 10.0
END_S = 2.0


class ProgramError(WardenError):
    """A program ended, said nothing in time, or said something else. `program`; `reason`."""

    def __init__(self, program: str, reason: str) -> None:
        super().__init__(f"{program}: {reason}")
        self.program = program
        self.reason = reason


class Program:
    """Started at once; ended when left as a context manager. Its first line is `ready fifo=F locked=L`."""

    def __init__(self, path: Path, *arguments: str | Path | int) -> None:
        """Returns when it is ready; raises ProgramError (what it says on stderr is in its text)."""
        self.name = path.name
        command: Sequence[str] = [str(path), *map(str, arguments)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
        self._kept = b""
        try:
            words = self.expect("ready", START_S)
        except ProgramError:
            self.stop()
            raise
        self.granted = {key: value == "1" for key, value in (word.split("=") for word in words)}
        """`fifo` and `locked`: whether it has the real-time class and locked memory."""

    def say(self, line: str) -> None:
        """One line to it. Raises ProgramError when it has ended."""
        try:
            os.write(self._fd(self._process.stdin), f"{line}\n".encode())
        except BrokenPipeError as error:
            raise ProgramError(self.name, f"ended: {self._last_words()}") from error

    def hear(self, timeout_s: float) -> list[str]:
        """The words of its next line; none when it says nothing in time. Raises ProgramError at its end."""
        give_up_s = time.monotonic() + timeout_s
        out = self._fd(self._process.stdout)
        while b"\n" not in self._kept:
            left_s = give_up_s - time.monotonic()
            if left_s <= 0 or not select.select([out], [], [], left_s)[0]:
                return []
            data = os.read(out, 4096)
            if not data:
                raise ProgramError(self.name, f"ended: {self._last_words()}")
            self._kept += data
        line, _, self._kept = self._kept.partition(b"\n")
        return line.decode().split()

    def expect(self, word: str, timeout_s: float) -> list[str]:
        """What follows `word` on its next line. Raises ProgramError for anything else, and for silence."""
        words = self.hear(timeout_s)
        if words[:1] != [word]:
            raise ProgramError(self.name, f"said {' '.join(words) or 'nothing'!r}, not {word!r}")
        return words[1:]

    def stop(self) -> None:
        """By the end of its input, else by SIGKILL; idempotent."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _fd(self, pipe: object) -> int:
        return int(pipe.fileno())  # type: ignore[attr-defined]

    def _last_words(self) -> str:
        if self._process.stderr is None:
            return ""
        self._process.wait(END_S)
        return self._process.stderr.read().decode(errors="replace").strip()
