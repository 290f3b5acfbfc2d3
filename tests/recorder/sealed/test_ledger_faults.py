"""The ledger when the disk refuses, the process ends or the power fails, at every single step."""

import errno
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.recorder.log import LogError
from agent.recorder.sealed.ledger import Ledger
from tests.recorder.sealed.ledgers import (
    LEDGER,
    Crash,
    PowerDisk,
    QuickDisk,
    lines_of,
    opened,
    retried,
    verified,
)

HOW = ("none", "half", "all")
KILLS = (errno.ENOSPC, errno.EIO)
MANY_STEPS = 500


def life(folder: Path, disk: QuickDisk, returned: list[bytes]) -> None:
    """From nothing, or from what is there: three entries, each noted once it counts as durable."""
    with opened(folder, disk=disk) as ledger:
        returned.append(ledger.head.line)
        for i in range(3):
            line = ledger.append("loss", {"stream": "net", "count": i, "reason": "full"}).line
            returned.append(line)


def at(step: int, error: BaseException, times: int = 1) -> Callable[[int, str], None]:
    def fault(now: int, _name: str) -> None:
        if step <= now < step + times:
            raise error

    return fault


def crashes(folder: Path, prepare: Callable[[Path], None]) -> Iterator[tuple[Path, list[bytes]]]:
    """A copy of the folder for each step at which it may end and each way of losing what was not synced."""
    for step, how, part in itertools.product(range(1, MANY_STEPS), HOW, (None, 100)):
        here = folder / f"{step}-{how}-{part}" / "log"
        prepare(here)
        disk = PowerDisk(at(step, Crash()))
        disk.part = part
        returned: list[bytes] = []
        try:
            life(here, disk, returned)
        except Crash:
            disk.cut_power(how)
        else:
            disk.cut_power("all")
            if (how, part) == (HOW[-1], 100):
                return
        yield here, returned
        shutil.rmtree(here.parent)
    raise AssertionError("more steps than were tried")


def go_on(folder: Path) -> None:
    with opened(folder) as ledger:
        ledger.append("loss", {"stream": "net", "count": 99, "reason": "after"})
        assert not ledger.broken_off


def test_a_power_cut_at_every_step_of_a_first_life(tmp_path: Path) -> None:
    tried = 0
    for folder, returned in crashes(tmp_path, lambda here: here.parent.mkdir()):
        go_on(folder)
        verified(folder / LEDGER)
        assert lines_of(folder / LEDGER)[: len(returned)] == returned
        assert not list(folder.glob("ledger-*"))
        tried += 1
    assert tried > 150


def test_a_power_cut_at_every_step_of_a_second_life(tmp_path: Path) -> None:
    before = tmp_path / "before"
    life(before, QuickDisk(), [])
    for folder, returned in crashes(tmp_path, lambda here: copied(before, here)):
        go_on(folder)
        verified(folder / LEDGER)
        old = lines_of(before / LEDGER)
        assert lines_of(folder / LEDGER)[: 4 + max(0, len(returned) - 1)] == old + returned[1:]
        assert not list(folder.glob("ledger-*"))


def copied(source: Path, target: Path) -> None:
    shutil.copytree(source, target)


def test_a_power_cut_at_every_step_of_breaking_off(tmp_path: Path) -> None:
    """The reason survives it, and so does every byte of the ledger that is set aside."""
    before = tmp_path / "before"
    life(before, QuickDisk(), [])
    (before / "state").write_bytes(bytes(8192))
    old = (before / LEDGER).read_bytes()
    for folder, returned in crashes(tmp_path, lambda here: copied(before, here)):
        with opened(folder) as ledger:
            ledger.append("loss", {"stream": "net", "count": 99, "reason": "after"})
        genesis = verified(folder / LEDGER)[0]
        assert genesis["body"]["previous"]["n"] == 3
        assert genesis["body"]["previous"]["reason"] == "state_lost"
        assert [path.name for path in folder.glob("ledger-*")] == ["ledger-1.jsonl"]
        assert (folder / "ledger-1.jsonl").read_bytes() == old
        assert lines_of(folder / LEDGER)[: len(returned)] == returned


# ---- torn lines


def in_flight(folder: Path) -> list[bytes]:
    """Ends when entry 3 is written and not synced; the lines, the last of them not acknowledged."""

    def fault(_step: int, name: str) -> None:
        lines = (folder / LEDGER).read_bytes().count(b"\n") if (folder / LEDGER).exists() else 0
        if name == "sync" and lines == 4:
            raise Crash

    with pytest.raises(Crash):
        life(folder, QuickDisk(fault), [])
    return lines_of(folder / LEDGER)


