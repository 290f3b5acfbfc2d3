"""A program that answers each line with a line: the sanitized C, asked as often as a property likes."""

import subprocess
from pathlib import Path
from typing import Self


class Asked:
    """One process. Left as a context manager it must have ended well: a sanitizer's finding is not 0."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, line: str) -> str:
        """The answer; AssertionError when the process has ended (it says why on stderr)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer.endswith("\n"), f"it ended at {line!r}"
        return answer[:-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=20)
        assert self._process.returncode == 0
