import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.recorder.lines import Opening, parse_line
from agent.recorder.log import LogError, Record, Recovered, StreamTotals
from agent.recorder.plain import PlainLog
from agent.recorder.verify import CLEAN, EXPLAINED, verify
from tests.recorder.logs import BOOT, OTHER_BOOT, Disk, kept, record, records, segment_files, seqs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def open_log(folder: Path, disk: Disk | None = None, segment_bytes: int = 8 * 1024 * 1024) -> PlainLog:
    disk = disk or Disk()
    return PlainLog(folder, segment_bytes=segment_bytes, write=disk.write, sync=disk.sync)


def write_log(folder: Path, *batches: list[Record], segment_bytes: int = 8 * 1024 * 1024) -> None:
    with closing(open_log(folder, segment_bytes=segment_bytes)) as log:
        for batch in batches:
            log.append(batch)


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """A symbolic link that leads to itself cannot be opened, not even by root."""
    aside = path.with_suffix(".aside")
    path.rename(aside)
    path.symlink_to(path)
    try:
        yield
    finally:
        path.unlink()
        aside.rename(path)


# ---- writing


def test_what_is_appended_is_kept_in_order(folder: Path) -> None:
    with closing(open_log(folder)) as log:
        log.append([])
        assert segment_files(folder) == []
        log.append(records(1, 3))
        log.append([record(1, source="remote"), *records(4, 5)])
        assert log.last_seq("reflex", BOOT) == 5
        assert log.last_seq("remote", BOOT) == 1
        assert log.last_seq("reflex", OTHER_BOOT) == 0
    assert kept(folder) == [*records(1, 3), record(1, source="remote"), *records(4, 5)]
    assert verify(folder).exit_code == CLEAN


def test_one_batch_is_one_sync(folder: Path) -> None:
    disk = Disk()
    with closing(open_log(folder, disk)) as log:
        log.append(records(1, 50))
        assert disk.syncs == 1


def test_totals_by_stream_go_on_over_restarts(folder: Path) -> None:
    batch = [record(1), record(2, stream="tele"), record(3)]
    for times in (1, 2, 3):
        with closing(open_log(folder, segment_bytes=700)) as log:
            log.append([Record(r.source, r.boot, r.seq + 3 * times, *rest(r)) for r in batch])
            assert log.totals["safety"].records == 2 * times
            assert log.totals["tele"].records == times
            assert log.totals["safety"].oldest_wall_ns == batch[0].wall_ns
            sizes = sum(path.stat().st_size for path in segment_files(folder))
            assert 0 < log.totals["safety"].bytes + log.totals["tele"].bytes < sizes
    assert len(segment_files(folder)) > 1


def rest(item: Record) -> tuple[str, str, int, int, dict[str, object]]:
    return item.stream, item.kind, item.wall_ns, item.boottime_ns, dict(item.body)


def test_segments_are_bounded_and_each_opens_with_what_went_before(folder: Path) -> None:
    with closing(open_log(folder, segment_bytes=2_000)) as log:
        for seq in range(1, 41):
            log.append([record(seq)])
        assert log.segment == segment_files(folder)[-1].name
    files = segment_files(folder)
    assert len(files) > 3
    last = 0
    for number, path in enumerate(files, start=1):
        assert path.stat().st_size <= 2_000
        lines = [parse_line(line) for line in path.read_bytes().splitlines(keepends=True)]
        opening = lines[0]
        assert isinstance(opening, Opening)
        assert opening.number == number
        assert opening.senders == ((("reflex", BOOT, last),) if last else ())
        last += len(lines) - 1
    assert seqs(kept(folder)) == list(range(1, 41))


def test_a_batch_larger_than_a_segment_is_one_segment(folder: Path) -> None:
    write_log(folder, records(1, 1), records(2, 50), records(51, 51), segment_bytes=1_000)
    assert len(segment_files(folder)) == 3
    assert seqs(kept(folder)) == list(range(1, 52))


def test_only_the_owner_may_look(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        write_log(folder, records(1, 1))
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert segment_files(folder)[0].stat().st_mode & 0o777 == 0o600


def test_a_folder_is_written_by_one_process_only(folder: Path) -> None:
    with closing(open_log(folder)):
        with pytest.raises(LogError, match="another process writes this log") as caught:
            open_log(folder)
        assert caught.value.path == folder
    open_log(folder).close()


def test_close_twice(folder: Path) -> None:
    log = open_log(folder)
    log.append(records(1, 1))
    log.close()
    log.close()
    assert seqs(kept(folder)) == [1]


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LogError) as caught:
        open_log(tmp_path / "file" / "log")
    assert caught.value.path == tmp_path / "file" / "log"
    assert caught.value.errno == errno.ENOTDIR
    assert "[ENOTDIR]" in str(caught.value)