def test_an_entry_torn_at_every_byte_while_it_was_written(tmp_path: Path) -> None:
    lines = in_flight(tmp_path / "before")
    *whole, last = lines
    start = sum(len(line) + 1 for line in whole)
    for size in range(len(last) + 2):
        folder = tmp_path / str(size)
        shutil.copytree(tmp_path / "before", folder)
        data = (folder / LEDGER).read_bytes()[: start + size]
        (folder / LEDGER).write_bytes(data)
        with opened(folder) as ledger:
            assert ledger.broken_off == ""
            signed = size >= len(last) - 2  # the signature is whole: so is the entry, once completed
            assert ledger.head.n == (3 if signed else 2)
            recovered = ledger.recovered
            assert (recovered is not None) == (size > 0 and not signed)
            if recovered is not None:
                assert recovered.torn_bytes == size
                assert (folder / recovered.kept_as).read_bytes() == data[start:]
                assert recovered.kept_as == "ledger.jsonl.torn-1"
            ledger.append("loss", {"stream": "net", "count": 7, "reason": "after"})
        verified(folder / LEDGER)
        assert lines_of(folder / LEDGER)[: 4 if signed else 3] == (lines if signed else whole)
        shutil.rmtree(folder)


@pytest.mark.parametrize("rubbish", [b"\0" * 700, b"{}\n" * 3, b"\n\n", b"\xff" * 10 + b"\n{"])
def test_rubbish_where_an_entry_was_being_written_is_set_aside(tmp_path: Path, rubbish: bytes) -> None:
    """A power cut may leave a file longer than what was written into it."""
    whole = in_flight(tmp_path)[:3]
    (tmp_path / LEDGER).write_bytes(b"\n".join([*whole, rubbish]))
    with opened(tmp_path) as ledger:
        assert (ledger.head.n, ledger.broken_off) == (2, "")
        assert (tmp_path / "ledger.jsonl.torn-1").read_bytes() == rubbish
        ledger.append("loss", {"stream": "net", "count": 7, "reason": "after"})
    assert len(verified(tmp_path / LEDGER)) == 4


def test_a_durable_line_cut_at_every_byte_is_evidence(tmp_path: Path) -> None:
    """Its key is erased: what is missing of it was cut off, and not by a crash."""
    life(tmp_path / "before", QuickDisk(), [])
    data = (tmp_path / "before" / LEDGER).read_bytes()
    lines = data.splitlines()
    start = len(data) - len(lines[-1]) - len(lines[-2]) - 2
    for size in range(start, len(data)):
        folder = tmp_path / str(size)
        shutil.copytree(tmp_path / "before", folder)
        (folder / LEDGER).write_bytes(data[:size])
        with opened(folder) as ledger:
            completed = size >= len(data) - 3
            assert ledger.broken_off == ("" if completed else "ledger_damaged")
            ledger.append("loss", {"stream": "net", "count": 7, "reason": "after"})
        genesis = verified(folder / LEDGER)[0]
        if not completed:
            previous = genesis["body"]["previous"]
            assert (previous["n"], previous["reason"]) == (3, "ledger_damaged")
            assert (folder / "ledger-1.jsonl").read_bytes() == data[:size]
        shutil.rmtree(folder)


def test_torn_bytes_find_room_on_a_full_disk(tmp_path: Path) -> None:
    """What was set aside past the end is given back for them, and for nothing else."""
    in_flight(tmp_path)
    path = tmp_path / LEDGER
    path.write_bytes(path.read_bytes()[:-50])
    freed: list[bool] = []

    def full(_step: int, name: str) -> None:
        if name == "cut":
            freed.append(True)
        if name == "create" and not freed:
            raise OSError(errno.ENOSPC, "full")

    with opened(tmp_path, disk=QuickDisk(full)) as ledger:
        assert ledger.recovered is not None
        assert (ledger.head.n, ledger.broken_off) == (2, "")
    assert len(verified(path)) == 3


# ---- a disk that refuses


@pytest.mark.parametrize("number", KILLS)
@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("part", [None, 0, 100, 10_000])
def test_every_refused_call_tried_again(tmp_path: Path, number: int, times: int, part: int | None) -> None:
    """One entry for each that was asked for, in order, however often; and never two lines by one key."""
    for step in range(1, MANY_STEPS):
        folder = tmp_path / str(step)
        disk = QuickDisk(at(step, OSError(number, "refused"), times))
        disk.part = part
        retry_life(folder, disk, number)
        entries = verified(folder / LEDGER)
        assert [entry["body"].get("count") for entry in entries[1:]] == [0, 1, 2]
        assert not list(folder.glob("ledger-*"))
        signers = [signer(json.loads(line)) for line in disk.lines]
        assert len(set(signers)) == len(signers)
        if disk.step < step:
            return
        shutil.rmtree(folder)
    raise AssertionError("more steps than were tried")


