"""Logs of every shape, whole and damaged, and what `verify` says of each."""

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.audit import AuditError, verification, verify
from agent.audit.pool import Pool
from tests.audit.forge import ROBOT, WALL, Forge, frame, recipient, record, simple
from tests.audit.judge import CLEAN, EXPLAINED, INCOMPLETE, TAMPERED, judge, recorder, report

SUITES = (1, 2)


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("opening", ["any", "all"])
def test_a_clean_log(tmp_path: Path, suite: int, opening: str) -> None:
    forge = simple(tmp_path, suite=suite, opening=opening)
    told = report(forge)
    assert (told.exit_code, told.counts) == (CLEAN, {})
    assert (told.robot, told.entries, told.head_n) == (ROBOT, 12, 11)
    assert (told.segments, told.sealed, told.open, told.records) == (3, 3, 0, 8)
    assert told.to_json()["exit_code"] == CLEAN
    assert list(told.lines())[-1].strip() == "clean / 完好"


def test_the_suite_changes_by_an_entry(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    forge.config(2)
    forge.fill("safety")
    forge.config(1)
    forge.fill("net")
    assert judge(forge) == (CLEAN, set())


def test_a_segment_of_another_suite_than_the_ledger_says(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    mine, forge.recipients = forge.recipients, [recipient("dep", 2)]
    forge.number = 2
    one = forge.open("net", told=False)
    forge.number, forge.recipients = 1, mine
    forge.tell_open(one)
    forge.seal(one)
    assert judge(forge) == (TAMPERED, {"header_differs"})


def test_processes_do_not_change_what_is_found(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    for number in (1, 2):
        path = forge.path("safety", number)
        path.write_bytes(path.read_bytes()[:-9])
    alone, together = (verify(tmp_path, genesis=forge.first, processes=n) for n in (1, 2))
    assert alone == together
    assert alone.exit_code == TAMPERED


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    told: list[tuple[int, int]] = []
    verify(tmp_path, genesis=forge.first, progress=lambda done, total: told.append((done, total)))
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert told[-1] == (size, size)
    assert told == sorted(told)


# ---- what is missing


def test_no_genesis_given(tmp_path: Path) -> None:
    simple(tmp_path)
    assert verify(tmp_path).exit_code == INCOMPLETE


def test_a_genesis_file_may_end_in_a_newline(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    assert verify(tmp_path, genesis=forge.first + b"\n").exit_code == CLEAN


def test_an_empty_folder(tmp_path: Path) -> None:
    report = verify(tmp_path, genesis=b"{}")
    assert (report.exit_code, set(report.counts)) == (INCOMPLETE, {"ledger_missing"})


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(AuditError):
        verify(tmp_path / "none")


def test_an_empty_ledger(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    forge.ledger.write_bytes(b"")
    assert judge(forge)[0] != CLEAN


def test_no_ledger(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    forge.ledger.unlink()
    assert judge(forge) == (INCOMPLETE, {"ledger_missing", "segment_unjudged"})


def test_a_missing_segment(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    forge.path("safety", 1).unlink()
    assert judge(forge) == (INCOMPLETE, {"segment_missing"})


def test_an_unsealed_segment_with_nobody_writing(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    one = forge.open("safety")
    one.add([record(9)])
    forge.save(one)
    assert judge(forge) == (INCOMPLETE, {"seal_missing"})


def test_a_seal_that_never_reached_the_ledger(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    forge.seal(forge.open("net"), told=False)
    assert judge(forge) == (INCOMPLETE, {"seal_unsigned"})


def test_a_seal_that_the_ledger_speaks_of_cut_off(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    one = forge.done["safety", 2]
    forge.path("safety", 2).write_bytes(one.data[: -len(one.seal_frame)])
    assert judge(forge) == (TAMPERED, {"cut"})


def test_a_segment_begun_before_the_ledger_could_say_so(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    one = forge.open("safety", told=False)
    assert judge(forge) == (INCOMPLETE, {"segment_unopened", "seal_missing"} - {"seal_missing"})
    forge.path("safety", one.segno).write_bytes(one.data[:50])
    assert judge(forge) == (INCOMPLETE, {"segment_unopened"})
    one.add([record(9)])
    forge.save(one)
    assert judge(forge) == (TAMPERED, {"segment_unknown"})


# ---- a running recorder


def test_the_newest_segments_open_under_a_running_recorder(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    one = forge.open("safety")
    one.add([record(9)])
    one.data += bytes(5000)
    forge.save(one)
    with recorder(tmp_path):
        assert judge(forge) == (EXPLAINED, {"open"})
        forge.open("net", told=False)  # after the ledger was read
        assert judge(forge) == (EXPLAINED, {"open"})
    assert judge(forge)[0] == INCOMPLETE


def test_a_frame_that_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forge = simple(tmp_path)
    one = forge.open("safety")
    one.add([record(9)])
    whole = one.data
    one.data = whole[:-3]
    forge.save(one)

    def finish(_seconds: float) -> None:
        one.data = whole
        forge.save(one)

    monkeypatch.setattr("agent.audit.segment.time.sleep", finish)
    with recorder(tmp_path):
        assert judge(forge) == (EXPLAINED, {"open"})
        one.data = whole[:-3]
        forge.save(one)
        monkeypatch.setattr("agent.audit.segment.time.sleep", lambda _: None)
        assert judge(forge) == (TAMPERED, {"open", "frame"})


def test_an_entry_that_is_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forge = simple(tmp_path)
    line = forge.line("maintenance", {"open": True}) + b"\n"
    with forge.ledger.open("ab") as file:
        file.write(line[:-1])

    def finish(_seconds: float) -> None:
        with forge.ledger.open("ab") as file:
            file.write(b"\n")

    assert judge(forge) == (INCOMPLETE, {"ledger_torn"})
    monkeypatch.setattr("agent.audit.ledger.time.sleep", finish)
    with recorder(tmp_path):
        assert judge(forge) == (CLEAN, set())


# ---- segments tampered with


def test_a_segment_substituted_by_another_of_the_same_recorder(tmp_path: Path) -> None:
    forge = simple(tmp_path / "a")
    other = simple(tmp_path / "b")
    shutil.copy(other.path("safety", 1), forge.path("safety", 1))
    assert judge(forge) == (TAMPERED, {"header_differs", "chain", "seal_differs"})


def test_two_segments_swapped(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    one, two = forge.path("safety", 1), forge.path("safety", 2)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert judge(forge)[0] == TAMPERED


def frames(forge: Forge) -> tuple[bytes, list[bytes], bytes]:
    one = forge.done["safety", 1]
    edges = [*one.offsets, len(one.data) - len(one.seal_frame)]
    cut = [one.data[a:b] for a, b in pairwise(edges)]
    return one.data[: edges[0]], cut, one.seal_frame


@pytest.mark.parametrize(
    "order",
    [
        lambda rows: rows[::-1],
        lambda rows: rows[1:],
        lambda rows: rows[:-1],
        lambda rows: [rows[0], *rows],
        lambda rows: [rows[0], *rows[2:]],
        lambda _: [],
    ],
)
def test_frames_reordered_removed_duplicated(
    tmp_path: Path, order: Callable[[list[bytes]], list[bytes]]
) -> None:
    forge = Forge(tmp_path)
    forge.genesis()
    forge.fill("safety", frames=4)
    head, rows, seal = frames(forge)
    forge.path("safety", 1).write_bytes(head + b"".join(order(rows)) + seal)
    assert judge(forge)[0] == TAMPERED


def test_a_forged_frame_with_a_right_checksum(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    head, rows, seal = frames(forge)
    rows[1] = frame(1, 1, bytes(len(rows[1]) - 28), 2, 3, 1)
    forge.path("safety", 1).write_bytes(head + b"".join(rows) + seal)
    assert judge(forge) == (TAMPERED, {"seal_differs"})


@pytest.mark.parametrize("more", [b"\0", b"x" * 100])
def test_bytes_after_the_seal(tmp_path: Path, more: bytes) -> None:
    forge = simple(tmp_path)
    with forge.path("tele", 1).open("ab") as file:
        file.write(more)
    assert judge(forge) == (TAMPERED, {"after_seal"})


@pytest.mark.parametrize(
    "told", [{"records": 99}, {"bytes": 3}, {"frames": 7}, {"next_seq": 50}, {"reason": "age"}]
)
def test_a_ledger_that_says_something_else_than_the_seal(tmp_path: Path, told: dict[str, object]) -> None:
    forge = simple(tmp_path)
    one = forge.open("net")
    forge.seal(one, told=False)
    forge.entry("seg.seal", {**forge.sealed(one, "size"), **told})
    assert judge(forge) == (TAMPERED, {"seal_differs"})


def test_a_seal_that_lies_about_what_is_before_it(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    one = forge.open("net")
    one.add([record(1)])
    one.records += 1
    forge.seal(one)
    assert judge(forge) == (TAMPERED, {"seal_differs"})


@pytest.mark.parametrize(
    "header", [{"robot": "rw-2"}, {"segno": 7}, {"stream": "tele"}, {"prev_seal": "11" * 32}]
)
def test_a_header_that_says_something_else_than_its_place(tmp_path: Path, header: dict[str, Any]) -> None:
    forge = simple(tmp_path)
    forge.seal(forge.open("net", **header))
    assert judge(forge) == (TAMPERED, {"header_differs"})


def test_many_bad_frames_are_counted_and_bounded(tmp_path: Path) -> None:
    forge = Forge(tmp_path)
    forge.genesis()
    forge.fill("safety", frames=300, records=1)
    head, rows, seal = frames(forge)
    bent = [row[:-1] + bytes([row[-1] ^ 1]) if number % 2 else row for number, row in enumerate(rows)]
    forge.path("safety", 1).write_bytes(head + b"".join(bent) + seal)
    told = report(forge)
    assert told.exit_code == TAMPERED
    assert told.counts["frame"] == 100


# ---- files


@pytest.mark.parametrize(
    ("name", "verdict", "kind"),
    [
        ("notes.txt", INCOMPLETE, "file_unknown"),
        ("0000000001.seg", TAMPERED, "file_stray"),
        ("safety/0000000001.seg.bak", TAMPERED, "file_stray"),
        ("safety/00000000001.seg", TAMPERED, "file_stray"),
        ("safety/1.seg", TAMPERED, "file_stray"),
        ("ledger-01.jsonl", TAMPERED, "file_stray"),
        ("safety/0000000009.seg", TAMPERED, "segment_unknown"),
        ("safety/0000000003.seg", INCOMPLETE, "segment_unopened"),
        ("safety/0000000009.gone", TAMPERED, "gone_unordered"),
        ("safety/0000000001.seg.torn-1", EXPLAINED, "torn_unknown"),
        ("safety/spare", EXPLAINED, "spare_used"),
        ("safety/spare.new", EXPLAINED, "spare_used"),
        ("state", CLEAN, ""),
        ("state.key", CLEAN, ""),
        ("marks.tmp", CLEAN, ""),
    ],
)
def test_files_that_should_not_be_there(tmp_path: Path, name: str, verdict: int, kind: str) -> None:
    forge = simple(tmp_path)
    (tmp_path / name).write_bytes(b"x")
    assert judge(forge) == (verdict, {kind} - {""})


def test_links_and_folders_in_a_files_place(tmp_path: Path) -> None:
    forge = simple(tmp_path / "log")
    path = forge.path("safety", 1)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert judge(forge) == (TAMPERED, {"file_stray", "unreadable"})
    (tmp_path / "log" / "lost+found").mkdir()
    assert judge(forge) == (TAMPERED, {"file_stray", "unreadable"})
    (tmp_path / "log" / "lost+found" / "x").write_bytes(b"")
    assert judge(forge)[1] == {"file_stray", "unreadable", "file_unknown"}


# ---- recoveries


def test_a_torn_tail_that_was_recovered(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    one = forge.open("safety")
    one.add([record(9)])
    forge.save(one)
    forge.checkpoint()
    forge.recover(one, torn=b"WF\1\1")
    forge.seal(one, "recovered")
    forge.fill("safety")
    assert judge(forge) == (EXPLAINED, {"recovered"})
    kept = tmp_path / "safety" / "0000000003.seg.torn-1"
    kept.write_bytes(b"WF\1")
    assert judge(forge) == (TAMPERED, {"recovered", "torn_differs"})
    kept.unlink()
    assert judge(forge) == (INCOMPLETE, {"recovered", "torn_missing"})


def test_a_recovery_with_less_than_was_signed(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    one = forge.open("safety")
    short = one.data, one.h, one.frames, one.records, one.next_seq
    one.add([record(9)])
    forge.checkpoint()
    one.data, one.h, one.frames, one.records, one.next_seq = short
    forge.recover(one)
    forge.seal(one, "recovered")
    assert "cut" in judge(forge)[1]
    assert judge(forge)[0] == TAMPERED


@pytest.mark.parametrize("again", [False, True])
def test_a_torn_header_set_aside(tmp_path: Path, again: bool) -> None:
    """`again`: its number is taken once more; else the next follows."""
    forge = simple(tmp_path)
    one = forge.open("safety", told=False)
    torn = one.data[:50]
    forge.path("safety", 3).unlink()
    forge.recover(one, torn=torn)
    forge.now.pop("safety")
    forge.segno["safety"] -= again
    forge.fill("safety")
    assert judge(forge) == (EXPLAINED, {"recovered"})


def test_a_whole_header_that_the_ledger_had_not_named(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    one = forge.open("safety", told=False)
    forge.recover(one)
    forge.seal(one, "recovered")
    forge.fill("safety")
    assert judge(forge) == (EXPLAINED, {"recovered"})


def damaged(forge: Forge, *, signed: bool) -> tuple[int, set[str]]:
    """The second of three frames is lost to a crash; `signed`: a checkpoint had been past it."""
    one = forge.open("safety")
    one.add([record(9)])
    before = one.h, one.frames, one.records
    one.add([record(10)])
    if signed:
        forge.checkpoint()
    one.h, one.frames, one.records = before
    start, stop = one.offsets[1], len(one.data)
    one.frames = 2
    plain = one.sealed_frame(b"x" * 30, 0, 1)
    one.frames = 1
    one.data = one.data[:start] + bytes(stop - start)
    one.put(plain, 1)
    forge.recover(one, damaged=((start, stop - start),))
    one.seal("damaged")
    one.data = one.data[: -len(one.seal_frame)]
    one.h = one.h_before_seal
    forge.seal(one, "damaged")
    return judge(forge)


def test_damage_past_the_last_checkpoint_that_a_recovery_recorded(tmp_path: Path) -> None:
    assert damaged(simple(tmp_path), signed=False) == (EXPLAINED, {"recovered", "damaged"})


def test_damage_below_a_checkpoint_is_no_crash(tmp_path: Path) -> None:
    code, kinds = damaged(simple(tmp_path), signed=True)
    assert code == TAMPERED
    assert "chain" in kinds


# ---- events


def test_events_are_listed(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    forge.entry("disk.level", {"level": 1, "free_permille": 90})
    forge.entry("hold", {"id": "h-1", "from_ns": WALL, "to_ns": WALL + 1, "reason": "inquiry"})
    window = {"from_ns": WALL, "to_ns": WALL + 9}
    forge.entry(
        "incident", {"id": "i-1", "channel": "reflex", "response": "emergency_stop", "epoch": 3, **window}
    )
    forge.entry("service.end", {"reason": "retired"})
    told = report(forge)
    assert told.exit_code == CLEAN
    assert [row["id"] for kind in ("hold", "incident") for row in told.events[kind]] == ["h-1", "i-1"]
    assert told.events["service.end"] == [{"n": 15, "wall": WALL + 15, "reason": "retired"}]


def test_losses_and_clock_steps_are_explained_and_bounded(tmp_path: Path) -> None:
    forge = simple(tmp_path)
    forge.entry("clock.step", {"before_ns": 5, "after_ns": 1})
    for _ in range(1100):
        forge.entry("loss", {"stream": "tele", "count": 3, "reason": "log_space"})
    told = report(forge)
    assert (told.exit_code, told.counts) == (EXPLAINED, {"clock_step": 1, "loss": 1100})
    assert len(told.findings) == 1001
    assert len(told.events["loss"]) == 1000
    assert told.event_counts["loss"] == 1100


def test_a_deletion_in_the_middle_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forge = simple(tmp_path)
    segments = verification._Verification._segments

    def meanwhile(self: verification._Verification, pool: Pool) -> None:
        if not forge.path("tele", 1, "gone").exists():
            forge.delete(forge.done["tele", 1])
        segments(self, pool)

    monkeypatch.setattr(verification._Verification, "_segments", meanwhile)
    with recorder(tmp_path):
        assert judge(forge) == (CLEAN, set())


@pytest.mark.parametrize(
    "name", ["safety/0000000001.seg", "tele/0000000001.gone", "ledger.jsonl.torn-1", "manifest.json"]
)
def test_a_folder_in_a_files_place_is_never_clean(tmp_path: Path, name: str) -> None:
    forge = simple(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).mkdir()
    assert judge(forge)[0] in (INCOMPLETE, TAMPERED)


def test_a_listing_that_grows_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that go away between the listing and the look: not readable, never clean."""
    forge = simple(tmp_path)
    (tmp_path / "ledger.jsonl.torn-1").write_bytes(b"x")
    (tmp_path / "tele" / "spare").write_bytes(b"\0")
    torn = verification._Verification._torn

    def meanwhile(self: verification._Verification) -> None:
        (tmp_path / "ledger.jsonl.torn-1").unlink()
        (tmp_path / "tele" / "spare").unlink()
        torn(self)

    monkeypatch.setattr(verification._Verification, "_torn", meanwhile)
    assert report(forge).counts == {"unreadable": 2}


def test_the_witness_and_the_ledger_that_cannot_be_read_again(tmp_path: Path) -> None:
    forge = simple(tmp_path / "log")
    forge.ledger.chmod(0o600)
    (tmp_path / "w.jsonl").symlink_to(forge.ledger)
    assert judge(forge, witness=tmp_path / "w.jsonl") == (INCOMPLETE, {"witness_missing"})
