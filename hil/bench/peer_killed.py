"""`remote` killed (SIGKILL) -> `reflex` has withdrawn its permit.

Two references, both C on pidfd and epoll: on `remote` itself in the very same kill, and on a small child,
killed in turn with it. The kernel takes a process's memory down before it closes its connections and tells
its pidfd, so the second shows what the size of a process costs, whoever waits for its end.
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
LIGHT_LOOK_US = 20
HEAVY_LOOK_US = 100
"""The end of `remote` takes milliseconds of processor time, which a busier watcher would take from it."""


def measure(rig: Rig, bound: Bound, samples: Samples) -> None:
    """Each sample needs `remote` back and a resume: a good part of a second."""
    chance = random.Random(SEED)
    with ExitStack() as stack:
        permits = rig.site.permits[0], rig.permit("peer_ref")
        reference = _Reference(stack.enter_context(rig.program("peer_ref", permits[1], REFLEX_PRIORITY)))
        watch = Watch(stack.enter_context(rig.program("watch", REFLEX_PRIORITY, *permits)))
        for _ in bound.turns():
            rig.bring_up()
            time.sleep(chance.uniform(0, TICK_S))
            reference.watch(rig.remote_pid)
            watch.arm(0, 1, look_us=HEAVY_LOOK_US)
            killed_ns = _kill(rig.remote_pid)
            ours, same = (killed_ns, watch.seen_ns()), (killed_ns, watch.seen_ns())
            rig.end_remote()
            with _child() as child:
                reference.watch(child.pid)
                watch.arm(1, look_us=LIGHT_LOOK_US)
                small = _kill(child.pid), watch.seen_ns()
            for leg, who, seen in (
                ("same", OURS, ours),
                ("same", REFERENCE, same),
                ("child", OURS, ours),
                ("child", REFERENCE, small),
            ):
                samples.add_seen(leg, who, *seen)
            rig.start_remote()
            samples.on_sample()


class _Reference:
    """The program `peer_ref`."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def watch(self, pid: int) -> None:
        """Holds its permit from now until that process ends."""
        self._program.say(str(pid))
        self._program.expect("watching", ANSWER_S)


@contextmanager
def _child() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(CHILD)
    try:
        yield child
    finally:
        end_process(child)


def _kill(pid: int) -> int:
    """CLOCK_MONOTONIC right before it."""
    with sharp(REFLEX_PRIORITY - 1):
        sent_ns = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
    return sent_ns
