"""Deleting: the ledger first, all or nothing, and a crash anywhere is made good at the next start."""

import errno
import itertools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.audit import OrderKeys, verify
from agent.audit.header import parse_gone
from agent.recorder.log import LogError
from agent.recorder.sealed.disk import Disk
from agent.recorder.sealed.ledger import Ledger
from agent.recorder.sealed.log import SealedLog
from agent.recorder.sealed.orders import Named, OrderError
from agent.recorder.sealed.retention import RefusedError, Retention
from tests.recorder.sealed import office
from tests.recorder.sealed.ledgers import LEDGER, Clock, Crash, PowerDisk, QuickDisk, opened, verified
from tests.recorder.sealed.logs import SEALING, FaultyDisk
from tests.recorder.sealed.office import OFFICE, WITNESSES, claims, deletion, token
from tests.recorder.sealed.test_retention import Scene, day, run_streams

NOW_DAY = 200


def written(folder: Path) -> tuple[Named, Named]:
    """A log with two segments of `net` that may go, one that is too young, and one of `safety`."""
    clock = Clock()
    with opened(folder, clock=clock) as ledger:
        for _ in range(2):
            run_streams(folder, ledger, clock, ["net", "safety"])
        clock.now_ns = day(100)
        run_streams(folder, ledger, clock, ["net"])
        here = Scene(folder, ledger, clock)
        clock.now_ns = day(NOW_DAY)
        head = ledger.head
        ledger.append("witness.ack", office.receipt(clock.now_ns // 10**9, n=head.n, digest=head.hash))
        return here.named("net", 1), here.named("net", 2)


@contextmanager
def retained(
    folder: Path, disk: Disk | None = None, ledger_disk: Disk | None = None
) -> Iterator[tuple[Retention, Ledger]]:
    """As the recorder starts: what was begun is finished, before the streams are looked at."""
    with opened(folder, clock=Clock(day(NOW_DAY)), disk=ledger_disk) as ledger:
        retention = Retention(
            folder,
            ledger,
            office=OFFICE,
            witnesses=WITNESSES,
            days=190,
            wall_ns=lambda: day(NOW_DAY),
            disk=disk or QuickDisk(),
        )
        yield retention, ledger


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "net").iterdir() if path.suffix in (".seg", ".gone")}


def wraps_of(data: bytes) -> bytes:
    """README, "Segment": the wrapped keys in a file's header."""
    assert data[:4] == b"WLOG"
    fields, wraps = (int.from_bytes(data[at : at + 4], "little") for at in (8, 12))
    return data[16 + fields : 16 + fields + wraps]


def check_gone(folder: Path, named: Named) -> None:
    """What stays of it, by the auditor's reading, beside what the ledger signed."""
    gone = parse_gone((folder / named.stream / f"{named.segno:010}.gone").read_bytes())
    told = {
        entry["kind"]: entry["body"]
        for entry in verified(folder / LEDGER)
        if (entry["body"].get("stream"), entry["body"].get("segno")) == (named.stream, named.segno)
    }
    assert gone.header_hash.hex() == told["seg.open"]["header"]
    assert gone.seal_hash.hex() == told["seg.seal"]["seal"] == named.seal
    assert gone.bytes == told["seg.seal"]["bytes"]
    assert (gone.seal.frames, gone.seal.records) == (told["seg.seal"]["frames"], told["seg.seal"]["records"])


def check_audit(folder: Path) -> None:
    report = verify(
        folder, order_keys=OrderKeys(OFFICE.roots, OFFICE.trust), witness_keys=WITNESSES, processes=1
    )
    # No genesis was given: that alone keeps it from being clean.
    assert {finding.kind for finding in report.findings} <= {"genesis_not_given"}
    assert (report.deleted, report.sealed) == (2, 3)


def test_an_order_is_carried_out(tmp_path: Path) -> None:
    named = written(tmp_path)
    order = deletion(*named)
    with retained(tmp_path) as (retention, ledger):
        assert retention.deletable() == list(named)
        assert retention.delete(order) == named
        assert ledger.head.kind == "delete"
        assert ledger.head.body == {"order": order, "segments": [row.as_dict() for row in named]}
        assert retention.deletable() == []
        assert [row.code for row in retention.review(named)] == ["unknown", "unknown"]
        with pytest.raises(RefusedError, match="was deleted"):
            retention.delete(order)
    assert files(tmp_path) == {"0000000001.gone", "0000000002.gone", "0000000003.seg"}
    for each in named:
        check_gone(tmp_path, each)
    go_on(tmp_path)
    check_audit(tmp_path)