def test_a_body_that_is_no_json_is_the_callers_fault_and_changes_nothing(folder: Path) -> None:
    with closing(open_log(folder)) as log:
        log.append(records(1, 1))
        bad = Record("reflex", BOOT, 3, "safety", "e", 0, 0, {"v": object()})
        with pytest.raises(LogError, match="record refused") as caught:
            log.append([record(2), bad])
        assert caught.value.errno == 0
        log.append(records(2, 2))
    assert seqs(kept(folder)) == [1, 2]


# ---- a disk that fails


def full(disk: Disk) -> None:
    disk.room = 0


def half_full(disk: Disk) -> None:
    disk.room = 150


def nearly_enough(disk: Disk) -> None:
    disk.room, disk.most_at_once = 500, 7


def unsynced(disk: Disk) -> None:
    disk.fails_sync = True


def repaired(disk: Disk) -> None:
    disk.room, disk.fails_sync, disk.most_at_once = None, False, None


@pytest.mark.parametrize("broken", [full, half_full, nearly_enough, unsynced])
@pytest.mark.parametrize("segment_bytes", [400, 100_000])
def test_a_failed_batch_leaves_no_trace_and_can_be_tried_again(
    folder: Path, broken: Callable[[Disk], None], segment_bytes: int
) -> None:
    disk = Disk()
    with closing(open_log(folder, disk, segment_bytes)) as log:
        log.append(records(1, 2))
        for _ in range(3):
            broken(disk)
            with pytest.raises(LogError) as caught:
                log.append(records(3, 6))
            assert caught.value.errno in (errno.ENOSPC, errno.EIO)
            assert seqs(kept(folder)) == [1, 2], "a half line was left"
            assert log.last_seq("reflex", BOOT) == 2
            assert log.totals["safety"].records == 2
        repaired(disk)
        log.append(records(3, 6))
    assert kept(folder) == records(1, 6)
    assert verify(folder).exit_code == CLEAN


def test_short_writes_are_gone_on_with(folder: Path) -> None:
    disk = Disk()
    disk.most_at_once = 3
    with closing(open_log(folder, disk)) as log:
        log.append(records(1, 5))
    assert kept(folder) == records(1, 5)


def test_a_write_that_takes_nothing_is_an_error_not_a_loop(folder: Path) -> None:
    with (
        closing(PlainLog(folder, write=lambda _fd, _data: 0)) as log,
        pytest.raises(LogError, match="nothing written"),
    ):
        log.append(records(1, 1))


