"""What a start makes of a segment that has no end, or not the one it had (LOG, "Rules", crash)."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent.recorder.log import Recovered
from agent.recorder.sealed.segment import base64url
from tests.recorder.sealed.broken_off import FRAMES, NAME, ONE, killed, reopened, torn
from tests.recorder.sealed.logs import (
    BOOT,
    KEYS,
    Crash,
    FaultyDisk,
    abandon,
    check_ledger,
    check_whole,
    entries,
    open_log,
    record,
    segments,
    seqs,
)
from tests.recorder.sealed.reading import Segment, read_segment, whole_frame


@pytest.fixture(params=["net", "safety"])
def stream(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def recover_entry(folder: Path) -> dict[str, object]:
    ((_, body),) = entries(folder, "seg.recover")
    return body


# ---- torn tails


def torn_copies(folder: Path, segment: Segment, first: int, *, blank: bool) -> Iterator[tuple[int, Path]]:
    """Copies of the log in which the segment's bytes from an offset on are gone, or zero."""
    data = segment.path.read_bytes()
    for offset in range(first, segment.end):
        copy = folder.with_name("torn")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        path = copy / segment.path.relative_to(folder)
        path.write_bytes(data[:offset] + (bytes(len(data) - offset) if blank else b""))
        yield offset, copy


def check_torn(copy: Path, stream: str, segment: Segment, offset: int) -> None:
    left = (copy / stream / NAME).read_bytes()
    # By what is there: a frame whose last bytes are zero is whole though they were made so.
    whole = [frame for frame in segment.frames if left.startswith(frame.raw, frame.offset)]
    assert sum(frame.offset + len(frame.raw) <= offset for frame in segment.frames) <= len(whole)
    end = whole[-1].offset + len(whole[-1].raw) if whole else segment.header_bytes
    torn = left[end:].rstrip(b"\0")
    found = reopened(copy)
    assert seqs(copy, stream) == [frame.first_seq for frame in whole]
    assert [(each.seal or {}).get("reason") for each in segments(copy, stream)] == ["recovered"]
    kept_as = f"{NAME}.torn-1" if torn else ""
    assert found == ((Recovered(f"{stream}/{NAME}", len(torn), kept_as),) if torn else ())
    body = recover_entry(copy)
    assert (body["torn_bytes"], body["kept_as"], body["frames"]) == (len(torn), kept_as, len(whole))
    assert not torn or (copy / stream / kept_as).read_bytes() == torn
    check_whole(copy)
    told = entries(copy)
    assert reopened(copy) == ()
    assert entries(copy) == told


@pytest.mark.parametrize(("stream", "blank"), [("net", False), ("safety", True)])
def test_a_tail_torn_at_every_byte(folder: Path, stream: str, blank: bool) -> None:
    segment = killed(folder, stream)
    for offset, copy in torn_copies(folder, segment, segment.header_bytes, blank=blank):
        check_torn(copy, stream, segment, offset)


def test_the_order_of_a_repair(folder: Path) -> None:
    torn(folder, "net")
    disk = FaultyDisk()
    open_log(folder, disk, ONE).close()
    kept = ["create", "write", "sync_all", "sync_all", "seg.recover"]
    assert disk.calls[:9] == [*kept, "cut", "write", "sync_all", "seg.seal"]


@pytest.mark.parametrize("where", ["seg.recover", "cut", "seg.seal"])
def test_a_repair_that_is_cut_off_is_not_begun_anew(folder: Path, stream: str, where: str) -> None:
    torn(folder, stream)

    def fault(_step: int, name: str) -> None:
        if name == where:
            raise Crash

    for _ in range(2):
        with pytest.raises(Crash):
            open_log(folder, FaultyDisk(fault), ONE)
    reopened(folder)
    assert [path.name for path in (folder / stream).glob("*.torn-*")] == [f"{NAME}.torn-1"]
    assert recover_entry(folder)["kept_as"] == f"{NAME}.torn-1"
    check_whole(folder)


