"""What a filling disk means: one table of levels, and what is still kept at each (LOG, "Disk")."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

THIN_KEEPS_ONE_IN = 10
"""Of telemetry, while it is thinned."""
RETURN_PERMILLE = 10
"""A level is left only when so much more is free than began it: no flutter at the edge."""


@dataclass(frozen=True, slots=True)
class Level:
    """In force while less than `below_permille` of the file system is free. What it does: the two flags.

    `telemetry`: share of telemetry kept, 1 of so many, 0 none. `net`: whether network records are kept.
    """

    below_permille: int
    telemetry: int
    net: bool
    means: str


LEVELS: tuple[Level, ...] = (
    Level(1001, 1, net=True, means="room enough / 空间充足"),
    Level(200, 1, net=True, means="alarm / 告警"),
    Level(100, THIN_KEEPS_ONE_IN, net=True, means="telemetry thinned / 遥测稀疏记录"),
    Level(75, 0, net=True, means="telemetry stopped / 停止记录遥测"),
    Level(50, 0, net=True, means="no new tasks / 不再接受新任务"),
    Level(10, 0, net=False, means="reserve only: safe mode / 仅剩预留空间，进入安全模式"),
)
NO_TASKS, RESERVE_ONLY = 4, 5


def free_permille(folder: Path) -> int:
    """Of the file system behind `folder`, for ordinary users; 0 where it cannot be asked."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return 1000 * found.f_bavail // max(1, found.f_blocks)


class Space:
    """The level in force. `full` is for a write that the disk refused though the figures promised room."""

    def __init__(self, folder: Path, *, free: Callable[[Path], int] = free_permille) -> None:
        self.level = 0
        self.permille = 1000
        self._folder = folder
        self._free = free
        self._telemetry = 0

    def look(self, *, full: bool = False) -> bool:
        """Asks the file system; True when the level changed."""
        self.permille = self._free(self._folder)
        wanted = RESERVE_ONLY if full else self._level(self.permille)
        if wanted < self.level:
            # Leaving takes a little more room than entering took.
            wanted = max(wanted, self._level(self.permille - RETURN_PERMILLE))
        changed, self.level = wanted != self.level, wanted
        return changed

    @staticmethod
    def _level(permille: int) -> int:
        return max(n for n, level in enumerate(LEVELS) if permille < level.below_permille or n == 0)

    def admits(self, stream: str) -> bool:
        """Whether a record of this stream is kept now; `safety` always is."""
        level = LEVELS[self.level]
        if stream == "net":
            return level.net
        if stream != "tele":
            return True
        self._telemetry += 1
        return level.telemetry > 0 and self._telemetry % level.telemetry == 0
