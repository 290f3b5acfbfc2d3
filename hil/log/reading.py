"""How fast a log is verified, and decrypted, in MB/s (10^6 bytes) of the log's own files."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.audit import decrypt, verify
from agent.recorder.log import Record
from agent.recorder.sealed.disk import Disk
from hil.log.mix import Mix
from hil.log.owner import Owner, new_owner
from hil.log.specimen import segments_of
from hil.log.writer import Writer

WALL_NS = 1_800_000_000_000_000_000
PER_FRAME = 20
MB = 1_000_000
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
    """MB/s of each round: `verify`; `both`, verify and decrypt; `hash`, SHA-256 in one process.

    The last says what this machine could do at best. `bytes`, `records`: of the log; `code`: of verify.
    """

    bytes: int
    records: int = 0
    code: int = 0
    verify: list[float] = field(default_factory=list)
    both: list[float] = field(default_factory=list)
    hash: list[float] = field(default_factory=list)

    @property
    def per_mb(self) -> float:
        """Records in a MB of the log: it is compressed, so a MB is many of them."""
        return self.records / self.bytes * MB


def reading(folder: Path, suite: int, megabytes: int, rounds: int, advance: Advance) -> Reading:
    """A log of so many MB of the mix, 20 records a frame, read in turn by each."""
    log, owner = folder / f"suite{suite}", new_owner(suite=suite)
    genesis = _fill(log, owner, megabytes * MB)
    advance(1)
    found = Reading(sum(path.stat().st_size for path in segments_of(log)))
    for _ in range(rounds):
        hashed = _rate(found.bytes, lambda: _hash_all(log))
        verified = _rate(found.bytes, lambda: _verify(log, genesis, found))
        opened = _rate(found.bytes, lambda: _decrypt(log, owner, folder / "out"))
        found.hash.append(hashed)
        found.verify.append(verified)
        found.both.append(1 / (1 / verified + 1 / opened))
        advance(1)
    return found


def _rate(size: int, work: Callable[[], None]) -> float:
    begun = time.perf_counter_ns()
    work()
    return size / MB * 1e9 / (time.perf_counter_ns() - begun)


def _verify(log: Path, genesis: bytes, found: Reading) -> None:
    report = verify(log, genesis=genesis)
    found.code, found.records = report.exit_code, report.records


def _decrypt(log: Path, owner: Owner, out: Path) -> None:
    decrypt(log, [owner.key], out=out)
    out.unlink()


def _hash_all(log: Path) -> None:
    for path in segments_of(log):
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")


def _fill(log: Path, owner: Owner, size: int) -> bytes:
    """The genesis line."""
    mix, waiting, second = Mix(3, WALL_NS), list[Record](), 0
    with Writer(log, owner, disk=Unsynced()) as writer:
        writer.boot()
        while sum(total.bytes for total in writer.log.totals.values()) < size:
            for _ in range(CHECKPOINT_EVERY):
                while len(waiting) < PER_FRAME:
                    waiting += [record for record in mix.second(second) if record.stream == "net"]
                    second += 1
                writer.log.append(waiting[:PER_FRAME])
                del waiting[:PER_FRAME]
            writer.checkpoint()
        return writer.ledger.genesis_line