def test_a_header_torn_at_every_byte(folder: Path) -> None:
    segment = killed(folder, "net")
    data = segment.path.read_bytes()
    for offset in range(segment.header_bytes):
        shutil.rmtree(folder / "net")
        (folder / "net").mkdir()
        segment.path.write_bytes(data[:offset])
        (folder / "ledger.jsonl").unlink()
        assert reopened(folder) == (Recovered(f"net/{NAME}", offset, f"{NAME}.torn-1"),)
        assert (folder / "net" / f"{NAME}.torn-1").read_bytes() == data[:offset]
        assert recover_entry(folder)["kept_as"] == f"{NAME}.torn-1"
        assert reopened(folder) == ()
    log = open_log(folder, sealing=ONE)
    log.append([record(9, stream="net")])
    assert log.heads()["net"].segno == 2, "its number is not used again"
    log.close()


def test_a_damaged_header_before_whole_frames(folder: Path, stream: str) -> None:
    """The file is kept whole; the numbers of its records are not given out again."""
    segment = killed(folder, stream)
    data = bytearray(segment.path.read_bytes())
    data[20] ^= 1
    segment.path.write_bytes(data)
    log = open_log(folder, sealing=ONE)
    log.append([record(9, stream=stream)])
    log.close()
    assert (folder / stream / f"{NAME}.torn-1").read_bytes() == data
    (second,) = [read_segment(path, KEYS) for path in (folder / stream).glob("*.seg")]
    assert second.fields["first_seq"] == segment.next_seq
    assert second.fields["prev_seal"] == "0" * 64


# ---- damage before whole frames


def test_a_damaged_frame_costs_only_itself(folder: Path, stream: str) -> None:
    segment = killed(folder, stream)
    second, third = segment.frames[1:3]
    data = bytearray(segment.path.read_bytes())
    data[second.offset + 30] ^= 1
    segment.path.write_bytes(data)
    region = [second.offset, len(second.raw)]
    assert reopened(folder) == (Recovered(f"{stream}/{NAME}", 0, ""),)
    body = recover_entry(folder)
    assert (body["damaged"], body["frames"], body["next_seq"]) == ([region], FRAMES - 1, segment.next_seq)
    after = segment.path.read_bytes()
    assert after[: segment.end] == data[: segment.end], "the file is kept whole"
    assert whole_frame(after, third.offset) == replace(third, records=[])
    seal = whole_frame(after, segment.end)
    assert seal is not None
    assert json.loads(seal.raw[24:-20]) == {
        "frames": FRAMES - 1,
        "records": FRAMES - 1,
        "bytes": segment.end,
        "reason": "damaged",
    }
    told = entries(folder)
    assert reopened(folder) == ()
    assert entries(folder) == told


def test_damage_and_a_torn_tail(folder: Path, stream: str) -> None:
    segment = killed(folder, stream)
    first, last = segment.frames[0], segment.frames[-1]
    data = bytearray(segment.path.read_bytes())
    data[first.offset : first.offset + 3] = bytes(3)
    data[last.offset + len(last.raw) - 1] ^= 1
    segment.path.write_bytes(data)
    (found,) = reopened(folder)
    assert (found.torn_bytes, found.kept_as) == (len(last.raw), f"{NAME}.torn-1")
    assert recover_entry(folder)["damaged"] == [[first.offset, len(first.raw)]]


def test_any_one_byte_damaged_never_stops_a_start(folder: Path) -> None:
    segment = killed(folder, "net")
    data = segment.path.read_bytes()
    for offset in range(0, segment.end, 7):
        copy = folder.with_name("flipped")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        changed = bytearray(data)
        changed[offset] ^= 0x10
        (copy / "net" / NAME).write_bytes(changed)
        log = open_log(copy, sealing=ONE)
        assert len(log.recovered) == 1
        log.append([record(9, stream="net")])
        log.close()
        left = b"".join(path.read_bytes() for path in sorted((copy / "net").iterdir()))
        assert changed[offset : offset + 40].rstrip(b"\0") in left, "nothing is deleted"


# ---- what cannot be done now


