"""What the recorder's tests share: records, a disk that fails when told to, and a log read with its keys."""

import errno
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

from agent.audit import RecipientKey, decrypt
from agent.recorder.log import Record
from agent.recorder.sealed.disk import Disk as RealDisk
from agent.recorder.sealed.log import SealedLog
from tests.recorder.sealed.logs import BOOT, KEYS, OTHER_BOOT, SEALING, PlainLedger

__all__ = ["BOOT", "OTHER_BOOT", "Disk", "bodies", "kept", "open_log", "opened", "record", "records", "seqs"]

FIELDS = ("source", "boot", "seq", "stream", "kind", "wall_ns", "boottime_ns", "body")
CLOCKS = {"synchronised": "s", "unsynchronised": "u", "unknown": "x"}


class Disk(RealDisk):
    """The real one, until it is told to fail."""

    def __init__(self) -> None:
        self.fits: int | None = None
        """Bytes that still fit; None for as many as you like."""
        self.fails_sync = False
        self.syncs = 0

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        if self.fits is None:
            return super().write(fd, data, offset)
        if self.fits == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = super().write(fd, data[: self.fits], offset)
        self.fits -= written
        return written

    def sync(self, fd: int) -> None:
        self.syncs += 1
        if self.fails_sync:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        super().sync(fd)


def open_log(folder: Path, disk: Disk | None = None) -> SealedLog:
    return SealedLog(folder, SEALING, PlainLedger(folder), disk=disk)


def record(
    seq: int, *, source: str = "reflex", boot: str = BOOT, stream: str = "safety", text: str = ""
) -> Record:
    return Record(source, boot, seq, stream, "e", 1_700_000_000_000_000_000 + seq, seq, {"text": text})


def records(first: int, last: int, *, source: str = "reflex") -> list[Record]:
    return [record(seq, source=source) for seq in range(first, last + 1)]


def kept(folder: Path) -> list[Record]:
    """Everything in the log, opened with a recipient's key; by sender, in order of seq."""
    return opened(folder, [RecipientKey(1, KEYS["department"], "department")])


def opened(folder: Path, keys: Sequence[RecipientKey]) -> list[Record]:
    """The same with any keys, as an auditor reads it; also of a log that is being written."""
    out = io.BytesIO()
    decrypt(folder, keys, out=out, processes=1)
    rows = map(json.loads, out.getvalue().splitlines())
    found = [Record(**{name: row[name] for name in FIELDS}, clock=CLOCKS[row["clock"]]) for row in rows]
    return sorted(found, key=lambda item: (item.source, item.boot, item.seq))


def seqs(found: list[Record], source: str = "reflex") -> list[int]:
    return [item.seq for item in found if item.source == source]


def bodies(folder: Path, kind: str) -> list[dict[str, object]]:
    """The bodies of the records of one kind."""
    return [dict(item.body) for item in kept(folder) if item.kind == kind]
