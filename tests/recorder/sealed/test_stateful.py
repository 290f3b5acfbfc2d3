"""`SealedLog` beside a list: whatever kills, power cuts and refusals come, it is what was acknowledged."""

import errno
import os
import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.logformat.layout import STREAMS
from agent.recorder.log import LogError, Record
from agent.recorder.sealed.log import SealedLog
from agent.recorder.sealed.parts import Clocks
from tests.recorder.sealed.logs import (
    RECIPIENTS,
    SEALING,
    Crash,
    abandon,
    at,
    check_ledger,
    check_whole,
    open_log,
    segments,
)
from tests.recorder.sealed.power import PowerDisk

SMALL = replace(SEALING, segment_bytes=1_800, segment_ns=1_000, recipients=RECIPIENTS[:1])
"""A header of some 500 bytes and a few frames."""
SOURCES = ("reflex", "remote")
TRIES = 12
"""Repetitions within which any run of faults below has passed."""

Event = tuple[str, str, int]
"""(source, boot, seq)."""
Shape = list[tuple[str, str, int]]
"""Of a batch: (source, stream, characters)."""

batches = st.lists(
    st.tuples(st.sampled_from(SOURCES), st.sampled_from(STREAMS), st.integers(0, 900)), min_size=1, max_size=4
)
steps = st.integers(1, 25)
codes = st.sampled_from([errno.EIO, errno.ENOSPC])
parts = st.sampled_from([None, 0, 60, 100_000])


class LogBesideList(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="log-"))
        self.folder = self.root / "log"
        self.model: dict[str, list[Event]] = {stream: [] for stream in STREAMS}
        self.doubled: set[Event] = set()
        """What a sender repeated because the marks could not tell that it is there."""
        self.boots = 0
        self.now_ns = 0
        self.seqs = dict.fromkeys(SOURCES, 0)
        self.failed = False
        self.log: SealedLog | None = None
        self.power = PowerDisk()
        self.open()

    def open(self) -> SealedLog:
        self.power.fault = lambda _step, _name: None
        self.power.part = None
        self.failed = False
        self.log = open_log(self.folder, self.power, SMALL, Clocks(lambda: 1, lambda: self.now_ns, "0f" * 16))
        return self.log

    @property
    def boot(self) -> str:
        return f"{self.boots:032x}"

    def batch(self, shape: Shape) -> list[Record]:
        found = []
        for source, stream, size in shape:
            self.seqs[source] += 1
            text = random.Random(size).randbytes(size // 2).hex()
            found.append(Record(source, self.boot, self.seqs[source], stream, "e", 1, 2, {"text": text}))
        return found

    def note(self, batch: list[Record]) -> None:
        """Acknowledged."""
        for item in batch:
            self.model[item.stream].append((item.source, item.boot, item.seq))

    @rule(shape=batches)
    def append(self, shape: Shape) -> None:
        assert self.log is not None
        batch = self.batch(shape)
        self.log.append(batch)
        self.note(batch)
        for item in batch:
            assert self.log.has(item)
            assert self.log.last_seq(item.source, item.boot) == self.seqs[item.source]

    @rule(shape=batches, more=batches, first=steps, times=steps, code=codes, part=parts)
    def refuse(self, shape: Shape, more: Shape, first: int, times: int, code: int, part: int | None) -> None:
        """A run of failures; the caller repeats, with more on top, until it is taken."""
        assert self.log is not None
        batch = self.batch(shape)
        start = self.power.step + first

        def fault(step: int, _name: str) -> None:
            if start <= step < start + times:
                raise OSError(code, os.strerror(code))

        self.power.fault, self.power.part = fault, part
        for _ in range(TRIES + times):
            try:
                self.log.append(batch)
                break
            except LogError:
                self.failed = True
                batch += self.batch(more)
                more = []
        else:
            raise AssertionError("never taken")
        self.power.fault, self.power.part = (lambda _step, _name: None), None
        self.note(batch)

    @rule(shape=batches, step=steps, part=parts)
    def kill(self, shape: Shape, step: int, part: int | None) -> None:
        """SIGKILL in an append, or after it; the sender lives and repeats."""
        batch = self.crash(shape, step, part)
        self.power.forget()
        log = self.open()
        self.resolve(log, batch)
        fresh = [item for item in batch if not log.has(item)]
        log.append(fresh)
        self.note(fresh)

    @rule(shape=batches, step=steps, part=parts, seed=st.integers(0, 2**32))
    def cut_power(self, shape: Shape, step: int, part: int | None, seed: int) -> None:
        batch = self.crash(shape, step, part)
        self.power.lose_power(random.Random(seed))
        self.resolve(self.open(), batch, power=True)
        self.boots += 1
        self.seqs = dict.fromkeys(SOURCES, 0)

    def crash(self, shape: Shape, step: int, part: int | None) -> list[Record]:
        """What was on its way when it came."""
        assert self.log is not None
        batch = self.batch(shape)
        self.power.fault, self.power.part = at(self.power.step + step, Crash()), part
        try:
            self.log.append(batch)
            self.note(batch)
            batch = []
            self.log.rotate_due(self.now_ns)
            self.log.close()
        except Crash:
            abandon(self.log)
        return batch

    def resolve(self, log: SealedLog, batch: list[Record], *, power: bool = False) -> None:
        """Frames that reached the disk whole stay, although nobody was told."""
        for stream in STREAMS:
            known = len(self.model[stream])
            found = self.found(stream)
            assert found[:known] == self.model[stream]
            coming = [(item.source, item.boot, item.seq) for item in batch if item.stream == stream]
            surplus = found[known:]
            assert surplus == coming[: len(surplus)]
            self.model[stream] += surplus
            for item in batch:
                there = (item.source, item.boot, item.seq) in surplus
                if item.stream == stream and log.has(item) != there:
                    assert there, "never thought to be there what is not"
                    assert self.failed or power, "and after a mere kill, known for certain"

    @rule(step=steps)
    def kill_while_it_starts(self, step: int) -> None:
        assert self.log is not None
        abandon(self.log)
        self.power.fault = at(self.power.step + step, Crash())
        try:
            log = open_log(self.folder, self.power, SMALL)
        except Crash:
            pass
        else:
            abandon(log)
        self.open()

    @rule()
    def restart(self) -> None:
        assert self.log is not None
        self.log.close()
        check_whole(self.folder, passed_over=True)
        assert self.open().recovered == ()

    @rule()
    def grow_old(self) -> None:
        assert self.log is not None
        self.now_ns += 1_000
        self.log.rotate_due(self.now_ns)

    @rule(both=st.booleans())
    def change(self, both: bool) -> None:
        assert self.log is not None
        self.log.change(RECIPIENTS if both else RECIPIENTS[:1], "all" if both else "any")

    def found(self, stream: str) -> list[Event]:
        return [
            (item["s"], item["o"], item["q"])
            for each in segments(self.folder, stream, passed_over=True)
            for item in each.records
        ]

    @invariant()
    def holds_what_was_acknowledged(self) -> None:
        assert self.log is not None
        for stream in STREAMS:
            assert self.found(stream) == self.model[stream]
            totals = self.log.totals.get(stream)
            assert (totals.records if totals else 0) == len(self.model[stream])
        check_ledger(self.folder)

    def teardown(self) -> None:
        if self.log is not None:
            self.log.close()
            check_whole(self.folder, passed_over=True)
        self.power.forget()
        shutil.rmtree(self.root)


TestLogBesideList = LogBesideList.TestCase
TestLogBesideList.settings = settings(max_examples=30, stateful_step_count=15, deadline=None)