def full(_step: int, name: str) -> None:
    """A disk on which no new file has room."""
    if name == "create":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_torn_bytes_without_room_for_a_copy_stay_before_the_seal(folder: Path, stream: str) -> None:
    segment = torn(folder, stream)
    before = segment.path.read_bytes()
    size = len(before.rstrip(b"\0")) - segment.frames[-1].offset
    log = open_log(folder, FaultyDisk(full), ONE)
    assert log.recovered == (Recovered(f"{stream}/{NAME}", size, ""),)
    end = segment.frames[-1].offset + size
    assert segment.path.read_bytes()[:end] == before[:end]
    body = recover_entry(folder)
    assert (body["torn_bytes"], body["kept_as"]) == (0, "")
    assert body["damaged"] == [[segment.frames[-1].offset, size]]
    log.close()
    log = open_log(folder, sealing=ONE)
    assert log.recovered == ()
    log.append([record(4, stream=stream)])
    log.close()
    assert seqs(folder, stream) == [1, 2, 3, 4]
    assert segments(folder, stream)[0].seal == {
        "frames": FRAMES - 1,
        "records": FRAMES - 1,
        "bytes": end,
        "reason": "damaged",
    }
    check_whole(folder)


def test_half_a_copy_is_no_copy(folder: Path, stream: str) -> None:
    torn(folder, stream)
    disk = FaultyDisk()
    disk.part = 3

    def fault(_step: int, name: str) -> None:
        if name == "write" and disk.calls.count("write") == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    disk.fault = fault
    open_log(folder, disk, ONE).close()
    assert list((folder / stream).glob("*.torn-*")) == []
    assert len(recover_entry(folder)["damaged"]) == 1  # type: ignore[arg-type]
    check_whole(folder)


@pytest.mark.parametrize("step", range(1, 9))
def test_a_crash_while_torn_bytes_are_left_where_they_are(folder: Path, stream: str, step: int) -> None:
    """Also when there is room again at the next start: the ledger has said that they stay."""
    torn(folder, stream)
    disk = FaultyDisk()
    disk.part = 20

    def fault(now: int, name: str) -> None:
        full(now, name)
        if now == step:
            raise Crash

    disk.fault = fault
    with suppress(Crash):
        abandon(open_log(folder, disk, ONE))
    log = open_log(folder, sealing=ONE)
    log.append([record(4, stream=stream)])
    log.close()
    assert seqs(folder, stream) == [1, 2, 3, 4]
    check_whole(folder)


# ---- ends that the ledger does not know


def test_a_seal_that_the_ledger_never_heard_of_is_told(folder: Path, stream: str) -> None:
    log = open_log(folder, sealing=ONE)
    log.append([record(1, stream=stream)])
    log.close()
    path = folder / "ledger.jsonl"
    path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(True) if b"seg.seal" not in line))
    assert reopened(folder) == ()
    assert [kind for kind, _ in entries(folder)] == ["seg.open", "seg.seal"]
    check_whole(folder)


def test_bytes_after_a_seal_are_set_aside(folder: Path, stream: str) -> None:
    log = open_log(folder, sealing=ONE)
    log.append([record(1, stream=stream)])
    log.close()
    path = folder / stream / NAME
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"more" + bytes(100))
    assert reopened(folder) == (Recovered(f"{stream}/{NAME}", 4, f"{NAME}.torn-1"),)
    assert path.stat().st_size == size
    assert len(entries(folder, "seg.seal")) == 1
    check_ledger(folder)


def test_a_tombstone_is_gone_on_from(folder: Path, stream: str) -> None:
    log = open_log(folder, sealing=ONE)
    log.append([record(1, stream=stream), record(2, stream=stream)])
    log.close()
    path = folder / stream / NAME
    (segment,) = segments(folder, stream)
    data = path.read_bytes()
    fields_end = 16 + int.from_bytes(data[8:12], "little")
    gone = {
        "prefix": base64url(data[:8]),
        "fields": data[16:fields_end].decode(),
        "wraps_hash": "0" * 64,
        "seal": base64url(data[segment.end - (len(data) - (segment.seal or {})["bytes"]) :]),
        "h": segment.h.hex(),
        "bytes": len(data),
    }
    (folder / stream / "0000000001.gone").write_text(json.dumps(gone))
    path.unlink()
    log = open_log(folder, sealing=ONE)
    assert log.recovered == ()
    assert log.totals == {}
    assert log.last_seq("reflex", BOOT) == 2, "what is remembered of its frames counts still"
    log.append([record(3, stream=stream)])
    log.close()
    after = read_segment(folder / stream / "0000000002.seg", KEYS)
    assert (after.fields["first_seq"], after.fields["prev_seal"]) == (3, segment.seal_hash)
