"""A segment that could not be ended when the next was begun: what is held against it, and what is not."""

from pathlib import Path

import pytest

from tests.audit.forge import Forge, Segment, record
from tests.audit.judge import EXPLAINED, INCOMPLETE, TAMPERED, judge


def passed_over(folder: Path) -> tuple[Forge, Segment]:
    """Segment 1 has two frames, the first of them under a checkpoint; segment 2 is sealed."""
    forge = Forge(folder)
    forge.genesis()
    one = forge.open("safety")
    one.add([record(1)])
    forge.save(one)
    forge.checkpoint()
    one.add([record(2), record(3)])
    forge.save(one)
    forge.recover(one)
    forge.now.pop("safety")
    forge.next_seq["safety"] = one.next_seq
    forge.fill("safety")
    return forge, one


def seal_late(forge: Forge, one: Segment, **changed: int) -> None:
    """`prev_seal` and the next number stay those of the newest."""
    newest = forge.prev_seal["safety"], forge.next_seq["safety"]
    forge.now["safety"] = one
    forge.seal(one, "recovered", told=True, **changed)
    forge.prev_seal["safety"], forge.next_seq["safety"] = newest


def with_seal(one: Segment) -> bytes:
    """As a write left it that was reported as failed."""
    made = Segment(**{name: getattr(one, name) for name in Segment.__dataclass_fields__})
    made.seal("damaged")
    return made.data


def test_until_it_is_sealed_it_is_incomplete(tmp_path: Path) -> None:
    assert judge(passed_over(tmp_path)[0]) == (INCOMPLETE, {"seal_missing", "recovered"})


def test_sealed_late_it_is_explained(tmp_path: Path) -> None:
    forge, one = passed_over(tmp_path)
    seal_late(forge, one)
    forge.fill("safety")
    assert judge(forge) == (EXPLAINED, {"recovered"})


def test_torn_bytes_may_be_set_aside_when_it_is_sealed(tmp_path: Path) -> None:
    forge, one = passed_over(tmp_path)
    forge.recover(one, torn=b"WF\1\1")
    seal_late(forge, one)
    forge.fill("safety")
    assert judge(forge) == (EXPLAINED, {"recovered"})


@pytest.mark.parametrize("left", ["zeros", "bytes", "a frame", "a seal", "a seal far behind"])
def test_what_a_failed_write_left_is_held_against_nothing(tmp_path: Path, left: str) -> None:
    """But the log is not whole before it is put in order: nobody signed these bytes."""
    forge, one = passed_over(tmp_path)
    path = forge.path("safety", 1)
    whole = one.data
    seal = with_seal(one)[len(whole) :]
    rest = {
        "zeros": bytes(100),
        "bytes": b"\0WF\1\1" * 20,
        "a frame": one.sealed_frame(b"\2\0{}", 0, 1),
        "a seal": seal + b"left",
        "a seal far behind": bytes(70_000) + seal,
    }[left]
    path.write_bytes(whole + rest)
    kinds = {"seal_missing", "recovered"} | ({"untold"} if left != "zeros" else set())
    assert judge(forge) == (INCOMPLETE, kinds)


@pytest.mark.parametrize("at", range(2))
def test_a_frame_that_the_recovery_counted_is_held_to_it(tmp_path: Path, at: int) -> None:
    forge, one = passed_over(tmp_path)
    data = bytearray(one.data)
    data[one.offsets[at] + 30] ^= 1
    forge.path("safety", 1).write_bytes(data)
    assert judge(forge)[0] == TAMPERED
    forge.path("safety", 1).write_bytes(one.data[: one.offsets[at]])
    code, kinds = judge(forge)
    assert (code, "cut" in kinds) == (TAMPERED, True)


@pytest.mark.parametrize("changed", [{"frames": 1}, {"frames": 3}, {"next_seq": 3}, {"next_seq": 5}], ids=str)
def test_it_is_sealed_as_it_was_recovered_or_not_at_all(tmp_path: Path, changed: dict[str, int]) -> None:
    forge, one = passed_over(tmp_path)
    seal_late(forge, one, **changed)
    code, kinds = judge(forge)
    assert (code, "ledger_order" in kinds) == (TAMPERED, True)


def test_it_is_not_recovered_otherwise_later(tmp_path: Path) -> None:
    forge, one = passed_over(tmp_path)
    one.add([record(9)])
    forge.save(one)
    forge.recover(one)
    seal_late(forge, one)
    code, kinds = judge(forge)
    assert (code, "ledger_order" in kinds) == (TAMPERED, True)


def test_one_that_was_never_recovered_is_not_sealed_late(tmp_path: Path) -> None:
    forge = Forge(tmp_path)
    forge.genesis()
    one = forge.open("safety")
    one.add([record(1)])
    forge.save(one)
    forge.now.pop("safety")
    forge.fill("safety")
    seal_late(forge, one)
    code, kinds = judge(forge)
    assert (code, "ledger_order" in kinds) == (TAMPERED, True)


def test_bytes_behind_a_seal_that_was_signed_are_tampering(tmp_path: Path) -> None:
    forge, one = passed_over(tmp_path)
    seal_late(forge, one)
    path = forge.path("safety", 1)
    path.write_bytes(path.read_bytes() + b"more")
    assert judge(forge) == (TAMPERED, {"after_seal", "recovered"})


def test_bytes_behind_a_seal_that_nobody_signed_are_not_whole(tmp_path: Path) -> None:
    forge = Forge(tmp_path)
    forge.genesis()
    one = forge.open("safety")
    one.add([record(1)])
    forge.seal(one, told=False)
    path = forge.path("safety", 1)
    path.write_bytes(one.data + b"more")
    assert judge(forge) == (INCOMPLETE, {"untold", "seal_unsigned"})
