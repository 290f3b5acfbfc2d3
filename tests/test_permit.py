"""The run permit's writer (PROTOCOL 1)."""

import errno
import os
import stat
import struct
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.permit import SIZE, Permit, PermitError, PermitReader, PermitWriter, parse
from tests.permits import RUN, SEQUENCE_AT, STOP, Grant, as_grant, but, grants, record, rising


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reflex.permit"


@pytest.fixture
def writer(path: Path) -> Iterator[PermitWriter]:
    permit = PermitWriter(path)
    yield permit
    permit.close()


@pytest.fixture
def reader(path: Path) -> Iterator[PermitReader]:
    permit = PermitReader(path)
    yield permit
    permit.close()


def open_descriptors() -> list[str]:
    return sorted(str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())


class Spy:
    """Stands in for the mapping and keeps the stores in order."""

    closed = False

    def __init__(self, content: bytes) -> None:
        self.before = content
        self.stores: list[tuple[int, bytes]] = []

    def __setitem__(self, where: slice, value: bytes) -> None:
        assert len(value) == where.stop - where.start
        self.stores.append((where.start, bytes(value)))

    def prefixes(self) -> Iterator[bytes]:
        """The file after each store, the state before the first one included."""
        content = bytearray(self.before)
        yield bytes(content)
        for start, value in self.stores:
            content[start : start + len(value)] = value
            yield bytes(content)

    def torn(self) -> Iterator[bytes]:
        """The file after each single byte, as if a store were the narrowest there is."""
        content = bytearray(self.before)
        for start, value in self.stores:
            for offset, byte in enumerate(value):
                content[start + offset] = byte
                yield bytes(content)


def spied(writer: PermitWriter) -> tuple[Spy, Any]:
    """From here on the writer stores into the spy. The real mapping, to be put back."""
    real: Any = writer._map
    spy = Spy(real[:])
    writer._map = spy  # type: ignore[assignment]
    return spy, real


def permitted(seen: Permit, before: Permit, after: Permit) -> bool:
    """Whether a state between two grants allows nothing that neither of them allowed."""
    power_known = seen.power_until_ns in (before.power_until_ns, after.power_until_ns)
    if seen.motion_until_ns == 0:
        return power_known
    mixed = (
        power_known
        and seen.speed_permille in (before.speed_permille, after.speed_permille)
        and seen.response in (before.response, after.response)
        and seen.epoch == before.epoch == after.epoch
    )
    # A longer grant in the same epoch was decided already: the old deadline is a part of it.
    extends = before.motion_until_ns <= after.motion_until_ns
    return as_grant(seen) in (as_grant(before), as_grant(after)) or (
        extends and seen.motion_until_ns == before.motion_until_ns and mixed
    )


# ------------------------------------------------------------------------------------------------- the file


def test_a_fresh_file_is_a_stopped_record_the_robot_may_read(path: Path) -> None:
    umask = os.umask(0o077)
    try:
        writer = PermitWriter(path)
    finally:
        os.umask(umask)
    assert writer.found is None
    assert path.stat().st_size == SIZE
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    permit = parse(path.read_bytes())
    assert permit is not None
    assert as_grant(permit) == {**STOP, "epoch": 0}
    writer.close()


