import os
import resource
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent.recorder.log import Head, LogError, StreamLog, StreamTotals
from agent.recorder.sealed.log import SealedLog
from agent.recorder.sealed.opened import SPARE
from agent.recorder.sealed.parts import Clocks
from tests.recorder.sealed.logs import (
    BOOT,
    ENOSPC,
    OTHER_BOOT,
    RECIPIENTS,
    SEALING,
    Crash,
    FaultyDisk,
    abandon,
    check_whole,
    entries,
    kept,
    open_log,
    record,
    records,
    segments,
    seqs,
)

ME = ("reflex", BOOT)
PLAIN = replace(SEALING, compress=frozenset())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


class Time:
    def __init__(self) -> None:
        self.now_ns = 5

    @property
    def clocks(self) -> Clocks:
        return Clocks(lambda: 1_000 + self.now_ns, lambda: self.now_ns, "0f" * 16)


def reasons(folder: Path, stream: str = "safety") -> list[str]:
    return [(each.seal or {"reason": "open"})["reason"] for each in segments(folder, stream)]


# ---- appending


def test_it_is_a_stream_log(folder: Path) -> None:
    with closing(open_log(folder)) as opened:
        log: StreamLog = opened
        assert log.recovered == ()


def test_what_is_appended_is_kept_by_stream_in_order(folder: Path) -> None:
    with closing(open_log(folder)) as log:
        log.append([])
        assert not list(folder.glob("*/*.seg"))
        log.append([record(1, stream="net"), record(2), record(3, stream="net"), record(4, stream="tele")])
        log.append([record(5), record(1, source="remote")])
    assert [seqs(folder, stream) for stream in ("safety", "net", "tele")] == [[2, 5], [1, 3], [4]]
    assert seqs(folder, source="remote") == [1]
    (segment,) = segments(folder)
    assert segment.records[0] == {
        "w": record(2).wall_ns,
        "b": 2,
        "c": "s",
        "s": "reflex",
        "o": BOOT,
        "q": 2,
        "k": "e",
        "d": {"text": ""},
    }
    assert segment.fields["recipients"] == ["department", "authority"]
    assert reasons(folder) == ["end"]
    check_whole(folder)


def test_one_batch_of_one_stream_is_one_write_and_one_sync(folder: Path) -> None:
    disk = FaultyDisk()
    with closing(open_log(folder, disk)) as log:
        log.append(records(1, 1))
        disk.calls.clear()
        log.append(records(2, 50))
        assert disk.calls == ["write", "write", "sync"], "marks, frame"


def test_safety_is_on_disk_before_the_others(folder: Path) -> None:
    disk = FaultyDisk()
    log = open_log(folder, disk)
    log.append([record(1, stream="tele"), record(2, stream="net"), record(3)])

    def fault(_step: int, name: str) -> None:
        if name == "sync":
            synced.append(name)
            if len(synced) == 2:
                raise OSError(ENOSPC, os.strerror(ENOSPC))

    synced: list[str] = []
    disk.fault = fault
    with pytest.raises(LogError) as caught:
        log.append([record(4, stream="tele"), record(5, stream="net"), record(6)])
    assert caught.value.errno == ENOSPC
    assert caught.value.path == folder / "net" / "0000000001.seg"
    assert [log.has(record(6)), log.has(record(5, stream="net"))] == [True, False]
    assert log.last_seq(*ME) == 3, "none of them counts"
    log.append([record(4, stream="tele"), record(5, stream="net"), record(6)])
    assert log.last_seq(*ME) == 6
    log.close()
    assert [seqs(folder, stream) for stream in ("safety", "net", "tele")] == [[3, 6], [2, 5], [1, 4]]


def test_a_frame_larger_than_a_segment_and_one_larger_than_a_frame(folder: Path) -> None:
    with closing(open_log(folder, sealing=PLAIN)) as log:
        log.append(records(1, 2))
        log.append([record(seq, text="x" * 60_000) for seq in range(3, 40)])
        log.append(records(40, 41))
    assert seqs(folder) == list(range(1, 42))
    assert [each.records[-1]["q"] for each in segments(folder)] == [2, 19, 36, 39, 41]
    check_whole(folder)


@pytest.mark.parametrize("bad", [{"x": float("inf")}, {"x": object()}])
def test_a_refused_record_refuses_the_batch_and_nothing_else(folder: Path, bad: dict[str, object]) -> None:
    with closing(open_log(folder)) as log:
        with pytest.raises(LogError, match="refused") as caught:
            log.append([record(1, stream="safety"), replace(record(2, stream="net"), body=bad)])
        assert caught.value.errno == 0
        with pytest.raises(LogError, match="no such stream"):
            log.append([record(1), record(2, stream="other")])
        assert not log.totals
        log.append([record(1)])
    assert kept(folder) == {("safety", "reflex", 1)}


