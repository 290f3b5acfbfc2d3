"""One segment opened: frames authenticated one by one, their records handed on. The work of one process."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from agent.audit.duplicates import Seen
from agent.audit.errors import FormatError
from agent.audit.folder import open_file
from agent.audit.forms import MAX_INT
from agent.audit.frames import Frame, expand, measure_records, read_record, split_records
from agent.audit.header import Fields, parse_header
from agent.audit.keys import ClosedError, CommitmentError, Ratchet, RecipientKey, open_secret
from agent.audit.output import WRITERS, Line
from agent.audit.rows import Row, read_rows, row_of
from agent.audit.scan import Bad, scan_frames
from agent.logformat.layout import FRAME_OVERHEAD, MAX_HEADER_BYTES
from agent.logformat.suites import SuiteError

MAX_LISTED: Final = 1000
FLUSH_BYTES: Final = 1 << 20
COUNTS: Final = (
    *("segments", "opened", "closed", "damaged", "torn", "frames", "records", "written", "duplicates"),
)


@dataclass(frozen=True, slots=True)
class Skipped:
    """What could not be read. `offset`: byte in `file`; `why`: in words."""

    file: str
    offset: int
    why: str


@dataclass(slots=True)
class Outcome:
    """Of one segment, or of all. `records`: read; `written`: of these, in the range that was asked for.

    `damaged`: frames, headers or commitments that do not hold; `torn`: segments that end in the middle of a
    frame; `closed`: segments that the keys do not open.
    """

    segments: int = 0
    opened: int = 0
    closed: int = 0
    damaged: int = 0
    torn: int = 0
    frames: int = 0
    records: int = 0
    written: int = 0
    duplicates: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        """Sums up; of what was skipped at most MAX_LISTED are listed."""
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.skipped.extend(other.skipped[: MAX_LISTED - len(self.skipped)])


@dataclass(frozen=True, slots=True)
class OpenJob:
    """One segment. `format`: "" only authenticates. `part`: the file that takes the output of a process."""

    folder: Path
    file: str
    keys: tuple[RecipientKey, ...]
    format: str
    from_ns: int
    to_ns: int
    part: Path | None = None


class SegmentOpener:
    """Opens the segment of `job`; `write` gets the output in pieces, `seen` is told of every event."""

    def __init__(self, job: OpenJob, seen: Seen, write: Callable[[bytes], object]) -> None:
        self.outcome = Outcome(segments=1)
        self._job = job
        self._all_times = job.from_ns <= 0 and job.to_ns >= MAX_INT
        self._seen = seen
        self._write = write
        self._out: list[bytes] = []
        self._waiting = 0

    def run(self) -> Outcome:
        """All of it; whatever is wrong with the file is in the outcome."""
        path = self._job.folder / self._job.file
        try:
            with os.fdopen(open_file(path), "rb") as file:
                self._open(path, file)
        except ClosedError as error:
            self.outcome.closed = 1
            self._skip(0, error.reason)
        except (FormatError, CommitmentError) as error:
            self._damaged(0, error.reason)
        except OSError as error:
            self._damaged(0, error.strerror or "not a regular file")
        self._flush()
        return self.outcome

    def _open(self, path: Path, file: BinaryIO) -> None:
        header = parse_header(file.read(MAX_HEADER_BYTES))
        fields = header.fields
        secret = open_secret(path, header, self._job.keys)
        self.outcome.opened = 1
        ratchet = Ratchet(fields.suite, secret, fields.hash)
        # A frame's number steers how far the ratchet turns, so it is bounded by what the file can hold.
        most = os.fstat(file.fileno()).st_size // FRAME_OVERHEAD
        for offset, found in scan_frames(file, header.size):
            if isinstance(found, Bad):
                self._bad(offset, found)
            elif found.number > most:
                self._damaged(offset, f"frame {found.number}, more than the file could hold")
            else:
                self._frame(offset, found, fields, ratchet)

    def _bad(self, offset: int, found: Bad) -> None:
        if found.tail:
            self.outcome.torn = 1
            self._skip(offset, f"torn tail: {found.why}")
        else:
            self._damaged(offset, found.why)

    def _frame(self, offset: int, frame: Frame, fields: Fields, ratchet: Ratchet) -> None:
        """All of a frame's records, or none: what does not authenticate or divide tells nothing."""
        try:
            nonce = frame.number.to_bytes(12, "little")
            plain = fields.suite.open(ratchet.key(frame.number), nonce, frame.sealed, frame.head)
            records = expand(plain, frame.flags)
            measure_records(records, frame.records)
        except (SuiteError, FormatError) as error:
            self._damaged(offset, f"frame {frame.number}: {error.reason}")
            return
        self.outcome.frames += 1
        if self._job.format:
            self._tell(offset, frame, fields, split_records(records))
        else:
            self.outcome.records += frame.records

    def _tell(self, offset: int, frame: Frame, fields: Fields, texts: Sequence[bytes]) -> None:
        rows = read_rows(texts)
        numbered = self._one_by_one(offset, texts) if rows is None else enumerate(rows)
        begin, add = frame.first_seq, self._seen.add
        lines = [(begin + number, add(row[3], row[4], int(row[5])), row) for number, row in numbered]
        outcome, wanted = self.outcome, lines if self._all_times else self._in_span(lines)
        outcome.records += len(lines)
        outcome.duplicates += sum(duplicate for _, duplicate, _ in lines)
        outcome.written += len(wanted)
        place = (fields.stream, fields.segno, frame.number)
        self._put(WRITERS[self._job.format].lines(place, wanted))

    def _in_span(self, lines: Iterable[Line]) -> list[Line]:
        first, last = self._job.from_ns, self._job.to_ns
        return [line for line in lines if first <= int(line[2][0]) <= last]

    def _one_by_one(self, offset: int, texts: Iterable[bytes]) -> Iterator[tuple[int, Row]]:
        for number, text in enumerate(texts):
            try:
                yield number, row_of(read_record(text))
            except FormatError as error:
                self._damaged(offset, f"record {number} of the frame: {error.reason}")

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        self._waiting += len(data)
        if self._waiting >= FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._write(b"".join(self._out))
        self._out, self._waiting = [], 0

    def _damaged(self, offset: int, why: str) -> None:
        self.outcome.damaged += 1
        self._skip(offset, why)

    def _skip(self, offset: int, why: str) -> None:
        if len(self.outcome.skipped) < MAX_LISTED:
            self.outcome.skipped.append(Skipped(self._job.file, offset, why))
