"""The C reader, compiled and asked: used by tests, and by whoever wants its account of a permit."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from sdk.python.robot_warden import Verdict

ROOT = Path(__file__).parents[2]
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def build(name: str, folder: Path, *, sanitize: bool = True) -> Path:
    """Compiles `tests/sdk/<name>.c` against the header into `folder`; AssertionError with gcc's words."""
    program = folder / name
    source = Path(__file__).with_name(f"{name}.c")
    extra = SANITIZERS if sanitize else ("-O2",)
    command = ["gcc", *STRICT, *extra, f"-I{ROOT / 'sdk' / 'c'}", os.fspath(source), "-o", os.fspath(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def parse_verdict(line: str) -> tuple[int, Verdict]:
    """One line of permit_cli: its CLOCK_MONOTONIC nanoseconds and the verdict."""
    fields = {key: int(value) for key, value in (word.split("=") for word in line.split())}
    verdict = Verdict(
        may_move=bool(fields["may_move"]),
        may_power=bool(fields["may_power"]),
        speed_permille=fields["speed_permille"],
        epoch=fields["epoch"],
        response=fields["response"],
    )
    return fields["mono_ns"], verdict


class CReader:
    """`permit_cli --ask`: one process with its mappings, asked as often as one likes."""

    def __init__(self, program: Path, paths: Sequence[Path]) -> None:
        self._process = subprocess.Popen(
            [program, "--ask", *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def read(self, now_ns: int) -> Verdict:
        """The verdict at `now_ns`, which is more than 0: to the program 0 means its own clock."""
        assert now_ns > 0
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{now_ns}\n")
        self._process.stdin.flush()
        return parse_verdict(self._process.stdout.readline())[1]

    def close(self) -> None:
        """Ends it; AssertionError when a sanitizer had something to say (it says so on stderr)."""
        self._process.communicate(timeout=20)
        assert self._process.returncode == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
