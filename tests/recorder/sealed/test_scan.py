"""Finding whole frames again after damage, with no key."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.logformat.suites import suite_by_number
from agent.recorder.sealed.parts import Point
from agent.recorder.sealed.scan import WINDOW_BYTES, Scan, scan
from tests.recorder.sealed.reading import sha
from tests.recorder.sealed.test_crafted import frame

START = Point(0, 0, 0, 1, b"\x11" * 32)


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "segment", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def scanned(fd: int, data: bytes) -> Scan:
    os.pwrite(fd, data, 0)
    os.ftruncate(fd, len(data))
    return scan(fd, suite_by_number(1), START)


def records(index: int, first_seq: int, size: int = 10) -> bytes:
    return frame(1, b"x" * size, 2, first_seq, index)


def test_whole_frames(fd: int) -> None:
    first, second = records(0, 1), records(1, 3)
    found = scanned(fd, first + second + bytes(1_000))
    h = sha(sha(START.h, first[:-4]), second[:-4])
    assert found.point == Point(len(first + second), 2, 4, 5, h)
    assert (found.damaged, found.seal) == ([], None)


def test_an_empty_file(fd: int) -> None:
    assert scanned(fd, b"") == Scan(START)
    assert scanned(fd, bytes(200_000)) == Scan(START)


@pytest.mark.parametrize("gap", [1, 2, 3, WINDOW_BYTES, *range(2 * WINDOW_BYTES - 5, 2 * WINDOW_BYTES + 5)])
@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"W", b"WF\x01"])
def test_a_frame_behind_damage_of_any_length(fd: int, gap: int, filler: bytes) -> None:
    """Also where its first two bytes lie in two windows."""
    first, second = records(0, 1), records(1, 3)
    found = scanned(fd, first + (filler * gap)[:gap] + second)
    assert found.damaged == [(len(first), gap)]
    assert (found.point.frames, found.point.end) == (2, len(first) + gap + len(second))


def test_frames_only_come_in_order(fd: int) -> None:
    """What lies there from before, or was put there, is no part of the segment."""
    first, old, second = records(5, 1), records(4, 1), records(6, 3)
    found = scanned(fd, first + old + second)
    assert (found.point.frames, found.damaged) == (2, [(len(first), len(old))])
    again = scanned(fd, first + first)
    assert (again.point.frames, again.used) == (1, 2 * len(first))


def test_memory_is_one_frame(fd: int) -> None:
    """As large as a frame may be, and one byte more, which none is."""
    largest = records(0, 1, 1 << 20)
    assert scanned(fd, largest).point.end == len(largest)
    assert scanned(fd, records(0, 1, (1 << 20) + 1)).point.frames == 0