def test_a_recipient_that_cannot_be_one_is_said_at_the_first_record(folder: Path) -> None:
    with closing(open_log(folder, sealing=replace(SEALING, recipients=(("k", bytes(32)),)))) as log:
        with pytest.raises(LogError, match="cannot be sealed"):
            log.append([record(1)])
        log.change(RECIPIENTS, "any")
        log.append([record(1)])
    assert seqs(folder) == [1]


# ---- who has sent what


def test_what_is_settled_is_told_even_after_a_kill(folder: Path) -> None:
    log = open_log(folder)
    log.append([record(2), record(3)], {})
    assert log.last_seq(*ME) == 0, "1 is still on its way, in another stream"
    log.append([record(1, stream="tele")], {ME: 3})
    log.append([record(5)], {ME: 3})
    abandon(log)
    with closing(open_log(folder)) as after:
        assert after.last_seq(*ME) == 3
        assert after.last_seq("reflex", OTHER_BOOT) == 0
        assert [after.has(record(seq)) for seq in (3, 5, 6)] == [True, True, False]
        assert [after.has(record(seq, stream="tele")) for seq in (1, 4)] == [True, False]
        assert not after.has(record(1, boot=OTHER_BOOT))


def test_nothing_is_settled_while_part_of_a_batch_waits(folder: Path) -> None:
    disk, syncs = FaultyDisk(), [0]

    def fault(_step: int, name: str) -> None:
        syncs[0] += name == "sync"
        if name == "sync" and syncs[0] == 3:
            raise OSError(ENOSPC, os.strerror(ENOSPC))

    log = open_log(folder, disk, PLAIN)
    disk.fault = fault
    batch = [record(seq, stream="net", text="x" * 60_000) for seq in range(1, 40)]
    with pytest.raises(LogError):
        log.append(batch)  # three frames, each a segment: one is on the disk, and its seal
    assert (log.last_seq(*ME), log.has(batch[0]), log.has(batch[-1])) == (0, True, False)
    abandon(log)
    with closing(open_log(folder, sealing=PLAIN)) as after:
        assert (after.last_seq(*ME), after.has(batch[0])) == (0, True)


def test_without_a_word_for_it_the_largest_of_each_sender_is_settled(folder: Path) -> None:
    with closing(open_log(folder)) as log:
        log.append([record(3), record(2, stream="net"), record(8, source="remote")])
        assert (log.last_seq(*ME), log.last_seq("remote", BOOT)) == (3, 8)


def test_a_repetition_after_which_some_are_asked_for_apart_writes_none_twice(folder: Path) -> None:
    disk = FaultyDisk()
    with closing(open_log(folder, disk)) as log:
        log.append(records(1, 1))

        def fault(_step: int, name: str) -> None:
            if name == "sync":
                raise OSError(ENOSPC, os.strerror(ENOSPC))

        disk.fault = fault
        with pytest.raises(LogError):
            log.append(records(2, 5))
        disk.fault = lambda _step, _name: None
        log.append(records(2, 3))
        log.append(records(4, 6))
    assert seqs(folder) == [1, 2, 3, 4, 5, 6]


# ---- segments


def test_rotation_by_size_leaves_room_for_the_seal(folder: Path) -> None:
    with closing(open_log(folder, sealing=PLAIN)) as log:
        for seq in range(1, 60):
            log.append([record(seq, stream="net")])
            log.append([record(seq)])
    for stream in ("safety", "net"):
        found = segments(folder, stream)
        assert len(found) > 2
        assert all(each.path.stat().st_size <= PLAIN.segment_bytes for each in found)
        assert reasons(folder, stream) == [*["size"] * (len(found) - 1), "end"]
        assert seqs(folder, stream) == list(range(1, 60))
    check_whole(folder)


def test_the_order_of_a_rotation(folder: Path) -> None:
    """README of agent/logformat: `seg.open` durable before frame 0, `seg.seal` after the seal is."""
    disk = FaultyDisk()
    with closing(open_log(folder, disk, PLAIN)) as log:
        log.append([record(1, stream="net", text="x" * 2_000)])
        disk.calls.clear()
        log.append([record(2, stream="net", text="x" * 2_000)])
        ended = ["write", "sync", "cut", "sync_all", "seg.seal"]
        opened = ["create", "write", "sync_all", "rename", "sync_all", "seg.open"]
        assert disk.calls == [*ended, *opened, "write", "write", "sync"]


