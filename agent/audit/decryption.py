"""`warden log decrypt`: the records, for whoever holds a recipient's key.

Every frame is authenticated by itself: a damaged one is reported and skipped, and costs only itself. Memory
is that of one frame, of the marks of what was seen (duplicates.py) and of the report's lists, all bounded.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from agent.audit.duplicates import Run, Seen
from agent.audit.errors import AuditError
from agent.audit.folder import list_folder
from agent.audit.keys import RecipientKey
from agent.audit.opening import COUNTS, FLUSH_BYTES, OpenJob, Outcome, SegmentOpener
from agent.audit.output import FORMATS, WRITERS
from agent.audit.pool import Pool, cores
from agent.audit.verification import Progress
from agent.logformat.layout import STREAMS, segment_name

DONE, TORN, DAMAGED, CLOSED = range(4)
"""Exit codes, as near to those of `verify` as they go."""
POOL_BYTES = 12 << 20
"""Of segments: what takes less is done sooner than another process starts, and is one segment or two."""
_SHOWN = 20


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
        yield (
            f"{self.folder}: {self.records} records / 记录, {self.written} written / 已写出, "
            f"{self.duplicates} duplicates / 重复"
        )
        yield f"  segments / 日志段: {self.opened} of {self.segments} opened / 已打开"
        yield from (f"  {row.file} byte {row.offset}: {row.why}" for row in self.skipped[:_SHOWN])
        if self.damaged:
            yield f"  {self.damaged} frames or headers skipped / 已跳过损坏部分 {self.damaged} 处"
        if self.segments and not self.opened:
            yield "  none of the keys opens this log / 密钥不符，无法打开"


def decrypt(
    folder: Path,
    keys: Sequence[RecipientKey],
    *,
    out: Path | BinaryIO | None,
    format: str = "jsonl",  # noqa: A002 - what the option is called
    streams: Sequence[str] = STREAMS,
    span_ns: tuple[int, int] = (0, 2**63),
    processes: int | None = None,
    progress: Progress | None = None,
) -> DecryptReport:
    """Writes the records of all segments, stream by stream and in order, to `out`.

    `out`: a path where nothing is yet (made with mode 0600), an open binary file, or None, which only
    authenticates and decompresses every frame. `format`: one of FORMATS. `span_ns`: first and last wall time
    of the records wanted, as they themselves tell it. `processes`: None takes as many as there are cores; an
    open file is written by one. AuditError when the folder cannot be read or `out` not be written.
    """
    if format not in FORMATS:
        raise AuditError(folder, f"format must be one of {', '.join(FORMATS)}")
    listing = list_folder(folder)
    files = [f"{s}/{segment_name(n)}" for s in STREAMS if s in streams for n in sorted(listing.segments[s])]
    jobs = [OpenJob(folder, file, tuple(keys), "" if out is None else format, *span_ns) for file in files]
    wanted = processes or (cores() if listing.segment_bytes >= POOL_BYTES else 1)
    run = _Run(DecryptReport(folder=str(folder)), progress, listing.bytes)
    with ExitStack() as stack:
        if out is None:
            run.check(jobs, wanted)
        elif isinstance(out, Path):
            run.to_file(stack.enter_context(_create(out)), out, jobs, wanted)
        else:
            run.to_sink(out, jobs)
    return run.report


def _create(path: Path) -> BinaryIO:
    """What was secret is readable by nobody but its owner, and replaces nothing."""
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
    except OSError as error:
        raise AuditError(path, f"cannot be made: {error.strerror}") from None


class _Run:
    def __init__(self, report: DecryptReport, progress: Progress | None, total: int) -> None:
        self.report = report
        self._seen = Seen()
        self._progress = progress
        self._total = total
        self._done = 0

    def check(self, jobs: Sequence[OpenJob], processes: int) -> None:
        with Pool(processes) as pool:
            for job, outcome in zip(jobs, pool.run(_authenticate, jobs), strict=True):
                self._add(job, outcome)

    def to_sink(self, sink: BinaryIO, jobs: Sequence[OpenJob]) -> None:
        for number, job in enumerate(jobs):
            if number == 0:
                sink.write(WRITERS[job.format].head)
            self._add(job, SegmentOpener(job, self._seen, sink.write).run())

    def to_file(self, sink: BinaryIO, out: Path, jobs: Sequence[OpenJob], processes: int) -> None:
        """Each process writes a part beside `out`; the parts are put together in order."""
        if processes == 1:
            self.to_sink(sink, jobs)
            return
        parts = [replace(job, part=out.with_name(f".{out.name}.part-{n}")) for n, job in enumerate(jobs)]
        with Pool(processes) as pool:
            for number, (job, (outcome, runs)) in enumerate(
                zip(parts, pool.run(_into_part, parts), strict=True)
            ):
                if number == 0:
                    sink.write(WRITERS[job.format].head)
                self._take(sink, job, outcome, runs)

    def _take(self, sink: BinaryIO, job: OpenJob, outcome: Outcome, runs: list[Run]) -> None:
        """A part as it is, unless something in it came in an earlier segment: then it is made anew."""
        part = job.part or Path()
        try:
            if self._seen.meets(runs):
                outcome = SegmentOpener(job, self._seen, sink.write).run()
            else:
                self._seen.add_runs(runs)
                with part.open("rb") as made:
                    shutil.copyfileobj(made, sink, FLUSH_BYTES)
        finally:
            part.unlink(missing_ok=True)
        self._add(job, outcome)

    def _add(self, job: OpenJob, outcome: Outcome) -> None:
        self.report.add(outcome)
        if self._progress is not None:
            self._done += _size(job.folder / job.file)
            self._progress(self._done, max(self._total, self._done))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _authenticate(job: OpenJob) -> Outcome:
    """The work of one process of the pool, nothing written."""
    return SegmentOpener(job, Seen(), lambda _: None).run()


def _into_part(job: OpenJob) -> tuple[Outcome, list[Run]]:
    """The work of one process of the pool."""
    part, seen = job.part or Path(), Seen(keep_runs=True)
    part.unlink(missing_ok=True)
    with _create(part) as file:
        outcome = SegmentOpener(job, seen, file.write).run()
    return outcome, seen.runs()
