"""What the ledger says, entry by entry, of every segment: the expectations that the segments are held to.

Memory: one `Expected`, about a kilobyte, for each segment that was ever opened; nothing for each entry.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from agent.audit.entry import Entry
from agent.audit.walk import Mark
from agent.logformat.layout import STREAMS, ZERO_HASH

Tell = Callable[[str, str], None]
"""Reports a finding at the entry at hand: its kind, and the detail."""


_NOTHING: Final = Mark(0, 0, 0, "")


@dataclass(slots=True)
class Sealed:
    """A `seg.seal`."""

    n: int
    frames: int
    records: int
    next_seq: int
    bytes: int
    seal: str
    reason: str


@dataclass(slots=True)
class Recovered:
    """A `seg.recover`. `kept_as`: "" when no bytes were torn off."""

    n: int
    frames: int
    next_seq: int
    h: str
    torn_bytes: int
    kept_as: str
    damaged: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Expected:
    """What the ledger says of one segment.

    `suite`: in force when it was opened. `header`: "" when no `seg.open` names it. `prev_seal`: the seal hash
    of the one before, "" when the ledger does not know it. `ranges`: of the ledgers (index, first byte, byte
    after the last), where this stream's checkpoints speak of it; the last is -1 until that is known.
    """

    stream: str
    segno: int
    suite: int
    header: str = ""
    first_seq: int = 0
    prev_seal: str = ""
    ranges: list[tuple[int, int, int]] = field(default_factory=list)
    recovered: list[Recovered] = field(default_factory=list)
    seal: Sealed | None = None
    deleted_n: int = 0
    mark: Mark = _NOTHING
    """The last that was signed of its frames."""

    @property
    def named(self) -> str:
        """As in `safety/3`."""
        return f"{self.stream}/{self.segno}"

    @property
    def torn_header(self) -> bool:
        """True when all of its file was set aside, because not even the header was whole."""
        return not self.header and self.seal is None and bool(self.recovered)


@dataclass(slots=True)
class _Stream:
    now: Expected | None = None
    last: Expected | None = None
    """The newest number that was opened or recovered; `now`: the newest that was opened."""
    sealed: Expected | None = None
    """The highest number that was sealed."""
    next_seq: int = 1

    @property
    def seal(self) -> str:
        """Seal hash that the next segment's header has to name."""
        return self.sealed.seal.seal if self.sealed is not None and self.sealed.seal else ZERO_HASH


