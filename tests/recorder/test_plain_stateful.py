"""`PlainLog` beside a list: whatever crashes and failures come between, the log is what was acknowledged.

A crash loses, keeps or blanks any part of what was written and not yet synced.
"""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.recorder.log import LogError, Record
from agent.recorder.plain import PlainLog
from agent.recorder.verify import CLEAN, EXPLAINED, verify
from tests.recorder.logs import BOOT, kept, record

SEGMENT_BYTES = 900
"""Four records or so, so that crashes meet every stage of beginning a segment."""

sources = st.sampled_from(["reflex", "remote", "monitor"])
batches = st.lists(st.tuples(sources, st.integers(0, 120)), min_size=1, max_size=5)


class Crash(BaseException):
    """The process or the machine ends here."""


class Disk:
    def __init__(self) -> None:
        self.room: int | None = None
        self.end: type[BaseException] = Crash

    def write(self, fd: int, data: memoryview) -> int:
        part = data if self.room is None else data[: self.room]
        if self.room is not None:
            self._use(len(part))
        return os.write(fd, part)

    def _use(self, size: int) -> None:
        if not size:
            raise self.end(errno.ENOSPC, os.strerror(errno.ENOSPC))
        assert self.room is not None
        self.room -= size

    def sync(self, fd: int) -> None:
        if self.room is not None:
            raise self.end(errno.EIO, os.strerror(errno.EIO))
        os.fdatasync(fd)


class LogBesideList(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="log-"))
        self.model: list[Record] = []
        self.torn = 0
        self.open()

    def open(self) -> None:
        self.disk = Disk()
        self.log = PlainLog(
            self.folder, segment_bytes=SEGMENT_BYTES, write=self.disk.write, sync=self.disk.sync
        )
        self.torn += len(self.log.recovered)

    def batch(self, shape: list[tuple[str, int]]) -> list[Record]:
        """The next events of those sources, with texts of those lengths."""
        last = {source: self.log.last_seq(source, BOOT) for source, _ in shape}
        found = []
        for source, length in shape:
            last[source] += 1
            found.append(record(last[source], source=source, text="文" * length))
        return found

    @rule(shape=batches)
    def append(self, shape: list[tuple[str, int]]) -> None:
        batch = self.batch(shape)
        self.log.append(batch)
        self.model += batch

    @rule(shape=batches, room=st.integers(0, 2_000))
    def fail(self, shape: list[tuple[str, int]], room: int) -> None:
        self.disk.room, self.disk.end = room, OSError
        with pytest.raises(LogError):
            self.log.append(self.batch(shape))
        self.disk.room = None

    @rule(shape=batches, room=st.integers(0, 2_000), cut=st.floats(0, 1), blank=st.booleans())
    def crash(self, shape: list[tuple[str, int]], room: int, cut: float, blank: bool) -> None:
        batch = self.batch(shape)
        self.disk.room, self.disk.end = room, Crash
        with pytest.raises(Crash):
            self.log.append(batch)
        self.lose(cut, blank=blank)
        self.open()
        # Lines that reached the disk whole stay, although nobody was told: their sender repeats them.
        found = kept(self.folder)
        surplus = len(found) - len(self.model)
        assert 0 <= surplus <= len(batch)
        self.model += batch[:surplus]

    def lose(self, cut: float, *, blank: bool) -> None:
        """Ends the log as a crash would, with part of the unsynced bytes gone or turned to zeros."""
        path, durable = self.folder / self.log.segment, self.log._size
        os.close(self.log._fd)
        os.close(self.log._folder_fd)
        written = path.stat().st_size
        keep = durable + round(cut * (written - durable))
        os.truncate(path, keep)
        if blank:
            os.truncate(path, written)

    @rule()
    def restart(self) -> None:
        self.log.close()
        before = self.torn
        self.open()
        assert self.torn == before

    @invariant()
    def holds_what_was_acknowledged(self) -> None:
        assert kept(self.folder) == self.model
        for source in ("reflex", "remote", "monitor"):
            assert self.log.last_seq(source, BOOT) == sum(r.source == source for r in self.model)
        assert self.log.totals.get("safety") is None or self.log.totals["safety"].records == len(self.model)

    def teardown(self) -> None:
        self.log.close()
        report = verify(self.folder)
        assert (report.bad, report.duplicates, report.gaps) == (0, 0, [])
        assert len(report.torn) == self.torn
        assert not report.segments or report.exit_code == (EXPLAINED if self.torn else CLEAN)
        shutil.rmtree(self.folder)


TestLogBesideList = LogBesideList.TestCase
TestLogBesideList.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
