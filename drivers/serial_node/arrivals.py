"""Which valid frames are new, and how old the newest one is. Pure: time is an argument.

A CRC proves that a frame is whole, not that it is of now: a line, an adapter or a frozen process can repeat,
replay and delay (IEC 61784-3 names these errors). Two things of the frame itself are held against each other:

* `seq` and `node_ms` must both go on (serial-number arithmetic, RFC 1982). `seq` alone would take every
  second old frame for a new one, since it comes round in 11 minutes.
* `node_ms` is asked how long a frame was on its way. One that comes much later than the node's own clock says
  it should was held up, and its age counts from when it should have come. After a freeze a buffer full of
  old frames is therefore read as what it is. PROTOCOL 4 does not oblige a node's clock to keep time (one may
  count its frames, or none), so small differences are forgiven at once and large ones by and by.

A node that restarts begins again with both, which is also what a replay looks like. So it is heard only after
the silence that has already made its inputs stale (and stopped the robot), and only by `RUN_FRAMES` frames
one after the other that keep pace with our clock; the same holds for the first frames after the agent's own
start.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

MS: Final = 1_000_000

RUN_FRAMES: Final = 3
"""Frames in a row before a node is believed: a single old one left in some buffer is not enough."""
RUN_SPAN_NS: Final = 15 * MS
"""Time they must span here; three frames at 10 ms span 20. A buffer that is read out spans hardly any."""
RUN_EARLY_NS: Final = 5 * MS
"""How much faster than our clock their own may run: scheduling jitter, less than one period of the node."""
HELD_UP_NS: Final = 20 * MS
"""From here on a frame counts as held up: two periods of the node. What is less is jitter, drift, or a clock
that only counts frames on a busy machine."""
FORGIVEN_SHARE: Final = 10
"""Of a delay, one part in this many of the time that passes here is forgiven,"""
FORGIVEN_MOST_NS: Final = 2 * MS
"""and no more than this per frame: a freeze must not forgive the backlog that it made."""


class Admission(Enum):
    """What became of a valid frame; the value names the device's counter."""

    NEW = "frames_good"
    """Later than all before: it may be believed for as long as it is young."""
    UNPROVEN = "frames_unproven"
    """Possibly a node that has restarted; too few of them yet."""
    REPEATED = "frames_repeated"
    """Not later than what was heard before: a repetition or a replay. It refreshes nothing."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """A frame's place in time. `seq` modulo 2**16, `node_ms` modulo 2**32, `now_ns` when it was received."""

    seq: int
    node_ms: int
    now_ns: int

    def follows(self, other: "Stamp") -> bool:
        """True when the node sent this after `other`; two frames of one millisecond differ in `seq`."""
        ahead = (self.seq - other.seq) & 0xFFFF
        return 0 < ahead < 1 << 15 and (self.node_ms - other.node_ms) & 0xFFFFFFFF < 1 << 31

    def node_ns_since(self, other: "Stamp") -> int:
        """How much of the node's time passed since `other`, which this follows; nanoseconds."""
        return ((self.node_ms - other.node_ms) & 0xFFFFFFFF) * MS

    def late_ns_since(self, other: "Stamp") -> int:
        """How much more of our time passed since `other` than of the node's; negative if less."""
        return self.now_ns - other.now_ns - self.node_ns_since(other)


class Arrivals:
    """The order and age of one node's frames."""

    def __init__(self, *, silent_ns: int) -> None:
        """`silent_ns`: the age from which the node counts as gone, and a restarted one may be heard."""
        self._silent_ns = silent_ns
        self._last: Stamp | None = None
        self._late_ns = 0
        self._present = False
        self._run: list[Stamp] = []

    def admit(self, stamp: Stamp) -> Admission:
        """Judge a valid frame."""
        follows = self._go_on(stamp)
        if self._is_heard(stamp.now_ns):
            self._run.clear()
            return Admission.NEW if follows else Admission.REPEATED
        repeats = bool(self._run) and not stamp.follows(self._run[-1])
        if self._prove(stamp) or follows:
            return Admission.NEW
        return Admission.REPEATED if repeats else Admission.UNPROVEN

    def age_ns(self, now_ns: int) -> int | None:
        """How long ago the newest frame should have come; None when none has, or not since `lose`."""
        if self._last is None or not self._present:
            return None
        return now_ns - self._last.now_ns + self._late_ns

    def lose(self) -> None:
        """The line is gone: nothing is of now until the next new frame. What was heard stays heard."""
        self._present = False
        self._run.clear()

    def _is_heard(self, now_ns: int) -> bool:
        age_ns = self.age_ns(now_ns)
        return age_ns is not None and age_ns < self._silent_ns

    def _go_on(self, stamp: Stamp) -> bool:
        """Take the frame for the latest if it follows the one before; False if not."""
        last = self._last
        if last is None or not stamp.follows(last):
            return False
        ours_ns, theirs_ns = stamp.now_ns - last.now_ns, stamp.node_ns_since(last)
        held_up_ns = ours_ns - theirs_ns
        if 0 < held_up_ns < HELD_UP_NS:
            held_up_ns = 0
        forgiven_ns = min(ours_ns // FORGIVEN_SHARE, FORGIVEN_MOST_NS)
        self._place(stamp, max(0, self._late_ns + held_up_ns - forgiven_ns))
        return True

    def _prove(self, stamp: Stamp) -> bool:
        """Add to the run; True when it is complete, and the node is taken from it anew."""
        run = self._run
        if run and (not stamp.follows(run[-1]) or stamp.late_ns_since(run[0]) < -RUN_EARLY_NS):
            run.clear()  # another node, or one catching up: what was held back may still be
        run.append(stamp)
        if len(run) < RUN_FRAMES or stamp.now_ns - run[0].now_ns < RUN_SPAN_NS:
            del run[1 : 1 - RUN_FRAMES]  # a burst within the span costs no memory
            return False
        self._place(stamp, max(0, stamp.late_ns_since(run[0])))
        run.clear()
        return True

    def _place(self, stamp: Stamp, late_ns: int) -> None:
        self._last = stamp
        self._late_ns = late_ns
        self._present = True
