"""What `warden log verify` finds in a plain log's folder: whether all is there, and as it was written.

One pass over the segments, one line at a time; memory grows with the number of process starts in the
log, not with its length. Read-only: it may run beside a recorder that is writing.

What it can not see: a plain log's checksums are no secret, so whoever may write to the folder can make
a false line with a right sum. That is the sealed log's task (LOG).
"""

import fcntl
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agent.recorder.lines import MAX_LINE, Opening, parse_line, read_lines, segment_name
from agent.recorder.log import LogError, Record
from agent.recorder.plain import segments

MAX_LISTED = 1000
"""Findings of one kind that a report lists; beyond that they are only counted."""
PIECE_BYTES = 65_536

CLEAN, EXPLAINED, TAMPERED, INCOMPLETE = range(4)
"""Exit codes of `warden log verify` (LOG, "Tools")."""


@dataclass(slots=True)
class SenderRange:
    """What the log holds of one start of one module. Missing numbers in between are `Gap`s."""

    source: str
    boot: str
    first_seq: int = 0
    last_seq: int = 0
    records: int = 0


@dataclass(frozen=True, slots=True)
class Gap:
    """Missing numbers. `explained`: the recorder noted on arrival that they never reached it."""

    source: str
    boot: str
    first_seq: int
    last_seq: int
    explained: bool


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not as it was written. `offset`: byte in `file` where it begins."""

    file: str
    offset: int
    why: str


@dataclass(slots=True)
class Report:
    """Everything found. The lists of findings hold at most MAX_LISTED entries each, the counts hold all.

    `torn`: files with the torn tails that the recorder set aside; `torn_tails`: segments that still end in
    the middle of a line. `live`: a recorder is writing, so that the last line may be on its way.
    """

    folder: str
    live: bool = False
    segments: int = 0
    missing_segments: list[str] = field(default_factory=list)
    records: int = 0
    senders: list[SenderRange] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    gaps_explained: int = 0
    gaps_unexplained: int = 0
    bad_lines: list[BadLine] = field(default_factory=list)
    bad: int = 0
    duplicates: int = 0
    torn: list[str] = field(default_factory=list)
    torn_tails: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 clean, 1 explained anomalies, 2 evidence of tampering, 3 incomplete; 2 goes before 3."""
        if self.bad or self.duplicates:
            return TAMPERED
        if self.gaps_unexplained or self.missing_segments or not self.segments:
            return INCOMPLETE
        return EXPLAINED if self.gaps_explained or self.torn or self.torn_tails else CLEAN

    def to_json(self) -> dict[str, object]:
        """All fields and `exit_code`, JSON-able."""
        return {**asdict(self), "exit_code": self.exit_code}


def verify(folder: Path) -> Report:
    """Reads the whole log in `folder`; raises LogError when the folder or a file in it cannot be read."""
    try:
        walk = _Walk(folder)
        walk.run()
    except OSError as error:
        raise LogError(folder, f"cannot be read: {error.strerror}", error.errno or 0) from error
    return walk.report


class _Walk:
    def __init__(self, folder: Path) -> None:
        self.report = Report(str(folder), live=_is_written(folder))
        self._folder = folder
        self._senders: dict[tuple[str, str], SenderRange] = {}
        self._loss: tuple[object, ...] = ()
        self._file = ""
        self._number = 0

    def run(self) -> None:
        numbers = segments(self._folder)
        self.report.segments = len(numbers)
        for number in numbers:
            self._missing(number)
            self._number = number
            self._segment(last=number == numbers[-1])
        self._torn_files()
        self.report.senders = list(self._senders.values())

    def _missing(self, number: int) -> None:
        gone = range(self._number + 1, number)[: MAX_LISTED - len(self.report.missing_segments)]
        self.report.missing_segments.extend(segment_name(missing) for missing in gone)

    # ---- one segment

    def _segment(self, *, last: bool) -> None:
        self._file = segment_name(self._number)
        offset = 0
        with (self._folder / self._file).open("rb") as file:
            for line in read_lines(file):
                if len(line) < MAX_LINE and not line.endswith(b"\n"):
                    self._torn_tail(last=last)
                else:
                    self._line(line, offset)
                offset += len(line)

    def _torn_tail(self, *, last: bool) -> None:
        if not (last and self.report.live):
            self.report.torn_tails.append(self._file)

    def _line(self, line: bytes, offset: int) -> None:
        found = parse_line(line)
        if found is None:
            self._bad(offset, "checksum or form wrong")
        elif isinstance(found, Opening) is not (offset == 0):
            self._bad(offset, "opening line missing or out of place")
        if isinstance(found, Opening):
            self._opening(found, offset)
        elif found is not None:
            self._record(found)

    def _bad(self, offset: int, why: str) -> None:
        self.report.bad += 1
        if len(self.report.bad_lines) < MAX_LISTED:
            self.report.bad_lines.append(BadLine(self._file, offset, why))

    def _opening(self, opening: Opening, offset: int) -> None:
        """What the segments before held, by their own account, must be what was found in them."""
        if opening.number != self._number:
            self._bad(offset, f"opening line of segment {opening.number}")
        for source, boot, seq in opening.senders:
            sender = self._sender(source, boot)
            if seq > sender.last_seq:
                self._gap(sender, sender.last_seq + 1, seq, explained=False)
                sender.last_seq = seq

    # ---- one record

    def _sender(self, source: str, boot: str) -> SenderRange:
        return self._senders.setdefault((source, boot), SenderRange(source, boot))

    def _record(self, record: Record) -> None:
        self.report.records += 1
        sender = self._sender(record.source, record.boot)
        sender.records += 1
        if record.seq <= sender.last_seq:
            self.report.duplicates += 1
            return
        if record.seq > sender.last_seq + 1:
            gap = (record.source, record.boot, sender.last_seq + 1, record.seq - 1)
            self._gap(sender, gap[2], gap[3], explained=gap == self._loss)
        sender.first_seq = sender.first_seq or record.seq
        sender.last_seq = record.seq
        self._loss = _loss(record)

    def _gap(self, sender: SenderRange, first: int, last: int, *, explained: bool) -> None:
        self.report.gaps_explained += explained
        self.report.gaps_unexplained += not explained
        if len(self.report.gaps) < MAX_LISTED:
            self.report.gaps.append(Gap(sender.source, sender.boot, first, last, explained))

    # ---- torn tails that were set aside

    def _torn_files(self) -> None:
        names = (entry.name for entry in os.scandir(self._folder) if ".jsonl.torn-" in entry.name)
        for self._file in sorted(names):
            self.report.torn.append(self._file)
            # A write that was cut short ends inside a line. Whole lines that were not ours did not
            # come from a crash.
            if any(b"\n" in piece for piece in _pieces(self._folder / self._file)):
                self._bad(0, "torn tail holds a whole line")


def _loss(record: Record) -> tuple[object, ...]:
    """The gap that the recorder explains right before the record that shows it; () for other records."""
    if record.source != "recorder" or record.kind != "loss":
        return ()
    return tuple(record.body.get(name) for name in ("source", "boot", "first_seq", "last_seq"))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(PIECE_BYTES), b"")


def _is_written(folder: Path) -> bool:
    """True while a recorder holds the folder's lock."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
