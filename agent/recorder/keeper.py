"""What the recorder does beside writing records: checkpoints, incidents, clock steps, levels of the disk.

What must stand in the ledger is owed until it does: a disk that refuses makes it later, never less.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from agent.recorder.clocks import WallClock
from agent.recorder.incidents import Incident, Incidents
from agent.recorder.log import Head, LogError, Record
from agent.recorder.space import LEVELS, Space

S = 1_000_000_000
CHECKPOINT_AFTER_SAFETY_NS = S
"""After records of `safety` at most once a second (LOG, "Ledger")."""
LOOK_NS = S
"""The file system and the segments' age are looked at once a second."""
RETRY_NS = S
MAX_OWED = 256
"""Ledger entries that wait for a disk; what is over is counted in a `loss` entry."""
LOSS_EVERY_NS = 60 * S
"""What was dropped of a stream is summed into one `loss` entry a minute."""


class LedgerEnd(Protocol):
    """The ledger, as far as it is needed here."""

    def append(self, kind: str, body: Mapping[str, object], /) -> object:
        """Durable when it returns; LogError: nothing was written."""
        ...


class Segments(Protocol):
    """The streams, as far as they are needed here."""

    def heads(self) -> Mapping[str, Head]:
        """By stream, of those that have a segment open."""
        ...

    def rotate_due(self, now_boottime_ns: int) -> None:
        """Ends old segments; LogError: again later."""
        ...


class Note(Protocol):
    """`RecorderService.note`."""

    def __call__(self, kind: str, body: Mapping[str, object], *, stream: str = "safety") -> None:
        """Records an event of the recorder itself."""
        ...


@dataclass(frozen=True, slots=True)
class Times:
    """From the plan, in ns: between two checkpoints, and an incident's window before and after the stop."""

    checkpoint_ns: int
    before_ns: int
    after_ns: int


