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
from agent.recorder.sealed.opened import SKIP_BYTES
from agent.recorder.sealed.scan import read_header, scan
from agent.recorder.sealed.stream import EIO_TRIES
from tests.recorder.sealed.logs import (
    FaultyDisk,
    check_whole,
    entries,
    open_log,
    records,
    segments,
)
from tests.recorder.sealed.test_crash import BATCHES, PLAIN, found, wanted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


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
    """Everything once, in order; the next start ends what was passed over, the one after does nothing."""
    for stream in ("safety", "net"):
        ours = [item for item in found(folder, stream) if item[0] != "monitor"]
        assert ours == wanted(stream, len(BATCHES))
    assert [item[1] for item in found(folder, "safety") if item[0] == "monitor"] == [e.seq for e in extra]
    check_whole(folder, passed_over=True)
    open_log(folder, sealing=PLAIN).close()
    check_whole(folder)
    before = entries(folder)
    log = open_log(folder, sealing=PLAIN)
    assert {name: total.records for name, total in log.totals.items()} == {
        name: len(found(folder, name)) for name in ("safety", "net")
    }
    log.close()
    assert entries(folder) == before


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


# ---- a segment that goes on failing


class BadPlace(FaultyDisk):
    """One byte of every file that cannot be written."""

    bad = -1

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        if offset <= self.bad < offset + len(data):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().write(fd, data, offset)


def test_a_place_that_cannot_be_written_is_left_out(folder: Path) -> None:
    disk = BadPlace()
    log = open_log(folder, disk, PLAIN)
    log.append(records(1, 2))
    end = segments(folder)[0].end
    disk.bad = end + 10
    assert append(log, records(3, 4), []) == EIO_TRIES
    disk.bad = -1
    log.close()
    first, second = segments(folder)
    assert [len(first.records), len(second.records)] == [2, 2]
    (body,) = (body for _, body in entries(folder, "seg.recover"))
    ((start, size),) = body["damaged"]
    assert start == end
    assert size > SKIP_BYTES
    assert first.seal == {"frames": 1, "records": 2, "bytes": end + size, "reason": "damaged"}
    check_whole(folder)
    told = entries(folder)
    log = open_log(folder, sealing=PLAIN)
    assert (log.recovered, log.totals["safety"].records) == ((), 4)
    log.close()
    assert entries(folder) == told


def only(name: str, times: int) -> Fault:
    """That call fails so many times."""
    left = [times]

    def fault(_step: int, called: str) -> None:
        if called == name and left[0]:
            left[0] -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    return fault


def test_a_place_that_can_be_written_again_gets_the_seal(folder: Path) -> None:
    disk = FaultyDisk()
    log = open_log(folder, disk, PLAIN)
    log.append(records(1, 2))
    disk.fault = only("sync", EIO_TRIES)
    assert append(log, records(3, 4), []) == EIO_TRIES
    log.close()
    assert [each.seal["reason"] for each in segments(folder) if each.seal] == ["damaged", "end"]
    assert not entries(folder, "seg.recover")
    check_whole(folder)


def test_a_seal_that_failed_and_is_there_does_not_stand_before_the_one_that_counts(folder: Path) -> None:
    disk = FaultyDisk()
    log = open_log(folder, disk, PLAIN)
    log.append(records(1, 2))
    disk.fault = only("sync", EIO_TRIES + 1)
    append(log, records(3, 4), [])
    log.close()
    ((_, body),) = entries(folder, "seg.recover")
    ((start, size),) = body["damaged"]
    with (folder / "safety" / "0000000001.seg").open("rb") as file:
        header = read_header(file.fileno())
        assert header is not None
        seen = scan(file.fileno(), header.suite, header.point)
    assert seen.seal is not None
    assert seen.seal.bytes == start + size
    check_whole(folder)


def test_a_segment_that_was_given_up_is_told_without_another_record(folder: Path) -> None:
    disk = FaultyDisk()
    log = open_log(folder, disk, PLAIN)
    log.append(records(1, 2))
    both = [only("sync", EIO_TRIES), only("seg.seal", 1)]

    def fault(step: int, name: str) -> None:
        for each in both:
            each(step, name)

    disk.fault = fault
    for _ in range(EIO_TRIES + 1):
        with pytest.raises(LogError):
            log.append(records(3, 4))
    log.rotate_due(0)
    assert log.heads() == {}
    log.append(records(3, 4))
    log.close()
    assert [item[1] for item in found(folder, "safety")] == [1, 2, 3, 4]
    check_whole(folder)


def test_a_file_that_cannot_be_written_at_all_is_passed_over(folder: Path) -> None:
    disk = FaultyDisk()
    log = open_log(folder, disk, PLAIN)
    log.append(records(1, 2))
    disk.fault = only("sync", EIO_TRIES + 2)
    assert append(log, records(3, 4), []) == EIO_TRIES
    log.close()
    first, second = segments(folder, passed_over=True)
    assert first.seal is None
    assert [len(first.records), len(second.records)] == [2, 2]
    (body,) = (body for _, body in entries(folder, "seg.recover"))
    assert (body["frames"], body["next_seq"], body["damaged"]) == (1, 3, [])
    check_whole(folder, passed_over=True)


@pytest.mark.parametrize("calls", [1, 2])
def test_a_ledger_that_fails_while_a_segment_is_given_up(folder: Path, calls: int) -> None:
    """The segment stays until it can be said what became of it."""
    disk = FaultyDisk()
    log = open_log(folder, disk, PLAIN)
    log.append(records(1, 2))
    sync = only("sync", EIO_TRIES + (2 if calls == 2 else 0))
    ledger = [only("seg.recover", 2), only("seg.seal", 2)]

    def fault(step: int, name: str) -> None:
        for each in (sync, *ledger):
            each(step, name)

    disk.fault = fault
    assert append(log, records(3, 4), []) > EIO_TRIES
    log.close()
    assert [item[1] for item in found(folder, "safety")] == [1, 2, 3, 4]
    check_whole(folder, passed_over=True)


def test_a_folder_that_cannot_be_synced_keeps_its_segment(folder: Path) -> None:
    disk = FaultyDisk()
    log = open_log(folder, disk, PLAIN)
    log.append(records(1, 2))
    log.change(PLAIN.recipients, "any")
    names = [0]

    def fault(_step: int, name: str) -> None:
        names[0] = name == "rename" or (names[0] and name == "sync_all" and names[0] + 1)
        if names[0] > 1 and names[0] < 7:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk.fault = fault
    assert append(log, records(3, 4), []) > EIO_TRIES
    log.close()
    assert [len(each.records) for each in segments(folder)] == [2, 2]
    check_whole(folder)