def test_rotation_by_age(folder: Path) -> None:
    time = Time()
    with closing(open_log(folder, clocks=time.clocks)) as log:
        log.append([record(1), record(2, stream="net")])
        time.now_ns += SEALING.segment_ns - 1
        log.rotate_due(time.now_ns)
        assert set(log.heads()) == {"safety", "net"}
        time.now_ns += 1
        log.rotate_due(time.now_ns)
        log.rotate_due(time.now_ns)
        assert log.heads() == {}
        assert log.totals["safety"].oldest_wall_ns == 1_005
        log.append([record(3)])
    assert reasons(folder) == ["age", "end"]
    assert reasons(folder, "net") == ["age"]


def test_other_recipients_are_a_new_segment(folder: Path) -> None:
    with closing(open_log(folder)) as log:
        log.append([record(1), record(2, stream="net")])
        log.change(RECIPIENTS[:1], "all")
        log.append([record(3)])
    assert reasons(folder) == ["recipients", "end"]
    assert [each.fields["opening"] for each in segments(folder)] == ["any", "all"]
    assert segments(folder)[1].fields["recipients"] == ["department"]


def test_other_recipients_while_frames_wait_come_after_these(folder: Path) -> None:
    disk = FaultyDisk()
    with closing(open_log(folder, disk)) as log:
        log.append(records(1, 1))

        def fault(_step: int, name: str) -> None:
            if name == "sync":
                raise OSError(ENOSPC, os.strerror(ENOSPC))

        disk.fault = fault
        with pytest.raises(LogError):
            log.append(records(2, 2))
        log.change(RECIPIENTS[:1], "any")
        disk.fault = lambda _step, _name: None
        log.append(records(2, 2))
        log.append(records(3, 3))
    assert [len(each.records) for each in segments(folder)] == [2, 1]
    assert reasons(folder) == ["recipients", "end"]


def test_room_that_a_longer_header_was_written_in_is_taken_all_the_same(folder: Path) -> None:
    disk = FaultyDisk()
    log = open_log(folder, disk)

    def fault(_step: int, name: str) -> None:
        if name == "rename":
            raise Crash

    disk.fault = fault
    with pytest.raises(Crash):
        log.append([record(1)])
    abandon(log)
    shorter = replace(SEALING, recipients=RECIPIENTS[:1])
    log = open_log(folder, sealing=shorter)
    log.append([record(1)])
    abandon(log)
    with closing(open_log(folder, sealing=shorter)) as after:
        assert after.recovered == ()
    assert seqs(folder) == [1]


def test_both_recipients_together(folder: Path) -> None:
    with closing(open_log(folder, sealing=replace(SEALING, opening="all"))) as log:
        log.append(records(1, 3))
    assert seqs(folder) == [1, 2, 3]


def test_a_safety_segment_and_the_next_are_on_the_disk_before_they_are_needed(folder: Path) -> None:
    with closing(open_log(folder, sealing=replace(PLAIN, segment_bytes=100_000))) as log:
        assert (folder / "safety" / SPARE).stat().st_size == 100_000
        log.append([record(1)])
        assert (folder / "safety" / "0000000001.seg").stat().st_size == 100_000
        assert not (folder / "safety" / SPARE).exists()
        log.rotate_due(0)
        assert (folder / "safety" / SPARE).stat().st_size == 100_000
        assert log.totals["safety"].bytes < 2_000
        log.append([record(2, stream="net")])
        assert (folder / "net" / "0000000001.seg").stat().st_size < 2_000


class FullDisk(FaultyDisk):
    """No byte more than files have already, and no new file."""

    full = False

    def room(self, fd: int) -> int:
        return 0 if self.full else super().room(fd)

    def create(self, name: str, folder_fd: int) -> int:
        self.refuse(self.full)
        return super().create(name, folder_fd)

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        self.refuse(self.full and offset + len(data) > os.fstat(fd).st_size)
        return super().write(fd, data, offset)

    def refuse(self, refused: bool) -> None:
        if refused:
            raise OSError(ENOSPC, os.strerror(ENOSPC))