def test_a_file_system_that_is_really_full(folder: Path) -> None:
    """RLIMIT_FSIZE: the kernel takes what fits, then refuses (EFBIG), as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with closing(PlainLog(folder)) as log:
        log.append(records(1, 10))
        size = segment_files(folder)[0].stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 300, hard))
        try:
            with pytest.raises(LogError) as caught:
                log.append(records(11, 20))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.errno == errno.EFBIG
        assert segment_files(folder)[0].stat().st_size == size
        log.append(records(11, 20))
    assert kept(folder) == records(1, 20)


def test_what_could_not_be_cut_back_is_cut_back_before_the_next_write(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk()
    with closing(open_log(folder, disk)) as log:
        log.append(records(1, 1))
        half_full(disk)
        with monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", refuse)
            for _ in range(2):
                with pytest.raises(LogError):
                    log.append(records(2, 9))
        repaired(disk)
        assert verify(folder).records == 1
        log.append(records(2, 9))
    assert kept(folder) == records(1, 9)


def refuse(*_arguments: object, **_named: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_new_segment_that_cannot_be_made_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(open_log(folder, segment_bytes=300)) as log:
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse)
            with pytest.raises(LogError) as caught:
                log.append(records(1, 1))
            assert caught.value.path == folder
        log.append(records(1, 1))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            with pytest.raises(LogError):
                log.append(records(2, 2))
        log.append(records(2, 2))
    assert kept(folder) == records(1, 2)
    assert len(segment_files(folder)) == 2
    assert verify(folder).exit_code == CLEAN


# ---- after a crash


def test_a_tail_torn_at_every_byte_is_set_aside(folder: Path) -> None:
    write_log(folder, records(1, 4))
    path = segment_files(folder)[0]
    data = path.read_bytes()
    start = data[:-1].rindex(b"\n") + 1
    torn_files = 0
    for cut in range(start, len(data)):
        path.write_bytes(data[:cut])
        with closing(open_log(folder)) as log:
            assert log.last_seq("reflex", BOOT) == 3
            torn = data[start:cut]
            if torn:
                torn_files += 1
                kept_as = f"{path.name}.torn-{torn_files}"
                assert log.recovered == (Recovered(path.name, len(torn), kept_as),)
                assert (folder / kept_as).read_bytes() == torn
                assert (folder / kept_as).stat().st_mode & 0o777 == 0o600
            else:
                assert log.recovered == ()
            log.append(records(4, 4))
        assert kept(folder) == records(1, 4)
    report = verify(folder)
    assert report.exit_code == EXPLAINED
    assert len(report.torn) == torn_files == len(data) - start - 1


def test_an_opening_torn_at_every_byte_begins_the_segment_again(folder: Path) -> None:
    write_log(folder, records(1, 2), records(3, 3), segment_bytes=400)
    path = segment_files(folder)[1]
    data = path.read_bytes()
    for cut in range(data.index(b"\n") + 1):
        path.write_bytes(data[:cut])
        with closing(open_log(folder)) as log:
            assert log.last_seq("reflex", BOOT) == 2, "known from the segment before"
            log.append(records(3, 3))
        assert path.read_bytes() == data
    assert verify(folder).exit_code == EXPLAINED


def test_whole_lines_after_a_bad_one_stay_where_they_are(folder: Path) -> None:
    write_log(folder, records(1, 5))
    path = segment_files(folder)[0]
    data = path.read_bytes().replace(b'"seq":3', b'"seq":9')
    path.write_bytes(data)
    with closing(open_log(folder)) as log:
        assert log.recovered == ()
        assert log.last_seq("reflex", BOOT) == 5
        assert log.totals["safety"].records == 4
        log.append(records(6, 6))
    assert path.read_bytes().startswith(data)


def test_a_damaged_opening_is_made_up_for_by_the_segments_before(folder: Path) -> None:
    first = [record(1, source="quiet"), record(1)]
    write_log(folder, first, records(2, 3), records(4, 5), segment_bytes=500)
    path = segment_files(folder)[-1]
    whole = path.read_bytes()
    path.write_bytes(b"?" + whole[1:])
    with closing(open_log(folder)) as log:
        assert log.last_seq("quiet", BOOT) == 1
        assert log.last_seq("reflex", BOOT) == 5
        assert log.totals["safety"].records == 6
        oldest = log.totals["safety"]
    assert oldest == StreamTotals(6, oldest.bytes, first[0].wall_ns)


def test_a_damaged_opening_with_nothing_before_it(folder: Path) -> None:
    write_log(folder, records(1, 5))
    path = segment_files(folder)[0]
    path.write_bytes(b"?" + path.read_bytes()[1:])
    with closing(open_log(folder)) as log:
        assert log.last_seq("reflex", BOOT) == 5
        assert log.totals["safety"].records == 5


def test_a_last_segment_that_cannot_be_read_is_left_and_the_log_goes_on(folder: Path) -> None:
    write_log(folder, records(1, 2), records(3, 3), segment_bytes=400)
    last = segment_files(folder)[-1]
    with unreadable(last), closing(open_log(folder)) as log:
        assert log.recovered == (Recovered(last.name, 0, ""),)
        assert log.last_seq("reflex", BOOT) == 2
        log.append(records(4, 4))
    assert [path.name for path in segment_files(folder)][-2:] == [last.name, "events-000003.jsonl"]
    assert seqs(kept(folder)) == [1, 2, 3, 4]


@pytest.mark.parametrize("refused", ["fsync", "pread", "open"])
def test_a_torn_tail_that_cannot_be_copied_stays_and_the_log_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    write_log(folder, records(1, 3))
    path = segment_files(folder)[0]
    torn = path.read_bytes()[:-5]
    path.write_bytes(torn)
    real_open = os.open

    def open_but_not_beside(name: Path, flags: int, mode: int = 0o777, dir_fd: int | None = None) -> int:
        if ".torn-" in str(name):
            refuse()
        return real_open(name, flags, mode, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, refused, open_but_not_beside if refused == "open" else refuse)
        log = open_log(folder)
    with closing(log):
        assert [(found.segment, found.kept_as) for found in log.recovered] == [(path.name, "")]
        log.append(records(3, 3))
    assert path.read_bytes() == torn
    assert list(folder.glob("*.torn-*")) == []
    report = verify(folder)
    assert (report.exit_code, report.torn_tails, report.records) == (EXPLAINED, [path.name], 3)


def test_an_empty_segment_is_gone_on_with(folder: Path) -> None:
    write_log(folder, records(1, 1), segment_bytes=400)
    (folder / "events-000002.jsonl").touch(0o600)
    with closing(open_log(folder)) as log:
        assert log.last_seq("reflex", BOOT) == 1
        log.append(records(2, 2))
    assert kept(folder) == records(1, 2)
    assert verify(folder).exit_code == CLEAN


def test_what_else_is_in_the_folder_is_not_touched(folder: Path) -> None:
    folder.mkdir()
    (folder / "note.txt").write_text("here")
    write_log(folder, records(1, 1))
    assert (folder / "note.txt").read_text() == "here"