class Keeper:
    """Sees every record that was written and is ticked ten times a second; never raises for a disk."""

    def __init__(
        self,
        times: Times,
        *,
        ledger: LedgerEnd,
        segments: Segments,
        space: Space,
        clock: WallClock,
        note: Note,
        tell_level: Callable[[int], None],
    ) -> None:
        """`tell_level`: a new level of the disk, for whoever must act on it."""
        self.incidents_total = 0
        self.trouble: str | None = None
        """Why the ledger cannot be written just now."""
        self._times = times
        self._ledger = ledger
        self._segments = segments
        self._space = space
        self._clock = clock
        self._note = note
        self._tell_level = tell_level
        self._owed: deque[tuple[str, Mapping[str, object]]] = deque()
        self._lost: dict[str, int] = {}
        self._due_ns = {"look": 0, "retry": 0, "loss": LOSS_EVERY_NS}
        self._checkpoint_ns = 0
        self._heads: Mapping[str, Head] = {}
        self._safety = False
        self._retired = False
        self.incidents = Incidents(
            before_ns=times.before_ns,
            after_ns=times.after_ns,
            begun=self._incident,
            keep=lambda body: note("incident_samples", body, stream="tele"),
        )

    # ---- room

    @property
    def level(self) -> int:
        """Of the disk, 0 to 5 (`space.LEVELS`)."""
        return self._space.level

    @property
    def means(self) -> str:
        """The level in words, Chinese beside English."""
        return LEVELS[self._space.level].means

    @property
    def free_ratio(self) -> float:
        """Share of the disk that is free, 0 to 1."""
        return self._space.permille / 1000

    def admits(self, stream: str) -> bool:
        """Whether there is room for a record of this stream."""
        return self._space.admits(stream)

    # ---- what records say

    def written(self, records: Sequence[Record]) -> None:
        """These are on the disk."""
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        for record in records:
            self._safety |= record.stream == "safety"
            self.incidents.observe(record, now_ns)
            if record.kind in ("cause_raised", "cause_cleared"):
                self._cause(record)
            elif record.kind == "loss":
                self._loss(record)

    def _cause(self, record: Record) -> None:
        raised, cause = record.kind == "cause_raised", record.body.get("id")
        # Both channels say it; the one that the regulation makes responsible for people is `remote`.
        if record.source != "remote":
            return
        if cause == "maintenance":
            self.owe("maintenance", {"open": raised})
        elif cause == "retired" and raised and not self._retired:
            self._retired = True
            self.owe("service.end", {"reason": "retired"})

    def _loss(self, record: Record) -> None:
        stream, count = record.body.get("stream"), record.body.get("count")
        if isinstance(stream, str) and type(count) is int and count > 0:
            self.lost(stream, count)

    def lost(self, stream: str, count: int = 1) -> None:
        """So many records of the stream were dropped, here or at the sender."""
        self._lost[stream] = self._lost.get(stream, 0) + count

    def _incident(self, incident: Incident) -> None:
        self.incidents_total += 1
        self.owe("incident", incident.body())

    # ---- the ledger

    def owe(self, kind: str, body: Mapping[str, object]) -> None:
        """An entry that is written as soon as the disk takes it."""
        if len(self._owed) >= MAX_OWED:
            self.lost("ledger")
            return
        self._owed.append((kind, body))
        self._due_ns["retry"] = min(self._due_ns["retry"], time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    def _pay(self, now_ns: int) -> None:
        if now_ns < self._due_ns["retry"]:
            return
        try:
            while self._owed:
                self._ledger.append(*self._owed[0])
                self._owed.popleft()
            self._checkpoint(now_ns)
            self.trouble = None
        except LogError as error:
            self.trouble = str(error)
            self._due_ns["retry"] = now_ns + RETRY_NS

    def _checkpoint(self, now_ns: int) -> None:
        since_ns = now_ns - self._checkpoint_ns
        heads = self._segments.heads()
        moved = self._safety and since_ns >= CHECKPOINT_AFTER_SAFETY_NS and heads != self._heads
        if not heads or not (moved or since_ns >= self._times.checkpoint_ns):
            return
        self._ledger.append("checkpoint", {"streams": {name: asdict(head) for name, head in heads.items()}})
        self._checkpoint_ns, self._heads, self._safety = now_ns, heads, False

    # ---- time

    def tick(self, now_ns: int) -> None:
        """`now_ns`: CLOCK_BOOTTIME."""
        self._step()
        self.incidents.tick(now_ns)
        if now_ns >= self._due_ns["look"]:
            self._due_ns["look"] = now_ns + LOOK_NS
            self.look()
            self._rotate(now_ns)
        self._pay(now_ns)
        if self._lost and now_ns >= self._due_ns["loss"]:
            self._due_ns["loss"] = now_ns + LOSS_EVERY_NS
            self._tell_losses()

    def _step(self) -> None:
        step = self._clock.step()
        if step is not None:
            body = {"before_ns": step[0], "after_ns": step[1]}
            self.owe("clock.step", body)
            self._note("clock_step", body)

    def look(self, *, full: bool = False) -> None:
        """How much room there is. `full`: a write was refused for want of it."""
        if self._space.look(full=full):
            body = {"level": self._space.level, "free_permille": self._space.permille}
            self.owe("disk.level", body)
            self._note("disk_level", body)
            self._tell_level(self._space.level)

    def _rotate(self, now_ns: int) -> None:
        try:
            self._segments.rotate_due(now_ns)
        except LogError as error:
            self.trouble = str(error)

    def _tell_losses(self) -> None:
        if len(self._owed) + len(self._lost) > MAX_OWED:
            return  # the next minute: a count that was dropped itself would be no count
        lost, self._lost = self._lost, {}
        for stream, count in lost.items():
            self.owe("loss", {"stream": stream, "count": count, "reason": "no room"})

    def close(self) -> None:
        """The last words, as far as the disk takes them."""
        self._tell_losses()
        self._due_ns["retry"] = 0
        self._pay(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
