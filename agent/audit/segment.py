"""One segment, or what stays of it, held to what the ledger says: the work of one process of the pool."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from agent.audit.errors import FormatError
from agent.audit.findings import Finding
from agent.audit.folder import open_file, read_small
from agent.audit.header import MAX_GONE_BYTES, Gone, Header, parse_gone, parse_header
from agent.audit.ledger import TRIES, WAIT_S, read_range
from agent.audit.story import Expected
from agent.audit.walk import Fault, Mark, Told, Walk, Walker
from agent.logformat.layout import MAX_HEADER_BYTES, gone_name, segment_name

_SPEAKS: Final = (b'"kind":"checkpoint"', b'"kind":"seg.recover"')


@dataclass(frozen=True, slots=True)
class SegmentJob:
    """`ledgers`: their paths, in order; `expected`: None for a file that no ledger speaks of.

    `live`: a recorder is writing, and this is the stream's newest segment; `due`: the number is the one that
    the stream's next segment will have; `unjudged`: there is no ledger at all.
    """

    folder: Path
    robot: str
    stream: str
    segno: int
    ledgers: tuple[Path, ...]
    expected: Expected | None
    live: bool = False
    due: bool = False
    unjudged: bool = False

    @property
    def name(self) -> str:
        """Of its file, below the folder."""
        return f"{self.stream}/{segment_name(self.segno)}"


@dataclass(slots=True)
class SegmentResult:
    """`state`: sealed, open, missing, gone, or going (a deletion under way). `records`: in whole frames."""

    findings: list[Finding] = field(default_factory=list)
    state: str = "missing"
    records: int = 0
    bytes: int = 0
    next_seq: int = 1
    """The number after the last record's."""


def check_segment(job: SegmentJob) -> SegmentResult:
    """A segment that is there, or should be."""
    check = _Check(job)
    try:
        with os.fdopen(open_file(job.folder / job.name), "rb") as file:
            check.run(file)
    except FileNotFoundError:
        if job.expected is None or not job.expected.torn_header:
            check.tell("segment_missing")
    except OSError as error:
        check.tell("unreadable", error.strerror or "not a regular file")
    return check.result


