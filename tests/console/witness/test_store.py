"""A witness's folder: what is synced counts, a torn end does not, and nothing else is ever changed."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.logformat.suites import SuiteError
from console.witness import entry as entry_module
from console.witness import store as module
from console.witness.errors import WitnessStateError
from console.witness.store import ALARMS, Store, may_be_kept
from tests.console.witness.ledgers import Chain, sha


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "w")
    yield made
    made.close()


def put(store: Store, chain: Chain) -> int:
    size = 0
    for line in chain.lines:
        store.append(chain.robot, line, size)
        size += len(line) + 1
    return size


def file(store: Store, robot: str = "R1") -> Path:
    return store.folder / f"{robot}.jsonl"


def test_a_file_is_the_lines_as_they_stand(store: Store) -> None:
    chain = Chain().grow(2)
    size = put(store, chain)
    assert file(store).read_bytes() == b"".join(line + b"\n" for line in chain.lines)
    kept = store.load("R1")
    assert kept is not None
    assert (kept.head.n, kept.head.hash, kept.bytes) == (2, sha(chain.lines[2]), size)
    assert kept.first == chain.lines[0]
    assert store.robots() == ["R1"]
    assert file(store).stat().st_mode & 0o777 == 0o600


def test_what_is_not_there_is_nothing(store: Store) -> None:
    assert store.load("R1") is None
    assert store.robots() == []
    assert store.alarms("R1") == {}
    assert store.line_at("R1", 0, 0) is None


def test_a_torn_last_line_is_cut_off_at_every_byte(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # 1,500 of them take ten seconds
    chain = Chain().grow(2)
    whole = b"".join(line + b"\n" for line in chain.lines)
    for end in range(len(whole) + 1):
        file(store).write_bytes(whole[:end])
        lines = whole[:end].count(b"\n")
        kept = store.load("R1")
        assert (kept.head.n if kept else -1) == lines - 1, end
        assert file(store).read_bytes() == b"".join(line + b"\n" for line in chain.lines[:lines]), end
    assert [path.name for path in store.folder.iterdir() if "torn" in path.name] == []


def test_a_whole_last_line_that_does_not_fit_is_set_aside(store: Store) -> None:
    chain = Chain().grow(2)
    forged = Chain(seed="other").grow(3).lines[3]
    for number, last in enumerate((b"rubbish", bytes(500), forged), 1):
        put(store, chain)
        with file(store).open("ab") as end:
            end.write(last + b"\n")
        kept = store.load("R1")
        assert kept is not None
        assert kept.head.n == 2
        assert file(store).with_name(f"R1.jsonl.torn-{number}").read_bytes() == last + b"\n"


def test_a_flipped_bit_anywhere_in_the_last_line_is_noticed(store: Store) -> None:
    chain = Chain().grow(2)
    whole = b"".join(line + b"\n" for line in chain.lines)
    start = len(whole) - len(chain.lines[2]) - 1
    for at in range(start, len(whole) - 1, 7):
        file(store).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        kept = store.load("R1")
        assert kept is not None
        assert kept.head.n == 1, at


def test_more_damage_than_a_torn_write_explains_is_left_as_it_is(store: Store) -> None:
    chain = Chain().grow(2)
    put(store, chain)
    damaged = file(store).read_bytes().replace(b"checkpoint", b"checkpaint")
    file(store).write_bytes(damaged + b"half")
    with pytest.raises(WitnessStateError, match=r"R1\.jsonl: 已损坏"):
        store.load("R1")
    assert file(store).read_bytes() == damaged + b"half"


def test_lines_of_another_robot_are_no_state(store: Store) -> None:
    put(store, Chain("R2").grow(1))
    file(store, "R2").rename(file(store))
    with pytest.raises(WitnessStateError):
        store.load("R1")


def test_a_record_that_this_machine_cannot_judge_is_left_as_it_is(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, Chain().grow(1))
    before = file(store).read_bytes()

    def missing(number: int) -> object:
        raise SuiteError(f"no suite {number} here")

    monkeypatch.setattr(entry_module, "suite_by_number", missing)
    with pytest.raises(WitnessStateError, match="无法判断"):
        store.load("R1")
    assert file(store).read_bytes() == before


def test_an_earlier_line_is_found_by_its_number(store: Store) -> None:
    chain = Chain()
    for n in range(1, 200):
        chain.add(body={"text": "x" * (n * 37 % 900)})
    size = put(store, chain)
    assert [store.line_at("R1", n, size) for n in range(200)] == chain.lines
    assert store.line_at("R1", 200, size) is None


def test_the_longest_lines_are_found_too(store: Store) -> None:
    chain = Chain()
    for _ in range(6):
        chain.add(body={"text": "x" * 64_000})
        chain.add()
    size = put(store, chain)
    assert [store.line_at("R1", n, size) for n in range(13)] == chain.lines


def test_a_file_that_was_damaged_in_the_middle_has_no_such_line(store: Store) -> None:
    chain = Chain().grow(8)
    size = put(store, chain)
    file(store).write_bytes(file(store).read_bytes().replace(b'"v":1', b'"v":2'))
    assert store.line_at("R1", 3, size) is None


def test_a_line_is_synced_before_append_returns_and_so_is_a_new_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    put(store, Chain().grow(1))
    assert synced == ["R1.jsonl", "w", "R1.jsonl"]
    store.keep_alarm("R1", {"alarm": "fork"})
    assert synced[3:] == ["R1.alarms.jsonl", "w"]


def test_a_write_that_fails_half_way_is_cut_off_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain().grow(2)
    size = put(store, chain)
    real, left = os.pwrite, [100]

    def pwrite(descriptor: int, data: bytes, at: int) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(descriptor, data[: left[0]], at)
        left[0] = 0
        return written

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(OSError, match="No space"):
            store.append("R1", chain.make(), size)
    kept = store.load("R1")
    assert kept is not None
    assert (kept.head.n, kept.bytes) == (2, size)


def test_two_witnesses_never_share_a_folder(store: Store) -> None:
    with pytest.raises(WitnessStateError, match="another witness"):
        Store(store.folder)
    store.close()
    store.close()
    Store(store.folder).close()


def test_a_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WitnessStateError, match="cannot be used"):
        Store(tmp_path / "file" / "w")


def test_alarms_are_kept_with_all_that_came(store: Store) -> None:
    assert store.keep_alarm("R1", {"alarm": "fork", "theirs": "急停 \ud800"})
    assert store.keep_alarm("R1", {"alarm": "silent", "theirs": '"alarm": "fork"'})
    assert store.alarms("R1") == {"fork": 1, "silent": 1}
    first, second = (json.loads(line) for line in (store.folder / "R1.alarms.jsonl").read_text().splitlines())
    assert (first["theirs"], second["alarm"]) == ("急停 \ud800", "silent")
    assert store.robots() == [], "a file of alarms is no robot"


def test_a_torn_alarm_is_written_over(store: Store) -> None:
    store.keep_alarm("R1", {"alarm": "fork"})
    path = store.folder / f"R1{ALARMS}"
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole + whole[:end])
        store.keep_alarm("R1", {"alarm": "back"})
        assert [json.loads(line)["alarm"] for line in path.read_text().splitlines()] == ["fork", "back"]


def test_what_is_no_alarm_is_counted_apart_and_a_torn_one_not_at_all(store: Store) -> None:
    (store.folder / f"R1{ALARMS}").write_bytes(b'{"alarm": "back"}\nnoise\n{"alarm": "fork"}')
    assert store.alarms("R1") == {"back": 1, "": 1}


def test_how_much_of_its_disk_is_free(store: Store) -> None:
    assert 0 < store.free_ratio() <= 1
    store.close()
    shutil.rmtree(store.folder)
    assert store.free_ratio() == 0


def test_a_full_file_of_alarms_takes_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ALARM_BYTES", 100)
    assert store.keep_alarm("R1", {"alarm": "x" * 60})
    assert not store.keep_alarm("R1", {"alarm": "x" * 60})
    assert store.alarms("R1").total() == 1


@pytest.mark.parametrize(
    ("robot_id", "may"),
    [("R1", True), ("..", True), ("R1.alarms.x", True), ("R1.alarms", False), ("a/b", False), ("", False)],
)
def test_which_robots_can_have_files(robot_id: str, may: bool) -> None:
    assert may_be_kept(robot_id) is may
