"""`warden log export`: a bundle of the evidence, read-only, that verify and decrypt take like the log itself.

The ledger is copied first. Whatever it says has been on the disk before it was said, so the segments copied
after it hold at least that; what they hold beyond it is cut off where the ledger does not know of it yet.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from agent.audit.errors import AuditError, FormatError
from agent.audit.folder import MANIFEST_FILE, Listing, is_written, list_folder, open_file
from agent.audit.frames import Frame
from agent.audit.header import parse_header
from agent.audit.ledger import Keys, LedgerReader
from agent.audit.manifest import evidence, measure, text_of
from agent.audit.report import Report
from agent.audit.scan import scan_frames
from agent.audit.story import Expected, Story
from agent.audit.verification import Progress
from agent.logformat.layout import LEDGER_FILE, MAX_HEADER_BYTES, STREAMS

ATTEMPTS: Final = 5
"""A deletion in the middle of an export makes it begin again; a recorder deletes once a day at most."""
_PIECE: Final = 1 << 20


class ChangedError(AuditError):
    """A file went away while the log was copied."""


@dataclass(slots=True)
class ExportReport:
    """`target`: the bundle. `files`, `bytes`: in it, without the manifest.

    `left_out`: files in the log's folder that are neither evidence nor the writer's own.
    """

    target: str
    robot: str = ""
    live: bool = False
    files: int = 0
    bytes: int = 0
    head_n: int = -1
    head_hash: str = ""
    left_out: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """All fields, JSON-able."""
        return {name: getattr(self, name) for name in self.__slots__}

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"{self.target}: {self.files} files / 文件, {self.bytes} bytes"
        yield f"  head / 末条: {self.head_n} {self.head_hash}"
        yield from (f"  left out / 未导出: {name}" for name in self.left_out)


def export(
    folder: Path, target: Path, *, now_ns: int | None = None, progress: Progress | None = None
) -> ExportReport:
    """Copies the evidence in `folder` to the new folder `target`; AuditError when that cannot be done.

    Files get mode 0400. `now_ns`: written into the manifest, the machine's clock by default.
    """
    made_ns = time.time_ns() if now_ns is None else now_ns
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _Export(folder, target, progress).run(made_ns)
        except ChangedError:
            if attempt == ATTEMPTS:
                raise
    raise AssertionError  # the last attempt returned or raised


class _Export:
    def __init__(self, folder: Path, target: Path, progress: Progress | None) -> None:
        self._folder = folder
        self._target = target
        self._progress = progress
        self._done = 0
        self._total = 0
        self._rows: list[dict[str, Any]] = []
        self._story = Story()
        self._about = Report(str(folder), live=is_written(folder))

    def run(self, made_ns: int) -> ExportReport:
        self._make()
        try:
            return self._copy(made_ns)
        except BaseException:
            self._unmake()
            raise

    def _copy(self, made_ns: int) -> ExportReport:
        ledgers = list_folder(self._folder)
        self._total = ledgers.bytes
        for name in ledgers.ledgers:
            self._whole(name, lines=name == LEDGER_FILE)
        self._tell()
        listing = list_folder(self._folder)
        if listing.ledgers != ledgers.ledgers:
            raise ChangedError(self._folder, "another ledger was begun while it was copied")
        for path in self._wanted(listing):
            self._file(path)
        return self._finish(made_ns, listing)

    # ---- the target

    def _make(self) -> None:
        try:
            self._target.mkdir(mode=0o700)
            for stream in STREAMS:
                (self._target / stream).mkdir(mode=0o700)
        except OSError as error:
            raise AuditError(self._target, f"cannot be made: {error.strerror}") from None

    def _unmake(self) -> None:
        """Half a bundle would be taken for a log with holes."""
        for stream in STREAMS:
            for path in (self._target / stream).iterdir():
                path.unlink()
            (self._target / stream).rmdir()
        for path in self._target.iterdir():
            path.unlink()
        self._target.rmdir()

    # ---- what the copied ledger says

    def _tell(self) -> None:
        reader = LedgerReader(self._target, self._about, self._story, Keys(), live=False)
        for row in self._rows:
            for _ in reader.read(row["path"], last=False, told=lambda _: None):
                pass  # signatures are for whoever verifies

    def _wanted(self, listing: Listing) -> Iterator[str]:
        """All evidence but what was begun, or set aside, after the ledger was copied."""
        newest = {stream: max(rows, default=0) for stream, rows in self._story.segments.items()}
        named = {self._kept(e, row.kept_as) for e in self._story.expected() for row in e.recovered}
        for path in evidence(listing):
            if path in listing.ledgers:
                continue
            stream, _, name = path.partition("/")
            later = name.endswith(".seg") and int(name[:-4]) > newest[stream]
            if self._about.live and (later or (path in listing.torn and path not in named)):
                continue
            yield path
        self._all_there(listing)

    @staticmethod
    def _kept(expected: Expected, name: str) -> str:
        return f"{expected.stream}/{name.rpartition('/')[2]}"

    def _all_there(self, listing: Listing) -> None:
        """Under a running recorder a file that is missing may have been deleted since."""
        for expected in self._story.expected() if self._about.live else ():
            there = expected.segno in listing.segments[expected.stream] | listing.gone[expected.stream]
            if not there and not expected.torn_header:
                raise ChangedError(self._folder, f"{expected.named} went away while it was copied")
        for stream, numbers in listing.gone.items() if self._about.live else ():
            rows = self._story.segments[stream]
            if any(not (segno in rows and rows[segno].deleted_n) for segno in numbers):
                raise ChangedError(self._folder, f"of {stream} a segment was deleted while it was copied")

    # ---- copying

    def _file(self, path: str) -> None:
        stream, _, name = path.partition("/")
        expected = self._story.segments[stream].get(int(name[:-4])) if name.endswith(".seg") else None
        if expected is not None and expected.seal is None and self._about.live:
            self._cut(path)
        else:
            self._whole(path)

    def _open(self, path: str) -> BinaryIO:
        try:
            return os.fdopen(open_file(self._folder / path), "rb")
        except FileNotFoundError:
            raise ChangedError(self._folder / path, "went away while the log was copied") from None
        except OSError as error:
            raise AuditError(self._folder / path, f"cannot be read: {error.strerror}") from None

    def _whole(self, path: str, *, lines: bool = False) -> None:
        """A file as it is now; of a ledger that is being written whole lines only."""
        with self._open(path) as file:
            size = os.fstat(file.fileno()).st_size
            if lines and self._about.live:
                size = _last_line(file, size)
            self._write(path, file, size)

    def _cut(self, path: str) -> None:
        """An open segment up to its last whole frame; a seal that the copied ledger does not know is left."""
        with self._open(path) as file:
            self._write(path, file, _last_frame(file))

    def _write(self, path: str, file: BinaryIO, size: int) -> None:
        file.seek(0)
        target = self._target / path
        with os.fdopen(
            os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400), "wb"
        ) as copy:
            left = size
            while left and (piece := file.read(min(left, _PIECE))):
                copy.write(piece)
                left -= len(piece)
            copy.flush()
            os.fsync(copy.fileno())
        found, digest = measure(target)
        self._rows.append({"path": path, "bytes": found, "sha256": digest})
        self._done += found
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done))

    def _finish(self, made_ns: int, listing: Listing) -> ExportReport:
        about = self._about
        head = {"n": about.head_n, "hash": about.head_hash}
        manifest = {"v": 1, "robot": about.robot, "made_ns": made_ns, "live": about.live, "head": head}
        (self._target / MANIFEST_FILE).write_bytes(text_of({**manifest, "files": self._rows}))
        return ExportReport(
            target=str(self._target),
            robot=about.robot,
            live=about.live,
            files=len(self._rows),
            bytes=self._done,
            head_n=about.head_n,
            head_hash=about.head_hash,
            left_out=[finding.file for finding in listing.findings],
        )


def _last_line(file: BinaryIO, size: int) -> int:
    """Where the last whole line of the first `size` bytes ends."""
    end = size
    while end > 0:
        start = max(0, end - _PIECE)
        file.seek(start)
        at = file.read(end - start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0


def _last_frame(file: BinaryIO) -> int:
    """Where the last whole frame of records ends, or the header, or 0 where even that is not whole."""
    try:
        end = parse_header(file.read(MAX_HEADER_BYTES)).size
    except FormatError:
        return os.fstat(file.fileno()).st_size
    for offset, found in scan_frames(file, end):
        if isinstance(found, Frame):
            end = offset + found.size
    return end
