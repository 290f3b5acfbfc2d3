"""A process that ends at any of its system calls, while it writes and while it repairs (LOG, "Rules")."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.recorder.log import Record
from agent.recorder.sealed.log import SealedLog
from tests.recorder.sealed.logs import (
    SEALING,
    Crash,
    FaultyDisk,
    abandon,
    at,
    check_whole,
    open_log,
    record,
    records,
    segments,
)

PLAIN = replace(SEALING, compress=frozenset(), segment_bytes=2_500)
"""Uncompressed, so that the texts below fill segments: two rotations of `safety`, one of `net`."""
BATCHES = (
    [*records(1, 2), record(1, source="remote", stream="net")],
    [record(3, text="x" * 900), record(2, source="remote", stream="net", text="n" * 1_500)],
    [record(4, text="y" * 800)],
    [record(5, text="z" * 700), record(3, source="remote", stream="net", text="m" * 600)],
)
PARTS = [None, 1, 100, 1_000_000]
"""How much of a write is done when the process ends in it."""


class Senders:
    """What modules do: whatever was not acknowledged is sent again, in order."""

    def __init__(self) -> None:
        self.acknowledged = 0
        """Batches."""

    def run(self, log: SealedLog) -> None:
        for batch in BATCHES[self.acknowledged :]:
            log.append([item for item in batch if not log.has(item)])
            self.acknowledged += 1


def life(folder: Path, senders: Senders, crash_step: int, part: int | None) -> bool:
    """One process, to its end in order or at that step; whether it crashed."""
    disk = FaultyDisk(at(crash_step, Crash()))
    disk.part = part
    opened: list[SealedLog] = []
    try:
        opened.append(open_log(folder, disk, PLAIN))
        check_acknowledged(folder, senders)
        senders.run(opened[0])
        opened[0].close()
    except Crash:
        for log in opened:
            abandon(log)
        return True
    return False


def found(folder: Path, stream: str) -> list[tuple[str, int, object]]:
    return [
        (item["s"], item["q"], item["d"])
        for each in segments(folder, stream, passed_over=True)
        for item in each.records
    ]


def wanted(stream: str, batches: int) -> list[tuple[str, int, object]]:
    items: list[Record] = [item for batch in BATCHES[:batches] for item in batch]
    return [(item.source, item.seq, item.body) for item in items if item.stream == stream]


def check_acknowledged(folder: Path, senders: Senders) -> None:
    for stream in ("safety", "net"):
        sure = wanted(stream, senders.acknowledged)
        assert found(folder, stream)[: len(sure)] == sure


def every_step(folder: Path, before: tuple[int, ...], part: int | None) -> Iterator[int]:
    """After lives that crash at the steps `before`: one for every step that the next can crash at."""
    step, crashed = 0, True
    while crashed:
        step += 1
        shutil.rmtree(folder, ignore_errors=True)
        senders = Senders()
        for earlier in before:
            life(folder, senders, earlier, part)
        crashed = life(folder, senders, step, part)
        if crashed:
            life(folder, senders, 0, part)
        check_whole(folder)
        for stream in ("safety", "net"):
            assert found(folder, stream) == wanted(stream, len(BATCHES))
        yield step


@pytest.mark.parametrize("part", PARTS)
def test_a_crash_at_every_step(tmp_path: Path, part: int | None) -> None:
    assert len(list(every_step(tmp_path / "log", (), part))) > 60


@pytest.mark.parametrize("part", [None, 100])
@pytest.mark.parametrize("first", [23, 35, 44, 57, 66])
def test_a_crash_at_every_step_of_the_repair_of_a_crash(tmp_path: Path, part: int | None, first: int) -> None:
    assert len(list(every_step(tmp_path / "log", (first,), part))) > 10
