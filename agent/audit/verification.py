"""What `warden log verify` finds in a sealed log's folder, or in a bundle of it, without any secret.

The ledgers are read once for their story, then each segment beside the stretch of ledger that speaks of it.
Memory grows with the number of segments (about a kilobyte each), not with the length of ledger or segments.
Read-only: it may run beside a recorder that is writing.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from agent.audit import manifest as manifests
from agent.audit.errors import FormatError
from agent.audit.findings import Finding
from agent.audit.folder import MANIFEST_FILE, is_written, list_folder, pieces
from agent.audit.ledger import Keys, LedgerReader, check_signatures
from agent.audit.orders import OrderKeys
from agent.audit.pool import Pool, cores
from agent.audit.report import Report
from agent.audit.segment import SegmentJob, SegmentResult, check_gone, check_segment
from agent.audit.story import Expected, Story
from agent.audit.tail import measure_tail
from agent.audit.witness import Lines, compare, first_line, record_file
from agent.logformat.layout import LEDGER_FILE, STREAMS, segment_name

Progress = Callable[[int, int], None]
"""Told (bytes done, bytes in all); the sum may be passed where the log grows meanwhile."""

POOL_BYTES: Final = 64 << 20
"""Of segments. What takes less is done sooner than another process starts: a tenth of a second."""
LEDGER_WEIGHT: Final = 50
"""A byte of the ledger takes as long as so many of a segment: each line has a signature of its own."""
ATTEMPTS: Final = 3
_RACES: Final = frozenset({"gone_unordered", "gone_missing", "segment_missing", "segment_unknown"})
"""What a deletion or a rotation in the middle of a verification looks like."""


def verify(
    folder: Path,
    *,
    genesis: bytes | None = None,
    witness: Path | None = None,
    order_keys: OrderKeys | None = None,
    witness_keys: Mapping[str, bytes] | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Verifies all of `folder`; AuditError when it cannot be read at all.

    `genesis`: the registered line. `witness`: a witness's record of this robot, or everyone's folder.
    `order_keys`, `witness_keys` (kid → 32 bytes of Ed25519): None leaves such tokens unchecked. `processes`:
    None takes as many as there are cores.
    """
    keys = Keys(order_keys, witness_keys)
    for _ in range(ATTEMPTS):
        run = _Verification(folder, genesis, witness, keys, progress)
        report = run.run(processes)
        if not (report.live and _RACES & report.counts.keys()):
            break
    return report


