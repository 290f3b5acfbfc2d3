"""A segment that cannot be ended when the next has to be begun: waited for, passed over, ended later."""

import errno
import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from agent.recorder.log import LogError, Recovered
from agent.recorder.sealed.log import SealedLog
from tests.recorder.sealed.broken_off import FRAMES, NAME, ONE, killed, reopened, torn
from tests.recorder.sealed.logs import (
    KEYS,
    FaultyDisk,
    PlainLedger,
    abandon,
    check_whole,
    entries,
    open_log,
    record,
    records,
    seqs,
)
from tests.recorder.sealed.reading import read_segment


@pytest.fixture(params=["net", "safety"])
def stream(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_nothing_is_opened_before_the_last_segment_could_be_ended(folder: Path, stream: str) -> None:
    torn(folder, stream)
    disk = FaultyDisk(failing_from_now(errno.ENOSPC))
    log = open_log(folder, disk, ONE)
    assert log.recovered[0].segment == f"{stream}/{NAME}"
    for _ in range(2):
        with pytest.raises(LogError) as caught:
            log.append([record(4, stream=stream)])
        assert caught.value.errno == errno.ENOSPC
    assert len(list((folder / stream).glob("*.seg"))) == 1
    disk.fault = lambda _step, _name: None
    log.append([record(4, stream=stream)])
    log.close()
    assert seqs(folder, stream) == [1, 2, 3, 4]
    assert log.totals[stream].records == FRAMES
    check_whole(folder)


def failing_from_now(code: int) -> Callable[[int, str], None]:
    """Writes and new files fail."""

    def fault(_step: int, name: str) -> None:
        if name in {"create", "write"}:
            raise OSError(code, os.strerror(code))

    return fault


def test_a_segment_that_cannot_be_written_is_passed_over_until_it_can(folder: Path, stream: str) -> None:
    torn(folder, stream)
    disk = FaultyDisk(failing_from_now(errno.EIO))
    log = open_log(folder, disk, ONE)
    disk.fault = lambda _step, _name: None
    log.append([record(4, stream=stream)])
    log.close()
    check_whole(folder, passed_over=True)
    second = read_segment(folder / stream / "0000000002.seg", KEYS)
    assert (second.fields["first_seq"], second.fields["prev_seal"]) == (FRAMES, "0" * 64)
    told = entries(folder)
    log = open_log(folder, sealing=ONE)
    assert [found.segment for found in log.recovered] == [f"{stream}/{NAME}"]
    assert log.totals[stream].records == FRAMES
    assert [(kind, body["segno"]) for kind, body in entries(folder)[len(told) :]] == [("seg.seal", 1)]
    log.append([record(5, stream=stream)])
    log.close()
    check_whole(folder)
    third = read_segment(folder / stream / "0000000003.seg", KEYS)
    assert third.fields["prev_seal"] == second.seal_hash


def failing_once_at(step: int) -> Callable[[int, str], None]:
    def fault(now: int, _name: str) -> None:
        if now == step:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    return fault


def test_an_error_that_passes_costs_no_seal(folder: Path, stream: str) -> None:
    """At every call of the repair: it is tried again at once, before anything comes behind the segment."""
    torn(folder, stream)
    step = 0
    while True:
        step += 1
        copy = folder.with_name("copy")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        disk = FaultyDisk(failing_once_at(step))
        log = open_log(copy, disk, ONE)
        calls, disk.fault = disk.step, lambda _step, _name: None
        log.append([record(FRAMES, stream=stream)])
        log.close()
        assert seqs(copy, stream) == [*range(1, FRAMES + 1)]
        check_whole(copy)
        if step > calls:
            break
    assert step > 5


def test_what_a_failed_write_left_is_set_aside_when_the_segment_is_ended(folder: Path, stream: str) -> None:
    """The ledger was told how far it goes: a frame that landed all the same was sealed again in the next."""
    segment = killed(folder, stream)
    before, third = segment.path.read_bytes(), segment.frames[2]
    h = segment.header_hash
    for frame in segment.frames[:2]:
        h = sha256(h + frame.raw[:-4]).digest()
    PlainLedger(folder).append(
        "seg.recover",
        {
            "stream": stream,
            "segno": 1,
            "frames": 2,
            "next_seq": 3,
            "h": h.hex(),
            "torn_bytes": 0,
            "kept_as": "",
            "damaged": [],
        },
    )
    (found,) = reopened(folder)
    torn_bytes = len(before[third.offset :].rstrip(b"\0"))  # those of a frame may be zero
    assert (found.torn_bytes, found.kept_as) == (torn_bytes, f"{NAME}.torn-1")
    assert (folder / stream / found.kept_as).stat().st_size == torn_bytes
    after = read_segment(folder / stream / NAME, KEYS)
    assert ([item["q"] for item in after.records], after.next_seq) == ([1, 2], 3)
    assert after.seal is not None
    assert before[: third.offset] == after.path.read_bytes()[: third.offset]
    assert reopened(folder) == ()


def test_a_segment_that_was_never_announced_is_out_of_the_way(folder: Path, stream: str) -> None:
    """Its number is used up, and the ledger knows of it."""
    disk = FaultyDisk()
    log = open_log(folder, disk, ONE)
    disk.fault = lambda _step, name: failing_from_now(errno.EIO)(0, "write") if name == "seg.open" else None
    with pytest.raises(LogError):
        log.append([record(1, stream=stream)])
    abandon(log)
    path = folder / stream / NAME
    path.rename(path.with_suffix(".aside"))
    path.symlink_to(path)  # cannot be opened
    log = open_log(folder, sealing=ONE)
    log.append([record(1, stream=stream)])
    log.close()
    assert [(body["segno"], body["frames"]) for _, body in entries(folder, "seg.recover")] == [(1, 0)]
    path.unlink()
    path.with_suffix(".aside").rename(path)
    log = open_log(folder, sealing=ONE)
    log.append([record(2, stream=stream)])
    log.close()
    assert not path.exists()
    assert path.with_name(f"{NAME}.torn-1").exists()
    assert [body["segno"] for _, body in entries(folder, "seg.open")] == [2, 3]
    assert [body["segno"] for _, body in entries(folder, "seg.seal")] == [2, 3]


def test_a_ledger_that_fails_delays_the_repair(folder: Path, stream: str) -> None:
    segment = torn(folder, stream)
    before = segment.path.read_bytes()
    refused = [True]

    def gate(kind: str) -> None:
        if refused[0]:
            raise LogError(folder / "ledger.jsonl", f"{kind}: not now", errno.EIO)

    log = SealedLog(folder, ONE, PlainLedger(folder, gate), disk=FaultyDisk())
    assert log.recovered[0].segment == f"{stream}/{NAME}"
    assert segment.path.read_bytes() == before
    with pytest.raises(LogError, match=r"seg\.recover: not now"):
        log.append([record(4, stream=stream)])
    refused[0] = False
    log.append([record(4, stream=stream)])
    log.close()
    assert seqs(folder, stream) == [1, 2, 3, 4]
    check_whole(folder)


def test_an_unreadable_segment_stays_and_the_ledger_says_how_it_ended(folder: Path, stream: str) -> None:
    log = open_log(folder, sealing=ONE)
    log.append(records(1, 3) if stream == "safety" else records(1, 3, stream="net"))
    log.close()
    ((_, sealed),) = entries(folder, "seg.seal")
    path = folder / stream / NAME
    path.rename(path.with_suffix(".aside"))
    path.symlink_to(path)  # leads to itself: cannot be opened, not even by root
    log = open_log(folder, sealing=ONE)
    assert log.recovered == (Recovered(f"{stream}/{NAME}", 0, ""),)
    log.append([record(4, stream=stream)])
    log.close()
    after = read_segment(folder / stream / "0000000002.seg", KEYS)
    assert (after.fields["first_seq"], after.fields["prev_seal"]) == (4, sealed["seal"])


def test_an_unreadable_segment_that_was_open_ended_where_the_ledger_last_saw_it(
    folder: Path, stream: str
) -> None:
    killed(folder, stream)
    PlainLedger(folder).append(
        "checkpoint", {"streams": {stream: {"segno": 1, "frames": 3, "next_seq": 4, "h": "00"}}}
    )
    path = folder / stream / NAME
    path.rename(path.with_suffix(".aside"))
    path.symlink_to(path)
    log = open_log(folder, sealing=ONE)
    log.append([record(4, stream=stream)])
    log.close()
    after = read_segment(folder / stream / "0000000002.seg", KEYS)
    assert (after.fields["first_seq"], after.fields["prev_seal"]) == (4, "0" * 64)
