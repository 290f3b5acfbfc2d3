"""The panel's file: name → state, written whole by the person's side, read by every simulated device.

A file rather than a connection: the devices of both channels read it, none waits for it, and a person can
look at it.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from drivers.sim.state import SimState, from_json, to_json

MAX_BYTES = 1 << 18


def write(path: Path, states: Mapping[str, SimState]) -> None:
    """Replaces the file; a reader sees the old one or the new one, never half."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({name: to_json(state) for name, state in states.items()}), encoding="utf-8")
    new.replace(path)


def read(path: Path) -> dict[str, SimState]:
    """What the file says; raises ValueError for a file that is not usable, OSError where there is none."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        raw = file.read(MAX_BYTES + 1)
    if len(raw) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    try:
        told = json.loads(raw)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(told, dict):
        raise ValueError("not an object")  # noqa: TRY004 - what a file says wrongly is one kind of error
    states = {str(name): from_json(state) for name, state in told.items()}
    if not all(math.isfinite(state.value) for state in states.values()):
        raise ValueError("a value is not finite")
    return states


def stamp(path: Path) -> tuple[int, int]:
    """What changes whenever the file is replaced; (0, 0) where there is none."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_ino, found.st_mtime_ns)
