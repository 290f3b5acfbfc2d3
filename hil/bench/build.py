"""The C programs of the benchmark, compiled as strictly as the robot's own reader."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from agent.errors import WardenError

SOURCES = Path(__file__).parent
SDK = SOURCES.parents[1] / "sdk" / "c"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2")
LIBRARIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "node": (),
        "estop_ref": (),
        "mqtt_ref": ("-lmosquitto",),
        "peer_ref": (),
        "watch": (),
        "burn": (),
    }
)
"""Every program and what it is linked with."""


class BuildError(WardenError):
    """A program could not be compiled. `program`; `reason`: gcc's words."""

    def __init__(self, program: str, reason: str) -> None:
        super().__init__(f"{program}.c: {reason}")
        self.program = program
        self.reason = reason


def build(name: str, folder: Path) -> Path:
    """Compiles one row of `LIBRARIES` into `folder`. Raises BuildError."""
    made = folder / name
    command = ["gcc", *STRICT, f"-I{SDK}", str(SOURCES / f"{name}.c"), "-o", str(made), *LIBRARIES[name]]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(name, f"gcc: {error.strerror}") from error
    if done.returncode != 0:
        raise BuildError(name, done.stderr.strip())
    return made


def build_all(folder: Path) -> dict[str, Path]:
    """Every program that can be had here: without libmosquitto there is no `mqtt_ref`. Raises BuildError."""
    names = [name for name in LIBRARIES if name != "mqtt_ref" or has_libmosquitto()]
    return {name: build(name, folder) for name in names}


def has_libmosquitto() -> bool:
    """Whether its header is where gcc looks."""
    command = ["gcc", "-E", "-x", "c", "-"]
    try:
        done = subprocess.run(command, input=b"#include <mosquitto.h>\n", capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0
