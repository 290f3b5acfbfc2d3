"""A module frozen (SIGSTOP) -> the robot's own reader (sdk/c) no longer permits motion.

No reference: nothing but the permit's own deadline ends it, at the latest `ttl` after its last renewal.
"""

import os
import random
import signal
import time

from hil.bench.figures import WORST, Figure
from hil.bench.rig import REFLEX_PRIORITY, Rig, sharp
from hil.bench.samples import OURS, SEED, TICK_S, Bound, Leg, Samples, Watch

LOOK_US = 200
_TTL = Figure(at_most_ns={WORST: 120_000_000})
"""DESIGN: ttl (100 ms) and one cycle of the robot (20 ms)."""
LEGS = (
    Leg("reflex", "冻结 reflex", "reflex frozen, robot may not move", _TTL),
    Leg("remote", "冻结 remote", "remote frozen, robot may not move", _TTL),
)


def measure(rig: Rig, bound: Bound, samples: Samples) -> None:
    """One module and the other in turn; each is thawed again, and a guardian resumes."""
    chance = random.Random(SEED)
    with rig.program("watch", REFLEX_PRIORITY, *rig.site.permits) as program:
        watch = Watch(program)
        for _ in bound.turns():
            for leg, pid in (("reflex", rig.site.pid("reflex")), ("remote", rig.remote_pid)):
                rig.bring_up()
                time.sleep(chance.uniform(0, TICK_S))
                watch.arm(look_us=LOOK_US)
                samples.add_seen(leg, OURS, *_freeze(pid, watch))
            samples.on_sample()


def _freeze(pid: int, watch: Watch) -> tuple[int, int | None]:
    with sharp(REFLEX_PRIORITY - 1):
        sent_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGSTOP)
    try:
        return sent_ns, watch.seen_ns()
    finally:
        os.kill(pid, signal.SIGCONT)
