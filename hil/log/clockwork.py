"""A clock that jumps a year forward and back: nothing is deleted for it, nothing is lost, and it is said.

The wall clock is an argument of the real classes; nobody's machine is put forward.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from agent.recorder.clocks import WallClock
from agent.recorder.sealed.ledger import Entry
from agent.recorder.sealed.orders import Named
from agent.recorder.sealed.parts import Clocks
from agent.recorder.sealed.retention import MIN_DAYS, RefusedError, Retention
from hil.log.judge import judge
from hil.log.office import Department, Witness
from hil.log.owner import batch
from hil.log.specimen import segments_of
from hil.log.trial import EXPLAINED, SMALL_SEGMENT, Ground, Modules, Tally, finish
from hil.log.writer import Writer

YEAR_NS = 365 * 86_400 * 1_000_000_000
STEPS = (YEAR_NS, -YEAR_NS, 2 * YEAR_NS, -3 * YEAR_NS, YEAR_NS)
"""One after the other; the wall clock is where it began at the end."""
BATCHES = 6
"""Between two steps."""


@dataclass(slots=True)
class Wall:
    """CLOCK_REALTIME and what was added to it, in ns."""

    added_ns: int = 0
    clocks: Clocks = field(init=False)

    def __post_init__(self) -> None:
        self.clocks = Clocks(wall_ns=self.now)

    def now(self) -> int:
        """Ns since 1970."""
        return time.time_ns() + self.added_ns


def stepped(ground: Ground) -> Tally:
    """After each step a good order to delete all that is sealed is refused, with and without a witness."""
    tally, department = Tally(), Department(ground.owner.robot)
    for known in (True, False):
        tally.begin()
        ground.advance(1)
        folder, modules, wall = ground.fresh(), Modules(ground.dice.randrange(1 << 30)), Wall()
        witness = Witness(ground.owner.robot)
        sealed: list[Named] = []
        with Writer(
            folder, ground.owner, segment_bytes=SMALL_SEGMENT, clocks=wall.clocks, on_entry=_seals(sealed)
        ) as writer:
            modules.hear(["genesis", writer.ledger.genesis_line.hex()])
            writer.boot()
            if known:
                writer.ledger.append("witness.ack", witness.receipt(writer.ledger.head, time.time()))
            retention = Retention(
                folder,
                writer.ledger,
                office=department.office,
                witnesses=witness.keys,
                days=MIN_DAYS,
                wall_ns=wall.now,
            )
            clock = WallClock(wall_ns=wall.now)
            for step_ns in STEPS:
                wall.added_ns += step_ns
                _work(writer, modules, clock)
                if sealed:
                    _order_refused(retention, department.order(sealed), tally)
        case = ground.case(folder, modules)
        what = "with a witness" if known else "without a witness"
        before = len(segments_of(folder))
        judged = judge(case, modules.acknowledged)
        tally.see(judged.code, frozenset({EXPLAINED}), what)
        tally.mourn(judged, what)
        tally.end(finish(ground, case, modules), frozenset({EXPLAINED}), what)
        if len(segments_of(folder)) < before:
            tally.fail(f"{what}: a segment is gone")
    return tally


def _work(writer: Writer, modules: Modules, clock: WallClock) -> None:
    step = clock.step()
    if step is not None:
        writer.ledger.append("clock.step", {"before_ns": step[0], "after_ns": step[1]})
    for number in range(modules.next, modules.next + BATCHES):
        writer.log.append(batch(modules.seed, number))
        modules.hear(["ack", str(number)])
    writer.checkpoint()


def _seals(sealed: list[Named]) -> Callable[[Entry], None]:
    """What gathers every sealed segment by the name that an order gives it."""

    def took(entry: Entry) -> None:
        if entry.kind == "seg.seal":
            sealed.append(Named(entry.body["stream"], entry.body["segno"], entry.body["seal"]))

    return took


def _order_refused(retention: Retention, order: str, tally: Tally) -> None:
    """Nothing but time speaks for `net`; `safety` stays as long as the robot serves, whatever the clock."""
    if retention.deletable():
        tally.fail(f"held deletable: {retention.deletable()}")
    with suppress(RefusedError):
        retention.delete(order)
        tally.fail("a step of the clock deleted a segment")
