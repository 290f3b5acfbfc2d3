"""`remote` killed (SIGKILL) -> `reflex` has withdrawn its permit.

Two references, both pidfd and epoll: on a small child of its own, killed in turn with ours; and on `remote`
itself in the very same kill. The kernel takes a process's memory down before it closes its connections, so
the first one shows what a heavier process costs, the second what the end of a connection costs.
"""

import os
import random
import signal
import subprocess
import time
from contextlib import ExitStack

from hil.bench.figures import Figure
from hil.bench.rig import REFLEX_PRIORITY, Rig, end_process, sharp
from hil.bench.samples import OURS, REFERENCE, SEED, TICK_S, Bound, Leg, Samples, Watch

LEGS = (
    Leg("withdrawn", "许可撤回", "permit withdrawn; C: a child of its own", Figure(ratio={"p50": 1.5})),
    Leg("same", "同一进程", "permit withdrawn; C: the same process"),
)
CHILD = ("sleep", "600")


def measure(rig: Rig, bound: Bound, samples: Samples) -> None:
    """Each sample needs `remote` back and a resume: a good part of a second."""
    chance = random.Random(SEED)
    with ExitStack() as stack:
        reference = stack.enter_context(
            rig.program("peer_ref", rig.permit("peer_ref"), REFLEX_PRIORITY)
        )
        permits = rig.site.permits[0], rig.permit("peer_ref")
        watches = [
            Watch(stack.enter_context(rig.program("watch", REFLEX_PRIORITY, permit))) for permit in permits
        ]
        for _ in bound.turns():
            rig.bring_up()
            reference.say(str(rig.remote_pid))
            reference.expect("watching", 5)
            time.sleep(chance.uniform(0, TICK_S))
            seen = _kill(rig.remote_pid, watches)
            samples.add_seen("withdrawn", OURS, *seen[0])
            samples.add_seen("same", OURS, *seen[0])
            samples.add_seen("same", REFERENCE, *seen[1])
            rig.end_remote()
            child = subprocess.Popen(CHILD)
            stack.callback(end_process, child)
            reference.say(str(child.pid))
            reference.expect("watching", 5)
            samples.add_seen("withdrawn", REFERENCE, *_kill(child.pid, watches[1:])[0])
            end_process(child)
            rig.start_remote()
            samples.on_sample()


def _kill(pid: int, watches: list[Watch]) -> list[tuple[int, int | None]]:
    """(when it was killed, when that was seen) by each watch."""
    for watch in watches:
        watch.arm(0)
    with sharp(REFLEX_PRIORITY - 1):
        sent_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
    return [(sent_ns, watch.seen_ns()) for watch in watches]
