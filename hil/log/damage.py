"""Segments, ledger and state exchanged or taken away while no recorder runs; and what is no damage at all."""

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from agent.logformat.layout import LEDGER_FILE
from hil.log.judge import Case, code_of, judge, read
from hil.log.owner import new_owner
from hil.log.specimen import Specimen, gone_on, line_ends, make, segments_of
from hil.log.trial import (
    CLEANLY,
    FOUND,
    FOUND_OR_TORN,
    REPAIRED,
    UNSEALED,
    Ground,
    Tally,
    finish,
)


def substituted(ground: Ground) -> Tally:
    """Each segment by one of the same robot's other log, of another robot's, and by its own earlier self."""
    tally, specimen = Tally(), make(ground)
    other, robot = make(ground, "other"), make(ground, "robot", new_owner("rw-else"))
    for path in segments_of(specimen.closed):
        name = path.relative_to(specimen.closed)
        for source in (other.closed, robot.closed, specimen.killed):
            if (source / name).exists() and (source / name).read_bytes() != path.read_bytes():
                _exchange(specimen, tally, partial(_take, source, (str(name),)), name)
    return tally


def swapped(ground: Ground) -> Tally:
    """Every two segments, of one stream and across streams."""
    tally, specimen = Tally(), make(ground)
    names = [path.relative_to(specimen.closed) for path in segments_of(specimen.closed)]
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            _exchange(specimen, tally, partial(_swap, first, second), first)
    return tally


def _swap(first: Path, second: Path, folder: Path) -> None:
    beside = folder / "beside"
    (folder / first).rename(beside)
    (folder / second).rename(folder / first)
    beside.rename(folder / second)


def _exchange(specimen: Specimen, tally: Tally, change: Callable[[Path], object], what: object) -> None:
    specimen.ground.advance(1)
    tally.begin()
    case = specimen.copy()
    change(case.folder)
    tally.see(code_of(case)[0], FOUND, str(what))
    gone_on(specimen, case, tally, FOUND, str(what))


def state_rolled_back(ground: Ground) -> Tally:
    """To what it was after each earlier entry: the ledger is broken off."""
    tally, specimen = Tally(), make(ground)
    for n, state in ground.some(list(enumerate(specimen.states[:-1]))):
        tally.begin()
        case = specimen.copy()
        (case.folder / "state").write_bytes(state)
        tally.see(code_of(case)[0], CLEANLY, f"state after entry {n}")
        gone_on(specimen, case, tally, FOUND, f"state after entry {n}")
    return tally


def forked(ground: Ground) -> Tally:
    """Ledger and state taken back together to each earlier entry, then gone on with: the witness knows."""
    tally, specimen = Tally(), make(ground)
    ends = list(line_ends(specimen.closed / LEDGER_FILE))
    for n, end in ground.some(list(enumerate(ends[:-1]))):
        tally.begin()
        case = specimen.copy()
        os.truncate(case.folder / LEDGER_FILE, end)
        (case.folder / "state").write_bytes(specimen.states[n])
        tally.see(code_of(case)[0], FOUND, f"forked after entry {n}")
        gone_on(specimen, case, tally, FOUND, f"forked after entry {n}")
    return tally


def replayed(ground: Ground) -> Tally:
    """The ledger, it and the state, or the whole folder of another robot, or of this one's other log."""
    tally, specimen = Tally(), make(ground)
    for source in (make(ground, "other"), make(ground, "robot", new_owner("rw-else"))):
        for names in ((LEDGER_FILE,), (LEDGER_FILE, "state", "state.key")):
            _exchange(specimen, tally, partial(_take, source.closed, names), names)
        ground.advance(1)
        tally.begin()
        case = specimen.copy()
        shutil.rmtree(case.folder)
        shutil.copytree(source.closed, case.folder)
        tally.see(code_of(case)[0], FOUND, "another log altogether")
        tally.end(judge(case, specimen.modules.acknowledged), FOUND, "another log altogether")
    return tally


def _take(source: Path, names: tuple[str, ...], folder: Path) -> None:
    for name in names:
        shutil.copy(source / name, folder / name)


def removed(ground: Ground) -> Tally:
    """Each segment in turn: incomplete, and still so after the recorder went on."""
    tally, specimen = Tally(), make(ground)
    for path in segments_of(specimen.closed):
        ground.advance(1)
        tally.begin()
        case, name = specimen.copy(), path.relative_to(specimen.closed)
        (case.folder / name).unlink()
        tally.see(code_of(case)[0], UNSEALED, str(name))
        gone_on(specimen, case, tally, FOUND_OR_TORN, str(name))
    return tally


# ---- no damage, and yet not everything


def unsealed(ground: Ground) -> Tally:
    """As kill -9 left it: incomplete; never clean, and explained once the recorder came again."""
    tally, specimen = Tally(), make(ground)
    ground.advance(1)
    tally.begin()
    case = specimen.copy(specimen.killed)
    tally.see(code_of(case)[0], UNSEALED, "unsealed")
    gone_on(specimen, case, tally, REPAIRED, "unsealed")
    return tally


def wrong_key(ground: Ground) -> Tally:
    """Another recipient's key reads nothing, and verify needs none."""
    tally, specimen = Tally(), make(ground)
    stranger = new_owner(ground.owner.robot)
    ground.advance(1)
    tally.begin()
    case = specimen.copy()
    tally.see(code_of(case)[0], CLEANLY, "no key")
    opened = read(Case(case.folder, stranger, case.genesis))
    if opened:
        tally.fail(f"{len(opened)} records read with a stranger's key")
    tally.end(finish(ground, case, specimen.modules.copy()), CLEANLY, "the right key")
    return tally