class Story:
    """Takes entries in order. `segments`: stream → segno → what is expected of it."""

    def __init__(self) -> None:
        self.segments: dict[str, dict[int, Expected]] = {stream: {} for stream in STREAMS}
        self.service_ended = False
        self._streams = {stream: _Stream() for stream in STREAMS}
        self._ledger = 0
        self._handlers: Mapping[str, Callable[[Entry, int, Tell], None]] = {
            "seg.open": self._open,
            "checkpoint": self._checkpoint,
            "seg.recover": self._recover,
            "seg.seal": self._seal,
            "delete": self._delete,
            "service.end": self._service_end,
        }
        self.suite = 0

    def take(self, entry: Entry, offset: int, tell: Tell) -> None:
        """`offset`: where the entry's line begins in its ledger."""
        handler = self._handlers.get(entry.kind)
        if handler is not None:
            handler(entry, offset, tell)

    def end_ledger(self, offset: int) -> None:
        """The ledger at hand ends at `offset`; another may follow, and speak of the same segments."""
        for stream in self._streams.values():
            if stream.now is not None:
                _close(stream.now, offset)
                stream.now.ranges.append((self._ledger + 1, 0, -1))
        self._ledger += 1

    def next_seq(self, stream: str) -> int:
        """The number after the last record that the ledger accounts for."""
        return self._streams[stream].next_seq

    def expected(self) -> Iterator[Expected]:
        """Every segment, by stream and number."""
        for rows in self.segments.values():
            for segno in sorted(rows):
                yield rows[segno]

    # ---- what the kinds mean

    def _open(self, entry: Entry, offset: int, tell: Tell) -> None:
        body = entry.body
        stream, rows = self._streams[body["stream"]], self.segments[body["stream"]]
        due = self._due(body["stream"])
        if body["segno"] not in due:
            tell("ledger_order", f"opens {body['stream']}/{body['segno']} where {max(due)} is due")
        if body["first_seq"] != stream.next_seq:
            tell("ledger_order", f"opens at record {body['first_seq']} where {stream.next_seq} is due")
        if stream.now is not None:
            _close(stream.now, offset)
        now = rows.setdefault(body["segno"], Expected(body["stream"], body["segno"], self.suite))
        now.suite, now.header = self.suite, body["header"]
        now.first_seq, now.prev_seal = body["first_seq"], stream.seal
        now.ranges = [(self._ledger, offset, -1)]
        stream.now = stream.last = now
        stream.next_seq = body["first_seq"]
        now.mark = Mark(entry.n, 0, body["first_seq"], body["header"])

    def _due(self, name: str) -> set[int]:
        """Numbers that the next segment may have: one set aside for its torn header may be taken again."""
        last = self._streams[name].last
        return {1} if last is None else {last.segno + 1, *([last.segno] if last.torn_header else [])}

    def _checkpoint(self, entry: Entry, _offset: int, tell: Tell) -> None:
        for name, body in entry.body["streams"].items():
            self._mark(name, body, entry, tell)

    def _mark(self, name: str, body: Mapping[str, Any], entry: Entry, tell: Tell) -> None:
        stream = self._streams[name]
        mark = Mark(entry.n, body["frames"], body["next_seq"], body["h"])
        if stream.now is None or stream.now.segno != body["segno"]:
            tell("ledger_order", f"speaks of {name}/{body['segno']}, which is not the newest")
            return
        before = stream.now.mark
        back = mark.frames < before.frames or mark.next_seq < before.next_seq
        if back or (mark.frames == before.frames and mark[1:] != before[1:]):
            tell("ledger_order", f"{name}/{body['segno']} goes back behind entry {before.n}")
        stream.now.mark = mark
        stream.next_seq = max(stream.next_seq, mark.next_seq)

    def _recover(self, entry: Entry, _offset: int, tell: Tell) -> None:
        name, segno = entry.body["stream"], entry.body["segno"]
        expected = self.segments[name].get(segno) or self._unopened(name, segno, tell)
        if expected.seal is not None:
            tell("ledger_order", f"recovers {expected.named}, which is sealed")
        expected.recovered.append(_recovered(entry))
        if expected.header:
            self._recovered_mark(self._streams[name], expected, tell)

    def _unopened(self, name: str, segno: int, tell: Tell) -> Expected:
        """A segment that broke off before its `seg.open`: what is known of it is what went before."""
        stream = self._streams[name]
        if segno not in self._due(name):
            tell("ledger_order", f"speaks of {name}/{segno} where {max(self._due(name))} is due")
        expected = Expected(name, segno, self.suite, first_seq=stream.next_seq, prev_seal=stream.seal)
        self.segments[name][segno] = stream.last = expected
        return expected

    def _recovered_mark(self, stream: _Stream, expected: Expected, tell: Tell) -> None:
        """After a crash there is never less than a checkpoint before it signed: that had been on the disk.

        One that was passed over, and is not the newest, goes no further than was said of it then.
        """
        now, before = expected.recovered[-1], expected.mark
        if now.frames < before.frames and not now.damaged:
            tell("cut", f"recovered with {now.frames} frames of {before.frames} that entry {before.n} signed")
        elif stream.now is not expected and len(expected.recovered) > 1 and now.h != expected.recovered[-2].h:
            tell("ledger_order", f"recovers {expected.named} otherwise than before, which is not the newest")
        stream.next_seq = max(stream.next_seq, now.next_seq)
        expected.mark = Mark(now.n, now.frames, now.next_seq, now.h)

    def _seal(self, entry: Entry, _offset: int, tell: Tell) -> None:
        body = entry.body
        name, segno = body["stream"], body["segno"]
        stream = self._streams[name]
        expected = self.segments[name].get(segno) or self._unopened(name, segno, tell)
        newest = stream.now is expected or (not expected.header and stream.last is expected)
        if expected.seal is not None or not (newest or _as_recovered(body, expected)):
            tell("ledger_order", f"seals {expected.named}, which is not open")
            return
        names = ("frames", "records", "next_seq", "bytes", "seal", "reason")
        expected.seal = Sealed(entry.n, **{key: body[key] for key in names})
        damaged = any(row.damaged for row in expected.recovered)
        if body["frames"] < expected.mark.frames and not damaged:
            tell("cut", f"sealed with {body['frames']} frames of {expected.mark.frames} signed before")
        if stream.sealed is None or stream.sealed.segno < segno:
            stream.sealed = expected
        stream.next_seq = max(stream.next_seq, body["next_seq"])

    def _delete(self, entry: Entry, _offset: int, tell: Tell) -> None:
        for row in entry.body["segments"]:
            expected = self.segments[row["stream"]].get(row["segno"])
            if expected is None or expected.seal is None or expected.seal.seal != row["seal"]:
                tell("ledger_order", f"deletes {row['stream']}/{row['segno']}, which is not sealed so")
                continue
            expected.deleted_n = entry.n
            if row["stream"] == "safety" and not self.service_ended:
                tell("order_bad", f"deletes safety/{row['segno']} in service")

    def _service_end(self, _entry: Entry, _offset: int, _tell: Tell) -> None:
        self.service_ended = True


def _close(expected: Expected, offset: int) -> None:
    if expected.ranges:
        ledger, start, stop = expected.ranges[-1]
        if stop < 0:
            expected.ranges[-1] = (ledger, start, offset)


def _as_recovered(seal: Mapping[str, Any], expected: Expected) -> bool:
    """Whether one that was passed over is sealed with the frames that the last recovery said it has."""
    last = expected.recovered[-1] if expected.recovered else None
    return last is not None and (seal["frames"], seal["next_seq"]) == (last.frames, last.next_seq)


def _recovered(entry: Entry) -> Recovered:
    body = entry.body
    return Recovered(
        n=entry.n,
        frames=body["frames"],
        next_seq=body["next_seq"],
        h=body["h"] or "",
        torn_bytes=body["torn_bytes"],
        kept_as=body["kept_as"] or "",
        damaged=tuple((start, size) for start, size in body["damaged"]),
    )