def test_a_full_disk_holds_stops_for_two_segments_more(folder: Path) -> None:
    disk = FullDisk()
    log = open_log(folder, disk, PLAIN)
    log.append([record(1), record(1, source="remote", stream="net")])
    log.rotate_due(0)
    disk.full = True
    seq = 1
    with suppress(LogError):
        while seq < 1_000:
            log.append([record(seq + 1)])
            seq += 1
            log.rotate_due(0)
    assert 30 < seq < 1_000
    with pytest.raises(LogError):
        log.append([record(2, source="remote", stream="net")])
    assert [each.seal is not None for each in segments(folder)] == [True, True], "the seals had room"
    disk.full = False
    log.append([record(2, source="remote", stream="net"), record(seq + 1)])
    log.close()
    assert seqs(folder) == list(range(1, seq + 2))
    assert seqs(folder, "net", "remote") == [1, 2]
    check_whole(folder)


def test_no_safety_segment_is_ended_by_age_on_a_disk_without_room_for_the_next(folder: Path) -> None:
    disk, time = FullDisk(), Time()
    with closing(open_log(folder, disk, clocks=time.clocks)) as log:
        log.append([record(1), record(2, stream="net")])
        disk.full = True
        time.now_ns += SEALING.segment_ns
        with pytest.raises(LogError):
            log.rotate_due(time.now_ns)  # of `net`, whose seal has no room
        assert log.heads()["safety"].segno == 1
        log.append([record(3)])
        disk.full = False
        log.rotate_due(time.now_ns)
        log.rotate_due(time.now_ns)
        assert log.heads() == {}


# ---- figures


def test_heads_are_what_is_on_the_disk(folder: Path) -> None:
    disk = FaultyDisk()
    log = open_log(folder, disk)
    log.append(records(1, 3))
    log.append(records(4, 4))
    (segment,) = segments(folder)
    head = Head(1, 2, 5, segment.h.hex())
    assert log.heads() == {"safety": head}

    def fault(_step: int, name: str) -> None:
        if name == "sync":
            raise OSError(ENOSPC, os.strerror(ENOSPC))

    disk.fault = fault
    with pytest.raises(LogError):
        log.append(records(5, 5))
    assert log.heads() == {"safety": head}
    abandon(log)


def test_totals_over_restarts_and_deletions(folder: Path) -> None:
    time = Time()
    for seq in (1, 2, 3):
        time.now_ns = seq
        with closing(open_log(folder, clocks=time.clocks)) as log:
            log.append([record(seq), record(seq, stream="tele")])
            assert log.totals["safety"].records == seq
            assert log.totals["safety"].oldest_wall_ns == 1_001
    sizes = sum(path.stat().st_size for path in (folder / "safety").glob("*.seg"))
    with closing(open_log(folder)) as log:
        assert log.totals["safety"] == StreamTotals(3, sizes, 1_001)
        log.forget("safety", 1)
        assert (log.totals["safety"].records, log.totals["safety"].oldest_wall_ns) == (2, 1_002)


# ---- the folder


def test_only_the_owner_may_look(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        with closing(open_log(folder)) as log:
            log.append([record(1), record(2, stream="net")])
    finally:
        os.umask(before)
    for path in (folder, folder / "safety", folder / "net"):
        assert path.stat().st_mode & 0o777 == 0o700
    for path in (folder / "marks", *folder.glob("*/*.seg"), *folder.glob("*/spare")):
        assert path.stat().st_mode & 0o777 == 0o600


def test_one_process_at_a_time(folder: Path) -> None:
    with closing(open_log(folder)), pytest.raises(LogError, match="another process"):
        open_log(folder)
    open_log(folder).close()


def test_a_folder_that_its_owner_holds_locked(folder: Path) -> None:
    with closing(open_log(folder)) as owner:
        again = SealedLog(folder, SEALING, owner._tools.ledger, folder_fd=owner._fds[0], disk=FaultyDisk())
        again.close()
        with pytest.raises(LogError, match="another process"):
            open_log(folder)


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LogError, match="cannot be used"):
        open_log_at(tmp_path / "file" / "log")


def open_log_at(folder: Path) -> SealedLog:
    class Deaf:
        def append(self, *_: object) -> None:
            """Hears nothing."""

    return SealedLog(folder, SEALING, Deaf())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextmanager
def few_files(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("count", range(5))
def test_too_few_descriptors_are_an_error_and_leave_none_behind(folder: Path, count: int) -> None:
    open_log(folder).close()
    before = open_files()
    with few_files(count), pytest.raises(LogError):
        open_log_at(folder)
    assert open_files() == before


def test_closed_is_closed(folder: Path) -> None:
    log = open_log(folder)
    log.append([record(1)])
    log.close()
    log.close()
    with pytest.raises(LogError, match="closed"):
        log.append([record(2)])
    assert len(entries(folder, "seg.seal")) == 1