class _Check:
    def __init__(self, job: SegmentJob) -> None:
        self.result = SegmentResult()
        self._job = job
        self._expected = job.expected

    def tell(self, kind: str, detail: str = "", offset: int = -1) -> None:
        self.result.findings.append(Finding(kind, self._job.name, offset, detail=detail))

    def run(self, file: BinaryIO) -> None:
        self.result.bytes = os.fstat(file.fileno()).st_size
        try:
            header = parse_header(file.read(MAX_HEADER_BYTES))
        except FormatError as error:
            self._no_header(error.reason)
            return
        walk = self._walk(file, header)
        if self._expected is None:
            self._unknown(empty=not walk.frames and walk.seal is None and not walk.faults)
        self._header(header)
        self._judge(walk)

    def _no_header(self, reason: str) -> None:
        expected = self._expected
        if expected is None:
            self._unknown(empty=True)
        elif expected.torn_header and not self.result.bytes:
            self.result.state = "gone"  # cut to nothing, after its bytes were set aside
        elif expected.torn_header:
            self.tell("tail", reason, 0)
        else:
            self.tell("header", reason, 0)

    def _unknown(self, *, empty: bool) -> None:
        """Between a file's making and its `seg.open` a crash may come; a frame is never in it then."""
        if self._job.unjudged:
            self.tell("segment_unjudged")
        else:
            self.tell("segment_unopened" if self._job.due and empty else "segment_unknown")

    # ---- header

    def _header(self, header: Header) -> None:
        fields, job, expected = header.fields, self._job, self._expected
        if (fields.stream, fields.segno, fields.robot) != (job.stream, job.segno, job.robot or fields.robot):
            self.tell("header_differs", f"is {fields.stream}/{fields.segno} of {fields.robot}", 0)
        if expected is None:
            return
        if expected.header and header.hash.hex() != expected.header:
            self.tell("header_differs", "another header hash", 0)
        if fields.prev_seal != expected.prev_seal:
            self.tell("header_differs", "follows another segment", 0)
        if fields.first_seq != expected.first_seq:
            self.tell("header_differs", f"begins at record {fields.first_seq}", 0)
        if fields.suite.number != expected.suite:
            self.tell("header_differs", f"suite {fields.suite.number}, the ledger's is {expected.suite}", 0)

    # ---- frames

    def _walk(self, file: BinaryIO, header: Header) -> Walk:
        """Once; a tail that a recorder is writing just now is looked at again until it is whole."""
        walk = self._walk_once(file, header)
        for _ in range(TRIES if self._may_grow else 0):
            if walk.rest != "bytes" or walk.seal is not None:
                break
            time.sleep(WAIT_S)
            walk = self._walk_once(file, header)
        return walk

    @property
    def _may_grow(self) -> bool:
        return self._job.live and self._expected is not None and self._expected.seal is None

    def _walk_once(self, file: BinaryIO, header: Header) -> Walk:
        walker = Walker(
            file,
            header.fields.suite,
            header.hash,
            start=header.size,
            first_seq=header.fields.first_seq,
            marks=marks(self._job),
            told=_told(self._expected),
        )
        return walker.run()

    # ---- verdict

    def _judge(self, walk: Walk) -> None:
        self.result.records, self.result.next_seq = walk.records, walk.next_seq
        self.result.state = "open" if walk.seal is None else "sealed"
        sealed = self._expected is not None and self._expected.seal is not None
        for fault in walk.faults:
            self._fault(fault, sealed=sealed)
        if walk.seal is not None:
            self._own_seal(walk)
        if walk.seal is not None and sealed and walk.rest != "nothing":
            self.tell("after_seal", offset=walk.end)
        elif walk.seal is not None and walk.rest == "bytes":
            # Nobody signed the seal: it may have been written in vain. Zeros are room that was not cut yet.
            self.tell("untold", "after the seal", walk.end)
        if self._expected is None:
            return
        if sealed:
            self._signed_seal(walk)
        else:
            self._unsealed(walk)
        self._recoveries(walk)

    def _fault(self, fault: Fault, *, sealed: bool) -> None:
        kind = "frame" if fault.kind == "tail" and (sealed or self._job.live) else fault.kind
        self.tell(kind, fault.detail, fault.offset)

    def _own_seal(self, walk: Walk) -> None:
        """A seal must say what is before it, whatever the ledger says."""
        seal = walk.seal
        if seal is None:
            return
        frames = {walk.frames, walk.next_index} if walk.damaged else {walk.frames}
        records = {walk.records, walk.next_seq - self._first_seq(walk)} if walk.damaged else {walk.records}
        good = seal.frames in frames and seal.index == seal.frames and seal.records in records
        if not good or seal.next_seq != walk.next_seq or seal.bytes != walk.seal_at:
            self.tell("seal_differs", "does not say what is before it", walk.seal_at)

    def _first_seq(self, walk: Walk) -> int:
        return self._expected.first_seq if self._expected else walk.next_seq - walk.records

    def _signed_seal(self, walk: Walk) -> None:
        expected, seal = self._expected, walk.seal
        if expected is None or expected.seal is None:
            return
        told = expected.seal
        if seal is None:
            # Not merely missing: the ledger says that it had been written.
            self.tell("cut", f"entry {told.n} speaks of a seal")
            return
        pairs = (
            ("seal hash", told.seal, walk.h.hex()),
            ("frames", told.frames, seal.frames),
            ("records", told.records, seal.records),
            ("next_seq", told.next_seq, seal.next_seq),
            ("bytes", told.bytes, walk.end),
            ("reason", told.reason, seal.reason),
        )
        wrong = [name for name, mine, found in pairs if mine != found]
        if wrong:
            self.tell("seal_differs", f"entry {told.n}: {', '.join(wrong)}", walk.seal_at)

    def _unsealed(self, walk: Walk) -> None:
        if self._job.live:
            self.tell("open", f"{walk.frames} frames")
        elif walk.seal is None:
            self.tell("seal_missing", f"{walk.frames} frames")
        else:
            self.tell("seal_unsigned", f"{walk.frames} frames", walk.seal_at)

    def _recoveries(self, walk: Walk) -> None:
        expected = self._expected
        if expected is None or not expected.recovered:
            return
        last = expected.recovered[-1]
        if walk.damaged:
            self._damage(walk)
        if last.damaged and expected.seal and last.h != walk.h_before_seal.hex():
            self.tell("chain", f"not the frames that entry {last.n} recovered")

    def _damage(self, walk: Walk) -> None:
        expected = self._expected
        rows = [row for recovery in expected.recovered for row in recovery.damaged] if expected else []
        self.tell("damaged", f"{sum(size for _, size in rows)} bytes in {len(rows)} places")


