"""A robot whose days pass in seconds: real SealedLog, Ledger, Keeper and Retention, clocks that are given."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.recorder.clocks import WallClock
from agent.recorder.keeper import Keeper, Times
from agent.recorder.log import Record
from agent.recorder.sealed.ledger import Entry
from agent.recorder.sealed.orders import MAX_SEGMENTS, Named
from agent.recorder.sealed.parts import Clocks
from agent.recorder.sealed.retention import MIN_DAYS, RefusedError, Retention
from agent.recorder.space import Space
from hil.log.mix import Mix, S
from hil.log.office import Department, Witness
from hil.log.owner import new_owner
from hil.log.reading import Unsynced
from hil.log.writer import Writer

WALL_NS = 1_800_000_000 * S
CHECKPOINT_S = 300
TELE_EVERY_S = 10
"""Commits: `safety` and `net` once in a second, `tele` in ten (LOG, "Rules")."""


@dataclass(frozen=True, slots=True)
class Span:
    """`seconds` of the robot's time, of which one in `scale` is written."""

    name: str
    seconds: int
    scale: int


@dataclass(slots=True)
class Written:
    """What was done. `early`: reasons against an order that came too early; `deleted`: segments.

    `write_s`: seconds it took.
    """

    records: int = 0
    entries: int = 0
    segments: int = 0
    early: tuple[str, ...] = ()
    deleted: int = 0
    deleted_bytes: int = 0
    write_s: float = 0.0


@dataclass(slots=True)
class Clock:
    """Nanoseconds since the robot was switched on; wall time and CLOCK_BOOTTIME go together."""

    now_ns: int = 0
    begun_ns: int = field(default_factory=lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    def wall_ns(self) -> int:
        """Since 1970."""
        return WALL_NS + self.now_ns

    def boottime_ns(self) -> int:
        """From this machine's own on: `Keeper` asks that too, and may not find it later than it is told."""
        return self.begun_ns + self.now_ns


class Robot:
    """Writes its span, then deletes what is past its time. `folder`: of its log."""

    def __init__(self, folder: Path, span: Span, suite: int, advance: Callable[[int], None]) -> None:
        self.folder = folder
        self.span = span
        self.owner = new_owner("rw-years", suite)
        self.department = Department(self.owner.robot)
        self.witness = Witness(self.owner.robot)
        self.lines = folder.with_suffix(".witness")
        self.genesis = b""
        self._advance = advance
        self._clock = Clock()
        self._written = Written()
        self._lines = self.lines.open("wb")
        self._newest: Entry | None = None
        self._sealed: Named | None = None
        self._receipt_s = 0

    def run(self) -> Written:
        """All of it; raises LogError, OSError."""
        begun_s = time.monotonic()
        clocks = Clocks(wall_ns=self._clock.wall_ns, boottime_ns=self._clock.boottime_ns)
        with (
            self._lines,
            Writer(self.folder, self.owner, clocks=clocks, disk=Unsynced(), on_entry=self._took) as writer,
        ):
            self.genesis = writer.ledger.genesis_line
            writer.boot()
            keeper = self._keeper(writer)
            self._work(writer, keeper)
            self._written.write_s = time.monotonic() - begun_s
            self._delete(writer)
            keeper.close()
        return self._written

    def _took(self, entry: Entry) -> None:
        """The witness has every line at once."""
        self._lines.write(entry.line + b"\n")
        self._newest = entry
        self._written.entries = entry.n + 1
        self._written.segments += entry.kind == "seg.open"
        if entry.kind == "seg.seal":
            self._sealed = Named(entry.body["stream"], entry.body["segno"], entry.body["seal"])

    def _keeper(self, writer: Writer) -> Keeper:
        def note(kind: str, body: Mapping[str, object], *, stream: str = "safety") -> None:
            raise RuntimeError(f"a quiet robot notes nothing, and not {kind} {body} in {stream}")

        clock = self._clock
        return Keeper(
            Times(CHECKPOINT_S * S, 30 * S, 30 * S),
            ledger=writer.ledger,
            segments=writer.log,
            space=Space(self.folder, free=lambda _: 900),
            clock=WallClock(wall_ns=clock.wall_ns, boottime_ns=clock.boottime_ns),
            note=note,
            tell_level=lambda _: None,
        )

    def _work(self, writer: Writer, keeper: Keeper) -> None:
        mix, telemetry, clock = Mix(7, WALL_NS), list[Record](), self._clock
        for number in range(0, self.span.seconds, self.span.scale):
            clock.now_ns = number * S
            records = mix.second(number)
            telemetry.append(records.pop())
            if len(telemetry) == TELE_EVERY_S:
                records += telemetry
                telemetry.clear()
            writer.log.append(records)
            keeper.written(records)
            keeper.tick(clock.boottime_ns())
            self._witnessed(writer, number)
            self._written.records += len(records)
            self._advance(1)

    def _witnessed(self, writer: Writer, number: int) -> None:
        """A receipt into the ledger as often as `relay` records one."""
        if self._newest is not None and number - self._receipt_s >= CHECKPOINT_S:
            self._receipt_s = number
            body = self.witness.receipt(self._newest, self._clock.wall_ns() / S)
            writer.ledger.append("witness.ack", body)

    # ---- deletion

    def _delete(self, writer: Writer) -> None:
        retention = Retention(
            self.folder,
            writer.ledger,
            office=self.department.office,
            witnesses=self.witness.keys,
            days=MIN_DAYS,
            wall_ns=self._clock.wall_ns,
        )
        due = retention.deletable()[:MAX_SEGMENTS]
        if self._sealed is not None:
            try:
                retention.delete(self._order([*due[: MAX_SEGMENTS - 1], self._sealed]))
            except RefusedError as error:
                self._written.early = tuple(sorted({refusal.code for refusal in error.refusals}))
        if due:
            self._written.deleted_bytes = sum(self._size(named) for named in due)
            self._written.deleted = len(retention.delete(self._order(due)))
            for named in due:
                writer.log.forget(named.stream, named.segno)

    def _order(self, segments: list[Named]) -> str:
        return self.department.order(segments, self._clock.wall_ns() // S)

    def _size(self, named: Named) -> int:
        return (self.folder / named.stream / f"{named.segno:010}.seg").stat().st_size