class _Verification:
    def __init__(
        self, folder: Path, genesis: bytes | None, witness: Path | None, keys: Keys, progress: Progress | None
    ) -> None:
        self._folder = folder
        self._genesis = genesis
        self._witness = witness
        self._progress = progress
        self.report = Report(str(folder), live=is_written(folder))
        self._listing = list_folder(folder)
        self._story = Story()
        self._reader = LedgerReader(folder, self.report, self._story, keys, live=self.report.live)
        self._lines: dict[str, Lines] = {}
        self._acked: dict[str, int] = {}
        self._next: dict[str, int] = {}
        self._done = 0
        self._manifest: Mapping[str, Any] | None = None

    def run(self, processes: int | None) -> Report:
        work = self._listing.segment_bytes + LEDGER_WEIGHT * self._listing.ledger_bytes
        wanted = processes or (cores() if work >= POOL_BYTES else 1)
        self._read_manifest()
        with Pool(wanted) as pool:
            self._ledgers(pool)
            if self.report.live:
                self._listing = list_folder(self._folder)
            self._segments(pool)
            self._check_manifest(pool)
        self._torn()
        self._spares()
        self._witnessed()
        self.report.add(self._listing.findings)
        return self.report

    def _add(self, kind: str, file: str, detail: str = "", n: int = -1) -> None:
        self.report.add([Finding(kind, file, n=n, detail=detail)])

    def _advance(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(self._done, max(self._listing.bytes, self._done))

    # ---- ledgers

    def _ledgers(self, pool: Pool) -> None:
        names = self._listing.ledgers
        if LEDGER_FILE not in names:
            self._add("ledger_missing", LEDGER_FILE)
        self._registered(names)
        for name in names:
            found = self._ledger(name, pool, last=name == LEDGER_FILE)
            self.report.add(sorted(found, key=lambda row: row.offset))
        for name in names[: None if LEDGER_FILE not in names else -1]:
            self._add("ledger_broken_off", name)

    def _ledger(self, name: str, pool: Pool, *, last: bool) -> list[Finding]:
        reader, before = self._reader, self._done
        reader.findings = []
        try:
            batches = reader.read(name, last=last, told=lambda at: self._advance(before + at - self._done))
            wrong = [row for found in pool.run(check_signatures, batches) for row in found]
        except OSError as error:
            return [Finding("unreadable", name, detail=error.strerror or "not a regular file")]
        self._lines[name], self._acked[name] = reader.lines, reader.acked
        return [*reader.findings, *wrong]

    def _registered(self, names: list[str]) -> None:
        """The registered genesis must begin a ledger of this folder."""
        if self._genesis is None:
            self._add("genesis_not_given", LEDGER_FILE)
            return
        firsts = [line for name in names if (line := self._first(name)) is not None]
        if firsts and self._genesis.removesuffix(b"\n") not in firsts:
            self._add("genesis_differs", names[0], n=0)

    def _first(self, name: str) -> bytes | None:
        try:
            return first_line(self._folder / name)
        except OSError:
            return None

    # ---- segments

    def _segments(self, pool: Pool) -> None:
        jobs = [(job, kind) for stream in STREAMS for job, kind in self._jobs(stream)]
        results = pool.run(_check, iter(jobs))
        for (job, _), result in zip(jobs, results, strict=True):
            self._count(job, result)
            self._advance(result.bytes)

    def _jobs(self, stream: str) -> Iterator[tuple[SegmentJob, str]]:
        listing, expected = self._listing, self._story.segments[stream]
        there, gone = listing.segments[stream], listing.gone[stream]
        last = max(expected, default=0)
        for segno in sorted(expected.keys() | there | gone):
            job = self._job(stream, segno, last)
            if segno in gone:
                yield job, "gone"
            if segno in there or not (segno in gone or self._vanished(job)):
                if self.report.live and segno > last:
                    continue  # begun after the ledger was read
                yield job, "seg"

    def _job(self, stream: str, segno: int, last: int) -> SegmentJob:
        return SegmentJob(
            folder=self._folder,
            robot=self.report.robot,
            stream=stream,
            segno=segno,
            ledgers=tuple(self._folder / name for name in self.report.ledgers),
            expected=self._story.segments[stream].get(segno),
            live=segno == last and self._written,
            due=segno == last + 1,
            unjudged=not self.report.entries,
        )

    @property
    def _written(self) -> bool:
        """A recorder was writing: now, or when the bundle was made."""
        return self.report.live or bool(self._manifest and self._manifest["live"])

    def _vanished(self, job: SegmentJob) -> bool:
        """A deleted segment of which nothing stays."""
        if job.expected is None or not job.expected.deleted_n:
            return False
        self._add("gone_missing", job.name)
        return True

    def _count(self, job: SegmentJob, result: SegmentResult) -> None:
        report = self.report
        report.bytes += result.bytes
        if result.state == "gone":
            report.deleted += job.expected is not None
            report.records_deleted += result.records
        elif result.state in ("sealed", "open"):
            report.segments += 1
            report.sealed += result.state == "sealed"
            report.open += result.state == "open"
            report.records += result.records
        self._next[job.stream] = max(self._next.get(job.stream, 1), result.next_seq)
        report.add(result.findings)

    # ---- what was set aside

    def _torn(self) -> None:
        named = {f for expected in self._story.expected() for f in self._recoveries(expected)}
        for name in sorted(self._listing.torn.keys() - named):
            self._add("torn_unknown", name)
        for name in self._listing.ledger_torn:
            try:
                whole = any(b"\n" in piece for piece in pieces(self._folder / name))
            except OSError as error:
                self._add("unreadable", name, error.strerror or "")
                continue
            self._add("torn_line_whole" if whole else "torn_line", name)

    def _spares(self) -> None:
        """Zeros, which a recorder may be taking into use just now."""
        for name in () if self.report.live else self._listing.spare:
            try:
                if any(any(piece) for piece in pieces(self._folder / name)):
                    self._add("spare_used", name)
            except OSError as error:
                self._add("unreadable", name, error.strerror or "")

    def _recoveries(self, expected: Expected) -> Iterator[str]:
        """The names of the files that a segment's recoveries set aside."""
        for row in expected.recovered:
            file = f"{expected.stream}/{segment_name(expected.segno)}"
            self._add("recovered", file, f"{row.torn_bytes} bytes set aside", row.n)
            name = f"{expected.stream}/{row.kept_as.rpartition('/')[2]}"
            size = self._listing.torn.get(name)
            if row.kept_as:
                yield name
            if size is None and row.torn_bytes:
                self._add("torn_missing", name, n=row.n)
            elif size is not None and size != row.torn_bytes:
                self._add("torn_differs", name, f"{size} bytes, entry {row.n} says {row.torn_bytes}")

    # ---- manifest

    def _read_manifest(self) -> None:
        if not self._listing.manifest:
            return
        self.report.bundle = True
        try:
            self._manifest = manifests.read_manifest(self._folder)
        except FormatError as error:
            self._add("manifest", MANIFEST_FILE, error.reason)
        except OSError as error:
            self._add("unreadable", MANIFEST_FILE, error.strerror or "")

    def _check_manifest(self, pool: Pool) -> None:
        told, report = self._manifest, self.report
        if told is None:
            return
        report.add(manifests.check_listing(told, self._listing))
        for findings in pool.run(manifests.check_file, manifests.jobs(self._folder, told, self._listing)):
            report.add(findings)
        if (told["robot"], told["head"]) != (report.robot, {"n": report.head_n, "hash": report.head_hash}):
            self._add("manifest", MANIFEST_FILE, "names another robot or another end of the ledger")

    # ---- witness

    def _witnessed(self) -> None:
        seen = self.report.witnessed
        if self._witness is not None and self.report.ledgers:
            self._compare(record_file(self._witness, self.report.robot))
        newest = self.report.ledgers[-1] if self.report.ledgers else ""
        if self._acked.get(newest, -1) > (seen.n if seen.ledger in ("", newest) else -1):
            seen.ledger, seen.n = newest, self._acked[newest]
            seen.by = "token" if self._reader.has_witness_keys else "claim"
        try:
            measure_tail(
                seen, self._lines, {s: max(self._story.next_seq(s), self._next.get(s, 1)) for s in STREAMS}
            )
        except OSError as error:
            self._add("unreadable", seen.ledger, error.strerror or "")

    def _compare(self, record: Path) -> None:
        try:
            begin = first_line(record)
            names = [name for name in self.report.ledgers if self._first(name) == begin]
            name = names[0] if names else self.report.ledgers[-1]
            last, findings = compare(self._folder / name, record)
        except OSError as error:
            self._add("witness_missing", record.name, error.strerror or "")
            return
        self.report.add(findings)
        if last >= 0:
            self.report.witnessed.ledger, self.report.witnessed.n = name, last
            self.report.witnessed.by = "record"


def _check(job: tuple[SegmentJob, str]) -> SegmentResult:
    """The work on one row of `_jobs`."""
    row, kind = job
    deleted = row.expected is not None and row.expected.deleted_n > 0
    if kind == "gone" and not deleted:
        return SegmentResult([Finding("gone_unordered", f"{row.stream}/{row.segno}")], "gone")
    if kind == "gone":
        return check_gone(row)
    if not deleted:
        return check_segment(row)
    return SegmentResult([Finding("delete_unfinished", row.name)], "going")