def go_on(folder: Path) -> None:
    """The recorder starts, and its streams take what is left for what it is."""
    with retained(folder) as (retention, ledger):
        assert retention.finish() == ()
        log = SealedLog(folder, SEALING, ledger, disk=FaultyDisk())
        assert log.recovered == ()
        log.close()


def test_keys_are_overwritten_before_the_file_goes(tmp_path: Path) -> None:
    """On the disk, not only in the file, and after header and seal are safe."""
    named = written(tmp_path)
    synced: list[str] = []

    class Watching(PowerDisk):
        def sync(self, fd: int) -> None:
            super().sync(fd)
            synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)

        def remove(self, name: str, folder_fd: int) -> None:
            data = (tmp_path / "net" / name).read_bytes()
            assert len(wraps_of(data)) > 100
            assert not any(wraps_of(data))
            assert synced[-1] == name
            assert (tmp_path / "net" / name.replace(".seg", ".gone")).exists()
            super().remove(name, folder_fd)

    with retained(tmp_path, Watching()) as (retention, _):
        retention.delete(deletion(*named))
    assert len(synced) == 2


def test_a_crash_at_every_step_is_finished_at_the_next_start(tmp_path: Path) -> None:
    named = written(tmp_path / "before")
    order = deletion(*named)
    for step, how in itertools.product(range(1, 100), ("none", "half", "all")):
        folder = tmp_path / f"{step}-{how}" / "log"
        shutil.copytree(tmp_path / "before", folder)
        disk = PowerDisk(raising(step, Crash()))
        disk.part = 20
        try:
            with retained(folder, disk) as (retention, _):
                retention.delete(order)
        except Crash:
            disk.cut_power(how)
        else:
            assert step > 15
            return
        for each in named:  # nothing is ever left without either
            name = f"{each.segno:010}"
            if not {f"{name}.gone"} & files(folder):
                assert any(wraps_of((folder / "net" / f"{name}.seg").read_bytes()))
        go_on(folder)
        assert files(folder) >= {"0000000001.gone", "0000000002.gone", "0000000003.seg"}
        assert not list(folder.glob("net/*.torn-*"))
        check_audit(folder)
        shutil.rmtree(folder.parent)
    raise AssertionError("more steps than were tried")


def raising(step: int, error: BaseException) -> Callable[[int, str], None]:
    def fault(now: int, _name: str) -> None:
        if now == step:
            raise error

    return fault


def test_a_disk_that_refuses_at_any_step_is_asked_again(tmp_path: Path) -> None:
    named = written(tmp_path / "before")
    order = deletion(*named)
    for step in range(1, 100):
        folder = tmp_path / str(step)
        shutil.copytree(tmp_path / "before", folder)
        disk = QuickDisk(raising(step, OSError(errno.ENOSPC, "full")))
        disk.part = 20
        with retained(folder, disk) as (retention, _):
            try:
                retention.delete(order)
            except LogError as error:
                caught: LogError | None = error
                assert retention.finish() == ()
            else:
                caught = None
        assert files(folder) == {"0000000001.gone", "0000000002.gone", "0000000003.seg"}
        if caught is None:
            return
        assert caught.errno == errno.ENOSPC
        go_on(folder)
        check_audit(folder)
        shutil.rmtree(folder)
    raise AssertionError("more steps than were tried")


def test_without_the_entry_nothing_is_deleted(tmp_path: Path) -> None:
    """And when the entry turns out to stand after all, the deletion is made good."""
    named = written(tmp_path)
    there = files(tmp_path)

    def refuse(_step: int, name: str) -> None:
        if name == "sync" and b'"kind":"delete"' in (tmp_path / LEDGER).read_bytes():
            raise OSError(errno.EIO, "refused")

    with retained(tmp_path, ledger_disk=(disk := QuickDisk())) as (retention, ledger):
        disk.fault = refuse
        with pytest.raises(LogError):
            retention.delete(deletion(*named))
        assert files(tmp_path) == there
        disk.fault = lambda _step, _name: None
        ledger.append("maintenance", {"open": True})
        assert [entry["kind"] for entry in verified(tmp_path / LEDGER)][-2:] == ["delete", "maintenance"]
        assert retention.finish() == ()
    assert files(tmp_path) == {"0000000001.gone", "0000000002.gone", "0000000003.seg"}
    check_audit(tmp_path)