@pytest.mark.parametrize(
    "content",
    [b"", b"WPERMIT1", b"\0" * SIZE, b"\xff" * SIZE, record(4, **RUN)[:-1], b"X" + record(4, **RUN)[1:]],
    ids=["empty", "magic alone", "zeros", "ones", "one byte short", "wrong magic"],
)
def test_a_bad_file_becomes_a_stopped_record(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    inode = path.stat().st_ino
    writer = PermitWriter(path)
    assert writer.found is None
    assert path.stat().st_ino == inode
    permit = parse(path.read_bytes())
    assert permit is not None
    assert as_grant(permit) == {**STOP, "epoch": 0}
    writer.close()


def test_a_longer_file_is_used_and_never_cut(path: Path) -> None:
    path.write_bytes(record(4, **RUN) + b"tail")
    writer = PermitWriter(path)
    assert writer.found == Permit(**RUN, sequence=4)
    assert path.read_bytes()[SIZE:] == b"tail"
    writer.close()


def test_a_good_file_is_found_and_motion_withdrawn_from_it(path: Path, reader: PermitReader) -> None:
    power_until_ns = time.monotonic_ns() + 800_000_000
    path.write_bytes(record(41, **but(RUN, power_until_ns=power_until_ns)))
    writer = PermitWriter(path)
    assert writer.found == Permit(**but(RUN, power_until_ns=power_until_ns), sequence=41)
    now = reader.read()
    assert now.motion_until_ns == 0
    assert now.power_until_ns == power_until_ns, "the controlled stop under way is let finish"
    assert (now.epoch, now.speed_permille, now.response) == (7, 0, 5)
    assert now.sequence > 41
    writer.close()


def test_power_granted_before_a_reboot_is_withdrawn(path: Path, reader: PermitReader) -> None:
    path.write_bytes(record(1, **but(RUN, power_until_ns=time.monotonic_ns() + 3600 * 10**9)))
    writer = PermitWriter(path)
    assert reader.read().power_until_ns == 0
    writer.close()


def test_a_symlink_is_refused(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_bytes(b"precious")
    path.symlink_to(target)
    with pytest.raises(PermitError) as refused:
        PermitWriter(path)
    assert refused.value.path == path
    assert target.read_bytes() == b"precious"


def test_what_is_no_regular_file_is_refused(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(PermitError, match="not a regular file"):
        PermitWriter(path)


def test_a_directory_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(PermitError, match="directory"):
        PermitWriter(path)


def test_a_missing_folder_is_refused(path: Path) -> None:
    with pytest.raises(PermitError, match="No such file"):
        PermitWriter(path / "deeper")


def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(record(1, **RUN))
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    with pytest.raises(PermitError, match="belongs to uid"):
        PermitWriter(path)
    assert path.read_bytes() == record(1, **RUN)


def test_others_lose_the_right_to_write(path: Path) -> None:
    path.write_bytes(record(1, **RUN))
    path.chmod(0o666)
    PermitWriter(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_second_writer_is_refused_and_changes_nothing(path: Path, writer: PermitWriter) -> None:
    writer.write(**RUN)
    before = path.read_bytes()
    with pytest.raises(PermitError, match="held by another"):
        PermitWriter(path)
    assert path.read_bytes() == before


def test_a_full_file_system_is_said_at_the_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    open_before = open_descriptors()
    with pytest.raises(PermitError, match="No space left"):
        PermitWriter(path)
    assert open_descriptors() == open_before


def test_a_refusal_leaves_no_descriptor_open(path: Path, writer: PermitWriter) -> None:
    open_before = open_descriptors()
    with pytest.raises(PermitError):
        PermitWriter(path)
    assert open_descriptors() == open_before


# -------------------------------------------------------------------------------------------------- writing


@given(st.lists(grants, min_size=1, max_size=6).map(rising))
def test_what_is_written_is_what_stands_in_the_file(
    tmp_path_factory: pytest.TempPathFactory, sequence: list[Grant]
) -> None:
    path = tmp_path_factory.mktemp("permit") / "a.permit"
    writer, reader = PermitWriter(path), PermitReader(path)
    number = reader.read().sequence
    for grant in sequence:
        number += 1
        writer.write(**grant)
        assert path.read_bytes() == record(number, **grant)
        assert reader.read() == Permit(**grant, sequence=number)
    writer.close()
    reader.close()


@given(grants, grants)
def test_every_state_between_two_writes_is_a_permit_that_was_given(
    tmp_path_factory: pytest.TempPathFactory, first: Grant, second: Grant
) -> None:
    writer = PermitWriter(tmp_path_factory.mktemp("permit") / "a.permit")
    first, second = rising([first, second])
    writer.write(**first)
    spy, real = spied(writer)
    writer.write(**second)
    writer._map = real
    before, after = Permit(**first, sequence=0), Permit(**second, sequence=0)
    for content in spy.prefixes():
        seen = parse(content)
        assert seen is not None, "between two stores the record is whole: a writer held up trips nobody"
        assert permitted(seen, before, after)
    for content in spy.torn():
        torn = parse(content)
        assert torn is None or permitted(torn, before, after)
    assert content[: SEQUENCE_AT.start] == record(0, **second)[: SEQUENCE_AT.start]
    writer.close()


def test_the_first_store_of_a_stop_ends_motion(writer: PermitWriter) -> None:
    stops: list[Callable[[], None]] = [
        lambda: writer.write(**STOP),
        writer.withdraw,
        lambda: writer.write(**but(RUN, epoch=9)),
    ]
    for epoch, stop in zip((7, 8, 8), stops, strict=True):
        writer.write(**but(RUN, epoch=epoch))
        spy, real = spied(writer)
        stop()
        writer._map = real
        assert spy.stores[0] == (8, struct.pack("<QQ", 0, 2**64 - 1))


def test_the_last_store_of_a_grant_but_the_sequence_is_motion(writer: PermitWriter) -> None:
    spy, real = spied(writer)
    writer.write(**RUN)
    writer._map = real
    assert [start for start, _ in spy.stores][-2:] == [8, 56]


def test_renewing_never_interrupts_motion(writer: PermitWriter) -> None:
    writer.write(**RUN)
    spy, real = spied(writer)
    writer.write(**but(RUN, motion_until_ns=1100, power_until_ns=2100, speed_permille=300))
    writer._map = real
    states = [parse(content) for content in spy.prefixes()]
    deadlines = [state.motion_until_ns if state else 0 for state in states]
    assert deadlines == sorted(deadlines)
    assert deadlines[0] == 1000
    assert deadlines[-1] == 1100


def test_every_write_counts_once(writer: PermitWriter, reader: PermitReader) -> None:
    numbers = [reader.read().sequence]
    acts: list[Callable[[], None]] = [
        lambda: writer.write(**RUN),
        writer.withdraw,
        lambda: writer.write(**STOP),
    ]
    for act in acts:
        act()
        numbers.append(reader.read().sequence)
    assert [later - earlier for earlier, later in pairwise(numbers)] == [1, 1, 1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"speed_permille": 1001},
        {"speed_permille": -1},
        {"response": 8},
        {"response": -1},
        {"epoch": 6},
        {"epoch": 2**32},
        {"motion_until_ns": -1},
        {"motion_until_ns": 2**64},
        {"power_until_ns": -1},
        {"power_until_ns": 2**64},
        {"power_until_ns": 1.5},
    ],
)
def test_a_value_out_of_range_withdraws_everything(
    writer: PermitWriter, reader: PermitReader, wrong: dict[str, Any]
) -> None:
    writer.write(**RUN)
    with pytest.raises(PermitError) as refused:
        writer.write(**but(RUN, **({"motion_until_ns": 1100} | wrong)))
    assert refused.value.reason
    now = reader.read()
    assert (now.motion_until_ns, now.power_until_ns, now.epoch) == (0, 0, 7)


@pytest.mark.parametrize(("asked_ns", "left_ns"), [(0, 0), (500, 500), (2000, 2000), (9999, 2000), (-5, 0)])
def test_withdrawing_ends_motion_and_never_lengthens_power(
    writer: PermitWriter, reader: PermitReader, asked_ns: int, left_ns: int
) -> None:
    writer.write(**RUN)
    writer.withdraw(power_until_ns=asked_ns)
    now = reader.read()
    assert (now.motion_until_ns, now.power_until_ns, now.epoch) == (0, left_ns, 7)


def test_closing_stops_and_is_final(writer: PermitWriter, reader: PermitReader, path: Path) -> None:
    writer.write(**RUN)
    writer.close()
    now = reader.read()
    assert as_grant(now) == {**STOP, "epoch": 7}
    writer.close()
    writer.withdraw()
    for late in (RUN, STOP):
        with pytest.raises(PermitError, match="closed"):
            writer.write(**late)
    assert reader.read() == now
    PermitWriter(path).close()
