"""What the recorder's tests share: records, and a plain reading of a log's folder."""

import errno
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from agent.recorder.lines import Opening, parse_line, segment_name
from agent.recorder.log import Record
from agent.recorder.plain import segments

BOOT = "ab" * 16
OTHER_BOOT = "cd" * 16


class Disk:
    """`write` and `sync` that fail when told to."""

    def __init__(self) -> None:
        self.room: int | None = None
        """Bytes that still fit; None for as many as you like."""
        self.fails_sync = False
        self.most_at_once: int | None = None
        self.syncs = 0

    def write(self, fd: int, data: memoryview) -> int:
        part = data if self.most_at_once is None else data[: self.most_at_once]
        if self.room is None:
            return os.write(fd, part)
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(fd, part[: self.room])
        self.room -= written
        return written

    def sync(self, fd: int) -> None:
        self.syncs += 1
        if self.fails_sync:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(fd)


def record(
    seq: int, *, source: str = "reflex", boot: str = BOOT, stream: str = "safety", text: str = ""
) -> Record:
    return Record(source, boot, seq, stream, "e", 1_700_000_000_000_000_000 + seq, seq, {"text": text})


def records(first: int, last: int, *, source: str = "reflex") -> list[Record]:
    return [record(seq, source=source) for seq in range(first, last + 1)]


def segment_files(folder: Path) -> list[Path]:
    return [folder / segment_name(number) for number in segments(folder)]


def parsed(folder: Path) -> Iterator[Record | Opening | None]:
    """Every line in the folder, in order; None for one that is not whole."""
    for path in segment_files(folder):
        yield from map(parse_line, path.read_bytes().splitlines(keepends=True))


def whole(folder: Path) -> list[Record]:
    """The records in the folder, in order."""
    return [found for found in parsed(folder) if isinstance(found, Record)]


def kept(folder: Path) -> list[Record]:
    """The same, where each line must be whole."""
    assert None not in list(parsed(folder))
    return whole(folder)


def seqs(found: Sequence[Record], source: str = "reflex") -> list[int]:
    return [item.seq for item in found if item.source == source]


def bodies(folder: Path, kind: str) -> list[dict[str, object]]:
    """The bodies of the records of one kind, as JSON gives them."""
    lines = [json.loads(line) for path in segment_files(folder) for line in path.read_bytes().splitlines()]
    return [line["body"] for line in lines if line.get("kind") == kind]
