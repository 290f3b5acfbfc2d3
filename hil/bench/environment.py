"""What was measured on what: stands beside every figure, since none means anything without it."""

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from hil.broker import find_mosquitto


def environment() -> dict[str, object]:
    """The machine and its software; the load is told apart, for each measurement."""
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "cpu": _after("model name", Path("/proc/cpuinfo")) or platform.machine(),
        "cores": os.cpu_count(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "clock_source": _text(Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        "python": platform.python_version(),
        "gcc": _first_line("gcc", "--version"),
        "mosquitto": _first_line(find_mosquitto() or "mosquitto", "-h"),
    }


def load_average() -> tuple[float, float, float]:
    """Over 1, 5 and 15 minutes: whatever else this machine does counts too."""
    return os.getloadavg()


def granted_words(granted: Mapping[str, Mapping[str, bool]]) -> str:
    """`all: SCHED_FIFO, locked memory`, or who goes without."""
    missing = [
        f"{name} without {what}"
        for name, kinds in granted.items()
        for kind, what in (("fifo", "SCHED_FIFO"), ("locked", "locked memory"))
        if not kinds.get(kind)
    ]
    return "; ".join(missing) or "SCHED_FIFO and locked memory granted to all / 实时调度与内存锁定均已获得"


def _first_line(program: str, argument: str) -> str:
    if shutil.which(program) is None:
        return ""
    done = subprocess.run([program, argument], capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).partition("\n")[0].strip()


def _after(key: str, path: Path) -> str:
    found = (line.partition(":")[2].strip() for line in _text(path).splitlines() if line.startswith(key))
    return next(found, "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
