"""The ledger in order: what it writes, what it refuses, how it is read back."""

import errno
import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from agent.audit.entry import parse_entry
from agent.logformat.layout import MAX_LEDGER_LINE_BYTES
from agent.recorder.log import LogError
from agent.recorder.sealed import ends
from agent.recorder.sealed.ledger import RESERVE_BYTES, Birth, Entry
from agent.recorder.sealed.state import reserve_ahead
from tests.recorder.sealed.ledgers import BIRTH, LEDGER, Clock, QuickDisk, lines_of, opened, verified

LOSS = {"stream": "net", "count": 1, "reason": "full"}


def test_a_new_ledger_has_a_genesis_that_says_what_it_is_of(tmp_path: Path) -> None:
    with opened(tmp_path / "log") as ledger:
        assert (ledger.head.n, ledger.head.kind, ledger.broken_off) == (0, "genesis", "")
        assert ledger.genesis_line == ledger.head.line == lines_of(ledger.path)[0]
    [genesis] = verified(tmp_path / "log" / LEDGER)
    body = {key: value for key, value in genesis["body"].items() if key != "pk"}
    assert body == {
        "suite": 1,
        "recipients": ["department"],
        "opening": "any",
        "agent": {"version": "1", "digest": "d"},
        "previous": None,
    }


def test_entries_are_chained_over_restarts_and_told_in_order(tmp_path: Path) -> None:
    told: list[Entry] = []
    returned: list[Entry] = []
    for start in range(3):
        with opened(tmp_path, on_entry=told.append) as ledger:
            returned += [ledger.append("loss", LOSS | {"count": start * 10 + i}) for i in range(4)]
            assert ledger.head == returned[-1]
            assert (ledger.broken_off, ledger.recovered) == ("", None)
    entries = verified(tmp_path / LEDGER)
    assert [entry["body"].get("count") for entry in entries[1:]] == [
        0,
        1,
        2,
        3,
        10,
        11,
        12,
        13,
        20,
        21,
        22,
        23,
    ]
    assert told[1:] == returned
    assert [entry.line for entry in told] == lines_of(tmp_path / LEDGER)
    assert [entry.hash for entry in told[:-1]] == [entry["prev_hash"] for entry in entries[1:]]


def test_the_auditor_reads_what_is_written(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.append("hold", {"id": "h", "from_ns": 1, "to_ns": 2, "reason": '调查，"sig":\n'})
    entry = parse_entry(lines_of(tmp_path / LEDGER)[1])
    assert (entry.n, entry.kind, entry.body["reason"]) == (1, "hold", '调查，"sig":\n')


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("genesis", {}),
        ("gossip", {}),
        ("loss", {"count": 1.5}),
        ("loss", {"count": float("nan")}),
        ("loss", {"reason": b"bytes"}),
        ("loss", {"reason": "\ud800"}),
        ("loss", {"reason": "x" * 65_536}),
        ("config", {"suite": 3}),
        ("config", {}),
    ],
)
def test_what_can_be_no_entry_is_refused_and_leaves_no_trace(
    tmp_path: Path, kind: str, body: Mapping[str, object]
) -> None:
    with opened(tmp_path) as ledger:
        before = ledger.path.read_bytes()
        with pytest.raises(LogError) as caught:
            ledger.append(kind, body)
        assert caught.value.errno == 0
        assert ledger.path.read_bytes() == before
        assert ledger.append("loss", LOSS).n == 1
    assert len(verified(tmp_path / LEDGER)) == 2


