"""The signing state rolled back, deleted, damaged, swapped: each begins a new ledger that says so."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.recorder.log import LogError
from agent.recorder.sealed.ledger import Birth
from agent.recorder.sealed.state import SLOT_BYTES
from tests.recorder.sealed.ledgers import BIRTH, LEDGER, QuickDisk, lines_of, opened, verified

LOSS = {"stream": "net", "count": 1, "reason": "full"}


def grown(folder: Path, entries: int = 4, birth: Birth = BIRTH) -> bytes:
    """A ledger of so many entries beside its genesis; its bytes."""
    with opened(folder, birth=birth) as ledger:
        for i in range(entries):
            ledger.append("loss", LOSS | {"count": i})
    return (folder / LEDGER).read_bytes()


def reopened(folder: Path) -> tuple[str, dict[str, Any] | None]:
    """Why it was broken off, and what the genesis names; the new ledger goes on and is whole."""
    with opened(folder) as ledger:
        reason = ledger.broken_off
        ledger.append("loss", LOSS)
    with opened(folder) as ledger:
        assert ledger.broken_off == ""
    previous: dict[str, Any] | None = verified(folder / LEDGER)[0]["body"]["previous"]
    assert (previous["reason"] if previous else "") == reason
    return reason, previous


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "state_lost"),
        (lambda path: path.write_bytes(b""), "state_lost"),
        (lambda path: path.write_bytes(bytes(2 * SLOT_BYTES)), "state_lost"),
        (lambda path: path.write_bytes(os.urandom(2 * SLOT_BYTES)), "state_lost"),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), "state_lost"),
        (lambda path: (path.parent / "state.key").unlink(), "state_lost"),
        (lambda path: (path.parent / "state.key").write_bytes(b"short"), "state_lost"),
    ],
)
def test_a_state_that_is_lost(tmp_path: Path, spoil: Callable[[Path], object], reason: str) -> None:
    old = grown(tmp_path)
    spoil(tmp_path / "state")
    found, previous = reopened(tmp_path)
    assert found == reason
    assert previous is not None
    assert previous["n"] == 4
    assert (tmp_path / "ledger-1.jsonl").read_bytes() == old


@pytest.mark.parametrize("back", range(1, 5))
def test_a_state_that_was_rolled_back(tmp_path: Path, back: int) -> None:
    """By however many entries: none is ever signed again by a key that signed one."""
    with opened(tmp_path) as ledger:
        for i in range(4):
            if i == 4 - back:
                shutil.copy(tmp_path / "state", tmp_path / "older")
            ledger.append("loss", LOSS | {"count": i})
    old = lines_of(tmp_path / LEDGER)
    (tmp_path / "older").replace(tmp_path / "state")
    reason, previous = reopened(tmp_path)
    assert reason == "state_mismatch"
    assert previous is not None
    assert previous["n"] == 4
    assert lines_of(tmp_path / "ledger-1.jsonl") == old


def test_ledger_and_state_rolled_back_together_only_a_witness_can_tell(tmp_path: Path) -> None:
    """An honest limit (LOG, "What holds"): both fit each other."""
    grown(tmp_path / "log", 2)
    shutil.copytree(tmp_path / "log", tmp_path / "older")
    grown(tmp_path / "log", 2)
    assert reopened(tmp_path / "older")[0] == ""


@pytest.mark.parametrize("same_key", [True, False])
def test_a_state_of_another_robot(tmp_path: Path, same_key: bool) -> None:
    grown(tmp_path / "other", birth=Birth("r2", 1, (), "any", BIRTH.agent))
    grown(tmp_path / "log")
    for name in ["state", *(["state.key"] if same_key else [])]:
        shutil.copy(tmp_path / "other" / name, tmp_path / "log" / name)
    assert reopened(tmp_path / "log")[0] == "state_lost"


def test_a_ledger_and_state_of_another_robot(tmp_path: Path) -> None:
    grown(tmp_path / "other", birth=Birth("r2", 1, (), "any", BIRTH.agent))
    assert reopened(tmp_path / "other")[0] == "state_lost"


def test_a_ledger_of_another_robot(tmp_path: Path) -> None:
    other = grown(tmp_path / "other", 9, birth=Birth("r2", 1, (), "any", BIRTH.agent))
    grown(tmp_path / "log")
    (tmp_path / "log" / LEDGER).write_bytes(other)
    assert reopened(tmp_path / "log")[0] == "state_mismatch"


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_ledger_that_is_lost(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    """The state alone still knows its end."""
    grown(tmp_path)
    with opened(tmp_path) as ledger:
        end = ledger.head
    spoil(tmp_path / LEDGER)
    reason, previous = reopened(tmp_path)
    assert previous == {"n": end.n, "hash": end.hash, "reason": reason}
    assert reason in ("ledger_lost", "ledger_damaged")


def test_ledger_and_state_lost_beside_one_that_was_set_aside(tmp_path: Path) -> None:
    grown(tmp_path)
    (tmp_path / "state").unlink()
    grown(tmp_path)
    (tmp_path / "state").unlink()
    (tmp_path / LEDGER).unlink()
    assert reopened(tmp_path) == ("ledger_lost", {"n": 0, "hash": "0" * 64, "reason": "ledger_lost"})


def test_a_ledger_that_is_no_ledger(tmp_path: Path) -> None:
    grown(tmp_path)
    for name in ("state", LEDGER):
        (tmp_path / name).write_bytes(b"?" * 9000)
    assert reopened(tmp_path) == ("state_lost", {"n": 0, "hash": "0" * 64, "reason": "state_lost"})


def test_a_ledger_cut_by_whole_lines_names_its_true_end(tmp_path: Path) -> None:
    data = grown(tmp_path)
    with opened(tmp_path) as ledger:
        end = ledger.head
    (tmp_path / LEDGER).write_bytes(b"".join(data.splitlines(keepends=True)[:3]))
    assert reopened(tmp_path) == (
        "ledger_damaged",
        {"n": end.n, "hash": end.hash, "reason": "ledger_damaged"},
    )


def test_several_ledgers_are_set_aside_one_after_the_other(tmp_path: Path) -> None:
    ledgers = []
    for _ in range(3):
        ledgers.append(grown(tmp_path, 2))
        (tmp_path / "state").unlink()
    assert reopened(tmp_path)[0] == "state_lost"
    assert [(tmp_path / f"ledger-{k}.jsonl").read_bytes() for k in (1, 2, 3)] == ledgers


def test_every_bit_of_the_state(tmp_path: Path) -> None:
    """Either it still opens and nothing is lost, or the ledger is set aside whole."""
    old = grown(tmp_path / "log")
    state = (tmp_path / "log" / "state").read_bytes()
    used = [offset for offset, byte in enumerate(state) if byte]
    assert used[-1] - used[0] < 120
    for bit in [*range(8 * used[0], 8 * (used[-1] + 1)), 8 * 2000, 8 * SLOT_BYTES - 1]:
        folder = tmp_path / "copy"
        shutil.copytree(tmp_path / "log", folder)
        flipped = bytearray(state)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / "state").write_bytes(flipped)
        with opened(folder) as ledger:
            inside = used[0] <= bit // 8 <= used[-1]
            assert ledger.broken_off == ("state_lost" if inside else "")
        assert (folder / ("ledger-1.jsonl" if inside else LEDGER)).read_bytes() == old
        shutil.rmtree(folder)


@pytest.mark.parametrize("bit_of_byte", range(8))
def test_every_bit_of_the_last_entry(tmp_path: Path, bit_of_byte: int) -> None:
    old = grown(tmp_path / "log", 1)
    start = old.index(b"\n") + 1
    for bit in range(8 * start + bit_of_byte, 8 * len(old), 8):
        folder = tmp_path / "copy"
        shutil.copytree(tmp_path / "log", folder)
        flipped = bytearray(old)
        flipped[bit // 8] ^= 1 << bit % 8
        (folder / LEDGER).write_bytes(flipped)
        with opened(folder) as ledger:
            # With another number it looks like a ledger that went on without this state.
            assert ledger.broken_off in ("ledger_damaged", "state_mismatch")
        assert (folder / "ledger-1.jsonl").read_bytes() == flipped
        assert verified(folder / LEDGER)[0]["body"]["previous"]["reason"] == ledger.broken_off
        shutil.rmtree(folder)


def test_no_private_key_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key that was ever made, looked for in every file as it stands after every entry."""
    from agent.logformat.suite1 import Suite1

    made: list[bytes] = []
    make = Suite1.new_signing_key

    def note(suite: Suite1) -> tuple[bytes, bytes]:
        private, public = make(suite)
        made.append(bytes(bytearray(private)))
        return private, public

    monkeypatch.setattr(Suite1, "new_signing_key", note)
    with opened(tmp_path) as ledger:
        for i in range(5):
            ledger.append("loss", LOSS | {"count": i})
            everything = b"".join(path.read_bytes() for path in tmp_path.iterdir())
            assert not any(private in everything for private in made)
        current = ledger._signing.current
        assert bytes(current.private) == made[-1]
    assert len(made) == 7
    assert not any(current.private)


def test_each_entry_overwrites_its_key(tmp_path: Path) -> None:
    """The encrypted slot too: who steals the state key later finds one signing key, never an earlier one."""
    seen: set[bytes] = set()
    with opened(tmp_path) as ledger:
        for _ in range(4):
            ledger.append("loss", LOSS)
            state = (tmp_path / "state").read_bytes()
            slots = [slot for slot in (state[:SLOT_BYTES], state[SLOT_BYTES:]) if any(slot)]
            assert len(slots) == 1
            assert slots[0] not in seen
            seen.add(slots[0])


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LogError), opened(tmp_path / "log", disk=QuickDisk()):
        pass
    assert not (tmp_path / "elsewhere").exists()
