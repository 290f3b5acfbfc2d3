"""Every single bit of a small log turned over, one at a time: never clean."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from functools import lru_cache
from pathlib import Path

import pytest

from agent.audit import entry, header, ledger, segment
from agent.logformat.suites import Suite, suite_by_number
from tests.audit.forge import BOOT, Forge, record, text
from tests.audit.judge import CLEAN, EXPLAINED, INCOMPLETE, TAMPERED, report

CACHED = lru_cache(maxsize=4096)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What depends on nothing but its arguments is worked out once for the same arguments."""
    monkeypatch.setattr(ledger, "parse_entry", CACHED(entry.parse_entry))
    monkeypatch.setattr(segment, "parse_header", CACHED(header.parse_header))
    monkeypatch.setattr(ledger, "suite_by_number", _with_memory)


@lru_cache
def _with_memory(number: int) -> Suite:
    suite = copy(suite_by_number(number))
    setattr(suite, "verify", CACHED(suite.verify))  # noqa: B010 - a method, to mypy
    return suite


@contextmanager
def flipped(path: Path) -> Iterator[Iterator[int]]:
    """Turns over one bit after the other; each is put right again before the next."""
    fd = os.open(path, os.O_RDWR)

    def each() -> Iterator[int]:
        data = path.read_bytes()
        for bit in range(8 * len(data)):
            at = bit // 8
            os.pwrite(fd, bytes([data[at] ^ 1 << bit % 8]), at)
            yield bit
            os.pwrite(fd, data[at : at + 1], at)

    try:
        yield each()
    finally:
        os.close(fd)


def small(folder: Path, suite: int = 1) -> Forge:
    forge = Forge(folder, suite=suite)
    forge.recipients = forge.recipients[:1]
    forge.genesis(boot=False)
    one = forge.open("net")
    one.add([record(1, source="n")], zstd=False)
    forge.save(one)
    forge.checkpoint()
    forge.seal(one)
    return forge


def verdicts(forge: Forge, path: Path) -> set[int]:
    with flipped(path) as bits:
        return {report(forge).exit_code for _ in bits}


def test_ledger(tmp_path: Path) -> None:
    forge = small(tmp_path)
    assert report(forge).exit_code == CLEAN
    # The last newline gone: an entry that was not finished. All else is tampering.
    assert verdicts(forge, forge.ledger) == {TAMPERED, INCOMPLETE}
    assert report(forge).exit_code == CLEAN


def test_segment(tmp_path: Path) -> None:
    forge = small(tmp_path)
    assert verdicts(forge, forge.path("net", 1)) == {TAMPERED}
    assert report(forge).exit_code == CLEAN


def test_what_stays_of_a_deleted_segment(tmp_path: Path) -> None:
    forge = small(tmp_path)
    forge.delete(forge.done["net", 1])
    assert report(forge).exit_code == CLEAN
    assert verdicts(forge, forge.path("net", 1, "gone")) == {TAMPERED}


def test_an_open_segment_under_a_running_recorder_and_its_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment, "TRIES", 0)
    forge = small(tmp_path)
    one = forge.open("net")
    one.add([record(2, source="n")], zstd=False)
    one.data += bytes(40)
    forge.save(one)
    monkeypatch.setattr("agent.audit.verification.is_written", lambda _: True)
    monkeypatch.setattr("agent.audit.verification.ATTEMPTS", 1)
    assert report(forge).exit_code == EXPLAINED
    assert verdicts(forge, forge.path("net", 2)) == {TAMPERED}


@pytest.mark.parametrize("name", ["0000000001.seg.torn-1", "ledger.jsonl.torn-1"])
def test_torn_bytes_are_held_against_nothing_but_their_length(tmp_path: Path, name: str) -> None:
    forge = Forge(tmp_path)
    forge.genesis()
    one = forge.open("net")
    one.add([record(1)])
    forge.recover(one, torn=b"WF\1")
    forge.seal(one, "recovered")
    forge.ledger.with_suffix(".jsonl.torn-1").write_bytes(b'{"v')
    assert report(forge).exit_code == EXPLAINED
    path = next(tmp_path.rglob(name))
    # A newline in a torn line would make it a whole one, which no crash sets aside.
    assert verdicts(forge, path) <= {EXPLAINED, TAMPERED}


def test_every_twentieth_bit_of_suite_2(tmp_path: Path) -> None:
    forge = small(tmp_path, suite=2)
    assert report(forge).exit_code == CLEAN
    for path in (forge.ledger, forge.path("net", 1)):
        with flipped(path) as bits:
            found = {report(forge).exit_code for bit in bits if bit % 20 == 0}
        assert found <= {TAMPERED, INCOMPLETE}


def test_the_forge_spells_as_the_format_does() -> None:
    assert text({"a": [1, "é"]}) == '{"a":[1,"é"]}'.encode()
    assert len(BOOT) == 32
