"""A disk that refuses, at every call there is, below Python: once, for a while, for good."""

import errno
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hil.log.judge import code_of
from hil.log.life import CUT, FAIL, FOREVER, KILL, Fault
from hil.log.nursery import NurseryError
from hil.log.trial import Ground, Modules, Tally, try_crash

Start = Callable[[Path], Modules]
"""Makes a log at that path, and tells what its modules know."""
BATCHES = 8
START_TORN = 90
"""Call at which the life before ended, so that the faults meet its repair too."""
PASSING, MOST_CALLS = 9, 400
"""Failures in a row after which a segment has been given up, and the next can be written."""
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
LANDED = [Fault(FAIL, times=times, part=FOREVER, code=errno.EIO) for times in (1, 3, 5, 9, FOREVER)]
"""What was called a failure, and is on the disk all the same; but for cuts, names and new files."""


def full(ground: Ground) -> Tally:
    """ENOSPC."""
    return _refused(ground, [replace(mode, code=errno.ENOSPC) for mode in MODES])


def failing(ground: Ground) -> Tally:
    """EIO; a sync that fails so loses what was written since the last, as the kernel may (fsync(2))."""
    return _refused(ground, [replace(mode, code=errno.EIO, lossy=True) for mode in MODES])


def landed(ground: Ground) -> Tally:
    """EIO for what was written nevertheless."""
    return _refused(ground, LANDED)


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


def late(ground: Ground) -> Tally:
    """Killed, or cut off, in any call of a start that ends what an earlier recorder passed over."""
    tally, seed = Tally(), ground.dice.randrange(1 << 30)
    passed, dice = _passed_over(ground, seed), ground.dice.randrange(1, 1 << 20)
    _every_call(
        ground, tally, seed, [lambda folder: _copied(passed, folder)], [Fault(KILL), Fault(CUT, dice=dice)]
    )
    return tally


def _refused(ground: Ground, faults: list[Fault]) -> Tally:
    """In a fresh folder, in what a killed recorder left, in what failures left."""
    tally, seed = Tally(), ground.dice.randrange(1 << 30)
    torn, passed = _torn(ground, seed), _passed_over(ground, seed)
    starts: list[Start] = [
        lambda _: Modules(seed),
        lambda folder: _copied(torn, folder),
        lambda folder: _copied(passed, folder),
    ]
    _every_call(ground, tally, seed, starts, faults)
    return tally


def _every_call(ground: Ground, tally: Tally, seed: int, starts: list[Start], faults: list[Fault]) -> None:
    """Each fault in each call of a life, in turn."""
    for start in starts:
        calls = _calls(ground, start)
        points = [(fault, at) for fault in faults for at in range(1, calls + 1)]
        for fault, at in ground.some(points):
            folder = ground.fresh()
            modules = start(folder)
            what = f"seed {seed}, call {at}, {fault}"
            if not ground.met(folder, modules, BATCHES, replace(fault, at=at)):
                tally.fail(f"{what}: the fault never came")
            try_crash(ground, folder, modules, tally, what)


def _torn(ground: Ground, seed: int) -> tuple[Path, Modules]:
    folder, modules = ground.fresh("torn"), Modules(seed)
    ground.live(folder, modules, AFTER_THAT, Fault(KILL, START_TORN, part=PART))
    return folder, modules


def _passed_over(ground: Ground, seed: int) -> tuple[Path, Modules]:
    """What a recorder left that ended in order, having passed over a segment that it could not end."""
    for at in range(1, MOST_CALLS):
        folder, modules = ground.fresh("passed"), Modules(seed)
        ground.live(folder, modules, AFTER_THAT, replace(LANDED[0], at=at, times=PASSING))
        if modules.ended and "untold" in code_of(ground.case(folder, modules))[1]:
            return folder, modules
    raise NurseryError("no run of failures leaves a segment without its end")


def _copied(torn: tuple[Path, Modules], folder: Path) -> Modules:
    shutil.copytree(torn[0], folder)
    return torn[1].copy()


def _calls(ground: Ground, start: Start) -> int:
    """How many calls a life without a fault makes; after them no fault can come."""
    folder = ground.fresh()
    modules = start(folder)
    ground.live(folder, modules, BATCHES, Fault())
    return modules.calls