def signer(entry: dict[str, Any]) -> str:
    """What stands for the key that signed it: itself, or the one entry that promised it."""
    return str(entry["body"]["pk"] if entry["n"] == 0 else entry["prev_hash"])


def retry_life(folder: Path, disk: QuickDisk, number: int) -> None:
    """Opens it, and appends the same again after a refusal, until all three stand."""
    refused: list[LogError] = []
    for _ in range(20):
        try:
            with opened(folder, disk=disk) as ledger:
                for i in range(3):
                    append_surely(ledger, i, refused)
            break
        except LogError as error:
            refused.append(error)
    assert {error.errno for error in refused} <= {number}
    assert {error.path.parent for error in refused} <= {folder}


def append_surely(ledger: Ledger, count: int, refused: list[LogError]) -> None:
    body = {"stream": "net", "count": count, "reason": "full"}
    for _ in range(20):
        try:
            assert ledger.append("loss", body) == ledger.head
        except LogError as error:
            refused.append(error)
        else:
            return


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("name", ["write", "sync"])
def test_another_entry_after_a_refused_one(tmp_path: Path, name: str, nth: int) -> None:
    """What got as far as the disk comes first; what did not is as if it had never been asked for."""
    told: list[str] = []
    with opened(
        tmp_path, disk=(disk := QuickDisk()), on_entry=lambda entry: told.append(entry.kind)
    ) as ledger:
        calls = itertools.count(1)

        def refuse(_step: int, called: str) -> None:
            if called == name and next(calls) == nth:
                raise OSError(errno.EIO, "refused")

        disk.fault = refuse
        if nth == 3:  # the key could not be erased: the entry stands all the same
            ledger.append("maintenance", {"open": True})
        else:
            with pytest.raises(LogError):
                ledger.append("maintenance", {"open": True})
        assert retried(lambda: ledger.append("service.end", {"reason": "r"})).kind == "service.end"
    first = [] if nth == 1 else ["maintenance"]
    assert [entry["kind"] for entry in verified(tmp_path / LEDGER)] == ["genesis", *first, "service.end"]
    assert told == ["genesis", *first, "service.end"]


def test_a_refused_entry_may_stand_after_a_restart(tmp_path: Path) -> None:
    def refuse(_step: int, called: str) -> None:
        if called == "sync" and b'"maintenance"' in (tmp_path / LEDGER).read_bytes():
            raise OSError(errno.EIO, "refused")

    with opened(tmp_path, disk=(disk := QuickDisk())) as ledger:
        disk.fault = refuse
        with pytest.raises(LogError):
            ledger.append("maintenance", {"open": True})
    with opened(tmp_path) as ledger:
        assert (ledger.head.kind, ledger.broken_off) == ("maintenance", "")
    verified(tmp_path / LEDGER)


def test_a_key_that_could_not_be_erased_is_erased_when_it_can_be(tmp_path: Path) -> None:
    def slots() -> list[bool]:
        state = (tmp_path / "state").read_bytes()
        return [any(state[:4096]), any(state[4096:])]

    with opened(tmp_path, disk=(disk := QuickDisk())) as ledger:
        calls = itertools.count(1)

        def refuse(_step: int, called: str) -> None:
            if called == "write" and next(calls) == 3:
                raise OSError(errno.EIO, "refused")

        disk.fault = refuse
        ledger.append("maintenance", {"open": True})
        assert slots() == [True, True]
    assert sorted(slots()) == [False, True]


def test_closing_after_two_refusals_erases_no_key_that_is_due(tmp_path: Path) -> None:
    """The slot that could not be erased holds the next key by now. Found by the stateful test."""
    with opened(tmp_path, disk=(disk := QuickDisk())) as ledger:
        disk.fault = at(disk.step + 5, OSError(errno.ENOSPC, "refused"))
        ledger.append("maintenance", {"open": True})
        disk.fault = at(disk.step + 4, OSError(errno.ENOSPC, "refused"))
        with pytest.raises(LogError):
            ledger.append("maintenance", {"open": False})
        disk.fault = lambda _step, _name: None
    with opened(tmp_path) as ledger:
        assert (ledger.head.n, ledger.broken_off) == (2, "")
