"""A disk that refuses, at every call there is, below Python: once, for a while, for good."""

import errno
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hil.log.life import CUT, FAIL, FOREVER, KILL, Fault
from hil.log.trial import CRASHED, REPAIRED, Ground, Modules, Tally, try_crash

BATCHES = 8
START_TORN = 90
"""Call at which the life before ended, so that the faults meet its repair too."""
AFTER_THAT = 4
"""Batches."""
PART = 60
"""Bytes that a failing write still does: less than any frame."""
SHORT = (1, 7, 100, 1_000)
TIMES = 40
"""Random calls for each size of a short write, and each way to end."""
MODES = (
    Fault(FAIL, times=1),
    Fault(FAIL, times=3, part=PART),
    Fault(FAIL, times=FOREVER),
)
"""A passing refusal, one that tears three times, and one that does not end while this recorder lives."""


def full(ground: Ground) -> Tally:
    """ENOSPC."""
    return _refused(ground, [replace(mode, code=errno.ENOSPC) for mode in MODES], REPAIRED)


def failing(ground: Ground) -> Tally:
    """EIO; a sync that fails so loses what was written since the last, as the kernel may (fsync(2)).

    A segment whose repair met it may stay without its seal, all its records in it: incomplete is true then.
    """
    return _refused(ground, [replace(mode, code=errno.EIO, lossy=True) for mode in MODES], CRASHED)


def short(ground: Ground) -> Tally:
    """Every write does at most so many bytes; and killed or cut off in any of the many calls of that."""
    tally, seed = Tally(), ground.dice.randrange(1 << 30)
    for fault in ground.some([fault for size in SHORT for fault in _shorts(ground, seed, size)]):
        folder, modules = ground.fresh(), Modules(seed)
        ground.live(folder, modules, BATCHES, fault)
        try_crash(ground, folder, modules, tally, f"seed {seed}, {fault}")
    return tally


def _shorts(ground: Ground, seed: int, size: int) -> list[Fault]:
    modules, dice = Modules(seed), ground.dice
    ground.live(ground.fresh(), modules, BATCHES, Fault(short=size))
    calls = [(how, dice.randint(1, modules.calls)) for how in (KILL, CUT) for _ in range(TIMES)]
    ends = [Fault(how, at, short=size, dice=dice.randrange(1, 1 << 20)) for how, at in calls]
    return [Fault(short=size), *ends]


def _refused(ground: Ground, faults: list[Fault], true: frozenset[int]) -> Tally:
    """From a fresh folder, and from one that a killed recorder left; every call of the life in turn."""
    tally, seed = Tally(), ground.dice.randrange(1 << 30)
    torn = _torn(ground, seed)
    starts: list[Callable[[Path], Modules]] = [
        lambda _: Modules(seed),
        lambda folder: _copied(torn, folder),
    ]
    for start in starts:
        calls = _calls(ground, start)
        points = [(fault, at) for fault in faults for at in range(1, calls + 1)]
        for fault, at in ground.some(points):
            folder = ground.fresh()
            modules = start(folder)
            what = f"seed {seed}, call {at}, {fault}"
            if not ground.met(folder, modules, BATCHES, replace(fault, at=at)):
                tally.fail(f"{what}: the fault never came")
            try_crash(ground, folder, modules, tally, what, true)
    return tally


def _torn(ground: Ground, seed: int) -> tuple[Path, Modules]:
    folder, modules = ground.fresh("torn"), Modules(seed)
    ground.live(folder, modules, AFTER_THAT, Fault(KILL, START_TORN, part=PART))
    return folder, modules


def _copied(torn: tuple[Path, Modules], folder: Path) -> Modules:
    shutil.copytree(torn[0], folder)
    return torn[1].copy()


def _calls(ground: Ground, start: Callable[[Path], Modules]) -> int:
    """How many calls a life without a fault makes; after them no fault can come."""
    folder = ground.fresh()
    modules = start(folder)
    ground.live(folder, modules, BATCHES, Fault())
    return modules.calls
