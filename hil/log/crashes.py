"""A recorder that ends anywhere: kill -9 at random moments and calls, power cuts, torn writes."""

import time
from collections.abc import Callable
from pathlib import Path

from hil.log.judge import judge
from hil.log.life import CUT, KILL, Fault
from hil.log.trial import CRASHED, REPAIRED, Ground, Modules, Tally, finish, try_crash

LIVES_OF_A_FOLDER = 25
"""Restarts on the same folder, each of which may be killed in the middle of the repair of the last."""
BATCHES_OF_A_LIFE = 12
MOST_LIVES = 100
"""Of a folder, however few of them are killed: its ledger is verified after each."""
MOST_CALLS = 260
"""Of a random call: about as many as such a life makes."""
MOST_PART = 700
"""Bytes of a torn write: frames and lines are shorter."""
BATCHES_OF_A_TEAR = 6
MOST_PARTS = 1_024
"""Of one write; only those of zeros are longer."""


def killed_at_moments(ground: Ground) -> Tally:
    """Kill -9 from outside, after a random time, at most what a life takes here and now."""
    folder, modules = ground.fresh(), Modules(1)
    ground.live(folder, modules, BATCHES_OF_A_LIFE, Fault())
    begun_s = time.monotonic()
    ground.live(folder, modules, 2 * BATCHES_OF_A_LIFE, Fault())
    longest_s = time.monotonic() - begun_s
    return _killed(ground, lambda: Fault(after_s=ground.dice.uniform(0.0, longest_s)))


def killed_at_calls(ground: Ground) -> Tally:
    """Kill -9 in a random call that changes the disk, a write torn after a random number of bytes."""

    def fault() -> Fault:
        part = ground.dice.randrange(-1, MOST_PART)
        return Fault(KILL, ground.dice.randint(1, MOST_CALLS), part=part)

    return _killed(ground, fault)


def power_cuts(ground: Ground) -> Tally:
    """The same, and what was not synced is lost, or some of it."""

    def fault() -> Fault:
        dice = ground.dice
        part = dice.randrange(-1, MOST_PART)
        return Fault(CUT, dice.randint(1, MOST_CALLS), part=part, dice=dice.randrange(1, 1 << 30))

    return _killed(ground, fault)


def _killed(ground: Ground, fault: Callable[[], Fault]) -> Tally:
    """As many kills as are asked for; a life that ended in order before its kill came is none."""
    tally = Tally()
    while tally.tries < ground.lives:
        folder, modules = ground.fresh(), Modules(ground.dice.randrange(1 << 30))
        wanted = min(tally.tries + LIVES_OF_A_FOLDER, ground.lives)
        for _ in range(MOST_LIVES):
            if tally.tries < wanted:
                _life(ground, folder, modules, fault(), tally)
        with tally.surviving(f"seed {modules.seed}"):
            judged = finish(ground, ground.case(folder, modules), modules)
            tally.end(judged, REPAIRED, f"seed {modules.seed}, up to kill {tally.tries}")
    return tally


def _life(ground: Ground, folder: Path, modules: Modules, fault: Fault, tally: Tally) -> None:
    """One that may end anywhere; what was acknowledged is there at once, before any repair."""
    if ground.met(folder, modules, modules.next + BATCHES_OF_A_LIFE, fault):
        tally.begin()
        ground.advance(1)
    if not modules.genesis:
        return
    what = f"seed {modules.seed}, {fault}"
    case = ground.case(folder, modules)
    judged = judge(case, modules.acknowledged)
    tally.see(judged.code, CRASHED, f"{what} {dict(judged.kinds)}")
    tally.mourn(judged, what)


# ---- torn at every byte


def torn(ground: Ground, ends: tuple[str, ...]) -> Tally:
    """Every write to files of these names, ended after each number of its bytes, 0 and all included."""
    tally, seed = Tally(), ground.dice.randrange(1 << 30)
    cuts = [
        (call, part)
        for call, size, path in _writes(ground, seed)
        if any(path.endswith(end) for end in ends)
        for part in _parts(size)
    ]
    for call, part in ground.some(cuts):
        folder, modules = ground.fresh(), Modules(seed)
        what = f"seed {seed}, call {call} after {part} bytes"
        if not ground.met(folder, modules, BATCHES_OF_A_TEAR, Fault(KILL, call, part=part)):
            tally.fail(f"{what}: the kill never came")
        try_crash(ground, folder, modules, tally, what)
    return tally


def _parts(size: int) -> range:
    """Of a write of zeros, where every byte is like the next, some."""
    return range(0, size + 1, max(1, size // MOST_PARTS))


def _writes(ground: Ground, seed: int) -> list[tuple[int, int, str]]:
    """(call, bytes, path) of every write of a life without a fault."""
    told = ground.tell(ground.fresh(), Modules(seed), BATCHES_OF_A_TEAR, Fault(trace=True))
    return [(int(words[1]), int(words[2]), words[3]) for words in told if words[0] == "write"]
