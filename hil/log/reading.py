"""How fast a log is verified, and decrypted, in MB/s (10^6 bytes) of its own, compressed, segments."""

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from agent.audit import decrypt, verify
from agent.recorder.log import Record
from agent.recorder.sealed.disk import Disk
from hil.log.contenders import texts
from hil.log.mix import Mix
from hil.log.owner import Owner, new_owner
from hil.log.specimen import segments_of
from hil.log.writer import Writer

WALL_NS = 1_800_000_000_000_000_000
PER_FRAME = 20
MB = 1_000_000
TOLD_SEGMENTS = 6
"""Of the net stream, that become JSON lines: about 50 MB, ten times as long when written out. A disk that
cannot take gigabytes as fast as they come would be measured instead, and one round would take minutes."""
CHECKPOINT_EVERY = 500
"""Frames; at full rate a checkpoint each 300 s has as many before it."""

Advance = Callable[[int], None]


class Unsynced(Disk):
    """The real disk, but nothing waits for it: for logs whose writing is not what is measured."""

    def sync(self, fd: int) -> None:
        """Not now."""

    def sync_all(self, fd: int) -> None:
        """Not now."""


@dataclass(slots=True)
class Reading:
    """What was measured in each round: MB/s of the log's segments, but for `tell`.

    `verify`: without key; `open`: every frame authenticated and decompressed, nothing written; `both`: one
    after the other; `hash`: SHA-256 in one process, what this machine could do at best. `tell`: a part of the
    log to a file of JSON lines, in records/s.

    `bytes`, `records`: of the log; `told_bytes`: of the part; `json`: mean bytes of a record's JSON; `code`,
    `open_code`: of verify and decrypt.
    """

    bytes: int
    json: float
    told_bytes: int = 0
    records: int = 0
    code: int = 0
    open_code: int = 0
    verify: list[float] = field(default_factory=list)
    open: list[float] = field(default_factory=list)
    both: list[float] = field(default_factory=list)
    tell: list[float] = field(default_factory=list)
    hash: list[float] = field(default_factory=list)

    @property
    def tell_mb(self) -> list[float]:
        """`tell` in MB/s of the records' own JSON, without what a line adds to it."""
        return [rate * self.json / MB for rate in self.tell]


def reading(folder: Path, suite: int, megabytes: int, rounds: int, advance: Advance) -> Reading:
    """A log of so many MB of the mix, 20 records a frame, read in turn by each."""
    log, part, owner = folder / f"suite{suite}", folder / f"part{suite}", new_owner(suite=suite)
    genesis, json = _fill(log, owner, megabytes * MB)
    advance(1)
    found = Reading(_size(log), json, _link(log, part))
    with _bare_main():
        for _ in range(rounds):
            hash_s = _seconds(lambda: _hash_all(log))
            verify_s = _seconds(lambda: _verify(log, genesis, found))
            open_s = _seconds(lambda: _open(log, owner, found))
            megabytes_read = found.bytes / MB
            found.hash.append(megabytes_read / hash_s)
            found.verify.append(megabytes_read / verify_s)
            found.open.append(megabytes_read / open_s)
            found.both.append(megabytes_read / (verify_s + open_s))
            found.tell.append(_tell(part, owner, folder / "out"))
            advance(1)
    return found


@contextmanager
def _bare_main() -> Iterator[None]:
    """Processes start as they do for an auditor.

    One that is spawned imports its parent's main module again: here all of the campaigns, which takes
    longer than to verify the log, and which no auditor has.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - begun) / 1e9


def _verify(log: Path, genesis: bytes, found: Reading) -> None:
    report = verify(log, genesis=genesis)
    found.code, found.records = report.exit_code, report.records


def _open(log: Path, owner: Owner, found: Reading) -> None:
    found.open_code = decrypt(log, [owner.key], out=None).exit_code


def _tell(log: Path, owner: Owner, out: Path) -> float:
    """Records/s."""
    begun = time.perf_counter_ns()
    report = decrypt(log, [owner.key], out=out)
    took_s = (time.perf_counter_ns() - begun) / 1e9
    out.unlink()
    return report.written / took_s


def _link(log: Path, part: Path) -> int:
    """The beginning of the log under another name; its bytes. Who decrypts needs no ledger."""
    for path in segments_of(log)[:TOLD_SEGMENTS]:
        (part / path.parent.name).mkdir(parents=True, exist_ok=True)
        os.link(path, part / path.parent.name / path.name)
    return _size(part)


def _size(log: Path) -> int:
    return sum(path.stat().st_size for path in segments_of(log))


def _hash_all(log: Path) -> None:
    for path in segments_of(log):
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")


def _fill(log: Path, owner: Owner, size: int) -> tuple[bytes, float]:
    """The genesis line, and the mean length of a record's JSON, from one frame before each checkpoint."""
    mix, waiting, second, lengths = Mix(3, WALL_NS), list[Record](), 0, list[int]()
    with Writer(log, owner, disk=Unsynced()) as writer:
        writer.boot()
        while sum(total.bytes for total in writer.log.totals.values()) < size:
            for _ in range(CHECKPOINT_EVERY):
                while len(waiting) < PER_FRAME:
                    waiting += [record for record in mix.second(second) if record.stream == "net"]
                    second += 1
                frame = waiting[:PER_FRAME]
                writer.log.append(frame)
                del waiting[:PER_FRAME]
            writer.checkpoint()
            lengths += [len(text) - 1 for text in texts(frame)]
        return writer.ledger.genesis_line, sum(lengths) / len(lengths)