def _told(expected: Expected | None) -> Told | None:
    if expected is None or not expected.recovered:
        return None
    rows = expected.recovered
    binding = expected.header and expected.seal is None
    return Told(
        {start: size for row in rows for start, size in row.damaged},
        next((row.n for row in rows if row.damaged), 0),
        rows[-1].frames if binding else -1,
    )


def marks(job: SegmentJob) -> Iterator[Mark]:
    """What the ledger says of the segment's frames, in order, read again from where it speaks of it."""
    expected = job.expected
    if expected is None:
        return
    if expected.header:
        yield Mark(0, 0, expected.first_seq, expected.header)
    for index, start, stop in expected.ranges:
        for line in read_range(job.ledgers[index], start, stop) if index < len(job.ledgers) else ():
            if any(kind in line for kind in _SPEAKS):
                yield from _marks_of(line, expected)


def _marks_of(line: bytes, expected: Expected) -> Iterator[Mark]:
    """None for a line that cannot be read: the pass over the ledger has reported it."""
    try:
        entry = json.loads(line)
        body = entry["body"]
        if entry["kind"] == "seg.recover":
            rows = [body] if (body["stream"], body["segno"]) == (expected.stream, expected.segno) else []
        else:
            rows = [row for name, row in body["streams"].items() if name == expected.stream]
        for row in rows:
            if row["segno"] == expected.segno and not row.get("damaged"):
                yield Mark(entry["n"], row["frames"], row["next_seq"], row["h"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return


# ---- deleted


def check_gone(job: SegmentJob) -> SegmentResult:
    """A tombstone: header and seal must be those that the ledger signed."""
    name = f"{job.stream}/{gone_name(job.segno)}"
    try:
        gone = parse_gone(read_small(job.folder / name, MAX_GONE_BYTES))
    except FileNotFoundError:
        return SegmentResult([Finding("gone_missing", name)])
    except FormatError as error:
        return SegmentResult([Finding("gone_bad", name, detail=error.reason)])
    except OSError as error:
        return SegmentResult([Finding("unreadable", name, detail=error.strerror or "")])
    wrong = _wrong_gone(job, gone)
    findings = [Finding("gone_bad", name, detail=", ".join(wrong))] if wrong else []
    return SegmentResult(findings, "gone", gone.seal.records, 0)


def _wrong_gone(job: SegmentJob, gone: Gone) -> list[str]:
    expected, fields, seal = job.expected, gone.fields, gone.seal
    if expected is None or expected.seal is None:
        return ["no sealed segment of this number"]
    told = expected.seal
    pairs = (
        ("names", (job.stream, job.segno, job.robot), (fields.stream, fields.segno, fields.robot)),
        ("header hash", expected.header or gone.header_hash.hex(), gone.header_hash.hex()),
        ("previous seal", expected.prev_seal, fields.prev_seal),
        ("first_seq", expected.first_seq, fields.first_seq),
        ("seal hash", told.seal, gone.seal_hash.hex()),
        ("bytes", told.bytes, gone.bytes),
        ("seal", (told.frames, told.records, told.next_seq, told.reason), _said(gone)),
        ("offset of the seal", seal.bytes + seal.size, gone.bytes),
    )
    return [name for name, mine, found in pairs if mine != found]


def _said(gone: Gone) -> tuple[int, int, int, str]:
    seal = gone.seal
    return seal.frames, seal.records, seal.next_seq, seal.reason
