"""The panel's file: name → state, written whole by the person's side, read by every simulated device.

A file rather than a connection: the devices of both channels read it, none waits for it, and a person can
look at it. Each time it is replaced is a word of the panel, whether or not it says anything new: a panel that
died leaves a file behind, and what it last said must not be believed for ever.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from drivers.sim.state import SimState, from_json, to_json

MAX_BYTES = 1 << 18
BEAT_S: Final = 0.2
"""How often the person's side writes it: five words within the default `stale_ms`."""
GONE: Final = (0, 0)
"""The stamp of a file that is not there."""


def write(path: Path, states: Mapping[str, SimState]) -> None:
    """Replaces the file; a reader sees the old one or the new one, never half."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps({name: to_json(state) for name, state in states.items()}), encoding="utf-8")
    # The kernel's own times move by ticks of some milliseconds: two words within one would have one stamp.
    now_ns = time.time_ns()
    os.utime(new, ns=(now_ns, now_ns))
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
    """What changes whenever the file is replaced; `GONE` where there is none."""
    try:
        found = path.stat()
    except OSError:
        return GONE
    return (found.st_ino, found.st_mtime_ns)