def test_one_that_must_stay_keeps_all_of_them(tmp_path: Path) -> None:
    """Each reason of each is named."""
    named = written(tmp_path)
    there = files(tmp_path)
    here = [entry["body"] for entry in verified(tmp_path / LEDGER) if entry["kind"] == "seg.seal"]
    seals = {(body["stream"], body["segno"]): body["seal"] for body in here}
    young, safety = Named("net", 3, seals["net", 3]), Named("safety", 1, seals["safety", 1])
    with retained(tmp_path) as (retention, ledger):
        head = ledger.head
        with pytest.raises(RefusedError) as caught:
            retention.delete(deletion(*named, young, safety, Named("tele", 1, "00" * 32)))
        assert [(row.named.stream, row.named.segno, row.code) for row in caught.value.refusals] == [
            ("net", 3, "too_young"),
            ("net", 3, "not_witnessed"),
            ("safety", 1, "in_service"),
            ("tele", 1, "unknown"),
        ]
        assert ledger.head == head
    assert files(tmp_path) == there


@pytest.mark.parametrize(
    "spoil",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_bytes(b"?" + path.read_bytes()[1:]),
        lambda path: path.write_bytes((path.parent / "0000000001.seg").read_bytes()),
        lambda path: path.write_bytes(path.read_bytes()[:5] + b"\x09" + path.read_bytes()[6:]),
    ],
)
def test_what_is_missing_or_damaged_is_refused_before_anything_is_written(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    named = written(tmp_path)
    spoil(tmp_path / "net" / "0000000002.seg")
    there = files(tmp_path)
    with retained(tmp_path) as (retention, ledger):
        with pytest.raises(RefusedError, match="net/2: the file is missing or damaged") as caught:
            retention.delete(deletion(*named))
        assert [row.code for row in caught.value.refusals] == ["damaged"]
        assert ledger.head.kind == "witness.ack"
    assert files(tmp_path) == there


def test_a_file_damaged_after_the_entry_stays_and_is_named(tmp_path: Path) -> None:
    named = written(tmp_path)
    with retained(tmp_path, QuickDisk(raising(1, Crash()))) as (retention, _), pytest.raises(Crash):
        retention.delete(deletion(*named))
    (tmp_path / "net" / "0000000002.seg").write_bytes(b"?" * 100)
    with retained(tmp_path) as (retention, _):
        assert retention.finish() == (named[1],)
    assert files(tmp_path) == {"0000000001.gone", "0000000002.seg", "0000000003.seg"}


def test_a_header_that_is_lost_once_its_tombstone_stands_goes_too(tmp_path: Path) -> None:
    """Where the keys were in it can no longer be told: all that a header can be is overwritten."""
    named = written(tmp_path)
    seen: list[bytes] = []

    class Watching(QuickDisk):
        def remove(self, name: str, folder_fd: int) -> None:
            seen.append((tmp_path / "net" / name).read_bytes()[:65_536])
            super().remove(name, folder_fd)

    def crash(_step: int, name: str) -> None:
        if name == "write" and (tmp_path / "net" / "0000000001.gone").exists():
            raise Crash

    with retained(tmp_path, QuickDisk(crash)) as (retention, _), pytest.raises(Crash):
        retention.delete(deletion(*named))
    path = tmp_path / "net" / "0000000001.seg"
    path.write_bytes(b"?" + path.read_bytes()[1:])
    with retained(tmp_path, Watching()) as (retention, _):
        assert retention.finish() == ()
    assert not any(seen[0])
    check_audit(tmp_path)


@pytest.mark.parametrize(
    "order",
    [
        token(claims("delete", iss="guard"), kid="guard", key=office.GUARDIAN),
        token(claims("delete", iss="gone"), kid="gone", key=office.REVOKED),
        token(claims("delete", aud="r2")),
        token(claims("release")),
        "",
    ],
)
def test_without_a_good_order_nothing_is_looked_at(tmp_path: Path, order: str) -> None:
    written(tmp_path)
    there = files(tmp_path)
    with retained(tmp_path) as (retention, ledger):
        with pytest.raises(OrderError):
            retention.delete(order)
        assert ledger.head.kind == "witness.ack"
    assert files(tmp_path) == there


def test_a_link_in_the_place_of_a_segment_is_not_followed(tmp_path: Path) -> None:
    named = written(tmp_path / "log")
    path = tmp_path / "log" / "net" / "0000000001.seg"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    with retained(tmp_path / "log") as (retention, _), pytest.raises(LogError):
        retention.delete(deletion(*named))
    assert (tmp_path / "elsewhere").read_bytes() == before
