"""A deletion that was cut off or refused: what it leaves, and how it is gone on with."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.audit import OrderKeys, verify
from agent.recorder.log import LogError
from agent.recorder.sealed.log import SealedLog
from agent.recorder.sealed.retention import RefusedError
from tests.recorder.sealed.ledgers import Crash, PowerDisk, QuickDisk
from tests.recorder.sealed.logs import SEALING, FaultyDisk
from tests.recorder.sealed.office import OFFICE, deletion
from tests.recorder.sealed.test_retention_deletes import (
    check_audit,
    files,
    go_on,
    raising,
    retained,
    written,
)


def at(call: str, error: BaseException) -> Callable[[int, str], None]:
    def fault(_step: int, name: str) -> None:
        if name == call:
            raise error

    return fault


def test_what_a_crash_leaves_of_a_tombstone_is_no_tampering(tmp_path: Path) -> None:
    """Whether a recorder comes again or not: `verify` may be asked before."""
    named = written(tmp_path)
    disk = QuickDisk(at("write", Crash()))
    disk.part = 20
    with retained(tmp_path, disk) as (retention, _), pytest.raises(Crash):
        retention.delete(deletion(*named))
    report = verify(tmp_path, order_keys=OrderKeys(OFFICE.roots, OFFICE.trust), processes=1)
    assert report.counts == {"genesis_not_given": 1, "delete_unfinished": 2, "torn_unknown": 1}
    go_on(tmp_path)
    check_audit(tmp_path)


def test_no_key_is_overwritten_before_the_tombstones_name_is_on_the_disk(tmp_path: Path) -> None:
    """Also where the sync of that name failed, and the deletion is gone on with."""
    named = written(tmp_path / "log")
    disk = PowerDisk()

    def refuse(_step: int, name: str) -> None:
        if name == "sync_all" and (tmp_path / "log" / "net" / "0000000001.gone").exists():
            raise OSError(errno.EIO, "refused")

    with retained(tmp_path / "log", disk) as (retention, _):
        disk.fault = refuse
        with pytest.raises(LogError):
            retention.delete(deletion(*named))
        disk.fault = at("remove", Crash())
        with pytest.raises(Crash):
            retention.finish()
    disk.cut_power("none")
    assert (tmp_path / "log" / "net" / "0000000001.gone").exists()
    go_on(tmp_path / "log")
    check_audit(tmp_path / "log")


def test_the_order_given_again_goes_on_with_what_was_refused(tmp_path: Path) -> None:
    named = written(tmp_path)
    order = deletion(*named)
    with retained(tmp_path, disk := QuickDisk(raising(1, OSError(errno.EIO, "refused")))) as (retention, _):
        with pytest.raises(LogError):
            retention.delete(order)
        assert disk.step > 1
        with pytest.raises(RefusedError, match="was deleted"):
            retention.delete(order)
    assert files(tmp_path) == {"0000000001.gone", "0000000002.gone", "0000000003.seg"}
    check_audit(tmp_path)


def test_a_deletion_that_the_disk_refuses_keeps_no_recorder_from_starting(tmp_path: Path) -> None:
    """A full disk: no tombstone finds room, and `safety` has its own."""
    named = written(tmp_path)

    full = at("create", OSError(errno.ENOSPC, "full"))
    with retained(tmp_path, QuickDisk(full)) as (retention, _):
        with pytest.raises(LogError):
            retention.delete(deletion(*named))
        assert retention.finish() == named
    with retained(tmp_path, QuickDisk(full)) as (retention, ledger):
        assert retention.finish() == named
        log = SealedLog(tmp_path, SEALING, ledger, disk=FaultyDisk())
        assert log.recovered == ()
        log.close()
    go_on(tmp_path)
    check_audit(tmp_path)


def test_none_waits_for_one_that_the_disk_refuses(tmp_path: Path) -> None:
    named = written(tmp_path)
    disk = QuickDisk(raising(1, OSError(errno.EIO, "refused")))
    with retained(tmp_path, disk) as (retention, _), pytest.raises(LogError, match="refused"):
        retention.delete(deletion(*named))
    assert files(tmp_path) == {"0000000001.seg", "0000000002.gone", "0000000003.seg"}
