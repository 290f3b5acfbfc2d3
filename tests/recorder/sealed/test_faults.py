"""A disk and a ledger that refuse, at every call: nothing acknowledged is lost, nothing is sealed twice.

That no key and nonce served two plaintexts, `logs.Watched` asserts at each frame.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.recorder.log import LogError, Record
from agent.recorder.sealed.log import SealedLog
from tests.recorder.sealed.logs import (
    FaultyDisk,
    check_whole,
    entries,
    open_log,
    records,
    seqs,
)
from tests.recorder.sealed.test_crash import BATCHES, PLAIN, found, wanted

Fault = Callable[[int, str], None]


def failing(first: int, times: int, code: int) -> Fault:
    """`times` calls in a row fail from the one of that number on."""

    def fault(step: int, _name: str) -> None:
        if first <= step < first + times:
            raise OSError(code, os.strerror(code))

    return fault


def append(log: SealedLog, batch: list[Record], more: list[Record]) -> int:
    """Repeats it until it is taken, each time with one more record of `more`; the failures."""
    failures = 0
    while True:
        try:
            log.append(batch)
        except LogError:
            failures += 1
            if more:
                batch = [*batch, more.pop(0)]
        else:
            return failures


def run(folder: Path, disk: FaultyDisk) -> tuple[int, list[Record]]:
    """All batches and what came on top of them at repetitions; (failures, the latter)."""
    extra = records(1, 8, source="monitor")
    more = list(extra)
    log = open_log(folder, disk, PLAIN)
    failures = sum(append(log, list(batch), more) for batch in BATCHES)
    disk.fault = lambda _step, _name: None
    log.close()
    return failures, extra[: len(extra) - len(more)]


def every_step(folder: Path, times: int, code: int, part: int | None) -> Iterator[int]:
    """The scenario with a fault at each step in turn; how many failures the caller saw."""
    first, steps = 1, 1
    while first <= steps:
        shutil.rmtree(folder, ignore_errors=True)
        disk = FaultyDisk(failing(first, times, code))
        disk.part = part
        failures, extra = run(folder, disk)
        steps = disk.step if not failures else max(steps, disk.step)
        check(folder, extra)
        first += 1
        yield failures
    assert first > 50


def check(folder: Path, extra: list[Record]) -> None:
    """The next start puts in order what was given up, and finds nothing else to do."""
    before = entries(folder)
    given_up = len(list(folder.glob("*/*.seg"))) > sum(kind == "seg.seal" for kind, _ in before)
    open_log(folder, sealing=PLAIN).close()
    assert given_up or entries(folder) == before
    for stream in ("safety", "net"):
        ours = [item for item in found(folder, stream) if item[0] != "monitor"]
        assert ours == wanted(stream, len(BATCHES))
    assert seqs(folder, source="monitor") == [item.seq for item in extra]
    check_whole(folder)


@pytest.mark.parametrize(
    ("times", "code", "part"),
    [
        (1, errno.ENOSPC, None),
        (1, errno.EIO, 50),
        (3, errno.ENOSPC, 50),
        (3, errno.EIO, None),
        (9, errno.EIO, 1_000_000),
    ],
)
def test_a_fault_at_every_step(tmp_path: Path, times: int, code: int, part: int | None) -> None:
    assert sum(every_step(tmp_path / "log", times, code, part)) > 20


def test_short_writes(tmp_path: Path) -> None:
    disk = FaultyDisk()
    disk.most_at_once = 7
    assert run(tmp_path / "log", disk) == (0, [])
    check(tmp_path / "log", [])
