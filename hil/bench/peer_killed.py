"""`remote` killed (SIGKILL) -> `reflex` has withdrawn its permit.

Two references, both C on pidfd and epoll: on `remote` itself in the very same kill, and on a small child,
killed in turn with it. The kernel takes a process's memory down before it closes its connections and tells its
pidfd, so the second shows what the size of a process costs, whoever waits for its end.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from hil.bench.figures import Figure
from hil.bench.program import Program
from hil.bench.rig import REFLEX_PRIORITY, Rig, end_process, sharp
from hil.bench.samples import OURS, REFERENCE, SEED, TICK_S, Bound, Leg, Samples, Watch

LEGS = (
    Leg("same", "许可撤回（C: 同一进程）", "permit withdrawn; C: same process", Figure(ratio={"p50": 1.5})),
    Leg("child", "许可撤回（C: 小进程）", "permit withdrawn; C: a small child"),
)
CHILD = ("sleep", "600")
ANSWER_S = 5.0


def measure(rig: Rig, bound: Bound, samples: Samples) -> None:
    """Each sample needs `remote` back and a resume: a good part of a second."""
    chance = random.Random(SEED)
    with ExitStack() as stack:
        permits = rig.site.permits[0], rig.permit("peer_ref")
        reference = stack.enter_context(rig.program("peer_ref", permits[1], REFLEX_PRIORITY))
        watches = [
            Watch(stack.enter_context(rig.program("watch", REFLEX_PRIORITY, permit))) for permit in permits
        ]
        for _ in bound.turns():
            rig.bring_up()
            time.sleep(chance.uniform(0, TICK_S))
            ours, same = _kill(rig.remote_pid, reference, watches)
            rig.end_remote()
            with _child() as child:
                (small,) = _kill(child.pid, reference, watches[1:])
            for leg, who, seen in (
                ("same", OURS, ours),
                ("same", REFERENCE, same),
                ("child", OURS, ours),
                ("child", REFERENCE, small),
            ):
                samples.add_seen(leg, who, *seen)
            rig.start_remote()
            samples.on_sample()


@contextmanager
def _child() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(CHILD)
    try:
        yield child
    finally:
        end_process(child)


def _kill(pid: int, reference: Program, watches: list[Watch]) -> list[tuple[int, int | None]]:
    """(when it was killed, when that was seen) by each watch."""
    reference.say(str(pid))
    reference.expect("watching", ANSWER_S)
    for watch in watches:
        watch.arm(0)
    with sharp(REFLEX_PRIORITY - 1):
        sent_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
    return [(sent_ns, watch.seen_ns()) for watch in watches]
