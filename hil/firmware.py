"""The reference firmware of the safety node, built for this machine and run as a process (`hil/firmware/`).

The second implementation of PROTOCOL 4's node, in C, beside the simulator in `hil.node`. Both take the same
orders, so whatever is written for `NodeProcess` runs against either:

    with FirmwareProcess(folder) as node:
        node.control.press("estop")

    python -m hil.firmware FOLDER        # builds `FOLDER/node` and prints its path
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from agent.errors import WardenError
from hil.child import Child
from hil.node_control import NodeError, NodeProcess

SOURCES = Path(__file__).with_name("firmware")
LOGIC = SOURCES / "node.c"
"""What a microcontroller is given; all else is the host's and the rig's."""
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wvla", "-Werror", "-pedantic")
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


class FirmwareError(WardenError):
    """The firmware cannot be built. `made`: the file that was asked for; `reason`: the compiler's words."""

    def __init__(self, made: Path, reason: str) -> None:
        super().__init__(f"{made}: {reason}")
        self.made = made
        self.reason = reason


def host_sources() -> list[Path]:
    """Every C file of the program for this machine."""
    return [*sorted(SOURCES.glob("*.c")), *sorted(SOURCES.glob("rig/*.c"))]


def compile_c(made: Path, sources: Sequence[Path], *flags: str) -> Path:
    """Compiles `sources` into `made`, every warning an error. Raises FirmwareError."""
    command = ["gcc", *STRICT, *flags, f"-I{SOURCES}", *map(str, sources), "-o", str(made)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise FirmwareError(made, f"gcc: {error.strerror}") from error
    if done.returncode != 0:
        raise FirmwareError(made, done.stderr.strip())
    return made


def build(folder: Path, *, sanitize: bool = False) -> Path:
    """The node's program in `folder`, compiled unless a newer one than its sources is there already.

    `sanitize`: with the address and undefined-behaviour sanitisers, which end it at the first finding.
    Raises FirmwareError.
    """
    made = folder / ("node-sanitized" if sanitize else "node")
    if not _is_newer(made, [*SOURCES.rglob("*.c"), *SOURCES.rglob("*.h")]):
        compile_c(made, host_sources(), "-O2", *(SANITIZERS if sanitize else ()))
    return made


def _is_newer(made: Path, sources: Sequence[Path]) -> bool:
    return made.exists() and all(made.stat().st_mtime_ns > source.stat().st_mtime_ns for source in sources)


class FirmwareProcess(NodeProcess):
    """The firmware in `folder`; in all else a `NodeProcess`."""

    def __init__(
        self,
        folder: Path,
        inputs: str = "estop,bumper",
        *,
        link: Path | None = None,
        program: Path | None = None,
    ) -> None:
        """`program`: what `build` made; without it, it is built in `folder` at the start."""
        super().__init__(folder, inputs, link=link)
        self._folder = folder
        self._program = program

    def start(self) -> Self:
        """As `NodeProcess.start`; raises FirmwareError too where there is no program yet."""
        program = self._program or build(self._folder)
        arguments = ("--link", self.link, "--control", self.control.path, "--inputs", self._inputs)
        command = [program, *arguments, "--report", self.report]
        self.process = Child([str(word) for word in command], self._output)
        try:
            self._until(self._answers)
        except NodeError:
            self.process.stop()
            raise
        return self


def main(words: Sequence[str] | None = None) -> int:
    """Exit code: 0 built, 1 not (one line on stderr and the compiler's own words), 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m hil.firmware", description="Builds the reference firmware."
    )
    parser.add_argument("folder", type=Path, help="where the program is to be; made if it is not there")
    parser.add_argument("--sanitize", action="store_true", help="with gcc's sanitisers")
    arguments = parser.parse_args(words)
    try:
        arguments.folder.mkdir(parents=True, exist_ok=True)
        print(build(arguments.folder, sanitize=arguments.sanitize))
    except (FirmwareError, OSError) as error:
        print(f"firmware: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
