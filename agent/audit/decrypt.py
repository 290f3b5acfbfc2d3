"""`warden log decrypt`: the records, for whoever holds a recipient's key.

Every frame is authenticated by itself: a damaged one is reported and skipped, and costs only itself. Memory
is that of one frame, of the marks of what was seen (duplicates.py) and of the report's lists, all bounded.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from agent.audit.duplicates import Run, Runs, Seen
from agent.audit.errors import AuditError, FormatError
from agent.audit.folder import list_folder, open_file
from agent.audit.frames import Frame, expand, parse_record, require_record, split_records
from agent.audit.header import parse_header
from agent.audit.keys import ClosedError, CommitmentError, Ratchet, RecipientKey, open_secret
from agent.audit.output import FORMATS, Place, Write, csv_head, csv_row, jsonl
from agent.audit.pool import Pool, cores
from agent.audit.scan import Bad, scan_frames
from agent.audit.verify import POOL_BYTES, Progress
from agent.logformat.layout import FRAME_OVERHEAD, MAX_HEADER_BYTES, STREAMS, segment_name
from agent.logformat.suites import Suite, SuiteError

MAX_LISTED: Final = 1000
FLUSH_BYTES: Final = 1 << 20
_WRITERS: Final[dict[str, Write]] = {"jsonl": jsonl, "csv": csv_row}
COUNTS: Final = (
    *("segments", "opened", "closed", "damaged", "torn", "frames", "records", "written", "duplicates"),
)
DONE, TORN, DAMAGED, CLOSED = range(4)
"""Exit codes, as near to those of `verify` as they go."""


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


@dataclass(slots=True)
class DecryptReport(Outcome):
    """What became of a whole log. `folder`: of it."""

    folder: str = ""

    @property
    def exit_code(self) -> int:
        """0 all was read, 1 all but torn tails; 2 something does not hold; 3 closed to these keys."""
        if self.damaged:
            return DAMAGED
        if self.closed or not self.segments:
            return CLOSED
        return TORN if self.torn else DONE

    def to_json(self) -> dict[str, object]:
        """All fields and `exit_code`, JSON-able."""
        counts = {name: getattr(self, name) for name in COUNTS}
        skipped = [{"file": row.file, "offset": row.offset, "why": row.why} for row in self.skipped]
        return {"folder": self.folder, **counts, "skipped": skipped, "exit_code": self.exit_code}

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.folder}: {self.written} records / 记录, {self.duplicates} duplicates / 重复"
        yield f"  segments / 日志段: {self.opened} of {self.segments} opened / 已打开"
        yield from (f"  {row.file} byte {row.offset}: {row.why}" for row in self.skipped[:20])
        if self.damaged:
            yield f"  {self.damaged} frames or headers skipped / 已跳过损坏部分 {self.damaged} 处"
        if self.segments and not self.opened:
            yield "  none of the keys opens this log / 密钥不符，无法打开"


@dataclass(frozen=True, slots=True)
class _Job:
    """One segment. `part`: where the output goes, None for the one at hand."""

    folder: Path
    file: str
    keys: tuple[RecipientKey, ...]
    format: str
    from_ns: int
    to_ns: int
    part: Path | None = None


def decrypt(
    folder: Path,
    keys: Sequence[RecipientKey],
    *,
    out: Path | BinaryIO,
    format: str = "jsonl",  # noqa: A002 - what the option is called
    streams: Sequence[str] = STREAMS,
    span_ns: tuple[int, int] = (0, 2**63),
    processes: int | None = None,
    progress: Progress | None = None,
) -> DecryptReport:
    """Writes the records of all segments, stream by stream and in order, to `out`.

    `out`: a path where nothing is yet (made with mode 0600), or an open binary file. `format`: of FORMATS.
    `span_ns`: first and last wall time of the records wanted, as they themselves tell it. `processes`: None
    takes as many as there are cores; an open file is written by one. AuditError when the folder cannot be read
    or `out` not be written.
    """
    if format not in FORMATS:
        raise AuditError(folder, f"format must be one of {', '.join(FORMATS)}")
    listing = list_folder(folder)
    files = [f"{s}/{segment_name(n)}" for s in STREAMS if s in streams for n in sorted(listing.segments[s])]
    jobs = [_Job(folder, file, tuple(keys), format, *span_ns) for file in files]
    with ExitStack() as stack:
        sink = stack.enter_context(_create(out)) if isinstance(out, Path) else out
        run = _Run(sink, DecryptReport(folder=str(folder)), progress, listing.bytes)
        run.begin(format)
        parallel = isinstance(out, Path) and (processes or listing.bytes >= POOL_BYTES)
        wanted = (processes or cores()) if parallel else 1
        if isinstance(out, Path) and wanted > 1:
            run.parallel([replace(job, part=_part(out, n)) for n, job in enumerate(jobs)], wanted)
        else:
            run.alone(jobs)
    return run.report


def _create(path: Path) -> BinaryIO:
    """What was secret is readable by nobody but its owner, and replaces nothing."""
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
    except OSError as error:
        raise AuditError(path, f"cannot be made: {error.strerror}") from None


def _part(out: Path, number: int) -> Path:
    return out.with_name(f".{out.name}.part-{number}")


class _Run:
    def __init__(self, sink: BinaryIO, report: DecryptReport, progress: Progress | None, total: int) -> None:
        self.report = report
        self._sink = sink
        self._seen = Seen()
        self._progress = progress
        self._total = total
        self._done = 0

    def begin(self, name: str) -> None:
        if name == "csv":
            self._sink.write(csv_head())

    def alone(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            self._add(job, _Segment(job, self._seen, self._sink.write).run())

    def parallel(self, jobs: Sequence[_Job], processes: int) -> None:
        with Pool(processes) as pool:
            for job, (outcome, runs) in zip(jobs, pool.run(_into_part, jobs), strict=True):
                self._take(job, outcome, runs)

    def _take(self, job: _Job, outcome: Outcome, runs: list[Run]) -> None:
        """A part as it is, unless something in it came in an earlier segment: then it is made anew."""
        part = job.part or Path()
        try:
            if self._seen.meets(runs):
                outcome = _Segment(job, self._seen, self._sink.write).run()
            else:
                self._seen.add_runs(runs)
                with part.open("rb") as made:
                    shutil.copyfileobj(made, self._sink, FLUSH_BYTES)
        finally:
            part.unlink(missing_ok=True)
        self._add(job, outcome)

    def _add(self, job: _Job, outcome: Outcome) -> None:
        self.report.add(outcome)
        if self._progress is not None:
            self._done += _size(job.folder / job.file)
            self._progress(self._done, max(self._total, self._done))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _into_part(job: _Job) -> tuple[Outcome, list[Run]]:
    """The work of one process of the pool."""
    if job.part is None:
        raise AuditError(job.folder, "no part to write to")
    runs = Runs()
    job.part.unlink(missing_ok=True)
    with _create(job.part) as part:
        outcome = _Segment(job, Seen(), part.write, runs).run()
    return outcome, runs.all()


class _Segment:
    def __init__(
        self, job: _Job, seen: Seen, write: Callable[[bytes], object], runs: Runs | None = None
    ) -> None:
        self._job = job
        self._seen = seen
        self._write = write
        self._runs = runs
        self._format = _WRITERS[job.format]
        self._out: list[bytes] = []
        self._waiting = 0
        self.outcome = Outcome(segments=1)

    def run(self) -> Outcome:
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
        suite, stream = header.fields.suite, header.fields.stream
        secret = open_secret(path, header, self._job.keys)
        self.outcome.opened = 1
        ratchet = Ratchet(suite, secret, header.fields.hash)
        most = os.fstat(file.fileno()).st_size // FRAME_OVERHEAD
        for offset, found in scan_frames(file, header.size):
            if isinstance(found, Bad) and found.tail:
                self.outcome.torn = 1
                self._skip(offset, f"torn tail: {found.why}")
            elif isinstance(found, Bad):
                self._damaged(offset, found.why)
            elif found.number > most:
                self._damaged(offset, f"frame {found.number}, more than the file could hold")
            else:
                self._frame(offset, found, suite, ratchet, (stream, header.fields.segno))

    def _frame(self, offset: int, frame: Frame, suite: Suite, ratchet: Ratchet, of: tuple[str, int]) -> None:
        """All of a frame's records, or none: what does not authenticate or parse tells nothing."""
        try:
            nonce = frame.number.to_bytes(12, "little")
            sealed = suite.open(ratchet.key(frame.number), nonce, frame.sealed, frame.head)
            texts = list(split_records(expand(sealed, frame.flags), frame.records))
        except (SuiteError, FormatError) as error:
            self._damaged(offset, f"frame {frame.number}: {error.reason}")
            return
        self.outcome.frames += 1
        for number, record in enumerate(self._records(offset, texts)):
            if record is not None:
                self._record(Place(*of, frame.number, frame.first_seq + number), record)

    def _records(self, offset: int, texts: list[bytes]) -> Iterator[dict[str, Any] | None]:
        """Together, which is three times as fast; one by one where something in them is not as is due."""
        try:
            rows = json.loads(b"[" + b",".join(texts) + b"]")
            for row in rows:
                require_record(row)
        except (ValueError, RecursionError, FormatError):
            rows = []
        if len(rows) == len(texts):
            yield from rows
            return
        for number, text in enumerate(texts):
            try:
                yield parse_record(text)
            except FormatError as error:
                self._damaged(offset, f"record {number} of the frame: {error.reason}")
                yield None

    def _record(self, place: Place, record: dict[str, Any]) -> None:
        outcome = self.outcome
        outcome.records += 1
        event = (record["s"], record["o"], record["q"])
        duplicate = self._seen.add(*event)
        outcome.duplicates += duplicate
        if self._runs is not None:
            self._runs.add(*event)
        if self._job.from_ns <= record["w"] <= self._job.to_ns:
            outcome.written += 1
            self._put(self._format(place, record, duplicate))

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