def test_the_longest_line_fits_a_packet(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        room = MAX_LEDGER_LINE_BYTES - len(ledger.append("loss", {"reason": ""}).line)
        assert len(ledger.append("loss", {"reason": "x" * room}).line) == MAX_LEDGER_LINE_BYTES
        with pytest.raises(LogError, match="65001 bytes"):
            ledger.append("loss", {"reason": "x" * (room + 1)})
    with opened(tmp_path) as ledger:
        assert (ledger.head.n, ledger.broken_off) == (2, "")


@pytest.mark.parametrize("first", [1, 2])
def test_the_suite_changes_by_an_entry(tmp_path: Path, first: int) -> None:
    config = {"recipients": [], "opening": "any", "plan": "p", "suite": 3 - first}
    birth = Birth("r1", first, (), "any", BIRTH.agent)
    with opened(tmp_path, birth=birth) as ledger:
        ledger.append("config", config)
        assert ledger.suite == 3 - first
        ledger.append("loss", LOSS)
    with opened(tmp_path, birth=birth) as ledger:
        assert (ledger.suite, ledger.broken_off) == (3 - first, "")
        ledger.append("loss", LOSS)
        ledger.append("config", config | {"suite": first})
        ledger.append("loss", LOSS)
    assert len(verified(tmp_path / LEDGER)) == 6


def test_a_changed_body_does_not_change_what_was_written(tmp_path: Path) -> None:
    body: dict[str, object] = {"streams": {}}
    with opened(tmp_path) as ledger:
        entry = ledger.append("checkpoint", body)
        body["streams"] = 1
        assert entry.body == {"streams": {}}


def test_a_closed_ledger_takes_nothing_and_closes_again(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.close()
        with pytest.raises(LogError, match="closed"):
            ledger.append("loss", LOSS)


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    with opened(tmp_path / "log"):
        pass
    assert {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "log").iterdir()} == {
        LEDGER: 0o600,
        "state": 0o600,
        "state.key": 0o600,
    }


# ---- reading back


def test_entries_after_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an index that has to thin itself out on the way, and without one after a start."""
    monkeypatch.setattr(ends, "MAX_MARKS", 4)
    monkeypatch.setattr(ends, "STEP", 2)
    with opened(tmp_path) as ledger:
        for i in range(60):
            ledger.append("loss", LOSS | {"count": i})
        expected = list(enumerate(lines_of(ledger.path)))
        for n in range(-1, 62):
            assert list(ledger.entries_after(n, 7)) == expected[n + 1 : n + 8]
            assert list(ledger.entries_after(n, 1000)) == expected[n + 1 :]
        assert list(ledger.entries_after(-1, 0)) == []
        assert len(ledger._places._numbers) <= 4
    for n in (58, 3, 30, -1):
        with opened(tmp_path) as ledger:
            assert list(ledger.entries_after(n, 7)) == expected[n + 1 : n + 8]


def test_what_is_not_yet_durable_is_not_read_back(tmp_path: Path) -> None:
    disk = QuickDisk()
    with opened(tmp_path, disk=disk) as ledger:
        disk.fault = refuse("sync", 2)
        with pytest.raises(LogError):
            ledger.append("loss", LOSS)
        assert len(ledger.path.read_bytes().splitlines()) == 2
        assert [n for n, _ in ledger.entries_after(-1, 9)] == [0]
        disk.fault = lambda _step, _name: None
        ledger.append("loss", LOSS)
        assert [n for n, _ in ledger.entries_after(-1, 9)] == [0, 1]


def refuse(name: str, times: int) -> "Refuse":
    return Refuse(name, times)


class Refuse:
    """Refuses the n-th call of a name, and all of that name after it."""

    def __init__(self, name: str, nth: int) -> None:
        self.name, self.left = name, nth

    def __call__(self, _step: int, name: str) -> None:
        self.left -= name == self.name
        if name == self.name and self.left <= 0:
            raise OSError(errno.EIO, "refused")


def test_damage_further_up_does_not_stop_it(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        for i in range(6):
            ledger.append("loss", LOSS | {"count": i})
    path = tmp_path / LEDGER
    lines = lines_of(path)
    lines[3] = b"?" * len(lines[3])
    lines[4] = lines[4].replace(b'"n":4,', b'"n":9,')
    path.write_bytes(b"\n".join([*lines, b""]))
    with opened(tmp_path) as ledger:
        assert (ledger.head.n, ledger.broken_off, ledger.recovered) == (6, "", None)
        assert ledger.append("loss", LOSS).n == 7
        assert [n for n, _ in ledger.entries_after(1, 9)] == [2, 3, 4, 5, 6, 7]
        assert list(ledger.entries_after(2, 1)) == [(3, lines[3])]


def test_only_the_end_of_a_long_ledger_is_read_to_open_it(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        for _ in range(6):
            ledger.append("loss", {"reason": "x" * 60_000})
    with opened(tmp_path) as ledger:
        assert (ledger.head.n, ledger.broken_off, ledger.recovered) == (6, "", None)
        ledger.append("loss", LOSS)
    assert len(verified(tmp_path / LEDGER)) == 8


# ---- room ahead


def test_room_is_set_aside_without_making_the_file_longer(tmp_path: Path) -> None:
    with opened(tmp_path, reserve=reserve_ahead) as ledger:
        status = ledger.path.stat()
        assert ledger.reserved
        assert status.st_blocks * 512 >= RESERVE_BYTES
        assert status.st_size == len(ledger.head.line) + 1


def test_room_is_renewed_when_half_of_it_is_used(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []
    with opened(tmp_path, reserve=lambda _fd, start, size: asked.append((start, size))) as ledger:
        used = [asked[0][0]]
        while len(asked) < 3:
            ledger.append("loss", {"reason": "x" * 60_000})
            if len(asked) > len(used):
                used.append(asked[-1][0])
    assert {size for _, size in asked} == {RESERVE_BYTES}
    assert all(4 << 20 <= b - a <= (4 << 20) + 65_536 for (a, _), (b, _) in itertools.pairwise(asked))


def test_without_room_it_says_so_and_goes_on(tmp_path: Path) -> None:
    def full(_fd: int, _start: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with opened(tmp_path, reserve=full) as ledger:
        assert not ledger.reserved
        ledger.append("loss", LOSS)
        assert not ledger.reserved


def test_the_kernel_says_why_it_cannot_reserve(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            reserve_ahead(fd, 0, 1)
    finally:
        os.close(fd)


def test_wall_time_is_the_clocks(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, clock=clock) as ledger:
        clock.now_ns += 5_000_000_000
        entry = ledger.append("loss", LOSS)
        assert entry.wall_ns == clock.now_ns == json.loads(entry.line)["wall"]
