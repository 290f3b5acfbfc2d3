"""The run permit's reader in the agent (PROTOCOL 1, reader's rule)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.permit import SIZE, VOID, PermitReader, PermitWriter
from tests.permits import RUN, SEQUENCE_AT, as_grant, but, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reflex.permit"


@pytest.fixture
def reader(path: Path) -> Iterator[PermitReader]:
    permit = PermitReader(path)
    yield permit
    permit.close()


def test_a_missing_file_is_void_and_found_when_it_comes(path: Path, reader: PermitReader) -> None:
    assert reader.read() == VOID
    writer = PermitWriter(path)
    writer.write(**RUN)
    assert as_grant(reader.read()) == RUN
    writer.close()


def test_void_permits_nothing() -> None:
    assert (VOID.motion_until_ns, VOID.power_until_ns, VOID.speed_permille, VOID.response) == (0, 0, 0, 5)


@pytest.mark.parametrize("content", [b"", b"\0" * SIZE, record(1, **RUN)[:-1], b"\xff" * SIZE])
def test_a_file_that_is_no_record_is_void(path: Path, reader: PermitReader, content: bytes) -> None:
    path.write_bytes(content)
    assert reader.read() == VOID


def test_a_fifo_or_symlink_is_void_and_blocks_nobody(
    path: Path, reader: PermitReader, tmp_path: Path
) -> None:
    os.mkfifo(path)
    assert reader.read() == VOID
    path.unlink()
    (tmp_path / "target").write_bytes(record(1, **RUN))
    path.symlink_to(tmp_path / "target")
    assert reader.read() == VOID


def test_every_single_flipped_bit_is_void(path: Path, reader: PermitReader) -> None:
    good = record(5, **RUN)
    path.write_bytes(good)
    assert as_grant(reader.read()) == RUN
    with path.open("r+b", buffering=0) as file:
        for bit in range(SEQUENCE_AT.start * 8):
            damaged = bytearray(good)
            damaged[bit // 8] ^= 1 << bit % 8
            file.seek(0)
            file.write(damaged)
            assert reader.read() == VOID, f"bit {bit}"


@pytest.mark.parametrize("wrong", [{"speed_permille": 1001}, {"response": 8}])
def test_a_value_no_writer_writes_is_void(path: Path, reader: PermitReader, wrong: dict[str, Any]) -> None:
    path.write_bytes(record(5, **but(RUN, **wrong)))
    assert reader.read() == VOID


def test_a_mapping_stays_good_across_a_restart_of_the_writer(path: Path, reader: PermitReader) -> None:
    first = PermitWriter(path)
    first.write(**RUN)
    assert as_grant(reader.read()) == RUN
    mapping = reader._map
    first.close()
    second = PermitWriter(path)
    second.write(**but(RUN, epoch=9))
    assert reader.read().epoch == 9
    assert reader._map is mapping
    second.close()


def test_a_file_made_anew_is_followed(path: Path, reader: PermitReader) -> None:
    path.write_bytes(record(1, **RUN))
    assert reader.read().epoch == 7
    path.unlink()
    assert reader.read() == VOID
    path.write_bytes(record(1, **but(RUN, epoch=8)))
    assert reader.read().epoch == 8


class Changing:
    """A mapping in which a write is under way for the first `attempts` looks."""

    def __init__(self, attempts: int) -> None:
        self.left = attempts

    def __getitem__(self, where: slice) -> bytes:
        content = record(5, **RUN)
        if where == slice(None, SIZE):
            return content
        self.left -= where == slice(8, 24)
        # Looked at once in an attempt that fails, since the copy of the whole differs from it already.
        return b"\0" * 16 if self.left >= 0 else content[where]


@pytest.mark.parametrize(("attempts", "expected"), [(0, 7), (3, 7), (4, 0), (100, 0)])
def test_a_permit_that_changes_is_read_again_three_times(
    path: Path, reader: PermitReader, attempts: int, expected: int
) -> None:
    path.write_bytes(record(5, **RUN))
    reader.read()
    mapping: Any = reader._map
    reader._map = Changing(attempts)  # type: ignore[assignment]
    assert reader.read().epoch == expected
    reader._map = mapping
