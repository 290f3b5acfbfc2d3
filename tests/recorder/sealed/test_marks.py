import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.recorder.sealed.disk import Disk
from agent.recorder.sealed.marks import MARKS_FILE, MAX_BOOTS, SLOT_BYTES, Marks
from tests.recorder.sealed.logs import ENOSPC, FaultyDisk, at

ME = ("reflex", "aa")


@pytest.fixture
def folder_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


class Whole:
    """Which frames are in the log."""

    def __init__(self, *tags: tuple[str, int, int]) -> None:
        self.tags = set(tags)

    def __call__(self, stream: str, segno: int, index: int) -> bool:
        return (stream, segno, index) in self.tags


def read(folder_fd: int, *tags: tuple[str, int, int]) -> Marks:
    """What the next process reads, with only these frames in the log."""
    marks = Marks(Disk(), folder_fd, Whole(*tags))
    marks.close()
    return marks


def test_what_was_confirmed_is_read_again(folder_fd: int) -> None:
    marks = Marks(Disk(), folder_fd, Whole())
    assert (marks.settled(*ME), marks.last(*ME, "net")) == (0, 0)
    marks.stage("safety", (1, 0), {ME: 5}, {ME: 3})
    assert marks.settled(*ME) == 0, "not yet"
    marks.confirm()
    marks.stage("net", (4, 2), {ME: 4}, {ME: 5})
    marks.confirm()
    marks.close()
    after = read(folder_fd, ("safety", 1, 0), ("net", 4, 2))
    assert (after.settled(*ME), after.last(*ME, "safety"), after.last(*ME, "net")) == (5, 5, 4)
    assert after.last(*ME, "tele") == 0


@pytest.mark.parametrize("confirmed", [True, False])
def test_a_frame_that_is_not_whole_counts_for_nothing(folder_fd: int, confirmed: bool) -> None:
    marks = Marks(Disk(), folder_fd, Whole())
    marks.stage("safety", (1, 0), {ME: 1}, {ME: 1})
    marks.confirm()
    marks.stage("safety", (1, 1), {ME: 2}, {ME: 2})
    if confirmed:
        marks.confirm()
    marks.close()
    assert read(folder_fd, ("safety", 1, 0)).settled(*ME) == 1
    assert read(folder_fd, ("safety", 1, 0), ("safety", 1, 1)).settled(*ME) == 2
    assert read(folder_fd).settled(*ME) == 0


def test_a_frame_that_is_tried_again_leaves_the_other_slot(folder_fd: int) -> None:
    marks = Marks(Disk(), folder_fd, Whole())
    marks.stage("safety", (1, 0), {ME: 1}, {ME: 1})
    marks.confirm()
    for _ in range(3):
        marks.stage("safety", (1, 1), {ME: 2}, {ME: 2})
    marks.close()
    assert read(folder_fd, ("safety", 1, 0)).settled(*ME) == 1


def test_a_process_goes_on_in_the_other_slot(folder_fd: int) -> None:
    whole = [("safety", 1, index) for index in range(10)]
    for index in range(10):
        marks = Marks(Disk(), folder_fd, Whole(*whole[:index]))
        assert marks.settled(*ME) == index
        marks.stage("safety", (1, index), {ME: index + 1}, {ME: index + 1})
        marks.close()  # killed before it could confirm
    assert read(folder_fd, *whole).settled(*ME) == 10
    assert read(folder_fd, *whole[:9]).settled(*ME) == 9


def test_nothing_grows_smaller(folder_fd: int) -> None:
    marks = Marks(Disk(), folder_fd, Whole())
    for seq in (5, 3):
        marks.stage("safety", (1, 0), {ME: seq}, {ME: seq})
        marks.confirm()
    marks.close()
    assert (marks.settled(*ME), marks.last(*ME, "safety")) == (5, 5)


@pytest.mark.parametrize("offset", [0, 5, 9, 16, 20, 60])
def test_a_damaged_slot_counts_for_nothing(folder_fd: int, tmp_path: Path, offset: int) -> None:
    marks = Marks(Disk(), folder_fd, Whole())
    for index in range(2):
        marks.stage("safety", (1, index), {ME: index + 1}, {ME: index + 1})
        marks.confirm()
    marks.close()
    path = tmp_path / MARKS_FILE
    data = bytearray(path.read_bytes())
    data[SLOT_BYTES + offset] ^= 1
    path.write_bytes(data)
    assert read(folder_fd, ("safety", 1, 0), ("safety", 1, 1)).settled(*ME) == 1


@pytest.mark.parametrize("junk", [b"", b"\xff" * 50, bytes(3 * SLOT_BYTES), b"{}"])
def test_any_file_can_be_started_with(folder_fd: int, tmp_path: Path, junk: bytes) -> None:
    (tmp_path / MARKS_FILE).write_bytes(junk)
    assert read(folder_fd, ("safety", 1, 0)).settled(*ME) == 0


def test_sound_sums_over_other_things(folder_fd: int) -> None:
    """As `_adopt` is handed them; each is no table of ours."""
    marks = read(folder_fd)
    for text in (
        b"7",
        b"{}",
        b'{"tags":{},"senders":[[1]]}',
        b'{"tags":[],"senders":[]}',
        b'{"tags":{"net":[1e999,0]},"senders":[]}',
        b'{"tags":{"nat":[1,0]},"senders":[]}',
        b'{"tags":{},"senders":[["reflex","aa",null,[0,0,0]]]}',
        b'{"tags":{},"senders":[["reflex","aa",0,[0,{},0]]]}',
        b'{"tags":{},"senders":[["\\ud800","aa",0,[0,0,0]]]}',
        b"\xff",
        b"[" * 9_999,
    ):
        assert not marks._adopt(text, Whole())


def test_boots_and_bytes_are_bounded(folder_fd: int, tmp_path: Path) -> None:
    marks = Marks(Disk(), folder_fd, Whole())
    for source in range(30):
        for boot in range(MAX_BOOTS + 3):
            marks.stage("safety", (1, 0), {(f"s{source}", f"{boot:032x}"): 7}, {})
            marks.confirm()
    marks.close()
    assert (tmp_path / MARKS_FILE).stat().st_size <= 2 * SLOT_BYTES
    assert marks.last("s29", f"{2:032x}", "safety") == 0
    assert marks.last("s29", f"{3:032x}", "safety") == 7
    after = read(folder_fd, ("safety", 1, 0))
    assert after.last("s29", f"{MAX_BOOTS + 2:032x}", "safety") == 7, "the newest are kept"
    before = {row for source in marks._rows for row in marks._rows[source]}
    assert sum(map(len, after._rows.values())) > len(before)


def test_a_full_disk_costs_nothing_but_memory(folder_fd: int, tmp_path: Path) -> None:
    disk = FaultyDisk(at(1, OSError(ENOSPC, "full")))
    marks = Marks(disk, folder_fd, Whole())
    assert not (tmp_path / MARKS_FILE).exists()
    marks.stage("safety", (1, 0), {ME: 1}, {ME: 1})
    marks.confirm()
    marks.close()
    assert marks.settled(*ME) == 1
    assert read(folder_fd, ("safety", 1, 0)).settled(*ME) == 1
